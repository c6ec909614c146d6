"""CSV and Parquet tables: a column a channel, a row a sample; an empty cell is a missing sample.

Times, if there are any, are numbers (s, ms or us, by "(ms)" in the column's name or by the channel
map) or dates (ISO 8601). Steps may be rounded; a step of more than one and a half median steps is a
gap, which is filled with missing samples; times that stand still or go back are refused. CSV may be
separated by commas, semicolons (then with decimal commas, if need be) or tabs, with lines of
comment after "#".
"""

import csv
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from xmae.data.recording.channels import SECONDS, Channel, find_roles, plain_name, recording_of
from xmae.data.recording.recording import MAX_SFREQ, MIN_SFREQ, attempt
from xmae.errors import UserError

TIME_NAMES = ("TIME", "TIMESTAMP", "TIMES", "T", "SECONDS")
# relative: how far a time step, or a stated rate, may lie from the rate of the time column
TOLERANCE = 0.01
MAX_GAP_S = 3600  # a longer gap starts another recording


def read(path, channel_map):
    """Yield the recordings of one table: one, or one for each subject and each stretch between gaps
    of over 1 h.
    """
    who = channel_map.subject or "subject"
    try:
        if path.suffix.lower() == ".parquet":
            table = pq.read_table(path).to_pandas(ignore_metadata=True)  # an index is a column too
        else:
            options = dialect(path) | {"dtype": {who: str}}  # subject 007
            table = pd.read_csv(
                path, encoding="utf-8-sig", comment="#", skipinitialspace=True, **options
            )
    except (OSError, ValueError, pa.ArrowException) as error:
        raise UserError(f"{path}: not readable as a table of numbers ({error})") from error
    table.columns = [str(name).strip() for name in table.columns]
    if channel_map.subject and who not in table:
        raise UserError(
            f"{path}: no column '{who}' for subject; there are {', '.join(table.columns)}"
        )
    columns = channel_columns(table.columns, channel_map, path)
    if who not in table:
        yield from read_subject(path, table, columns, channel_map, None)
        return
    for subject, part in table.groupby(who, sort=False):
        try:
            yield from read_subject(path, part, columns, channel_map, str(subject))
        except UserError as error:
            yield error


def dialect(path):
    """How a CSV file separates its columns, and writes its decimals, by its first lines."""
    names, values = (*head(path, 2), "", "")[:2]
    separator = max(",;\t", key=names.count)
    return {"sep": separator, "decimal": "," if separator != "," and "," in values else "."}


def head(path, n_lines):
    """The first lines of a CSV file that say something."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        said = (line for line in file if line.strip() and not line.startswith("#"))
        return [line for line, _ in zip(said, range(n_lines), strict=False)]


def read_subject(path, table, columns, channel_map, subject):
    """Yield the recordings of the rows of one subject; `subject` is None where the table does not
    name any.
    """
    try:
        numbers = table[columns].astype(float)
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: not readable as a table of numbers ({error})") from error
    signals, repairs = {name: numbers[name].to_numpy() for name in columns}, []
    if subject is None:
        repairs.append("subject_from_file_name")
    stretches, starts = [slice(0, len(table))], [""]
    if time := time_column(table.columns, channel_map, path):
        times, begin = seconds_of(table[time], time, channel_map, path)
        sfreq, places, mended = regular_times(times, time, path)
        refuse_time_unit(sfreq, time, path)
        sfreq = channel_map.check_sfreq(sfreq, path)
        repairs += mended
        far = np.flatnonzero(np.diff(places) > MAX_GAP_S * sfreq) + 1
        stretches = [slice(a, b) for a, b in zip([0, *far], [*far, len(places)], strict=True)]
        starts = [
            begin and (begin + pd.Timedelta(seconds=times[rows.start])).isoformat()
            for rows in stretches
        ]
    else:
        sfreq, places = channel_map.check_sfreq(None, path), np.arange(len(table))
    name = path.stem if subject is None or subject == path.stem else f"{path.stem}-{subject}"
    for number, (rows, start) in enumerate(zip(stretches, starts, strict=True)):
        within = places[rows] - places[rows][:1]
        yield attempt(
            recording_of,
            [
                Channel(key, on_grid(x[rows], within), sfreq, unit=bracketed(key))
                for key, x in signals.items()
            ],
            subject=subject or path.stem,
            record=name if len(stretches) == 1 else f"{name}-{number:03d}",
            wanted={
                role: names
                for role, names in find_roles(list(signals), wanted(columns, channel_map)).items()
            },
            start=start,
            repairs=repairs,
            units=channel_map.units,
        )


def bracketed(name):
    """The unit in a column's name: "ECG [mV]" -> "mV"."""
    unit = re.search(r"[(\[]\s*([^)\]]+?)\s*[)\]]", name)
    return unit[1] if unit else ""


