"""Change of sampling rate by a polyphase filter."""

from fractions import Fraction

import numpy as np

try:
    from scipy import signal
except ImportError:  # the light runtime
    from xmae.signals import plain as signal


def resampling_ratio(sfreq, new_sfreq):
    """Return integers `(up, down)` with `new_sfreq / sfreq = up / down`, approximately if `down`
    would exceed 1000.
    """
    ratio = Fraction(new_sfreq / sfreq).limit_denominator(1000)
    return ratio.numerator, ratio.denominator


def resample(x, sfreq, new_sfreq):
    """Resample along the last axis.

    The anti-aliasing filter is SciPy's default (`resample_poly`: Kaiser window, beta 5, 20 max(up,
    down) + 1 taps, zero phase). Beyond its ends the signal is continued by the straight line from
    its first to its last sample.

    Parameters
    ----------
    x : array, shape (..., n_times)
        Signal, any unit.
    sfreq, new_sfreq : float
        Sampling rate of `x` and of the result, Hz.

    Returns
    -------
    array, shape (..., ceil(n_times * up / down))
        The signal at `new_sfreq`; sample k lies at k / new_sfreq seconds.
    """
    up, down = resampling_ratio(sfreq, new_sfreq)
    return x if up == down else signal.resample_poly(x, up, down, axis=-1, padtype="line")


def bridge_gaps(x, known):
    """Interpolate linearly over gaps: (n_times,) and whether each sample is known -> (n_times,);
    zeros if none is known.
    """
    if known.all():
        return x
    places = np.arange(len(x))
    return np.interp(places, places[known], x[known]) if known.any() else np.zeros(len(x))


def resample_with_gaps(x, sfreq, new_sfreq):
    """Resample a signal in which NaN marks missing samples: (n_times,) -> (ceil(n_times * up /
    down),).

    Gaps are bridged by straight lines, so that the filter does not ring, and are NaN again
    afterwards.
    """
    up, down = resampling_ratio(sfreq, new_sfreq)
    known = np.isfinite(x)
    if up == down or not len(x):
        return x
    new = signal.resample_poly(bridge_gaps(x, known), up, down, padtype="line")
    if not known.all():
        nearest = np.minimum((np.arange(len(new)) * down + up // 2) // up, len(x) - 1)
        new[~known[nearest]] = np.nan
    return new
