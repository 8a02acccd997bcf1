"""Integrals over the sphere of samples on a grid, with their error and what looks wrong."""

from functools import partial
from math import log

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from diffsim import _check, _show
from diffsim._types import ArrayLike
from diffsim.quadrature import parity, tail
from diffsim.quadrature.base import Band
from diffsim.quadrature.grid import Grid, declared, sphere_grid
from diffsim.quadrature.missing import least_norm_weights
from diffsim.quadrature.parity import Flag
from diffsim.quadrature.periodic import Symmetry
from diffsim.quadrature.scheme import Scheme, scheme_of

ROUNDOFF = 16.0  # units of roundoff that samples and sums may carry


@struct.dataclass
class Weights:
    """What the samples are multiplied by.

    Attributes:
        value: of the samples' shape, ``grid.shape``.
        degree: the degree (of harmonics, or of polynomials in θ) that they are exact to.
        rule: the name of the rule.
        why: one line on why this rule.
    """

    value: jax.Array
    degree: int = struct.field(pytree_node=False)
    rule: str = struct.field(pytree_node=False)
    why: str = struct.field(pytree_node=False)


@struct.dataclass
class Integral:
    """An integral over the sphere.

    Attributes:
        value: ∫ f dμ, in the samples' unit times steradian.
        error: estimate of |value - exact|, not a bound; covers some 99 cases in 100.
        degree: what the weights are exact to.
        warning: sum of :class:`Flag`, 0 if nothing looks wrong; see
            :func:`diffsim.quadrature.explain`.
    """

    value: jax.Array
    error: jax.Array
    degree: int = struct.field(pytree_node=False)
    warning: jax.Array

    def __repr__(self) -> str:
        names = ("value", "error", "degree", "warning")
        return _show.record("Integral", **{name: getattr(self, name) for name in names})


def weights(
    grid: Grid,
    measure: str = "solid-angle",
    *,
    symmetry: Symmetry | None = None,
    mask: ArrayLike | None = None,
    band: Band | None = None,
    rule: str | None = None,
) -> Weights:
    """Weights w_ij with Σ w_ij f_ij = ∫ f dμ, from the rule that fits the grid and the measure.

    Args:
        grid: where the samples are.
        measure: ``solid-angle`` for sinθ dθ dφ; ``flat`` for dθ dφ of a function of the
            direction; ``included`` for samples that already carry the sinθ.
        symmetry: what f is known to satisfy, in place of the grid's own declaration.
        mask: of the samples' shape, True where a sample is good; None if all are.
        band: colatitudes [low, high] to integrate over, rad; None for all that is sampled.
        rule: a name from the rule table, to overrule the choice.

    Raises:
        ValueError: measure, band or rule do not fit the grid, or too few samples are left.

    >>> from diffsim.quadrature import sphere_grid
    >>> grid = sphere_grid(9, 16)
    >>> round(float(weights(grid).value.sum() / jnp.pi), 5), weights(grid).degree
    (4.0, 9)
    >>> weights(grid, "flat").why.split(":")[0]
    'samples on linspace(0, π) of a function even across the poles'

    Source: L. N. Trefethen, SIAM Review 50 (2008) 67, for the rules; see each rule's file.
    """
    grid, mask = _declared(grid, symmetry, mask)
    scheme = scheme_of(grid, measure, rule, _pair(band))
    value, degree = scheme.weights, scheme.degree
    if mask is not None:
        value, _, degree = least_norm_weights(grid, measure, rule, _pair(band), mask)
    return Weights(jnp.asarray(value), degree, scheme.rule.name, scheme.rule.why)


def integrate(
    samples: ArrayLike,
    grid: Grid | str,
    measure: str = "solid-angle",
    *,
    symmetry: Symmetry | None = None,
    mask: ArrayLike | None = None,
    band: Band | None = None,
    rule: str | None = None,
) -> Integral:
    """∫ f dμ = Σ w_ij f_ij over the sphere, with an error estimate.

    One step is one contraction; the gradient with respect to the samples is the weights. Use
    ``jax.vmap`` for many time steps; what is not used of the result costs nothing under jit.

    Args:
        samples: f on the grid, of shape ``grid.shape``; a last column that repeats the first
            at 2π is dropped.
        grid: where the samples are; or the name of the rule that placed (rings, meridians) over
            the whole sphere, for example ``clenshaw-curtis``, with 2π not repeated.
        measure, symmetry, mask, band, rule: see :func:`weights`. Samples outside the mask may
            be anything, NaN too.

    Raises:
        TypeError: the samples are not real.
        ValueError: their shape is not the grid's, the options do not fit it, or samples that
            are not traced are not finite (traced ones set a warning).

    >>> from diffsim.quadrature import sphere_grid
    >>> grid = sphere_grid(9, 16)
    >>> theta, phi = grid.points
    >>> result = integrate(jnp.exp(jnp.cos(theta)), grid)
    >>> round(float(result.value), 3), result.degree, int(result.warning)
    (14.768, 9, 0)
    >>> integrate(jnp.ones((9, 12)), grid)
    Traceback (most recent call last):
    ...
    ValueError: samples: expected shape (9, 16), or (9, 17) with φ closed, got (9, 12)

    Source: C. W. Clenshaw and A. R. Curtis, Numer. Math. 2 (1960) 197; see each rule's file.
    """
    return assess(samples, grid, measure, symmetry=symmetry, mask=mask, band=band, rule=rule)[0]


