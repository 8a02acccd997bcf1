"""Probabilistic movement primitives: a Gaussian basis, and Gaussians over its weights."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from diffsim import _check
from diffsim.motion import base
from diffsim.motion.gaussian import WeightGaussian


@struct.dataclass
class GaussianMixture:
    """q(s) = home + Σ_k φ_k(s) rows_k with the normalised Gaussian basis φ.

    Attributes:
        home: (6,).
        rows: (basis functions, 6).
        width: standard deviation of the basis functions, in phase.
    """

    home: jax.Array
    rows: jax.Array
    width: jax.Array

    def __call__(self, phase: jax.Array) -> jax.Array:
        weighting = basis(phase, self.rows.shape[0], self.width)
        return self.home + jnp.sum(weighting[:, None] * self.rows, axis=0)


@struct.dataclass
class ProMP(base.Generator):
    """q(t) = home + scale Σ_k φ_k(t/duration) w_k with normalised Gaussians φ_k.

    The weights are (w_k), one row of six a basis function. The start is not tied to home: condition
    on it where it must be.

    Attributes:
        width: standard deviation of the basis functions, in phase.
        basis_count: number of them; their centres are evenly spaced from phase 0 to 1.

    Source: A. Paraschos, C. Daniel, J. Peters, G. Neumann, Probabilistic movement primitives,
        NIPS 2013, sec. 2.
    """

    width: jax.Array
    basis_count: int = struct.field(pytree_node=False)

    @classmethod
    def create(cls, basis_count: int = 8, width: Any = None, **settings: Any) -> "ProMP":
        """A ProMP generator.

        Args:
            basis_count: number of basis functions, at least 2.
            width: their standard deviation, in phase; None is the spacing of their centres.
            settings: duration, home, normal and scale, see :func:`diffsim.motion.base.settings`.

        Raises:
            ValueError: a setting is out of range.

        >>> import jax, jax.numpy as jnp
        >>> promp = ProMP.create(basis_count=5)
        >>> prior = WeightGaussian.create(jnp.zeros(30), jnp.eye(30))
        >>> hit = promp.condition(prior, 0.5, jnp.full(6, 0.1), jnp.zeros((6, 6)))
        >>> path = promp(hit.sample(jax.random.key(0)))
        >>> [round(float(x), 4) for x in path(0.5).position]
        [0.1, 0.1, 0.1]
        """
        basis_count = base.count("basis_count", basis_count, 2)
        width = 1 / (basis_count - 1) if width is None else width
        return cls(
            **base.settings(**settings),
            width=base.setting("width", width, positive=True),
            basis_count=basis_count,
        )

    @property
    def weight_count(self) -> int:
        return self.axes * self.basis_count

    @property
    def starts_at_rest(self) -> bool:
        return False

    def curve(self, weights: jax.Array) -> GaussianMixture:
        return GaussianMixture(self.home, self.displacements(weights), self.width)

    def condition(
        self, weights: WeightGaussian, time: Any, value: Any, covariance: Any
    ) -> WeightGaussian:
        """The Gaussian over weights, given where the path is at a time.

        Args:
            weights: the Gaussian before, over weight_count weights.
            time: of the via point, s.
            value: coordinates (6,) there, or coordinates and their time derivatives (12,).
            covariance: of the value, positive semidefinite, (6, 6) or (12, 12).

        Returns:
            The Gaussian after.

        Raises:
            ValueError: a shape does not fit.
        """
        mean = _check.floating("mean", weights.mean, (self.weight_count,))
        value = _check.floating("value", value).astype(mean.dtype)
        if value.shape not in ((self.axes,), (2 * self.axes,)):
            raise ValueError(
                f"value: expected shape ({self.axes},) or ({2 * self.axes},), got {value.shape}"
            )
        covariance = _check.floating("covariance", covariance, value.shape * 2).astype(mean.dtype)
        time = jnp.asarray(time, mean.dtype)

        def seen(weights):
            place, rate = jax.jvp(self(weights).coordinates, (time,), (jnp.ones_like(time),))
            return jnp.concatenate([place, rate])[: len(value)]

        start = seen(jnp.zeros_like(mean))
        return weights.condition(jax.jacfwd(seen)(mean), value - start, covariance)


def basis(phase: jax.Array, number: int, width: jax.Array) -> jax.Array:
    """Gaussians of one width centred evenly on [0, 1], scaled to sum to 1, (number,)."""
    centres = jnp.linspace(0.0, 1.0, number, dtype=phase.dtype)
    return jax.nn.softmax(-((phase - centres) ** 2) / (2 * width**2))
