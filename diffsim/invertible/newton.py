"""The rungs for any network: Levenberg–Marquardt, and Adam from random starts before it."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct

from diffsim._adam import adam
from diffsim.invertible.implicit import DENSE, jacobian


@struct.dataclass
class Search:
    """A point and how it was reached.

    Attributes:
        x: (n,).
        residual: f(x) − y, (m,).
        damping: relative weight of the step's length, ().
        stuck: no step helps any more, () bool.
        evaluations: calls of f, its derivative and the transposed one, () int32.
        steps: accepted and refused, () int32.
    """

    x: jax.Array
    residual: jax.Array
    damping: jax.Array
    stuck: jax.Array
    evaluations: jax.Array
    steps: jax.Array


def begin(f: Callable, x: jax.Array) -> Search:
    zero = jnp.int32(0)
    damping = jnp.asarray(1e-2, x.dtype)
    return Search(x, f(x), damping, jnp.asarray(False), zero + 1, zero)


def transpose(push: Callable, x: jax.Array) -> Callable:
    """w → Jᵀ w of a linear function of vectors like x."""
    transposed = jax.linear_transpose(push, x)
    return lambda w: transposed(w)[0]


def cgls(push: Callable, pull: Callable, right: jax.Array, x: jax.Array, shift, tolerance, limit):
    """min ‖J x − right‖² + shift ‖x‖² from zero; also the number of iterations.

    Björck, Numerical methods for least squares problems, 1996, algorithm 7.4.1. Stops when the
    gradient has fallen by ``tolerance``.
    """
    s = pull(right)
    gamma = jnp.sum(s**2)

    def body(state):
        k, x, r, p, gamma = state
        q = push(p)
        alpha = gamma / (jnp.sum(q**2) + shift * jnp.sum(p**2))
        x, r = x + alpha * p, r - alpha * q
        s = pull(r) - shift * x
        new = jnp.sum(s**2)
        return k + 1, x, r, s + new / gamma * p, new

    def goes_on(state):
        return (state[0] < limit) & (state[4] > tolerance**2 * gamma) & (state[4] > 0)

    start = (jnp.int32(0), jnp.zeros_like(x), right, s, gamma)
    k, x, *_ = jax.lax.while_loop(goes_on, body, start)
    return x, k


def improve(f: Callable, state: Search, goal: jax.Array, scale: jax.Array, limit: int) -> Search:
    """Levenberg–Marquardt until ‖f‖ ≤ goal, nothing helps any more, or ``limit`` steps.

    Damping falls with the residual, so convergence is quadratic (Yamashita & Fukushima, 2001).
    Up to ``DENSE`` unknowns the Jacobian's singular values solve each step exactly; beyond, CGLS
    does, only as exactly as the residual deserves, and no matrix is formed.

    Args:
        f: x → residual (m,).
        state: from :func:`begin`, or from an earlier search.
        goal: wanted ‖f‖, ().
        scale: ‖y‖, against which the residual is small or not, ().
        limit: most steps.
    """
    dense = max(state.x.shape[0], state.residual.shape[0]) <= DENSE
    unit = jnp.finfo(state.x.dtype).eps

    def body(s: Search) -> Search:
        r, push = jax.linearize(f, s.x)
        relative = jnp.minimum(jnp.linalg.norm(r) / scale, 1)

        pull = transpose(push, s.x)

        if dense:
            u, values, vt = jnp.linalg.svd(jacobian(push, s.x), full_matrices=False)
            shift = s.damping * relative * values[0] ** 2 + (unit * values[0]) ** 2
            inner = values * (u.T @ r)
            step = -vt.T @ (inner / jnp.where(shift == 0, 1, values**2 + shift))
            slope, cost = jnp.linalg.norm(vt.T @ inner), jnp.int32(s.x.shape[0])
            flat = slope <= 10 * unit * values[0] * jnp.linalg.norm(r)
        else:
            down = pull(r)
            squared = jnp.sum(down**2) / jnp.sum(r**2)
            shift = s.damping * relative * squared
            tolerance = jnp.clip(relative, 10 * unit, 0.1)
            step, count = cgls(push, pull, -r, s.x, shift, tolerance, 200)
            cost, flat = 2 * count + 1, squared == 0
        there = s.x + step
        found = f(there)
        better = jnp.sum(found**2) < jnp.sum(r**2)
        small = jnp.linalg.norm(step) <= unit * jnp.linalg.norm(s.x)
        hopeless = ~better & (s.damping > 1e8)
        return Search(
            jnp.where(better, there, s.x),
            jnp.where(better, found, r),
            jnp.clip(s.damping * jnp.where(better, 0.2, 10).astype(s.x.dtype), 1e-6, 1e9),
            flat | hopeless | (small & ~better),
            s.evaluations + cost + 2,
            s.steps + 1,
        )

    first = state.steps

    def goes_on(s: Search):
        return ~(jnp.linalg.norm(s.residual) <= goal) & ~s.stuck & (s.steps - first < limit)

    return jax.lax.while_loop(goes_on, body, state)


def descend(f: Callable, x: jax.Array, steps: int, rate: float = 0.05) -> jax.Array:
    """Adam on ½‖f(x)‖²: slow, but it leaves basins that Newton's method does not."""
    return adam(lambda x, _: 0.5 * jnp.sum(f(x) ** 2), x, jnp.arange(steps), rate)


