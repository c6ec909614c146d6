"""The classical rivals: NeuroKit2's PPG detectors and an autocorrelation, read like any model.

Their settings stand in rivals.json and were fixed before anything was scored; a test holds them.
Each window is read by itself, as by our models.

Sources: Elgendi et al., PLoS ONE 8(10): e76585, 2013; Bishop & Ercole, Acta Neurochir Suppl 126,
2018 (MSPTD); Charlton et al., Physiol Meas 46: 035002, 2025 (MSPTDfast version 2).
"""

import json
import warnings
from pathlib import Path

import numpy as np
from scipy import signal

from xmae.beats.intervals import rate_by_window
from xmae.beats.r_peaks import fraction_of_peak
from xmae.beats.reading import Reading
from xmae.errors import require_choice
from xmae.signals.quality import template_quality, window_quality
from xmae.signals.window import SFREQ

SETTINGS = json.loads((Path(__file__).parent / "rivals.json").read_text())
METHODS = ("elgendi", "bishop", "charlton", "autocorrelation")
FEWEST = SETTINGS["fewest_beats"]


def read_classical(ppg, method):
    """Read windows of PPG by a classical method.

    Parameters
    ----------
    ppg : float array, shape (n, 1000)
        Cleaned PPG at 100 Hz, any unit, upright.
    method : str
        "elgendi", "bishop", "charlton" or "autocorrelation".

    Returns
    -------
    Reading
        Without a rate where fewer than 3 beats are found. The certainty is the match of the beats
        with their mean beat; for the autocorrelation, which finds no beats, its height.

    Raises
    ------
    UserError
        If there is no such method.
    """
    require_choice("method", method, METHODS)
    ppg = np.asarray(ppg, np.float64)
    if method == "autocorrelation":
        return read_autocorrelation(ppg)
    n_windows, beats = len(ppg), []
    certainty = np.zeros(n_windows)
    for number, x in enumerate(ppg):
        peaks = pulse_peaks(x, method)
        time = fraction_of_peak(x, peaks) / SFREQ
        quality = template_quality(x, peaks, SFREQ)
        if len(peaks) >= FEWEST:
            certainty[number] = max(0.0, window_quality(quality, SFREQ)[0])
        beats.append([np.full(len(peaks), number), time, quality[peaks].clip(0, 1)])
    beats = np.concatenate([np.zeros((3, 0)), *beats], axis=1)
    window = beats[0].astype(int)
    rate = rate_by_window(beats[1], window, n_windows)
    rate[np.bincount(window, minlength=n_windows) < FEWEST] = np.nan
    return Reading(window, beats[1], beats[2], rate, certainty)


def pulse_peaks(x, method):
    """Return the sample numbers of the systolic peaks in one window (n_times,); none in a flat
    window.
    """
    if np.ptp(x) == 0:
        return np.zeros(0, int)
    peaks = multiscale_peaks(x) if method == "bishop" else neurokit_peaks(x, method)
    return peaks[(peaks > 0) & (peaks < len(x) - 1)]  # with both neighbours, for the parabola


def neurokit_peaks(x, method):
    """Return the sample numbers of peaks by a detector of NeuroKit2 with fixed settings."""
    from neurokit2 import ppg_findpeaks  # slow to import

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = ppg_findpeaks(x, sampling_rate=SFREQ, method=method, **SETTINGS[method])[
                "PPG_Peaks"
            ]
        except (IndexError, ValueError):  # what NeuroKit2 0.2.13 raises if there is not one wave
            found = []
    return np.unique(np.asarray(found, int))


def multiscale_peaks(x):
    """Return the sample numbers of peaks by multi-scale detection (MSPTD), as NeuroKit2's "bishop",
    which takes 0.7 s per window.

    A sample is a peak if it is above its neighbours at every distance up to the one at which most
    samples are.
    """
    n_times = len(x)
    x = signal.detrend(x, type="linear")
    above = np.zeros((int(np.ceil(n_times / 2) - 1), n_times), bool)
    for row, distance in enumerate(range(1, len(above))):
        middle = x[distance + 1 : n_times - distance]
        before, after = x[1 : n_times - 2 * distance], x[2 * distance + 1 :]
        above[row, distance + 1 : n_times - distance] = (middle > before) & (middle > after)
    widest = above.sum(axis=1).argmax()
    return np.flatnonzero(above[: widest + 1].all(axis=0))


def read_autocorrelation(ppg):
    """Read the heart rate at which the autocorrelation of each window is highest, from 30 to 220
    bpm.
    """
    n_windows, n_times = ppg.shape
    centred = ppg - ppg.mean(axis=1, keepdims=True)
    power = np.abs(np.fft.rfft(centred, 2 * n_times)) ** 2
    correlation = np.fft.irfft(power)[:, :n_times]
    energy = correlation[:, :1]
    correlation = np.divide(correlation, energy, out=np.zeros_like(correlation), where=energy > 0)
    limits = SETTINGS["autocorrelation"]
    shortest = int(60 * SFREQ / limits["highest_bpm"])
    longest = int(np.ceil(60 * SFREQ / limits["lowest_bpm"]))
    inner = correlation[:, shortest : longest + 1]
    peak = (inner > correlation[:, shortest - 1 : longest]) & (
        inner >= correlation[:, shortest + 1 : longest + 2]
    )
    height = np.where(peak, inner, -np.inf)
    best, answered = shortest + height.argmax(axis=1), peak.any(axis=1)
    row = np.arange(n_windows)
    lag = fraction_of_peak(correlation.ravel(), row * n_times + best) - row * n_times
    certainty = np.where(answered, correlation[row, best].clip(0, 1), 0.0)
    rate = np.where(answered, 60 * SFREQ / lag, np.nan)
    nothing = np.zeros(0)
    return Reading(nothing.astype(int), nothing, nothing, rate, certainty)
