"""VitalDB's `.vital` files, read by the `vitaldb` package: wave tracks such as SNUADC/PLETH and
SNUADC/ECG_II.
"""

import zlib
from datetime import UTC, datetime
from itertools import chain

import numpy as np

from xmae.data.recording.channels import PPG_NAMES, Channel, find_roles, recording_of
from xmae.data.recording.sizes import check_gzip, check_samples
from xmae.errors import UserError

# label: track names
NUMERICS = {"hr_monitor": ("HR", "ECG_HR"), "spo2": ("PLETH_SPO2", "SPO2"), "rr": ("RR", "RR_CO2")}
WAVE = 1  # the type of a track of samples; 2 is one of single numbers


def read(path, channel_map):
    """Yield the only recording of a file; missing stretches of a track become missing samples.

    Heart rate, SpO2 and respiration rate of the monitor become labels, one value for each 2 s.
    """
    file = open_vital(path, None)
    waves = [name for name, track in file.trks.items() if track.type == WAVE and track.srate > 0]
    try:
        roles = find_roles(waves, channel_map.roles, {x: file.trks[x].unit for x in waves})
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if "ppg" not in roles:
        raise UserError(
            f"{path}: no PPG among its tracks {waves}; expected {' or '.join(PPG_NAMES)}"
        )
    channels = []
    for name in dict.fromkeys(chain.from_iterable(roles.values())):
        track = file.trks[name]
        rate = channel_map.check_sfreq(float(track.srate), path)
        check_samples((file.dtend - file.dtstart) * rate, path)
        x = file.get_track_samples(name, 1 / track.srate)
        channels.append(Channel(name, np.asarray(x, np.float64), rate, unit=track.unit))
    labels = {}
    for label, names in NUMERICS.items():
        track = next((name for name in file.trks if name.rsplit("/", 1)[-1] in names), None)
        if track:
            values = np.asarray(file.get_track_samples(track, 2), np.float64)
            labels[label] = (values, 0.5)
    yield recording_of(
        channels,
        subject=path.stem,
        record=path.stem,
        labels=labels,
        wanted=roles,
        start=datetime.fromtimestamp(file.dtstart, UTC).replace(tzinfo=None).isoformat()
        if file.dtstart
        else "",
        repairs=["subject_from_file_name"],
        units=channel_map.units,
    )


def open_vital(path, tracks):
    """Open a file with these tracks, or with all."""
    import vitaldb

    try:
        check_gzip(path)
        file = vitaldb.VitalFile(str(path), tracks)
    except (
        OSError,
        ValueError,
        IndexError,
        EOFError,
        zlib.error,
        AttributeError,
        KeyError,
    ) as error:
        raise UserError(
            f"{path}: not readable as a .vital file, perhaps truncated ({error})"
        ) from error
    if not file.trks:
        raise UserError(f"{path}: not readable as a .vital file: holds no tracks")
    return file


def holds_ppg(path, channel_map):
    """Return True: any such file counts as a recording, and one without PPG is refused when it is
    read.
    """
    return True
