"""MuJoCo's tuned contact: how well it keeps to a restitution and to the impulse law."""

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np

from diffsim.physics.contact.base import impulse_law
from diffsim.physics.state import Ball
from diffsim.physics.surfaces import Surface
from diffsim.physics.vector import Vector
from diffsim.tasks import mujoco_contact
from studies import harness

_BOUNCE = """
<mujoco>
  <option gravity="0 0 0" cone="elliptic"/>
  <worldbody>
    <geom name="plate" type="box" size="1 1 0.1" pos="0 0 -0.1" contype="0" conaffinity="0"/>
    <body name="ball">
      <freejoint/>
      <inertial pos="0 0 0" mass="0.0027" diaginertia="7.2e-7 7.2e-7 7.2e-7"/>
      <geom name="ball" type="sphere" size="0.02" contype="0" conaffinity="0"/>
    </body>
  </worldbody>
  <contact><pair geom1="ball" geom2="plate" condim="3"/></contact>
</mujoco>
"""


def bounce(
    velocity: Any,
    spin: Any = (0.0, 0.0, 0.0),
    *,
    restitution: float = 0.9,
    friction: float = 0.2,
    phase: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """One bounce of a ball on a plate at z = 0 in MuJoCo, without gravity or air.

    Args:
        velocity: before, downwards, (3,), m/s.
        spin: before, (3,), rad/s.
        phase: share of a step, in [0, 1), by which the ball arrives later.

    Returns:
        Velocity (3,) and spin (3,) after.
    """
    import mujoco

    model = mujoco.MjModel.from_xml_string(_BOUNCE)
    mujoco_contact.tune(model, 0, restitution, friction)
    model.opt.timestep = mujoco_contact.fine_step()
    data = mujoco.MjData(model)
    data.qvel[:] = [*velocity, *spin]  # the ball's frame is the world's at first
    way = -velocity[2] * model.opt.timestep
    data.qpos[2] = 0.02 + (1 + phase) * way
    for _ in range(20 * mujoco_contact.STEPS_PER_CONTACT):
        mujoco.mj_step(model, data)
        if data.qvel[2] > 0 and data.qpos[2] > 0.02:
            break
    turned = np.zeros(3)
    mujoco.mju_rotVecQuat(turned, data.qvel[3:], data.qpos[3:7])
    return data.qvel[:3].copy(), turned


# Steep and shallow hits without spin, with back spin and with top spin, m/s and rad/s.
OBLIQUE = [
    ((across, 0.0, down), (0.0, spin, 0.0))
    for across, down in ((1.0, -4.0), (4.4, -2.6))
    for spin in (0.0, -60.0, 60.0)
]


def by_the_law(velocity: Any, spin: Any, restitution: float, friction: float) -> tuple:
    """Velocity (3,) and spin (3,) after :func:`bounce` by the impulse law."""
    ball, plate = Ball.create(), Surface.create(restitution=restitution, friction=friction)
    up, still, moving, turning = (
        Vector.of(jnp.asarray(x, float)) for x in ((0, 0, 1), (0, 0, 0), velocity, spin)
    )
    after = impulse_law(ball, up, still, moving, turning, restitution, plate.friction)
    return np.asarray(after[0].array), np.asarray(after[1].array)


def measured(restitution: float, speeds: Any, phases: Any) -> np.ndarray:
    """Restitution measured at each speed and phase of the step, (speeds, phases)."""
    return np.array([
        [bounce((0, 0, -v), restitution=restitution, phase=p)[0][2] / v for p in phases]
        for v in speeds
    ])  # fmt: skip


def benchmark(
    restitutions: tuple[float, ...] = (0.5, 0.78, 0.9, 0.97),
    speeds: tuple[float, ...] = (0.5, 2.0, 8.0),
    phases: int = 10,
) -> harness.Found:
    """The restitution asked of MuJoCo's contact, and that measured over speeds and phases.

    Args:
        restitutions: restitutions to ask for.
        speeds: speeds of approach, m/s.
        phases: number of moments, evenly spaced in a time step, at which the ball arrives.
    """
    contact, step = 1e3 * mujoco_contact.CONTACT_TIME, 1e3 * mujoco_contact.fine_step()

    def straight() -> Iterator[harness.Row]:
        for asked in restitutions:
            stiffness, damping = mujoco_contact.solref(asked)
            found = measured(asked, speeds, np.arange(phases) / phases)
            for speed, row in zip(speeds, found, strict=True):
                yield {
                    "asked": asked, "stiffness": -stiffness, "damping": -damping,
                    "speed, m/s": speed, "lowest": row.min(), "mean": row.mean(),
                    "highest": row.max(),
                }  # fmt: skip

    def oblique() -> Iterator[harness.Row]:
        for velocity, spin in OBLIQUE:
            wanted, turned = by_the_law(velocity, spin, 0.9, 0.25)
            got, spun = bounce(velocity, spin, restitution=0.9, friction=0.25)
            yield {
                "hit": f"{velocity[0]:g} {velocity[2]:g}, {spin[1]:g} rad/s",
                "x by the law": wanted[0], "x in MuJoCo": got[0],
                "z by the law": wanted[2], "z in MuJoCo": got[2],
                "spin by the law": turned[1], "spin in MuJoCo": spun[1],
            }  # fmt: skip

    title = f"restitution in MuJoCo, contact {contact:g} ms, step {step:g} ms"
    return harness.show(title, straight()) | harness.show(
        "oblique hits, e = 0.9, friction 0.25, m/s and rad/s", oblique()
    )
