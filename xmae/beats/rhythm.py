"""The rhythm hint: regular, ectopic-like, irregularly irregular, from intervals in whole numbers.

It is a hint, not a diagnosis. Two numbers decide: the mean change of neighbouring intervals over their
mean, and the share of small changes. In fibrillation almost every interval differs from the one
before; with ectopic beats, most are alike. Thresholds come from the annotated rhythms of three
PhysioNet databases (xmae/twin/RHYTHMS.md; benchmarks/release/choose_rhythm_thresholds.py).
"""

import numpy as np

HINTS = ("rhythm unknown", "regular", "ectopic-like", "irregularly irregular")
UNKNOWN, REGULAR, ECTOPIC, IRREGULAR = range(4)
LEAST_CHANGES = 12  # neighbouring intervals, both known
SMALL = 70  # 1 / 1000 of the interval: a change that is none
REGULAR_SHARE = 850  # 1 / 1000 of changes that are small in a regular rhythm, at least
IRREGULAR_SHARE = 400  # at most so many are small in an irregularly irregular one


def rhythm_hint(intervals):
    """Give a hint for each row.

    Parameters
    ----------
    intervals : int array, shape (n, m)
        Neighbouring intervals in ticks, 0 = unknown.

    Returns
    -------
    int array, shape (n,)
        Index into `HINTS`.
    """
    first, second = intervals[:, :-1], intervals[:, 1:]
    both = (first > 0) & (second > 0)
    n = both.sum(1)
    small = (both & (2000 * np.abs(second - first) <= SMALL * (first + second))).sum(1)
    hint = np.full(len(intervals), ECTOPIC)
    hint[1000 * small >= REGULAR_SHARE * n] = REGULAR
    hint[1000 * small <= IRREGULAR_SHARE * n] = IRREGULAR
    hint[n < LEAST_CHANGES] = UNKNOWN
    return hint
