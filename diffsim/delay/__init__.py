"""Time of arrival of echoes by subspace methods: a time signal or frequency samples to delays."""

from diffsim.delay.bounds import cramer_rao_bound, hankel_variance, music_variance
from diffsim.delay.covariance import SignalSubspace, signal_subspace, smoothed_covariance
from diffsim.delay.esprit import esprit, least_squares, total_least_squares, unitary
from diffsim.delay.estimate import DelayEstimate, estimate_delays
from diffsim.delay.matrix_pencil import matrix_pencil
from diffsim.delay.maximum_likelihood import Fit, maximum_likelihood
from diffsim.delay.music import music_spectrum, root_music
from diffsim.delay.order import aic, bic, mdl
from diffsim.delay.samples import FrequencySamples, from_signal, ricker, ricker_spectrum

__all__ = [
    "DelayEstimate",
    "Fit",
    "FrequencySamples",
    "SignalSubspace",
    "aic",
    "bic",
    "cramer_rao_bound",
    "esprit",
    "estimate_delays",
    "from_signal",
    "hankel_variance",
    "least_squares",
    "matrix_pencil",
    "maximum_likelihood",
    "mdl",
    "music_spectrum",
    "music_variance",
    "ricker",
    "ricker_spectrum",
    "root_music",
    "signal_subspace",
    "smoothed_covariance",
    "total_least_squares",
    "unitary",
]
