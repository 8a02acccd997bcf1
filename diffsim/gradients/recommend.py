"""Which estimator to use for a loss at a point, from measured probes."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from diffsim._types import Tree
from diffsim.gradients.base import Method, checked_key
from diffsim.gradients.differences import CentralDifference, Richardson
from diffsim.gradients.directions import Haar
from diffsim.gradients.evolution import EvolutionStrategies
from diffsim.gradients.inverse_variance import InverseVariance
from diffsim.gradients.laws import Gaussian
from diffsim.gradients.measure_valued import MeasureValued
from diffsim.gradients.mixtures import both_terms, disagreement, mean, spread
from diffsim.gradients.pathwise import Pathwise
from diffsim.gradients.problem import Problem
from diffsim.gradients.random_directions import RandomDirections
from diffsim.gradients.steps import measured_noise
from diffsim.gradients.total_propagation import TotalPropagation
from diffsim.gradients.unrolled import UnrolledLoss

LINES, POINTS = 8, 65


@struct.dataclass
class Recommendation:
    """What to use and why; print it.

    Attributes:
        method: ready to be given to ``surrogate``.
        condition: "smooth", "stiff", "discontinuous", "chaotic" or "noisy".
        reason: one sentence with the numbers it rests on.
        probes: those numbers.
    """

    method: Method
    condition: str
    reason: str
    probes: dict[str, float]

    def __str__(self) -> str:
        return f"{self.condition}: use {self.method}\n  {self.reason}"


def recommend(
    loss: Callable,
    x: Tree,
    *,
    key: jax.Array,
    sigma: float = 0.1,
    stochastic: bool = False,
    samples: int = 64,
) -> Recommendation:
    """Probe the loss within about 2σ of x and name the estimator for what is found there.

    Eight random lines of 65 points through x tell jumps (a difference that bisection does not
    shrink), wiggles (how often the slope changes sign, and how large they are against the whole
    variation) and noise (derivatives that are not those of the values around, on top of a smooth
    loss; where little is left of a smooth loss and a point asked twice gives one value, that is
    chaos). 256 draws tell the variances of both kinds of gradient and whether their means differ,
    as they do where the loss jumps, however often or far from the lines. About 1,500 evaluations
    in all. A stochastic loss has one key a line, so jumps that its noise moves about are seen
    where a line meets one.

    Args:
        loss: tree → scalar (with ``key=`` if stochastic).
        x: tree of floats.
        key: used once.
        sigma: the length that matters, in the units of x: smoothing over it is acceptable.
        stochastic: the loss takes a key.
        samples: to put into the recommended method.

    Raises:
        FloatingPointError: the loss is not finite on the lines.

    >>> advice = recommend(lambda x: jnp.sum(x**2), jnp.ones(3), key=jax.random.key(0))
    >>> advice.condition, type(advice.method).__name__
    ('smooth', 'Pathwise')
    """
    key = checked_key(key, True, "recommend")
    line_key, noise_key, draw_key, own_key = jax.random.split(key, 4)
    keys = (draw_key, own_key if stochastic else None, None)
    problem = Problem(loss, x, has_aux=False, keys=keys, stochastic=stochastic)
    probes = _probe_lines(problem, line_key, noise_key, sigma)
    if probes["differentiable"]:
        _, smooth, rough, scores = both_terms(problem, Gaussian(sigma), 256, 1, None)
        unit = probes["span"] or 1.0  # squares of 1e30 or of 1e-30 are none in single precision
        smooth, rough = smooth / unit, rough / unit
        lost = float(jnp.mean(~jnp.isfinite(smooth).all(axis=1)))
        probes["failed_slopes"] = max(probes["failed_slopes"], lost)
        probes["pathwise_variance"] = unit**2 * float(spread(smooth))
        probes["score_variance"] = unit**2 * float(spread(rough))
        # A linear loss has no jumps, but in many dimensions most of the noise of score terms: its
        # own, σ² (s·g) s of mean g, are taken off.
        slope = mean(smooth)
        rough = rough - sigma**2 * jnp.sum(scores * slope, axis=1, keepdims=True) * scores + slope
        apart, z = disagreement(smooth, rough)
        size = float(jnp.linalg.norm(mean(rough)))
        probes |= {"unseen": float(apart) / size if size else 0.0, "unseen_z": float(z)}
    return _decided(problem, probes, sigma, samples)


def _probe_lines(
    problem: Problem, key: jax.Array, noise_key: jax.Array, sigma: float
) -> dict[str, float]:
    dimension, dtype = problem.dimension, problem.x.dtype
    direction = jax.random.normal(key, (LINES, dimension), dtype)
    direction = direction / jnp.linalg.norm(direction, axis=1, keepdims=True)
    # Unequal spacing, so that a periodic loss cannot look smooth by aliasing.
    grid = np.linspace(-2, 2, POINTS)
    grid = sigma * (grid + 0.02 * np.sin(37.0 * np.arange(POINTS)))
    keys = jax.random.split(noise_key, LINES) if problem.stochastic else None
    lines = (direction, keys)  # one key for a whole line: common random numbers

    def along(line, distance):
        return problem.value(problem.x + distance * line[0], line[1])

    across = jax.jit(jax.vmap(jax.vmap(along, (None, 0)), (0, None)))
    values = np.asarray(across(lines, jnp.asarray(grid, dtype)), np.float64)
    if not np.all(np.isfinite(values)):
        bad = int(np.sum(~np.isfinite(values)))
        raise FloatingPointError(f"loss: {bad} of {values.size} probes near x are not finite")
    span = float(np.max(np.ptp(values, axis=1)))
    probes = {"span": span, "differentiable": float(_differentiates(problem))}
    # Wiggles: what is left of each line after a quintic, against the whole variation.
    residues = [v - np.polyval(np.polyfit(grid / sigma, v, 5), grid / sigma) for v in values]
    residue = float(np.sqrt(np.mean(np.square(residues)) * POINTS / (POINTS - 6)))
    deviation = float(np.sqrt(np.mean(np.var(values, axis=1))))
    probes |= {
        "residue": residue / span if span else 0.0,
        "turns": _turns(np.diff(values, axis=1)),
        "explained": 1 - (residue / deviation) ** 2 if deviation else 1.0,
    }
    rounding = float(jnp.finfo(dtype).eps) * np.max(np.abs(values))
    jump = _largest_jump(along, lines, grid, values, dtype, bool(probes["differentiable"]))
    probes["jump"] = jump / span if jump > 4 * rounding else 0.0
    # Fine noise: difference tables on either side of x, so that a kink there does not count.
    fine_step = 1e-4 * sigma
    close = fine_step * np.concatenate([np.arange(1, 10), -np.arange(1, 10)])
    near, again = (across(lines, jnp.asarray(close, dtype)) for _ in range(2))
    tables = jnp.min(jax.vmap(jax.vmap(measured_noise))(near.reshape(LINES, 2, 9)), axis=1)
    differs = float(jnp.max(jnp.abs(again - near)))
    fine = float(jnp.median(tables))
    probes["fine_noise"] = fine / span if span and fine > 100 * rounding else 0.0
    probes["repeat"] = differs / span if span and differs > 100 * rounding else 0.0
    probes["noise"] = (
        float(np.std(values[:, POINTS // 2])) / span if span and keys is not None else 0.0
    )
    if probes["differentiable"]:
        slopes, apart = _slopes(along, lines, grid[4::8], fine_step, dtype)
        probes["mismatch"] = float(np.median(apart))
        probes["slope_turns"] = _turns(slopes)
        probes["failed_slopes"] = float(np.mean(~np.isfinite(slopes)))
    return probes


def _turns(slopes: np.ndarray) -> float:
    """How often the slope of a line changes sign, median; stretches where it is 0 do not count."""
    signs = [np.sign(line[line != 0]) for line in slopes]
    return float(np.median([np.sum(np.diff(sign) != 0) for sign in signs]))


def _slopes(along, lines, places, step, dtype) -> tuple[np.ndarray, np.ndarray]:
    """Slopes s and |s − difference over ±step| / (|s| + |difference|), 0 for 0/0."""

    def both(line, place):
        slope = jax.grad(lambda distance: along(line, distance))(place)
        rise = (along(line, place + step) - along(line, place - step)) / (2 * step)
        total = jnp.abs(slope) + jnp.abs(rise)
        return slope, jnp.abs(slope - rise) / jnp.where(total == 0, 1, total)

    each = jax.jit(jax.vmap(jax.vmap(both, (None, 0)), (0, None)))
    slopes, apart = each(lines, jnp.asarray(places, dtype))
    return np.asarray(slopes, np.float64), np.asarray(apart, np.float64)


def _differentiates(problem: Problem) -> bool:
    """Whether JAX can trace a derivative at all (a bare callback cannot)."""
    try:
        jax.eval_shape(jax.grad(lambda x: problem.value(x, problem.loss_key)), problem.x)
    except (ValueError, TypeError, NotImplementedError):
        return False
    return True


def _largest_jump(along, lines, grid, values, dtype, able: bool) -> float:
    """What is left of each line's largest step after halving its interval towards rounding.

    Nothing, where derivatives beside it would rise by 100 times that within the whole interval:
    they do see such a step, of a ball on the crest of a hill, say, where slopes are as 1/distance.
    """
    worst = np.argmax(np.abs(np.diff(values, axis=1)), axis=1)
    rows = np.arange(len(values))
    halvings = int(-0.7 * np.log2(float(jnp.finfo(dtype).eps)))

    def halve(carry, _):
        line, low, high, at_low, at_high = carry
        middle = 0.5 * (low + high)
        at_middle = along(line, middle)
        left = jnp.abs(at_middle - at_low) > jnp.abs(at_high - at_middle)
        pick = lambda a, b: jnp.where(left, a, b)  # noqa: E731
        after = (pick(low, middle), pick(middle, high), pick(at_low, at_middle))
        return (line, *after, pick(at_middle, at_high)), None

    def bisect(line, low, high, at_low, at_high):
        carry = (line, low, high, at_low, at_high)
        _, left, right, before, after = jax.lax.scan(halve, carry, length=halvings)[0]
        step = jnp.abs(after - before)
        if able:
            slopes = [jax.grad(lambda at: along(line, at))(end) for end in (left, right)]
            steep = jnp.minimum(*map(jnp.abs, slopes)) * (high - low) > 100 * step
            step = jnp.where(steep, 0, step)
        return step

    ends = [grid[worst], grid[worst + 1], values[rows, worst], values[rows, worst + 1]]
    left = jax.jit(jax.vmap(bisect))(lines, *(jnp.asarray(end, dtype) for end in ends))
    return float(jnp.max(left))


def _decided(problem: Problem, probes: dict, sigma: float, samples: int) -> Recommendation:
    """The first condition that holds, in the order in which they do harm."""
    failed = probes.get("failed_slopes", 0.0)
    dimension, able = problem.dimension, bool(probes["differentiable"]) and not failed
    smoothed = EvolutionStrategies(sigma, samples=samples)
    ratio = probes.get("pathwise_variance", 0.0) / max(probes.get("score_variance", 1.0), 1e-300)

    def answer(condition, method, reason):
        if failed:
            reason += f"; {failed:.0%} of its derivatives are not finite"
        return Recommendation(method, condition, reason, probes)

    blind = not probes.get("mismatch", 1.0) <= 0.3
    lasting = probes["repeat"] == 0  # a point asked twice gives one value
    chaotic = blind and lasting and probes["explained"] < 0.5 and probes["fine_noise"]
    unseen = probes.get("unseen_z", 0.0) > 4 and probes["unseen"] > 0.1
    stairs = unseen and ratio <= 1  # chaos and noise have derivatives, of no meaning
    if probes["fine_noise"] and blind and not (chaotic or stairs):
        why = f"noise of {probes['fine_noise']:.2g} of its variation at 1e-4 σ"
        if not lasting:
            why += f", of {probes['repeat']:.2g} where one point is asked twice"
        if dimension <= 16:
            return answer("noisy", CentralDifference(sigma), f"{why}: difference over σ instead")
        return answer("noisy", smoothed, f"{why}: derivatives see only that, values do not")
    # A sawtooth turns as often, but by jumps: its slopes do not turn.
    turning = blind or probes["jump"] <= 0.02 or probes["slope_turns"] >= 2
    wiggly = probes["turns"] > POINTS / 8 and probes["residue"] > 0.01
    # Steps that the draws' derivatives do not meet, or meet too seldom, beside folds they do.
    folded = unseen and ratio > 1 and probes["jump"] <= 0.02 and probes["slope_turns"] >= 2
    if chaotic or (wiggly and turning and not stairs) or folded:
        why = (
            f"{probes['turns']:.0f} turns a line of {POINTS} points, wiggles of "
            f"{probes['residue']:.0%} of its variation: derivatives grow without meaning"
        )
        if isinstance(problem.loss, UnrolledLoss) and able:
            return answer("chaotic", TotalPropagation(Gaussian(sigma), samples=samples), why)
        return answer("chaotic", smoothed, why)
    if probes["jump"] > 0.02 or unseen:
        why = f"a jump of {probes['jump']:.0%} of its variation: derivatives do not see it"
        if unseen:
            why = (
                f"mean derivatives and score-function terms differ by {probes['unseen']:.0%}, "
                f"{probes['unseen_z']:.0f} deviations: the loss jumps, which derivatives do not see"
            )
        measured = MeasureValued(sigma, samples=max(1, samples // dimension))
        return answer("discontinuous", measured if dimension <= 8 else smoothed, why)
    if probes["noise"] > 0.1:
        why = f"noise of {probes['noise']:.0%} of its variation within 2σ"
        if able and ratio < 1:
            return answer(
                "noisy", Pathwise(samples=samples), f"{why}: average derivatives over keys"
            )
        return answer("noisy", smoothed, f"{why}: pairs share it, so it cancels in differences")
    if able and ratio > 1:
        why = f"derivatives vary {ratio:.2g} times more than score-function terms"
        weighted = InverseVariance(Gaussian(sigma), samples=max(8, samples - samples % 4))
        return answer("stiff", weighted, f"{why}: weight them by their variances")
    if able:
        why = f"no jump, {probes['turns']:.0f} turns, derivatives {ratio:.2g} times as varied"
        return answer("smooth", Pathwise(), f"{why} as score terms: differentiate")
    unable = "but its derivatives fail" if failed else "but JAX cannot differentiate it"
    if dimension <= 64:
        return answer("smooth", Richardson(), f"smooth, {unable}")
    haar = RandomDirections(Haar(min(dimension, samples)), samples=1)
    return answer("smooth", haar, f"smooth, {unable}, d = {dimension}")
