"""What the interpolated estimators share: one batch, its pathwise and its score-function terms."""

import jax
import jax.numpy as jnp

from diffsim.gradients.baselines import LeaveOneOut
from diffsim.gradients.pathwise import reparameterized
from diffsim.gradients.score_function import parameter_scores


def both_terms(problem, law, samples: int, folds: int, chunk: int | None):
    """Values (n,), pathwise terms, score terms and scores (n, p), n = samples.

    The score's leave-one-out baseline stays inside its fold, so folds are independent.
    """
    noise, path = reparameterized(problem, law, samples)
    values, smooth = problem.differentiate(path, noise, samples, chunk)
    points = jax.vmap(lambda drawn: path(problem.x, drawn))(noise)
    scores = parameter_scores(problem, law, points)
    grouped = values.reshape(folds, -1)
    level = jax.vmap(LeaveOneOut())(grouped, scores.reshape(folds, samples // folds, -1))
    rough = (values - level.reshape(-1))[:, None] * scores
    return values, smooth, rough, scores


def spread(terms: jax.Array, other: jax.Array | None = None) -> jax.Array:
    """Trace of the covariance of one term with another's (or its own), failed rows left out."""
    other = terms if other is None else other
    keep = jnp.all(jnp.isfinite(terms) & jnp.isfinite(other), axis=1)
    count = jnp.maximum(jnp.sum(keep), 2).astype(terms.dtype)

    def centred(rows):
        rows = jnp.where(keep[:, None], rows, 0)
        return jnp.where(keep[:, None], rows - jnp.sum(rows, axis=0) / count, 0)

    return jnp.sum(centred(terms) * centred(other)) / (count - 1)


def mean(terms: jax.Array) -> jax.Array:
    """Mean of the rows that did not fail."""
    keep = jnp.all(jnp.isfinite(terms), axis=1)
    return jnp.sum(jnp.where(keep[:, None], terms, 0), axis=0) / jnp.sum(keep).astype(terms.dtype)


def ratio(top: jax.Array, bottom: jax.Array, otherwise: float) -> jax.Array:
    """top / bottom, or a constant where the bottom is 0; safe to differentiate."""
    zero = bottom == 0
    return jnp.where(zero, otherwise, top / jnp.where(zero, 1, bottom))


def disagreement(smooth: jax.Array, rough: jax.Array) -> tuple[jax.Array, jax.Array]:
    """‖E D‖ of D = smooth − rough, estimated, and by how many deviations it is not 0.

    Σ_{i≠j} D_i·D_j / n(n − 1) is unbiased for ‖E D‖² and has the variance 2 tr(C²)/n(n − 1) if
    that is 0, which the same products measure, in any dimension. It is then about a centred χ²
    of tr(C)²/tr(C²) degrees of freedom, here as the normal deviate of equal probability.

    Source: Chen & Qin 2010, "A two-sample test for high-dimensional data", eq. 3; Wilson &
    Hilferty 1931 for the deviate.

    >>> apart, z = disagreement(jnp.ones((20, 3)), jnp.zeros((20, 3)))
    >>> round(float(apart), 3), bool(z > 3)
    (1.732, True)
    """
    off = smooth - rough
    keep = jnp.all(jnp.isfinite(off), axis=1)
    off = jnp.where(keep[:, None], off, 0)
    count = jnp.sum(keep).astype(off.dtype)
    products = jnp.matmul(off, off.T, precision="highest")
    own = jnp.diagonal(products)
    products = products - jnp.diag(own)
    pairs = count * (count - 1)
    power, square = jnp.sum(products) / pairs, jnp.sum(products**2) / pairs
    freedom = jnp.maximum(ratio((jnp.sum(own) / count) ** 2, square, 1.0), 1.0)
    chi = 1 + ratio(power, jnp.sqrt(square / pairs * freedom), 0.0)  # over its freedom
    width = 2 / (9 * freedom)
    return jnp.sqrt(jnp.maximum(power, 0)), (jnp.cbrt(chi) - (1 - width)) / jnp.sqrt(width)
