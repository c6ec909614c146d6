"""From the notes of all files to a store: recordings against each other, subjects into splits,
files to their place.
"""

import errno
import os
import shutil
from collections import Counter
from contextlib import suppress
from itertools import chain
from pathlib import Path

import numpy as np

from xmae.data.prepare.prepare_file import save_shard, sort_leads
from xmae.data.prepare.windowing import LIMITS
from xmae.data.recording.checks import settle_doubles
from xmae.data.store.schema import OURS, STORE, Shard, checked_store, named_files
from xmae.data.store.shard import read_shard
from xmae.data.store.store import SCHEMA_VERSION, write_index
from xmae.errors import UserError
from xmae.files import atomic_file, read_json, write_json
from xmae.manifest import parsed
from xmae.signals.window import N_TIMES, SFREQ, WINDOW_S

BY_SHAPE = {"ppg_quality", "ecg_quality"}  # reasons to drop a window that --min-quality sets


def assemble(notes, stage, old, settings, split):
    """Check the recordings against each other, and split the subjects.

    Parameters
    ----------
    notes : list of dict
        Notes of all files in their order; see `xmae.data.prepare.prepare_file.prepare_file`.
    stage : Path
        Folder with their shards.
    old : WindowStore or None
        The store to append to.
    settings : Settings
        As the files were prepared.
    split : Split
        How subjects are split.

    Returns
    -------
    meta : dict
        Content of `store.json`, without the index.
    index : list of dict
        Rows of the index.

    Raises
    ------
    UserError
        If nothing is left, or the split does not fit the subjects.
    """
    before = (old.meta if old else {}) | {"index": old.index() if old else []}
    index = list(chain.from_iterable(note["recordings"] for note in notes))
    left_out, same = settle_doubles(index, before["index"])
    known = {row["samples_sha256"] for row in before["index"]}
    shards = list(chain.from_iterable(without_left_out(note, stage) for note in notes))
    counts = {
        "dropped": summed(notes, "counts", before.get("dropped", {})),
        "repairs": summed(notes, "repairs", before.get("repairs", {})),
        "passed_over": summed(notes, "passed_over", before.get("passed_over", {})),
    }
    dropped = counts["dropped"]
    del dropped["kept"]
    dropped.update(left_out=sum(row["windows"] for row in left_out))
    left_out += refused_in(notes)
    if index and all(row.get("left_out") and row["samples_sha256"] in known for row in index):
        raise UserError(
            f"nothing to add: {len(index)} recordings, all in the store already (the same samples)"
        )
    if not shards:
        raise UserError(nothing_left(len(notes), dropped, left_out, settings.min_quality))
    splits = split.of({shard.subject for shard in shards}, same, before.get("splits", {}))
    leads = sort_leads(chain(before.get("leads", []), *(note["leads"] for note in notes)))
    meta = {
        "schema_version": SCHEMA_VERSION,
        "settings": {"split": split.shown, "min_quality": settings.min_quality, "seed": split.seed},
        "limits": limits_of(settings),
        "window": {"sfreq": SFREQ, "n_times": N_TIMES, "seconds": WINDOW_S},
        "recordings": len(notes) + before.get("recordings", 0),
        **counted([*(old.entries if old else []), *shards], splits),
        **{what: {name: n for name, n in found.items() if n} for what, found in counts.items()},
        "left_out": [*before.get("left_out", []), *left_out],
        **({"leads": leads} if leads else {}),
        **({"labels": before["labels"]} if "labels" in before else {}),
        "splits": {subject: splits[subject] for subject in sorted(splits)},
        "shards": [*before.get("shards", []), *(shard.as_json() for shard in shards)],
    }
    return meta, [*before["index"], *(row for row in index if row["windows"])]


def summed(notes, what, before):
    """Add up the counts of all notes, and of the store that is appended to."""
    return sum((Counter(note[what]) for note in notes), Counter(before))


def refused_in(notes):
    """Return the recordings that were refused or are out of step, with sources and reasons."""
    found = []
    for note in notes:
        found += [{"source": note["source"], "why": why} for why in note["refused"]]
    for note in notes:
        named = {"source": note["source"], "out_of_step": True}
        found += [named | {"why": why} for why in note["out_of_step"]]
    return found


