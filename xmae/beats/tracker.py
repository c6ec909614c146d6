"""A belief over heart rate that seconds of evidence move: a discrete Bayes filter in whole numbers.

Evidence at each rate of the grid are two levels: how much of the timing map turns at that rate, and
how much of the spectrum of the PPG is left without movement; see `Removal`. A table says how likely
a rate is that shows these levels: a product of a power of each, whose settings were chosen on
generated people. Between seconds the belief spreads, as heart rates were counted to change. Python
and C give the same bits.

Without a timing map all rates show level 0 of it. A classical tracker with a table of its own reads
the spectra alone.
"""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np

from xmae.beats.certainty import Certainty
from xmae.beats.reader import RATE_RANGE
from xmae.beats.spectra import GRID, Spectra, bits, power_without, root, steady
from xmae.errors import UserError

LEVELS = 16  # of map and of PPG
FULL = 255  # of what levels are made of
REACH = 6  # bins to each side that a belief moves within a second
LEAN_BITS = 7  # dropped where levels count by their rates
LEAK = 14  # bits: a 1 / 170 of the belief starts anew anywhere
TOP = 65535
AROUND = 4  # bins to each side of the likeliest rate that the answer looks at
STILL = 2000  # root of acceleration's power below which nobody moves: about 0.03 g
MOVES = 50  # 1 / 1000 g: below this the wrist rests, and beats alone decide
AGREE = 800  # 1 / 100 bpm between beats and belief where people move
KINDS = ("model", "model without accelerometer", "classical", "classical without accelerometer")
WAYS = ("live", "both ways")


