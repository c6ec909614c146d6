"""From the timing map to beats, heart rate, certainty and rhythm, in whole numbers.

The map comes as codes (cosine, sine, log interval), as the int8 network gives them less their zero
point. Python and C do the same operations in the same order, so they give the same bits; a float
map is rounded to codes first. Times are ticks of 1 / 6400 s, 256 to each output of the map.

A beat is where the sine turns from below zero to zero or above while the cosine is positive;
between outputs it is placed by a straight line. A beat closer to the one before than 0.4 of the
interval that the map gives just before it is left out. Certainty is the mean squared length of
(cosine, sine) over 10 s, 0 to 255.
"""

from dataclasses import dataclass

import numpy as np

from xmae.beats.reading import Reading
from xmae.beats.timing_map import FIRST_S, LOG_SCALE, MAP_SFREQ, TYPICAL_S

TICKS = 256  # an output of the map
TICKS_S = TICKS * MAP_SFREQ  # 6400 a second
SPAN = 10 * MAP_SFREQ  # outputs that certainty looks at
RATE_TICKS = 10 * TICKS_S  # beats of the last 10 s make the heart rate
N_BEATS = 40  # that are kept: the last 10 s at 240 bpm; rhythm looks at all of them
REFRACTORY = (2, 5)  # two fifths of the interval
RATE_RANGE = (3000, 22000)  # 1 / 100 bpm
DOUBTFUL_CODE = 64  # `DOUBTFUL` of 255, rounded up
FLOAT_STEP = 100  # codes a unit for maps in floating point


@dataclass(frozen=True)
class MapCode:
    """Relation between the codes of a timing map and its values.

    Parameters
    ----------
    unit : int
        Codes for a length of 1.
    interval : uint16 array, shape (511,)
        Interval in ticks for each code of the log interval, from -255 to 255.
    """

    unit: int
    interval: np.ndarray

    @classmethod
    def of_scale(cls, scale, log_share=1.0):
        """Make a `MapCode` from the scale of the codes.

        `log_share` is by how much the log interval is made smaller before it becomes a code.
        """
        length = TYPICAL_S * np.exp(LOG_SCALE / log_share * scale * np.arange(-255, 256))
        ticks = np.rint(TICKS_S * np.clip(length, 0.2, 3.0))
        return cls(max(1, round(1 / scale)), ticks.astype(np.uint16))


