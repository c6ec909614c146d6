"""`xmae.Stream`: samples in, one line per second out, with the same bits as the C library.

    codes -> front end (100 Hz, int8) -> network -> timing map -> beats -> result

Everything is whole-number arithmetic. `docs/streaming.md` states the contract.
"""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np

from xmae.beats.certainty import shipped_certainty, table_of_name
from xmae.beats.codes import as_codes
from xmae.beats.periods import Periods
from xmae.beats.reader import RATE_RANGE, TICKS, TICKS_S, BeatReader, MapCode
from xmae.beats.rhythm import HINTS, rhythm_hint
from xmae.beats.timing_map import LOG_SHARE
from xmae.errors import UserError, require_at_least
from xmae.export.targets.c.dsp import DspTier
from xmae.export.targets.c.network import CHUNK, StreamNetwork
from xmae.signals.front_end import HISTORY, LOOK_AHEAD, MAX_BITS, FrontEnd
from xmae.signals.window import SFREQ

FIRST_OUTPUT = 1.5  # samples: an output answers for the middle of its four
FRONT_END_MS = int(10 * (FIRST_OUTPUT + LOOK_AHEAD + 0.5))  # until then, without the network
DSP = "dsp"  # the tier without a network
LOST, SATURATED, FLAT, START, UNSURE, MIXED = 1, 2, 4, 8, 16, 32
REASONS = {
    LOST: "samples lost",
    SATURATED: "at the converter's rail",
    FLAT: "nothing moves",
    START: "less than 10 s of signal",
    UNSURE: "not sure enough",
    MIXED: "the signal repeats after another time",
}
REFUSING = FLAT | START | UNSURE | MIXED
SPAN = 10  # s that quality looks back
STILL = 2  # s without any movement: nothing there
MOST_BEATS = 6  # of one second, at 220 bpm 4


# fields of a result that are one number, in the order of libxmae's `xmae_result_t`
SCALARS = (
    "time", "rate", "low", "high", "certainty", "irregularity", "rhythm", "lost", "saturated",
    "status",
)  # fmt: skip


@dataclass(frozen=True)
class StreamResult:
    """What is known at the end of a second.

    Parameters
    ----------
    time : int
        Ticks of 1 / 6400 s after the first output of the map.
    rate : int
        Heart rate, 1 / 100 bpm; 0 = none is given.
    low, high : int
        Interval that holds it in nine of ten cases, 1 / 100 bpm; 0 without a rate.
    certainty : int
        0 to 255.
    beats : tuple of (int, int)
        Since the last result: ticks, and confidence 0 to 255.
    irregularity : int
        Mean change of neighbouring intervals over their mean, 1 / 1000; -1 = too few.
    rhythm : int
        0 unknown, 1 regular, 2 ectopic-like, 3 irregularly irregular. A hint, no diagnosis.
    lost, saturated : int
        Codes lost and at the rail in the last 10 s.
    status : int
        Sum of reasons, see `REASONS`.
    """

    time: int
    rate: int
    low: int
    high: int
    certainty: int
    beats: tuple
    irregularity: int
    rhythm: int
    lost: int
    saturated: int
    status: int

    def reasons(self):
        """Return in words why there is no heart rate, or what limits it."""
        return [words for bit, words in REASONS.items() if self.status & bit]


def int8_file(model):
    """Return the int8 file of a shipped student by its name; any other name is a path."""
    path = files("xmae") / "models" / "weights" / f"{model}_int8.tflite"  # xmae.models has PyTorch
    return Path(str(path)) if path.is_file() else Path(model)


