"""Noise laws: what a method draws, where it puts the draw, and how likely the point was."""

from typing import Any, Protocol, Self, runtime_checkable

import jax
import jax.numpy as jnp
from flax import struct
from jax.typing import DTypeLike

from diffsim import _check
from diffsim._types import ArrayLike, Tree


@runtime_checkable
class Law(Protocol):
    """A location family p(point; mean).

    ``sample`` draws noise free of parameters, ``reparameterize`` carries it to a point and is
    differentiable in the mean, ``log_prob`` is the log density (or mass) of a point.
    A law whose noise is symmetric about zero says ``symmetric = True`` and may be used in
    antithetic pairs. One with a field ``sigma`` can have its scale differentiated as well
    (see :class:`Distribution`); one with ``discretize`` rounds the point before the loss sees it.
    """

    def sample(self, key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike) -> jax.Array: ...

    def reparameterize(self, mean: jax.Array, noise: jax.Array) -> jax.Array: ...

    def log_prob(self, point: jax.Array, mean: jax.Array) -> jax.Array: ...


@struct.dataclass
class Distribution:
    """A search distribution as the thing to differentiate: gradients in the mean and the scale.

    Pass it as ``x``: the loss is given points like ``mean``, and the derivative comes back as
    a Distribution.

    Attributes:
        mean: any tree of floats.
        scale: standard deviation (for :class:`Gaussian`): a scalar, or a tree like ``mean``.
    """

    mean: Tree
    scale: ArrayLike


@struct.dataclass
class LocationScale:
    """Symmetric noise: point = mean + σ ε.

    Attributes:
        sigma: scale, in the units of x; a scalar or (d,) for x flattened.
    """

    sigma: ArrayLike = 0.1
    symmetric = True

    @classmethod
    def create(cls, sigma: ArrayLike = 0.1) -> Self:
        """The law of a positive scale.

        Raises:
            ValueError: it is not.
        """
        return cls(_check.in_range("sigma", sigma, 0.0, open_low=True))

    def sample(self, key, shape, dtype):
        raise NotImplementedError

    def log_density(self, noise: jax.Array) -> jax.Array:
        """Of ε, entry by entry."""
        raise NotImplementedError

    def reparameterize(self, mean, noise):
        return mean + jnp.asarray(self.sigma).astype(mean.dtype) * noise

    def log_prob(self, point, mean):
        sigma = jnp.broadcast_to(jnp.asarray(self.sigma).astype(mean.dtype), mean.shape)
        return jnp.sum(self.log_density((point - mean) / sigma) - jnp.log(sigma))


@struct.dataclass
class Gaussian(LocationScale):
    """Normal noise, ε ~ N(0, I): sigma is the standard deviation.

    >>> float(Gaussian(2.0).reparameterize(jnp.ones(1), jnp.ones(1))[0])
    3.0
    """

    def sample(self, key, shape, dtype):
        return jax.random.normal(key, shape, dtype)

    def log_density(self, noise):
        return -0.5 * noise**2 - 0.5 * jnp.log(2 * jnp.pi).astype(noise.dtype)


@struct.dataclass
class Logistic(LocationScale):
    """Logistic noise, heavier in the tail than the normal.

    ε has density ¼ sech²(ε/2), so the standard deviation is σ π/√3.
    """

    def sample(self, key, shape, dtype):
        return jax.random.logistic(key, shape, dtype)

    def log_density(self, noise):
        return -noise - 2 * jax.nn.softplus(-noise)


@struct.dataclass
class Bernoulli:
    """Independent bits: x holds logits, and the loss is given zeros and ones.

    The relaxed point is z = x + logit(u), u uniform, and the bit is 1[z > 0].
    """

    symmetric = False

    @classmethod
    def create(cls) -> Self:
        return cls()

    def sample(self, key, shape, dtype):
        return jax.random.logistic(key, shape, dtype)

    def reparameterize(self, mean, noise):
        return mean + noise

    def discretize(self, relaxed):
        return (relaxed > 0).astype(relaxed.dtype)

    def log_prob(self, point, mean):
        return jnp.sum(point * mean - jax.nn.softplus(mean))

    def conditional(self, point, mean, noise):
        """A relaxed point given its bits, from fresh logistic noise, differentiable in the mean.

        Source: Tucker et al. 2017 (REBAR).
        """
        uniform = jax.nn.sigmoid(noise)
        one = jax.nn.sigmoid(mean)
        level = jnp.where(point > 0, (1 - one) + uniform * one, uniform * (1 - one))
        tiny = jnp.finfo(level.dtype).eps
        level = jnp.clip(level, tiny, 1 - tiny)
        return mean + jnp.log(level) - jnp.log1p(-level)


LAWS: dict[str, type] = {"gaussian": Gaussian, "logistic": Logistic, "bernoulli": Bernoulli}


def seen(law: Law, relaxed: jax.Array) -> jax.Array:
    """The point as the loss is given it."""
    discretize = getattr(law, "discretize", None)
    return relaxed if discretize is None else discretize(relaxed)


def score(law: Law, point: jax.Array, mean: jax.Array) -> jax.Array:
    """The score in the mean: s = ∂ log p(point; mean) / ∂mean, (d,)."""
    return jax.grad(law.log_prob, argnums=1)(point, mean)


def check_law(law: Any, antithetic: bool = False) -> None:
    """Check that a law has its three methods, a positive scale, and the symmetry asked for.

    Raises:
        TypeError: a method is missing.
        ValueError: sigma is not positive, or antithetic pairs of a law that is not symmetric.
    """
    if not isinstance(law, Law):
        raise TypeError(f"law: expected sample, reparameterize and log_prob, got {law!r}")
    if hasattr(law, "sigma"):
        _check.in_range("law.sigma", law.sigma, 0.0, open_low=True)
    if antithetic and not getattr(law, "symmetric", False):
        raise ValueError(f"antithetic: expected a law with symmetric noise, got {law!r}")
