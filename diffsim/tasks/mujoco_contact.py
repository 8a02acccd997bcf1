"""MuJoCo's contact tuned to a stated restitution and friction.

MuJoCo has no coefficient of restitution. Its contact is a spring and dashpot that never pulls; in
the direct form of ``solref`` (two negative numbers) their constants are given for unit mass,
r̈ = −K r − B ṙ, and do not depend on anything else. The restitution of a spring and dashpot is
known, so that K = (π/T)² and B = 2 ζ(e) π/T, with T the time of contact. What is left is the error
of the time step, which depends on where in a step the ball arrives: of order h/T at any speed.

Friction is less exact. MuJoCo's contact is a convex problem, in which a ball that slips is also
pushed away, the more the harder the slip is braked: braking fast takes restitution from oblique
hits, braking slowly leaves slip. The choice here is between:
``scripts/benchmark.py mujoco-contact`` shows both errors.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

from diffsim.physics.contact.penalty import damping_ratio

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
