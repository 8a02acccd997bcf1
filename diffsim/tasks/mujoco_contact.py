"""MuJoCo's contact tuned to a stated restitution and friction, and how well it keeps to them.

MuJoCo has no coefficient of restitution. Its contact is a spring and dashpot that never pulls; in
the direct form of ``solref`` (two negative numbers) their constants are given for unit mass,
r̈ = −K r − B ṙ, and do not depend on anything else. The restitution of a spring and dashpot is
known, so that K = (π/T)² and B = 2 ζ(e) π/T, with T the time of contact. What is left is the error
of the time step, which depends on where in a step the ball arrives: of order h/T at any speed.

Friction is less exact. MuJoCo's contact is a convex problem, in which a ball that slips is also
pushed away, the more the harder the slip is braked: braking fast takes restitution from oblique
hits, braking slowly leaves slip. The choice here is between: the benchmark shows both errors.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffsim.physics.contact.base import impulse_law
from diffsim.physics.contact.penalty import damping_ratio
from diffsim.physics.state import Ball, Frame, Pose
from diffsim.physics.surfaces import Patch, Surface, proximity
from diffsim.physics.vector import Vector

CONTACT_TIME = 3e-3  # s; table tennis has about 1 ms, which would take three times the steps
STEPS_PER_CONTACT = 20
GAP = 0.03  # m; what is nearer is stepped finely: at 2 ms a ball of 15 m/s comes no further
_STICK = 1.5  # time constants of friction in one time of contact; see the module's first lines


def fine_step(contact_time: float = CONTACT_TIME) -> float:
    """Time step while the ball touches or is about to, s."""
    return contact_time / STEPS_PER_CONTACT


def solref(restitution: float, contact_time: float = CONTACT_TIME) -> tuple[float, float]:
    """MuJoCo's (−K, −B) for a coefficient of restitution e.

    K = (π/T)², B = 2 ζ π/T, ζ from e = exp(−2 ζ arccos ζ/√(1 − ζ²)): the impact ends when the
    force does (Schwager & Pöschel, Granular Matter 9 (2007) 465).

    Args:
        restitution: e, in (0, 1].
        contact_time: T, half a period of the spring, s.

    >>> [round(x) for x in solref(0.9)]
    [-1096623, -72]
    """
    if not 0 < restitution <= 1:
        raise ValueError(f"restitution: expected in (0, 1], got {restitution}")
    rate = math.pi / contact_time
    with jax.ensure_compile_time_eval():
        ratio = float(damping_ratio(jnp.asarray(restitution, float)))
    return -round(rate**2, 3), -round(2 * ratio * rate, 6)


def tune(model: Any, pair: int, restitution: float, friction: float) -> None:
    """Give one contact pair of a MuJoCo model a restitution and a coefficient of friction."""
    model.pair_solref[pair] = solref(restitution)
    # Friction has no position to restore; what slips is to stop well within the contact.
    model.pair_solreffriction[pair] = (-1.0, -_STICK / CONTACT_TIME)
    model.pair_solimp[pair] = (0.99, 0.99, 1e-3, 0.5, 2.0)  # the same at any depth
    model.pair_friction[pair] = (friction, friction, 0.0, 0.0, 0.0)
    model.pair_margin[pair], model.pair_gap[pair] = 0.0, GAP


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
    tune(model, 0, restitution, friction)
    model.opt.timestep = fine_step()
    data = mujoco.MjData(model)
    data.qvel[:] = [*velocity, *spin]  # the ball's frame is the world's at first
    way = -velocity[2] * model.opt.timestep
    data.qpos[2] = 0.02 + (1 + phase) * way
    for _ in range(20 * STEPS_PER_CONTACT):
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
    pose = Pose(jnp.zeros(3), jnp.eye(3), jnp.zeros(3), jnp.zeros(3))
    place, moving, turning = (
        Vector.of(jnp.asarray(x, float)) for x in ((0.0, 0.0, 0.02), velocity, spin)
    )
    near = proximity(Patch.of(plate), Frame.of(pose), ball.radius, place, moving)
    after = impulse_law(ball, near, moving, turning, restitution, plate.friction)
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
) -> None:
    """The restitution asked of MuJoCo's contact, and measured over speeds and sub-step phases.

    Args:
        restitutions: asked for.
        speeds: of approach, m/s.
        phases: where in a time step the ball arrives, so many, evenly spaced.
    """
    from rich.console import Console
    from rich.table import Table

    step = 1e3 * fine_step()
    title = f"restitution in MuJoCo, contact {1e3 * CONTACT_TIME:g} ms, step {step:g} ms"
    table = Table("asked", "solref", "speed, m/s", "lowest", "mean", "highest", title=title)
    for asked in restitutions:
        found = measured(asked, speeds, np.arange(phases) / phases)
        for speed, row in zip(speeds, found, strict=True):
            ends = (f"{x:.4f}" for x in (row.min(), row.mean(), row.max()))
            stiffness, damping = solref(asked)
            table.add_row(f"{asked:g}", f"{stiffness:.4g} {damping:.4g}", f"{speed:g}", *ends)
    heads = ("hit", "velocity by the law", "in MuJoCo", "spin by the law", "in MuJoCo")
    oblique = Table(*heads, title="oblique hits (x, z), e = 0.9, friction 0.25")
    for velocity, spin in OBLIQUE:
        wanted, turned = by_the_law(velocity, spin, 0.9, 0.25)
        got, spun = bounce(velocity, spin, restitution=0.9, friction=0.25)
        shown = (f"{v[0]:.2f} {v[2]:.2f}" for v in (np.asarray(velocity), wanted, got))
        hit, *after = shown
        oblique.add_row(f"{hit}, {spin[1]:g} rad/s", *after, f"{turned[1]:.1f}", f"{spun[1]:.1f}")
    Console().print(table, oblique)
