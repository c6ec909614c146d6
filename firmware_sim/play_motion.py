"""PPG and acceleration through libxmae on an emulated Cortex-M, beside `xmae.MotionStream`."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xmae.beats.certainty import Certainty, shipped_certainty
from xmae.beats.tracker import shipped_tracker
from xmae.errors import UserError
from xmae.export.motion_stream import MotionResult, MotionStream
from xmae.export.stream import SCALARS, int8_file
from xmae.export.targets.c.motion_source import motion_model, motion_texts
from xmae.firmware_sim.play_beats import (
    BURST_S,
    MOST_BEATS,
    equality_of,
    row_of,
    run_streaming,
    spent,
    with_library,
)

STUDENT = "student-motion"
MOVING = (*SCALARS, "activity", "followed", "belief")
ROW = len(MOVING) + 2 * MOST_BEATS  # numbers of a result, as boards/motion_codes.c writes them
ONE_G = 2048  # codes of an accelerometer's 1 g
LIMITS = {"instructions": 1_500_000, "ram": 60_000}  # a second of signal; bytes without stack


@dataclass(frozen=True)
class MovingStudent:
    """A student for PPG and acceleration.

    Parameters
    ----------
    name : str
    path : Path
        Its int8 `.tflite`.
    certainty : Certainty
        Certainty table of its beats.
    """

    name: str
    path: Path
    certainty: Certainty


def shipped_student():
    """Return the shipped student for PPG and acceleration."""
    return MovingStudent(STUDENT, int8_file(STUDENT), shipped_certainty(STUDENT))


@dataclass(frozen=True)
class MovingCodes:
    """Codes of a watch's sensors.

    Parameters
    ----------
    ppg : int array, shape (n,)
    acc : int array, shape (3, m)
        1 / 2048 g.
    rate, acc_rate : float
        Hz.
    bits : int
        Width of a PPG code.
    """

    ppg: np.ndarray
    acc: np.ndarray
    rate: float
    acc_rate: float
    bits: int

    def bursts(self):
        """Cut the codes into the bursts of a FIFO: list of (acceleration (3, m), codes (n,))."""
        count = int(len(self.ppg) / self.rate / BURST_S)
        edges = [
            [round(k * BURST_S * rate) for k in range(count + 1)]
            for rate in (self.acc_rate, self.rate)
        ]
        return [
            (self.acc[:, edges[0][k] : edges[0][k + 1]], self.ppg[edges[1][k] : edges[1][k + 1]])
            for k in range(count)
        ]


def encoded(signal, hop_s):
    """Return the input file of boards/motion_codes.c, bytes."""
    head = [round(1000 * signal.rate), signal.bits, 0, hop_s, round(1000 * signal.acc_rate), ONE_G]
    parts = [np.array(head)]
    for axes, codes in signal.bursts():
        parts += [np.array([axes.shape[1], 0, len(codes)]), axes.T.ravel(), codes]
    return np.concatenate(parts).astype("<i4").tobytes()


def results_of(data):
    """Read the output file of boards/motion_codes.c: list of MotionResult.

    Raises
    ------
    UserError
        If it ends within a result.
    """
    if len(data) % (8 * ROW):
        raise UserError("the firmware ended in the middle of a result")
    found = []
    for row in np.frombuffer(data, "<i8").reshape(-1, ROW).tolist():
        beats = row[len(MOVING) :]
        pairs = zip(beats[::2], beats[1::2], strict=True)
        named = dict(zip(MOVING, row, strict=False))
        found.append(MotionResult(beats=tuple(pair for pair in pairs if pair[0] >= 0), **named))
    return found


def build_motion(folder, device, student):
    """Compile libxmae with a student for PPG and acceleration.

    Parameters
    ----------
    folder : Path
        For sources and ELF file.
    device : Device
    student : MovingStudent

    Returns
    -------
    MotionModel, Firmware

    Raises
    ------
    UserError
        If it does not compile or does not fit.
    """
    model = motion_model(student.path, student.certainty, shipped_tracker(), student.name)
    sizes = {"flash_bytes": device.flash_bytes, "ram_bytes": device.ram_bytes}
    tracker = f"TRACKER=xmae_model_{model.name}_tracker"
    return model, with_library(
        model.name, motion_texts(model), "motion_codes.c", folder, device.core, sizes, (tracker,)
    )


def play_motion(device, emulator, signal, folder, student, hop_s=1):
    """Read PPG and acceleration with libxmae on a device and with `xmae.MotionStream` here, and
    compare.

    Parameters
    ----------
    device : Device
        With a Cortex-M.
    emulator : str
        "unicorn" or "qemu".
    signal : MovingCodes
    folder : Path
        For sources and ELF file.
    student : MovingStudent
    hop_s : int
        Seconds from one result to the next.

    Returns
    -------
    played : dict
        As in `xmae.firmware_sim.play_beats.play_beats`.
    found : list of MotionResult

    Raises
    ------
    UserError
        If the firmware does not compile, does not fit or fails.
    """
    model, firmware = build_motion(folder / "firmware", device, student)
    seconds = len(signal.ppg) / signal.rate
    run = run_streaming(firmware, emulator, encoded(signal, hop_s), seconds)
    found = results_of(run.files.get("out.bin", b""))
    stream = MotionStream(
        student.path, signal.rate, signal.bits, hop_s, certainty=student.certainty,
        acc_sfreq=signal.acc_rate, one_g=ONE_G,
    )  # fmt: skip
    expected = []
    for axes, codes in signal.bursts():
        stream.accelerate(axes)
        expected += stream.push(codes)
    return {
        "lines": [stream.line(result) for result in found],
        "results": [moving_row(result, stream) for result in found],
        "bit_exact": equality_of(found, expected) | {"with": "xmae.MotionStream"},
        **spent(run, firmware, model, device, seconds, LIMITS),
    }, found


def moving_row(result, stream):
    """Return a result as plain numbers in field units."""
    moves = None if result.activity < 0 else result.activity / 1000
    return row_of(result, stream) | {
        "activity_g": moves,
        "followed_bpm": result.followed / 100,
        "belief": round(result.belief / 255, 3),
    }
