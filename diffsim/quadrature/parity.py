"""Checks of the samples against what the grid and the measure claim: poles, parity, closing."""

from enum import IntFlag

import jax
import jax.numpy as jnp
import numpy as np

from diffsim.quadrature.base import SPHERE
from diffsim.quadrature.grid import Grid

RINGS = 5  # rings next to a pole that are looked at
LARGER = 20.0  # how much worse the claimed parity must fit to doubt it


class Flag(IntFlag):
    """What looks wrong with samples; ``Integral.warning`` is a sum of these."""

    PARITY = 1
    POLE = 2
    REPEATED = 4
    OPEN = 8
    ROUGH = 16
    NOT_FINITE = 32


_MEANING = {
    Flag.PARITY: "measure and data disagree: by their behaviour at the poles the samples "
    "include sinθ where the measure says not, or the reverse",
    Flag.POLE: "the samples vary along a pole: θ and φ swapped, or not one scalar function",
    Flag.REPEATED: "the last meridian repeats the first: give φ without its 2π",
    Flag.OPEN: "the closing meridian at 2π differs from the first: the samples are not periodic",
    Flag.ROUGH: "the spectrum falls slowly (a kink, a step, or too few samples): more samples "
    "gain little, and the error is a rough guess",
    Flag.NOT_FINITE: "some samples are not finite: give a mask of those that are good",
}


def explain(warning: jax.Array | int) -> list[str]:
    """One line for each thing that looks wrong.

    >>> explain(0)
    []
    >>> explain(Flag.REPEATED)
    ['the last meridian repeats the first: give φ without its 2π']
    """
    return [text for flag, text in _MEANING.items() if int(warning) & flag]


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
        flags = jnp.where(ends > 1e4 * eps * scale, Flag.OPEN.value, 0)
    elif grid.symmetry.mirror or columns < 4:
        flags = jnp.zeros((), int)
    else:
        flags = jnp.where((ends <= 100 * eps * scale) & varies, Flag.REPEATED.value, 0)
    if grid.extent != SPHERE or grid.zoom is not None:
        return flags
    samples = samples[:, :columns]
    theta = grid.axes[0]
    poles = samples[np.flatnonzero(np.sin(theta) < 1e-6)]
    if len(poles):
        spread = jnp.max(jnp.ptp(poles, axis=1))
        flags |= jnp.where(spread > 1e4 * eps * scale, Flag.POLE.value, 0)
    if grid.n_theta < 2 * RINGS:
        return flags
    mean = jnp.mean(samples, axis=1)[grid.symmetry.rows(grid.n_theta)]
    nodes = grid.placed_by.nodes  # type: ignore[union-attr]
    poles = jnp.stack([mean[:RINGS], mean[::-1][:RINGS]], axis=1)
    even, odd = (_misfit(poles, nodes[:RINGS], powers) for powers in ([0, 2, 4], [1, 3, 5]))
    claimed, other = (odd, even) if measure == "included" else (even, odd)
    disagree = (claimed > LARGER * other) & (claimed > 1e4 * eps * jnp.max(jnp.abs(mean)))
    return flags | jnp.where(disagree, Flag.PARITY.value, 0)


def _misfit(rings: jax.Array, angle: np.ndarray, powers: list[int]) -> jax.Array:
    """What a polynomial of these powers of the angle to the pole leaves of the rings nearest it."""
    basis = (angle[:, None] / angle[-1]) ** np.array(powers)
    remainder = np.eye(RINGS) - basis @ np.linalg.pinv(basis)
    return jnp.linalg.norm(jnp.asarray(remainder, rings.dtype) @ rings)
