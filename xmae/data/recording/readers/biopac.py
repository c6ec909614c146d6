"""Biopac AcqKnowledge (.acq), by the package bioread: several channels, several rates."""

import logging
import struct

import numpy as np

from xmae.data.recording import part as parts
from xmae.data.recording.channels import Channel
from xmae.errors import UserError

# bioread has no errors of its own: what it raises on damaged files
DAMAGE = (
    OSError,
    ValueError,
    EOFError,
    IndexError,
    TypeError,
    AttributeError,
    KeyError,
    struct.error,
)


def part_of(path, channel_map):
    """Read the channels of a file; "ECG100C" and "PPG100C" in a name tell the kind of a channel."""
    try:
        import bioread
    except ImportError:
        raise UserError(
            f"{path}: needs the package bioread; try pip install 'xmae[recorders]'"
        ) from None
    logging.getLogger("bioread").setLevel(logging.CRITICAL)  # what is wrong is told in one line
    try:
        data = bioread.read_file(str(path))
        channels = [
            Channel(
                channel.name,
                np.asarray(channel.data, np.float64),
                float(channel.samples_per_second),
                unit=unit_of(channel.units),
            )
            for channel in data.channels
        ]
        begun = data.earliest_marker_created_at
    except DAMAGE as error:
        raise UserError(f"{path}: not readable as AcqKnowledge ({error!r})") from error
    names = [channel.name for channel in channels]
    found = {
        "ppg": [name for name in names if any(key in name.upper() for key in ("PPG", "PULSE"))],
        "ecg": [name for name in names if any(key in name.upper() for key in ("ECG", "EKG"))],
        "resp": [name for name in names if "RSP" in name.upper() or "RESP" in name.upper()],
    }
    roles = {role: chosen for role, chosen in found.items() if chosen}
    return parts.Part(channels, begun.isoformat() if begun else "", roles)


def unit_of(text):
    """Return a unit in its usual spelling; Biopac writes "Volts"."""
    return {"volts": "V", "mv": "mV"}.get(str(text or "").strip().lower(), str(text or "").strip())


def read(path, channel_map):
    """Yield the recording of a file that has PPG."""
    yield parts.recording_of_part(part_of(path, channel_map), path, channel_map)


def holds_ppg(path, channel_map):
    """Tell whether the file has PPG."""
    return parts.holds_ppg(part_of, path, channel_map)
