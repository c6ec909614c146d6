"""PPG-BP: 2.1 s finger PPG of 164 people with blood pressure and diagnoses. Attribution and
licence: LICENSE.md.

A segment is shorter than the window of 10 s, so these are not in the form of a store: they serve to
test an encoder on another device, place and population, with the 5 whole patches (2.0 s) that a
segment holds.
"""

from pathlib import Path

import numpy as np
from scipy import signal

from xmae.signals.filters import ppg_sos
from xmae.signals.resample import resample
from xmae.signals.window import PATCH, SFREQ

FILE = Path(__file__).parent / "ppg_bp.npz"
COLUMNS = ("age", "bmi", "sbp", "dbp", "hr", "hypertension_stage", "diabetes")


def ppg_bp_segments():
    """Return all segments with their labels.

    Returns
    -------
    ppg : float32 array, shape (492, 200)
        Cleaned PPG at 100 Hz in the device's counts; see `clean_segments`.
    subject : str array, shape (492,)
        "ppgbp" and the number of the source, each three times.
    segment : int array, shape (492,)
        0, 1 or 2.
    labels : dict of float arrays, shape (492,)
        age (years), bmi (kg/m2), sbp, dbp (mmHg), hr_monitor (bpm, the cuff's), hypertension_stage
        (0-3), diabetes (0/1), sex (1 male).
    """
    with np.load(FILE) as data:
        n_subjects, n_segments, _ = data["ppg"].shape
        ppg = clean_segments(data["ppg"].astype(np.float64), float(data["fs"]))
        columns = {name: data[name].astype(np.float64) for name in COLUMNS} | {
            "sex": (data["sex"] == "M") * 1.0
        }
        columns["hr_monitor"] = columns.pop("hr")
        subject = np.repeat([f"ppgbp{number:03d}" for number in data["subject_id"]], n_segments)
    labels = {name: np.repeat(column, n_segments) for name, column in columns.items()}
    return (
        ppg.reshape(len(subject), -1),
        subject,
        np.tile(np.arange(n_segments), n_subjects),
        labels,
    )


def clean_segments(ppg, sfreq):
    """Clean PPG pieces of a few seconds and cut them to whole patches.

    The band is that of all other PPG here (0.5-8 Hz), but a piece of 2 s has no room for the
    high-pass to settle, so it is continued at both ends by its own mirror image before filtering.
    On 2.1 s pieces of BIDMC that were first passed through 0.5-12 Hz, as this device does, the
    result correlates 0.97 (median) with the same samples cleaned in the whole recording; with the
    odd continuation of 0.15 s that recordings get, 0.94.

    Parameters
    ----------
    ppg : float array, shape (..., n_times)
        Raw pieces.
    sfreq : float
        Their sampling rate, Hz.

    Returns
    -------
    float32 array, shape (..., k * 40)
        At 100 Hz; as many whole patches of 0.4 s as fit, from the middle.
    """
    x = resample(ppg, sfreq, SFREQ)
    x = signal.sosfiltfilt(ppg_sos(SFREQ), x, axis=-1, padtype="even", padlen=x.shape[-1] - 1)
    length = x.shape[-1] // PATCH * PATCH
    first = (x.shape[-1] - length) // 2
    return x[..., first : first + length].astype(np.float32)
