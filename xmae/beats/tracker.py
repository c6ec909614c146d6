"""A belief over heart rate that seconds of evidence move: a discrete Bayes filter in whole numbers.

Evidence at each rate of the grid are three levels: how much of the timing map turns at that rate,
how much the spectrum of the PPG exceeds that of the acceleration, and how much of the acceleration
lies there. A table, learnt on generated people, says how much likelier a rate is that shows these
levels. Between seconds the belief spreads by how heart rates change. Python and C give the same
bits.

Without a timing map it is a classical tracker: spectra of the PPG less the normalised spectrum of
the accelerometer.
"""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np

from xmae.beats.certainty import Certainty
from xmae.beats.reader import RATE_RANGE
from xmae.beats.spectra import GRID, Spectra, root, steady
from xmae.errors import UserError

MAP_LEVELS, PPG_LEVELS, ACC_LEVELS = 12, 10, 4
FULL = 255  # of a normalised spectrum
REACH = 6  # bins to each side that a belief moves within a second
LEAK = 14  # bits: a 1 / 170 of the belief starts anew anywhere
TOP = 65535
AROUND = 4  # bins to each side of the likeliest rate that the answer looks at
STILL = 2000  # root of acceleration's power below which nobody moves: about 0.03 g
MOVES = 50  # 1 / 1000 g: below this the wrist rests, and beats alone decide
AGREE = 800  # 1 / 100 bpm between beats and belief where people move
KINDS = ("model", "model without accelerometer", "classical", "classical without accelerometer")


@dataclass(frozen=True)
class TrackerTable:
    """What a tracker has learnt.

    Parameters
    ----------
    evidence : int array, shape (12, 10, 4)
        Likelihood of a rate by levels of map, PPG and acceleration, 1 to 65535.
    prior : int array, shape (2, 96)
        Likelihood of each rate at rest and in motion, 1 to 65535.
    transition : int array, shape (7,)
        Share of the belief that moves by 0 to 6 bins in a second, of 4096 over both sides.
    certainty : Certainty
        Half width of the interval and the least certainty that answers.
    """

    evidence: np.ndarray
    prior: np.ndarray
    transition: np.ndarray
    certainty: Certainty


@cache
def shipped_tracker(kind="model"):
    """Read a shipped table; see `KINDS`.

    Raises
    ------
    UserError
        If there is none.
    """
    tables = json.loads((files("xmae.beats") / "tracker.json").read_text())
    if kind not in tables:
        raise UserError(f"no tracker called {kind}; there are {', '.join(tables)}")
    table = tables[kind]
    return TrackerTable(
        np.array(table["evidence"], np.int64),
        np.array(table["prior"], np.int64),
        np.array(table["transition"], np.int64),
        Certainty(np.array(table["half_width"], np.int64), int(table["least"])),
    )


class Evidence:
    """Spectra of map, PPG and acceleration of `n` streams, and the levels that they show.

    Parameters
    ----------
    unit : int
        Codes of the map for a length of 1.
    n : int
    """

    def __init__(self, unit, n=1):
        self.unit = unit
        self.map, self.ppg = Spectra(n), Spectra(n)
        self.acc = [Spectra(n) for _ in range(3)]

    def push(self, samples, map_codes=None):
        """Take a second: int8 samples (n, C, 100), PPG and perhaps three axes, and codes of the map
        (n, 25, 3).
        """
        fours = np.asarray(samples, np.int64).reshape(*np.shape(samples)[:2], -1, 4).sum(3)
        self.ppg.push(fours[:, 0])
        for axis, spectra in enumerate(self.acc):
            spectra.push(fours[:, axis + 1] if fours.shape[1] > 1 else 0 * fours[:, 0])
        if map_codes is not None:
            codes = np.asarray(map_codes, np.int64) * 256 // self.unit
            codes = codes.clip(-511, 511)
            self.map.push(codes[:, :, 0], codes[:, :, 1])

    def levels(self):
        """Return levels of map, PPG and acceleration, (n, 96) each, and whether people move, (n,
        1).
        """
        turning = root(self.map.power()) * MAP_LEVELS // steady(256)
        ppg = root(self.ppg.power())
        acc = root(sum(axis.power() for axis in self.acc))
        most = acc.max(1, keepdims=True)
        acc = FULL * acc // np.maximum(most, STILL)
        ppg = FULL * ppg // np.maximum(ppg.max(1, keepdims=True), 1)
        less = np.maximum(ppg - acc, 0)
        less = FULL * less // np.maximum(less.max(1, keepdims=True), 1)
        return (
            np.minimum(turning, MAP_LEVELS - 1),
            less * PPG_LEVELS // (FULL + 1),
            acc * ACC_LEVELS // (FULL + 1),
            (most > STILL).astype(np.int64),
        )


class Tracker:
    """The belief of `n` streams.

    Parameters
    ----------
    table : TrackerTable
    n : int

    Attributes
    ----------
    belief : int64 array, shape (n, 96)
        1 to 65535.
    """

    def __init__(self, table, n=1):
        self.table = table
        self.belief = np.full((n, len(GRID)), TOP, np.int64)

    def push(self, levels):
        """Take the evidence of a second, see `Evidence.levels`."""
        spread = self.table.transition
        padded = np.pad(self.belief, ((0, 0), (REACH, REACH)))
        bins = self.belief.shape[1]
        moved = spread[0] * self.belief
        for d in range(1, REACH + 1):
            moved = moved + spread[d] * (
                padded[:, REACH - d : REACH - d + bins] + padded[:, REACH + d : REACH + d + bins]
            )
        moved = (moved >> 12) + (self.belief.sum(1, keepdims=True) >> LEAK)
        prior = self.table.prior[levels[3][:, 0]]
        seen = np.maximum(self.table.evidence[levels[:3]] * prior >> 16, 1)
        likely = np.minimum(moved, TOP) * seen
        top = np.maximum(likely.max(1), 1)
        bits = np.floor(np.log2(top.astype(np.float64))).astype(np.int64) + 1
        shift = np.maximum(bits - 16, 0)[:, None]
        self.belief = np.maximum(likely >> shift, 1)

    def read(self):
        """Return heart rates (n,) in 1 / 100 bpm and how sure they are, 0 to 255."""
        best = self.belief.argmax(1)
        bins = np.arange(self.belief.shape[1])
        near = np.abs(bins - best[:, None]) <= AROUND
        kept = self.belief * near
        mass, whole = kept.sum(1), self.belief.sum(1)
        rate = 100 * (kept * GRID).sum(1) // mass
        return rate, mass * 255 // whole


def decide(beats, belief, table, activity):
    """Choose between the heart rate of beats and that of the belief.

    At rest the beats decide. Where people move, the beats' rate counts if the belief agrees; else
    the belief's if it is sure enough; else none.

    Parameters
    ----------
    beats : (int, int, int)
        Heart rate and its interval, 1 / 100 bpm; 0 = none.
    belief : (int, int)
        Heart rate, 1 / 100 bpm, and how sure it is, 0 to 255.
    table : Certainty
        Of the belief.
    activity : int
        1 / 1000 g.

    Returns
    -------
    (int, int, int)
        Heart rate and its interval; 0 = none.
    """
    rate, sure = belief
    if activity < MOVES or (beats[0] and abs(beats[0] - rate) <= AGREE):
        return beats
    if sure < table.least:
        return 0, 0, 0
    low, high = (int(x) for x in table.interval(rate, sure))
    return rate, max(low, RATE_RANGE[0]), min(high, RATE_RANGE[1])
