"""Defects of a window beyond the shape of its beats: clipping, flat line, dropout, motion, beats
that disagree.

Each measure is one number per window, computed for a whole recording at once; windows are given by
their first samples.
"""

import numpy as np

from xmae.signals.window import WINDOW_S

MOTION_BAND = 0.5  # Hz: slower changes of acceleration are changes of posture
MOVING_AVERAGE_S = 1 / MOTION_BAND
N_PARTS = 5  # of a window, 2 s each: with at least one beat


def clipped_share(x, first):
    """Return the share of samples at the rails: runs of at least 3 equal samples at the recording's
    lowest or highest value.

    Parameters
    ----------
    x : float array, shape (n_times,)
        Raw signal, NaN = missing.
    first : int array, shape (n_windows + 1,)
        First sample of each window; last, the end of all.

    Returns
    -------
    array, shape (n_windows,)
        0 to 1.
    """
    rail = (x == np.fmin.reduce(x)) | (x == np.fmax.reduce(x))
    edges = np.flatnonzero(np.diff(np.concatenate([[0], rail, [0]]))).reshape(-1, 2)
    edges = edges[edges[:, 1] - edges[:, 0] >= 3]
    change = np.zeros(len(x) + 1)
    np.add.at(change, edges[:, 0], 1)
    np.add.at(change, edges[:, 1], -1)
    at_rail = np.concatenate([[0], np.cumsum(np.cumsum(change)[:-1])])
    return np.diff(at_rail[first]) / np.diff(first)


def flat_seconds(x, first, sfreq):
    """Return the longest time (s) in each window without any change: (n_times,) -> (n_windows,);
    `first` as in `clipped_share`.
    """
    change = np.flatnonzero(np.diff(x, prepend=np.nan) != 0)  # NaN differs from everything
    last_change = np.zeros(len(x), np.int64)
    last_change[change] = change
    last_change = np.maximum.accumulate(last_change)
    place = np.arange(len(x))
    window = np.searchsorted(first, place, side="right") - 1
    since = place - np.maximum(last_change, first[window])
    return np.maximum.reduceat(since[: first[-1]], first[:-1]) / sfreq


def relative_range(cut):
    """Return the range within each window over the recording's median range: (n_windows, n_times)
    -> (n_windows,); low = dropout.

    The range is the second lowest of five parts of 2 s, as the filters' answer to a step reaches
    into its neighbours.
    """
    span = np.sort(np.ptp(cut.reshape(len(cut), N_PARTS, -1), axis=2), axis=1)[:, 1]
    typical = np.median(span[span > 0]) if (span > 0).any() else 1
    return span / typical


def motion(acc, first, sfreq):
    """Return the standard deviation (g) of acceleration after high-pass filtering: (n_times,) ->
    (n_windows,); NaN where unknown.
    """
    known = np.isfinite(acc)
    filled = np.where(known, acc, np.nanmean(acc) if known.any() else 0)
    n = max(1, round(MOVING_AVERAGE_S * sfreq))
    total = np.cumsum(np.pad(filled, (n // 2 + 1, n - n // 2 - 1), mode="edge"))
    fast = filled - np.concatenate([[total[n - 1]], total[n:] - total[:-n]])[: len(filled)] / n
    square = np.concatenate([[0], np.cumsum(fast**2)])
    power = np.diff(square[first]) / np.diff(first)
    share = np.diff(np.concatenate([[0], np.cumsum(known)])[first]) / np.diff(first)
    return np.where(share > 0.5, np.sqrt(np.maximum(power, 0)), np.nan)


def beat_agreement(r_peaks, pulses, first):
    """Return the share of heartbeats in each window that are followed by exactly one pulse at about
    the usual delay.

    The cycles between R peaks are moved by the recording's median delay from R peak to the next
    pulse, less half a cycle, so that a pulse should lie in the middle of each, a quarter of a cycle
    to either side.

    Parameters
    ----------
    r_peaks, pulses : int arrays
        Sample numbers of R peaks and systolic peaks, ascending.
    first : int array, shape (n_windows + 1,)
        First sample of each window; last, the end of all.

    Returns
    -------
    array, shape (n_windows,)
        0 to 1; 0 in windows without heartbeats.
    """
    n_windows = len(first) - 1
    if len(r_peaks) < 2 or len(pulses) < 2:
        return np.zeros(n_windows)
    following = np.searchsorted(pulses, r_peaks)
    answered = following < len(pulses)
    delay = np.median(pulses[following[answered]] - r_peaks[answered]) if answered.any() else 0
    cycle = np.median(np.diff(r_peaks))
    place = np.searchsorted(pulses, r_peaks + delay - cycle / 2)
    late = pulses[np.minimum(place[:-1], len(pulses) - 1)] - (r_peaks[:-1] + delay)
    one = (np.diff(place) == 1) & (np.abs(late) <= cycle / 4)
    window = np.searchsorted(first, r_peaks[:-1], side="right") - 1
    inside = window < n_windows
    beats = np.bincount(window[inside], minlength=n_windows)
    good = np.bincount(window[inside], weights=one[inside], minlength=n_windows)
    return np.divide(good, beats, out=np.zeros(n_windows), where=beats >= WINDOW_S * 20 / 60)
