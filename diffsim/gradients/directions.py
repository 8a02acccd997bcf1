"""Families of random directions v with E[v vᵀ] = I, so that E[(g·v) v] = g."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from diffsim.gradients.base import check_count


class Directions:
    """A family: ``draw`` gives a block of k directions that belong together, (k, d).

    Blocks are independent of each other, directions inside one need not be.
    """

    def size(self, dimension: int) -> int:
        """k, the directions in one block."""
        return 1

    def draw(self, key: jax.Array, dimension: int, dtype) -> jax.Array:
        raise NotImplementedError


@struct.dataclass
class GaussianDirections(Directions):
    """v ~ N(0, I). Variance (d+1)G a direction."""

    def draw(self, key, dimension, dtype):
        return jax.random.normal(key, (1, dimension), dtype)


@struct.dataclass
class Rademacher(Directions):
    """v_i = ±1. Variance (d−1)G a direction, the least of any independent family."""

    def draw(self, key, dimension, dtype):
        return jax.random.rademacher(key, (1, dimension), dtype)


@struct.dataclass
class Sphere(Directions):
    """v uniform on the sphere of radius √d. Variance (d−1)G a direction."""

    def draw(self, key, dimension, dtype):
        normal = jax.random.normal(key, (1, dimension), dtype)
        return normal * (dimension**0.5 / jnp.linalg.norm(normal))


@struct.dataclass
class Haar(Directions):
    """k orthogonal directions of length √d, uniform (Haar). Variance (d/k − 1)G a block.

    Attributes:
        count: k, at most d; None for d, which gives the exact gradient of a linear loss.

    Source: Choromanski et al. 2018, "Structured evolution with compact architectures".
    """

    count: int | None = struct.field(pytree_node=False, default=None)

    def size(self, dimension):
        count = dimension if self.count is None else self.count
        if count > dimension:
            raise ValueError(f"count: expected at most d = {dimension}, got {count}")
        check_count("count", count)
        return count

    def draw(self, key, dimension, dtype):
        normal = jax.random.normal(key, (dimension, self.size(dimension)), dtype)
        basis, triangle = jnp.linalg.qr(normal)
        sign = jnp.where(jnp.diagonal(triangle) < 0, -1, 1).astype(dtype)
        return dimension**0.5 * (basis * sign).T


@struct.dataclass
class Hadamard(Directions):
    """k rows of a Hadamard matrix, drawn without repetition, columns with random signs.

    The order p is the next power of two, the columns the first d. All p rows give the exact
    gradient of a linear loss; for d = p the variance is (d/k − 1)G a block. No QR, all entries ±1.

    Attributes:
        count: k, at most p; None for p.
    """

    count: int | None = struct.field(pytree_node=False, default=None)

    def size(self, dimension):
        order = 1 << (dimension - 1).bit_length()
        count = order if self.count is None else self.count
        if count > order:
            raise ValueError(f"count: expected at most p = {order}, got {count}")
        check_count("count", count)
        return count

    def draw(self, key, dimension, dtype):
        order = 1 << (dimension - 1).bit_length()
        sign_key, row_key = jax.random.split(key)
        sign = jax.random.rademacher(sign_key, (dimension,), dtype)
        rows = jax.random.permutation(row_key, order)[: self.size(dimension), None]
        shared = jax.lax.population_count(rows & jnp.arange(dimension))
        return sign * (1 - 2 * (shared & 1)).astype(dtype)


@struct.dataclass
class QuasiRandom(Directions):
    """k Gaussian directions from a randomly shifted Kronecker sequence: v = Φ⁻¹({i√p_j + u_j}).

    Every point is standard normal, so the estimate is unbiased; the points of a block avoid each
    other, so a block of k varies less than k independent draws while d is small against k.

    Attributes:
        count: k, directions in a block.

    Source: Richtmyer 1951; Cranley & Patterson 1976 for the shift.
    """

    count: int = struct.field(pytree_node=False, default=16)

    def size(self, dimension):
        check_count("count", self.count)
        return self.count

    def draw(self, key, dimension, dtype):
        index = np.arange(self.count, dtype=np.float64)[:, None]
        lattice = (index * np.sqrt(_primes(dimension))) % 1.0
        shift = jax.random.uniform(key, (dimension,), dtype)
        uniform = (jnp.asarray(lattice, dtype) + shift) % 1.0
        tiny = jnp.finfo(dtype).eps
        return jax.scipy.special.ndtri(jnp.clip(uniform, tiny, 1 - tiny))


def _primes(count: int) -> np.ndarray:
    """The first primes, by a sieve: the n-th is at most 1 + n times the bits of n."""
    sieve = np.ones(count * count.bit_length() + 2, dtype=bool)
    sieve[:2] = False
    for k in range(2, math.isqrt(sieve.size) + 1):
        if sieve[k]:
            sieve[k * k :: k] = False
    return np.flatnonzero(sieve)[:count].astype(np.float64)
