"""How the delay from R peak to pulse changes within a recording: from both signals, and as a method
that finds beats in the PPG alone places them.

The absolute delay holds the monitor's clock, so a recording's median is taken off both.
"""

import numpy as np

from xmae.beats.intervals import beats_by_window
from xmae.beats.r_peaks import stretches
from xmae.evaluation.findings.pulse_delay import MIN_BEATS, beat_delays, medians, usual_delay
from xmae.signals.window import N_TIMES, SFREQ


def true_changes(windows, recording):
    """Measure each window's delay from both signals, less the recording's median.

    Parameters
    ----------
    windows : Windows
        With ECG and `beats`.
    recording : int array, shape (n,)
        Number of each window's recording.

    Returns
    -------
    float array, shape (n,)
        ms: median over the window's beats from R peak to the steepest rise of the PPG; NaN below 4
        beats, and where the ECG's detectors disagree.
    """
    delay = np.full(len(recording), np.nan)
    for part in stretches(windows):
        window, time = beats_by_window(windows.beats[part])
        peak = np.rint(SFREQ * time).astype(int) + N_TIMES * window
        ecg, slope = windows.ecg[part].ravel(), np.gradient(windows.ppg[part].ravel())
        peak = peak[(peak > 0) & (peak < len(ecg) - 1)]
        usual = usual_delay(slope, peak)
        if usual is not None:
            found, value = beat_delays(ecg, slope, peak, usual)
            delay[part] = window_medians(found // N_TIMES, value, part.stop - part.start)
    return delay - medians(delay, recording)


def read_changes(windows, recording, matched):
    """Read each window's delay from a method's beats, less the recording's median.

    Parameters
    ----------
    windows, recording
        As in `true_changes`.
    matched : Matched
        The method's beats beside the ECG's.

    Returns
    -------
    float array, shape (n,)
        ms; 0, the recording's median, where fewer than 4 beats have a partner.
    """
    _, time = beats_by_window(windows.beats)
    late = 1000 * (matched.found - windows.start_s[matched.window] - time)
    known = np.isfinite(late)
    delay = window_medians(matched.window[known], late[known], len(recording))
    change = delay - medians(delay, recording)
    return np.where(np.isfinite(change), change, 0.0)


def window_medians(window, value, n_windows):
    """Return the median of each window's values, NaN with fewer than 4: (k,), (k,) ->
    (n_windows,).
    """
    median = np.full(n_windows, np.nan)
    for number in np.flatnonzero(np.bincount(window, minlength=n_windows) >= MIN_BEATS):
        median[number] = np.median(value[window == number])
    return median
