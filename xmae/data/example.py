"""`xmae data example`: a recording to try things on."""

import csv

import numpy as np

from xmae.data.bidmc import FOLDER
from xmae.data.recording.readers import read_recording
from xmae.files import atomic_file

SOURCE, SECONDS = "bidmc26", 60  # a subject that the shipped weights never saw


def example(out: str = "recording.csv") -> dict:
    """Write the first minute of a shipped recording as a CSV file, like an export of a watch or
    monitor.

    Parameters
    ----------
    out : str
        CSV file with the columns time (s), ppg and ecg (mV), at 125 Hz.

    Returns
    -------
    dict
        "summary" (where the data are from) and "out".

    Raises
    ------
    UserError
        If the file cannot be written.
    """
    recording = read_recording(FOLDER / f"{SOURCE}.npz")
    n_times = int(SECONDS * recording.sfreq)
    time = np.arange(n_times) / recording.sfreq
    ppg, ecg = recording.ppg[:n_times].round(5), recording.ecg[:n_times].round(5)
    with atomic_file(out) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["time", "ppg", "ecg [mV]"])
        writer.writerows(zip(time, ppg, ecg, strict=True))
    about = f"{SECONDS} s of {SOURCE}, an intensive-care patient in the BIDMC dataset (ODC-By 1.0)"
    what = (
        f"{n_times} rows at {recording.sfreq:g} Hz; its beats are irregular, so xmae prepare keeps"
        " its windows with --min-quality -1"
    )
    return {"summary": [about, what], "out": str(out)}
