"""The folder that keeps windows: Parquet shards, an index of recordings, and `store.json` that says
what is in it.

`store.json` is written last and replaced in one step, so it is what makes a store: files that it
does not name are left over from work that was broken off, and do no harm. The schema is described
in docs/data.md.
"""

import hashlib
import json
from dataclasses import replace
from itertools import chain
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from xmae.data.store.remote import read_remote_store
from xmae.data.store.schema import SCHEMA_VERSION, STORE, Row, Shard, Table, checked_store
from xmae.data.store.shard import read_shard, read_table, write_named
from xmae.data.store.windows import OLD_NAMES, Windows
from xmae.errors import UserError, refusing, require_choice
from xmae.files import read_json
from xmae.manifest import checked, file_name, parsed

SPLITS = ("train", "val", "test")
INDEX, NEW_LABELS = "index", "labels"  # names of these tables start so, and end with what they hold
INDEX_COLUMNS = pa.schema({
    "subject": pa.string(), "record": pa.string(), "source": pa.string(), "start": pa.string(),
    "seconds": pa.float64(), "windows": pa.int64(), "shard": pa.string(), "row": pa.int64(),
    "samples_sha256": pa.string(), "clock_state": pa.string(), "clock_offset_s": pa.float64(),
    "clock_lag_half_s": pa.float64(), "clock_drift_ppm": pa.float64(),
    "clock_drift_half_ppm": pa.float64(), "clock_left_s": pa.float64(),
})  # fmt: skip

__all__ = ["SCHEMA_VERSION", "WindowStore", "Windows"]


class RemoteFile:
    """A file of a store at an fsspec URL; `path` is its URL."""

    def __init__(self, url):
        self.path = url

    def open(self):
        """Open the file for reading bytes."""
        return fsspec.open(self.path, "rb").open()


