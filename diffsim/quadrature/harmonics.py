"""Associated Legendre functions, normalised on the sphere, by the stable recurrence in degree."""

from collections.abc import Iterator

import numpy as np


def associated_legendre(degree: int, theta: np.ndarray) -> Iterator[np.ndarray]:
    """Yield, for l = 0 … degree, P̄_l^m(cosθ) of shape (len(theta), degree + 1), zero for m > l.

    Σ_m over cos and sin of 2 P̄² (P̄² for m = 0) is (2l+1)/4π.
    S. A. Holmes and W. E. Featherstone, J. Geodesy 76 (2002) 279, eq. (11), (13).
    """
    x, s = np.cos(theta)[:, None], np.sin(theta)[:, None]
    m = np.arange(degree + 1)
    below = np.zeros((len(theta), degree + 1))
    value = below.copy()
    value[:, 0] = np.sqrt(1 / (4 * np.pi))
    yield value
    for l in range(1, degree + 1):  # noqa: E741
        k = m[:l]
        a = np.sqrt((4 * l * l - 1) / (l * l - k * k))
        b = np.sqrt(np.maximum(((l - 1) ** 2 - k * k) / (4 * (l - 1) ** 2 - 1), 0.0))
        new = np.zeros_like(value)
        new[:, :l] = a * (x * value[:, :l] - b * below[:, :l])
        new[:, l] = s[:, 0] * np.sqrt((2 * l + 1) / (2 * l)) * value[:, l - 1]
        below, value = value, new
        yield value
