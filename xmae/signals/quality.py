"""How far to trust a beat: its correlation with the average beat of the recording.

This is NeuroKit2's `templatematch` (version 0.2.13; loosely after Orphanidou et al., IEEE JBHI 19,
2015), computed for all beats at once instead of through one data frame per beat. Peaks come from
NeuroKit2's detectors, which are quick on a whole recording.
"""

import numpy as np

from xmae.signals.resample import resampling_ratio
from xmae.signals.window import N_TIMES, SFREQ

MIN_PEAKS = 4  # NeuroKit2 gives no rate for three peaks or fewer
PERCENTILE = 15  # of the quality over a window: the xMAE recipe


def ecg_peaks(clean, sfreq):
    """Return the sample numbers of the R peaks in cleaned ECG (n_times,), by NeuroKit2's default
    detector.
    """
    from neurokit2 import ecg_findpeaks  # slow to import, and only preparation needs it

    return ecg_findpeaks(clean, sampling_rate=sfreq)["ECG_R_Peaks"].astype(int)


def ppg_peaks(clean, sfreq):
    """Return the sample numbers of the systolic peaks in cleaned PPG (n_times,), by NeuroKit2's
    default detector (Elgendi et al. 2013).
    """
    from neurokit2 import ppg_findpeaks

    try:
        return ppg_findpeaks(clean, sampling_rate=sfreq)["PPG_Peaks"]
    # what NeuroKit2 0.2.13 raises if there is not one wave, as in a flat stretch
    except IndexError:
        return np.array([], int)


def template_quality(clean, peaks, sfreq):
    """Return the quality of every sample: the correlation of its beat with the mean beat.

    A beat reaches half a mean cycle to both sides of its peak; the mean cycle is 60 over the mean
    of the rate, interpolated between peaks as NeuroKit2 does. Beats that reach beyond the signal
    are left out, and so is the last beat.

    Parameters
    ----------
    clean : array, shape (n_times,)
        Cleaned ECG or PPG, any unit.
    peaks : int array, shape (n_peaks,)
        Sample numbers of its beats, ascending.
    sfreq : float
        Sampling rate, Hz.

    Returns
    -------
    array, shape (n_times,)
        Quality in [-1, 1], 1 = the beat has the shape of the average beat; 0 everywhere if there
        are fewer than 4 peaks, too few whole beats, or only flat ones.
    """
    n_times = len(clean)
    nothing = np.zeros(n_times)
    if len(peaks) < MIN_PEAKS:
        return nothing
    half = sfreq * 30 / mean_rate(peaks, sfreq, n_times)  # half a mean cycle, samples
    offsets = np.arange(-np.ceil(half), np.floor(half)).astype(int)
    peaks = peaks[(peaks + offsets[0] >= 0) & (peaks + offsets[-1] < n_times)]
    if len(peaks) < 2:
        return nothing
    beats = clean[peaks[:, None] + offsets]  # (n_beats, cycle)
    template = beats.mean(axis=0)
    beats, template = (
        beats[:-1] - beats[:-1].mean(axis=1, keepdims=True),
        template - template.mean(),
    )
    norm = np.sqrt((beats**2).sum(axis=1) * (template**2).sum())
    correlation = np.divide(beats @ template, norm, out=np.zeros(len(beats)), where=norm > 0)
    beat_of_sample = np.searchsorted(peaks[:-1], np.arange(n_times), side="right") - 1
    return correlation[np.maximum(beat_of_sample, 0)]


def mean_rate(peaks, sfreq, n_times):
    """Return the mean beat rate (per minute) over all samples, by monotone cubics as in NeuroKit2's
    `signal_rate`.
    """
    period = np.diff(peaks) / sfreq
    period = np.concatenate([[period.mean()], period])
    inside = np.clip(np.arange(n_times), peaks[0], peaks[-1])
    from scipy.interpolate import PchipInterpolator  # the light runtime judges no quality

    return np.mean(60 / PchipInterpolator(peaks, period)(inside))


def window_quality(quality, sfreq):
    """Return the 15th percentile of a quality in each whole 10 s window: (n_times,) at `sfreq` Hz
    -> (n_windows,).
    """
    up, down = resampling_ratio(sfreq, SFREQ)
    n_windows = len(quality) * up // (down * N_TIMES)
    at_window_rate = np.arange(n_windows * N_TIMES) * down // up  # sample numbers
    return np.percentile(quality[at_window_rate].reshape(n_windows, N_TIMES), PERCENTILE, axis=1)
