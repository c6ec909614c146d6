"""CSV and Parquet tables: a column a channel, a row a sample; an empty cell is a missing sample.

Times, if there are any, are numbers (s, ms or us by the channel map). Steps may be rounded; a step of more than one and
a half median steps is a gap, which is filled with missing samples; times that stand still or go back are refused.
"""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from xmae.data.channels import SECONDS, Channel, find_roles, plain_name, recording_of
from xmae.errors import UserError

TOLERANCE = 0.01  # relative: how far a time step, or a stated rate, may lie from the rate of the time column
MAX_GAP_S = 3600  # a longer gap starts another recording


def read(path, channel_map):
    """Yield the recordings of one table: one, or one for each subject and each stretch between gaps of over 1 h."""
    try:
        table = pq.read_table(path).to_pandas() if path.suffix == ".parquet" else pd.read_csv(path)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise UserError(f"{path}: not readable as a table of numbers ({error})") from error
    table.columns = [str(name).strip() for name in table.columns]
    if channel_map.subject in table:
        for subject, part in table.groupby(channel_map.subject, sort=False):
            yield from read_subject(path, part, channel_map, str(subject))
    else:
        yield from read_subject(path, table, channel_map, None)


def read_subject(path, table, channel_map, subject):
    """Yield the recordings of the rows of one subject; `subject` is None where the table does not name any."""
    columns = channel_columns(table.columns, channel_map, path)
    time = next((name for name in table if name.lower() == channel_map.time.lower()), None)
    try:
        numbers = table[[*columns, *([time] if time else [])]].astype(float)
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: not readable as a table of numbers ({error})") from error
    signals, repairs = {name: numbers[name].to_numpy() for name in columns}, []
    if subject is None:
        repairs.append("subject_from_file_name")
    stretches = [slice(0, len(table))]
    if time:
        times = numbers[time].to_numpy() * SECONDS[channel_map.time_unit]
        sfreq, places, gaps = regular_times(times, path)
        sfreq = channel_map.check_sfreq(sfreq, path)
        if gaps:
            repairs.append("time_gaps")
        far = np.flatnonzero(np.diff(places) > MAX_GAP_S * sfreq) + 1
        stretches = [slice(a, b) for a, b in zip([0, *far], [*far, len(places)], strict=True)]
    else:
        sfreq, places = channel_map.check_sfreq(None, path), np.arange(len(table))
    name = path.stem if subject is None or subject == path.stem else f"{path.stem}-{subject}"
    for number, rows in enumerate(stretches):
        within, units = places[rows] - places[rows][:1], channel_map.units
        yield recording_of(
            [Channel(key, on_grid(x[rows], within), sfreq, unit=units.get(key, "")) for key, x in signals.items()],
            subject=subject or path.stem,
            record=name if len(stretches) == 1 else f"{name}-{number:03d}",
            wanted={role: names for role, names in find_roles(list(signals), wanted(columns, channel_map)).items()},
            repairs=repairs,
        )


def wanted(columns, channel_map):
    """The roles of the channel map, with the names as the table spells them."""
    spelt = {name.lower(): name for name in columns}
    listed = {role: [names] if isinstance(names, str) else names for role, names in channel_map.roles.items()}
    return {role: [spelt.get(name.lower(), name) for name in names] for role, names in listed.items()}


def channel_columns(names, channel_map, path):
    """The columns that play a role."""
    roles = find_roles(list(names), wanted(names, channel_map))
    if "ppg" not in roles:
        raise UserError(f"{path}: no column 'ppg'; there are {', '.join(map(str, names)) or 'none'}")
    return [name for name in names if any(name in chosen for chosen in roles.values())]


def on_grid(x, places):
    """Samples at whole-numbered places of a grid, NaN between: (n,), (n,) -> (places[-1] + 1,)."""
    if len(places) and places[-1] + 1 == len(x):
        return x
    filled = np.full(int(places[-1]) + 1 if len(places) else 0, np.nan)
    filled[places] = x
    return filled


def regular_times(times, path):
    """Rate (Hz) of times (s), the place of each sample on the grid of that rate, and the number of gaps.

    Raises
    ------
    UserError
        If the times stand still or go back, or keep no rate even between gaps.
    """
    steps = np.diff(times)
    backward = np.flatnonzero(~(steps > 0))
    if len(backward):
        raise UserError(f"{path}: column 'time' stands still or goes back in row {backward[0] + 2}; mend the rows")
    step = np.median(steps) if len(steps) else np.nan
    gap = steps > 1.5 * step
    if len(steps) < 2 or gap.mean() > 0.05:
        raise UserError(f"{path}: column 'time' is not uniform; resample the recording first")
    # times may be rounded, to milliseconds say, so the rate is that of the whole between gaps
    step = steps[~gap].mean()
    expected = np.where(gap, np.rint(steps / step), 1)
    places = np.concatenate([[0], np.cumsum(expected)]).astype(np.int64)
    drift = np.abs(times - times[0] - step * places) / step
    if np.max(drift) > max(1, TOLERANCE * len(times)):
        raise UserError(f"{path}: column 'time' is not uniform; resample the recording first")
    return float(1 / step), places, int(gap.sum())


def holds_ppg(path, channel_map):
    """Whether the table has a PPG column."""
    try:
        names = pq.read_schema(path).names if path.suffix == ".parquet" else first_line(path)
    except (OSError, pa.ArrowException):
        return False
    ppg = channel_map.roles.get("ppg")
    return ppg in names if ppg else any(plain_name(name) in ("PPG", "PLETH", "BVP") for name in names)


def first_line(path):
    """The column names of a CSV file."""
    with path.open(errors="replace") as file:
        return [name.strip() for name in file.readline().split(",")]
