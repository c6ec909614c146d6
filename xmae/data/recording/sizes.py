"""The size that a file claims is checked before memory is allocated for it.

A small file can declare, or unpack to, far more than any recording is. A sample of a real recording
takes a byte of its file or more, packed a quarter; beyond that a fixed number is free.
"""

import gzip
import zipfile
from pathlib import Path

import numpy as np

from xmae.errors import UserError

FREE_SAMPLES = 1 << 24  # 128 MB as float64; 37 h at 125 Hz
SAMPLES_A_BYTE = 4
PIECE = 1 << 20  # bytes
GAPS_A_SAMPLE = 8  # missing samples that may be filled in for each that is there
MAX_COLUMNS = 4096  # channels of a table, or signals of a file


def check_samples(n, path, size=None):
    """Raise a `UserError` if a file claims more samples than one of its size can hold.

    Parameters
    ----------
    n : int
        Samples that it says, of all channels that are to be read.
    path : str or Path
    size : int, optional
        Bytes; by default of the file at `path`.

    Raises
    ------
    UserError
        If there are too many.
    """
    size = Path(path).stat().st_size if size is None else size
    if not 0 <= n <= FREE_SAMPLES + SAMPLES_A_BYTE * size:
        raise UserError(
            f"{path}: says that it holds {n:.4g} samples, and has {size} bytes; damaged or forged"
        )


def check_columns(n, path, what="columns or channels", most=MAX_COLUMNS):
    """Raise a `UserError` if a file has more columns or channels than any recorder writes."""
    if n > most:
        raise UserError(f"{path}: {n} {what}; expected at most {most}")


def check_places(places, path):
    """Raise a `UserError` if gaps between times or numbers would take far more memory than the
    samples.

    Parameters
    ----------
    places : int array, shape (n,)
        Places of samples on the grid that they are to be filled into.
    path : str or Path
    """
    if len(places) and not 0 <= places[-1] <= FREE_SAMPLES + GAPS_A_SAMPLE * len(places):
        raise UserError(
            f"{path}: its times have gaps of {places[-1] / len(places):.0f} samples for each that "
            "is there"
        )


def read_arrays(path, wanted):
    """Read the requested arrays of an .npz file by name, after a check of their headers.

    Parameters
    ----------
    path : str or Path
    wanted : callable
        ``wanted(name)`` says whether an array is to be read.

    Raises
    ------
    UserError
        If they hold more than a file of this size can.
    Exception
        Of several kinds, if the file is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if wanted(name.removesuffix(".npy"))]
        check_samples(sum(declared(archive, name) for name in names), path)
        with np.load(path, allow_pickle=False) as arrays:
            return {name.removesuffix(".npy"): arrays[name] for name in names}


def declared(archive, name):
    """Return the size that an array of an .npz file claims, in samples of 8 bytes."""
    with archive.open(name) as file:
        version = np.lib.format.read_magic(file)
        if version[0] not in (1, 2):
            raise ValueError(f"version {version} of an array")
        read = (np.lib.format.read_array_header_1_0, np.lib.format.read_array_header_2_0)
        shape, _, dtype = read[version[0] - 1](file)
    n = 1
    for length in shape:
        n *= length  # a Python integer, which does not overflow
    return max(n, n * dtype.itemsize // 8)


def check_gzip(path):
    """Raise a `UserError` if a gzip file unpacks to more than a recording of its size can hold.

    It is unpacked a piece at a time, and nothing of it is kept.

    Raises
    ------
    UserError
        If it does.
    OSError, EOFError, zlib.error
        If the file is damaged.
    """
    size, total = Path(path).stat().st_size, 0
    with gzip.open(path) as file:
        while piece := file.read(PIECE):
            total += len(piece)
            check_samples(total // 8, path, size)
