"""What follows from the beats of a window: variability of their intervals, and premature beats.

RMSSD, SDNN and pNN50: Task Force, Circulation 93(5), 1996. Ten seconds are very short: RMSSD of
10 s agrees well with that of 5 min, SDNN less (Munoz et al., PLoS ONE 10(9): e0138921, 2015).
"""

import numpy as np

from xmae.beats.reading import DOUBTFUL

MIN_INTERVALS = 5
PREMATURE = 0.8  # of the window's median interval
PAUSE = 1.2  # next interval over the premature one


def beats_by_window(beats):
    """List the beats of a store: (n, 40) in s, NaN padded -> int window (m,) and float time
    (m,).
    """
    window, place = np.nonzero(np.isfinite(beats))
    return window, beats[window, place].astype(np.float64)


def intervals_of(time, window):
    """Return the intervals between beats of the same window, s, and their windows: (m,), (m,) ->
    (k,), (k,).
    """
    whole = window[1:] == window[:-1]
    return np.diff(time)[whole], window[1:][whole]


def sure_intervals(reading):
    """Return the interval before each beat of a `Reading`, s, (n_beats,); NaN at the first beat of
    a window, and where this beat or the one before is doubtful.
    """
    first = np.diff(reading.window, prepend=-1) > 0
    sure = np.minimum(reading.confidence, np.roll(reading.confidence, 1)) >= DOUBTFUL
    return np.where(~first & sure, np.diff(reading.time, prepend=0), np.nan)


def rate_by_window(time, window, n_windows):
    """Return the heart rate of windows from their beats, 60 (count - 1) / (last - first), bpm.

    Parameters as in `variability`.

    Returns
    -------
    float array, shape (n_windows,)
        bpm; NaN below two beats.
    """
    count = np.bincount(window, minlength=n_windows)
    some = count >= 2
    first = np.searchsorted(window, np.flatnonzero(some))
    rate = np.full(n_windows, np.nan)
    rate[some] = 60 * (count[some] - 1) / (time[first + count[some] - 1] - time[first])
    return rate


def variability(time, window, n_windows, confidence=None):
    """Return the RMSSD, SDNN (ms) and pNN50 (%) for the beats of each window.

    Intervals at a doubtful beat are left out, as one missed or invented beat outweighs ten true
    changes.

    Parameters
    ----------
    time : float array, shape (n_beats,)
        Ascending within a window, s.
    window : int array, shape (n_beats,)
        Number of the window that each beat is in, ascending.
    n_windows : int
    confidence : float array, shape (n_beats,), optional
        Confidence of each beat, 0 to 1; below `xmae.beats.reading.DOUBTFUL` it is doubtful.
        Default: all are sure.

    Returns
    -------
    dict of float arrays, shape (n_windows,)
        "rmssd", "sdnn", "pnn50"; NaN below 5 sure intervals, the first and the last also below 4
        changes from one sure interval to the next.
    """
    interval, of = intervals_of(time, window)
    sure = np.ones(len(interval), bool)
    if confidence is not None:
        within = window[1:] == window[:-1]
        sure = np.minimum(confidence[1:], confidence[:-1])[within] >= DOUBTFUL
    follows = (of[1:] == of[:-1]) & sure[1:] & sure[:-1]
    change, changed = 1000 * np.diff(interval)[follows], of[1:][follows]  # ms
    interval, of = 1000 * interval[sure], of[sure]
    count = np.bincount(of, minlength=n_windows)
    mean = np.bincount(of, interval, minlength=n_windows) / np.maximum(count, 1)
    square = np.bincount(of, (interval - mean[of]) ** 2, minlength=n_windows)
    n_changes = np.bincount(changed, minlength=n_windows)
    some = np.maximum(n_changes, 1)
    large = np.bincount(changed[np.abs(change) > 50], minlength=n_windows)
    known = count >= MIN_INTERVALS
    enough = known & (n_changes >= MIN_INTERVALS - 1)
    rmssd = np.sqrt(np.bincount(changed, change**2, minlength=n_windows) / some)
    return {
        "rmssd": np.where(enough, rmssd, np.nan),
        "sdnn": np.where(known, np.sqrt(square / np.maximum(count - 1, 1)), np.nan),
        "pnn50": np.where(enough, 100 * large / some, np.nan),
    }


def irregularity(time, window, n_windows):
    """Return the mean change between successive intervals over the mean interval, by window.

    NaN below 2 intervals. Parameters as in `variability`.

    Returns
    -------
    float array, shape (n_windows,)
    """
    interval, of = intervals_of(time, window)
    both = of[1:] == of[:-1]
    change, changed = np.abs(np.diff(interval))[both], of[1:][both]
    n_changes = np.bincount(changed, minlength=n_windows)
    mean_change = np.bincount(changed, change, n_windows) / np.maximum(n_changes, 1)
    count = np.bincount(of, minlength=n_windows)
    mean = np.bincount(of, interval, n_windows) / np.maximum(count, 1)
    return np.where(n_changes > 0, mean_change / np.maximum(mean, 1e-9), np.nan)


def premature_share(time, window, n_windows):
    """Return the share of premature beats among the intervals of each window, %, shape
    (n_windows,).

    A beat is premature if it comes after less than 80 % of the window's median interval, and the
    next interval is longer than its own by a fifth. NaN below 5 intervals. Parameters as of
    `variability`.
    """
    interval, of = intervals_of(time, window)
    count = np.bincount(of, minlength=n_windows)
    order = np.lexsort((interval, of))  # each window's intervals by length
    first = np.searchsorted(of, np.arange(n_windows))
    inner = np.maximum(count - 1, 0)
    ranked = np.append(interval[order], np.nan)
    median = (ranked[first + inner // 2] + ranked[first + (inner + 1) // 2]) / 2
    early = interval[:-1] < PREMATURE * median[of[:-1]]
    early &= (of[1:] == of[:-1]) & (interval[1:] > PAUSE * interval[:-1])
    number = np.bincount(of[:-1][early], minlength=n_windows)
    return np.where(count >= MIN_INTERVALS, 100 * number / np.maximum(count, 1), np.nan)
