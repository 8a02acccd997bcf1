"""Friction: a driven mass drags another until they slide apart and the contact is lost."""

import jax
import jax.numpy as jnp

from studies.cases.base import Case, Measured
from studies.cases.descent import contenders, descend

MASS, STEP, WIDTH, SLIP, MU = 0.1, 0.005, 0.1, 0.1, 1.8
LENGTH, SIGMA, BATCH, RATE, STEPS, GAMMA, LARGEST = 400, 0.1, 10, 1e-4, 101, 2e4, 100.0
GOAL, WEIGHT = (2.0, 2.0, 0.0, 0.0), (0.1, 10.0, 0.1, 0.1)  # of x1, x2, v1, v2


def cost(forces: jax.Array) -> jax.Array:
    """Σ_t (s_t − goal)ᵀQ(s_t − goal) + u_t² under forces (T,) on the first mass."""
    goal, weight = jnp.asarray(GOAL, forces.dtype), jnp.asarray(WEIGHT, forces.dtype)

    def far(state):
        return jnp.sum(weight * (state - goal) ** 2)

    def step(state, force):
        x1, x2, v1, v2 = state
        rub = MU * jnp.clip(v1 - v2, -SLIP, SLIP)
        rub = jnp.where(jnp.abs(x2 - x1) < WIDTH, rub, 0.0)  # no contact, no force: a jump
        v1 = v1 + STEP / MASS * (force - rub)
        v2 = v2 + STEP / MASS * rub
        return jnp.stack([x1 + STEP * v1, x2 + STEP * v2, v1, v2]), far(state) + force**2

    end, costs = jax.lax.scan(step, jnp.zeros(4, forces.dtype), forces)
    return jnp.sum(costs) + far(end)


def run(key: jax.Array, samples: int) -> dict[str, Measured | float]:
    """``samples`` trials of the descent, with the same keys for each method."""
    start, keys = jnp.zeros(LENGTH), jax.random.split(key, samples)
    found: dict[str, Measured | float] = {"cost at the start": float(jax.jit(cost)(start))}
    for name, method in contenders(SIGMA, BATCH, GAMMA, LARGEST).items():
        ends = descend(cost, method, start, keys, rate=RATE, steps=STEPS)
        found[f"{name} descent ends at cost"] = Measured.of(jax.jit(jax.vmap(cost))(ends))
    return found


FRICTION = Case(
    name="friction",
    about="Contact that is lost abruptly: the pathwise gradient does not see the edge.",
    source="Suh et al. 2022, arXiv 2202.00817, for which no figures are at hand: masses "
    ".1 kg, μ 1.8 up to a slip of .1, h .005 s, T 400, σ .1, N 10, step 1e-4, 101 steps, γ 2e4, "
    "L 100.",
    run=run,
    samples=10,
)
