"""Errors of beats and heart rate on the people of a store, in a few numbers and a picture."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from xmae.beats.rivals import read_classical
from xmae.evaluation.protocol.beat_scores import (
    interval_scores,
    match_scores,
    rate_scores,
)
from xmae.evaluation.protocol.cohort import load_cohort
from xmae.files import atomic_file
from xmae.signals.window import SFREQ

RIVAL = "elgendi"  # NeuroKit2's default, with the settings of xmae/beats/rivals.json
SHOWN = 3  # windows of the picture


@dataclass(frozen=True)
class Accuracy:
    """Accuracy of one method on a store: means over its subjects.

    Parameters
    ----------
    name : str
        Name of the method.
    error_bpm : float
        Mean absolute error of the heart rate, bpm.
    within_5_bpm : float
        Share of windows, 0 to 1.
    answered : float
        Share of windows with an answer, 0 to 1.
    f1 : float
        F1 score of beats, within 150 ms and a quarter of the interval, after one delay per
        recording.
    interval_ms : float
        Median error of intervals that all methods have, ms.
    """

    name: str
    error_bpm: float
    within_5_bpm: float
    answered: float
    f1: float
    interval_ms: float


def read_people(store, models, picture=None):
    """Read all windows of a store that have truth, by models and by a classical detector.

    Parameters
    ----------
    store : str
        Store with ECG.
    models : dict
        Things with `read_windows(ppg) -> Reading`, by name; the first is drawn.
    picture : str or Path, optional
        PNG to write: PPG with the beats that the first found, over the ECG with its own.

    Returns
    -------
    dict
        `subjects`, `windows` (with truth), `all_windows`, `methods` (fields of `Accuracy`, in
        order, the classical detector last) and `picture`.

    Raises
    ------
    UserError
        As `load_cohort`.
    """
    cohort = load_cohort(store)
    readings = {name: model.read_windows(cohort.windows.ppg) for name, model in models.items()}
    readings[RIVAL] = read_classical(cohort.windows.ppg, RIVAL)
    scored = {name: cohort.score(reading) for name, reading in readings.items()}
    known = np.isfinite(cohort.truth["hr"])
    intervals = interval_scores(cohort.windows, cohort.recording, scored, known)
    if picture:
        draw_beats(cohort, next(iter(readings.values())), Path(picture))
    return {
        "subjects": len(np.unique(cohort.subject[known])),
        "windows": int(known.sum()),
        "all_windows": len(known),
        "methods": [asdict(accuracy(name, one, intervals[name])) for name, one in scored.items()],
        "picture": str(picture) if picture else None,
    }


def accuracy(name, scored, intervals):
    """Summarise the errors of one method: `Accuracy`."""
    rate, beats = rate_scores(scored), match_scores(scored)
    return Accuracy(
        name,
        *(float(np.nanmean(rate[key])) for key in ("error", "within", "answered")),
        float(np.nanmean(beats["f1"])),
        float(np.nanmean(intervals["median"])),
    )


def draw_beats(cohort, reading, path):
    """Draw windows of different subjects: PPG with the beats found in it, ECG with its own
    beats.
    """
    rows = rows_to_draw(cohort)
    figure = Figure(figsize=(9, 2.3 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), 1, sharex=True, squeeze=False)[:, 0]
    time = np.arange(cohort.windows.ppg.shape[1]) / SFREQ
    for ax, row in zip(axes, rows, strict=True):
        draw_window(ax, time, cohort, reading, row)
    axes[-1].set_xlabel("time (s)")
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=110)


def rows_to_draw(cohort):
    """Choose windows with truth: the middle one of each of a few subjects, in the order of the
    subjects.
    """
    known = np.flatnonzero(np.isfinite(cohort.truth["hr"]))
    subjects = np.unique(cohort.subject[known])
    chosen = subjects[np.linspace(0, len(subjects) - 1, min(SHOWN, len(subjects))).astype(int)]
    return [rows[len(rows) // 2] for s in chosen if len(rows := known[cohort.subject[known] == s])]


def draw_window(ax, time, cohort, reading, row):
    """Draw one window into an axis, with its heart rates in the title."""
    windows = cohort.windows
    ppg, ecg = (unit(x[row]) for x in (windows.ppg, windows.ecg))
    found = reading.time[reading.window == row]
    true = windows.beats[row][np.isfinite(windows.beats[row])]
    ax.plot(time, ppg - 1.2, color="#2a9d8f", lw=1, label="PPG")
    ax.plot(time, ecg, color="#8d99ae", lw=1, label="ECG")
    ax.plot(found, np.interp(found, time, ppg) - 1.2, "o", ms=5, color="#d62828",
            label="beats found in the PPG")  # fmt: skip
    ax.plot(true, np.interp(true, time, ecg), "v", ms=5, color="#1d3557", label="beats of the ECG")
    ax.set_title(
        f"{windows.subject[row]}: {reading.rate[row]:.0f} bpm read,"
        f" {cohort.truth['hr'][row]:.0f} bpm by the ECG",
        fontsize="medium", loc="left",
    )  # fmt: skip
    ax.set_yticks([])
    ax.margins(x=0)


def unit(x):
    """Scale an array to 0 to 1."""
    return (x - x.min()) / max(float(np.ptp(x)), 1e-9)
