"""How many echoes: information criteria on eigenvalues and on the maximum-likelihood residual."""

import jax
import jax.numpy as jnp


def aic(eigenvalues: jax.Array, snapshots, *, centro_hermitian: bool = False) -> jax.Array:
    """Akaike's criterion for each number of echoes, 2 M Λ_K + 2 ν_K; the smallest wins.

    Λ_K is (L − K) log of the arithmetic over the geometric mean of the L − K smallest
    eigenvalues, ν_K = K(2L − K) the free parameters (half of K(2L − K + 1) of a
    forward–backward average).

    Args:
        eigenvalues: (L,) of the covariance, descending.
        snapshots: how many independent windows M were averaged.
        centro_hermitian: the covariance is a forward–backward average.

    Returns:
        (L,) scores of K = 0 ... L − 1.

    Source: Wax & Kailath, IEEE Trans. ASSP 33, 387 (1985), eq. (16); Xu, Roy & Kailath,
    IEEE Trans. SP 42, 1594 (1994).

    >>> int(jnp.argmin(aic(jnp.array([5.0, 3.0, 1.0, 1.0]), 100)))
    2
    """
    likelihood, parameters = _eigenvalue_terms(eigenvalues, centro_hermitian)
    return 2 * snapshots * likelihood + 2 * parameters


def mdl(eigenvalues: jax.Array, snapshots, *, centro_hermitian: bool = False) -> jax.Array:
    """Minimum description length for each number of echoes, M Λ_K + ½ ν_K log M.

    Args, returns and symbols as in :func:`aic`; Wax & Kailath, eq. (17). Sums of logarithms
    take the place of the product of eigenvalues, which underflows.

    >>> int(jnp.argmin(mdl(jnp.array([5e-30, 3e-30, 1e-30, 1e-30]), 100)))
    2
    """
    likelihood, parameters = _eigenvalue_terms(eigenvalues, centro_hermitian)
    return snapshots * likelihood + 0.5 * parameters * jnp.log(snapshots)


def bic(residuals: jax.Array, total, samples: int, snapshots: int = 1, real: bool = False):
    """Bayes' criterion on maximum-likelihood residuals, 2 N T log(s_K) + K (3 + ν) log N.

    An echo's delay is known to N^(−3/2) and counts three; each amplitude counts two, or one if
    real.

    Args:
        residuals: (K + 1,) weighted sums of squares left by K = 0, 1, ... echoes.
        total: weighted sum of squares of the data; residuals below its rounding count as equal.
        samples: frequencies present, N; may be traced.
        snapshots: T.
        real: real amplitudes.

    Returns:
        (K + 1,) scores; the smallest wins.

    Source: Stoica & Selén, IEEE Signal Process. Mag. 21(4), 36 (2004), eq. (48)–(50).

    >>> int(jnp.argmin(bic(jnp.array([9.0, 1.0, 0.99]), 9.0, 64)))
    1
    """
    floor = (samples * jnp.finfo(residuals.dtype).eps) ** 2 * total
    level = jnp.log(jnp.maximum(residuals, jnp.where(floor > 0, floor, 1)))
    order = jnp.arange(residuals.size, dtype=residuals.dtype)
    size = jnp.asarray(samples, residuals.dtype)
    per_echo = 3 + (1 if real else 2) * snapshots
    return 2 * size * snapshots * level + order * per_echo * jnp.log(size)


def _eigenvalue_terms(eigenvalues, centro_hermitian):
    size = eigenvalues.size
    floor = size * jnp.finfo(eigenvalues.dtype).eps * eigenvalues[0]
    scaled = jnp.maximum(eigenvalues, floor) / eigenvalues[0]
    count = jnp.arange(size, 0, -1).astype(eigenvalues.dtype)
    mean = jnp.cumsum(scaled[::-1])[::-1] / count
    likelihood = count * jnp.log(mean) - jnp.cumsum(jnp.log(scaled)[::-1])[::-1]
    order = size - count
    full = order * (2 * size - order)
    return likelihood, (full + order) / 2 if centro_hermitian else full