def assess(samples, grid, measure, *, symmetry=None, mask=None, band=None, rule=None):
    """The integral, and the outlook of each direction that its error is the sum of."""
    samples = _check.floating("samples", samples)
    if isinstance(grid, str):
        if samples.ndim != 2:
            raise ValueError(
                f"samples: expected (rings, meridians) of {grid}, got shape {samples.shape}"
            )
        grid = sphere_grid(samples.shape[0], samples.shape[1], grid)
    grid, mask = _declared(grid, symmetry, mask)
    shape, closing = grid.shape, ""
    if grid.n_phi and not grid.symmetry.mirror:
        closed = (shape[0], shape[1] + 1)
        closing = f", or {closed} with φ closed"
        if samples.shape == closed:
            _check_finite(samples[:, :-1], mask)
            return _assess(samples, grid, measure, rule, _pair(band), mask)
    if samples.shape != shape:
        raise ValueError(f"samples: expected shape {shape}{closing}, got {samples.shape}")
    _check_finite(samples, mask)
    return _assess(samples, grid, measure, rule, _pair(band), mask)


def _check_finite(samples: jax.Array, mask: bytes | None) -> None:
    if isinstance(samples, jax.core.Tracer):
        return
    bad = ~np.isfinite(np.asarray(samples))
    if mask is not None:
        bad &= np.frombuffer(mask, dtype=bool).reshape(bad.shape)
    if bad.any():
        raise ValueError(
            f"samples: expected finite numbers, got {int(bad.sum())} that are not; "
            "give a mask of the good ones"
        )


def _pair(band: Band | None) -> Band | None:
    return None if band is None else (float(band[0]), float(band[1]))


def _declared(
    grid: Grid, symmetry: Symmetry | None, mask: ArrayLike | None
) -> tuple[Grid, bytes | None]:
    """The grid with the symmetry declared, and the mask as bytes, which can be a cache's key."""
    if symmetry is not None:
        grid = declared(grid, symmetry)
    if mask is None:
        return grid, None
    array = np.asarray(mask)
    if array.dtype != bool or array.shape != grid.shape:
        raise ValueError(
            f"mask: expected booleans of shape {grid.shape}, got {array.dtype} {array.shape}"
        )
    return grid, None if array.all() else np.ascontiguousarray(array).tobytes()


@jax.default_matmul_precision("highest")
@partial(jax.jit, static_argnames=("grid", "measure", "rule", "band", "mask"))
def _assess(samples, grid, measure, rule, band, mask):
    scheme = scheme_of(grid, measure, rule, band)
    dtype = samples.dtype
    raw = jax.lax.stop_gradient(samples)
    samples = samples[:, : grid.shape[1]] if grid.n_phi else samples
    if mask is not None:
        fine, coarse, degree = least_norm_weights(grid, measure, rule, band, mask)
        present = np.frombuffer(mask, dtype=bool).reshape(grid.shape)
        samples = jnp.where(present, samples, 0.0)
        value = jnp.sum(jnp.asarray(fine, dtype) * samples)
        seen = jax.lax.stop_gradient(samples)
        error = jnp.abs(jnp.sum(jnp.asarray(fine - coarse, dtype) * seen))
        error += _roundoff(jnp.sum(jnp.asarray(np.abs(fine), dtype) * jnp.abs(seen)))
        finite = jnp.where(jnp.all(jnp.isfinite(samples)), 0, Flag.NOT_FINITE.value)
        return Integral(value, error, degree, finite.astype(jnp.int32)), []
    if scheme.stretch is not None:
        stretch = jnp.asarray(scheme.stretch, dtype)
        samples = samples * (stretch if scheme.phi is None else stretch[:, None])
    theta = jnp.asarray(scheme.theta, dtype)
    value = theta @ (samples if scheme.phi is None else samples @ jnp.asarray(scheme.phi, dtype))
    seen = jax.lax.stop_gradient(samples)
    size = jnp.abs(theta) @ jnp.abs(seen)
    if scheme.phi is not None:
        size = size @ jnp.asarray(scheme.phi, dtype)
    outlooks = _foresee(seen, scheme)
    error = sum((part.error for part in outlooks), _roundoff(size))
    warning = _rough(outlooks, size) | parity.check(raw, grid, measure)
    warning |= jnp.where(jnp.all(jnp.isfinite(raw)), 0, Flag.NOT_FINITE.value)
    return Integral(value, error, scheme.degree, warning.astype(jnp.int32)), outlooks


def _foresee(samples: jax.Array, scheme: Scheme) -> list[tail.Outlook]:
    """The error to expect of each direction: θ and φ, or the one of scattered points."""
    if isinstance(scheme.tails, tail.Scattered):
        return [scheme.tails.outlook(samples)]
    in_theta, in_phi = scheme.tails
    rings = jnp.fft.rfft(samples[:, scheme.columns], axis=1) * (2 * np.pi / in_phi.count)
    first = rings[scheme.rows, min(1, rings.shape[1] - 1)]
    return [
        in_theta.outlook(rings[scheme.rows, 0].real, first),
        in_phi.outlook(rings / (2 * np.pi), jnp.asarray(scheme.theta, samples.dtype)),
    ]


def _roundoff(size: jax.Array) -> jax.Array:
    return ROUNDOFF * jnp.finfo(size.dtype).eps * size


def _rough(outlooks: list[tail.Outlook], size: jax.Array) -> jax.Array:
    """Whether a direction errs by more than roundoff while its spectrum falls slower than k^-3."""
    slow = jnp.stack([part.decay.drop < 3 * log(2) for part in outlooks])
    errors = jnp.stack([part.error for part in outlooks])
    matters = (errors > 0.1 * jnp.max(errors)) & (errors > 100 * _roundoff(size))
    return jnp.where(jnp.any(slow & matters), Flag.ROUGH.value, 0)
