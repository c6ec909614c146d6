"""Polar H10 and Verity Sense, as the app Polar Sensor Logger writes them: one text file a signal.

Columns are parted by semicolons: `Phone timestamp` (local time), `sensor timestamp [ns]` (the
device's clock), and `ecg [uV]` (H10), `X [mg]`, `Y [mg]`, `Z [mg]`, or `channel 0` to `channel 2`
and `ambient` (Verity Sense). Light falls at systole, so the PPG is turned over. A `..._PPG.txt` or
`..._ECG.txt` brings the `..._ACC.txt` of the same device and session that lies beside it.
"""

import numpy as np
import pandas as pd

from xmae.data.recording import part as parts
from xmae.data.recording.channels import Channel
from xmae.data.recording.readers.times import on_grid, regular_times
from xmae.data.recording.sizes import check_places
from xmae.errors import UserError

PHONE, SENSOR = "phone timestamp", "sensor timestamp [ns]"
SIGNALS = {"ecg [uv]": ("ECG", "uV", 1), "channel 0": ("PPG", "", -1)} | {
    f"{axis.lower()} [mg]": (f"ACC_{axis}", "mg", 1) for axis in "XYZ"
}  # column: (channel, unit, sign)


def recognises(path):
    """Tell whether a file begins with the column names of this format."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return file.readline().lower().startswith(f"{PHONE};{SENSOR}")


def part_of(path, channel_map):
    """Read the channels of a file, and of the `..._ACC.txt` beside a file with PPG or ECG."""
    begun_ns, start, channels = load(path, 0)
    stem = path.stem.rpartition("_")[0]
    beside = path.with_name(f"{stem}_ACC.txt")
    if beside != path and stem and beside.is_file():
        channels += load(beside, begun_ns)[2]
    return parts.Part(channels, start)


def load(path, zero_ns):
    """Read the first time of the sensor (ns), the first time of the phone (ISO 8601), and channels
    with times relative to `zero_ns`, or to the first sample if that is 0.
    """
    try:
        table = pd.read_csv(path, sep=";", encoding="utf-8-sig")
        table.columns = [str(name).strip().lower() for name in table.columns]
        ns = table[SENSOR].to_numpy(np.int64)
        start = pd.Timestamp(table[PHONE].iloc[0]).isoformat()
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise UserError(
            f"{path}: not readable as a file of Polar Sensor Logger ({error})"
        ) from error
    sfreq, places, _ = regular_times(1e-9 * (ns - ns[0]), SENSOR, path)
    check_places(places, path)
    start_s = 1e-9 * float(ns[0] - (zero_ns or ns[0]))
    try:
        channels = [
            Channel(
                name,
                on_grid(sign * table[column].to_numpy(np.float64), places),
                sfreq,
                start_s,
                unit,
            )
            for column, (name, unit, sign) in SIGNALS.items()
            if column in table
        ]
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: a sample is no number ({error})") from error
    return int(ns[0]), start, channels


def read(path, channel_map):
    """Yield the recording of a PPG file."""
    yield parts.recording_of_part(part_of(path, channel_map), path, channel_map)


def holds_ppg(path, channel_map):
    """Tell whether the file has PPG."""
    return parts.holds_ppg(part_of, path, channel_map)


def files_of(path):
    """Return the files that make up a recording."""
    return [path, path.with_name(f"{path.stem.rpartition('_')[0]}_ACC.txt")]
