"""The matrix pencil of one record: ESPRIT on the row space of its Hankel matrix."""

import jax

from diffsim.delay.covariance import signal_subspace, smoothed_covariance
from diffsim.delay.esprit import esprit


def matrix_pencil(
    values: jax.Array, count, step=1.0, *, window: int | None = None, maximum: int | None = None
) -> jax.Array:
    """Delays as the generalised eigenvalues of the Hankel pencil X[:, 1:] − z X[:, :-1].

    With the Hankel matrix truncated to its K leading singular triplets, the pencil has the
    eigenvalues of V[:-1]⁺ V[1:]; the V are the eigenvectors of the forward covariance.

    Args:
        values: (N,) frequency samples, N ≥ 2K; or (T, N).
        count: echoes; may be traced if ``maximum`` is given.
        step: frequency step, Hz.
        window: columns of the Hankel matrix, N/2 by default.
        maximum: K (static), by default ``count``.

    Returns:
        (K,) delays in [0, 1/step), s; ascending, zero from ``count`` on.

    Source: Hua & Sarkar, IEEE Trans. ASSP 38, 814 (1990), eq. (16).

    >>> import jax.numpy as jnp
    >>> import numpy as np
    >>> round(float(matrix_pencil(jnp.exp(-0.5j * np.pi * np.arange(16)), 1)[0]), 5)
    0.25
    """
    maximum = int(count) if maximum is None else maximum
    window = max(values.shape[-1] // 2, maximum + 1) if window is None else window
    covariance = smoothed_covariance(values, window, forward_backward=False)
    return esprit(signal_subspace(covariance, count, maximum), step)
