"""Ectopic beats and PVCs from the ECG of the store, for data without rhythm annotation.

Derived, not annotated. A beat is premature if it comes after less than 80 % of the local beat
interval (the median of 11) and the next interval is longer than its own by a fifth; both detectors
of `xmae.beats.r_peaks` must say so. A premature beat is called a PVC if its QRS (0.24 s) correlates
less than 0.8 with the median QRS of the other beats. A window is positive if it has such a beat,
negative if neither detector sees one, and without label where the detectors disagree on its beats,
where the verdicts disagree, or where the rhythm is irregular throughout, as in atrial fibrillation
(the median deviation of 21 intervals from the local one is above 10 %): prematurity means nothing
there.

How reliable: on the 37 shipped BIDMC recordings the two detectors, each by itself, give the same
label in 97 % of the windows that both judge (Cohen's kappa 0.85 for ectopic, 0.68 for PVC), and the
second ECG lead gives the label of the first in 99 and 98 % (kappa 0.92 and 0.76). That is
agreement, not truth: nobody has annotated these rhythms. Premature atrial beats with aberrant
conduction look like PVCs; interpolated and late ventricular beats are missed.
"""

import numpy as np
from scipy import ndimage

from xmae.beats.r_peaks import DETECTORS, agreed, r_peaks, stretches
from xmae.signals.window import N_TIMES, SFREQ

PREMATURE = 0.8  # of the local interval
PAUSE = 1.2  # next interval over the premature one
LOCAL = 11  # intervals in the local median
IRREGULAR, RHYTHM = 0.1, 21  # median deviation from the local interval, over so many intervals
QRS_HALF = 12  # samples: 0.12 s to both sides of the R peak
SAME_SHAPE = 0.8  # correlation with the median beat


def ectopic_labels(windows):
    """Label ectopic beats in every window.

    Parameters
    ----------
    windows : Windows or Dataset
        With ECG, in the order of the store.

    Returns
    -------
    dict
        `ectopic`, `pvc`: float arrays, shape (n,): 1, 0, or NaN where it cannot be said.
    """
    labels = {name: np.full(len(windows.record), np.nan) for name in ("ectopic", "pvc")}
    for stretch in stretches(windows):
        ecg = windows.ecg[stretch].ravel()
        n_windows = stretch.stop - stretch.start
        peaks = [r_peaks(ecg, detector) for detector in DETECTORS]
        judged = [judge_windows(ecg, peak, n_windows) for peak in peaks]
        sure = agreed(n_windows, *peaks)
        for name in labels:
            first, second = (verdict[name] for verdict in judged)
            labels[name][stretch] = np.where(sure & (first == second), first, np.nan)
    return labels


def judge_windows(ecg, peak, n_windows):
    """Return the verdicts of one detector, `ectopic` and `pvc` for each window of a stretch, shape
    (n_windows,); NaN if irregular.
    """
    premature, foreign, irregular = judge_beats(ecg, peak)
    window = peak // N_TIMES

    def any_in_window(beats):
        return np.bincount(window[beats], minlength=n_windows)[:n_windows] > 0

    unclear = any_in_window(irregular) | ~any_in_window(np.ones(len(peak), bool))
    return {
        "ectopic": np.where(unclear, np.nan, any_in_window(premature)),
        "pvc": np.where(unclear, np.nan, any_in_window(premature & foreign)),
    }


def judge_beats(ecg, peak):
    """Tell of every beat whether it is premature, has a different QRS shape, or lies in an
    irregular rhythm: three bool arrays, shape (n_beats,).

    Parameters
    ----------
    ecg : float array, shape (n_times,)
        Cleaned ECG at 100 Hz.
    peak : int array, shape (n_beats,)
        R peaks, ascending.
    """
    premature, foreign, irregular = np.zeros((3, len(peak)), bool)
    if len(peak) <= LOCAL:
        return premature, foreign, ~irregular
    interval = np.diff(peak) / SFREQ
    local = ndimage.median_filter(interval, LOCAL, mode="reflect")
    premature[1:-1] = (interval[:-1] < PREMATURE * local[:-1]) & (
        interval[1:] > PAUSE * interval[:-1]
    )
    irregular[1:] = (
        ndimage.median_filter(np.abs(interval / local - 1), RHYTHM, mode="reflect") > IRREGULAR
    )
    irregular[0] = irregular[1]
    place = peak.clip(QRS_HALF, len(ecg) - QRS_HALF - 1)
    beats = ecg[place[:, None] + np.arange(-QRS_HALF, QRS_HALF + 1)]
    usual = np.median(beats[~premature], axis=0)
    beats, usual = beats - beats.mean(axis=1, keepdims=True), usual - usual.mean()
    foreign = beats @ usual < SAME_SHAPE * np.sqrt((beats**2).sum(axis=1) * (usual**2).sum())
    return premature, foreign, irregular
