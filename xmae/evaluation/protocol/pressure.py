"""Systolic and diastolic pressure from an invasive arterial line: beats found, doubtful ones left
out, 10 s at a time.

The shipped `xmae/data/bidmc/pressure.csv` was made by `pressure_table` from the arterial channel
(ABP or ART, mmHg, 125 Hz) of the seven BIDMC recordings that have one; the channel itself is not
shipped.
"""

import numpy as np
import pandas as pd
from scipy import ndimage, signal

from xmae.signals.window import WINDOW_S

LOWPASS_HZ = 10  # above the pulse wave, below line ringing
MIN_INTERVAL_S, MAX_INTERVAL_S = 0.3, 2.0  # 200 to 30 beats per minute
PULSE_MMHG = (15, 150)  # pulse pressure of a beat that is believed
PLAUSIBLE_MMHG = (20, 260)
MAX_JUMP_MMHG = 25  # off the median of 11 beats: flushes, damping, artefacts
MIN_BEATS = 5


def pressure_beats(abp, sfreq):
    """Return the systolic and diastolic pressure of each beat.

    A beat is a peak of the pressure, low-passed at 10 Hz (Butterworth, order 2, forward and
    backward), at least 0.3 s after the one before and 15 mmHg above its surroundings; its diastolic
    pressure is the lowest value since the peak before. Beats are left out if their pulse pressure
    lies outside 15-150 mmHg, a pressure outside 20-260 mmHg, their interval is over 2 s, or they
    are more than 25 mmHg off the running median of 11 beats.

    Parameters
    ----------
    abp : float array, shape (n_times,)
        Arterial pressure, mmHg.
    sfreq : float
        Sampling rate, Hz.

    Returns
    -------
    time, systolic, diastolic : float arrays, shape (n_beats,)
        Time of the systolic peak (s), pressures (mmHg).
    """
    sos = signal.butter(2, LOWPASS_HZ, output="sos", fs=sfreq)
    smooth = signal.sosfiltfilt(sos, abp)
    peak, _ = signal.find_peaks(
        smooth, distance=int(MIN_INTERVAL_S * sfreq), prominence=PULSE_MMHG[0]
    )
    if len(peak) < 2:
        return np.zeros((3, 0))
    systolic, diastolic = smooth[peak[1:]], np.minimum.reduceat(smooth, peak)[:-1]
    pulse = systolic - diastolic
    good = (
        (pulse >= PULSE_MMHG[0])
        & (pulse <= PULSE_MMHG[1])
        & (np.diff(peak) <= MAX_INTERVAL_S * sfreq)
    )
    for value in (systolic, diastolic):
        good &= (value >= PLAUSIBLE_MMHG[0]) & (value <= PLAUSIBLE_MMHG[1])
        good &= np.abs(value - ndimage.median_filter(value, 11, mode="nearest")) <= MAX_JUMP_MMHG
    return peak[1:][good] / sfreq, systolic[good], diastolic[good]


def pressure_table(abp, sfreq, subject, record):
    """Make a label table (see `xmae.evaluation.protocol.labels`) of one recording, a row for each
    10 s.

    Returns
    -------
    pandas.DataFrame
        subject, record, time (s), sbp, dbp (mmHg): means over the beats of the 10 s; empty below 5
        believed beats.
    """
    time, systolic, diastolic = pressure_beats(abp, sfreq)
    n_rows = int(len(abp) / sfreq // WINDOW_S)
    row = (time // WINDOW_S).astype(int)
    inside = row < n_rows
    count = np.bincount(row[inside], minlength=n_rows)
    means = {
        name: np.where(
            count >= MIN_BEATS,
            np.bincount(row[inside], value[inside], minlength=n_rows) / np.maximum(count, 1),
            np.nan,
        ).round(1)
        for name, value in (("sbp", systolic), ("dbp", diastolic))
    }
    return pd.DataFrame(
        {"subject": subject, "record": record, "time": np.arange(n_rows) * WINDOW_S, **means}
    )
