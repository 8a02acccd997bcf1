"""Check a gradient against the function it claims to differentiate, and say what is wrong."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from diffsim.gradients import slips, taylor
from diffsim.gradients.flat import flatten


@struct.dataclass
class CheckReport:
    """The verdict; print it.

    Attributes:
        diagnosis: "correct", "wrong gradient", "biased estimator", "kink", "jump", "noise"
            or "step too small".
        passed: the gradient is confirmed (at a kink: it lies between the one-sided slopes).
        leaf: path of the leaf that decided, "" if the gradient is correct.
        slips: names of the mistakes that explain the mismatch.
        coordinates: (leaf, index, given, measured), the worst of each failing leaf.
        directions: every direction tried.
        steps: step sizes of the sweep.
    """

    diagnosis: str
    passed: bool
    leaf: str
    slips: tuple[str, ...]
    coordinates: tuple[tuple[str, tuple[int, ...], float, float], ...]
    directions: tuple[taylor.DirectionCheck, ...]
    steps: tuple[float, ...]

    def __str__(self) -> str:
        where = f" in {self.leaf}" if self.leaf else ""
        lines = [f"{'passed' if self.passed else 'FAILED'}: {self.diagnosis}{where}"]
        lines += [f"  slip: {name}" for name in self.slips]
        for leaf, index, given, measured in self.coordinates:
            lines.append(f"  {leaf}{list(index)}: given {given:.6g}, measured {measured:.6g}")
        lines += [f"  {direction}" for direction in self.directions]
        lines.append(f"  steps from {self.steps[0]:.1g} to {self.steps[-1]:.1g}")
        return "\n".join(lines)

    def raise_if_failed(self) -> None:
        """Raise AssertionError, with the report, unless it passed."""
        if not self.passed:
            raise AssertionError(str(self))


def check_gradient(
    f: Callable,
    x: Any,
    gradient: Callable | None = None,
    *,
    key: jax.Array | None = None,
    steps: Sequence[float] | None = None,
    tolerance: float | None = None,
    samples: int = 256,
    hypotheses: dict[str, Any] | None = None,
    max_coordinates: int = 256,
    seed: int = 0,
) -> CheckReport:
    """Compare a gradient with f itself along random directions, leaf by leaf, over many steps.

    Along v, the central difference D(h) comes with its own error, |D(h) − D(next h)| + noise/h,
    the noise measured by a difference table; so a wrong gradient is told from a difference that
    cannot know better. Failing leaves are then differenced coordinate by coordinate, and the
    mismatch itself is compared with the known slips.

    Args:
        f: tree → scalar; called at one point at a time, outside jit.
        x: tree of floats.
        gradient: x → tree like x; None for ``jax.grad(f)``, with any custom VJP f has. With
            ``key`` it is an estimator, ``gradient(x, key=...)``.
        key: for an estimator, whose mean over ``samples`` is tested.
        steps: the sweep; None for half decades from 0.1 down to about ε^0.7.
        tolerance: relative mismatch allowed; None for ε^(1/3).
        samples: estimates averaged.
        hypotheses: name → wrong gradient to be recognised, e.g. from
            :func:`~diffsim.gradients.slips.backprop_slips`.
        max_coordinates: coordinates of a failing leaf differenced one by one.
        seed: of the directions.

    Raises:
        ValueError: f is not scalar or not finite at x, or the gradient has another shape.

    >>> print(str(check_gradient(lambda x: jnp.sum(x**3), jnp.ones(2))).splitlines()[0])
    passed: correct
    >>> wrong = check_gradient(lambda x: jnp.sum(x**3), jnp.arange(1.0, 3.0), lambda x: -3 * x**2)
    >>> wrong.diagnosis, wrong.slips
    ('wrong gradient', ('x: wrong sign',))
    """
    flat, unravel = flatten("x", x)
    epsilon = float(jnp.finfo(flat.dtype).eps)
    tolerance = epsilon ** (1 / 3) if tolerance is None else tolerance
    point = np.asarray(flat, np.float64)
    sizes = taylor.sweep(steps, epsilon)

    def at(where: np.ndarray) -> float:
        result = jnp.asarray(f(unravel(jnp.asarray(where, flat.dtype))))
        if result.shape != ():
            raise ValueError(f"f: expected a scalar, got shape {result.shape}")
        return float(result)

    values = np.array([at(point) for _ in range(4)])
    if not np.all(np.isfinite(values)):
        raise ValueError(f"f: expected a finite value at x, got {values[0]}")
    rows = _claimed(f, x, gradient, key, samples)
    given = rows.mean(axis=0)
    leaves = _leaves(x)
    generator = np.random.default_rng(seed)

    def along(name: str, span: slice) -> taylor.DirectionCheck:
        v = np.zeros(point.size)
        v[span] = generator.standard_normal(v[span].size)
        v /= np.linalg.norm(v)
        slopes = rows @ v
        return taylor.examine(
            name,
            lambda h: at(point + h * v),
            float(slopes.mean()),
            float(slopes.std(ddof=1) / slopes.size**0.5) if key is not None else 0.0,
            sizes,
            epsilon=epsilon,
            tolerance=tolerance,
            biased=key is not None,
            random=float(np.std(values, ddof=1)),
        )

    directions = [along(name, span) for name, (span, _) in leaves.items()]
    if len(leaves) > 1:
        directions.append(along("x", slice(0, point.size)))
    worst = min(directions, key=lambda check: taylor.SEVERITY.index(check.diagnosis))
    found: list[str] = []
    coordinates: list[tuple[str, tuple[int, ...], float, float]] = []
    for check in directions:
        if check.leaf not in leaves or check.diagnosis not in (taylor.WRONG, taylor.BIASED):
            continue
        span, shape = leaves[check.leaf]
        indices = np.arange(span.start, span.stop)[:max_coordinates]
        measured = np.array([_slope(at, point, index, check.step) for index in indices])
        if len(indices) == span.stop - span.start:
            claimed = given[span].reshape(shape)
            slip = slips.leaf_slip(claimed, measured.reshape(shape), 100 * tolerance)
            found += [f"{check.leaf}: {slip}"] if slip else []
        for i in np.argsort(-np.abs(given[indices] - measured))[:3]:
            place = tuple(int(k) for k in np.unravel_index(i, shape))
            coordinates.append((check.leaf, place, float(given[indices[i]]), float(measured[i])))
    if hypotheses and worst.diagnosis == taylor.WRONG:
        claimed = unravel(jnp.asarray(given, flat.dtype))
        found = slips.matching(claimed, hypotheses, 1e4 * epsilon) or found
    return CheckReport(
        diagnosis=worst.diagnosis,
        passed=worst.diagnosis in (taylor.CORRECT, taylor.KINK),
        leaf="" if worst.diagnosis == taylor.CORRECT else worst.leaf,
        slips=tuple(found),
        coordinates=tuple(coordinates),
        directions=tuple(directions),
        steps=tuple(float(h) for h in sizes),
    )


def _claimed(f, x, gradient, key, samples) -> np.ndarray:
    """The claimed gradient, flat, as rows: one, or one a sample of an estimator."""
    if key is not None:
        if gradient is None or samples < 2:
            raise ValueError("gradient: with a key, expected gradient(x, key=...) and samples >= 2")

        def row(k):
            return flatten("gradient", gradient(x, key=k))[0]

        return np.asarray(jax.vmap(row)(jax.random.split(key, samples)), np.float64)
    tree = jax.grad(f)(x) if gradient is None else gradient(x)
    expected = [jnp.shape(leaf) for leaf in jax.tree.leaves(x)]
    got = [jnp.shape(leaf) for leaf in jax.tree.leaves(tree)]
    if got != expected:
        raise ValueError(f"gradient: expected leaves of shapes {expected}, got {got}")
    return np.asarray(flatten("gradient", tree)[0], np.float64)[None]


def _leaves(x: Any) -> dict[str, tuple[slice, tuple[int, ...]]]:
    """Leaf path → its slice of the flat vector and its shape; empty leaves left out."""
    spans, start = {}, 0
    for path, leaf in jax.tree_util.tree_flatten_with_path(x)[0]:
        stop = start + jnp.size(leaf)
        if stop > start:
            spans["x" + jax.tree_util.keystr(path)] = (slice(start, stop), jnp.shape(leaf))
        start = stop
    return spans


def _slope(at: Callable, point: np.ndarray, index: int, step: float) -> float:
    move = np.zeros_like(point)
    move[index] = step
    return (at(point + move) - at(point - move)) / (2 * step)
