"""`xmae simulate` of a student for PPG and acceleration: one line per second, the bits of
`xmae.MotionStream`.
"""

import numpy as np

from xmae.benchmarks.simulate_beats import play_all
from xmae.errors import UserError
from xmae.firmware_sim.play_motion import ONE_G, MovingCodes, MovingStudent, play_motion
from xmae.signals.front_end import MAX_SFREQ, MIN_SFREQ

LARGEST = (1 << 15) - 1  # code of an accelerometer


def moving_student(bundle, model):
    """Return the student of a bundle with this name if it takes acceleration: `MovingStudent`; else
    None.
    """
    library = bundle.manifest.c
    for described in library.models if library else ():
        if described.model == model and described.takes_acceleration:
            path = bundle.path / described.int8
            return MovingStudent(described.name, path, bundle.certainty(model))
    return None


def simulate_motion(student, state, chosen, not_run, signal, out, speed):
    """Play a recording with acceleration through libxmae on devices.

    Parameters
    ----------
    student : MovingStudent
    state : str
        Whether its bundle is signed, or "shipped".
    chosen, not_run, signal, out, speed
        As in `xmae.benchmarks.simulate_beats.simulate_beats`.

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
    origin = {"student": student.name, "signature": state}

    def play(profile, emulator, place):
        return play_motion(profile, emulator, codes, place, student, signal.hop_s)[0]

    return play_all(chosen, not_run, play, signal, origin, out, speed)


def moving_codes(signal):
    """Sample a recording like the sensors of a watch: `MovingCodes`. In a gap the value before it
    is repeated.

    Raises
    ------
    UserError
        If the recording has no acceleration, or sensors are out of range.
    """
    recording = signal.recording
    if recording.acc is None or np.isfinite(recording.acc).sum() == 0:
        raise UserError(
            f"{signal.name}: no acceleration; this student is for recordings that have it"
        )
    rate = round(float(recording.sfreq), 3)
    if not MIN_SFREQ <= rate <= MAX_SFREQ:
        raise UserError(
            f"{signal.name}: acceleration at {rate:g} Hz; expected {MIN_SFREQ} to {MAX_SFREQ} Hz"
        )
    ppg = held(signal.codes()[None])[0]
    acc = np.clip(np.rint(held(recording.acc) * ONE_G), -LARGEST, LARGEST)
    return MovingCodes(ppg.astype(np.int64), acc.astype(np.int64), signal.rate, rate, signal.bits)


def held(x):
    """Fill missing values in rows (n, m) with the value before, or at the start with the first
    known one.
    """
    known = np.isfinite(x)
    last = np.maximum.accumulate(np.where(known, np.arange(x.shape[1]), -1), 1)
    last = np.where(last < 0, known.argmax(1)[:, None], last)
    return np.nan_to_num(np.take_along_axis(x, last, 1))
