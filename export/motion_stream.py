"""`xmae.MotionStream`: PPG and acceleration in, a heart rate that follows a moving wrist out.

    PPG codes ----------> front end --+-> network -> timing map -> beats --+
    acceleration codes -> front end --+-> spectra ------------> belief ----+-> result

At rest the beats decide, and in motion where the belief agrees. Else the belief decides if it is
sure; else nothing is said. In motion no hint of a rhythm is given. Everything is whole-number
arithmetic.
"""

from dataclasses import dataclass, fields, replace

import numpy as np

from xmae.beats.certainty import shipped_certainty, shipped_tables
from xmae.beats.tracker import MOVES, Evidence, Tracker, decide, shipped_tracker
from xmae.errors import UserError
from xmae.export.stream import MIXED, REFUSING, SPAN, UNSURE, Stream, StreamResult
from xmae.export.targets.c.network import CHUNK
from xmae.signals.front_end import BLOCK, BLOCKS, Acceleration

MOST_ACTIVE = 32767  # 1 / 1000 g: more counts as that


@dataclass(frozen=True)
class MotionResult(StreamResult):
    """What is known at the end of a second on a moving wrist.

    Parameters
    ----------
    activity : int
        Largest movement of the last 4 s, 1 / 1000 g; -1 without accelerometer.
    followed : int
        Heart rate that the belief holds likeliest, 1 / 100 bpm, given or not.
    belief : int
        Certainty of the belief, 0 to 255.
    """

    activity: int = -1
    followed: int = 0
    belief: int = 0


class MotionStream(Stream):
    """Stream of beats, heart rate, rhythm and certainty from PPG and acceleration.

    Parameters
    ----------
    model : str or Path
        Int8 `.tflite` of a student for PPG and three axes, or for PPG alone.
    sfreq, bits, hop_s, inverted, certainty
        As in `Stream`.
    acc_sfreq : float
        Rate of the acceleration, Hz, 25 to 500.
    one_g : int
        Codes that 1 g makes.
    tracker : TrackerTable, optional
        Default: the shipped one.

    Raises
    ------
    UserError
        If a setting is out of range or the model reads no beats.
    """

    def __init__(
        self, model="student-motion", sfreq=100, bits=16, hop_s=1, inverted=False, certainty=None,
        acc_sfreq=100, one_g=4096, tracker=None,
    ):  # fmt: skip
        self.acc_sfreq, self.one_g = acc_sfreq, one_g
        self.tracker_table = tracker or shipped_tracker()
        known = shipped_certainty(model) if model in shipped_tables() else None
        super().__init__(model, sfreq, bits, hop_s, inverted, certainty or known)

    def reset(self):
        """Forget everything, as after a pause."""
        super().reset()
        self.acceleration = Acceleration(self.acc_sfreq, self.one_g)
        self.axes = np.zeros((3, 0), np.int8)  # of the running second and later
        self.skip = 0  # samples of seconds that went without them
        self.worn = False
        self.largest = 0  # deviation in the last 4 s that were read
        self.dropped = 0  # blocks of acceleration that are too old to matter
        self.evidence, self.tracker = Evidence(self.code.unit), Tracker(self.tracker_table)

    def accelerate(self, codes):
        """Take acceleration; call it before the PPG of the same time is pushed.

        Acceleration that has not arrived when a second of PPG is complete counts as no movement.

        Parameters
        ----------
        codes : int array, shape (3, n)
            Whole numbers of up to 24 bits.

        Raises
        ------
        UserError
            If codes are not three rows of whole numbers.
        """
        codes = np.asarray(codes)
        if codes.ndim != 2 or len(codes) != 3:
            raise UserError(f"acceleration codes must be three rows, not {codes.shape}")
        new = self.acceleration.push(codes)
        late = min(self.skip, new.shape[1])
        self.skip -= late
        self.axes = np.concatenate([self.axes, new[:, late:]], 1)
        self.worn = self.worn or codes.shape[1] > 0

    def second(self, chunk):
        """Read a second of samples."""
        axes = np.zeros((3, CHUNK), np.int8)
        n = min(CHUNK, self.axes.shape[1])
        axes[:, :n], self.axes = self.axes[:, :n], self.axes[:, n:]
        self.skip += CHUNK - n
        self.look_at_blocks()
        rows = np.concatenate([chunk[None], axes])
        codes = self.network.push(rows[: self.network.channels].T)
        self.reader.push(codes[None])
        self.evidence.push(rows[None], codes[None])
        self.tracker.push(self.evidence.levels(self.tracker_table.removal))

    def look_at_blocks(self):
        """Find the largest deviation in the blocks of the last 4 s."""
        blocks = self.acceleration.fresh
        end = (self.seconds + 1) * CHUNK // BLOCK
        gone = min(len(blocks), max(0, end - BLOCKS - self.dropped))
        self.dropped += gone
        del blocks[:gone]
        self.largest = max(blocks[: max(0, end - self.dropped)], default=0)

    def result(self):
        """Return what is known now: a `MotionResult`."""
        at_rest = super().result()
        rate, sure = (int(x[0]) for x in self.tracker.read())
        sure = sure if self.seconds >= SPAN else 0
        level = self.largest * 1000 // self.acceleration.one_g
        activity = min(level, MOST_ACTIVE) if self.worn else -1
        told = MotionResult(**{f.name: getattr(at_rest, f.name) for f in fields(at_rest)},
                            activity=activity, followed=rate, belief=sure)  # fmt: skip
        if activity >= MOVES:
            told = replace(told, rhythm=0)
        if at_rest.status & REFUSING & ~(UNSURE | MIXED):
            return told
        beats = at_rest.rate, at_rest.low, at_rest.high
        chosen = decide(beats, (rate, sure), self.tracker_table.certainty, activity)
        if chosen is None:
            return told
        status = told.status & ~(UNSURE | MIXED) | (0 if chosen[0] else UNSURE)
        return replace(told, rate=chosen[0], low=chosen[1], high=chosen[2], status=status)

    def line(self, result):
        """Return the result as a line of text for people."""
        if result.activity < 0:
            return f"{super().line(result)}, no accelerometer"
        belief = 100 * result.belief // 255
        return f"{super().line(result)}, moves {result.activity / 1000:.2f} g, belief {belief} %"


__all__ = ["MotionResult", "MotionStream"]
