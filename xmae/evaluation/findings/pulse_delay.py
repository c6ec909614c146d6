"""`xmae timing`: the delay from ECG to PPG, read off the PPG embedding alone.

The delay of a beat runs from the R peak to the steepest rise of the pulse that belongs to it. That
pulse is found per stretch of recording: the mean slope of the PPG after the R peaks has its largest
value at the usual delay, and each beat's own is searched within 0.15 s of it. Monitors add their
own processing time (BIDMC: 0.46-0.72 s in all), so the absolute delay tells the monitor as much as
the person; the change within a recording does not.
"""

import numpy as np
import pandas as pd

from xmae.beats.r_peaks import DETECTORS, agreed, fraction_of_peak, r_peaks, stretches
from xmae.evaluation.findings.finding import probe_derived
from xmae.evaluation.protocol.tasks import Task
from xmae.signals.window import N_TIMES, SFREQ

SEARCH_S = (0.15, 0.9)  # usual delays
AROUND_S = 0.15  # of a beat, about the usual one
MIN_BEATS = 4
SOURCE = "R peak to steepest rise of the PPG"
TASKS = (
    Task("delay", "Delay", "regression", "ms", "delay", SOURCE),
    Task(
        "delay_change",
        "Delay less the recording's median",
        "regression",
        "ms",
        "delay_change",
        SOURCE,
    ),
)


def timing(
    models: list[str], data: str, protocol: str = "test", out: str = "runs/timing", seed: int = 77
) -> dict:
    """Regress the delay from R peak to pulse (ms) on the frozen embedding of the PPG alone.

    Parameters
    ----------
    models : list of str
        Shipped encoders ("base", "student-mcu") or encoder files: the one in question first, then
        its rivals.
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
        As `xmae evaluate`, for the delay and its change within a recording, both in ms. The row
        "both signals" is another way to compute it from ECG and PPG (the other R-peak detector,
        mean beat of the window): the best that can be hoped for.
    """
    return probe_derived(models, data, derive, TASKS, protocol, out, seed, "both signals")


def derive(dataset):
    """Return the truth by column, and the delay computed by the other method: see
    `probe_derived`.
    """
    delay, other = delays(dataset)
    labels = {"delay": delay, "delay_change": delay - medians(delay, dataset.recording)}
    change = other - medians(other, dataset.recording)
    return labels, {"delay": other[:, None], "delay_change": change[:, None]}


def medians(x, recording):
    """Return the median of the known values in its recording, for each window: (n,), (n,) ->
    (n,).
    """
    return pd.Series(x).groupby(recording).transform("median").to_numpy()


def delays(windows):
    """Compute the delay of every window in a store with ECG, by two methods.

    Returns
    -------
    delay : float array, shape (n,)
        Median over the window's beats, ms; NaN where the detectors disagree on its beats, or below
        4 of them.
    other : float array, shape (n,)
        Delay of the window's mean beat by the second detector, ms; 0 where it found no beat.
    """
    delay, other = np.full(len(windows.record), np.nan), np.zeros(len(windows.record))
    for stretch in stretches(windows):
        n_windows = stretch.stop - stretch.start
        ecg, slope = windows.ecg[stretch].ravel(), np.gradient(windows.ppg[stretch].ravel())
        first, second = (r_peaks(ecg, detector) for detector in DETECTORS)
        usual = usual_delay(slope, first)
        if usual is None:
            continue
        beat, value = beat_delays(ecg, slope, first, usual)
        sure = agreed(n_windows, first, second)
        for number in np.flatnonzero(sure):
            inside = value[beat // N_TIMES == number]
            if len(inside) >= MIN_BEATS:
                delay[stretch.start + number] = np.median(inside)
        other[stretch] = mean_beat_delays(ecg, slope, second, usual, n_windows)
    return delay, other


def usual_delay(slope, peak):
    """Return the number of samples after an R peak at which the PPG rises fastest, on average; None
    without beats.
    """
    lags = np.arange(round(SEARCH_S[0] * SFREQ), round(SEARCH_S[1] * SFREQ) + 1)
    peak = peak[peak + lags[-1] < len(slope)]
    return (
        int(lags[slope[peak[:, None] + lags].mean(axis=0).argmax()])
        if len(peak) >= MIN_BEATS
        else None
    )


def beat_delays(ecg, slope, peak, usual):
    """Return the R peaks with a pulse (n,), and their delays (n,) in ms; both ends are refined
    between samples by parabolas.
    """
    reach = round(AROUND_S * SFREQ)
    peak = peak[peak + usual + reach + 1 < len(slope)]
    begin = np.maximum(peak + usual - reach, 1)
    rise = begin + slope[begin[:, None] + np.arange(2 * reach + 1)].argmax(axis=1)
    found = (rise > begin) & (rise < begin + 2 * reach)  # a maximum, not the edge of the search
    peak, rise = peak[found], rise[found]
    return peak, 1000 / SFREQ * (
        fraction_of_peak(slope, rise) - fraction_of_peak(np.abs(ecg), peak)
    )


def mean_beat_delays(ecg, slope, peak, usual, n_windows):
    """Return the delay (ms) of the mean beat in each window, shape (n_windows,); the usual delay
    where there is no beat.
    """
    reach = round(AROUND_S * SFREQ)
    lags = usual + np.arange(-reach, reach + 1)
    peak = peak[(peak + lags[-1] < len(slope)) & (peak + lags[0] > 0)]
    window = peak // N_TIMES
    total = np.zeros((n_windows, len(lags)))
    np.add.at(total, window, slope[peak[:, None] + lags])
    offset = np.bincount(window, fraction_of_peak(np.abs(ecg), peak) - peak, minlength=n_windows)
    best = total[:, 1:-1].argmax(axis=1) + 1
    rows = np.arange(n_windows)
    flat = total.ravel()
    place = fraction_of_peak(flat, rows * len(lags) + best) - rows * len(lags)
    count = np.bincount(window, minlength=n_windows)
    delay = usual - reach + place - offset / np.maximum(count, 1)
    return 1000 / SFREQ * np.where(count > 0, delay, usual)
