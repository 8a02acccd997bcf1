"""A polynomial in phase for each coordinate."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from diffsim.motion import base
from diffsim.motion.piecewise import Piecewise, centred


@struct.dataclass
class Polynomial(base.Generator):
    """q(t) = home + scale Σ_k w_k (t/duration)^k, k from 1, or 2 where it starts at rest.

    The weights are (w_k) in rising k, one row of six each: 6 (degree − 1) of them at rest, 6 degree
    else.

    Attributes:
        degree: of the polynomial.
        at_rest: whether the initial velocity is zero.
    """

    degree: int = struct.field(pytree_node=False)
    at_rest: bool = struct.field(pytree_node=False)

    @classmethod
    def create(cls, degree: int = 5, at_rest: bool = True, **settings: Any) -> "Polynomial":
        """A polynomial generator.

        Args:
            degree: at least 1, or 2 where it starts at rest.
            at_rest: start with zero velocity.
            settings: duration, home, normal and scale, see :func:`diffsim.motion.base.settings`.

        Raises:
            ValueError: a setting is out of range.

        >>> import jax.numpy as jnp
        >>> path = Polynomial.create(degree=2, duration=0.5)(jnp.ones(6))
        >>> [round(float(x), 4) for x in path(0.25).velocity]
        [0.4, 0.4, 0.4]
        """
        degree = base.count("degree", degree, 1 + at_rest)
        return cls(**base.settings(**settings), degree=degree, at_rest=at_rest)

    @property
    def weight_count(self) -> int:
        return self.axes * (self.degree - self.at_rest)

    @property
    def starts_at_rest(self) -> bool:
        return self.at_rest

    def curve(self, weights: jax.Array) -> Piecewise:
        rows = self.displacements(weights)
        still = jnp.zeros((int(self.at_rest), self.axes), weights.dtype)
        return Piecewise(centred(jnp.concatenate([self.home[None], still, rows]))[None])
