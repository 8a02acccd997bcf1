"""A Gaussian over weights, kept as mean and a square root of its covariance."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from diffsim import _check


@struct.dataclass
class WeightGaussian:
    """w = mean + root z with z standard normal, so the covariance is root rootᵀ.

    The root, not the covariance, is kept: samples need no factorisation, so a covariance that
    conditioning made singular does no harm, to values or to gradients.

    Attributes:
        mean: (n,).
        root: (n, r), any r.
    """

    mean: jax.Array
    root: jax.Array

    @classmethod
    def create(cls, mean: Any, covariance: Any) -> "WeightGaussian":
        """From a mean (n,) and a positive semidefinite covariance (n, n).

        Raises:
            ValueError: the shapes do not fit.

        >>> import jax.numpy as jnp
        >>> WeightGaussian.create(jnp.zeros(2), jnp.diag(jnp.array([4.0, 0.0]))).root.tolist()
        [[2.0, 0.0], [0.0, 0.0]]
        """
        mean = _check.floating("mean", mean)
        if mean.ndim != 1:
            raise ValueError(f"mean: expected shape (n,), got {mean.shape}")
        covariance = _check.floating("covariance", covariance, mean.shape * 2)
        return cls(mean, semidefinite_root(covariance.astype(mean.dtype)))

    @property
    def covariance(self) -> jax.Array:
        """root rootᵀ, (n, n)."""
        return _product(self.root, self.root.T)

    def sample(self, key: jax.Array) -> jax.Array:
        """One draw of the weights, (n,), differentiable in mean and root."""
        draw = jax.random.normal(key, self.root.shape[1:], self.mean.dtype)
        return self.mean + _product(self.root, draw)

    def condition(
        self, observation: jax.Array, value: jax.Array, covariance: jax.Array
    ) -> "WeightGaussian":
        """The Gaussian given that H w + noise was seen to be a value.

        K = Σ Hᵀ (H Σ Hᵀ + S)⁻¹, mean + K (value − H mean), (I − K H) Σ (I − K H)ᵀ + K S Kᵀ, which
        equals Σ − K H Σ; in roots, [(I − K H) root, K √S].

        Args:
            observation: H, (m, n).
            value: (m,).
            covariance: S of the noise, positive semidefinite, (m, m); H Σ Hᵀ + S must be regular.

        Source: A. Paraschos et al., Probabilistic movement primitives, NIPS 2013, sec. 2.2,
            conditioning.
        """
        seen = _product(observation, self.root)
        gain = jnp.linalg.solve(_product(seen, seen.T) + covariance, _product(seen, self.root.T)).T
        return WeightGaussian(
            self.mean + _product(gain, value - _product(observation, self.mean)),
            jnp.concatenate(
                [
                    self.root - _product(gain, seen),
                    _product(gain, semidefinite_root(covariance)),
                ],
                axis=1,
            ),
        )


def semidefinite_root(matrix: jax.Array) -> jax.Array:
    """Cholesky root of a positive semidefinite matrix (n, n), zero columns at zero pivots.

    Pivots below n times rounding of the largest diagonal entry count as zero.
    """
    size = matrix.shape[0]
    floor = size * jnp.finfo(matrix.dtype).eps * jnp.max(jnp.diagonal(matrix))

    def eliminate(rest, j):
        positive = rest[j, j] > floor
        column = jnp.where(
            positive, rest[:, j] / jnp.sqrt(jnp.where(positive, rest[j, j], 1.0)), 0.0
        )
        return rest - column * column[:, None], column

    return jnp.tril(jax.lax.scan(eliminate, matrix, jnp.arange(size))[1].T)


def _product(left, right):
    return jnp.matmul(left, right, precision="highest")
