"""NumPy archives: signals as int16 with scale and offset (or floats), labels beside them.

Keys read: `ppg`, `ecg`, `ecg2`, `ecg3`, `resp` (all but the first optional), each with `_scale` and
`_offset` (physical = x * scale + offset; -32768 = missing in int16), `fs` (Hz), `resp_fs` if
another; `acc_x`, `acc_y`, `acc_z` (at `acc_fs` if another, in `acc_unit`, or in the unit that
gravity tells); the leads' names `ecg_lead` and so on; optional `patient` or `subject`, `record`,
`age`, `sex`, and at `fs_numerics` (1 Hz if absent) `hr`, `rr`, `spo2`; `breaths_ann1`,
`breaths_ann2` (sample numbers of breaths marked by two people).
"""

import re
import zipfile
import zlib

import numpy as np

from xmae.data.recording.channels import Channel, recording_of
from xmae.data.recording.recording import real_numbers
from xmae.data.recording.sizes import read_arrays
from xmae.errors import UserError

# key: label
NUMERICS = {"hr": "hr_monitor", "rr": "rr", "spo2": "spo2"}
KEYS = re.compile(
    r"(ppg|ecg[23]?|resp|acc_[xyz])(_scale|_offset|_lead)?|fs|resp_fs|acc_fs|acc_unit|fs_numerics"
    r"|patient|subject|record|age|sex|hr|rr|spo2|breaths_ann[12]"
)
MISSING = -32768  # int16 code of a missing sample


def read(path, channel_map):
    """Yield the only recording of an `.npz` file; its keys are listed at the top of this file.

    Where breaths were marked by hand, the label `rr` comes from the marks, not from the monitor:
    see `breath_rate`.
    """
    try:
        data = {key: plain_shape(key, x) for key, x in read_arrays(path, is_read).items()}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path}: not readable as .npz, perhaps truncated ({error})") from error
    if "ppg" not in data:
        raise UserError(f"{path}: holds no 'ppg'")
    if "fs" not in data:
        raise UserError(f"{path}: holds no sampling rate 'fs'")
    try:
        channel_map.check_sfreq(float(data["fs"]), path)
        recording = from_archive(data, path, channel_map.units)
    except UserError as error:
        raise error if str(path) in str(error) else UserError(f"{path}: {error}") from None
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{path}: holds something that is no number where one is expected ({error})"
        ) from error
    yield recording


def plain_shape(key, x):
    """Remove the axes of length 1 that MATLAB adds to an array: (1, n) -> (n,); a number becomes
    ().
    """
    if x.size == 1 and not key.startswith("breaths"):
        return x.reshape(())
    return x.ravel() if x.ndim > 1 and x.size == max(x.shape) else x


def is_read(key):
    """Tell whether an archive's array is among those listed at the top of this file."""
    return KEYS.fullmatch(key) is not None


def holds_ppg(path, channel_map):
    """Return True: any archive counts as a recording, and one without PPG is refused when it is
    read.
    """
    return True


def from_archive(data, path, units):
    """Make a `Recording` from the arrays of an archive; `units` are by the names of the leads."""
    sfreq, ppg = float(data["fs"]), physical(data, "ppg")
    labels = {}
    if "age" in data:
        labels["age"] = float(data["age"])
    if "sex" in data:
        labels["sex"] = str(data["sex"])
    for name in NUMERICS.keys() & data.keys():
        values, rate = real_numbers(data[name]), float(data.get("fs_numerics", 1.0))
        labels[NUMERICS[name]] = (values, rate)
    marks = [data[key] / sfreq for key in ("breaths_ann1", "breaths_ann2") if key in data]
    if marks:
        labels["rr"] = (breath_rate(marks, len(ppg) / sfreq), 1.0)
    ecgs = [name for name in ("ecg", "ecg2", "ecg3") if name in data]
    channels = [
        Channel("ppg", ppg, sfreq),
        *(Channel(lead(data, name), physical(data, name), sfreq) for name in ecgs),
    ]
    wanted = {"ppg": "ppg", "ecg": [lead(data, name) for name in ecgs]}
    if "resp" in data:
        channels.append(Channel("resp", physical(data, "resp"), float(data.get("resp_fs", sfreq))))
    axes = [name for name in ("acc_x", "acc_y", "acc_z") if name in data]
    rate, unit = float(data.get("acc_fs", sfreq)), str(data.get("acc_unit", ""))
    channels += [Channel(name, physical(data, name), rate, unit=unit) for name in axes]
    if axes:
        wanted["acc"] = axes
    who = next((name for name in ("patient", "subject") if name in data), None)
    return recording_of(
        channels,
        subject=str(data[who]) if who else path.stem,
        record=str(data.get("record", path.stem)),
        labels=labels,
        wanted=wanted,
        repairs=[] if who else ["subject_from_file_name"],
        units=units,
    )


def lead(data, name):
    """Return the lead that an ECG key stands for: "ecg2" -> "V", or its own name in capitals."""
    return str(data.get(f"{name}_lead", name.upper()))


def physical(data, name):
    """Convert samples to physical units, float64, NaN where missing: x * scale + offset."""
    x = data[name]
    if x.dtype.kind not in "iufb":
        raise UserError(f"'{name}' holds {x.dtype}, no numbers")
    if x.ndim != 1:
        raise UserError(f"'{name}' has shape {x.shape}; expected one row of samples")
    values = x * float(data.get(f"{name}_scale", 1)) + float(data.get(f"{name}_offset", 0))
    return np.where(x == MISSING, np.nan, values) if x.dtype == np.int16 else values


def breath_rate(marks, duration):
    """Return the respiration rate from annotated breaths.

    Between two marks one breath passes evenly; the rate in a second is the share of breaths passed
    in it, times 60, so the mean over a window counts its breaths without rounding to whole ones.

    Parameters
    ----------
    marks : list of arrays
        Times (s) of the breaths, one array per annotator; the result is the mean over annotators.
    duration : float
        Length of the recording, s.

    Returns
    -------
    array, shape (floor(duration),)
        Breaths per minute in each second; NaN before the first and after the last mark of an
        annotator.
    """
    seconds = np.arange(int(duration) + 1)
    counts = [
        np.interp(seconds, times, np.arange(len(times)), left=np.nan, right=np.nan)
        for times in marks
    ]
    return np.mean([60 * np.diff(count) for count in counts], axis=0)
