"""Times of a table: which column has them, what they mean in s, the even grid they lie on.

Times are numbers in a stated unit (s by default), dates (ISO 8601), or times of day. Numbers that
count from 1970 and dates tell when the recording began.
"""

import re

import numpy as np
import pandas as pd

from xmae.data.recording.channels import plain_name
from xmae.data.recording.recording import MAX_SFREQ, MIN_SFREQ
from xmae.data.recording.units import SECONDS, TIME_NAMES, seconds_in, split_unit
from xmae.errors import UserError

# count where their values rise, as times do
OTHER_NAMES = {
    "DATETIME", "DATE", "DATUM", "TS", "SEC", "ZEIT", "ZEITSTEMPEL", "UHRZEIT", "EPOCH",
    "EPOCHTIME", "UNIX", "UNIXTIME", "UNIXTIMESTAMP", "ELAPSED", "ELAPSEDTIME", "LOCALTIME", "UTC",
    "UTCTIME", "TIMEUTC", "LSLTIME", "LSLTIMESTAMP", "RECORDEDAT", "SYSTEMTIME", "DEVICETIME",
    "TEMPS", "TIEMPO", "TEMPO", "HORA", "MILLISECONDS", "MILLIS", "MICROSECONDS",
}  # fmt: skip
INDEX_NAMES = ("", "__index_level_0__")  # of an index that pandas wrote with the table
NAMED_UNITS = {"MILLISECONDS": "ms", "MILLIS": "ms", "MICROSECONDS": "us"}
DATE_NAMES = ("DATE", "DATUM")  # of a column beside times of day
UNIT_SUFFIX = re.compile(
    r"(?i)(time|timestamp|t|elapsed|ts|unix|epoch|unix_?time|elapsed_?time)[_ .-]"
    r"(s|sec|ms|msec|us|ns|min|h)"
)
CLOCK = r"\s*\d{1,2}:\d\d:\d\d(?:[.,]\d+)?\s*"
DAY_S = 86400
SINCE_1970_S = (1.1e9, 4.1e9)  # 2004 to 2099
LIKELY = ("ms", "us", "ns", "min", "h", "d")  # units of time that are suggested
DRIFT_S = 0.1  # s by which times may differ from even ones, or one step


def time_column(table, channel_map, path, units):
    """Return the column with times: the one that the map names, or one with a usual name; None if
    there is none.

    "T" is no such name, but a temperature; and what is called "t" without a unit, or by one of the
    less usual names, only counts where its values rise as times do. So does an index that was
    written with the table, where it holds other than whole numbers, which count rows.
    """
    names = list(table.columns)
    if channel_map.time is not None:
        found = next((name for name in names if name.lower() == channel_map.time.lower()), None)
        if found is None:
            raise UserError(
                f"{path}: no column '{channel_map.time}' for time; there are {', '.join(names)}"
            )
        return found
    for name in names:
        if UNIT_SUFFIX.fullmatch(name.strip()):
            return name
        bare = name in ("t", "T") and not units.get(name)
        if plain_name(name) in TIME_NAMES and not (bare and is_no_time(table[name], name)):
            return name
    others = [name for name in names if is_index(name) or plain_name(name) in OTHER_NAMES]
    return next((name for name in others if not is_no_time(table[name], name)), None)


def is_index(name):
    """Tell whether a column has the name of an index that was written with the table."""
    return name.strip() in INDEX_NAMES


def is_no_time(column, name):
    """Tell whether a column with an ambiguous name holds something other than times."""
    if name == "T" or len(column) < 2:
        return True
    if pd.api.types.is_numeric_dtype(column):
        values = column.to_numpy(np.float64, na_value=np.nan)
        counts_rows = is_index(name) and (values == np.rint(values)).all()
        return counts_rows or np.mean(np.diff(values) > 0) < 0.5
    if pd.api.types.is_timedelta64_dtype(column) or pd.api.types.is_datetime64_any_dtype(column):
        return False
    some = column.astype(str)[:100]
    return some.nunique() < 2 or not some.str.match(r"\s*[\d/.-]+[ T]\d\d?:?\d\d|" + CLOCK).all()


