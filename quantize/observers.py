"""Which range of an activation the 256 codes of int8 span, from the values it takes on the
calibration windows.

The smallest and largest value clip nothing, and one rare outlier makes every step of the scale
coarser. The others give up rare values for finer steps. Every format collects values with its own
runtime or tool and asks here for the range, so that a name means the same in all of them. Weights
need none of this: their range per output channel is known.
"""

from collections import defaultdict
from functools import partial

import numpy as np

from xmae.errors import require_choice

OBSERVERS = ("minmax", "percentile", "mse", "entropy")
MINMAX = "minmax"  # what is used unless another is asked for
HALF = 8192  # bins on each side of 0
KEPT = 0.9999  # of the values, by "percentile"
SHARES = np.linspace(0.2, 1, 33)  # of each side of the range that "mse" and "entropy" try
STEPS = 255  # between the smallest and largest code of 8 bits


def known_observer(name):
    """Return `name` if it is a known observer; raises a `UserError` otherwise.

    Raises
    ------
    UserError
        If there is none.
    """
    require_choice("observer", name, OBSERVERS)
    return name


class Observer:
    """Collector of one activation's values, window after window, from which its range is chosen.

    Values are counted in bins whose width, a power of two, doubles when a value falls outside; two
    bins then become one, exactly. Zeros are not counted: every scale has a code for 0, and after a
    ReLU they would outvote all others.

    Parameters
    ----------
    name : str
        One of `OBSERVERS`. "minmax": smallest and largest value. "percentile": without the rarest
        0.01 % of the values, half of them at each end. "mse": least squared error of rounding and
        clipping. "entropy": least Kullback-Leibler divergence between the values and the rounded
        ones (Migacz, 8-bit inference with TensorRT, GTC 2017, for ranges that need not be
        symmetric).

    Examples
    --------
    >>> observer = Observer("minmax")
    >>> observer.add(np.array([-1.0, 0.5])), observer.add(np.array([2.0]))
    >>> observer.range()
    (-1.0, 2.0)
    """

    def __init__(self, name=MINMAX):
        self.name, self.low, self.high = known_observer(name), np.inf, -np.inf
        self.width, self.counts = 2.0**-30, np.zeros(2 * HALF, np.int64)

    def add(self, values):
        """Add the values of an array of any shape."""
        low, high = float(values.min()), float(values.max())
        self.low, self.high = min(self.low, low), max(self.high, high)
        if self.name == "minmax":
            return
        while max(-low, high) > HALF * self.width:
            pairs = self.counts.reshape(-1, 2).sum(1)
            self.counts = np.pad(pairs, HALF // 2)
            self.width *= 2
        values = values[values != 0]
        bins = np.floor(values / np.float32(self.width)).astype(np.int32) + HALF
        self.counts += np.bincount(np.clip(bins, 0, 2 * HALF - 1), minlength=2 * HALF)

    def range(self):
        """Return the lowest and highest value of the chosen range."""
        full = min(self.low, 0.0), max(self.high, 0.0)  # every scale must have a code for 0
        there = np.flatnonzero(self.counts)
        if self.name == "minmax" or not len(there):
            return self.low, self.high
        counts, centres = self.counts[there], (there - HALF + 0.5) * self.width
        if self.name == "percentile":
            below = np.cumsum(counts) / counts.sum()
            tail = (1 - KEPT) / 2
            low, high = (
                centres[np.searchsorted(below, [tail, 1 - tail])]
                + np.array([-0.5, 0.5]) * self.width
            )
            return float(max(full[0], min(low, 0.0))), float(min(full[1], max(high, 0.0)))
        loss = {"mse": squared_error, "entropy": divergence}[self.name]
        return narrowed(full, lambda low, high: loss(counts, centres, low, high))


def narrowed(full, loss):
    """Narrow a range to the least loss: first its upper end, then its lower one."""
    low, high = full
    if high > 0:
        high = full[1] * min(SHARES, key=lambda share: loss(low, full[1] * share))
    if low < 0:
        low = full[0] * min(SHARES, key=lambda share: loss(full[0] * share, high))
    return float(low), float(high)


def codes_of(values, low, high):
    """Return the scale, and the codes (0 to 255) less the zero point, of values in a range that
    includes 0.
    """
    scale = (high - low) / STEPS
    zero = np.rint(-low / scale)
    return scale, np.clip(np.rint(values / scale), -zero, STEPS - zero)


def squared_error(counts, centres, low, high):
    """Return the sum of squared quantization errors over the values."""
    scale, codes = codes_of(centres, low, high)
    return float(counts @ (centres - codes * scale) ** 2)


def divergence(counts, centres, low, high):
    """Return the Kullback-Leibler divergence between the clipped values and values spread evenly
    over the bins of each code.
    """
    _, codes = codes_of(centres, low, high)
    inside = (centres >= low) & (centres <= high)
    if not inside.any():
        return np.inf
    code = (codes - codes.min()).astype(int)
    clipped = np.zeros(len(counts))  # what lies outside counts in the outermost bins inside
    places = np.clip(np.arange(len(counts)), *np.flatnonzero(inside)[[0, -1]])
    np.add.at(clipped, places, counts)
    spread = (np.bincount(code[inside], counts[inside]) / np.maximum(np.bincount(code[inside]), 1))[
        code[inside]
    ]
    p, q = clipped[inside] / clipped.sum(), spread / spread.sum()
    return float((p * np.log(p / q)).sum())


def ranges(stream, name):
    """Return the ranges of all activations.

    Parameters
    ----------
    stream : iterable of dict
        For each window, {activation: array of its values}.
    name : str
        One of `OBSERVERS`.

    Returns
    -------
    dict
        {activation: (low, high)}.

    Raises
    ------
    UserError
        If there is no such observer.
    """
    observers = defaultdict(partial(Observer, known_observer(name)))
    for values in stream:
        for activation, x in values.items():
            observers[activation].add(x)
    return {activation: observer.range() for activation, observer in observers.items()}
