"""What a certainty promises: an interval for the heart rate, and when to say nothing.

The table is made on a tenth of `cinc2015_vt` that trained nothing
(benchmarks/release/calibrate_certainty.py): for each of 16 steps of certainty the half width that
holds nine of ten windows, and the least certainty with which a heart rate is given.
"""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np

from xmae.errors import UserError

STEPS = 16  # of certainty, each 16 codes wide
PROMISE = 0.9  # share of windows whose heart rate lies in the interval
LEAST_WINDOWS = 20  # of a step, to know its interval
WIDEST = 150.0  # bpm: half width where nothing is known
TOO_WIDE = 10.0  # bpm: further off than this is wrong


@dataclass(frozen=True)
class Certainty:
    """A certainty table: from which certainty a heart rate is given, and how wide its interval is.

    Parameters
    ----------
    half_width : int array, shape (16,)
        Half width of the interval, 1 / 100 bpm, for certainty 0-15, 16-31, ... of 255; never rises.
    least : int
        Certainty (0 to 255) from which a heart rate is given.
    """

    half_width: np.ndarray
    least: int

    def interval(self, rate, certainty):
        """Return the interval (low, high) of heart rates, in the unit of `half_width`."""
        half = self.half_width[np.asarray(certainty) // (256 // STEPS)]
        return rate - half, rate + half


def answered(reading, table):
    """Return the heart rates of a `Reading` that are certain enough by a table, or all without one:
    float array, shape (n_windows,), bpm; NaN = none.
    """
    if table is None:
        return reading.rate
    codes = np.rint(255 * reading.certainty).astype(int)
    return np.where(codes >= table.least, reading.rate, np.nan)


SILENT = Certainty(np.full(STEPS, 15000), 255)  # of a student that nobody has calibrated


@cache
def shipped_tables():
    """Read the tables of all shipped models: dict by name."""
    return json.loads((files("xmae.beats") / "certainty.json").read_text())


@cache
def shipped_certainty(model="beats-mcu"):
    """Read the table of a shipped model.

    Raises
    ------
    UserError
        If there is none.
    """
    tables = shipped_tables()
    if model not in tables:
        raise UserError(f"no certainty table for {model}; there are {', '.join(tables)}")
    table = tables[model]
    return Certainty(np.array(table["half_width"], np.int64), int(table["least"]))


def table_of_name(name):
    """Return the table of a shipped model by its name; None for any other name."""
    return shipped_certainty(name) if name in shipped_tables() else None


def calibrate(certainty, rate, truth, subject=None, wrong_share=0.01):
    """Make a certainty table from windows with truth.

    Parameters
    ----------
    certainty : array, shape (n,)
        0 to 255.
    rate, truth : array, shape (n,)
        Heart rates, bpm; NaN in `rate` = none.
    subject : array, shape (n,), optional
        Subject of each window. With it all subjects count the same, as coverage is a mean over
        subjects; without it all windows do.
    wrong_share : float
        Largest share of all windows that may be answered and off by more than 10 bpm.

    Returns
    -------
    Certainty
        Steps with fewer than 20 windows share with those above, and the highest ones with the first
        step below that has enough; `least` is the lowest certainty from which no more windows than
        that are answered wrong.
    """
    off = np.where(np.isfinite(rate), np.abs(rate - truth), np.inf)
    weight = np.ones(len(off))
    if subject is not None:
        _, number, counts = np.unique(subject, return_inverse=True, return_counts=True)
        weight = 1 / counts[number]
    width = np.full(STEPS, 0.0)
    step = np.asarray(certainty) // (256 // STEPS)
    pool = np.zeros(0, int)  # numbers of windows
    for k in range(STEPS - 1, -1, -1):
        here = np.flatnonzero(step == k)
        pool = np.concatenate([pool, here]) if len(pool) < LEAST_WINDOWS else here
        enough = len(pool) >= LEAST_WINDOWS and np.isfinite(off[pool]).any()
        known = weighted_quantile(off[pool], weight[pool], PROMISE) if enough else 0
        width[k] = known if np.isfinite(known) else WIDEST
    width = np.maximum.accumulate(np.maximum(width[::-1], least_width(width)))[::-1]
    wrong = np.isfinite(off) & (off > TOO_WIDE)
    above = np.asarray(certainty)[:, None] >= np.arange(256)
    allowed = np.flatnonzero((wrong[:, None] & above).mean(0) <= wrong_share)
    least = int(allowed[0]) if len(allowed) else 255
    return Certainty(np.rint(100 * width).astype(np.int64), least)


def least_width(width):
    """Return the width of the highest step that has one, and no less than a hundredth of a bpm."""
    known = width[width > 0]
    return max(known[-1], 0.01) if len(known) else WIDEST


def weighted_quantile(x, weight, share):
    """Return the smallest of `x` at or below which this share of the weight lies."""
    order = np.argsort(x, kind="stable")
    below = np.cumsum(weight[order])
    return x[order[min(np.searchsorted(below, share * below[-1]), len(x) - 1)]]
