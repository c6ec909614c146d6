"""Recorded PPG as the codes of a converter, which a stream takes."""

import numpy as np

from xmae.errors import UserError

RAILS = (0.05, 99.95)  # percentiles that become the ends of the code range, with room to both sides


def as_codes(ppg, bits=16):
    """Round raw PPG to converter codes; a missing sample repeats the one before.

    Parameters
    ----------
    ppg : array, shape (n,)
        Any unit; NaN = missing.
    bits : int
        Width of the codes, 0 to 2^bits - 1.

    Returns
    -------
    int64 array, shape (n,)

    Raises
    ------
    UserError
        If nothing is known or nothing moves.
    """
    ppg = np.asarray(ppg, np.float64)
    known = np.isfinite(ppg)
    if ppg.ndim != 1 or not known.any():
        raise UserError(
            f"expected one row of PPG samples, got shape {ppg.shape} with {known.sum()} known"
        )
    last = np.maximum.accumulate(np.where(known, np.arange(len(ppg)), 0))
    held = np.where(known[last], ppg[last], ppg[known.argmax()])
    low, high = np.percentile(ppg[known], RAILS)
    if not high > low:
        raise UserError("the PPG does not move; give raw samples, not a flat line")
    room, top = (high - low) / 2, (1 << bits) - 1
    share = (held - low + room) / (high - low + 2 * room)
    return np.clip(np.rint(share * top), 0, top).astype(np.int64)
