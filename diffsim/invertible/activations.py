"""Monotone functions of each entry, with their inverses and what their outputs can reach."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from diffsim import _check
from diffsim._types import ArrayLike, Tree
from diffsim.invertible.base import Layer, parameter

DOMAINS = ("raise", "clip")


class Activation(Layer):
    """y_i = φ(x_i), φ increasing, of vectors of any size.

    Args:
        domain: what the inverse does with a target that φ never reaches: "raise" raises, or
            where it is traced gives NaN; "clip" takes the nearest number that is reached.

    Attributes:
        reach: the open interval of outputs.
    """

    structured = True
    reach: ClassVar[tuple[float, float]] = (-jnp.inf, jnp.inf)

    def __init__(self, *, domain: str = "raise"):
        if domain not in DOMAINS:
            raise ValueError(f"domain: expected one of {DOMAINS}, got {domain!r}")
        self.domain = domain

    @classmethod
    def random(cls, size: int, *, rngs: nnx.Rngs, dtype: DTypeLike | None = None) -> "Activation":
        return cls()

    def ends(self, dtype: DTypeLike) -> list[jax.Array]:
        """The least and the largest number inside ``reach``: next to 0 the smallest normal one."""
        tiny = jnp.finfo(dtype).tiny  # what is smaller becomes 0 in arithmetic
        low, high = (jnp.asarray(end, dtype) for end in self.reach)
        inner = (low, jnp.nextafter(low, high), tiny), (high, jnp.nextafter(high, low), -tiny)
        return [jnp.where(end == 0, least, near).astype(dtype) for end, near, least in inner]

    def reached(self, y: jax.Array) -> jax.Array:
        """The mask of targets inside ``reach``."""
        low, high = self.ends(y.dtype)
        return (y >= low) & (y <= high)

    def preimage(self, y: jax.Array) -> jax.Array:
        """φ⁻¹(y), entry by entry, of what is in reach."""
        raise NotImplementedError

    def inverse(self, y: jax.Array, factor: Tree = None) -> jax.Array:
        inside = self.reached(y)
        if self.domain == "clip":
            return self.preimage(self.clipped(y))
        if not isinstance(y, jax.core.Tracer) and not bool(jnp.all(inside | ~jnp.isfinite(y))):
            where = jnp.flatnonzero(~inside).tolist()
            raise ValueError(
                f"y: {type(self).__name__} reaches the open interval {self.reach}, got "
                f"{y[jnp.array(where)].tolist()} at {where}; domain='clip' takes the nearest"
            )
        return self.preimage(jnp.where(inside, y, jnp.nan))

    def clipped(self, y: jax.Array) -> jax.Array:
        """The nearest numbers that are reached."""
        return jnp.clip(y, *self.ends(y.dtype))

    def log_slope(self, x: jax.Array) -> jax.Array:
        """log φ'(x), entry by entry."""
        raise NotImplementedError

    def log_det(self, x: jax.Array) -> jax.Array:
        return jnp.sum(self.log_slope(x))

    def condition(self, x: jax.Array | None = None) -> jax.Array:
        """max φ' / min φ' over the entries of x."""
        if x is None:
            raise ValueError(f"x: {type(self).__name__} has no size, expected a point")
        logs = self.log_slope(x)
        return jnp.exp(jnp.max(logs) - jnp.min(logs))


