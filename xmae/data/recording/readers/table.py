"""CSV and Parquet tables: a column a channel, a row a sample; an empty cell is a missing sample.

Times, if there are any, are numbers in the unit that the column's name, a row of units or the
channel map states (s by default), or dates (ISO 8601; with offsets from UTC they are UTC). Steps may
be rounded; a step of more than one and a half median steps is a gap, which is filled with missing
samples; times that stand still, go back or change their rate are refused. How a text table is
written is found by `xmae.data.recording.readers.dialect`.
"""

import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from xmae.data.recording.channels import (
    Channel,
    find_roles,
    may_name_subject,
    names_subject,
    plain_name,
    recording_of,
)
from xmae.data.recording.parquet import check_parquet
from xmae.data.recording.part import Part
from xmae.data.recording.readers.dialect import dialect_of, read_text_table
from xmae.data.recording.recording import MAX_SFREQ, MIN_SFREQ, attempt
from xmae.data.recording.sizes import check_columns, check_places
from xmae.data.recording.units import SECONDS, bracketed, seconds_in
from xmae.errors import UserError

TIME_NAMES = ("TIME", "TIMESTAMP", "TIMES", "T", "SECONDS")
UNIT_SUFFIX = re.compile(r"(?i)(time|timestamp|t|elapsed|ts)[_ .-](s|sec|ms|msec|us|ns|min|h)")
LIKELY = ("ms", "us", "ns", "min", "h", "d")  # units of time that are suggested
DRIFT_S = 0.1  # s by which times may differ from even ones, or one step
STEADY_ROWS = 200  # rows on average for which a value stays that may name a person
MAX_GAP_S = 3600  # a longer gap starts another recording


def read(path, channel_map):
    """Yield the recordings of one table: one, or one for each subject and each stretch between gaps
    of over 1 h.
    """
    table, units, repairs = load(path, channel_map)
    who = subject_column(table.columns, channel_map, path, table)
    columns = channel_columns(table.columns, channel_map, path, units)
    if who is None:
        yield from read_subject(path, table, columns, channel_map, None, units, repairs)
        return
    names = table[who].map(subject_name)
    if names.isna().any():
        rows = np.flatnonzero(names.isna())
        yield UserError(
            f"{path}: column '{who}' is empty in {len(rows)} rows, the first of them row"
            f" {rows[0] + 1}: nobody knows whose samples they are; fill it"
        )
    for subject, part in table.groupby(names, sort=False, observed=True):
        try:
            yield from read_subject(path, part, columns, channel_map, subject, units, repairs)
        except UserError as error:
            yield error


def part_of(path, channel_map):
    """The columns of a table that play a role, with or without PPG, as a part of a session.

    Raises
    ------
    UserError
        If the table names several subjects, or has a gap of more than an hour.
    """
    table, units, repairs = load(path, channel_map)
    try:
        roles = find_roles(
            list(table.columns),
            wanted(table.columns, channel_map),
            units_of(table.columns, units),
        )
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    who = subject_column(table.columns, channel_map, path, table)
    if who is not None and table[who].nunique() > 1:
        raise UserError(f"{path}: names several subjects in '{who}'; a session has one")
    sfreq, places, start = None, np.arange(len(table)), ""
    if time := time_column(table, channel_map, path, units):
        times, begin = seconds_of(table[time], time, channel_map, path, units.get(time, ""))
        refuse_time_unit(times, time, path)
        sfreq, places, uneven = regular_times(times, time, path)
        repairs = [*repairs, *uneven]
        start = begin.isoformat() if begin else ""
    sfreq = channel_map.check_sfreq(sfreq, path)
    if len(places) and np.diff(places).max(initial=0) > MAX_GAP_S * sfreq:
        raise UserError(f"{path}: has a gap of more than an hour; a session is one recording")
    check_places(places, path)
    names = dict.fromkeys(name for chosen in roles.values() for name in chosen)
    channels = [
        Channel(
            name,
            on_grid(numbers_of(table[name], name, path), places),
            sfreq,
            unit=bracketed(name) or units.get(name, ""),
        )
        for name in names
    ]
    return Part(channels, start, roles, repairs=tuple(repairs))


def load(path, channel_map):
    """The table, the units that a row of it states, by column, and what was mended."""
    if path.suffix.lower() != ".parquet":
        names = dialect_of(path).names
        who = subject_column(names, channel_map, path)
        texts = [who] if who else [name for name in names if may_name_subject(name)]
        table, dialect, repairs = read_text_table(path, texts)
        return table, dialect.units, repairs
    try:
        stored = pq.ParquetFile(path)
        check_columns(len(stored.schema_arrow), path)
        flat = [field.name for field in stored.schema_arrow if not field.type.num_fields]
        check_nested(path, stored.schema_arrow, channel_map)
        check_parquet(path, path, columns=flat)
        table = stored.read(flat).to_pandas(ignore_metadata=True)  # an index is a column too
    except UserError:
        raise
    except (OSError, ValueError, pa.ArrowException) as error:
        raise UserError(f"{path}: not readable as a table of numbers ({error})") from error
    table.columns = [str(name).strip() for name in table.columns]
    return table, {}, []


