"""The contract of a gradient estimator, and the two transforms that apply one to a loss."""

from collections.abc import Callable
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from diffsim import _show
from diffsim._types import Tree
from diffsim.gradients import intervals
from diffsim.gradients.problem import Problem


@struct.dataclass
class Draws:
    """What a method hands back: exchangeable terms whose mean is the estimate.

    Attributes:
        values: samples of the objective, (any number,).
        terms: (m, p), one row a sample (or a pair, or a block of directions).
        info: the method's own diagnostics.
        evaluations: calls of the loss that the gradient took; a derivative counts as one call.
        unbiased: (m, p) terms of an unbiased estimate from the same draws, by which a method that
            may be biased is judged; None where ``terms`` are the judge themselves.
    """

    values: jax.Array
    terms: jax.Array
    info: dict[str, jax.Array] = struct.field(default_factory=dict)
    evaluations: int = struct.field(pytree_node=False, default=0)
    unbiased: jax.Array | None = None


class Method:
    """A frozen record of settings with ``draw``; to add one, subclass and join the registry.

    Attributes:
        objective: what the estimate is the gradient of: "f", "smoothed" (the mean of f under
            the law) or "rank-shaped" (compare its direction only).
        stochastic: whether it draws, and so needs a key.
        spreads: whether x may be a :class:`~diffsim.gradients.laws.Distribution`.
        bias: where the mean is not the gradient of ``objective``; "" for nowhere.
    """

    objective: ClassVar[str] = "smoothed"
    stochastic: ClassVar[bool] = True
    spreads: ClassVar[bool] = False
    bias: ClassVar[str] = ""

    @classmethod
    def create(cls, *settings: Tree, **named: Tree) -> Self:
        """The method with settings that are checked now, not when it is used."""
        made = cls(*settings, **named)
        made.check()
        return made

    def check(self) -> None:
        """Raise ValueError or TypeError for settings that cannot work; called by surrogate."""

    def draw(self, problem: Problem) -> Draws:
        """The terms of the estimate at ``problem.x``."""
        raise NotImplementedError


@struct.dataclass
class Sampled(Method):
    """A method whose estimate is the mean of independent terms.

    Attributes:
        samples: how many: draws, or the pairs or blocks of directions that a method says.
        chunk: evaluations at once, None for all.
    """

    samples: int = struct.field(pytree_node=False, default=64, kw_only=True)
    chunk: int | None = struct.field(pytree_node=False, default=None, kw_only=True)

    def check(self, least: int = 1) -> None:
        check_count("samples", self.samples, least)
        if self.chunk is not None:
            check_count("chunk", self.chunk)


@struct.dataclass
class Estimate:
    """A gradient and how far to trust it.

    Attributes:
        value: the objective at x (for "rank-shaped", the smoothed loss).
        grad: tree like x.
        aux: the loss's aux at x itself, None without has_aux.
        variance: trace of the covariance of ``grad``, the MEAN estimate (not of one sample).
        standard_error: of each coordinate of ``grad`` about its own mean, tree like x.
        skewness: of the terms that ``grad`` is the mean of, tree like x.
        judge: (offset, standard_error, skewness) of an unbiased estimate from the same draws, each
            a tree like x, offset its distance from ``grad``; None if ``grad`` is its own judge.
        bias: where ``grad`` may be biased, which an interval without a judge does not show.
        snr: ‖grad‖² / variance; inf for a deterministic method.
        failures: evaluations of the loss that were not finite, int32.
        samples: independent terms left after masking, int32.
        info: the method's own diagnostics, such as AlphaOrder's alpha.
        evaluations: calls of the loss the gradient took.
        objective: "f", "smoothed" or "rank-shaped".
    """

    value: jax.Array
    grad: Tree
    aux: Tree
    variance: jax.Array
    standard_error: Tree
    skewness: Tree
    judge: tuple[Tree, Tree, Tree] | None
    snr: jax.Array
    failures: jax.Array
    samples: jax.Array
    info: dict[str, jax.Array]
    evaluations: int = struct.field(pytree_node=False)
    objective: str = struct.field(pytree_node=False)
    bias: str = struct.field(pytree_node=False)

    def __repr__(self) -> str:
        names = ("value", "grad", "variance", "snr", "samples", "failures", "evaluations", "bias")
        return _show.record("Estimate", **{name: getattr(self, name) for name in names})

    def interval(self, confidence: float = 0.95) -> tuple[Tree, Tree]:
        """Per-coordinate interval: grad ∓ t SE, t Student's quantile, longer for skewed terms.

        With a judge ĝ₀, grad ∓ (|ĝ − ĝ₀| + t SE₀): it holds that of the unbiased estimate, and so
        the bias. Without one, see ``bias`` for where it does not cover the gradient. Few terms of
        few values (8 of a step, say) may all be alike, and then show no spread at all.

        Args:
            confidence: probability that the interval covers, e.g. 0.95.
        """
        nothing = jax.tree.map(jnp.zeros_like, self.grad)
        judge = self.judge or (nothing, self.standard_error, self.skewness)

        def side(sign):
            def bound(grad, offset, error, skew):
                half = offset + intervals.quantile(confidence, self.samples, skew) * error
                return grad + sign * half

            return jax.tree.map(bound, self.grad, *judge)

        return side(-1), side(1)


