"""Check a gradient against the function it claims to differentiate, and say what is wrong."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.typing import DTypeLike

from diffsim import _show
from diffsim._types import Tree
from diffsim.gradients import slips, taylor
from diffsim.gradients.flat import flatten
from diffsim.gradients.line import Line, checked_steps

FAILED = (taylor.WRONG, taylor.BIASED)
PASSED = (taylor.CORRECT, taylor.KINK)


@struct.dataclass
class CheckReport:
    """The verdict; print it.

    Attributes:
        diagnosis: "correct", "wrong gradient", "biased estimator", "kink", "jump", "noise",
            "step too small" or "not finite" (f near x).
        passed: the gradient is confirmed (at a kink: it lies between the one-sided slopes).
        leaf: path of the leaf that decided, "" if the gradient is correct.
        slips: names of the mistakes that explain the mismatch.
        coordinates: (leaf, index, given, measured), the worst of each failing leaf.
        directions: every direction tried.
        steps: lengths of all sweeps, largest first.
    """

    diagnosis: str
    passed: bool
    leaf: str
    slips: tuple[str, ...]
    coordinates: tuple[tuple[str, tuple[int, ...], float, float], ...]
    directions: tuple[taylor.DirectionCheck, ...]
    steps: tuple[float, ...]

    def __repr__(self) -> str:
        names = ("diagnosis", "passed", "leaf", "slips")
        return _show.record("CheckReport", **{name: str(getattr(self, name)) for name in names})

    def __str__(self) -> str:
        where = f" in {self.leaf}" if self.leaf else ""
        lines = [f"{'passed' if self.passed else 'FAILED'}: {self.diagnosis}{where}"]
        lines += [f"  slip: {name}" for name in self.slips]
        for leaf, index, given, measured in self.coordinates:
            lines.append(f"  {leaf}{list(index)}: given {given:.6g}, measured {measured:.6g}")
        lines += [f"  {direction}" for direction in self.directions]
        if self.steps:
            lines.append(f"  steps from {self.steps[0]:.1g} to {self.steps[-1]:.1g}")
        return "\n".join(lines)

    def raise_if_failed(self) -> None:
        """Raise AssertionError, with the report, unless it passed."""
        if not self.passed:
            raise AssertionError(str(self))


def check_gradient(
    f: Callable,
    x: Tree,
    gradient: Callable | None = None,
    *,
    key: jax.Array | None = None,
    steps: Sequence[float] | None = None,
    tolerance: float | None = None,
    samples: int = 256,
    hypotheses: dict[str, Tree] | None = None,
    max_coordinates: int = 256,
    seed: int = 0,
) -> CheckReport:
    """Compare a gradient with f itself along random directions, leaf by leaf, over many steps.

    Along v, the central difference D(h) comes with its own error, |D(h) − D(next h)| + noise/h,
    the noise measured by a difference table; so a wrong gradient is told from a difference that
    cannot know better. Steps follow the size of each leaf's entries and end where the digits of
    its type end. Failing leaves are then differenced coordinate by coordinate, and a slip is
    named where it explains their mismatch to 1 %.

    A leaf of zero gradient that f does not react to is correct, if f reacts to other leaves.

    Args:
        f: tree → scalar; called at one point at a time, outside jit.
        x: tree of floats; leaves may be of different types.
        gradient: x → tree like x; None for ``jax.grad(f)``, with any custom VJP f has. With
            ``key`` it is an estimator, ``gradient(x, key=...)``.
        key: for an estimator, whose mean over ``samples`` is tested.
        steps: lengths by which to move x; None for those that follow its size.
        tolerance: relative mismatch allowed; None for ε^(1/3), ε the coarser of f's and x's.
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
    point = np.asarray(flatten("x", x)[0], np.float64)
    leaves = _leaves(x)
    structure = jax.tree.structure(x)
    chosen = checked_steps(steps)
    rounding = 0.0

    def tree(where: np.ndarray) -> Tree:
        parts = [
            jnp.asarray(where[leaf.span].reshape(leaf.shape).astype(leaf.dtype))
            for leaf in leaves.values()
        ]
        return jax.tree.unflatten(structure, parts)

    def at(where: np.ndarray) -> float:
        nonlocal rounding
        result = jnp.asarray(f(tree(where)))
        if result.shape != ():
            raise ValueError(f"f: expected a scalar, got shape {result.shape}")
        if not jnp.issubdtype(result.dtype, jnp.floating):
            raise ValueError(f"f: expected a floating scalar, got {result.dtype}")
        rounding = float(jnp.finfo(result.dtype).eps)
        return float(result)

    values = np.array([at(point) for _ in range(4)])
    if not np.all(np.isfinite(values)):
        raise ValueError(f"f: expected a finite value at x, got {values.max()}")
    rows = _claimed(f, x, gradient, key, samples)
    given = rows.mean(axis=0)
    rows = np.where(np.isfinite(given), rows, 0)
    claimed = np.where(np.isfinite(given), given, 0)
    lines = list(_lines(at, point, leaves, claimed, np.random.default_rng(seed)))
    checks = []
    for name, line in lines:
        slopes, epsilon = rows @ line.direction, max(line.epsilon, rounding)
        checks.append(
            taylor.examine(
                name,
                line,
                rows.mean(axis=0),
                float(slopes.std(ddof=1) / slopes.size**0.5) if key is not None else 0.0,
                line.steps() if chosen is None else chosen,
                rounding=rounding,
                tolerance=epsilon ** (1 / 3) if tolerance is None else tolerance,
                biased=key is not None,
                random=float(np.std(values, ddof=1)),
            )
        )
        if name in leaves and not np.all(np.isfinite(given[leaves[name].span])):
            checks[-1] = replace(checks[-1], given=np.nan, diagnosis=taylor.WRONG)
    silent = [name for name, leaf in leaves.items() if not np.any(given[leaf.span])]
    directions = _settled(checks, silent, rounding * abs(values.max()))
    worst = min(directions, key=lambda check: taylor.SEVERITY.index(check.diagnosis))
    found: list[str] = []
    coordinates: list[tuple[str, tuple[int, ...], float, float]] = []
    mismatch = np.inf  # the least of the failing leaves, relative to the gradient given
    failing = {
        check.leaf: (check, line)
        for check, (_, line) in zip(checks, lines)
        if check.diagnosis in FAILED and any(check is kept for kept in directions)
    }
    for name, (check, line) in failing.items():
        if name not in leaves:
            continue
        span, shape, _ = leaves[name]
        indices = np.arange(span.start, span.stop)[:max_coordinates]
        measured, error = _slopes(line, 3 * check.step, indices, check.noise)
        off = np.abs(given[indices] - measured)
        off[~np.isfinite(off)] = np.inf
        largest = max(float(np.max(np.abs(given[indices]))), float(np.max(off)) * 1e-9)
        mismatch = min(mismatch, float(np.max(off)) / largest)
        if len(indices) == span.stop - span.start:
            claimed, seen, at_x = (v.reshape(shape) for v in (given[span], measured, point[span]))
            slip = slips.leaf_slip(claimed, seen, at_x, error)
            found += [f"{name}: {slip}"] if slip else []
        for i in np.argsort(-off)[:3]:
            place = tuple(int(k) for k in np.unravel_index(i, shape))
            coordinates.append((name, place, float(given[indices[i]]), float(measured[i])))
    if hypotheses and worst.diagnosis == taylor.WRONG:
        close = min(0.01, 0.01 * mismatch, 1e4 * max(leaf.epsilon for leaf in leaves.values()))
        found = slips.matching(tree(given), hypotheses, close) or found
    return CheckReport(
        diagnosis=worst.diagnosis,
        passed=worst.diagnosis in PASSED,
        leaf="" if worst.diagnosis == taylor.CORRECT else worst.leaf,
        slips=tuple(found),
        coordinates=tuple(coordinates),
        directions=tuple(directions),
        steps=tuple(sorted({h for check in directions for h in check.steps}, reverse=True)),
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


class _Leaf(NamedTuple):
    """Where a leaf lies in the flat vector, and what it is there."""

    span: slice
    shape: tuple[int, ...]
    dtype: DTypeLike

    @property
    def epsilon(self) -> float:
        return float(jnp.finfo(self.dtype).eps)

    @property
    def tiny(self) -> float:
        """The smallest normal number."""
        return float(jnp.finfo(self.dtype).tiny)


def _leaves(x: Tree) -> dict[str, _Leaf]:
    """Path → leaf."""
    leaves, start = {}, 0
    for path, value in jax.tree_util.tree_flatten_with_path(x)[0]:
        value, stop = jnp.asarray(value), start + jnp.size(value)
        leaves["x" + jax.tree_util.keystr(path)] = _Leaf(
            slice(start, stop), value.shape, value.dtype
        )
        start = stop
    return leaves


def _lines(
    at: Callable,
    point: np.ndarray,
    leaves: dict[str, _Leaf],
    given: np.ndarray,
    generator: np.random.Generator,
) -> Iterator[tuple[str, Line]]:
    """For each leaf one line that moves its entries alike, and one up what is given where that
    cancels along it; where entries differ by more than a hundred one that moves each by its own
    size, and one for all leaves together.

    The size of a leaf is the root mean square of its entries, that of zeros as the others'.
    """
    epsilons, tiny, scales = np.ones((3, point.size))
    sizes = {}
    for name, leaf in leaves.items():
        epsilons[leaf.span], tiny[leaf.span] = leaf.epsilon, leaf.tiny
        sizes[name] = float(np.max(np.abs(point[leaf.span]), initial=0))
    known = [size for size in sizes.values() if size]

    def line(span: slice, move: np.ndarray, least: float, most: float) -> Line:
        v = np.zeros(point.size)
        v[span] = move * generator.choice([-1.0, 1.0], move.shape)
        v *= generator.uniform(0.5, 1.5, v.size)  # no entry is left out, nor are two alike
        length = float(np.linalg.norm(v))
        return Line(at, point, v / length, epsilons, tiny, length * least, length * most)

    for name, leaf in leaves.items():
        if leaf.span.start == leaf.span.stop:
            continue
        size, own = sizes[name], np.abs(point[leaf.span])
        scales[leaf.span] = size or np.median(known or [1.0])
        least, most = (size, max(size, 1)) if size else (min([*known, 1]), max([*known, 1]))
        along = line(leaf.span, np.ones(own.size), least, most)
        yield name, along
        # Where what is given cancels, an error in proportion to it does too: there, by its signs.
        slopes = along.direction * given
        if abs(slopes.sum()) < np.linalg.norm(slopes):
            yield name, replace(along, direction=np.copysign(along.direction, given))
        if size > 100 * np.min(own[own > 0], initial=size):
            yield name, line(leaf.span, np.where(own, own, size), 1.0, 1.0)
    if len(leaves) > 1:
        yield "x", line(slice(0, point.size), scales, 1.0, max(1, 1 / np.max(scales)))


def _settled(
    checks: Sequence[taylor.DirectionCheck], silent: Sequence[str], least: float
) -> list[taylor.DirectionCheck]:
    """What is left to say: of two lines in one leaf, one that passed speaks for one that could
    not tell, or that took for noise what is none on the other; a leaf without gradient that f does
    not react to is right beside others that it reacts to.
    """
    passed = {check.leaf: check.noise for check in checks if check.diagnosis in PASSED}
    reach = max(check.change for check in checks)
    settled = []
    for check in checks:
        if check.leaf in passed and 100 * passed[check.leaf] < check.noise:
            continue
        if check.diagnosis in (taylor.NOISE, taylor.SMALL, taylor.NOT_FINITE):
            if check.leaf in passed:
                continue
            still = check.leaf in silent and check.change == 0
            if still and least < 0.01 * reach:
                check = replace(check, diagnosis=taylor.CORRECT)
        settled.append(check)
    return settled


def _slopes(
    line: Line, length: float, indices: np.ndarray, noise: float
) -> tuple[np.ndarray, float]:
    """Slopes of single coordinates, (4 D(h) − D(2h))/3, each moved as along the line, and about
    how wrong they are: a tenth of that correction, and what the noise of f makes.
    """

    def central(move, index):
        step = np.zeros_like(line.point)
        step[index] = move[index]
        return (line.at(line.point + step) - line.at(line.point - step)) / (2 * move[index])

    fine, coarse = line.move(length), line.move(2 * length)
    with np.errstate(divide="ignore", invalid="ignore"):
        pairs = np.array([[central(fine, i), central(coarse, i)] for i in indices])
    correction = (pairs[:, 0] - pairs[:, 1]) / 3
    error = 0.1 * np.linalg.norm(correction) + noise * np.linalg.norm(1 / fine[indices])
    return pairs[:, 0] + correction, float(error)
