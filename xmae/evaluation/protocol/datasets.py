"""What is evaluated on: stores of windows, and PPG-BP, with all the labels that are known for them.

An encoder takes any whole number of 0.4 s patches. Transformer encoders give the k-th patch of a
short piece the k-th learned position (the table is cut, not interpolated: a patch is as long as in
training); convolutional encoders, the microcontroller student among them, have no positions and
average over fewer places.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from xmae.data.bidmc import FOLDER
from xmae.data.ppg_bp import ppg_bp_segments
from xmae.data.store.store import WindowStore
from xmae.data.store.windows import followed
from xmae.errors import UserError
from xmae.evaluation.protocol.ectopic import ectopic_labels
from xmae.evaluation.protocol.labels import join_labels, read_labels
from xmae.evaluation.protocol.tasks import REGISTRY
from xmae.signals.window import PATCH, SFREQ

PPG_BP = "ppg_bp"
DERIVED = ("ectopic", "pvc")
SHIPPED = (FOLDER / "pressure.csv",)  # label tables that come with the shipped recordings


@dataclass
class Dataset:
    """Windows of any length, with their labels.

    Parameters
    ----------
    name : str
        Name of the dataset.
    ppg : float32 array, shape (n, L)
        Cleaned PPG at 100 Hz, L a whole number of patches.
    ecg : float32 array, shape (n, L), or None
        Cleaned ECG of the same moments.
    subject, record, split : str arrays, shape (n,)
        `split` is "" where there is none.
    start_s : float array, shape (n,)
        Start within the recording, s.
    labels : dict of float arrays, shape (n,)
        By `Task.column`; NaN = missing.
    beats : float32 array, shape (n, 40), or None
        R peaks in s from the start of the window, then NaN; see `xmae.data.store.windows.Windows`.
    acc : float32 array, shape (n, 3, L), or None
        Acceleration, g; NaN = missing.
    """

    name: str
    ppg: np.ndarray
    ecg: np.ndarray | None
    subject: np.ndarray
    record: np.ndarray
    split: np.ndarray
    start_s: np.ndarray
    labels: dict[str, np.ndarray]
    beats: np.ndarray | None = None
    acc: np.ndarray | None = None

    @property
    def seconds(self):
        """Return the length of a window, s."""
        return self.ppg.shape[1] / SFREQ

    @property
    def recording(self):
        """Return the number of each window's recording, int (n,); recordings of different subjects
        may have the same name.
        """
        return pd.MultiIndex.from_arrays([self.subject, self.record]).factorize()[0]

    @property
    def follows(self):
        """Tell whether each window is continued by the next one: bool (n,)."""
        return followed(self.subject, self.record, self.start_s)

    def tasks(self, known=REGISTRY):
        """Return the names of the `known` tasks with a label in this dataset."""
        return [name for name, task in known.items() if np.isfinite(task.target(self)).any()]

    def scored(self, protocol):
        """Mark the windows to score, bool (n,): those of the split "test", or all (for "all", or
        without such a split).
        """
        test = self.split == "test"
        return test if protocol == "test" and test.any() else np.ones(len(test), bool)

    def shortened(self, seconds):
        """Return the first `seconds` of every window, without ECG."""
        return Dataset(
            **vars(self)
            | {
                "ppg": self.ppg[:, : round(seconds * SFREQ) // PATCH * PATCH],
                "ecg": None,
                "acc": None,
            }
        )


def load_datasets(data, labels=None, tasks=None, known=REGISTRY):
    """Load the named datasets.

    Parameters
    ----------
    data : sequence of str
        Stores of `xmae prepare`, or "ppg_bp".
    labels : str, optional
        Label table (see `xmae.evaluation.protocol.labels`) of the first of `data`.
    tasks : sequence of str, optional
        Tasks asked for; ectopic beats are derived from the ECG if they are among them, or nothing
        is asked for.
    known : dict
        Tasks by name; those of the package, and declared ones.

    Returns
    -------
    list of Dataset

    Raises
    ------
    UserError
        If something cannot be read, windows are not at 100 Hz or at different rates, a name comes
        twice, or the label table does not fit.
    """
    rates = {str(item): sampling_rate(item) for item in data}
    if len(rates) < len(data):
        raise UserError(f"the same data twice: {', '.join(map(str, data))}")
    if len(set(rates.values())) > 1:
        raise UserError(
            "mixed sampling rates: "
            + ", ".join(f"{item} {rate:g} Hz" for item, rate in rates.items())
        )
    if wrong := [item for item, rate in rates.items() if rate != SFREQ]:
        raise UserError(
            f"{wrong[0]}: windows at {rates[wrong[0]]:g} Hz; encoders take {SFREQ} Hz: prepare it "
            "again"
        )
    loaded = [
        load_dataset(item, labels if i == 0 else None, tasks, known) for i, item in enumerate(data)
    ]
    names = [dataset.name for dataset in loaded]
    if len(set(names)) < len(names):
        for item, dataset in zip(data, loaded, strict=True):
            dataset.name = str(item)
    return loaded


def sampling_rate(item):
    """Return the sampling rate of the windows of a store (or "ppg_bp"), Hz."""
    return float(SFREQ if item == PPG_BP else WindowStore(item).meta["window"]["sfreq"])


def load_dataset(item, labels=None, tasks=None, known=REGISTRY):
    """Load one store, or "ppg_bp"; see `load_datasets`."""
    if item == PPG_BP:
        ppg, subject, segment, given = ppg_bp_segments()
        record = np.char.add(np.char.add(subject, "-"), (segment + 1).astype(str))
        none = np.full(len(ppg), "")
        dataset = Dataset(PPG_BP, ppg, None, subject, record, none, np.zeros(len(ppg)), given)
    else:
        store = WindowStore(item)
        windows = store.windows()
        names = ("ppg", "ecg", "subject", "record", "split", "start_s", "beats", "acc")
        columns = {name: getattr(windows, name) for name in names}
        dataset = Dataset(Path(store.path).resolve().name, **columns, labels=dict(windows.labels))
        for path in SHIPPED:
            join_known(dataset, read_labels(path))
    if labels is not None:
        join_labels(dataset, read_labels(labels, tasks, known), str(labels))
    wanted = [
        name for name in DERIVED if name not in dataset.labels and (not tasks or name in tasks)
    ]
    if wanted and dataset.ecg is not None:
        derived = ectopic_labels(dataset)
        dataset.labels.update({name: derived[name] for name in wanted})
    return dataset


def join_known(dataset, table):
    """Join the rows of a label table whose recordings are in the dataset; there may be none."""
    here = set(zip(dataset.subject, dataset.record, strict=True))
    table = table[[pair in here for pair in zip(table["subject"], table["record"], strict=True)]]
    if len(table):
        join_labels(dataset, table)
