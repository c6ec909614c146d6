"""Which real windows set the int8 ranges: training subjects only, evenly over them, the same for
the same seed.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from xmae.data.recording.sizes import read_arrays
from xmae.errors import UserError
from xmae.files import atomic_file
from xmae.signals.scale import minmax_scale
from xmae.signals.window import N_TIMES

FEWEST = 16  # windows below which ranges are guesswork
READABLE = 0.5  # quality of PPG; what has no pulse may drive a network far out of its usual ranges


@dataclass(frozen=True)
class Calibration:
    """Windows from which the ranges of activations are set.

    Attributes
    ----------
    ppg : float32 array, shape (n, 1000)
        PPG, min-max scaled to [-1, 1].
    subject, record : str arrays, shape (n,)
        Subject and recording of each window.
    start_s : float array, shape (n,)
        Start of each within its recording, s.
    """

    ppg: np.ndarray
    subject: np.ndarray
    record: np.ndarray
    start_s: np.ndarray

    def __len__(self):
        return len(self.ppg)

    def save(self, path):
        """Write an .npz file, atomically."""
        with atomic_file(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, **vars(self))

    def describe(self):
        """Return the number of windows and their subjects, for a manifest."""
        return {"n": len(self), "subjects": sorted(set(self.subject.tolist()))}


def spread(windows, n, seed):
    """Draw `n` window numbers (all if there are fewer) with `seed`, evenly over the subjects, in
    rising order.
    """
    order = np.random.default_rng(seed).permutation(len(windows.subject))
    # a subject's first window, its second, ...
    turn = pd.Series(order).groupby(windows.subject[order]).cumcount()
    return np.sort(order[np.argsort(turn.to_numpy(), kind="stable")[:n]])


def evenly(windows, n):
    """Return at most `n` windows (0: all) at even distances, and so evenly over subjects that are
    stored one after the other.
    """
    return windows[
        np.linspace(0, len(windows) - 1, min(n or len(windows), len(windows))).round().astype(int)
    ]


def training_windows(windows, n=256, seed=77):
    """Choose calibration windows of training subjects, with a readable pulse where enough have one.

    Parameters
    ----------
    windows : Windows
        The train split of a store.
    n : int
        Number of windows; all usable ones if there are fewer.
    seed : int
        Seed of the draw.

    Returns
    -------
    Calibration

    Raises
    ------
    UserError
        If any window is of a subject outside the train split, or fewer than 16 windows are usable
        (not flat).
    """
    refuse_leakage(windows.subject[windows.split != "train"])
    usable = windows.select(~minmax_scale(windows.ppg)[1])
    if min(n, len(usable)) < FEWEST:
        raise UserError(
            f"calibration needs at least {FEWEST} windows; asked for {n}, {len(usable)} are not "
            "flat"
        )
    readable = usable.select(~(usable.ppg_quality < READABLE))  # where it is not known, all are
    chosen = readable if len(readable) >= FEWEST else usable
    chosen = chosen.select(spread(chosen, n, seed))
    return Calibration(minmax_scale(chosen.ppg)[0], chosen.subject, chosen.record, chosen.start_s)


def held_out(store, n, seed, calibration=None):
    """Choose windows on which float and int8 are compared: of val subjects or, without any, of
    train subjects.

    Parameters
    ----------
    store : WindowStore
    n : int
        Number of windows; all if there are fewer.
    seed : int
        Seed of the draw.
    calibration : Calibration, optional
        Windows that set the ranges; those of train subjects are left out of the result.

    Returns
    -------
    float32 array, shape (n, 1000)
        Scaled.

    Raises
    ------
    UserError
        If the store has no val subjects and every window of train subjects is one of `calibration`.
    """
    windows = store.windows("val" if "val" in store.splits.values() else "train")
    if calibration is not None:
        used = set(zip(calibration.record.tolist(), calibration.start_s.tolist(), strict=True))
        places = zip(windows.record.tolist(), windows.start_s.tolist(), strict=True)
        windows = windows.select(np.array([place not in used for place in places]))
    if not len(windows):
        raise UserError(
            f"{store.path}: has no val split, and all windows set the ranges: none is left to "
            "compare on"
        )
    return minmax_scale(windows.select(spread(windows, n, seed)).ppg)[0]


def read_calibration(path, splits):
    """Read a calibration file of `xmae quantize`.

    Parameters
    ----------
    path : str or Path
        The .npz file.
    splits : dict
        Split of each subject, of the store that the bundle is judged on.

    Returns
    -------
    Calibration

    Raises
    ------
    UserError
        If it cannot be read, is not of one subject for each window, has too few or flat windows or
        such that are not float32 within [-1, 1], or windows of subjects outside the train split.
    """
    try:
        wanted = Calibration.__dataclass_fields__
        calibration = Calibration(**read_arrays(path, wanted.__contains__))
    except UserError:
        raise
    except Exception as error:  # a damaged archive raises any of a dozen types
        raise UserError(f"{path}: not a calibration file of `xmae quantize` ({error})") from error
    ppg, subject = calibration.ppg, calibration.subject
    if (
        ppg.dtype != np.float32
        or ppg.shape != (*subject.shape, N_TIMES)
        or ppg.ndim != 2
        or len(ppg) < FEWEST
    ):
        raise UserError(
            f"{path}: expected at least {FEWEST} windows of {N_TIMES} samples in float32, and a "
            "subject for each; "
            f"found {ppg.dtype} {ppg.shape} and subjects {subject.shape}"
        )
    refuse_leakage([name for name in subject.tolist() if splits.get(name) != "train"])
    if not (np.abs(ppg) <= 1 + 1e-6).all() or (np.ptp(ppg, axis=1) == 0).any():  # False for NaN
        raise UserError(f"{path}: has windows that are flat, not finite or not scaled to [-1, 1]")
    return calibration


def refuse_leakage(subjects):
    """Raise a `UserError` that names `subjects` if there are any: calibration must not see them."""
    if len(subjects):
        names = ", ".join(sorted(set(subjects)))
        raise UserError(f"calibration on subjects outside the train split would leak: {names}")