POLICIES = ("raise", "mask", "penalty")


def checked_key(key: Any, needed: bool, who: str, args: Tree = ()) -> Any:
    """The key as one typed key, or a clear error; see :func:`surrogate` on reuse."""
    if key is None:
        if needed:
            raise TypeError(f"key: {who} draws random numbers, expected key=jax.random.key(seed)")
        return None
    if not (hasattr(key, "dtype") and hasattr(key, "shape")):
        raise TypeError(f"key: expected a jax.random.key, got {type(key).__name__}")
    if key.dtype == jnp.uint32 and key.shape[-1:] == (2,):
        key = jax.random.wrap_key_data(key)
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        raise TypeError(f"key: expected a jax.random.key, got {key.dtype}{list(key.shape)}")
    if key.shape != ():
        raise ValueError(f"key: expected one key, got shape {key.shape}; vmap over keys outside")
    for leaf in jax.tree.leaves(args):
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            same = leaf is key
            if leaf.shape == () and not isinstance(leaf, jax.core.Tracer):
                same = same or bool(
                    not isinstance(key, jax.core.Tracer)
                    and np.array_equal(jax.random.key_data(leaf), jax.random.key_data(key))
                )
            if same:
                raise ValueError("key: the same key was given to the method and to the loss")
    return key


def posed(
    loss, method, x, args, key, *, has_aux=False, stochastic=False, penalty=None, kind=Problem
) -> Problem:
    """The flat problem of one call, its keys split and checked."""
    who = type(method).__name__ if method.stochastic else "a stochastic loss"
    key = checked_key(key, method.stochastic or stochastic, who, args)
    keys: tuple = (None, None, None)
    if key is not None and (method.stochastic or stochastic):
        keys = tuple(jax.random.split(key, 3))
    if not stochastic:
        keys = (keys[0], None, None)
    problem = kind(
        loss,
        jax.lax.stop_gradient(x),
        args,
        has_aux=has_aux,
        keys=keys,
        stochastic=stochastic,
        penalty=penalty,
    )
    if problem.spread and not method.spreads:
        raise TypeError(f"x: {type(method).__name__} differentiates a point, got a Distribution")
    return problem


def reduced(draws: Draws, masked: bool) -> tuple[jax.Array, ...]:
    """Mean value, mean gradient, per-coordinate variance of that mean, rows kept."""
    terms, values = draws.terms, draws.values
    if not masked:
        count = jnp.asarray(terms.shape[0], jnp.int32)
        spread = (
            jnp.var(terms, axis=0, ddof=1) if terms.shape[0] > 1 else jnp.zeros(terms.shape[1:])
        )
        variance = spread.astype(terms.dtype) / terms.shape[0]
        return jnp.mean(values), jnp.mean(terms, axis=0), variance, count
    keep = jnp.all(jnp.isfinite(terms), axis=1)
    count = jnp.sum(keep, dtype=jnp.int32)
    number = count.astype(terms.dtype)
    kept = jnp.where(keep[:, None], terms, 0)
    mean = jnp.sum(kept, axis=0) / number
    squares = jnp.where(keep[:, None], (kept - mean) ** 2, 0)
    variance = jnp.sum(squares, axis=0) / (jnp.maximum(number - 1, 1) * number)
    return jnp.nanmean(values), mean, variance, count


