"""How long a quantity remembers itself."""

from __future__ import annotations

import numpy as np

from alfw.core.frame import Float


def autocorrelation(series: Float, lags: int) -> Float:
    """Mean scalar product of a vector with itself 0, 1 … ``lags − 1`` steps later, over all pairs that far apart.

    Parameters
    ----------
    series : (S, d) float64
        Equally spaced in time.
    lags : int
        1 … S.

    Returns
    -------
    (lags,) float64, unit of `series` squared

    Source
    ------
    Wiener–Khinchin: the power spectrum's Fourier transform; padded with zeros, so that the end does not meet the
    beginning. Divided by the number of pairs at each lag, so that it does not decay by itself.
    """
    n = len(series)
    spectrum = np.fft.rfft(series, 2 * n, axis=0)
    power = (spectrum.real**2 + spectrum.imag**2).sum(1)
    return np.fft.irfft(power)[:lags] / np.arange(n, n - lags, -1)
