"""A chain of hinges as MuJoCo reads it from a file."""

import functools
from pathlib import Path
from typing import Any

import numpy as np


@functools.cache
def chain(file: str, site: str) -> dict[str, Any]:
    """The hinges from the world to a site: fields of :class:`diffsim.motion.arm.Arm`, in NumPy.

    Bodies without a joint are counted to the link that carries them.

    Raises:
        ValueError: see :meth:`diffsim.motion.arm.Arm.load`.
    """
    import mujoco

    if not Path(file).exists():
        raise ValueError(f"file: expected an MJCF file, got {file}")
    model = mujoco.MjModel.from_xml_path(file)
    number = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_SITE, site)
    if number < 0:
        raise ValueError(f"site: expected one of the file, got {site!r}")
    body = model.site_bodyid[number]
    offset, turn = model.site_pos[number], _matrix(model.site_quat[number])
    rows: list[dict[str, Any]] = []
    loose: list[tuple] = []  # mass, centre and inertia of what is fixed to the link being read
    tool = None
    while body:
        joints = model.body_jntnum[body]
        loose.append(_shifted(model, body))
        if joints:
            tool = tool or (offset, turn)
            offset, turn = np.zeros(3), np.eye(3)
            rows.append(_row(model, body, loose))
            loose = []
        to, frame = model.body_pos[body], _matrix(model.body_quat[body])
        if joints:
            rows[-1] |= {"offset": to, "turn": frame}
        else:
            offset, turn = to + frame @ offset, frame @ turn
            loose = [(m, to + frame @ c, frame @ i @ frame.T) for m, c, i in loose]
        body = model.body_parentid[body]
    if not rows or tool is None:
        raise ValueError(f"site: expected one carried by a hinge, got {site!r}")
    first = rows[-1]  # between the world and the first hinge there may be fixed bodies
    first["offset"], first["turn"] = offset + turn @ first["offset"], turn @ first["turn"]
    fields = {name: np.stack([row[name] for row in rows[::-1]]) for name in first}
    return fields | {"tool_offset": tool[0], "tool_turn": tool[1], "gravity": model.opt.gravity}


def _matrix(quaternion: np.ndarray) -> np.ndarray:
    import mujoco

    matrix = np.zeros(9)
    mujoco.mju_quat2Mat(matrix, quaternion)
    return matrix.reshape(3, 3)


def _shifted(model: Any, body: int) -> tuple[float, np.ndarray, np.ndarray]:
    """Mass, centre of mass and inertia about it, in the body's frame."""
    axes = _matrix(model.body_iquat[body])
    inertia = axes @ np.diag(model.body_inertia[body]) @ axes.T
    return float(model.body_mass[body]), model.body_ipos[body].copy(), inertia


def _row(model: Any, body: int, parts: list[tuple]) -> dict[str, Any]:
    """One link: its joint, and the bodies fixed to it taken together."""
    import mujoco

    joint, freedom = model.body_jntadr[body], model.body_dofadr[body]
    hinge = model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_HINGE
    along = np.allclose(model.jnt_axis[joint], [0, 0, 1]) and not np.any(model.jnt_pos[joint])
    if model.body_jntnum[body] != 1 or not hinge or not along:
        raise ValueError(f"file: expected one hinge about z in body {model.body(body).name!r}")
    mass = sum(part[0] for part in parts)
    center = sum(m * c for m, c, _ in parts) / mass
    inertia = sum(
        i + m * (np.dot(c - center, c - center) * np.eye(3) - np.outer(c - center, c - center))
        for m, c, i in parts
    )
    return {
        "mass": mass,
        "center": center,
        "inertia": inertia,
        "armature": model.dof_armature[freedom],
        "damping": np.ravel(model.dof_damping[freedom])[0],
        "limits": model.jnt_range[joint],
        "torque_limit": model.jnt_actfrcrange[joint, 1],
    }
