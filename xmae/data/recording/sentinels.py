"""Numbers that say "no value": in signals, in the numerics of a monitor, and in dates.

Recorders write 0, -1, 65535, -32768 and the like where they measured nothing. Such samples are
missing samples. A value counts as such a mark by where it lies, not by what it is: it is the lowest
or highest of all, further from its neighbours than they are from each other.
"""

from datetime import UTC, datetime

import numpy as np

from xmae.errors import UserError

MARKS = (0, -1, -999, -9999, -32768, 32767, 65535, 9999, 99999, -8388608, 8388607, 16777215)
KNOWN = {abs(mark) for mark in MARKS}
NEAR = 0.25  # of the width of the rest: a known mark in runs may lie as near to it
NO_LABEL = (-999, -9999, -99999)  # in tables of labels, where 0 and -1 may be meant
RUN = 3  # equal samples in a row by which any other value counts
PLAUSIBLE = {  # of numerics; outside nothing was measured
    "hr": (15, 300), "hr_monitor": (15, 300), "hr_reference": (15, 300), "rr": (1, 150),
    "spo2": (10, 100), "age": (0, 120), "sbp": (20, 350), "dbp": (5, 250),
    "height": (20, 260), "weight": (0.3, 400), "bmi": (5, 120),
}  # fmt: skip
# first days of clocks that lost their battery, and of dates that stand for none
PLACEHOLDER_DAYS = {
    (1969, 12, 31), (1989, 12, 31), (2036, 2, 7), (2038, 1, 19), (2106, 2, 7), (1970, 1, 1),
    (1980, 1, 1), (1980, 1, 6), (1984, 1, 1), (1985, 1, 1), (1999, 11, 30),
    (2000, 1, 1), (2001, 1, 1),
}  # fmt: skip
FIRST_MINUTES = 5  # of a year, in which a clock starts that only keeps a year
FIRST_YEAR = 1950  # nothing digital was recorded before


def without_marks(x):
    """Return a signal in which placeholders for "no value" are replaced by missing samples.

    Parameters
    ----------
    x : float array, shape (n_times,)
        Raw signal, NaN = missing.

    Returns
    -------
    float array, shape (n_times,)
        NaN in place of the marks; `x` itself where there are none.

    Examples
    --------
    >>> without_marks(np.array([30010.0, 30500, -1, -1, 30200, 29800]))
    array([30010., 30500.,    nan,    nan, 30200., 29800.])
    """
    marked = np.zeros(len(x), bool)
    for _ in range(4):  # a low and a high one, each of two values at most
        low = outlying(np.where(marked, np.nan, x))
        high = outlying(np.where(marked, np.nan, -x))
        found = (low | high) & ~marked
        if not found.any():
            break
        marked |= found
    return np.where(marked, np.nan, x) if marked.any() else x


def outlying(x):
    """Mark where the lowest value of a signal is a placeholder: bool (n_times,)."""
    nothing = np.zeros(len(x), bool)
    known = x[np.isfinite(x)]
    if len(known) < 2 * RUN:
        return nothing
    lowest = known.min()
    rest = known[known > lowest]
    if len(rest) < len(known) / 10:  # nearly all of it: a flat signal, which others refuse
        return nothing
    gap, span, is_mark = rest.min() - lowest, np.ptp(rest), abs(lowest) in KNOWN
    if span == 0 or gap <= span * (NEAR if is_mark else 1):
        return nothing
    here = x == lowest
    edges = np.flatnonzero(np.diff(np.concatenate([[0], here, [0]]))).reshape(-1, 2)
    long = (edges[:, 1] - edges[:, 0]).max() >= RUN
    return here if long or (is_mark and gap > span) else nothing


def plausible_labels(labels):
    """Return the labels with NaN in place of placeholders, and the names of labels that had some.

    Parameters
    ----------
    labels : dict
        As in `Recording`.

    Returns
    -------
    dict, list of str
        The labels; "hr" and so on.
    """
    clean, mended = {}, []
    for name, label in labels.items():
        low, high = PLAUSIBLE.get(name, (-np.inf, np.inf))
        values, rate = label if isinstance(label, tuple) else (label, None)
        if isinstance(values, str) or values is None:
            clean[name] = label
            continue
        values = np.asarray(values, np.float64)
        good = np.isfinite(values) & (values >= low) & (values <= high)
        if (~good & ~np.isnan(values)).any():
            mended.append(name)
        known = np.where(good, values, np.nan)
        clean[name] = (known, rate) if rate is not None else float(known)
    return clean, mended


def refuse_no_values(values, where):
    """Raise a `UserError` if labels written by a person hold infinite numbers or placeholders.

    Parameters
    ----------
    values : float array, shape (n,)
        A column of a table of labels.
    where : str
        File and column, for the error.
    """
    values = np.asarray(values, np.float64)
    for rows, says in (
        (np.flatnonzero(np.isinf(values)), "is infinite"),
        (np.flatnonzero(np.isin(values, NO_LABEL)), "says 'no value' with a number"),
    ):
        if len(rows):
            raise UserError(f"{where} {says} in row {rows[0] + 1}; leave a missing label empty")


def is_placeholder(when):
    """Tell whether a time is on the first day of a clock that was never set, such as
    2000-01-01T00:03:10. With a zone, its day in UTC counts too.
    """
    time = datetime.fromisoformat(when)
    days = {time.date(), time.astimezone(UTC).date() if time.tzinfo else time.date()}
    first_day = any((day.year, day.month, day.day) in PLACEHOLDER_DAYS for day in days)
    new_year = (time.month, time.day, time.hour) == (1, 1, 0) and time.minute < FIRST_MINUTES
    return first_day or (new_year and not time.tzinfo) or time.year < FIRST_YEAR
