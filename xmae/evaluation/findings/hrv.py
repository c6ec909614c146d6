"""`xmae hrv`: heart-rate variability of the ECG, read off the PPG embedding.

RMSSD, SDNN and pNN50 of the normal beats within each 10 s window; see `xmae.beats.intervals`.
"""

import numpy as np

from xmae.beats.intervals import variability
from xmae.beats.r_peaks import DETECTORS, agreed, fraction_of_peak, r_peaks, stretches
from xmae.evaluation.findings.finding import probe_derived
from xmae.evaluation.heads.features import NAMES, ppg_features
from xmae.evaluation.protocol.ectopic import judge_beats
from xmae.evaluation.protocol.tasks import Task
from xmae.signals.window import N_TIMES, SFREQ

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
    """Return the truth by column, and the values from the beats of the PPG: see `probe_derived`."""
    features = ppg_features(dataset.ppg)[0]
    pulse = features[:, [NAMES.index("interval_sd"), NAMES.index("interval_rmssd")]]
    return hrv_labels(dataset), dict.fromkeys((task.name for task in TASKS), pulse)


def hrv_labels(windows):
    """Return the RMSSD, SDNN (ms) and pNN50 (%) of every window in a store with ECG: dict of arrays
    (n,), NaN = unknown.
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
        found = variability(fraction_of_peak(ecg, first) / SFREQ, first // N_TIMES, n_windows)
        for name, value in found.items():
            labels[name][stretch] = np.where(sure, value, np.nan)
    return labels
