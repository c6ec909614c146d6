"""CSV tables with NumPy alone, for the light runtime: one person, even steps, no gaps.

What a table may hold beyond that, other encodings, dates, gaps, several subjects, is read by
`table`, which needs pandas; here it is refused by name.
"""

import csv

import numpy as np

from xmae.data.recording.channels import Channel, plain_name, recording_of
from xmae.data.recording.units import TIME_NAMES, seconds_in, split_unit
from xmae.errors import UserError

FULL = "the light runtime does not read that; pip install 'xmae[train]'"
UNEVEN = 0.01  # of a step: times are written with so much rounding


def read(path, channel_map):
    """Yield the only recording of a table."""
    names, table = read_numbers(path)
    time = channel_map.time or next((n for n in names if plain_name(n) in TIME_NAMES), None)
    sfreq = None
    if time is not None:
        if time not in names:
            raise UserError(f"{path}: no column '{time}' for time; there are {', '.join(names)}")
        sfreq = rate_of(table[:, names.index(time)], seconds_of(time, channel_map, path), path)
    sfreq = channel_map.check_sfreq(sfreq, path)
    channels = [
        Channel(name, table[:, i], sfreq, unit=split_unit(name)[1])
        for i, name in enumerate(names)
        if name != time
    ]
    yield recording_of(
        channels, subject=path.stem, record=path.stem, wanted=channel_map.roles,
        units=channel_map.units,
    )  # fmt: skip


def holds_ppg(path, channel_map):
    """Return True: any table counts as a recording, and one without PPG is refused when it is
    read.
    """
    return True


def read_numbers(path):
    """Read the names of the columns, and the rows as float64 (n_times, n_columns), NaN where
    empty.
    """
    try:
        lines = [line for line in path.read_text("utf-8-sig").splitlines() if line[:1] != "#"]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as text ({error}); {FULL}") from error
    if len(lines) < 2:
        raise UserError(f"{path}: expected a line of names and rows of numbers")
    separator = max(",;\t", key=lines[0].count)
    names, *rows = csv.reader(lines, delimiter=separator, skipinitialspace=True)
    names = [name.strip() for name in names]
    if any(len(row) != len(names) for row in rows):
        raise UserError(f"{path}: rows of another length than the line of names; {FULL}")
    try:
        cells = [[float(cell) if cell.strip() else np.nan for cell in row] for row in rows]
    except ValueError as error:
        raise UserError(f"{path}: {error}; {FULL}") from error
    return names, np.array(cells)


def seconds_of(time, channel_map, path):
    """Return the seconds in one unit of the time column, from the map or from brackets in its
    name.
    """
    unit = channel_map.time_unit or split_unit(time)[1] or "s"
    return seconds_in(unit, f"{path}: column '{time}'")


def rate_of(times, unit, path):
    """Return the sampling rate (Hz) of evenly spaced times."""
    steps = np.diff(times)
    step = (times[-1] - times[0]) / max(len(steps), 1)
    if not len(steps) or not step > 0 or not np.isfinite(times).all():
        raise UserError(f"{path}: times do not go forward")
    even = times[0] + step * np.arange(len(times))
    if np.abs(times - even).max() > max(step / 2, UNEVEN):
        raise UserError(f"{path}: times with gaps or uneven steps; {FULL}")
    return round(1 / (step * unit), 6)