class WindowStore:
    """A store of windows written by `xmae prepare`.

    Parameters
    ----------
    path : str or Path
        The folder, or an fsspec URL such as s3://bucket/store.

    Attributes
    ----------
    meta : dict
        `store.json`: schema version, settings, counts of kept and dropped windows, shards with
        their SHA-256.
    entries : list of Shard
        Its shards, as `store.json` lists them.
    splits : dict
        Split ("train", "val" or "test") of each subject.

    Raises
    ------
    UserError
        If the folder is no store, or of another version.
    """

    def __init__(self, path):
        self.remote = "://" in str(path)
        self.path = str(path).rstrip("/") if self.remote else Path(path)
        self.meta = self.read_meta()
        self.entries = parsed(self.meta["shards"], list[Shard], self.path)
        self.splits = self.meta["splits"]

    @property
    def contents(self):
        """Return the SHA-256 over signals and splits: everything that a training depends on, but
        not path and labels.
        """
        what = [[shard.sha256 for shard in self.entries], self.splits]
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()

    def file(self, name):
        """Return a file of the store by its name, which must be one part of a path: a path, or a
        `RemoteFile`.
        """
        file_name(name, self.path)
        return RemoteFile(f"{self.path}/{name}") if self.remote else self.path / name

    def read_meta(self):
        """Read `store.json` and check it against its schema."""
        if self.remote:
            meta = read_remote_store(self.path)
        elif (self.path / STORE).is_file():
            meta = checked_store(read_json(self.path / STORE), self.path)
        else:
            meta = None
        if meta is None:
            raise UserError(
                f"{self.path}: no store of windows (no {STORE} in it); make one with `xmae prepare`"
            )
        return meta

    def index(self):
        """Return one dict per recording with windows: subject, record, source, start, seconds,
        windows, shard, row ...

        A store of version 1 has no index: it is gathered from the shards, without start, seconds
        and samples_sha256.
        """
        if "index" not in self.meta:
            return list(chain.from_iterable(self.recordings_in(shard) for shard in self.entries))
        table = parsed(self.meta["index"], Table, self.path)
        file = self.file(table.file)
        rows = read_table(file, table.sha256).to_pylist()
        return checked(rows, list[Row], getattr(file, "path", file))

    def recordings_in(self, shard):
        """Return the rows of an index for the recordings in one shard, as far as the index has
        them.
        """
        table = read_table(self.file(shard.file), shard.sha256, ["record"])
        record = table["record"].to_numpy()
        names, first, counts = np.unique(record.astype(str), return_index=True, return_counts=True)
        known = {
            "subject": shard.subject,
            "source": shard.source,
            "shard": shard.file,
            "start": "",
        }
        return [
            known
            | {
                "record": str(names[k]),
                "row": int(first[k]),
                "windows": int(counts[k]),
                "samples_sha256": "",
            }
            for k in np.argsort(first)
        ]

    def shards(self, split=None):
        """Yield the windows of one shard after the other, of all splits or of one."""
        relabelled = self.new_labels()
        for shard in self.entries:
            if split is None or self.splits[shard.subject] == split:
                yield self.shard(shard, relabelled)

    def shard(self, shard, relabelled=None):
        """Read the windows of one of `entries`, with the leads, split and labels of the store."""
        windows = read_shard(self.file(shard.file), shard.sha256).with_leads(self.meta.get("leads"))
        given = (relabelled or {}).get(shard.file, {})
        if any(len(values) != len(windows) for values in given.values()):
            raise UserError(f"{self.path}: its labels are of other windows than {shard.file}")
        labels = windows.labels | given
        return replace(
            windows, split=np.full(len(windows), self.splits[shard.subject]), labels=labels
        )

    def new_labels(self):
        """Return the labels from `xmae data relabel`: {shard file: {label: values (n,)}}."""
        tables = {}
        for entry in parsed(self.meta.get("labels", []), list[Table], self.path):
            table = read_table(self.file(entry.file), entry.sha256)
            with refusing(f"{self.path}/{entry.file}", "labels of a store"):
                for shard, values in labels_by_shard(table):
                    tables.setdefault(shard, {}).update(values)
        return tables

    def windows(self, split=None):
        """Read all windows, or those of one split ("train", "val" or "test"), as one `Windows`.

        Raises
        ------
        UserError
            If there are none, or a shard is missing or damaged.
        """
        if split is not None:
            require_choice("split", split, SPLITS)
        parts = list(self.shards(split))
        if not parts:
            raise UserError(f"{self.path}: holds no windows for the split '{split}'")
        return Windows.concatenate(parts)

    def of_subject(self, subject):
        """Read all windows of one subject, from their shards only."""
        shards = [shard for shard in self.entries if shard.subject == subject]
        if not shards:
            raise UserError(f"{self.path}: holds no windows of the subject '{subject}'")
        relabelled = self.new_labels()
        return Windows.concatenate([self.shard(shard, relabelled) for shard in shards])


def labels_by_shard(table):
    """Yield each shard's file and its labels in the order of its windows, from a table of labels.

    Raises
    ------
    UserError
        If the columns are of other types, or a shard's rows are not 0 to n - 1, each once.
    """
    names = [name for name in table.column_names if name not in ("shard", "row")]
    types = {name: table[name].type for name in table.column_names}
    numbers = all(pa.types.is_floating(types[name]) for name in names)
    if types["shard"] != pa.string() or types["row"] != pa.int64() or not numbers:
        raise UserError("a table of labels holds file names (shard), whole numbers (row) and reals")
    shards, rows = table["shard"].to_numpy().astype(str), table["row"].to_numpy()
    for shard in np.unique(shards):
        chosen = np.flatnonzero(shards == shard)
        chosen = chosen[np.argsort(rows[chosen])]
        if not np.array_equal(rows[chosen], np.arange(len(chosen))):
            raise UserError(f"labels of {shard} are not of one window after another")
        yield (
            str(shard),
            {OLD_NAMES.get(name, name): table[name].to_numpy()[chosen] for name in names},
        )


def write_index(folder, rows):
    """Write the index of recordings; return its entry in store.json: file and SHA-256."""
    rows = [{name: row.get(name) for name in INDEX_COLUMNS.names} for row in rows if row["windows"]]
    table = pa.Table.from_pylist(rows, schema=INDEX_COLUMNS)
    return write_named(folder, INDEX, lambda path: pq.write_table(table, path, compression="zstd"))
