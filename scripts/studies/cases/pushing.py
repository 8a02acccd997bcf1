"""Pushing: one mass drives another through a spring, soft or stiff."""

import jax
import jax.numpy as jnp

from diffsim.gradients.base import posed
from studies.cases.base import Case, Measured, Published
from studies.cases.descent import contenders

MASS, STEP, DAMPING, REST = 0.1, 0.005, 0.998, 1.0
LENGTH, FORCE, SIGMA, BATCH = 200, 0.1, 0.1, 10
GOAL, WEIGHT = (1.0, 2.0, 0.0, 0.0), (0.1, 10.0, 0.1, 0.1)  # of x1, x2, v1, v2


def cost(forces: jax.Array, stiffness: float) -> jax.Array:
    """Σ_t (s_t − goal)ᵀQ(s_t − goal) + u_t² under forces (T,) on the first mass."""
    goal, weight = jnp.asarray(GOAL, forces.dtype), jnp.asarray(WEIGHT, forces.dtype)

    def far(state):
        return jnp.sum(weight * (state - goal) ** 2)

    def step(state, force):
        x1, x2, v1, v2 = state
        spring = stiffness * jnp.minimum(x2 - x1 - REST, 0.0)  # it pushes, it does not pull
        v1 = DAMPING * v1 + STEP / MASS * (spring + force)
        v2 = DAMPING * v2 - STEP / MASS * spring
        return jnp.stack([x1 + STEP * v1, x2 + STEP * v2, v1, v2]), far(state) + force**2

    start = jnp.array([0.0, REST, 0.0, 0.0], forces.dtype)
    end, costs = jax.lax.scan(step, start, forces)
    return jnp.sum(costs) + far(end)


def variances(stiffness: float, method, key: jax.Array, batches: int) -> Measured:
    """Trace of the covariance of one term (1/n), from one batch as in the source: its spread."""

    def one(key):
        problem = posed(
            lambda u: cost(u, stiffness), method, jnp.full(LENGTH, FORCE), (), key,
            has_aux=False, stochastic=False, penalty=None,
        )  # fmt: skip
        return jnp.sum(jnp.var(method.draw(problem).terms, axis=0))

    return Measured.of(jax.jit(jax.vmap(one))(jax.random.split(key, batches)))


def run(key: jax.Array, samples: int) -> dict[str, Measured | float]:
    """``samples`` batches of 10 draws each."""
    methods = contenders(SIGMA, BATCH, gamma=1.0)
    return {
        f"{name} variance, k = {stiffness:g}": variances(stiffness, methods[name], key, samples)
        for stiffness in (10.0, 1000.0)
        for name in ("pathwise", "score function")
    }


PUSHING = Case(
    name="pushing",
    about="A stiff spring makes the pathwise variance explode and leaves the score's as it was.",
    source="Suh et al. 2022, arXiv 2202.00817: masses .1 kg, h .005 s, T 200, damping .998, "
    "u = .1, σ .1, N 10; ours is the mean and the 95 % of 1,000 batches of 10.",
    note="The variance of one batch of 10 scatters as the brackets show: a published figure agrees "
    "if it lies within them.",
    run=run,
    samples=1000,
    published={
        "pathwise variance, k = 10": Published(45.0, 45.0, one_draw=True),
        "score function variance, k = 10": Published(1.2e7, 1.2e7, one_draw=True),
        "pathwise variance, k = 1000": Published(2.9e10, 2.9e10, one_draw=True),
        "score function variance, k = 1000": Published(6.4e6, 6.4e6, one_draw=True),
    },
)
