"""`xmae data relabel`: new labels beside the signals of a store, which stay as they are."""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from xmae.data.recording.people import subject_name
from xmae.data.recording.sentinels import refuse_no_values
from xmae.data.recording.small_table import read_small_table
from xmae.data.store.remote import publish_remote
from xmae.data.store.shard import write_named
from xmae.data.store.store import NEW_LABELS, WindowStore
from xmae.data.store.windows import OLD_NAMES
from xmae.errors import UserError
from xmae.files import write_json
from xmae.ownership import owned

KEYS = ("subject", "record", "start_s", "split")


def relabel(store: str, table: str) -> dict:
    """Add labels to a store, or replace them, without rewriting its signals.

    Parameters
    ----------
    store : str
        Folder of the store, or an fsspec URL.
    table : str
        CSV file: columns that say where a value holds (subject; or record; or record and start_s,
        the start of a window in s), and a column for each label. A row applies to all windows that
        it matches; others keep what they had.

    Returns
    -------
    dict
        Windows that got each label; `summary`, a line each; "out".

    Raises
    ------
    UserError
        If the table cannot be used, or matches no window.
    """
    given = read_labels(table)
    if "://" in str(store):
        opened = WindowStore(store)
        with tempfile.TemporaryDirectory() as folder:
            meta, changed = write_labels(opened, Path(folder), given)
            publish_remote(opened.path, Path(folder), meta, opened.meta)
    else:
        # if there is a store: a lock lies beside its folder
        folder = WindowStore(store).path.resolve()
        with owned(folder, store):
            meta, changed = write_labels(WindowStore(store), folder, given)
            write_json(folder / "store.json", meta)
    summary = [f"{name}: {n} windows got a label" for name, n in changed.items()]
    return {"windows": changed, "summary": summary, "out": str(store)}


def read_labels(table):
    """Read a table of labels: one column per label, indexed by the columns that say where a value
    holds.
    """
    given = read_small_table(table, "a table of labels")  # all text: subject 007
    try:
        given.columns = [str(name).strip() for name in given.columns]
        given = given.rename(columns={"patient": "subject"} | OLD_NAMES)
        keys = [name for name in KEYS[:3] if name in given]
        names = [name for name in given if name not in KEYS]
        given = given.astype(
            {name: float for name in [*names, *(["start_s"] if "start_s" in keys else [])]}
        )
    except ValueError as error:
        raise UserError(f"{table}: not readable as a table of labels ({error})") from error
    if not names or not keys or keys == ["start_s"]:
        raise UserError(
            f"{table}: expected the columns subject or record (and start_s), and one for each label"
        )
    for name in names:
        refuse_no_values(given[name], f"{table}: column {name}")
    for name in {"subject", "record"} & set(keys):
        given[name] = given[name].map(subject_name)
    if given.duplicated(keys).any():
        raise UserError(f"{table}: two rows for the same {' and '.join(keys)}")
    return given.set_index(keys)[names]


def write_labels(opened, folder, given):
    """Write the labels of all windows of a store into a folder; return its new `store.json`, and
    how many windows got each label.
    """
    keys, names = list(given.index.names), list(given)
    parts, changed, before = [], dict.fromkeys(names, 0), opened.new_labels()
    for shard in tqdm(opened.entries, "relabel", unit="shard"):
        windows = opened.shard(shard)
        where = pd.DataFrame({name: getattr(windows, name) for name in keys})
        matched = where.join(given, on=keys)
        old = windows.labels | before.get(shard.file, {})
        new = {}
        for name in names:
            known = matched[name].notna().to_numpy()
            changed[name] += int(known.sum())
            new[name] = np.where(known, matched[name].to_numpy(), old.get(name, np.nan))
        parts.append(
            pa.table({"shard": [shard.file] * len(windows), "row": np.arange(len(windows)), **new})
        )
    if not any(changed.values()):
        raise UserError(f"{opened.path}: the table of labels matches no window of this store")
    new = pa.concat_tables(parts)
    entry = write_named(
        folder, NEW_LABELS, lambda path: pq.write_table(new, path, compression="zstd")
    )
    return opened.meta | {"labels": [*opened.meta.get("labels", []), entry]}, changed
