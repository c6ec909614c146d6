"""Readers: the files of a recorder in, one `Recording` out."""

from pathlib import Path

from xmae.data.readers.csv import read_csv
from xmae.data.readers.npz import read_npz
from xmae.data.readers.wfdb import PPG_NAMES, read_wfdb
from xmae.errors import UserError

READERS = {".npz": read_npz, ".hea": read_wfdb, ".csv": read_csv}


def read_recording(path, sfreq=None):
    """Read one recording, by its suffix.

    Parameters
    ----------
    path : str or Path
        `.npz`, `.csv`, or a WFDB record: its `.hea`, or its name without suffix.
    sfreq : float or None
        Sampling rate, Hz, for a CSV without times; for other files, and with times, it must agree within 1 %.

    Raises
    ------
    UserError
        If the file is of no known kind, cannot be read, or contradicts `sfreq`.
    """
    path = Path(path)
    if Path(f"{path}.hea").is_file():
        path = Path(f"{path}.hea")
    if path.suffix not in READERS:
        raise UserError(f"{path}: cannot read this kind of file; expected {', '.join(READERS)}")
    if path.suffix == ".csv":
        return read_csv(path, sfreq)
    recording = READERS[path.suffix](path)
    if sfreq is not None and abs(sfreq / recording.sfreq - 1) > 0.01:
        raise UserError(f"{path}: the rate {sfreq:g} Hz contradicts the file ({recording.sfreq:g} Hz)")
    return recording


def is_recording(path):
    """Whether a file found in a folder is a recording with PPG: by its suffix, and the channel names in text files."""
    if path.suffix == ".csv":
        with path.open(errors="replace") as file:
            return "ppg" in [name.strip().lower() for name in file.readline().split(",")]
    if path.suffix == ".hea":
        return any(name in path.read_text(errors="replace").upper() for name in PPG_NAMES)
    return path.suffix in READERS
