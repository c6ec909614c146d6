"""WFDB records (PhysioNet): a header `.hea` with its signal files, read by the `wfdb` package."""

import re
from pathlib import Path

import numpy as np
import wfdb

from xmae.data.recording import Recording
from xmae.errors import UserError

# Channel names by preference: PhysioNet's monitor databases, then general ones; the comma is MIMIC's "II," spelling
PPG_NAMES = ("PLETH", "PPG", "BVP", "PPG_RAW")
ECG_NAMES = ("II", "ECG", "MLII", "ECGII", "ECG_II", "LEADII", "I", "V", "V5", "MCL1")


def read_wfdb(path):
    """Read one WFDB record with PPG and, if there is one, ECG, all channels at one rate.

    Age and sex come from the header's comments where it says "age: 64 sex: F" or similar. The subject is the name of
    the record, as WFDB headers do not carry one.
    """
    path = Path(path).with_suffix("") if Path(path).suffix == ".hea" else Path(path)
    try:
        header = wfdb.rdheader(str(path))
        names = [name.strip(" ,").upper() for name in header.sig_name or []]
        ppg, ecg = pick(names, PPG_NAMES), pick(names, ECG_NAMES)
        if ppg is None:
            raise UserError(f"{path}.hea: no PPG among its channels {names}; expected {' or '.join(PPG_NAMES)}")
        if len(set(header.samps_per_frame)) > 1:
            raise UserError(f"{path}.hea: channels at different sampling rates, which cannot be read yet")
        channels = [ppg] if ecg is None else [ppg, ecg]
        record = wfdb.rdrecord(str(path), channels=channels, smooth_frames=True)
    except FileNotFoundError as error:
        raise UserError(f"{error.filename or path}: no such file") from None
    except (OSError, ValueError, IndexError, wfdb.io.header.HeaderSyntaxError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}.hea: not readable as a WFDB record, perhaps truncated ({error})") from error
    signals = record.p_signal.T.astype(np.float64)
    comments = " ".join(header.comments)
    labels = {}
    if age := re.search(r"\bage\W{1,4}(\d+)", comments, re.IGNORECASE):
        labels["age"] = float(age[1])
    if sex := re.search(r"\b(?:sex|gender)\W{1,4}([MF])", comments, re.IGNORECASE):
        labels["sex"] = sex[1].upper()
    return Recording(
        subject=path.name,
        record=path.name,
        sfreq=float(header.fs) * header.samps_per_frame[0],
        ppg=signals[0],
        ecg=None if ecg is None else signals[1],
        labels=labels,
    )


def pick(names, wanted):
    """Number of the first channel whose name is wanted, by the order of `wanted`; None if there is none."""
    return next((names.index(name) for name in wanted if name in names), None)
