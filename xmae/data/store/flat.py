"""The windows of a split in flat files that are memory-mapped: any of them at once, memory only for
those asked for.

Parquet shards are packed, so a window costs its shard. Here each signal is one file with a record
of 2 kB per window, its int16 codes beside their scale and offset; the files are made once from the
shards, whose SHA-256 is checked then.
"""

import hashlib
import os
import re
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from tqdm import tqdm

from xmae.data.store.shard import AXES, read_codes, read_table
from xmae.data.store.store import SPLITS
from xmae.data.store.windows import followed
from xmae.errors import UserError
from xmae.files import atomic_file, cache_folder
from xmae.ownership import check_output
from xmae.signals.window import N_TIMES

SIGNALS = ("ppg", "ecg")
# names of flat files, and of unfinished ones, which alone are removed
FLAT = re.compile(r"\.?(?P<content>[0-9a-f]{16})-(ppg|ecg|acc_[xyz]|follows)(\..+)?")
RECORD = np.dtype([("codes", np.int16, N_TIMES), ("scale", np.float32), ("offset", np.float32)])
# columns that tell which window goes on where another ends
CHAIN = ("subject", "record", "start_s")


class FlatWindows:
    """PPG and ECG of a split as in `xmae.data.store.windows.Windows`, but memory-mapped from disk.

    Parameters
    ----------
    store : WindowStore
        The store: local or remote.
    split : str or None
        "train", "val", "test", or all.
    signals : tuple of str
        "ppg", or "ppg" and "ecg"; and "acc_x", "acc_y", "acc_z", NaN where nothing was recorded.
    cache : str, Path or None
        Folder for the flat files; default: one of `caches_of(store)`.

    Attributes
    ----------
    subject : int array, shape (n,)
        Number of each window's subject, in the order of their names.
    follows : bool array, shape (n,)
        Whether the next window goes on where this one ends.

    Raises
    ------
    UserError
        If there are no windows or some have no ECG, a shard is damaged, or the flat files cannot be
        written.
    """

    def __init__(self, store, split, signals=SIGNALS, cache=None):
        self.store, self.shards = store, shards_of(store, split)
        counts = [shard.windows for shard in self.shards]
        _, subject = np.unique([shard.subject for shard in self.shards], return_inverse=True)
        self.subject, self.n_windows = np.repeat(subject.astype(np.int32), counts), sum(counts)
        folders, content = [Path(cache)] if cache else caches_of(store), content_of(self.shards)
        dtypes = dict.fromkeys(signals, RECORD) | {"follows": np.dtype(bool)}
        sizes = {name: dtype.itemsize * self.n_windows for name, dtype in dtypes.items()}

        def missing(folder):
            paths = {name: folder / f"{content}-{name}" for name in sizes}
            return {
                name: x
                for name, x in paths.items()
                if not x.is_file() or x.stat().st_size != sizes[name]
            }

        folder = next((folder for folder in folders if not missing(folder)), folders[-1])
        if lacking := missing(folder):
            check_output(folder, least_space=sum(sizes[name] for name in lacking))
            try:
                folder.mkdir(parents=True, exist_ok=True)
                with FileLock(folder / "lock"):  # of several processes, one writes
                    if not cache:
                        clear_away(folder, store)
                    self.write(missing(folder))
            except OSError as error:
                raise UserError(f"cannot write {folder}: {error.strerror or error}") from error
        maps = {
            name: np.memmap(folder / f"{content}-{name}", dtype, "r")
            for name, dtype in dtypes.items()
        }
        self.follows = np.array(maps.pop("follows"))
        self.records = [np.asarray(records) for records in maps.values()]

    def __len__(self):
        return self.n_windows

    def signals(self, rows):
        """Return windows by number: int (m,) -> float32 tensor (n_signals, m, 1000), in the
        recorder's units, not scaled.
        """
        return physical([records[rows] for records in self.records])

    def write(self, paths):
        """Write files ({signal or "follows": path}), shard after shard."""
        with ExitStack() as stack:
            files = {name: stack.enter_context(atomic_file(path)) for name, path in paths.items()}
            files = {name: stack.enter_context(path.open("wb")) for name, path in files.items()}
            columns = [*CHAIN, *chain.from_iterable(columns_of(name) for name in files)]
            for shard in tqdm(self.shards if files else (), "flat files", unit="shard"):
                table = read_table(self.store.file(shard.file), shard.sha256, columns)
                if len(table) != shard.windows:
                    raise UserError(
                        f"{shard.file}: holds {len(table)} windows, store.json says {shard.windows}"
                    )
                for name, file in files.items():
                    rows = (
                        records_of(table, name)
                        if name in (*SIGNALS, *AXES)
                        else followed(*map(table.column, CHAIN))
                    )
                    # unlike tofile, it says why if it fails
                    file.write(memoryview(np.ascontiguousarray(rows)).cast("B"))


