"""Shimmer, as Consensys exports it: `sep=` and names such as `Shimmer_5E2F_PPG_A13_CAL`, a row of
units, tabs.

Calibrated columns (`..._CAL`) are read: PPG of the expansion board, ECG (LL-RA, which is lead II,
first), and the low-noise accelerometer, or the wide-range one. Times are of `Timestamp_Unix_CAL`.
"""

import re
from dataclasses import replace

from xmae.data.recording import part as parts
from xmae.data.recording.readers import table
from xmae.data.recording.readers.dialect import dialect_of
from xmae.errors import UserError

COLUMNS = {
    "time": (r"Timestamp_?Sync_Unix_CAL$", r"Timestamp_Unix_CAL$", r"Timestamp(_?Sync)?_CAL$"),
    "ppg": (r"PPG_A\d+_CAL$", r"PPG(?!to|_?HR|_?IBI)\w*_CAL$"),  # PPGtoHR is a heart rate
    "ecg": (r"ECG_LL-RA\w*_CAL$", r"ECG_LA-RA\w*_CAL$", r"ECG_LL-LA\w*_CAL$", r"ECG_Vx-RL\w*_CAL$"),
    "acc": (r"Accel_LN_[XYZ]_CAL$", r"Accel_WR_[XYZ]_CAL$"),
}


def recognises(path):
    """Tell whether the column names begin with "Shimmer"."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        lines = [file.readline().lower() for _ in range(2)]
    return any(line.lstrip('"').startswith("shimmer_") for line in lines)


def part_of(path, channel_map):
    """Read the channels of a file, as a table with its own column names."""
    if channel_map.roles:
        return table.part_of(path, channel_map)
    found = {}
    for role, patterns in COLUMNS.items():
        for pattern in patterns:
            names = [name for name in dialect_of(path).names if re.search(pattern, name)]
            if names:
                found.setdefault(role, [])
                found[role] += [] if role == "acc" and found[role] else names
    if "time" not in found or len(found) < 2:
        raise UserError(f"{path}: has no calibrated columns (..._CAL) of Shimmer with times")
    roles = {role: names for role, names in found.items() if role != "time"}
    known = replace(channel_map, roles=roles, time=channel_map.time or found["time"][0])
    return replace(table.part_of(path, known), roles=roles)


def read(path, channel_map):
    """Yield the recording of a file with PPG; with a channel map it is read as a plain table."""
    if channel_map.roles:
        yield from table.read(path, channel_map)
        return
    yield parts.recording_of_part(part_of(path, channel_map), path, channel_map)


def holds_ppg(path, channel_map):
    """Tell whether the file has PPG."""
    if channel_map.roles:
        return table.holds_ppg(path, channel_map)
    return parts.holds_ppg(part_of, path, channel_map)
