"""How far a mean of random vectors may be from its expectation, but for a failure probability."""

import math

import jax
import jax.numpy as jnp
from flax import struct

from diffsim._types import ArrayLike
from diffsim.gradients import mixtures


@struct.dataclass
class Bernstein:
    """The ε for which (d + 1) exp(−½ n ε² / (v + L ε/3)) = δ: no law is assumed but L.

    v is the trace of the covariance of one term, measured on the terms.

    Attributes:
        largest: L, a bound on ‖term − E term‖; None for the largest distance from the mean among
            the terms themselves, which a longer run would exceed.

    Source: Tropp 2015, "An Introduction to Matrix Concentration Inequalities", theorem 6.1.1;
    used on the score function by Suh et al. 2022, arXiv 2202.00817.

    >>> round(float(Bernstein(1.0)(jnp.array([[1.0], [-1.0]] * 50), 0.05)), 4)
    0.2856
    """

    largest: ArrayLike | None = None

    def __call__(self, terms: jax.Array, failure: float) -> jax.Array:
        """ε for terms (n, d), rows that are not finite left out."""
        keep = jnp.all(jnp.isfinite(terms), axis=1)
        count = jnp.sum(keep).astype(terms.dtype)
        if self.largest is None:
            away = jnp.where(keep[:, None], terms - mixtures.mean(terms), 0)
            largest = jnp.sqrt(jnp.max(jnp.sum(away**2, axis=1)))
        else:
            largest = jnp.asarray(self.largest).astype(terms.dtype)
        log = math.log((terms.shape[1] + 1) / failure)
        linear = largest * log / 3
        return (linear + jnp.sqrt(linear**2 + 2 * count * mixtures.spread(terms) * log)) / count


@struct.dataclass
class SubGaussian:
    """ε = √(v/n) (1 + √(2 ln 1/δ)): the mean of Gaussian vectors, or of very many others.

    Source: Boucheron, Lugosi & Massart 2013, "Concentration Inequalities", theorem 5.6.
    """

    def __call__(self, terms: jax.Array, failure: float) -> jax.Array:
        """ε for terms (n, d), rows that are not finite left out."""
        count = jnp.sum(jnp.all(jnp.isfinite(terms), axis=1)).astype(terms.dtype)
        return jnp.sqrt(mixtures.spread(terms) / count) * (1 + math.sqrt(-2 * math.log(failure)))