def check_nested(path, schema, channel_map):
    """Raise a `UserError` if a column that is a channel holds lists or the like."""
    names = [name.strip() for name in schema.names]
    roles = find_roles(names, wanted(names, channel_map), units_of(names, {}))
    channels = {name for chosen in roles.values() for name in chosen}
    for name, field in zip(names, schema, strict=True):
        if field.type.num_fields and name in channels:
            raise UserError(f"{path}: column '{name}' holds {field.type}; expected a number a row")


def subject_column(names, channel_map, path, table=None):
    """The column that names the person: the one of the map, or one of a usual name; None if there is
    none.

    A name such as "ID" or "user" counts where the `table` is given and its values stay the same for
    many rows: else it numbers the rows.
    """
    if channel_map.subject:
        found = next((name for name in names if name == channel_map.subject), None)
        if found is None:
            raise UserError(
                f"{path}: no column '{channel_map.subject}' for subject; there are"
                f" {', '.join(names)}"
            )
        return found
    if (usual := next((name for name in names if names_subject(name)), None)) is not None:
        return usual
    others = [name for name in names if may_name_subject(name)] if table is not None else []
    return next((name for name in others if is_steady(table[name])), None)


def is_steady(column):
    """Whether the values of a column stay the same for many rows."""
    changes = int((column != column.shift()).sum())
    return changes * STEADY_ROWS <= len(column) and column.notna().any()


def subject_name(value):
    """A cell of the column of subjects as text: 7.0 is 7; None for an empty one."""
    if pd.isna(value) or not str(value).strip():
        return None
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value) if whole else value).strip()


def read_subject(path, table, columns, channel_map, subject, units, mended):
    """Yield the recordings of the rows of one subject; `subject` is None where the table does not
    name any.
    """
    signals = {name: numbers_of(table[name], name, path) for name in columns}
    repairs = [*mended, *(["subject_from_file_name"] if subject is None else [])]
    stretches, starts, sfreq, places = [slice(0, len(table))], [""], None, np.arange(len(table))
    if time := time_column(table, channel_map, path, units):
        times, begin = seconds_of(table[time], time, channel_map, path, units.get(time, ""))
        refuse_time_unit(times, time, path)
        sfreq, places, uneven = regular_times(times, time, path)
        repairs += uneven
        far = np.flatnonzero(np.diff(places) > MAX_GAP_S * sfreq) + 1
    else:  # rows of somebody else between are a gap of unknown length
        far = np.flatnonzero(np.diff(table.index.to_numpy()) != 1) + 1
    sfreq = channel_map.check_sfreq(sfreq, path)
    stretches = [slice(a, b) for a, b in zip([0, *far], [*far, len(places)], strict=True)]
    starts = [
        (begin + pd.Timedelta(seconds=times[rows.start])).isoformat() if time and begin else ""
        for rows in stretches
    ]
    roles = find_roles(list(signals), wanted(columns, channel_map), units_of(columns, units))
    name = path.stem if subject is None or subject == path.stem else f"{path.stem}-{subject}"
    for number, (rows, start) in enumerate(zip(stretches, starts, strict=True)):
        within = places[rows] - places[rows][:1]
        check_places(within, path)
        yield attempt(
            recording_of,
            [
                Channel(
                    key, on_grid(x[rows], within), sfreq, unit=bracketed(key) or units.get(key, "")
                )
                for key, x in signals.items()
            ],
            subject=subject or path.stem,
            record=name if len(stretches) == 1 else f"{name}-{number:03d}",
            wanted=roles,
            start=start,
            repairs=repairs,
            units=channel_map.units,
            where=f"{path}: column",
        )


def numbers_of(column, name, path):
    """The values of a column, float64 (n,); a `UserError` names the first that is no number."""
    try:
        values = column.to_numpy(np.float64, na_value=np.nan)
    except (TypeError, ValueError):
        found = (
            pd.to_numeric(column, errors="coerce")
            if column.dtype != object
            else column.map(
                lambda x: pd.to_numeric(x, errors="coerce") if np.isscalar(x) else np.nan
            )
        )
        bad = np.flatnonzero(found.isna() & column.notna())
        row = bad[0] if len(bad) else 0
        raise UserError(
            f"{path}: not readable as a table of numbers: column '{name}' holds"
            f" '{str(column.iloc[row])[:40]}' in row {row + 1}"
        ) from None
    if len(rows := np.flatnonzero(np.isinf(values))):
        raise UserError(
            f"{path}: column '{name}' has infinite samples, the first in row {rows[0] + 1}; leave"
            " the cells of missing samples empty"
        )
    return values


def units_of(names, units):
    """What name or row of units states for each column."""
    return {name: bracketed(name) or units.get(name, "") for name in names}


