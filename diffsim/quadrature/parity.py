"""Checks of the samples against what the grid and the measure claim: poles, parity, closing."""

import jax
import jax.numpy as jnp
import numpy as np

from diffsim.quadrature import table
from diffsim.quadrature.base import SPHERE, PointRule
from diffsim.quadrature.grid import Grid

PARITY, POLE, REPEATED, OPEN = 1, 2, 4, 8
LARGER = 10.0  # how much rougher the claimed parity's spectrum must be to doubt it


def check(samples: jax.Array, grid: Grid, measure: str) -> jax.Array:
    """Flags for samples (rings, meridians), the closing meridian included if it was given."""
    if not grid.n_phi:
        return jnp.zeros((), int)
    eps = jnp.finfo(samples.dtype).eps
    scale = jnp.max(jnp.abs(samples))
    columns = grid.shape[1]
    ends = jnp.max(jnp.abs(samples[:, -1] - samples[:, 0]))
    # Neighbouring meridians of piecewise constant samples agree too: ask that most others differ.
    steps = jnp.abs(samples[:, 1] - samples[:, 0]) if columns > 1 else jnp.zeros(len(samples))
    varies = jnp.mean(steps > 100 * eps * scale, dtype=samples.dtype) > 0.5
    if samples.shape[1] > columns:
        flags = jnp.where(ends > 1e4 * eps * scale, OPEN, 0)
    elif grid.symmetry.mirror or columns < 4:
        flags = jnp.zeros((), int)
    else:
        flags = jnp.where((ends <= 100 * eps * scale) & varies, REPEATED, 0)
    if grid.extent != SPHERE or grid.zoom is not None:
        return flags
    samples = samples[:, :columns]
    theta = grid.axes[0]
    poles = samples[np.flatnonzero(np.sin(theta) < 1e-6)]
    if len(poles):
        spread = jnp.max(jnp.ptp(poles, axis=1))
        flags |= jnp.where(spread > 1e4 * eps * scale, POLE, 0)
    mean = jnp.mean(samples, axis=1)[grid.symmetry.rows(grid.n_theta)]
    other = "solid-angle" if measure == "included" else "included"
    claimed, doubted = (_roughness(mean, grid, name) for name in (measure, other))
    disagree = (claimed > LARGER * doubted) & (claimed > 1e4 * eps)
    return flags | jnp.where(disagree, PARITY, 0)


def _roughness(mean: jax.Array, grid: Grid, measure: str) -> jax.Array:
    """The last quarter of the spectrum over the largest of it, expanded as the measure says."""
    rule = table.choose(grid.rule, measure)
    if isinstance(rule, PointRule) or rule.analysis is None or rule.space != "harmonic":
        return jnp.zeros((), mean.dtype)
    analysis = rule.analysis(grid.n_theta, measure, grid.extent)
    spectrum = jnp.abs(jnp.asarray(analysis, mean.dtype) @ mean)
    largest = jnp.maximum(jnp.max(spectrum), jnp.finfo(mean.dtype).tiny)
    return jnp.max(spectrum[3 * len(analysis) // 4 :]) / largest
