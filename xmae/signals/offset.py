"""A constant offset between the clocks of two devices, estimated from the beats both have seen.

Heartbeats do not come evenly, so the train of pulses fits the train of R peaks best at one shift.
The shift at which it fits best is the offset plus the pulse arrival time, which nothing in the
signals can tell apart; so an offset is only claimed if the best shift is no possible arrival time,
and it is then known to about half a second.
"""

from typing import NamedTuple

import numpy as np

RATE = 50  # Hz, of the beat trains
SPREAD_S = 0.05  # s, standard deviation of the bump that stands for a beat
# s, from R peak to systolic peak: finger to ankle, with the delays of common recorders
ARRIVAL_S = (0.05, 0.9)
# s, R peak to systolic peak at the finger or wrist, estimated; what a mended recording gets
TYPICAL_ARRIVAL_S = 0.35
# other people's pulses reached 0.04 at most (37 BIDMC recordings, 1 to 8 minutes)
MIN_CONFIDENCE = 0.1


class Offset(NamedTuple):
    """Best shift (s, pulses after R peaks), confidence (0 to 1), and the offset to correct (s),
    None if refused.
    """

    shift_s: float
    confidence: float
    seconds: float | None


def beat_train(peaks, sfreq, n_times):
    """Bumps at the peaks' times: sample numbers at `sfreq` (Hz) -> (n,) at 50 Hz with mean 0."""
    train = np.zeros(int(np.ceil(n_times / sfreq * RATE)) + 1)
    np.add.at(train, np.rint(np.asarray(peaks) / sfreq * RATE).astype(int), 1.0)
    width = int(4 * SPREAD_S * RATE)
    bump = np.exp(-0.5 * (np.arange(-width, width + 1) / (SPREAD_S * RATE)) ** 2)
    train = np.convolve(train, bump, mode="same")
    return train - train.mean()


def estimate_offset(r_peaks, pulses, sfreq, n_times, max_offset_s=60.0):
    """Estimate how much later the PPG's clock runs than the ECG's.

    Parameters
    ----------
    r_peaks, pulses : int arrays
        Sample numbers of R peaks and of systolic peaks.
    sfreq : float
        Sampling rate of both, Hz.
    n_times : int
        Samples of the recording; minutes are needed to tell one beat from the next.
    max_offset_s : float
        Largest offset looked for, s.

    Returns
    -------
    Offset
        The confidence is the share by which the best shift's correlation beats that of all shifts a
        third of a cycle or more away; below 0.1 the offset is refused. An offset of 0 means that
        the best shift is a possible arrival time.
    """
    if min(len(r_peaks), len(pulses)) < 20:
        return Offset(np.nan, 0.0, None)
    first, second = (beat_train(peaks, sfreq, n_times) for peaks in (r_peaks, pulses))
    from scipy import signal  # the light runtime looks for no offset

    correlation = signal.correlate(second, first, method="fft") / np.sqrt(
        (first**2).sum() * (second**2).sum()
    )
    lags = np.arange(-len(first) + 1, len(second)) / RATE
    near = np.abs(lags) <= max_offset_s
    correlation, lags = correlation[near], lags[near]
    best = int(correlation.argmax())
    cycle = np.median(np.diff(r_peaks)) / sfreq
    rival = correlation[np.abs(lags - lags[best]) > cycle / 3].max(initial=0)
    peak = max(float(correlation[best]), 0.0)
    confidence = max(0.0, 1 - max(rival, 0) / peak) * min(1.0, 2 * peak) if peak > 0 else 0.0
    shift = float(lags[best])
    if confidence < MIN_CONFIDENCE:
        return Offset(shift, confidence, None)
    return Offset(
        shift,
        confidence,
        0.0 if ARRIVAL_S[0] <= shift <= ARRIVAL_S[1] else shift - TYPICAL_ARRIVAL_S,
    )
