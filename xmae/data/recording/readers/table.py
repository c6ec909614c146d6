"""CSV and Parquet tables: one column per channel, one row per sample; an empty cell is a missing
sample.

Times, if there are any, are numbers in the unit that the column's name, a row of units or the
channel map states (s by default), or dates (ISO 8601; with offsets from UTC they are UTC). Steps
may be rounded; a step of more than one and a half median steps is a gap, which is filled with
missing samples; times that stand still, go back or change their rate are refused. How a text table
is written is found by `xmae.data.recording.readers.dialect`.
"""

from itertools import chain

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from xmae.data.recording.channels import (
    Channel,
    find_roles,
    recording_of,
)
from xmae.data.recording.parquet import check_parquet
from xmae.data.recording.part import Part
from xmae.data.recording.people import (
    subject_column,
    subject_name,
    uncertain_people,
    unread_ids,
)
from xmae.data.recording.readers.dialect import dialect_of, read_text_table
from xmae.data.recording.readers.times import (
    on_grid,
    refuse_time_unit,
    regular_times,
    seconds_of,
    time_column,
)
from xmae.data.recording.recording import attempt
from xmae.data.recording.sizes import check_columns, check_places
from xmae.data.recording.units import split_unit
from xmae.errors import UserError

MAX_GAP_S = 3600  # a longer gap starts another recording


def read(path, channel_map):
    """Read the recordings of one table: a single one, or one for each subject and for each stretch
    between gaps of over 1 h.
    """
    table, units, repairs = load(path, channel_map)
    who = subject_column(table.columns, channel_map, path, table)
    if who is None and unread_ids(table):
        repairs = [*repairs, "ids_not_read"]
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
    """Read the columns of a table that have a role, with or without PPG, as a part of a session.

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
    if (time := time_column(table, channel_map, path, units)) is not None:
        times, begin = seconds_of(table, time, channel_map, path, units.get(time, ""))
        refuse_time_unit(times, time, path)
        sfreq, places, uneven = regular_times(times, time, path)
        repairs = [*repairs, *uneven]
        start = begin.isoformat() if begin else ""
    sfreq = channel_map.check_sfreq(sfreq, path)
    if len(places) and np.diff(places).max(initial=0) > MAX_GAP_S * sfreq:
        raise UserError(f"{path}: has a gap of more than an hour; a session is one recording")
    check_places(places, path)
    names = dict.fromkeys(chain.from_iterable(roles.values()))
    channels = [
        Channel(
            name,
            on_grid(numbers_of(table[name], name, path), places),
            sfreq,
            unit=split_unit(name)[1] or units.get(name, ""),
        )
        for name in names
    ]
    return Part(channels, start, roles, repairs=tuple(repairs))


def load(path, channel_map):
    """Read the table, the units by column if a row states them, and the repairs made."""
    if path.suffix.lower() != ".parquet":
        names = dialect_of(path).names
        who = subject_column(names, channel_map, path)
        texts = [who] if who else uncertain_people(names, channel_map)
        table, dialect, repairs = read_text_table(path, texts)
        if not len(table):
            raise UserError(f"{path}: has no rows below its names")
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
    if not table.columns.is_unique:
        twice = table.columns[table.columns.duplicated()][0]
        raise UserError(f"{path}: has the column '{twice}' twice; give one another name")
    return table, {}, []


def check_nested(path, schema, channel_map):
    """Raise a `UserError` if a channel's column holds lists or the like."""
    names = [name.strip() for name in schema.names]
    roles = find_roles(names, wanted(names, channel_map), units_of(names, {}))
    channels = set(chain.from_iterable(roles.values()))
    for name, field in zip(names, schema, strict=True):
        if field.type.num_fields and name in channels:
            raise UserError(
                f"{path}: column '{name}' holds {field.type}; expected one number per row"
            )


def read_subject(path, table, columns, channel_map, subject, units, mended):
    """Yield the recordings in the rows of one subject; `subject` is None where the table does not
    name one.
    """
    signals = {name: numbers_of(table[name], name, path) for name in columns}
    repairs = [*mended, *(["subject_from_file_name"] if subject is None else [])]
    sfreq, places = None, np.arange(len(table))
    if (time := time_column(table, channel_map, path, units)) is not None:
        times, begin = seconds_of(table, time, channel_map, path, units.get(time, ""))
        refuse_time_unit(times, time, path)
        sfreq, places, uneven = regular_times(times, time, path)
        repairs += uneven
        far = np.flatnonzero(np.diff(places) > MAX_GAP_S * sfreq) + 1
    else:  # rows of somebody else between are a gap of unknown length
        far = np.flatnonzero(np.diff(table.index.to_numpy()) != 1) + 1
    sfreq = channel_map.check_sfreq(sfreq, path)
    stretches = [slice(a, b) for a, b in zip([0, *far], [*far, len(places)], strict=True)]
    starts = [
        (begin + pd.Timedelta(seconds=times[rows.start])).isoformat()
        if time is not None and begin
        else ""
        for rows in stretches
    ]
    unit_of = units_of(columns, units)
    roles = find_roles(list(signals), wanted(columns, channel_map), unit_of)
    name = path.stem if subject is None or subject == path.stem else f"{path.stem}-{subject}"
    for number, (rows, start) in enumerate(zip(stretches, starts, strict=True)):
        within = places[rows] - places[rows][:1]
        check_places(within, path)
        yield attempt(
            recording_of,
            [
                Channel(key, on_grid(x[rows], within), sfreq, unit=unit_of[key])
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
    """Return the values of a column, float64 (n,); a `UserError` names the first that is not a
    number.
    """
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
    """Return the unit of each column, from its name or from a row of units."""
    return {name: split_unit(name)[1] or units.get(name, "") for name in names}


def wanted(columns, channel_map):
    """Return the roles of the channel map, with the names as the table spells them."""
    spelt = {name.lower(): name for name in columns}
    listed = {
        role: [names] if isinstance(names, str) else names
        for role, names in channel_map.roles.items()
    }
    return {
        role: [spelt.get(name.lower(), name) for name in names] for role, names in listed.items()
    }


def channel_columns(names, channel_map, path, units):
    """Return the columns that have a role."""
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


def holds_ppg(path, channel_map):
    """Tell whether the table has a PPG column."""
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
