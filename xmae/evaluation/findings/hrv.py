"""`xmae hrv`: heart-rate variability of the ECG, read off the PPG embedding.

RMSSD, SDNN and pNN50 (Task Force, Circulation 93(5), 1996) of the normal beats within each 10 s
window. Ten seconds are very short: RMSSD of 10 s agrees well with that of 5 min, SDNN less (Munoz
et al., PLoS ONE 10(9): e0138921, 2015).
"""

import numpy as np

from xmae.beats.r_peaks import DETECTORS, agreed, fraction_of_peak, r_peaks, stretches
from xmae.evaluation.findings.finding import probe_derived
from xmae.evaluation.heads.features import NAMES, ppg_features
from xmae.evaluation.protocol.ectopic import judge_beats
from xmae.evaluation.protocol.tasks import Task
from xmae.signals.window import N_TIMES, SFREQ

MIN_INTERVALS = 5
SOURCE = "R peaks of the ECG, both detectors"
TASKS = tuple(
    Task(name, label, "regression", units, name, SOURCE)
    for name, label, units in (
        ("rmssd", "RMSSD", "ms"),
        ("sdnn", "SDNN", "ms"),
        ("pnn50", "pNN50", "%"),
    )
)


def hrv(
    models: list[str], data: str, protocol: str = "test", out: str = "runs/hrv", seed: int = 77
) -> dict:
    """Estimate heart-rate variability from the frozen PPG embedding, against the ECG of the same 10
    s.

    Windows in which two R-peak detectors disagree, or with premature beats or irregular rhythm,
    have no truth.

    Parameters
    ----------
    models : list of str
        Shipped encoders ("base", "student-mcu") or encoder files.
    data : str
        Store of windows with ECG.
    protocol : str
        "test": score the subjects of the test split; "all": cross-validate over all.
    out : str
        Folder for metrics.json, table.md, table.csv, table.html and predictions.png.
    seed : int
        Seed of folds, resamples and of the untrained encoder.

    Returns
    -------
    dict
        As `xmae evaluate`, for RMSSD (ms), SDNN (ms) and pNN50 (%); the row "pulse intervals" is
        computed from the beats of the PPG.
    """
    return probe_derived(models, data, derive, TASKS, protocol, out, seed, "pulse intervals")


def derive(dataset):
    """Truth by column, and what the beats of the PPG say: see `probe_derived`."""
    features = ppg_features(dataset.ppg)[0]
    pulse = features[:, [NAMES.index("interval_sd"), NAMES.index("interval_rmssd")]]
    return hrv_labels(dataset), dict.fromkeys((task.name for task in TASKS), pulse)


def hrv_labels(windows):
    """RMSSD, SDNN (ms) and pNN50 (%) of every window of a store with ECG: dict of arrays (n,), NaN
    = not known.
    """
    labels = {task.name: np.full(len(windows.record), np.nan) for task in TASKS}
    for stretch in stretches(windows):
        ecg, n_windows = windows.ecg[stretch].ravel(), stretch.stop - stretch.start
        first, second = (r_peaks(ecg, detector) for detector in DETECTORS)
        premature, _, irregular = judge_beats(ecg, first)
        bad = (
            np.bincount(first[premature | irregular] // N_TIMES, minlength=n_windows)[:n_windows]
            > 0
        )
        sure = agreed(n_windows, first, second) & ~bad
        found = hrv_of_windows(fraction_of_peak(ecg, first) / SFREQ, first // N_TIMES, n_windows)
        for name, value in found.items():
            labels[name][stretch] = np.where(sure, value, np.nan)
    return labels


def hrv_of_windows(time, window, n_windows):
    """The three measures for the beats of each window.

    Parameters
    ----------
    time : float array, shape (n_beats,)
        Ascending, s.
    window : int array, shape (n_beats,)
        Number of the window that each beat is in.
    n_windows : int

    Returns
    -------
    dict of float arrays, shape (n_windows,)
        NaN below 5 intervals.
    """
    whole = window[1:] == window[:-1]
    interval, of = 1000 * np.diff(time)[whole], window[1:][whole]  # ms
    count = np.bincount(of, minlength=n_windows)
    mean = np.bincount(of, interval, minlength=n_windows) / np.maximum(count, 1)
    square = np.bincount(of, (interval - mean[of]) ** 2, minlength=n_windows)
    follows = of[1:] == of[:-1]
    change, of = np.diff(interval)[follows], of[1:][follows]
    changes = np.maximum(np.bincount(of, minlength=n_windows), 1)
    values = {
        "rmssd": np.sqrt(np.bincount(of, change**2, minlength=n_windows) / changes),
        "sdnn": np.sqrt(square / np.maximum(count - 1, 1)),
        "pnn50": 100 * np.bincount(of[np.abs(change) > 50], minlength=n_windows) / changes,
    }
    return {name: np.where(count >= MIN_INTERVALS, value, np.nan) for name, value in values.items()}