def _raise_if_failed(
    problem: Problem, value: jax.Array, gradient: jax.Array, kept: jax.Array, policy: str
) -> jax.Array:
    """The failure count; where it is concrete and the policy says so, an error.

    A value or gradient that is not finite although the losses are is one whatever the policy.
    """
    failures = sum(problem.failures, start=jnp.int32(0))
    if not isinstance(failures, jax.core.Tracer):
        if policy == "raise" and int(failures):
            raise FloatingPointError(
                f"loss: expected finite values, got {int(failures)} that were not; "
                "on_failure='mask' or 'penalty' goes on without them"
            )
        if policy == "mask" and not isinstance(kept, jax.core.Tracer) and int(kept) == 0:
            raise FloatingPointError("loss: every sample failed, so there is no gradient")
    for name, found in (("value", value), ("gradient", gradient)):
        if not isinstance(found, jax.core.Tracer) and not jnp.isfinite(found).all():
            raise FloatingPointError(
                f"{name}: {int(jnp.sum(~jnp.isfinite(found)))} of {found.size} not finite, from "
                f"finite losses: a derivative fails, or a sum is beyond the range of {found.dtype}"
            )
    return failures


@jax.custom_jvp
def attach(value: jax.Array, gradient: Tree, x: Tree) -> jax.Array:
    """``value``, with derivative ``gradient`` in x."""
    return value


@attach.defjvp
def _attach_jvp(primals, tangents):
    value, gradient, x = primals
    slope = sum(
        jnp.sum(g * dx).astype(value.dtype)
        for g, dx in zip(jax.tree.leaves(gradient), jax.tree.leaves(tangents[2]))
    )
    return attach(value, gradient, x), tangents[0] + slope  # the value stays differentiable


def _drawing(loss, method, on_failure, penalty, **options) -> Callable:
    """(x, args, key) → the problem, and what the method draws for it; the options are checked."""
    if not isinstance(method, Method):
        raise TypeError(f"method: expected a Method record such as Pathwise(), got {method!r}")
    if on_failure not in POLICIES:
        raise ValueError(f"on_failure: expected one of {POLICIES}, got {on_failure!r}")
    if (on_failure == "penalty") != (penalty is not None):
        raise ValueError(f"penalty: expected exactly with on_failure='penalty', got {penalty!r}")
    method.check()

    def drawn(x, args, key):
        problem = posed(loss, method, x, args, key, penalty=penalty, **options)
        return problem, method.draw(problem)

    return drawn


