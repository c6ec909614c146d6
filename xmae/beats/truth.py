"""The truth about heart rate and beats: R peaks of the ECG on which two detectors agree.

A window has truth if neither detector has a beat in it that the other lacks (0.15 s), and it holds
at least 3 beats. The detectors are of different kinds, so they seldom make the same mistake. Where
they disagree there is no truth, and that is counted: hard windows are lost more often than easy
ones.
"""

from dataclasses import dataclass

import numpy as np

from xmae.beats.r_peaks import DETECTORS, agreed, fraction_of_peak, r_peaks, stretches
from xmae.signals.window import N_TIMES, SFREQ, WINDOW_S

MAX_BEATS = 40  # in 10 s: 240 bpm
PIECE = 360  # windows that the detectors see at once (one hour), so that memory stays bounded


@dataclass(frozen=True)
class Truth:
    """Heart rate and beats of windows, from the ECG.

    Parameters
    ----------
    hr_ecg : float array, shape (n,)
        Heart rate, bpm; NaN = no truth.
    beats : float32 array, shape (n, 40)
        R peaks in s from the start of the window, ascending, then NaN; all NaN = no truth.
    """

    hr_ecg: np.ndarray
    beats: np.ndarray


def truth_of(ecg):
    """Find the truth in the windows of one recording.

    Parameters
    ----------
    ecg : float array, shape (n, 1000)
        Cleaned ECG at 100 Hz; the windows follow each other without a gap.

    Returns
    -------
    Truth
    """
    beats = no_beats(len(ecg))
    for first in range(0, len(ecg), PIECE):
        last = min(first + PIECE, len(ecg))
        begin, end = max(first - 1, 0), min(last + 1, len(ecg))  # one more window at both sides
        beats[first:last] = beats_of(ecg[begin:end])[first - begin : last - begin]
    return Truth(rate_of_beats(beats), beats)


def truth_of_windows(windows):
    """Find the truth in windows of many recordings, in the order of a store; each stretch by
    itself: `Truth`.
    """
    beats = no_beats(len(windows.record))
    for stretch in stretches(windows):
        beats[stretch] = truth_of(windows.ecg[stretch]).beats
    return Truth(rate_of_beats(beats), beats)


def beats_of(ecg):
    """Return the beats on which the detectors agree, by window: (n, 1000) -> float32 (n, 40), see
    `Truth`.
    """
    n_windows, signal = len(ecg), np.asarray(ecg, np.float64).ravel()
    first, second = (r_peaks(signal, detector) for detector in DETECTORS)
    time = fraction_of_peak(signal, first)  # samples; within half a one of the peak
    window = np.minimum(time / N_TIMES, n_windows - 1).astype(int)
    count = np.bincount(window, minlength=n_windows)
    sure = agreed(n_windows, first, second) & (count >= 3) & (count <= MAX_BEATS)
    kept = sure[window]
    beats, place = no_beats(n_windows), np.arange(len(window)) - np.searchsorted(window, window)
    beats[window[kept], place[kept]] = time[kept] / SFREQ - window[kept] * WINDOW_S
    return beats


def no_beats(n_windows):
    """Return empty beats for windows without truth: float32 (n_windows, 40), all NaN."""
    return np.full((n_windows, MAX_BEATS), np.nan, np.float32)


def rate_of_beats(beats):
    """Return the heart rate by window, 60 (n - 1) / (last - first): (n, n_beats) in s -> (n,) in
    bpm.

    NaN with fewer than two beats.

    >>> rate_of_beats(np.array([[1.0, 2.0, 3.5, np.nan], [1.0, np.nan, np.nan, np.nan]]))
    array([48., nan])
    """
    count = np.isfinite(beats).sum(axis=1)
    some = count >= 2
    first, last = beats[some, 0], beats[some, count[some] - 1]
    rate = np.full(len(beats), np.nan)
    rate[some] = 60 * (count[some] - 1) / (last - first).astype(np.float64)
    return rate
