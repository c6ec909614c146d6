"""`xmae data verify`: is a store whole?"""

import numpy as np
from tqdm import tqdm

from xmae.data.store.schema import named_files
from xmae.data.store.shard import read_shard
from xmae.data.store.store import WindowStore
from xmae.errors import UserError
from xmae.files import write_json


def verify(store: str, out: str = "") -> dict:
    """Check every byte of a store: that all files exist, are unchanged, and hold what store.json
    says.

    Parameters
    ----------
    store : str
        Folder of the store, or an fsspec URL.
    out : str
        JSON file for the result; "" = none.

    Returns
    -------
    dict
        `passed`; `problems`, a line each; numbers of shards and windows; files that store.json does
        not name ("unused"); "out".

    Raises
    ------
    UserError
        If there is no store, or its store.json cannot be read.
    """
    opened, problems, windows, rows = WindowStore(store), [], 0, {}
    for shard in tqdm(opened.entries, "verify", unit="shard"):
        try:
            content = read_shard(opened.file(shard.file), shard.sha256)
        except UserError as error:
            problems.append(str(error))
            continue
        windows += len(content)
        problems += faults_of(shard, content)
        values, counts = np.unique(content.record, return_counts=True)
        rows |= {
            (shard.file.rsplit("/", 1)[-1], record): n
            for record, n in zip(values, counts, strict=True)
        }
    try:
        index = {(row["shard"], row["record"]): row["windows"] for row in opened.index()}
        if index and not problems and index != rows:
            problems.append("the index names other recordings than the shards hold")
        opened.new_labels()
    except UserError as error:
        problems.append(str(error))
    if not problems and windows != opened.meta["windows"]:
        problems.append(
            f"store.json says {opened.meta['windows']} windows, the shards hold {windows}"
        )
    result = {
        "passed": not problems,
        "problems": problems,
        "shards": len(opened.entries),
        "windows": windows,
        "unused": unused_files(opened),
    }
    if out:
        write_json(out, result)
    summary = [f"{windows} windows in {result['shards']} shards", *problems]
    return result | {
        "summary": summary,
        "out": out or f"{store}: {'damaged' if problems else 'whole'}",
    }


def faults_of(shard, content):
    """List what is wrong with the windows of a shard, one line each.

    Parameters
    ----------
    shard : Shard
        As `store.json` lists it.
    content : Windows
        Windows in the file of the shard.
    """
    found = []
    if len(content) != shard.windows or set(content.subject) != {shard.subject}:
        found.append(f"{shard.file}: other windows or subjects than store.json says")
    if not all(np.isfinite(x).all() for x in (content.ppg, content.ecg) if x is not None):
        found.append(f"{shard.file}: samples that are no numbers")
    if content.acc is not None and np.isinf(content.acc).any():
        found.append(f"{shard.file}: infinite acceleration")
    return found


def unused_files(store):
    """Return the files in the folder that belong to no store, left by interrupted work; they are
    harmless.
    """
    if store.remote:
        return []
    named = named_files(store.meta) | {"config.yaml", "metrics.json"}
    return sorted(
        path.name for path in store.path.glob("*") if path.is_file() and path.name not in named
    )