def surrogate(
    loss: Callable,
    method: Method,
    *,
    has_aux: bool = False,
    stochastic: bool = False,
    on_failure: str = "raise",
    penalty: float | None = None,
) -> Callable:
    """A function whose value is the objective and whose derivative is the method's estimate.

    Everything in front of it (a network, say) keeps exact backpropagation: dL/dX = ĝ · dP/dX.
    It composes with jit, vmap, grad and jvp; for many rows, vmap it with one key a row. Only
    first derivatives mean something. ``args`` pass through to the loss unperturbed, and the
    derivative in them is the exact one of the returned value.

    Args:
        loss: ``loss(x, *args) -> scalar``, x any tree of floats; ``(scalar, aux)`` with
            ``has_aux``; called with ``key=`` as well where ``stochastic``.
        method: a record from the registry, e.g. ``EvolutionStrategies(samples=32)``.
        has_aux: the result is (value, aux), aux from the loss at x itself.
        stochastic: the loss takes a key; pairs of evaluations share it.
        on_failure: "raise" for a loss that is not finite (inside jit or vmap, where nothing can
            be raised, value and gradient turn NaN); "mask" drops the samples it spoils;
            "penalty" puts the constant ``penalty`` in the loss's place.
        penalty: the loss of a failed run.

    Returns:
        ``f(x, *args, key=None)``. Equal keys mean common random numbers, on purpose: a repeated
        key is not an error here. To have JAX refuse one, use ``jax.debug_key_reuse(True)``; the
        method spends its key in one split, so the second use is seen. A deterministic method
        takes a key and ignores it.

    Raises:
        TypeError: no key where one is needed, x not of floats, not a method.
        ValueError: a loss that is not scalar, or one key given to both method and loss.
        FloatingPointError: see ``on_failure``; a gradient that is not finite though the loss is.

    >>> from diffsim.gradients import CentralDifference
    >>> f = surrogate(lambda x: jnp.sum(x**2), CentralDifference())
    >>> round(float(jax.grad(lambda w: f(3.0 * w))(jnp.ones(()))), 2)
    18.0
    """
    drawn = _drawing(loss, method, on_failure, penalty, has_aux=has_aux, stochastic=stochastic)

    def differentiable(x, *args, key=None):
        problem, draws = drawn(x, args, key)
        value, gradient, _, kept = reduced(draws, on_failure != "raise")
        _raise_if_failed(problem, value, gradient, kept, on_failure)
        slope = jax.lax.stop_gradient(problem.unravel_x(gradient))
        value = attach(value, slope, x)
        return (value, problem.aux()) if has_aux else value

    return differentiable


def estimate(
    loss: Callable,
    method: Method,
    *,
    has_aux: bool = False,
    stochastic: bool = False,
    on_failure: str = "raise",
    penalty: float | None = None,
) -> Callable:
    """A function that returns the :class:`Estimate`: the gradient with its diagnostics.

    Arguments as for :func:`surrogate`. The variance is measured from the terms, so a method
    that draws needs at least two of them.

    Raises:
        ValueError: one term only, from which no variance can be measured.

    >>> from diffsim.gradients import SPSA
    >>> e = estimate(lambda x: jnp.sum(x), SPSA(samples=4))(jnp.ones(1), key=jax.random.key(0))
    >>> round(float(e.grad[0]), 2), e.evaluations, e.objective
    (1.0, 8, 'f')
    """
    drawn = _drawing(loss, method, on_failure, penalty, has_aux=has_aux, stochastic=stochastic)

    def estimated(x, *args, key=None):
        problem, draws = drawn(x, args, key)
        if (method.stochastic or stochastic) and draws.terms.shape[0] < 2:
            raise ValueError(
                f"samples: a variance needs at least 2, got 1 from {type(method).__name__}; "
                "surrogate(...) does without one"
            )
        value, gradient, variance, kept = reduced(draws, on_failure != "raise")
        total = jnp.sum(variance)
        judge = None
        if draws.unbiased is not None:
            _, mean, spread, _ = reduced(draws.replace(terms=draws.unbiased), on_failure != "raise")  # type: ignore[attr-defined]
            flat = (jnp.abs(gradient - mean), jnp.sqrt(spread), intervals.skewness(draws.unbiased))
            judge = jax.tree.map(problem.unravel_x, flat)
        return Estimate(
            value=value,
            grad=problem.unravel_x(gradient),
            aux=problem.aux(),
            variance=total,
            standard_error=problem.unravel_x(jnp.sqrt(variance)),
            skewness=problem.unravel_x(intervals.skewness(draws.terms)),
            judge=judge,
            snr=jnp.sum(gradient**2) / total,
            failures=_raise_if_failed(problem, value, gradient, kept, on_failure),
            samples=kept,
            info=draws.info,
            evaluations=draws.evaluations,
            objective=method.objective,
            bias=method.bias,
        )

    return estimated


def check_count(name: str, value: object, least: int = 1) -> None:
    """Raise unless ``value`` is an int of at least ``least``."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name}: expected an integer >= {least}, got {value!r}")
