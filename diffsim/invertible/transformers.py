"""Increasing maps of one number with parameters given from outside, for coupling layers."""

from typing import Protocol

import jax
import jax.numpy as jnp
from flax import struct


class Transformer(Protocol):
    """An increasing map τ(x; p) of one number, p (count,)."""

    @property
    def count(self) -> int:
        """How many parameters it takes."""

    def forward(self, x: jax.Array, p: jax.Array) -> jax.Array:
        """y = τ(x; p)."""

    def inverse(self, y: jax.Array, p: jax.Array) -> jax.Array:
        """x with τ(x; p) = y."""

    def log_slope(self, x: jax.Array, p: jax.Array) -> jax.Array:
        """log ∂τ/∂x."""


@struct.dataclass
class Additive:
    """y = x + p (NICE, eq. 5)."""

    count: int = struct.field(pytree_node=False, default=1)

    def forward(self, x: jax.Array, p: jax.Array) -> jax.Array:
        return x + p[0]

    def inverse(self, y: jax.Array, p: jax.Array) -> jax.Array:
        return y - p[0]

    def log_slope(self, x: jax.Array, p: jax.Array) -> jax.Array:
        return jnp.zeros_like(x)


@struct.dataclass
class Affine:
    """y = exp(s) x + t, s = bound · tanh(p₀ / bound) (RealNVP, eq. 4)."""

    bound: float = struct.field(pytree_node=False, default=2.0)
    count: int = struct.field(pytree_node=False, default=2)

    def _log_scale(self, p: jax.Array) -> jax.Array:
        return self.bound * jnp.tanh(p[0] / self.bound)

    def forward(self, x: jax.Array, p: jax.Array) -> jax.Array:
        return jnp.exp(self._log_scale(p)) * x + p[1]

    def inverse(self, y: jax.Array, p: jax.Array) -> jax.Array:
        return (y - p[1]) * jnp.exp(-self._log_scale(p))

    def log_slope(self, x: jax.Array, p: jax.Array) -> jax.Array:
        return self._log_scale(p) + jnp.zeros_like(x)


@struct.dataclass
class Spline:
    """Rational-quadratic spline on [−bound, bound], the identity outside.

    Durkan et al., Neural spline flows, 2019, eqs. 4 and 6; bins and slopes have a least size.

    Attributes:
        bins: how many, ≥ 1.
        bound: half the width of what the spline changes, > 0.
        least: least share of a bin in the width and in the height, and least slope, in (0, 1);
            bins · least ≤ 1, as shares that sum to more than 1 are not increasing.

    Raises:
        ValueError: settings outside of these.

    >>> Spline(bins=200)
    Traceback (most recent call last):
    ...
    ValueError: bins, least: expected bins · least ≤ 1, got 200 · 0.01
    """

    bins: int = struct.field(pytree_node=False, default=6)
    bound: float = struct.field(pytree_node=False, default=4.0)
    least: float = struct.field(pytree_node=False, default=1e-2)

    def __post_init__(self):
        if self.bins < 1 or not (0 < self.bound < float("inf") and 0 < self.least < 1):
            raise ValueError(
                "bins, bound, least: expected ≥ 1, finite > 0 and in (0, 1), got "
                f"{self.bins}, {self.bound}, {self.least}"
            )
        if self.bins * self.least > 1:
            raise ValueError(
                f"bins, least: expected bins · least ≤ 1, got {self.bins} · {self.least}"
            )

    @property
    def count(self) -> int:
        return 3 * self.bins - 1

    def _knots(self, p: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """x and y of the knots and the slopes there, each (bins + 1,)."""

        def edges(raw):
            share = self.least + (1 - self.least * self.bins) * jax.nn.softmax(raw)
            inner = jnp.cumsum(share)[:-1] * (2 * self.bound) - self.bound
            ends = jnp.array([-self.bound, self.bound], raw.dtype)
            return jnp.concatenate([ends[:1], inner, ends[1:]])

        widths, heights, raw = p[: self.bins], p[self.bins : 2 * self.bins], p[2 * self.bins :]
        inner = self.least + (1 - self.least) * jax.nn.softplus(raw) / jnp.log(2.0).astype(p.dtype)
        return edges(widths), edges(heights), jnp.pad(inner, 1, constant_values=1)

    def _bin(self, value: jax.Array, knots: int, p: jax.Array):
        """Inside or not, the value moved inside, and the bin's corner, sizes and slopes."""
        inside = jnp.abs(value) < self.bound
        value = jnp.where(inside, value, 0)
        x, y, slope = self._knots(p)
        k = jnp.clip(jnp.sum(value >= (x, y)[knots]) - 1, 0, self.bins - 1)
        width, height = x[k + 1] - x[k], y[k + 1] - y[k]
        return inside, value, x[k], y[k], width, height, height / width, slope[k], slope[k + 1]

    def forward(self, x: jax.Array, p: jax.Array) -> jax.Array:
        inside, v, x0, y0, width, height, s, d0, d1 = self._bin(x, 0, p)
        t = (v - x0) / width
        top = height * (s * t**2 + d0 * t * (1 - t))
        return jnp.where(inside, y0 + top / (s + (d1 + d0 - 2 * s) * t * (1 - t)), x)

    def inverse(self, y: jax.Array, p: jax.Array) -> jax.Array:
        inside, v, x0, y0, width, height, s, d0, d1 = self._bin(y, 1, p)
        up = v - y0
        bend = d1 + d0 - 2 * s
        a = height * (s - d0) + up * bend
        b = height * d0 - up * bend
        c = -s * up
        t = 2 * c / (-b - jnp.sqrt(jnp.maximum(b**2 - 4 * a * c, 0)))
        return jnp.where(inside, x0 + t * width, y)

    def log_slope(self, x: jax.Array, p: jax.Array) -> jax.Array:
        inside, v, x0, _, width, _, s, d0, d1 = self._bin(x, 0, p)
        t = (v - x0) / width
        top = s**2 * (d1 * t**2 + 2 * s * t * (1 - t) + d0 * (1 - t) ** 2)
        slope = top / (s + (d1 + d0 - 2 * s) * t * (1 - t)) ** 2
        return jnp.where(inside, jnp.log(slope), 0)
