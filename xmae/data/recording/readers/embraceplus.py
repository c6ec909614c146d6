"""Empatica EmbracePlus: raw data as Avro files, about half an hour each.

`rawData` has `bvp` (nW, `samplingFrequency` Hz, `timestampStart` in us, UTC) and `accelerometer`,
whose counts are scaled by `imuParams`.
"""

from datetime import UTC, datetime

import numpy as np

from xmae.data.recording import part as parts
from xmae.data.recording.channels import Channel
from xmae.errors import UserError


def part_of(path, channel_map):
    """The channels of a file."""
    record = load(path)
    try:
        bvp = record["rawData"]["bvp"]
        start_us, rate = bvp["timestampStart"], float(bvp["samplingFrequency"])
        channels = [Channel("BVP", np.asarray(bvp["values"], np.float64), rate)]
        acc = record["rawData"].get("accelerometer")
        if acc and len(acc["x"]):
            channels += axes(acc, 1e-6 * (acc["timestampStart"] - start_us))
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise UserError(f"{path}: not the layout of an EmbracePlus ({error!r})") from error
    return parts.Part(channels, datetime.fromtimestamp(1e-6 * start_us, UTC).isoformat())


def load(path):
    """The one record of an Avro file."""
    try:
        import fastavro
    except ImportError:
        raise UserError(
            f"{path}: needs the package fastavro; try pip install 'xmae[recorders]'"
        ) from None
    try:
        with path.open("rb") as file:
            return next(fastavro.reader(file))
    except (OSError, ValueError, StopIteration, EOFError, KeyError, IndexError) as error:
        raise UserError(f"{path}: not readable as Avro, perhaps truncated ({error})") from error


def axes(acc, start_s):
    """Channels of acceleration in g from counts."""
    scale = acc["imuParams"]
    step = (scale["physicalMax"] - scale["physicalMin"]) / (
        scale["digitalMax"] - scale["digitalMin"]
    )
    rate = float(acc["samplingFrequency"])
    return [
        Channel(f"ACC_{axis}", np.asarray(acc[axis.lower()], np.float64) * step, rate, start_s, "g")
        for axis in "XYZ"
    ]


def read(path, channel_map):
    """Yield the one recording of a file."""
    yield parts.recording_of_part(part_of(path, channel_map), path, channel_map)


def holds_ppg(path, channel_map):
    """Whether the file has PPG."""
    return parts.holds_ppg(part_of, path, channel_map)
