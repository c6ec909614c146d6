"""Windows and the folder that keeps them: one Parquet shard a recording, and `store.json` that says what is in it.

Signals are int16 with a scale and an offset per window (65,535 steps over the window's own range), so an hour of ECG
and PPG takes about 1.4 MB. A shard is decoded into one matrix without a copy per sample.
"""

from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from xmae.errors import UserError
from xmae.files import read_json, sha256
from xmae.signals.window import N_TIMES

SCHEMA_VERSION = 1
SPLITS = ("train", "val", "test")
LABELS = ("hr", "rr", "spo2", "age", "sex")  # per minute, per minute, %, years, 1 = male and 0 = female
STEPS = 32767  # int16 codes run from -32767 to 32767


@dataclass
class Windows:
    """Windows of 10 s at 100 Hz, cleaned but not scaled.

    Parameters
    ----------
    ppg : float32 array, shape (n, 1000)
        Cleaned PPG in the recorder's unit.
    ecg : float32 array, shape (n, 1000), or None
        Cleaned ECG of the same time in the recorder's unit; None if any recording had none.
    subject, record, split : str arrays, shape (n,)
        Whose window, of which recording, and its part: "train", "val" or "test" ("" before the split).
    start_s : float array, shape (n,)
        Start of the window within its recording, s.
    ppg_quality, ecg_quality : float arrays, shape (n,)
        15th percentile of the template-match quality over the window, at most 1; NaN without ECG.
    labels : dict of float arrays, shape (n,)
        hr (bpm), rr (per minute), spo2 (%), age (years; 90 = 90 or older), sex (1 male, 0 female); NaN = missing.
    """

    ppg: np.ndarray
    ecg: np.ndarray | None
    subject: np.ndarray
    record: np.ndarray
    start_s: np.ndarray
    ppg_quality: np.ndarray
    ecg_quality: np.ndarray
    split: np.ndarray
    labels: dict[str, np.ndarray]

    def __len__(self):
        return len(self.ppg)

    def select(self, index):
        """The windows that a boolean mask, slice or list of numbers picks."""
        picked = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "labels"}
        picked = {name: None if x is None else x[index] for name, x in picked.items()}
        return Windows(**picked, labels={name: x[index] for name, x in self.labels.items()})

    def require_ecg(self, what):
        """Raise a `UserError` if ECG is missing; `what` names the work that needs it."""
        if self.ecg is None:
            raise UserError(f"{what} needs ECG beside the PPG, and some of these recordings have none")

    @classmethod
    def concatenate(cls, parts):
        """Join lists of windows; ECG is kept only if every part has it."""
        joined = {f.name: [getattr(part, f.name) for part in parts] for f in fields(cls) if f.name != "labels"}
        joined = {name: None if any(x is None for x in xs) else np.concatenate(xs) for name, xs in joined.items()}
        return cls(**joined, labels={name: np.concatenate([part.labels[name] for part in parts]) for name in LABELS})


def quantize(x):
    """Code windows as int16, x = code * scale + offset: (n, n_times) -> codes, and float32 scale and offset (n,)."""
    low, high = x.min(axis=1), x.max(axis=1)
    scale = ((high - low) / (2 * STEPS)).astype(np.float32)
    offset = ((high + low) / 2).astype(np.float32)
    steps = (x - offset[:, None]) / np.where(scale > 0, scale, 1)[:, None]
    return np.clip(np.rint(steps), -STEPS, STEPS).astype(np.int16), scale, offset


def write_shard(path, windows):
    """Write windows as one Parquet file: a row a window, signals as int16 lists of fixed length."""
    columns = {}
    for name in ("ppg", "ecg"):
        x = getattr(windows, name)
        if x is not None:
            codes, scale, offset = quantize(x)
            columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(codes.ravel()), N_TIMES)
            columns |= {f"{name}_scale": scale, f"{name}_offset": offset}
    for name in ("subject", "record", "start_s", "ppg_quality", "ecg_quality"):
        columns[name] = getattr(windows, name)
    columns |= {f"label_{name}": windows.labels[name] for name in LABELS}
    packed = {f"{name}.list.element": "DELTA_BINARY_PACKED" for name in ("ppg", "ecg") if name in columns}
    pq.write_table(
        pa.table(columns), path, compression="zstd", use_dictionary=["subject", "record"], column_encoding=packed
    )


def read_codes(table, name):
    """The int16 codes of a signal, (n, 1000): a view of the decoded column, nothing is copied."""
    (column,) = table[name].chunks  # a shard is one row group
    return column.flatten().to_numpy(zero_copy_only=True).reshape(-1, N_TIMES)


def read_signal(table, name):
    """One signal of a shard in physical units: (n, 1000) float32."""
    scale, offset = (table[f"{name}_{part}"].to_numpy()[:, None] for part in ("scale", "offset"))
    return read_codes(table, name) * scale + offset


def read_shard(path, digest):
    """Read the windows of one Parquet file whose SHA-256 must be `digest`.

    Raises
    ------
    UserError
        If the file is missing, truncated or changed.
    """
    try:
        if sha256(path) != digest:
            raise UserError(f"{path}: damaged or changed since it was written (its SHA-256 differs); prepare again")
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: not readable as a shard of windows ({error})") from error
    return Windows(
        ppg=read_signal(table, "ppg"),
        ecg=read_signal(table, "ecg") if "ecg" in table.column_names else None,
        **{name: table[name].to_numpy().astype(str) for name in ("subject", "record")},
        split=np.full(len(table), ""),
        **{name: table[name].to_numpy() for name in ("start_s", "ppg_quality", "ecg_quality")},
        labels={name: table[f"label_{name}"].to_numpy() for name in LABELS},
    )


class WindowStore:
    """A folder of windows written by `xmae prepare`.

    Parameters
    ----------
    path : str or Path
        The folder.

    Attributes
    ----------
    meta : dict
        `store.json`: schema version, settings, counts of kept and dropped windows, shards with their SHA-256.
    splits : dict
        Split ("train", "val" or "test") of each subject.

    Raises
    ------
    UserError
        If the folder is no store, or of another version.
    """

    def __init__(self, path):
        self.path = Path(path)
        if not (self.path / "store.json").is_file():
            raise UserError(f"{self.path}: no store of windows (no store.json in it); make one with `xmae prepare`")
        self.meta = read_json(self.path / "store.json")
        if self.meta.get("schema_version") != SCHEMA_VERSION:
            version = self.meta.get("schema_version")
            raise UserError(f"{self.path}: store of version {version}, expected {SCHEMA_VERSION}; prepare it again")
        self.splits = self.meta["splits"]

    def shards(self, split=None):
        """Yield the windows of one recording after another; of all, or of one split."""
        for shard in self.meta["shards"]:
            if split is None or self.splits[shard["subject"]] == split:
                windows = read_shard(self.path / shard["file"], shard["sha256"])
                yield replace(windows, split=np.full(len(windows), self.splits[shard["subject"]]))

    def windows(self, split=None):
        """All windows, or those of one split ("train", "val" or "test"), as one `Windows`.

        Raises
        ------
        UserError
            If there are none, or a shard is missing or damaged.
        """
        if split not in (None, *SPLITS):
            raise UserError(f"unknown split '{split}'; expected one of {', '.join(SPLITS)}")
        parts = list(self.shards(split))
        if not parts:
            raise UserError(f"{self.path}: holds no windows for the split '{split}'")
        return Windows.concatenate(parts)