def time_column(names, channel_map, path):
    """The column with times: the one that the map names, or one of a usual name; None if there is
    none.
    """
    if channel_map.time is None:
        return next((name for name in names if plain_name(name) in TIME_NAMES), None)
    found = next((name for name in names if name.lower() == channel_map.time.lower()), None)
    if found is None:
        raise UserError(
            f"{path}: no column '{channel_map.time}' for time; there are {', '.join(names)}"
        )
    return found


def seconds_of(column, name, channel_map, path):
    """Times in s (n,), and for dates the first of them, from which the times then count; else
    "".
    """
    if not pd.api.types.is_numeric_dtype(column):
        try:
            dates = pd.to_datetime(
                column, format=None if pd.api.types.is_datetime64_any_dtype(column) else "ISO8601"
            )
            dates = dates.dt.tz_convert(None) if dates.dt.tz is not None else dates
        except (TypeError, ValueError, AttributeError) as error:
            raise UserError(
                f"{path}: column '{name}' holds neither numbers nor ISO 8601 times ({error})"
            ) from error
        return (dates - dates.iloc[0]).dt.total_seconds().to_numpy(), dates.iloc[0]
    unit = channel_map.time_unit or (
        bracketed(name).lower() if bracketed(name).lower() in SECONDS else "s"
    )
    return column.to_numpy(np.float64) * SECONDS[unit], ""


def refuse_time_unit(sfreq, name, path):
    """Raise a `UserError` if the rate (Hz) is out of bounds, and would not be if the times had
    another unit.
    """
    units = {unit: sfreq / scale for unit, scale in SECONDS.items() if scale < 1}
    likely = [unit for unit, rate in units.items() if MIN_SFREQ <= rate <= MAX_SFREQ]
    if sfreq < MIN_SFREQ and likely:
        says = f"its times look like {likely[0]}; say time_unit: {likely[0]} in a channel map (--channels)"
        raise UserError(f"{path}: column '{name}' makes the sampling rate {sfreq:g} Hz; {says}")


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


def channel_columns(names, channel_map, path):
    """The columns that play a role."""
    try:
        roles = find_roles(list(names), wanted(names, channel_map))
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

    Times that jitter, but keep within one step of an even count, are taken as even: "time_jitter".
    Steps of more than one and a half median steps are gaps in the grid: "time_gaps".

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
        if np.abs(times - times[0] - step * places).max() <= step:
            return float(1 / step), places, ["time_jitter"]
    if len(steps) < 2 or gap.mean() > 0.05:
        raise UserError(f"{path}: column '{name}' is not uniform; resample the recording first")
    # times may be rounded, to milliseconds say, so the rate is that of the whole between gaps
    step = steps[~gap].mean()
    expected = np.where(gap, np.rint(steps / step), 1)
    places = np.concatenate([[0], np.cumsum(expected)]).astype(np.int64)
    drift = np.abs(times - times[0] - step * places) / step
    if np.max(drift) > max(1, TOLERANCE * len(times)):
        raise UserError(f"{path}: column '{name}' is not uniform; resample the recording first")
    return float(1 / step), places, ["time_gaps"] if gap.any() else []


def holds_ppg(path, channel_map):
    """Whether the table has a PPG column."""
    try:
        if path.suffix.lower() == ".parquet":
            names = pq.read_schema(path).names
        else:
            names = next(csv.reader(head(path, 1), delimiter=dialect(path)["sep"]), [])
        names = [name.strip() for name in names]
        return "ppg" in find_roles(names, wanted(names, channel_map))
    except UserError:
        return False  # without a column that the map names
    except (OSError, pa.ArrowException):
        return True  # damaged: to be told, not passed over
