"""Beats of whole recordings: R peaks by two detectors of different kinds, and the intervals between
them.

Windows that follow each other are joined before anything is looked for, so no beat is lost at a
window's edge.
"""

import warnings

import numpy as np

from xmae.signals.window import N_TIMES, SFREQ

DETECTORS = ("neurokit", "kalidas2017")  # gradient of the signal; stationary wavelet transform
TOLERANCE_S = 0.15  # the same beat, as in ANSI/AAMI EC57
PEAK_HALF = 5  # samples: the largest |ECG| within 50 ms is the R peak


def stretches(windows):
    """Return slices of consecutive windows (in the order of the store) without a gap in one
    recording.
    """
    edges = np.concatenate([[0], np.flatnonzero(~windows.follows) + 1])
    return [slice(a, b) for a, b in zip(edges[:-1], edges[1:], strict=True) if b > a]


def r_peaks(ecg, detector=DETECTORS[0]):
    """Return the R peaks of cleaned ECG at 100 Hz (n_times,), as sample numbers; none where the
    detector gives up.
    """
    from neurokit2 import ecg_findpeaks  # slow to import

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = np.unique(
                np.asarray(
                    ecg_findpeaks(ecg, sampling_rate=SFREQ, method=detector)["ECG_R_Peaks"], int
                )
            )
        except (IndexError, ValueError):  # NeuroKit2 0.2.13 on stretches without a beat
            found = np.zeros(0, int)
    found = found[(found >= PEAK_HALF) & (found < len(ecg) - PEAK_HALF)]
    if not len(found):
        return found
    around = np.abs(ecg[found[:, None] + np.arange(-PEAK_HALF, PEAK_HALF + 1)])
    peaks = np.unique(found - PEAK_HALF + around.argmax(axis=1))
    # each with both its neighbours, for `fraction_of_peak`
    return peaks[(peaks > 0) & (peaks < len(ecg) - 1)]


def matched(first, second):
    """Tell for every beat of `first` whether `second` has one within 0.15 s (both ascending sample
    numbers): bool.
    """
    if not len(second):
        return np.zeros(len(first), bool)
    after = np.searchsorted(second, first).clip(1, max(len(second) - 1, 1))
    nearest = np.minimum(
        np.abs(second[after - 1] - first), np.abs(second[after.clip(max=len(second) - 1)] - first)
    )
    return nearest <= TOLERANCE_S * SFREQ


def agreed(n_windows, first, second):
    """Tell whether both detectors found the same beats in each window of a stretch: bool
    (n_windows,).
    """
    alone = np.concatenate([first[~matched(first, second)], second[~matched(second, first)]])
    beats = np.bincount(first // N_TIMES, minlength=n_windows)[:n_windows]
    return (np.bincount(alone // N_TIMES, minlength=n_windows)[:n_windows] == 0) & (beats >= 3)


def fraction_of_peak(x, peak):
    """Refine peaks (n,) to fractions of a sample: the vertex of a parabola through each peak of `x`
    and its two neighbours.
    """
    a, b, c = x[peak - 1], x[peak], x[peak + 1]
    bend = a - 2 * b + c
    shift = np.divide(0.5 * (a - c), bend, out=np.zeros(len(peak)), where=np.abs(bend) > 1e-12)
    return peak + shift.clip(-0.5, 0.5)