class Stream:
    """Stream of beats, heart rate, rhythm and certainty from PPG.

    Parameters
    ----------
    model : str or Path
        Int8 `.tflite` of a student that reads beats, the name of a shipped one, or "dsp": the tier
        without a network.
    sfreq : float
        Rate of the samples, Hz, 25 to 500.
    bits : int
        Width of the converter's codes, 8 to 24; codes are 0 to 2^bits - 1.
    hop_s : int
        Seconds from one result to the next.
    inverted : bool
        Whether systole falls.
    certainty : Certainty, optional
        Default: that of the named model; of the shipped `beats-mcu` for a file.

    Raises
    ------
    UserError
        If a setting is out of range or the model reads no beats.

    Examples
    --------
    >>> stream = Stream(sfreq=64)
    >>> pulse = np.sin(np.arange(64 * 12) * 2 * np.pi * 1.2 / 64)
    >>> results = stream.push((20000 + 1000 * pulse).astype(int))
    >>> len(results)
    10
    """

    def __init__(
        self, model="beats-mcu", sfreq=100, bits=16, hop_s=1, inverted=False, certainty=None
    ):
        require_at_least(1, hop_s=hop_s)
        if not 8 <= bits <= MAX_BITS:
            raise UserError(f"codes of {bits} bits; a stream takes 8 to {MAX_BITS}")
        self.sfreq, self.bits, self.hop_s, self.inverted = sfreq, bits, hop_s, inverted
        self.network = DspTier() if model == DSP else StreamNetwork(int8_file(model))
        self.table = certainty or table_of_name(str(model)) or shipped_certainty()
        self.code = MapCode.of_scale(self.network.scale, LOG_SHARE)
        self.reset()

    def reset(self):
        """Forget everything, as after a pause."""
        self.front_end = FrontEnd(self.sfreq)
        self.network.reset()
        self.reader, self.periods = BeatReader(self.code), Periods()
        self.pending = np.zeros(0, np.int8)
        self.seconds = self.reported = 0
        self.last_code = None
        self.still = 0
        self.lost_at = self.rail_at = np.zeros(0, np.int64)

    def push(self, codes, lost=0):
        """Take codes, and the number of codes lost before them.

        Parameters
        ----------
        codes : int array, shape (n,)
            0 to 2^bits - 1.
        lost : int
            Codes that are missing before the first of these. The last one known stands for them;
            before any is known, the first of these does, or 0 if there are none.

        Returns
        -------
        list of StreamResult

        Raises
        ------
        UserError
            If codes are no whole numbers within the converter's range, or `lost` is negative.
        """
        codes = np.asarray(codes)
        if codes.ndim != 1 or (len(codes) and codes.dtype.kind not in "iu"):
            raise UserError("codes must be whole numbers in one row")
        if len(codes) and (codes.min() < 0 or codes.max() >= 1 << self.bits):
            raise UserError(f"codes must be 0 to {(1 << self.bits) - 1} for {self.bits} bits")
        require_at_least(0, lost=lost)
        codes = codes.astype(np.int64)
        held = (
            self.last_code if self.last_code is not None else (int(codes[0]) if len(codes) else 0)
        )
        whole = np.concatenate([np.full(lost, held, np.int64), codes])
        if not len(whole):
            return []
        self.last_code = int(whole[-1])
        first, rail = self.front_end.n_codes, (1 << self.bits) - 1
        at_rail = np.flatnonzero((codes == 0) | (codes == rail)) + lost
        self.lost_at = np.concatenate([self.lost_at, first + np.arange(lost)])
        self.rail_at = np.concatenate([self.rail_at, first + at_rail])
        samples = self.front_end.push(rail - whole if self.inverted else whole)
        self.pending = np.concatenate([self.pending, samples])
        results = []
        while len(self.pending) >= CHUNK:
            chunk, self.pending = self.pending[:CHUNK], self.pending[CHUNK:]
            self.periods.push(chunk)
            self.still = 0 if chunk.any() else self.still + 1
            self.second(chunk)
            self.seconds += 1
            if self.seconds % self.hop_s == 0:
                results.append(self.result())
        return results

    def second(self, chunk):
        """Read a second of samples."""
        self.reader.push(self.network.push(chunk)[None])

    def read(self, ppg):
        """Read a whole recording at this stream's rate, raw PPG (n,) in any unit; NaN = missing.

        Returns
        -------
        list of StreamResult
        """
        return self.push(as_codes(ppg, self.bits))

    def in_span(self, at):
        """Count how many of the codes with the numbers `at` lie in the last 10 s, as of the end of
        this second.
        """
        rate = self.front_end.rate
        needed = -(-(CHUNK * self.seconds + HISTORY) * rate // (SFREQ * 1000))
        second = (needed - 1) * 1000 // rate
        return int(((at < needed) & (at * 1000 // rate > second - SPAN)).sum())

    def result(self):
        """Return what is known now: a `StreamResult`."""
        reader = self.reader
        certainty, rate = int(reader.certainty()[0]), int(reader.rate()[0])
        irregularity = int(reader.irregularity()[0])
        lost, saturated = self.in_span(self.lost_at), self.in_span(self.rail_at)
        status = (LOST if lost else 0) | (SATURATED if saturated else 0)
        status |= self.reasons(rate, certainty)
        if not status & REFUSING and self.periods.doubt(rate, irregularity):
            status |= MIXED
        beats = self.new_beats()
        hint = 0 if status & REFUSING else int(rhythm_hint(reader.intervals())[0])
        low = high = 0
        if status & REFUSING:
            rate = 0
        else:
            low, high = (int(x) for x in self.table.interval(rate, certainty))
            low, high = max(low, RATE_RANGE[0]), min(high, RATE_RANGE[1])
        return StreamResult(
            reader.outputs * TICKS,
            rate,
            low,
            high,
            certainty,
            beats,
            irregularity,
            hint,
            lost,
            saturated,
            status,
        )

    def reasons(self, rate, certainty):
        """Return the bits of `REASONS` that a second of signal sets by itself."""
        status = FLAT if self.still >= STILL else 0
        if self.seconds < SPAN:
            status |= START
        if certainty < self.table.least or rate == 0:
            status |= UNSURE
        return status

    def new_beats(self):
        """Return the beats since the last call: a tuple of pairs (tick, confidence)."""
        reader = self.reader
        found = int(reader.count[0])
        new = min(found - self.reported, MOST_BEATS * self.hop_s, reader.beats.shape[1])
        self.reported = found
        times = reader.beats[0, len(reader.beats[0]) - new :]
        confidence = reader.confidence[0, len(reader.confidence[0]) - new :]
        return tuple((int(t), int(c)) for t, c in zip(times, confidence, strict=True))

    @property
    def delay_ms(self):
        """Return the delay from the first sample of the front end to output 0, ms."""
        return FRONT_END_MS - 10 * self.network.look_ahead

    def milliseconds(self, ticks):
        """Convert ticks of the codes' clock to whole ms after the first code, rounded down."""
        return (ticks * 5 >> 5) + self.delay_ms - 500_000 // round(self.sfreq * 1000)

    def seconds_of(self, ticks):
        """Convert ticks of the codes' clock to s after the first code."""
        return ticks / TICKS_S + self.delay_ms / 1000 - 0.5 / self.sfreq

    def line(self, result):
        """Return the result as a line of text for people; the C library's example prints the same.

        Time, heart rate with its interval, rhythm hint, certainty, beats, and reasons if any.
        """
        times = ((self.milliseconds(ticks) + 5) // 10 / 100 for ticks, _ in result.beats)
        beats = " ".join(f"{time:.2f}" for time in times) or "none"
        said = "no heart rate"
        if result.rate:
            rate, low, high = ((x + 5) // 10 / 10 for x in (result.rate, result.low, result.high))
            said = f"{rate:.1f} bpm ({low:.1f} to {high:.1f}), {HINTS[result.rhythm]}"
        sure = f"sure {100 * result.certainty // 255} %"
        why = f" [{'; '.join(result.reasons())}]" if result.status else ""
        time = (self.milliseconds(result.time) + 50) // 100 / 10
        return f"{time:7.1f} s  {said:45}  {sure:9}  beats at {beats}{why}"
