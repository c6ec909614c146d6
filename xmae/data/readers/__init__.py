"""Readers: files of a recorder in, one `Recording` out."""

from pathlib import Path

from xmae.data.readers.npz import read_npz
from xmae.errors import UserError

READERS = {".npz": read_npz}


def read_recording(path):
    """Read one recording, by its suffix."""
    path = Path(path)
    if path.suffix not in READERS:
        raise UserError(f"{path}: cannot read this kind of file; expected {', '.join(READERS)}")
    return READERS[path.suffix](path)


def is_recording(path):
    """Whether a file's suffix is one that `read_recording` knows."""
    return path.suffix in READERS