@dataclass(frozen=True)
class Removal:
    """How movement is taken off the spectrum of the PPG, after what keeps pace with it.

    Parameters
    ----------
    quarters : int
        How many quarters of the normalised spectrum of the acceleration are taken off.
    lean : int
        bpm, 0 to 1000. What is left counts by its rate plus this: noise is strong at low rates.
    """

    quarters: int
    lean: int

    def apply(self, ppg, acc):
        """Return the levels of PPG, 0 to 255, from spectra (n, 96) of PPG and acceleration."""
        acc = FULL * acc // np.maximum(acc.max(1, keepdims=True), STILL)
        less = np.maximum(of_largest(ppg) - acc * self.quarters // 4, 0)
        return of_largest(less * (GRID + self.lean) >> LEAN_BITS)


@dataclass(frozen=True)
class TrackerTable:
    """The table of a tracker: likelihoods of evidence, and the spread of a belief.

    Parameters
    ----------
    evidence : int array, shape (16, 16)
        Likelihood of a rate by levels of map and PPG, 1 to 65535.
    transition : int array, shape (7,)
        Share of the belief that moves by 0 to 6 bins in a second to each side, of 4096.
    certainty : Certainty
        Half width of the interval and the least certainty that answers: calibrated on generated
        people, not on real ones.
    removal : Removal
    """

    evidence: np.ndarray
    transition: np.ndarray
    certainty: Certainty
    removal: Removal


@cache
def shipped_tracker(kind="model", way="live"):
    """Read a shipped table; see `KINDS` and `WAYS`.

    Raises
    ------
    UserError
        If there is none.
    """
    shipped = json.loads((files("xmae.beats") / "tracker.json").read_text())
    rules = shipped["certainty"].get(way, {})
    if kind not in rules:
        raise UserError(
            f"no tracker called {kind}, {way}; there are {', '.join(KINDS)}, "
            f"each {' or '.join(WAYS)}"
        )
    table = shipped["tables"][kind.split()[0]]
    return TrackerTable(
        np.array(table["evidence"], np.int64),
        np.array(table["transition"], np.int64),
        Certainty(np.array(rules[kind]["half_width"], np.int64), int(rules[kind]["least"])),
        Removal(**table["removal"]),
    )


class Evidence:
    """Spectra of timing map, PPG and acceleration of `n` streams, and their levels at each heart
    rate.

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
        """Take a second: int8 samples (n, C, 100) of PPG and optionally three axes, and codes of
        the map (n, 25, 3).
        """
        fours = np.asarray(samples, np.int64).reshape(*np.shape(samples)[:2], -1, 4).sum(3)
        self.ppg.push(fours[:, 0])
        for axis, spectra in enumerate(self.acc):
            spectra.push(fours[:, axis + 1] if fours.shape[1] > 1 else 0 * fours[:, 0])
        if map_codes is not None:
            codes = np.asarray(map_codes, np.int64) * 256 // self.unit
            codes = codes.clip(-511, 511)
            self.map.push(codes[:, :, 0], codes[:, :, 1])

    def turning(self):
        """Return how much of the map turns at each heart rate, 0 to 255: (n, 96)."""
        return np.minimum(root(self.map.power()) * (FULL + 1) // steady(256), FULL)

    def spectra(self):
        """Return the amplitudes at each heart rate of PPG without what keeps pace with the
        acceleration, and of acceleration: two arrays (n, 96).
        """
        acc = sum(axis.power() for axis in self.acc)
        return root(power_without(self.ppg, self.acc)), root(acc)

    def levels(self, removal):
        """Return the levels of map and PPG at each heart rate, 0 to 255: two arrays (n, 96)."""
        return self.turning(), removal.apply(*self.spectra())


class Tracker:
    """The belief over heart rate of `n` streams.

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

    def spread(self):
        """Return the belief after a second without evidence, (n, 96), at most 65535."""
        share = self.table.transition
        padded = np.pad(self.belief, ((0, 0), (REACH, REACH)))
        bins = self.belief.shape[1]
        moved = share[0] * self.belief
        for d in range(1, REACH + 1):
            moved = moved + share[d] * (
                padded[:, REACH - d : REACH - d + bins] + padded[:, REACH + d : REACH + d + bins]
            )
        moved = (moved >> 12) + (self.belief.sum(1, keepdims=True) >> LEAK)
        return np.minimum(moved, TOP)

    def push(self, levels):
        """Take the evidence of a second, see `Evidence.levels`."""
        turning, less = (x * LEVELS // (FULL + 1) for x in levels)
        self.belief = within_16_bits(self.spread() * self.table.evidence[turning, less])

    def read(self):
        """Return the heart rates (n,) in 1 / 100 bpm, and their certainty, 0 to 255."""
        return read_belief(self.belief)


def of_largest(x):
    """Bring each row of spectra (n, 96) to 0 to 255 of its largest value."""
    return FULL * x // np.maximum(x.max(1, keepdims=True), 1)


def within_16_bits(likely):
    """Shift each row (n, 96) right until it fits 16 bits; every entry stays above 0."""
    top = np.maximum(likely.max(1), 1)
    return np.maximum(likely >> np.maximum(bits(top) - 16, 0)[:, None], 1)


def read_belief(belief):
    """Read the heart rates (n,) in 1 / 100 bpm from beliefs (n, 96), and their certainty, 0 to
    255.
    """
    best = belief.argmax(1)
    bins = np.arange(belief.shape[1])
    near = np.abs(bins - best[:, None]) <= AROUND
    kept = belief * near
    mass, whole = kept.sum(1), belief.sum(1)
    return 100 * (kept * GRID).sum(1) // mass, mass * FULL // whole


def decide(beats, belief, table, activity):
    """Choose between the heart rate of beats, that of the tracker's belief, and none.

    At rest the beats decide, and where people move if the belief agrees: they are closer then. Else
    the belief decides if it is sure enough; else there is none.

    Parameters
    ----------
    beats : (int, int, int)
        Heart rate and its interval, 1 / 100 bpm; 0 = none.
    belief : (int, int)
        Heart rate, 1 / 100 bpm, and how sure it is, 0 to 255.
    table : Certainty
        Certainty table of the belief.
    activity : int
        1 / 1000 g.

    Returns
    -------
    (int, int, int) or None
        Heart rate and its interval, 0 = none; None where the beats decide.
    """
    rate, sure = belief
    if activity < MOVES or agree(beats[0], rate):
        return None
    if sure < table.least:
        return 0, 0, 0
    low, high = (int(x) for x in table.interval(rate, sure))
    return rate, max(low, RATE_RANGE[0]), min(high, RATE_RANGE[1])


def agree(beats, rate):
    """Tell whether heart rates of beats and belief agree: 1 / 100 bpm, beats 0 = none."""
    return (beats > 0) & (abs(beats - rate) <= AGREE)