def restart(
    f: Callable, state: Search, goal: jax.Array, scale: jax.Array, limit: int, tries: int, key
) -> Search:
    """While the goal is not met: a random start, Adam, Levenberg–Marquardt; keep the best."""

    def body(carry):
        k, best = carry
        start = jax.random.normal(jax.random.fold_in(key, k), best.x.shape, best.x.dtype)
        there = improve(f, begin(f, descend(f, start, 100)), goal, scale, limit)
        used = best.evaluations + there.evaluations + 200
        better = jnp.sum(there.residual**2) < jnp.sum(best.residual**2)
        better = better | ~jnp.all(jnp.isfinite(best.residual))
        best = jax.tree.map(lambda a, b: jnp.where(better, a, b), there, best)
        return k + 1, best.replace(evaluations=used)

    def goes_on(carry):
        k, best = carry
        return (k < tries) & ~(jnp.linalg.norm(best.residual) <= goal)

    return jax.lax.while_loop(goes_on, body, (jnp.int32(0), state))[1]


def assess(f: Callable, state: Search, noise: jax.Array):
    """‖x − x*‖ by one more Newton step and rounding of y, and n − rank of the Jacobian.

    Args:
        noise: standard deviation of each entry's rounding, (m,).
    """
    push = jax.linearize(f, state.x)[1]
    n, m = state.x.shape[0], state.residual.shape[0]
    if max(n, m) <= DENSE:
        matrix = jnp.nan_to_num(jacobian(push, state.x))
        u, values, _vt = jnp.linalg.svd(matrix, full_matrices=False)
        unit = jnp.finfo(values.dtype).eps
        kept = values > max(n, m) * unit * values[0]
        inverse = jnp.where(kept, 1 / jnp.where(kept, values, 1), 0)
        step = inverse * (u.T @ state.residual)
        spread = (inverse[:, None] * u.T) * noise
        error = jnp.sqrt(jnp.sum(step**2) + jnp.sum(spread**2))
        return error, n - jnp.sum(kept, dtype=jnp.int32)

    pull = transpose(push, state.x)
    drawn = jax.random.normal(jax.random.key(1), (m,), noise.dtype)
    step, _ = cgls(push, pull, state.residual + noise * drawn, state.x, 0.0, 1e-2, 50)
    return jnp.linalg.norm(step), jnp.int32(max(n - m, 0))
