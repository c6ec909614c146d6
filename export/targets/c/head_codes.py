"""Linear heads in whole numbers: from the codes of an embedding to 1/1000 of a head's units."""

import math
from dataclasses import dataclass

import numpy as np

from xmae.errors import UserError

WIDEST = 30  # bits of the largest weight
UNIT = 1000  # a head's value is in 1/1000 of its units


@dataclass(frozen=True)
class HeadCode:
    """A head in whole numbers, as libxmae uses it.

    Parameters
    ----------
    name, units : str
        Its task; units of what it says, "" for log-odds.
    weights : int32 array, shape (D,)
    bias : int
    shift : int
        The value is (bias + sum of weights x (code - zero point)) / 2^shift.
    """

    name: str
    units: str
    weights: np.ndarray
    bias: int
    shift: int

    def value(self, codes, zero):
        """Return the head's answer for an embedding's codes (D,), in 1/1000 of its unit: int."""
        total = self.bias + int(
            (self.weights.astype(np.int64) * (codes.astype(np.int64) - zero)).sum()
        )
        rounded = (total + (1 << self.shift >> 1)) >> self.shift
        return max(-(2**31), min(2**31 - 1, rounded))


def head_code(name, head, scale):
    """Convert a head of a bundle's `heads.json` to whole numbers.

    Parameters
    ----------
    name : str
        Task.
    head : Head
    scale : float
        Scale of the embedding's codes.

    Raises
    ------
    UserError
        If its numbers are too large.
    """
    weights = np.asarray(head.weight, np.float64) * scale * UNIT
    largest = max(float(np.abs(weights).max()), 1e-9)
    shift = min(WIDEST, WIDEST - math.ceil(math.log2(largest)) - 1)
    bias = round(head.bias * UNIT * 2.0 ** max(shift, 0))
    if shift < 0 or abs(bias) >= 1 << 62:
        raise UserError(f"head {name}: its numbers are too large for libxmae")
    units = "" if head.kind == "binary" else head.units
    return HeadCode(name, units, np.rint(weights * 2.0**shift).astype("<i4"), bias, shift)
