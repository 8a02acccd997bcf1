"""Chaos: the logistic map, whose derivative doubles at every step."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from diffsim._intervals import Interval
from diffsim.gradients.base import posed
from diffsim.gradients.baselines import Constant
from diffsim.gradients.laws import Gaussian
from diffsim.gradients.pathwise import Pathwise
from diffsim.gradients.score_function import ScoreFunction
from studies.cases.base import Case, Measured, Published

SIGMA, POINT = 2.0**-6, 0.3
HORIZONS = (1, 3, 5, 7, 9, 11)
CROSSOVER = math.log2(1 / SIGMA) - 1  # where derivative and score term vary alike


def orbit(angle: jax.Array, steps: jax.Array) -> jax.Array:
    """x_T of x ← 4x(1 − x) from x₀ = sin²φ, which is ½(1 − cos 2^{T+1}φ); φ is (1,)."""

    def step(t, x):
        return jnp.where(t < steps, 4 * x * (1 - x), x)

    return jax.lax.fori_loop(0, max(HORIZONS), step, jnp.sin(angle[0]) ** 2)


def theory(steps: int) -> dict[str, float]:
    """Gradient of E x_T, and variance of one term of each kind (score with the baseline ½).

    k = 2^{T+1}, D = ½k e^{−k²σ²/2} sin kφ; pathwise k²/8 (1 − e^{−2k²σ²} cos 2kφ) − D², score
    (1 + (1 − 4k²σ²) e^{−2k²σ²} cos 2kφ)/(8σ²) − D².
    """
    k = 2.0 ** (steps + 1)
    spread = (k * SIGMA) ** 2
    gradient = 0.5 * k * math.exp(-spread / 2) * math.sin(k * POINT)
    wave = math.exp(-2 * spread) * math.cos(2 * k * POINT)
    return {
        "gradient": gradient,
        "pathwise": k**2 / 8 * (1 - wave) - gradient**2,
        "score function": (1 + (1 - 4 * spread) * wave) / (8 * SIGMA**2) - gradient**2,
    }


def run(key: jax.Array, samples: int) -> dict[str, Measured | float]:
    """``samples`` draws of each estimator at each horizon."""
    found: dict[str, Measured | float] = {}
    variances: dict[str, list[float]] = {}
    methods = {
        "pathwise": Pathwise(Gaussian(SIGMA), samples=samples, mode="forward"),
        "score function": ScoreFunction(Gaussian(SIGMA), samples=samples, baseline=Constant(0.5)),
    }
    for name, method in methods.items():

        def terms(steps, key, method=method):
            problem = posed(
                orbit, method, jnp.array([POINT]), (steps,), key,
                has_aux=False, stochastic=False, penalty=None,
            )  # fmt: skip
            return method.draw(problem).terms[:, 0]

        for steps in HORIZONS:
            drawn = np.asarray(jax.jit(terms)(steps, key), np.float64)
            variances.setdefault(name, []).append(float(drawn.var(ddof=1)))
            # The deviation of a sample variance: √((m₄ − m₂²)/n).
            centred = drawn - drawn.mean()
            error = ((np.mean(centred**4) - np.mean(centred**2) ** 2) / samples) ** 0.5
            interval = Interval.normal(variances[name][-1], float(error))
            found[f"{name} variance, T = {steps}"] = Measured(*interval)
    ratios = np.log(np.divide(variances["pathwise"], variances["score function"]))
    found["T at which the variances cross"] = float(np.interp(0, ratios, HORIZONS))
    return found


def _published() -> dict[str, Published]:
    figures = {"T at which the variances cross": Published(CROSSOVER, CROSSOVER, 0.5)}
    for steps in HORIZONS:
        for name in ("pathwise", "score function"):
            value = theory(steps)[name]
            figures[f"{name} variance, T = {steps}"] = Published(value, value, 0.03 * value)
    return figures


CHAOS = Case(
    name="chaos",
    about="Derivatives through chaos double at every step; values stay of one size.",
    source="the closed form of the logistic map for the effect of Metz et al. 2021 "
    "(arXiv 2111.05803) and Parmas et al. 2018 (PIPPS): φ = .3, σ = 1/64, within 3 %.",
    run=run,
    samples=200_000,
    published=_published(),
)
