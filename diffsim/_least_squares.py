"""Least squares by Levenberg–Marquardt on the normal equations, for a few unknowns."""

from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
from flax import struct

from diffsim import _linalg
from diffsim._types import ArrayLike, Tree


@struct.dataclass
class Normal:
    """A sum of squares about a point.

    Attributes:
        residual: the sum, ().
        slope: minus half its gradient, (n,).
        information: half its second derivative, or JᵀJ in its place, (n, n).
    """

    residual: jax.Array
    slope: jax.Array
    information: jax.Array


def gauss_newton(residuals: Callable) -> Callable:
    """x (n,) → :class:`Normal` of the sum of squared residuals, from their Jacobian."""

    @jax.default_matmul_precision("highest")
    def fit(x):
        jacobian, left = jax.jacfwd(lambda x: (residuals(x),) * 2, has_aux=True)(x)
        return Normal(jnp.sum(left**2), -left @ jacobian, jacobian.T @ jacobian)

    return fit


def levenberg_marquardt(
    fit: Callable,
    start: jax.Array,
    *,
    iterations: int,
    tolerance: ArrayLike = 0.0,
    damping: float = 1e-2,
) -> tuple[jax.Array, Tree]:
    """x of the least sum of squares met on the way from ``start``, and fit(x); no derivative.

    Args:
        fit: x (n,) → a record like :class:`Normal`.
        start: (n,).
        iterations: at most.
        tolerance: length of a step that is small enough to end with.
        damping: at the start, relative to the diagonal of the information.

    Source: Marquardt 1963, J. SIAM 11(2).

    >>> fit = gauss_newton(lambda x: x**2 - 4.0)
    >>> levenberg_marquardt(fit, jnp.ones(1), iterations=20)[0].round(4).tolist()
    [2.0]
    """
    eps = jnp.finfo(start.dtype).eps

    def improve(state):
        best, x, damping, _, count = state
        trial = fit(x)
        # Near the minimum the residual is flat to rounding, and the slope decides.
        flat = trial.residual <= best[1].residual * (1 + 64 * eps)
        better = (trial.residual < best[1].residual) | (
            flat & (jnp.sum(trial.slope**2) < jnp.sum(best[1].slope ** 2))
        )
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), (x, trial), best)
        damping = jnp.clip(jnp.where(better, damping / 10, damping * 10), 1e-7, 1e7)
        square = best[1].information
        square = square + jnp.diag(damping * jnp.diagonal(square))
        move = _linalg.solve(square, best[1].slope)
        return best, best[0] + move, damping, jnp.max(jnp.abs(move)), count + 1

    def unfinished(state):
        return (state[3] > tolerance) & (state[4] < iterations)

    unknown = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(fit, start))
    infinite = jnp.asarray(jnp.inf, start.dtype)
    unknown = replace(
        unknown, residual=infinite, information=jnp.eye(start.size, dtype=start.dtype)
    )
    state = ((start, unknown), start, jnp.asarray(damping, start.dtype), infinite, 0)
    return jax.lax.while_loop(unfinished, improve, state)[0]