def time_column(table, channel_map, path, units):
    """The column with times: the one that the map names, or one of a usual name; None if there is
    none.

    "T" is no such name, but a temperature; and what is called "t" without a unit only counts where
    its values rise as times do.
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
    return None


def is_no_time(column, name):
    """Whether a column with the name of a single letter holds something else than times."""
    if name == "T" or not pd.api.types.is_numeric_dtype(column):
        return name == "T"
    steps = np.diff(column.to_numpy(np.float64))
    return len(steps) == 0 or np.mean(steps > 0) < 0.5


def seconds_of(column, name, channel_map, path, unit_below):
    """Times in s (n,), and for dates the first of them, from which the times then count; else
    "".
    """
    if pd.api.types.is_timedelta64_dtype(column):
        raise UserError(f"{path}: column '{name}' holds durations; write times in s or as dates")
    if not pd.api.types.is_numeric_dtype(column):
        dates = dates_of(column, name, path)
        return (dates - dates.iloc[0]).dt.total_seconds().to_numpy(), dates.iloc[0]
    if pd.api.types.is_integer_dtype(column):  # ns since an epoch are beyond the digits of a float
        column = column - column.iloc[0] if abs(int(column.iloc[0])) > 1 << 50 else column
    suffix = UNIT_SUFFIX.fullmatch(name.strip())
    stated = (
        channel_map.time_unit or bracketed(name) or unit_below or (suffix[2] if suffix else "s")
    )
    return column.to_numpy(np.float64) * seconds_in(stated, f"{path}: column '{name}'"), ""


def dates_of(column, name, path):
    """The dates of a column without zone, those with one in UTC; a `UserError` if only some have
    one, or if they are no dates.
    """
    written = column.astype(str)
    words = written.str.match("[A-Za-z]") & column.notna()  # pandas knows "now" and "today"
    try:
        if not pd.api.types.is_datetime64_any_dtype(column):
            if words.any():
                raise ValueError("words are no dates")
            zoned = written.str.contains(r"(?:Z|[+-]\d\d:?(?:\d\d)?)$", regex=True)
            if zoned.any() and not zoned.all():
                raise UserError(f"{path}: column '{name}' has times with and without a time zone")
            column = pd.to_datetime(column, format="ISO8601", utc=bool(zoned.all()))
        return column.dt.tz_convert(None) if column.dt.tz is not None else column
    except UserError:
        raise
    except (TypeError, ValueError, AttributeError) as error:
        good = pd.to_numeric(column, errors="coerce")
        if good.notna().mean() < 0.5:  # dates, then
            good = pd.to_datetime(written, format="ISO8601", utc=True, errors="coerce").mask(words)
        bad = np.flatnonzero(good.isna() & column.notna())
        row = bad[0] if len(bad) else 0
        raise UserError(
            f"{path}: column '{name}' holds '{str(column.iloc[row])[:40]}' in row {row + 1}; expected"
            " seconds, or dates such as 2026-05-04T10:00:00.25 (ISO 8601)"
        ) from error


def refuse_time_unit(times, name, path):
    """Raise a `UserError` if the rate of times (s) is out of bounds, and would not be if they had
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


def wanted(columns, channel_map):
    """The roles of the channel map, with the names as the table spells them."""
    spelt = {name.lower(): name for name in columns}
    listed = {
        role: [names] if isinstance(names, str) else names
        for role, names in channel_map.roles.items()
    }
    return {
        role: [spelt.get(name.lower(), name) for name in names] for role, names in listed.items()
    }


def channel_columns(names, channel_map, path, units):
    """The columns that play a role."""
    try:
        roles = find_roles(list(names), wanted(names, channel_map), units_of(names, units))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if "ppg" not in roles:
        there = ", ".join(map(str, names)) or "none"
        raise UserError(
            f"{path}: no column 'ppg'; there are {there}; name it in a channel map (--channels)"
        )
    return [name for name in names if any(name in chosen for chosen in roles.values())]


def on_grid(x, places):
    """Samples at whole-numbered places of a grid, NaN between: (n,), (n,) -> (places[-1] + 1,)."""
    if len(places) and places[-1] + 1 == len(x):
        return x
    filled = np.full(int(places[-1]) + 1 if len(places) else 0, np.nan)
    filled[places] = x
    return filled


def regular_times(times, name, path):
    """Rate (Hz) of times (s), the place of each sample on the grid of that rate, and what was
    mended.

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
            f"{path}: column '{name}' stands still or goes back in row {backward[0] + 2}; mend the rows"
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
            f"{path}: column '{name}' is not uniform: its rate changes, at {1 / step:.4g} Hz on average"
            f" row {row} is {drift.max():.2g} s off; resample the recording first"
        )
    return float(1 / step), places, ["time_gaps"] if gap.any() else []


def holds_ppg(path, channel_map):
    """Whether the table has a PPG column."""
    try:
        if path.suffix.lower() == ".parquet":
            names, units = pq.read_schema(path).names, {}
        else:
            dialect = dialect_of(path)
            names, units = dialect.names, dialect.units
        names = [name.strip() for name in names]
        return "ppg" in find_roles(names, wanted(names, channel_map), units_of(names, units))
    except UserError:
        return False  # without a column that the map names
    except (OSError, pa.ArrowException):
        return True  # damaged: to be told, not passed over
