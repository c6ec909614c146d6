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
DAMAGE = (OSError, ValueError, IndexError, TypeError)  # what wfdb raises on damaged or truncated files


def read_wfdb(path):
    """Read one WFDB record with PPG and, if there is one, ECG, all channels at one rate.

    Age and sex come from the header's comments where it says "age: 64 sex: F" or similar. The subject is the name of
    the record, as WFDB headers do not carry one.
    """
    path = Path(path)
    name = str(path.with_suffix("") if path.suffix == ".hea" else path)
    if not Path(f"{name}.hea").is_file():
        raise UserError(f"{name}.hea: no such file")
    try:
        header = wfdb.rdheader(name)
        channels = choose_channels(header, name)
        record = wfdb.rdrecord(name, channels=channels, smooth_frames=False)
    except UserError:
        raise
    except DAMAGE as error:
        raise UserError(f"{name}.hea: not readable as a WFDB record, perhaps truncated ({error})") from error
    by_name = dict(zip(record.sig_name, record.e_p_signal, strict=True))
    ppg, *ecg = (by_name[header.sig_name[channel]].astype(np.float64) for channel in channels)
    comments = " ".join(header.comments)
    labels = {}
    if age := re.search(r"\bage\W{1,4}(\d+)", comments, re.IGNORECASE):
        labels["age"] = float(age[1])
    if sex := re.search(r"\b(?:sex|gender)\W{1,4}([MF])", comments, re.IGNORECASE):
        labels["sex"] = sex[1].upper()
    return Recording(
        subject=Path(name).name,
        record=Path(name).name,
        sfreq=float(header.fs) * header.samps_per_frame[channels[0]],
        ppg=ppg,
        ecg=ecg[0] if ecg else None,
        labels=labels,
    )


def choose_channels(header, name):
    """Numbers of the PPG channel and, if there is one, the ECG channel of a WFDB header."""
    if isinstance(header, wfdb.MultiRecord):
        raise UserError(
            f"{name}.hea: a record of several segments, which cannot be read yet; name its segments instead"
        )
    names = [channel.strip(" ,").upper() for channel in header.sig_name or []]
    ppg, ecg = (
        next((names.index(want) for want in wanted if want in names), None) for wanted in (PPG_NAMES, ECG_NAMES)
    )
    if ppg is None:
        raise UserError(f"{name}.hea: no PPG among its channels {names}; expected {' or '.join(PPG_NAMES)}")
    if ecg is None:
        return [ppg]
    if header.samps_per_frame[ppg] != header.samps_per_frame[ecg]:
        raise UserError(f"{name}.hea: PPG and ECG have different sampling rates, which cannot be read yet")
    return [ppg, ecg]