class Tanh(Activation):
    """y = tanh x; in float32 it is ±1, from which nothing comes back, beyond |x| = 7.99.

    Where such x occur, carry log(1 − |y|) beside y: ``carry`` and ``inverse_carried``.

    >>> Tanh().inverse(jnp.array([2.0]))
    Traceback (most recent call last):
    ...
    ValueError: y: Tanh reaches the open interval (-1.0, 1.0), got [2.0] at [0]; ...
    """

    reach = (-1.0, 1.0)

    def forward(self, x: jax.Array) -> jax.Array:
        return jnp.tanh(x)

    def preimage(self, y: jax.Array) -> jax.Array:
        return jnp.arctanh(y)

    def log_slope(self, x: jax.Array) -> jax.Array:
        return 2 * (jnp.log(2.0).astype(x.dtype) - jnp.abs(x) - jax.nn.softplus(-2 * jnp.abs(x)))

    def carry(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """tanh x and log(1 − |tanh x|) = log 2 − softplus(2|x|), which does not saturate."""
        return jnp.tanh(x), jnp.log(2.0).astype(x.dtype) - jax.nn.softplus(2 * jnp.abs(x))

    def inverse_carried(self, y: jax.Array, gap: jax.Array) -> jax.Array:
        """x = sign(y) (log(1 + |y|) − gap) / 2 of what ``carry`` gave.

        >>> x = jnp.array([-30.0, 0.5])
        >>> bool(jnp.allclose(Tanh().inverse_carried(*Tanh().carry(x)), x))
        True
        """
        return jnp.sign(y) * (jnp.log1p(jnp.abs(y)) - gap) / 2


class Sigmoid(Activation):
    """y = 1 / (1 + exp(−x))."""

    reach = (0.0, 1.0)

    def forward(self, x: jax.Array) -> jax.Array:
        return jax.nn.sigmoid(x)

    def preimage(self, y: jax.Array) -> jax.Array:
        return jnp.log(y) - jnp.log1p(-y)

    def log_slope(self, x: jax.Array) -> jax.Array:
        return -jax.nn.softplus(x) - jax.nn.softplus(-x)


class Softplus(Activation):
    """y = log(1 + exp x)."""

    reach = (0.0, jnp.inf)

    def forward(self, x: jax.Array) -> jax.Array:
        return jax.nn.softplus(x)

    def preimage(self, y: jax.Array) -> jax.Array:
        return y + jnp.log(-jnp.expm1(-y))

    def log_slope(self, x: jax.Array) -> jax.Array:
        return -jax.nn.softplus(-x)


class Elu(Activation):
    """y = x for x > 0, exp(x) − 1 below."""

    reach = (-1.0, jnp.inf)

    def forward(self, x: jax.Array) -> jax.Array:
        return jax.nn.elu(x)

    def preimage(self, y: jax.Array) -> jax.Array:
        return jnp.where(y > 0, y, jnp.log1p(jnp.where(y > 0, 0, y)))

    def log_slope(self, x: jax.Array) -> jax.Array:
        return jnp.minimum(x, 0)


class LeakyRelu(Activation):
    """y = x for x ≥ 0, a x below.

    Args:
        slope: a > 0.
    """

    def __init__(self, slope: float = 0.01, *, domain: str = "raise"):
        super().__init__(domain=domain)
        if not 0 < slope < jnp.inf:
            raise ValueError(f"slope: expected > 0, got {slope}")
        self.slope = float(slope)

    def forward(self, x: jax.Array) -> jax.Array:
        return jnp.where(x >= 0, x, self.slope * x)

    def preimage(self, y: jax.Array) -> jax.Array:
        return jnp.where(y >= 0, y, y / self.slope)

    def log_slope(self, x: jax.Array) -> jax.Array:
        return jnp.where(x >= 0, 0, jnp.log(self.slope)).astype(x.dtype)


class Asinh(Activation):
    """y = asinh x: like a logarithm far out, without saturation."""

    def forward(self, x: jax.Array) -> jax.Array:
        return jnp.arcsinh(x)

    def preimage(self, y: jax.Array) -> jax.Array:
        return jnp.sinh(y)

    def log_slope(self, x: jax.Array) -> jax.Array:
        return -0.5 * jnp.log1p(x**2)


class Cubic(Activation):
    """y = x + a x³, a > 0, inverted by Viète's hyperbolic solution."""

    def __init__(self, cubic: ArrayLike = 0.3, *, domain: str = "raise"):
        super().__init__(domain=domain)
        self.cubic = float(_check.in_range("cubic", cubic, 0.0, open_low=True))

    def forward(self, x: jax.Array) -> jax.Array:
        return x + self.cubic * x**3

    def preimage(self, y: jax.Array) -> jax.Array:
        root = (3 * self.cubic) ** 0.5
        return 2 / root * jnp.sinh(jnp.arcsinh(1.5 * root * y) / 3)

    def log_slope(self, x: jax.Array) -> jax.Array:
        return jnp.log1p(3 * self.cubic * x**2)


class SinhArcsinh(Activation):
    """y = sinh(δ asinh x + ε): ε skews, δ > 0 sets the tails (Jones & Pewsey, 2009, eq. 1).

    Args:
        skew: ε, ().
        log_tail: log δ, ().
    """

    def __init__(self, skew: ArrayLike = 0.3, log_tail: ArrayLike = 0.2, *, domain: str = "raise"):
        super().__init__(domain=domain)
        self.skew, self.log_tail = parameter("skew", skew, ()), parameter("log_tail", log_tail, ())

    @classmethod
    def random(cls, size: int, *, rngs: nnx.Rngs, dtype: DTypeLike | None = None) -> "SinhArcsinh":
        return cls(*(0.3 * jax.random.normal(rngs.params(), (2,), dtype)))

    def _inner(self, x: jax.Array) -> jax.Array:
        return jnp.exp(self.log_tail[...]) * jnp.arcsinh(x) + self.skew[...]

    def forward(self, x: jax.Array) -> jax.Array:
        return jnp.sinh(self._inner(x))

    def preimage(self, y: jax.Array) -> jax.Array:
        return jnp.sinh((jnp.arcsinh(y) - self.skew[...]) * jnp.exp(-self.log_tail[...]))

    def log_slope(self, x: jax.Array) -> jax.Array:
        inner = jnp.abs(self._inner(x))
        log_cosh = inner + jax.nn.softplus(-2 * inner) - jnp.log(2.0).astype(x.dtype)
        return log_cosh + self.log_tail[...] - 0.5 * jnp.log1p(x**2)