class BeatReader:
    """Reader of beats from timing maps, of `n` streams at once, output by output.

    Parameters
    ----------
    code : MapCode
    n : int
        Streams.

    Attributes
    ----------
    outputs : int
        Outputs read so far.
    beats : int64 array, shape (n, 40)
        Times of the last beats, ticks after output 0, the newest last; -1 where there is none.
    confidence : int64 array, shape (n, 40)
        Theirs, 0 to 255.
    count : int64 array, shape (n,)
        Beats since the start.
    """

    def __init__(self, code, n=1):
        self.code, self.n, self.outputs = code, n, 0
        self.beats = np.full((n, N_BEATS), -1, np.int64)
        self.confidence = np.zeros((n, N_BEATS), np.int64)
        self.count = np.zeros(n, np.int64)
        self.lengths = np.zeros((n, SPAN), np.int64)
        self.last = None  # cosine, sine, length and log interval of the output before

    def push(self, codes):
        """Take outputs (n, m, 3) of whole numbers, -255 to 255: cosine, sine, log interval."""
        codes = np.asarray(codes, np.int64)
        for k in range(codes.shape[1]):
            self.one(codes[:, k, 0], codes[:, k, 1], codes[:, k, 2])

    def one(self, cosine, sine, log):
        """Take one output of every stream, each (n,)."""
        square = cosine * cosine + sine * sine
        length = np.minimum(square * 255 // (self.code.unit * self.code.unit), 255)
        if self.last is not None:
            before_cosine, before_sine, before_length, before_log = self.last
            rise = (before_sine < 0) & (sine >= 0) & (before_cosine + cosine > 0)
            share = (-before_sine * TICKS) // np.where(rise, sine - before_sine, 1)
            time = (self.outputs - 1) * TICKS + share
            interval = self.code.interval[np.clip(before_log, -255, 255) + 255].astype(np.int64)
            least = interval * REFRACTORY[0]
            newest = self.beats[:, -1]
            rise &= (newest < 0) | ((time - newest) * REFRACTORY[1] >= least)
            if rise.any():
                self.append(rise, time, np.minimum(length, before_length))
        self.lengths[:, self.outputs % SPAN] = length
        self.last = cosine, sine, length, log
        self.outputs += 1

    def append(self, where, time, confidence):
        """Append a beat to each stream that has one."""
        for kept, value in ((self.beats, time), (self.confidence, confidence)):
            kept[where, :-1] = kept[where, 1:]
            kept[where, -1] = value[where]
        self.count += where

    def certainty(self):
        """Return the mean squared length of (cosine, sine) over the last 250 outputs, (n,), 0 to
        255.
        """
        return self.lengths.sum(1) // SPAN

    def rate(self):
        """Return the heart rates (n,) in 1 / 100 bpm from the beats of the last 10 s; 0 = none or
        impossible.
        """
        end = self.outputs * TICKS
        recent = (self.beats >= 0) & (self.beats >= end - RATE_TICKS)
        n = recent.sum(1)
        first = self.beats[np.arange(self.n), np.clip(N_BEATS - n, 0, N_BEATS - 1)]
        span = self.beats[:, -1] - first
        known = (n >= 2) & (span > 0)
        rate = 6000 * TICKS_S * (n - 1) // np.where(known, span, 1)
        return np.where(known & (rate >= RATE_RANGE[0]) & (rate <= RATE_RANGE[1]), rate, 0)

    def intervals(self):
        """Return the last intervals (n, 39) in ticks, 0 where unknown or doubtful."""
        gap = np.diff(self.beats, axis=1)
        sure = (self.beats[:, :-1] >= 0) & (
            np.minimum(self.confidence[:, :-1], self.confidence[:, 1:]) >= DOUBTFUL_CODE
        )
        return np.where(sure, gap, 0)

    def irregularity(self):
        """Return the mean change between neighbouring intervals over their mean, (n,) in 1 / 1000;
        -1 with fewer than 8.
        """
        gap = self.intervals()
        both = (gap[:, :-1] > 0) & (gap[:, 1:] > 0)
        change = np.where(both, np.abs(np.diff(gap, axis=1)), 0).sum(1)
        size = np.where(both, gap[:, :-1] + gap[:, 1:], 0).sum(1)
        return np.where(both.sum(1) >= 8, 2000 * change // np.maximum(size, 1), -1)


def read_maps(maps, code=None):
    """Read beats from the timing maps of separate windows: (n, 3, 250), floats or codes ->
    `Reading`.

    Parameters
    ----------
    maps : array, shape (n, 3, 250)
        Floats, or whole numbers with their `code`.
    code : MapCode, optional
        Relation between whole numbers and the map.

    Returns
    -------
    Reading
        Certainty is 0 to 1; no window is refused but those without a possible heart rate.
    """
    maps = np.asarray(maps)
    if code is None:
        code = MapCode.of_scale(1 / FLOAT_STEP)
        maps = np.clip(np.rint(maps * FLOAT_STEP), -255, 255).astype(np.int64)
    n, _, m = maps.shape
    windows, times, confidences = [], [], []
    reader = BeatReader(code, n)
    for k in range(m):
        before = reader.count.copy()
        reader.one(*maps[:, :, k].T.astype(np.int64))
        new = np.flatnonzero(reader.count > before)
        windows.append(new)
        times.append(reader.beats[new, -1])
        confidences.append(reader.confidence[new, -1])
    window, time, confidence = (np.concatenate(parts) for parts in (windows, times, confidences))
    order = np.lexsort((time, window))
    rate = reader.rate() / 100
    return Reading(
        window[order],
        time[order] / TICKS_S + FIRST_S,
        confidence[order] / 255,
        np.where(rate > 0, rate, np.nan),
        reader.certainty() / 255,
    )
