"""Acceleration in g, three axes, whatever the recorder counts in.

At rest an accelerometer measures gravity, so the median length of its vector tells the unit where
no unit is stated.
"""

import numpy as np

# what one g is in the units of common recorders: g, m/s2, steps of 1/64 g (Empatica E4) and of
# 1/256 g, mg, and the steps of chips of 2 to 16 bits less than their range
ONE_G = (1.0, 9.80665, 64.0, 256.0, 1000.0, 2048.0, 4096.0, 8192.0, 16384.0)
AT_REST = 0.2  # spread of lengths, below which they are mostly gravity
FIT = 1.4  # the median length may be off by this factor: people move
UNKNOWN = "acceleration_unit_unknown"


def in_g(axes, scales):
    """Convert acceleration of one to three axes to g.

    Parameters
    ----------
    axes : list of float arrays, shape (n_times,)
        One to three axes; one alone may be the length of the vector. NaN = missing.
    scales : list of float or None
        Size of each axis's unit in g; None = not stated. See `units.gravities_in`.

    Returns
    -------
    acc : float array, shape (3, n_times), or None
        Acceleration, g; axes that were not recorded are 0, so the length of the vector is that of
        what was recorded. A sample that is missing in one axis is missing in all. None if the unit
        is neither stated nor told by gravity.
    repairs : list of str
        "acceleration_unit" if gravity told the unit, where none is stated, or another at rest;
        `UNKNOWN` if it did not.
    """
    acc = np.zeros((3, len(axes[0])))
    acc[: len(axes)] = axes
    acc[:, np.isnan(acc).any(axis=0)] = np.nan
    one_g = gravity(length(acc))
    if None not in scales:
        stated = acc.copy()
        stated[: len(axes)] *= np.reshape(scales, (-1, 1))
        wrong = gravity(length(stated), (1.0,)) is None and one_g is not None
        if not wrong or spread(length(acc)) > AT_REST:
            return stated, []
    return (None, [UNKNOWN]) if one_g is None else (acc / one_g, ["acceleration_unit"])


def length(acc):
    """Return the length of the acceleration vector: (..., 3, n_times) -> (..., n_times)."""
    return np.sqrt(np.square(acc).sum(axis=-2))


def spread(lengths):
    """Return the interquartile range of lengths (n_times,) over their median."""
    low, median, high = np.nanpercentile(lengths, (25, 50, 75))
    return (high - low) / max(median, 1e-30)


def gravity(lengths, units=ONE_G):
    """Return one g in the unit of these lengths (n_times,), guessed from their median; None if it
    matches none of `units`.
    """
    known = lengths[np.isfinite(lengths)]
    median = np.median(known) if len(known) else 0.0
    nearest = min(units, key=lambda unit: abs(np.log(max(median, 1e-30) / unit)))
    return nearest if nearest / FIT <= median <= nearest * FIT else None
