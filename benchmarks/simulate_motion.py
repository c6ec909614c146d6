"""`xmae simulate student-motion`: PPG and acceleration, a line a second, the bits of
`xmae.MotionStream`.
"""

import numpy as np

from xmae.benchmarks.simulate_beats import play_all
from xmae.errors import UserError
from xmae.firmware_sim.play_motion import ONE_G, STUDENT, MovingCodes, play_motion
from xmae.signals.front_end import MAX_SFREQ, MIN_SFREQ

LARGEST = (1 << 15) - 1  # code of an accelerometer


def simulate_motion(chosen, not_run, signal, out, speed):
    """Play a recording with acceleration through libxmae on devices.

    Parameters
    ----------
    chosen, not_run, signal, out, speed
        As of `xmae.benchmarks.simulate_beats.simulate_beats`.

    Returns
    -------
    dict
        As `xmae.benchmarks.simulate.simulate`.

    Raises
    ------
    UserError
        If the recording has no acceleration, or sensors are out of range.
    """
    codes = moving_codes(signal)
    origin = {"student": STUDENT, "signature": "shipped"}

    def play(profile, emulator, place):
        return play_motion(profile, emulator, codes, place, signal.hop_s)[0]

    return play_all(chosen, not_run, play, signal, origin, out, speed)


def moving_codes(signal):
    """Return what the sensors of a watch give: `MovingCodes`. A gap holds the value before it.

    Raises
    ------
    UserError
        If the recording has no acceleration, or sensors are out of range.
    """
    recording = signal.recording
    if recording.acc is None or np.isfinite(recording.acc).sum() == 0:
        raise UserError(f"{signal.name}: no acceleration; {STUDENT} is for recordings that have it")
    rate = round(float(recording.sfreq), 3)
    if not MIN_SFREQ <= rate <= MAX_SFREQ:
        raise UserError(
            f"{signal.name}: acceleration at {rate:g} Hz; expected {MIN_SFREQ} to {MAX_SFREQ} Hz"
        )
    ppg = held(signal.codes()[None])[0]
    acc = np.clip(np.rint(held(recording.acc) * ONE_G), -LARGEST, LARGEST)
    return MovingCodes(ppg.astype(np.int64), acc.astype(np.int64), signal.rate, rate, signal.bits)


def held(x):
    """Hold the value before where rows (n, m) miss one, and the first known at the start."""
    known = np.isfinite(x)
    last = np.maximum.accumulate(np.where(known, np.arange(x.shape[1]), -1), 1)
    last = np.where(last < 0, known.argmax(1)[:, None], last)
    return np.nan_to_num(np.take_along_axis(x, last, 1))
