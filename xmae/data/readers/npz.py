"""NumPy archives: signals as int16 with scale and offset (or floats), labels beside them.

Keys read: `ppg`, `ecg` (optional), each with `_scale` and `_offset` (physical = x * scale + offset; -32768 = missing in
int16), `fs` (Hz); optional `patient`, `record`, `age`, `sex`, and at `fs_numerics` (1 Hz if absent) `hr`, `rr`, `spo2`;
`breaths_ann1`, `breaths_ann2` (sample numbers of breaths marked by two people).
"""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from xmae.data.recording import Recording
from xmae.errors import UserError

MISSING = -32768  # int16 code of a missing sample


def read_npz(path):
    """Read one `.npz` recording; the keys are listed at the top of this file.

    Where breaths were marked by hand, the label `rr` comes from the marks, not from the monitor: see `breath_rate`.
    """
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            data = dict(archive)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path}: not readable as .npz, perhaps truncated ({error})") from error
    if "ppg" not in data:
        raise UserError(f"{path}: holds no 'ppg'")
    if "fs" not in data:
        raise UserError(f"{path}: holds no sampling rate 'fs'")
    try:
        return recording_of(data, path)
    except UserError:
        raise
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: holds something that is no number where one is expected ({error})") from error


def recording_of(data, path):
    """The `Recording` that the arrays of an archive describe."""
    sfreq, ppg = float(data["fs"]), physical(data, "ppg")
    labels = {}
    if "age" in data:
        labels["age"] = float(data["age"])
    if "sex" in data:
        labels["sex"] = str(data["sex"])
    for name in {"hr", "rr", "spo2"} & data.keys():
        labels[name] = (data[name].astype(float), float(data.get("fs_numerics", 1.0)))
    if "spo2" in labels:
        values, rate = labels["spo2"]
        labels["spo2"] = (np.where(values > 0, values, np.nan), rate)
    marks = [data[key] / sfreq for key in ("breaths_ann1", "breaths_ann2") if key in data]
    if marks:
        labels["rr"] = (breath_rate(marks, len(ppg) / sfreq), 1.0)
    return Recording(
        subject=str(data.get("patient", path.stem)),
        record=str(data.get("record", path.stem)),
        sfreq=sfreq,
        ppg=ppg,
        ecg=physical(data, "ecg") if "ecg" in data else None,
        labels=labels,
    )


def physical(data, name):
    """Samples in physical units, float64, NaN where missing: x * scale + offset."""
    x = data[name]
    values = x * float(data.get(f"{name}_scale", 1)) + float(data.get(f"{name}_offset", 0))
    return np.where(x == MISSING, np.nan, values) if x.dtype == np.int16 else values


def breath_rate(marks, duration):
    """Respiration rate from marked breaths.

    Between two marks one breath passes evenly; the rate in a second is the share of breaths passed in it, times 60, so
    the mean over a window counts its breaths without rounding to whole ones.

    Parameters
    ----------
    marks : list of arrays
        Times (s) of the breaths, one array an annotator; the result is the mean over annotators.
    duration : float
        Length of the recording, s.

    Returns
    -------
    array, shape (floor(duration),)
        Breaths per minute in each second; NaN before the first and after the last mark of an annotator.
    """
    seconds = np.arange(int(duration) + 1)
    counts = [np.interp(seconds, times, np.arange(len(times)), left=np.nan, right=np.nan) for times in marks]
    return np.mean([60 * np.diff(count) for count in counts], axis=0)