def limits_of(settings):
    """Return the quality limits that windows had to meet; none where all windows were kept."""
    if settings.min_quality <= -1:
        return {}
    return {name: limit for name, (_, limit) in LIMITS.items()}


def counted(shards, splits):
    """Count windows and subjects of all shards."""
    windows = Counter()
    for shard in shards:
        windows[splits[shard.subject]] += shard.windows
    subjects = {shard.subject for shard in shards}
    return {
        "windows": sum(windows.values()),
        "windows_with_truth": sum(shard.with_truth or 0 for shard in shards),
        "windows_by_split": dict(windows),
        "subjects_by_split": dict(Counter(splits[subject] for subject in subjects)),
    }


def nothing_left(n_files, dropped, left_out, min_quality):
    """Explain in one line why no window is left."""
    reasons = [f"{n} {reason}" for reason, n in dropped.most_common() if n]
    whys = [row["why"] for row in left_out[:1]]
    line = f"no window of {n_files} recordings is left ({'; '.join([*reasons, *whys])})"
    if not BY_SHAPE & {reason for reason, n in dropped.items() if n} or min_quality <= -1:
        return f"{line}; --min-quality {min_quality:g}"
    return (
        f"{line}: beats within a window differ in shape, by noise, motion or rhythm, more than"
        f" --min-quality {min_quality:g} allows; a lower one keeps more windows, and -1 all that"
        " miss no sample"
    )


def without_left_out(note, stage):
    """Return the shards of a note without the recordings that are left out: a list of `Shard`. A
    changed shard is written under a new name.
    """
    shards = []
    for shard in parsed(note["shards"], list[Shard], stage):
        rows = [row for row in note["recordings"] if row["shard"] == shard.file]
        gone = [row["record"] for row in rows if row.get("left_out")]
        if len(gone) == len(rows):
            continue
        if gone:
            windows = read_shard(stage / shard.file, shard.sha256)
            windows = windows.select(~np.isin(windows.record, gone))
            shard = save_shard(stage, shard.file.rsplit("-", 1)[0], windows, shard.source)
        shards.append(shard)
        first = 0
        for row in rows:
            if not row.get("left_out"):
                row |= {"shard": shard.file, "row": first}
                first += row["windows"]
    for row in note["recordings"]:
        if row.get("left_out"):
            row |= {"windows": 0, "shard": ""}
    return shards


def refuse_foreign(out):
    """Raise a `UserError` if a folder holds files that belong to no store and to no unfinished
    one.
    """
    out = Path(out)
    foreign = out.is_file() or (
        out.is_dir() and any(not OURS.fullmatch(path.name) for path in out.iterdir())
    )
    if foreign and not (out / "store.json").is_file():
        raise UserError(
            f"{out}: exists and holds no store.json; it would be replaced, so name another folder"
        )


def publish(out, stage, meta, index):
    """Move the shards, the index and, last, store.json to their place.

    Files are named by their content, so none is overwritten: until store.json is replaced, in one
    step, the old store is what it was, and from then on it is the new one. What neither needs is
    cleared away.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in sorted(named_files(meta)):
            if (stage / name).is_file():
                bring(stage / name, out / name)
        meta["index"] = write_index(out, index)
        write_json(out / "store.json", meta)
        shutil.rmtree(out / "cache", ignore_errors=True)  # of a loader, of the windows that were
    finally:
        clear_away(out)


def bring(source, target):
    """Move a file to its place atomically, also from one disk to another."""
    try:
        os.replace(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with atomic_file(target) as temporary:
            shutil.copyfile(source, temporary)


def clear_away(out):
    """Remove files of ours in a folder that its store.json does not name."""
    named = set()
    if (out / STORE).is_file():
        named = named_files(checked_store(read_json(out / STORE), out))
    for path in out.glob("*"):
        if OURS.fullmatch(path.name) and path.name not in named:
            path.unlink(missing_ok=True)
    if out.is_dir() and not any(out.iterdir()):
        with suppress(OSError):  # where a disk is mounted
            out.rmdir()
