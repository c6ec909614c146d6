"""The rhythm hint: regular, ectopic-like, irregularly irregular, from intervals in whole numbers.

It is a hint, not a diagnosis. Shares of like intervals decide: of neighbours, and of those two and
three apart. In fibrillation hardly two are alike at any distance; with ectopic beats many
neighbours are, or, where every second or third beat is ectopic, those two or three apart.
Thresholds come from the annotated rhythms of three PhysioNet databases (xmae/twin/RHYTHMS.md;
benchmarks/release/choose_rhythm_thresholds.py).
"""

import numpy as np

HINTS = ("rhythm unknown", "regular", "ectopic-like", "irregularly irregular")
UNKNOWN, REGULAR, ECTOPIC, IRREGULAR = range(4)
LEAST_CHANGES = 12  # neighbouring intervals, both known
SMALL = 80  # 1 / 1000 of the interval: a change that is none
REGULAR_SHARE = 850  # 1 / 1000 of changes that are small in a regular rhythm, at least
IRREGULAR_SHARE = (
    400  # at most so many are small in an irregularly irregular one, at every distance
)
PATTERNS = (1, 2, 3)  # distances


def rhythm_hint(intervals):
    """Return a hint on the rhythm for each row.

    Parameters
    ----------
    intervals : int array, shape (n, m)
        Neighbouring intervals in ticks, 0 = unknown.

    Returns
    -------
    int array, shape (n,)
        Index into `HINTS`.
    """
    n, small = alike(intervals, 1)
    irregular = np.ones(len(intervals), bool)
    for lag in PATTERNS:
        n_lag, small_lag = alike(intervals, lag)
        irregular &= 1000 * small_lag <= IRREGULAR_SHARE * n_lag
    hint = np.full(len(intervals), ECTOPIC)
    hint[1000 * small >= REGULAR_SHARE * n] = REGULAR
    hint[irregular & (1000 * small < REGULAR_SHARE * n)] = IRREGULAR
    hint[n < LEAST_CHANGES] = UNKNOWN
    return hint


def alike(intervals, lag):
    """Count the known pairs of intervals `lag` apart, and those of them that are similar: (n,),
    (n,).
    """
    first, second = intervals[:, :-lag], intervals[:, lag:]
    both = (first > 0) & (second > 0)
    small = both & (2000 * np.abs(second - first) <= SMALL * (first + second))
    return both.sum(1), small.sum(1)
