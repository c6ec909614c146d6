"""Cleaning of ECG and PPG: the defaults of NeuroKit2's `ecg_clean` and `ppg_clean`, along the last
axis of any array.

NeuroKit2 (Makowski et al., Behavior Research Methods 53, 2021; sources of version 0.2.13) filters
one signal a call; here one call takes a whole recording or a matrix of windows. All filters run
forward and backward (no delay), with SciPy's default odd extension at both ends.
"""

from functools import cache

import numpy as np

try:
    from scipy import signal

    CLEANS_ECG = True
except ImportError:  # the light runtime, for PPG only
    from xmae.signals import plain as signal

    CLEANS_ECG = False

ECG_HIGHPASS = 0.5  # Hz, Butterworth, order 5: NeuroKit2 ecg_clean(method="neurokit")
# Hz, Butterworth, order 2: NeuroKit2 ppg_clean(method="elgendi"), after Elgendi et al. 2013
PPG_BANDPASS = (0.5, 8.0)
RESP_BANDPASS = (0.05, 3.0)  # Hz, Butterworth, order 2: NeuroKit2 rsp_clean(method="khodadad2018")
POWERLINE = 50  # Hz, NeuroKit2's default


@cache
def ecg_sos(sfreq):
    """Return the second-order sections (3, 6) of the ECG high-pass at `sfreq` (Hz)."""
    return signal.butter(5, ECG_HIGHPASS, btype="highpass", output="sos", fs=sfreq)


@cache
def ppg_sos(sfreq):
    """Return the second-order sections (2, 6) of the PPG band-pass at `sfreq` (Hz)."""
    return signal.butter(2, PPG_BANDPASS, btype="bandpass", output="sos", fs=sfreq)


@cache
def resp_sos(sfreq):
    """Return the second-order sections (2, 6) of the respiration band-pass at `sfreq` (Hz)."""
    return signal.butter(2, RESP_BANDPASS, btype="bandpass", output="sos", fs=sfreq)


def powerline_kernel(sfreq):
    """Return the taps of a moving average over one period of 50 Hz (2 samples below 100 Hz), run
    forward and backward: (n_taps,).
    """
    n_taps = int(sfreq / POWERLINE) if sfreq >= 100 else 2
    return np.full(n_taps, 1 / n_taps)


def ecg_clean(ecg, sfreq):
    """Remove baseline wander and power-line noise from ECG.

    Parameters
    ----------
    ecg : array, shape (..., n_times)
        Raw ECG, any unit, finite.
    sfreq : float
        Sampling rate, Hz.

    Returns
    -------
    array, shape (..., n_times)
        Cleaned ECG, float64, same unit; equals `neurokit2.ecg_clean(ecg, sampling_rate=sfreq)` row
        by row.
    """
    clean = signal.sosfiltfilt(ecg_sos(sfreq), ecg, axis=-1)
    return signal.filtfilt(powerline_kernel(sfreq), [1.0], clean, axis=-1)


def ppg_clean(ppg, sfreq):
    """Band-pass PPG to 0.5-8 Hz, the band of the pulse wave.

    Parameters
    ----------
    ppg : array, shape (..., n_times)
        Raw PPG, any unit, finite.
    sfreq : float
        Sampling rate, Hz; above 16.

    Returns
    -------
    array, shape (..., n_times)
        Cleaned PPG, float64, same unit; equals `neurokit2.ppg_clean(ppg, sampling_rate=sfreq)` row
        by row.
    """
    return signal.sosfiltfilt(ppg_sos(sfreq), ppg, axis=-1)


def resp_clean(resp, sfreq):
    """Band-pass respiration to 0.05-3 Hz: (..., n_times) at `sfreq` (Hz) -> the same shape,
    float64, same unit.

    Equals `neurokit2.rsp_clean(resp, sampling_rate=sfreq)` row by row.
    """
    return signal.sosfiltfilt(resp_sos(sfreq), resp, axis=-1)
