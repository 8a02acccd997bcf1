"""Step sizes of finite differences: by dtype, and by the noise measured in the loss."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from diffsim._types import ArrayLike, Tree
from diffsim.gradients.flat import flatten

CENTRAL = {"float64": 4e-6, "float32": 4e-3}
RICHARDSON = {"float64": 1e-3, "float32": 6e-2}
TRUNCATED = "where the loss curves within a step, which its interval does not show"


def default_step(table: dict[str, float], dtype: DTypeLike, power: float = 1 / 3) -> float:
    """The table's step, or ε^power for a type it does not list."""
    name = jnp.dtype(dtype).name
    return table.get(name, float(jnp.finfo(dtype).eps) ** power)


def scaled(step: ArrayLike, x: jax.Array) -> jax.Array:
    """h_i = step · max(1, |x_i|)."""
    return jnp.asarray(step).astype(x.dtype) * jnp.maximum(1, jnp.abs(x))


def noise_optimal_step(noise: ArrayLike, third_derivative: ArrayLike) -> jax.Array:
    """h* = (3 η / |f‴|)^{1/3}, where truncation h²|f‴|/6 plus noise η/h is least.

    Args:
        noise: η, absolute error of one evaluation, in units of f.
        third_derivative: |f‴| along the direction.

    >>> round(float(noise_optimal_step(1e-9, 3.0)), 6)
    0.001
    """
    return (3 * jnp.asarray(noise) / jnp.abs(jnp.asarray(third_derivative))) ** (1 / 3)


def measured_noise(values: jax.Array) -> jax.Array:
    """Standard deviation of the noise in losses at equally spaced points, by difference table.

    The k-th differences of a smooth function die out while those of noise grow, so
    η² = γ_k mean (Δᵏf)², γ_k = (k!)²/(2k)!. The highest order is used.

    Args:
        values: (m,) with m ≥ 7, spaced closely enough for f to look like a polynomial.

    Source: Moré & Wild 2011, "Estimating computational noise".

    >>> noisy = jnp.linspace(0.0, 1e-3, 9) + 0.01 * jnp.array([1.0, -1, 1, 1, -1, 1, -1, -1, 1])
    >>> 0.005 < float(measured_noise(noisy)) < 0.02
    True
    """
    if values.ndim != 1 or values.shape[0] < 7:
        raise ValueError(f"values: expected shape (m,) with m >= 7, got {values.shape}")
    order, gamma, differences = 6, 1.0, values
    for k in range(1, order + 1):
        differences = jnp.diff(differences)
        gamma *= k / (2 * (2 * k - 1))
    return jnp.sqrt(gamma * jnp.mean(differences**2))


def measured_step(
    loss: Callable, x: Tree, key: jax.Array, spacing: float | None = None
) -> jax.Array:
    """A central-difference step for a noisy loss, from noise and f‴ measured along one line.

    Args:
        loss: tree → scalar.
        x: tree of floats.
        key: draws the line's direction (unit length in x flattened).
        spacing: of the noise probe; default √ε of the dtype. f‴ is taken at spacings of 2⁻⁴ to
            1, the first whose third difference stands 100 times above the noise.

    Returns:
        h*, to be given to ``CentralDifference(step=...)``; at most 1.
    """
    flat, unravel = flatten("x", x)
    direction = jax.random.normal(key, flat.shape, flat.dtype)
    direction = direction / jnp.linalg.norm(direction)

    def along(distance):
        return loss(unravel(flat + distance * direction))

    close = spacing if spacing is not None else float(jnp.finfo(flat.dtype).eps) ** 0.5
    grid = jnp.arange(-4, 5).astype(flat.dtype)
    values = jax.vmap(along)(close * grid)
    floor = jnp.finfo(flat.dtype).eps * jnp.max(jnp.abs(values))
    noise = jnp.maximum(measured_noise(values), floor)
    widths = 2.0 ** jnp.arange(-4, 1).astype(flat.dtype)
    probes = jax.vmap(lambda h: jax.vmap(along)(h * jnp.array([-2, -1, 1, 2], flat.dtype)))(widths)
    third = jnp.abs(jnp.sum(probes * jnp.array([-0.5, 1, -1, 0.5], flat.dtype), axis=1))
    clear = third > 100 * noise
    chosen = jnp.where(jnp.any(clear), jnp.argmax(clear), widths.size - 1)
    derivative = jnp.maximum(third, noise)[chosen] / widths[chosen] ** 3
    return jnp.minimum(noise_optimal_step(noise, derivative), 1.0)
