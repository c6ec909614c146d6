"""The rhythm bank: stretches of real intervals between heartbeats, with beat types.

Sources: MIT-BIH Arrhythmia Database (Moody and Mark, IEEE EMB 20(3), 2001), MIT-BIH Long-Term ECG
Database, Long Term AF Database (Petrutiu et al., Europace 9(7), 2007); PhysioNet (Goldberger et
al., Circulation 101(23), 2000), ODC-By 1.0. See RHYTHMS.md beside this file.
"""

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files

import numpy as np

from xmae.errors import UserError

STRETCH = 128  # beats
CLASSES = (
    "sinus",
    "af",
    "pvc",
    "pac",
    "bigeminy",
    "trigeminy",
    "svt",
    "vt",
    "bradycardia",
)
NORMAL, VENTRICULAR, SUPRAVENTRICULAR = 0, 1, 2


@dataclass(frozen=True)
class Bank:
    """Real stretches of 128 beats, from annotated records.

    Parameters
    ----------
    rr_ms : uint16 array, shape (n, 128)
        Interval that ends with each beat, ms.
    kind : uint8 array, shape (n, 128)
        0 normal, 1 ventricular, 2 supraventricular.
    rhythm : uint8 array, shape (n,)
        Index into `CLASSES`.
    """

    rr_ms: np.ndarray
    kind: np.ndarray
    rhythm: np.ndarray


def held_out(name):
    """Tell whether a record is held out for choosing or scoring: a tenth of all names, by their
    hash.
    """
    return int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) % 10 == 0


@cache
def read_bank(path=None):
    """Read a bank; by default the shipped one.

    Raises
    ------
    UserError
        If the file is missing, damaged, or holds intervals that no heart has.
    """
    if path is None:
        with as_file(files("xmae.twin") / "rhythms.npz") as shipped:
            return read_bank(str(shipped))
    try:
        with np.load(path, allow_pickle=False) as archive:
            bank = Bank(archive["rr_ms"], archive["kind"], archive["rhythm"])
    except FileNotFoundError:
        raise UserError(f"{path}: the rhythm bank is missing; install the package again") from None
    except Exception as error:  # zipfile, zlib, NumPy: each has its own
        raise UserError(f"{path}: damaged rhythm bank ({error})") from None
    n = len(bank.rhythm)
    if bank.rr_ms.shape != (n, STRETCH) or bank.kind.shape != (n, STRETCH) or not n:
        raise UserError(f"{path}: damaged rhythm bank (shapes disagree)")
    if bank.rr_ms.min() < 150 or bank.rr_ms.max() > 3000 or bank.rhythm.max() >= len(CLASSES):
        raise UserError(f"{path}: damaged rhythm bank (intervals outside 150 to 3000 ms)")
    return bank
