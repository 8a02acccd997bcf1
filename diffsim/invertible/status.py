"""What an inversion returns: x, how far to trust it, and why not."""

import enum

import jax
import jax.numpy as jnp
from flax import struct

from diffsim import _show


class InversionStatus(enum.IntEnum):
    """How one sample's inversion ended."""

    OK = 0
    CLIPPED = 1  # the target was moved into the reach of an activation, as was asked
    LEAST_SQUARES = 2  # more outputs than inputs: the nearest reachable output was found
    ILL_CONDITIONED = 3  # the error estimate exceeds a tenth of x
    SINGULAR = 4  # the weights, or the Jacobian at x, have lost rank
    OUT_OF_RANGE = 5  # an activation never reaches the target
    NOT_CONVERGED = 6
    NOT_FINITE = 7  # the target, or the network wherever it was tried, is not

    @classmethod
    def first(cls, **conditions: jax.Array) -> jax.Array:
        """The first status whose condition holds, OK if none does, () int32."""
        codes = [cls[name].value for name in conditions]
        return jnp.select([*conditions.values()], codes, cls.OK.value).astype(jnp.int32)


@struct.dataclass
class Inversion:
    """x with network(x) ≈ y, for one y or, with a leading axis on every field, for a batch.

    Attributes:
        x: (n,); NaN where there is none to give.
        residual: ‖network(x) − y‖₂, ().
        error: estimate of ‖x − x*‖₂, x* the nearest preimage of y before it was rounded, ().
        status: a :class:`InversionStatus`, () int32.
        free: n − rank of the Jacobian: directions in which x may move without changing y, ().
        layer: the layer (from 0) whose inverse magnifies relative errors most, −1 where layers
            were not used, () int32.
        evaluations: calls of the network, of its derivative and of the transposed one, () int32.
    """

    x: jax.Array
    residual: jax.Array
    error: jax.Array
    status: jax.Array
    free: jax.Array
    layer: jax.Array
    evaluations: jax.Array

    def __repr__(self) -> str:
        known = _show.concrete(self.status)
        status = _show.counts(InversionStatus, self.status) if known else self.status
        names = ("x", "residual", "error", "free", "evaluations")
        fields = {name: getattr(self, name) for name in names}
        return _show.record("Inversion", status=status, **fields)


@struct.dataclass
class Preimages:
    """What was found from several starts.

    Attributes:
        x: one row a start, (s, n).
        residual: ‖network(x) − y‖₂ of each, (s,).
        distinct: the rows that solve the equation and are not near an earlier one, (s,) bool.
    """

    x: jax.Array
    residual: jax.Array
    distinct: jax.Array

    def points(self) -> jax.Array:
        """The distinct preimages, (k, n); not under jit, as k is data."""
        return self.x[self.distinct]
