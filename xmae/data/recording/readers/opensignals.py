"""BITalino and biosignalsplux, as OpenSignals (r)evolution writes them: text with a header in JSON.

Samples of one device are read. Of a BITalino, ECG is converted to mV (3.3 V, gain 1100); BVP, PPG
and PULSE are the pulse, in counts. `nSeq` counts packets; where it jumps, samples are missing.
"""

import json
import re
from itertools import takewhile

import numpy as np
import pandas as pd

from xmae.data.recording import part as parts
from xmae.data.recording.channels import Channel
from xmae.data.recording.readers.times import on_grid
from xmae.data.recording.sizes import check_places
from xmae.errors import UserError

MARK = "# OpenSignals Text File Format"
VOLTS, ECG_GAIN = 3.3, 1100  # of a BITalino, as its data sheets state them
PULSE = ("BVP", "PPG", "PULSE")


def recognises(path):
    """Tell whether a file begins with the signature of this format."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return file.readline().startswith(MARK)


def part_of(path, channel_map):
    """Read the channels of the only device in a file."""
    device, rows, resolution, kinds = load(path)
    names = [str(name) for name in device["column"]]
    if rows.shape[1] != len(names):
        raise UserError(f"{path}: rows of {rows.shape[1]} numbers, the header names {len(names)}")
    places = np.arange(len(rows))
    if "nSeq" in names:
        places = packet_places(rows[:, names.index("nSeq")].astype(int))
    check_places(places, path)
    sfreq, channels, roles = float(device["sampling rate"]), [], {}
    for column, kind in kinds.items():
        x, unit = rows[:, names.index(column)], ""
        if kind == "ECG" and str(device.get("device", "")).startswith("bitalino"):
            steps = 2 ** int(resolution[column])
            x, unit = 1000 * (x / steps - 0.5) * VOLTS / ECG_GAIN, "mV"
        channels.append(Channel(f"{kind} {column}", on_grid(x, places), sfreq, unit=unit))
        role = "ppg" if kind in PULSE else "ecg" if kind == "ECG" else None
        if role:
            roles.setdefault(role, []).append(channels[-1].name)
    repairs = ("time_gaps",) if places[-1] + 1 > len(rows) else ()
    start = f"{pd.Timestamp(device['date']).date()}T{device['time']}" if "date" in device else ""
    return parts.Part(channels, plain(start), roles, repairs=repairs)


def load(path):
    """Read the header of the device, samples (n, n_columns), and bits and sensor of each column."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            header = list(takewhile(lambda line: not line.startswith("# EndOfHeader"), file))
        (device,) = json.loads(header[1].lstrip("# ")).values()
        rows = pd.read_csv(
            path, sep="\t", skiprows=len(header) + 1, header=None, index_col=False
        ).dropna(axis=1, how="all")
        sensors = [re.sub(r"BIT(REV)?$", "", kind.upper()) for kind in device["sensor"]]
        kinds = dict(zip(device["label"], sensors, strict=True))
        bits = dict(zip(device["column"], device["resolution"], strict=True))
        return device, rows.to_numpy(np.float64), bits, kinds
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}: not readable as OpenSignals of one device, perhaps truncated ({error!r})"
        ) from error


def packet_places(number):
    """Return the places of packets on the sampling grid; their numbers count up to a maximum and
    start again.
    """
    period = int(number.max()) + 1
    steps = np.diff(number) % period if period > 1 else np.ones(len(number) - 1, int)
    return np.concatenate([[0], np.cumsum(np.where(steps == 0, 1, steps))]).astype(np.int64)


def plain(start):
    """Return the start in ISO 8601; "" for text that is not a time."""
    try:
        return pd.Timestamp(start).isoformat() if start else ""
    except ValueError:
        return ""


def read(path, channel_map):
    """Yield the recording of a file that has PPG."""
    yield parts.recording_of_part(part_of(path, channel_map), path, channel_map)


def holds_ppg(path, channel_map):
    """Tell whether the file has PPG."""
    return parts.holds_ppg(part_of, path, channel_map)