def seconds_of(table, name, channel_map, path, unit_below):
    """Return the times in s (n,), and the date of the first one where the column has it; else "".

    Times then count from the first.
    """
    column = numbers_again(table[name])
    if pd.api.types.is_timedelta64_dtype(column):
        raise UserError(f"{path}: column '{name}' holds durations; write times in s or as dates")
    if not pd.api.types.is_numeric_dtype(column):
        if column.astype(str).str.fullmatch(CLOCK).all():
            return seconds_of_day(table, name)
        dates = dates_of(column, name, path)
        return (dates - dates.iloc[0]).dt.total_seconds().to_numpy(), dates.iloc[0]
    suffix = UNIT_SUFFIX.fullmatch(name.strip())
    stated = (
        channel_map.time_unit
        or split_unit(name)[1]
        or unit_below
        or (suffix[2] if suffix else NAMED_UNITS.get(plain_name(name), "s"))
    )
    unit = seconds_in(stated, f"{path}: column '{name}'")
    first = float(column.iloc[0]) * unit if len(column) else np.nan
    if SINCE_1970_S[0] <= first <= SINCE_1970_S[1]:
        # ns since 1970 are beyond the digits of a float
        return (column - column.iloc[0]).to_numpy(np.float64) * unit, begun_at(first)
    return column.to_numpy(np.float64) * unit, ""


def numbers_again(column):
    """Return a column of text as numbers if only numbers are left in it: the text was in an
    incomplete row that is now missing.
    """
    if pd.api.types.is_numeric_dtype(column) or pd.api.types.is_datetime64_any_dtype(column):
        return column
    if pd.api.types.is_timedelta64_dtype(column):
        return column
    numbers = pd.to_numeric(column, errors="coerce")
    return numbers if numbers.notna().equals(column.notna()) else column


def begun_at(seconds):
    """Convert a time in s since 1970 to a date in UTC, to the microsecond."""
    return pd.Timestamp(round(1e6 * seconds), unit="us", tz="UTC")


def seconds_of_day(table, name):
    """Return times of day in s from the first (n,), and when that was if a column beside them has
    the date; else "". Times may pass midnight if only one date (that of the start) or none is
    given.
    """
    words = table[name].astype(str).str.strip().str.replace(",", ".")
    seconds = pd.to_timedelta(words).dt.total_seconds().to_numpy()
    days = days_beside(table)
    if days is not None and days.notna().all() and days.nunique() > 1:
        seconds = seconds + (days - days.iloc[0]).dt.days.to_numpy() * DAY_S
    else:
        seconds = np.unwrap(seconds, period=DAY_S)
    known = days is not None and pd.notna(days.iloc[0])
    begun = days.iloc[0] + pd.Timedelta(seconds=seconds[0]) if known else ""
    return seconds - seconds[0], begun


def days_beside(table):
    """Return the date of each row of a table, NaT where it cannot be read; None without a column of
    dates.
    """
    name = next((other for other in table.columns if plain_name(other) in DATE_NAMES), None)
    if name is None:
        return None
    written = table[name].astype(str).str.slice(0, 10)
    return pd.to_datetime(written, format="%Y-%m-%d", errors="coerce")


def dates_of(column, name, path):
    """Return the dates of a column, in UTC if they have a zone; raises a `UserError` if only some
    have one, or if they are not dates.
    """
    written = column.astype(str)
    words = written.str.match("[A-Za-z]") & column.notna()  # pandas knows "now" and "today"
    try:
        if pd.api.types.is_datetime64_any_dtype(column):
            return column
        if words.any():
            raise ValueError("words are no dates")
        written = written.str.replace(r"(?<=:\d\d),(?=\d)", ".", regex=True)
        written = written.str.replace(r"\s*(?:UTC|GMT)$", "Z", regex=True)
        zoned = written.str.contains(r"(?:Z|[+-]\d\d:?(?:\d\d)?)$", regex=True)
        if zoned.any() and not zoned.all():
            raise UserError(f"{path}: column '{name}' has times with and without a time zone")
        return pd.to_datetime(
            written.where(column.notna()), format="ISO8601", utc=bool(zoned.all())
        )
    except UserError:
        raise
    except (TypeError, ValueError, AttributeError) as error:
        good = pd.to_numeric(column, errors="coerce")
        if good.notna().mean() < 0.5:  # dates, then
            good = pd.to_datetime(written, format="ISO8601", utc=True, errors="coerce").mask(words)
        bad = np.flatnonzero(good.isna() & column.notna())
        row = bad[0] if len(bad) else 0
        raise UserError(
            f"{path}: column '{name}' holds '{str(column.iloc[row])[:40]}' in row {row + 1};"
            " expected seconds, or dates such as 2026-05-04T10:00:00.25 (ISO 8601)"
        ) from error


