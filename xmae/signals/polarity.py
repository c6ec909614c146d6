"""Which way up a PPG is: does it rise or fall at systole?

A pulse rises faster than it falls, so an upright PPG spends less than half of its time rising. The
score of a window is how much less; turning the signal over changes its sign and nothing else. The
limit was chosen on intensive-care recordings with arrhythmia (CinC 2015) and is used as it is on
all others; `docs/data.md` has the error rates.
"""

from typing import NamedTuple

import numpy as np

from xmae.signals.filters import ppg_clean
from xmae.signals.resample import bridge_gaps
from xmae.signals.window import WINDOW_S

POLARITIES = ("auto", "upright", "inverted")  # what a user may say
CERTAIN = 0.05  # score from which the polarity is certain
AGREEMENT = 0.75  # share of the windows that must be on the same side


class Polarity(NamedTuple):
    """Polarity of a recording: "upright", "inverted" or "unclear"; its score, from -0.5 to 0.5,
    above 0 if upright; and the share of windows on that side.
    """

    name: str
    score: float
    agreement: float


def rise_score(x):
    """Return 0.5 less the share of time in which a signal rises.

    Parameters
    ----------
    x : float array, shape (..., n_times)
        Cleaned PPG (0.5 to 8 Hz), any unit, at 20 Hz or more.

    Returns
    -------
    float array, shape (...)
        -0.5 to 0.5; above 0 for upright pulses, 0 for what rises as long as it falls.

    Examples
    --------
    >>> saw = np.tile([0.0, 4, 3, 2, 1], 20)
    >>> rise_score(np.stack([saw, -saw])).round(1)
    array([ 0.3, -0.3])
    """
    steps = np.diff(x, axis=-1)
    return ((steps < 0).mean(axis=-1) - (steps > 0).mean(axis=-1)) / 2


def polarity_of_windows(windows):
    """Return the polarity of cleaned windows (n, n_times) of one recording, by the median of their
    scores.
    """
    scores = rise_score(windows)
    if not len(scores):
        return Polarity("unclear", 0.0, 0.0)
    score = float(np.median(scores))
    agreement = float(np.mean(scores * np.sign(score) > 0))
    if abs(score) < CERTAIN or agreement < AGREEMENT:
        return Polarity("unclear", score, agreement)
    return Polarity("upright" if score > 0 else "inverted", score, agreement)


def polarity_of(ppg, sfreq, still=None):
    """Return the polarity of a raw recording.

    Parameters
    ----------
    ppg : float array, shape (n_times,)
        Any unit; NaN = missing. Windows of 10 s with missing samples, or without any change, are
        left out.
    sfreq : float
        Sampling rate, Hz.
    still : bool array, shape (n_times,), or None
        True where the wearer does not move; other windows are left out, as steps are not pulses.
        None: not known.

    Returns
    -------
    Polarity
        "unclear" where no window is left.
    """
    known = np.isfinite(ppg)
    n_times = round(WINDOW_S * sfreq)
    n_windows = len(ppg) // n_times
    if not n_windows or known.sum() < n_times:
        return Polarity("unclear", 0.0, 0.0)
    clean = ppg_clean(bridge_gaps(np.asarray(ppg, np.float64), known), sfreq)
    usable = known if still is None else known & still

    def cut(x):
        return x[: n_windows * n_times].reshape(n_windows, n_times)

    raw = cut(np.where(known, ppg, 0.0))
    keep = cut(usable).all(axis=1) & (raw.max(axis=1) > raw.min(axis=1))
    return polarity_of_windows(cut(clean)[keep])
