"""Empatica E4: a folder with BVP.csv, ACC.csv and others, each a column of samples without names.

The first row is the start (Unix time, s, UTC), the second the rate (Hz); acceleration counts in
1/64 g. `BVP.csv` is the recording, and brings the `ACC.csv` that lies beside it. `IBI.csv` and
`tags.csv` are no signals.
"""

from datetime import UTC, datetime

import numpy as np
import pandas as pd

from xmae.data.recording import part as parts
from xmae.data.recording.channels import Channel
from xmae.data.recording.sizes import check_columns
from xmae.errors import UserError

STEPS_OF_G = 64
AXES = ("ACC_X", "ACC_Y", "ACC_Z")


def recognises(path):
    """Tell whether a file begins with a start time and a rate, the same in all its columns."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        rows = [file.readline().strip().split(",") for _ in range(2)]
    try:
        start, rate = (sorted({float(cell) for cell in row}) for row in rows)
    except ValueError:
        return False
    return len(start) == len(rate) == 1 and start[0] > 1e9 and 0 < rate[0] <= 2000


def part_of(path, channel_map):
    """Read the channels of a file, and of the `ACC.csv` beside a `BVP.csv`."""
    start, rate, values = load(path)
    if path.stem.upper() == "ACC":
        return parts.Part(axes(values, rate, 0.0), iso(start))
    channels = [Channel(path.stem.upper(), values[:, 0], rate)]
    beside = path.with_name("ACC.csv")
    if path.stem.upper() == "BVP" and beside.is_file():
        begun, acc_rate, acc = load(beside)
        channels += axes(acc, acc_rate, begun - start)
    return parts.Part(channels, iso(start))


def load(path):
    """Read the start (Unix time, s), rate (Hz) and samples (n, n_columns) of a file."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        check_columns(file.readline().count(",") + 1, path)
    try:
        table = pd.read_csv(path, header=None, encoding="utf-8-sig").to_numpy(np.float64)
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as a file of an Empatica E4 ({error})") from error
    if len(table) < 3 or table.shape[1] not in (1, 3):
        raise UserError(f"{path}: not readable as a file of an Empatica E4: {table.shape} numbers")
    return table[0, 0], table[1, 0], table[2:]


def axes(values, rate, start_s):
    """Return the channels of acceleration from counts (n, 3)."""
    if values.shape[1] != 3:
        raise UserError("ACC.csv of an Empatica E4 has three columns")
    return [
        Channel(name, values[:, k] / STEPS_OF_G, rate, start_s, "g") for k, name in enumerate(AXES)
    ]


def iso(seconds):
    """Convert a Unix time (s) to ISO 8601, UTC."""
    return datetime.fromtimestamp(float(seconds), UTC).isoformat()


def read(path, channel_map):
    """Yield the recording of a `BVP.csv`."""
    yield parts.recording_of_part(part_of(path, channel_map), path, channel_map)


def holds_ppg(path, channel_map):
    """Tell whether the file is a `BVP.csv`, or the channel map names its column."""
    return parts.holds_ppg(part_of, path, channel_map)


def files_of(path):
    """Return the files that make up a recording."""
    return [path, path.with_name("ACC.csv")]