def refuse_time_unit(times, name, path):
    """Raise a `UserError` if the rate of times (s) is out of bounds, but would be within them in
    another unit.
    """
    steps = np.diff(times)
    step = np.median(steps[steps > 0]) if (steps > 0).any() else np.nan
    if not np.isfinite(step) or MIN_SFREQ <= 1 / step <= MAX_SFREQ:
        return
    likely = [unit for unit in LIKELY if MIN_SFREQ <= 1 / (step * SECONDS[unit]) <= MAX_SFREQ]
    if likely:
        units = " or ".join(likely)
        says = f"its times look like {units}; say time_unit: {units} in a channel map (--channels)"
        raise UserError(f"{path}: column '{name}' makes the sampling rate {1 / step:g} Hz; {says}")


def on_grid(x, places):
    """Place samples on a grid, NaN between them: (n,), (n,) -> (places[-1] + 1,)."""
    if len(places) and places[-1] + 1 == len(x):
        return x
    filled = np.full(int(places[-1]) + 1 if len(places) else 0, np.nan)
    filled[places] = x
    return filled


def regular_times(times, name, path):
    """Return the rate (Hz) of times (s), the place of each sample on the grid of that rate, and the
    repairs made.

    Times that jitter, but keep within one step or 0.1 s of an even count, are taken as even:
    "time_jitter". Steps of more than one and a half median steps are gaps in the grid: "time_gaps".

    Raises
    ------
    UserError
        If the times stand still or go back, or keep no rate even between gaps.
    """
    steps = np.diff(times)
    backward = np.flatnonzero(~(steps > 0))
    if len(backward):
        raise UserError(
            f"{path}: column '{name}' stands still or goes back in row {backward[0] + 2};"
            " mend the rows"
        )
    step = np.median(steps) if len(steps) else np.nan
    gap = steps > 1.5 * step
    if len(steps) > 1 and gap.mean() > 0.05:
        step, places = (times[-1] - times[0]) / len(steps), np.arange(len(times))
        if np.abs(times - times[0] - step * places).max() <= max(step, DRIFT_S):
            return float(1 / step), places, ["time_jitter"]
    if len(steps) < 2 or gap.mean() > 0.05:
        raise UserError(f"{path}: column '{name}' is not uniform; resample the recording first")
    # times may be rounded, to milliseconds say, so the rate is that of the whole between gaps
    step = steps[~gap].mean()
    # behind each gap the count begins anew, at the place of the grid nearest to the time
    ahead = np.where(gap, np.rint((times[1:] - times[0]) / step), 0)
    begins = np.concatenate([[0], np.flatnonzero(gap) + 1])
    first = np.concatenate([[0], ahead[gap]])
    which = np.searchsorted(begins, np.arange(len(times)), side="right") - 1
    places = (first[which] + np.arange(len(times)) - begins[which]).astype(np.int64)
    drift = np.abs(times - times[0] - step * places)
    if drift.max() > max(step, DRIFT_S) or (np.diff(places) < 1).any():
        row = int(np.argmax(drift)) + 1
        raise UserError(
            f"{path}: column '{name}' is not uniform: its rate changes, at {1 / step:.4g} Hz on"
            f" average row {row} is {drift.max():.2g} s off; resample the recording first"
        )
    return float(1 / step), places, ["time_gaps"] if gap.any() else []