def shards_of(store, split):
    """Return the shards of a split, or all, from store.json; raises a `UserError` if there are
    none.
    """
    shards = [
        shard for shard in store.entries if split is None or store.splits[shard.subject] == split
    ]
    if not shards:
        raise UserError(f"{store.path}: holds no windows for the split '{split}'")
    return shards


def caches_of(store):
    """Return the folders that may hold flat files; the last is the one to write to.

    The first is "cache" in the store. A store that is remote or read-only has a folder in the
    user's own cache.
    """
    where = store.path if store.remote else store.path.resolve()
    own = cache_folder() / "windows" / hashlib.sha256(str(where).encode()).hexdigest()[:16]
    if store.remote:
        return [own]
    beside = where / "cache"
    if beside.is_symlink():  # of a store from elsewhere: it may lead to anything
        return [own]
    return [beside] if os.access(beside if beside.exists() else where, os.W_OK) else [beside, own]


def content_of(shards):
    """Return a digest of these shards, with which the names of their flat files begin."""
    return hashlib.sha256("".join(shard.sha256 for shard in shards).encode()).hexdigest()[:16]


def clear_away(folder, store):
    """Remove flat files of an earlier state of the store, or of a killed process, from a folder of
    its own.
    """
    shards = store.entries
    parts = [
        [shard for shard in shards if store.splits[shard.subject] == split] for split in SPLITS
    ]
    valid = {content_of(part) for part in (shards, *parts)}
    for path in folder.iterdir():
        ours = FLAT.fullmatch(path.name)
        if ours and ours["content"] not in valid and path.is_file():
            path.unlink()


def columns_of(name):
    """Return the columns of a shard that hold a signal."""
    return [name, f"{name}_scale", f"{name}_offset"] if name in (*SIGNALS, *AXES) else []


def records_of(table, name):
    """Return a signal of a shard as records (n,) of codes, scale and offset."""
    if name not in table.column_names and name not in AXES:
        raise UserError(
            "pretraining needs ECG beside the PPG, and some of these recordings have none"
        )
    records = np.empty(len(table), RECORD)
    if name not in table.column_names:  # no accelerometer: a missing signal, as `quantize` has it
        records["codes"], records["scale"], records["offset"] = 0, 0, np.nan
        return records
    records["codes"] = read_codes(table, name)
    for part in ("scale", "offset"):
        records[part] = table[f"{name}_{part}"].to_numpy()
    return records


def physical(signals):
    """Convert records (m,) of each signal to a float32 tensor (n_signals, m, 1000) in the
    recorder's units.
    """
    x = torch.empty(len(signals), len(signals[0]), N_TIMES)
    for place, records in enumerate(signals):
        scale, offset = (torch.from_numpy(records[name])[:, None] for name in ("scale", "offset"))
        x[place].copy_(torch.from_numpy(records["codes"])).mul_(scale).add_(offset)
    return x
