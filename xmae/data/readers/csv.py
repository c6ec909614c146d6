"""CSV tables with the columns `ppg`, optionally `ecg` and `time` (seconds); an empty cell is a missing sample."""

from pathlib import Path

import numpy as np
import pandas as pd

from xmae.data.recording import Recording
from xmae.errors import UserError

TOLERANCE = 0.01  # relative: how far a time step, or a stated rate, may lie from the rate of the time column


def read_csv(path, sfreq=None):
    """Read one CSV recording.

    Parameters
    ----------
    path : str or Path
        The file; its stem names subject and record. Column names in any case.
    sfreq : float or None
        Sampling rate, Hz; default: from the column `time`, which must then be uniform to 1 %.

    Raises
    ------
    UserError
        If the file cannot be read, has no PPG, states no rate or two different ones, or has uneven times.
    """
    path = Path(path)
    try:
        table = pd.read_csv(path)
        table.columns = [str(name).strip().lower() for name in table.columns]
        table = table[[name for name in ("ppg", "ecg", "time") if name in table]].astype(float)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable as a table of numbers ({error})") from error
    if "ppg" not in table:
        raise UserError(f"{path}: no column 'ppg'")
    if "time" in table:
        sfreq = rate_of_times(table["time"].to_numpy(), sfreq, path)
    if sfreq is None:
        raise UserError(f"{path}: no sampling rate; add a column 'time' in seconds, or give --sfreq")
    return Recording(
        subject=path.stem,
        record=path.stem,
        sfreq=float(sfreq),
        ppg=table["ppg"].to_numpy(),
        ecg=table["ecg"].to_numpy() if "ecg" in table else None,
    )


def rate_of_times(times, sfreq, path):
    """Sampling rate (Hz) of uniform times (s), which a stated `sfreq` must not contradict."""
    steps = np.diff(times)
    step = np.median(steps) if len(steps) else np.nan
    # times may be rounded, to milliseconds say, so a single step may be off while the whole is not
    drift = np.abs(times - times[:1] - step * np.arange(len(times))) / step if step > 0 else np.array([np.inf])
    if not np.max(drift, initial=0) < max(1, TOLERANCE * len(times)) or (steps <= 0).any():
        raise UserError(f"{path}: column 'time' is not uniform, in seconds; resample the recording first")
    rate = (len(times) - 1) / (times[-1] - times[0])
    if sfreq is not None and abs(sfreq / rate - 1) > TOLERANCE:
        raise UserError(f"{path}: the rate {sfreq:g} Hz contradicts the column 'time' ({rate:g} Hz)")
    return float(sfreq or rate)
