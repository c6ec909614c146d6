"""From recordings to a store of windows: every file is prepared by itself, then checked against the others, then split.

What is finished is kept in a hidden folder beside the store until all is done: a run that was killed goes on from there
when it is started again, and until the last moment the old store is untouched. The same function prepares a file on one
machine and on a Ray cluster.
"""

import hashlib
import os
import shutil
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import joblib
import numpy as np
from tqdm import tqdm

from xmae.data.bidmc import SHIPPED_SPLIT
from xmae.data.channels import ECG_NAMES, ChannelMap
from xmae.data.checks import fingerprint, refuse_swapped, repair_offset, settle_doubles
from xmae.data.inputs import draw_splits, find_recordings, read_shares, read_splits, read_subjects
from xmae.data.readers import read_recordings
from xmae.data.shard import read_shard, write_shard
from xmae.data.store import INDEX, SCHEMA_VERSION, WindowStore, write_index
from xmae.data.windowing import LIMITS, prepare_recording
from xmae.data.windows import Windows
from xmae.errors import UserError
from xmae.files import atomic_folder, read_json, sha256, write_json
from xmae.signals.window import N_TIMES, SFREQ, WINDOW_S

FILES_A_PROCESS = 200  # a new process costs about 3 s (imports), a recording of 8 minutes 0.06 s
SHARD_WINDOWS = 4096  # a shard is closed beyond this, so that memory stays bounded: about 40 MB
ENGINES = ("local", "ray")
RESULT = ("recordings", "windows", "dropped", "windows_by_split", "subjects_by_split", "repairs", "left_out")


@dataclass(frozen=True)
class Settings:
    """What shapes the windows of a file; the same settings and files give the same store."""

    min_quality: float
    leads: bool
    align: bool
    skip_bad: bool
    channel_map: ChannelMap
    people: dict


def prepare_file(path, number, stage, settings):
    """Prepare one file: write its shards and, last, a note that says what is in them; the note.

    Parameters
    ----------
    path : Path
        A recording, or several.
    number : int
        Its place among the files, which names the shards.
    stage : Path
        Folder for shards and note; a note that is there already is returned as it is.
    settings : Settings
        The same for all files.
    """
    written = stage / f"{number:05d}.json"
    if written.is_file():
        return read_json(written)
    shards, parts, recordings = [], [], []

    def close():
        if parts:
            names = sort_leads(name for part in parts for name in part.lead_names)
            windows = Windows.concatenate([part.with_leads(names) for part in parts])
            name = f"{number:05d}-{path.stem}{f'-{len(shards)}' if shards else ''}.parquet"
            write_shard(stage / name, windows)
            shards.append({"file": name, "subject": str(windows.subject[0]), "source": path.name,
                           "windows": len(windows), "sha256": sha256(stage / name)})  # fmt: skip
            parts.clear()

    note = {"source": path.name, "counts": {}, "repairs": {}, "leads": [], "refused": None}
    counts, repairs, leads = Counter(), Counter(), {}
    try:
        for recording in read_recordings(path, settings.channel_map):
            recording = known_person(recording, path, settings.people)
            refuse_swapped(recording)
            if settings.align:
                recording = repair_offset(recording)
            windows, verdicts = prepare_recording(recording, settings.min_quality, settings.leads)
            counts.update(verdicts)
            repairs.update(recording.repairs)
            leads |= dict.fromkeys(windows.lead_names)
            full = sum(map(len, parts)) >= SHARD_WINDOWS
            if parts and (full or parts[0].subject[0] != recording.subject):
                close()
            row = sum(map(len, parts))
            if len(windows):
                parts.append(windows)
            recordings.append({
                "subject": recording.subject, "record": recording.record, "source": path.name, "start": recording.start,
                "seconds": len(recording.ppg) / recording.sfreq, "windows": len(windows), "shard_number": len(shards),
                "row": row, "samples_sha256": fingerprint(recording),
            })  # fmt: skip
    except UserError as error:
        if not settings.skip_bad:
            raise
        note["refused"] = str(error)
    close()
    for row in recordings:
        row["shard"] = shards[row.pop("shard_number")]["file"] if row["windows"] else ""
    note |= {"shards": shards, "recordings": recordings, "counts": counts, "repairs": repairs, "leads": list(leads)}
    write_json(written, note)
    return note


def known_person(recording, path, people):
    """The recording with subject, age and sex from the user's table, where it names the record or the file."""
    person = people.get(recording.record, people.get(path.stem))
    if person is None:
        return recording
    labels = recording.labels | {key: person[key] for key in ("age", "sex") if key in person}
    repairs = [name for name in recording.repairs if name != "subject_from_file_name"]
    return replace(recording, subject=person["subject"], labels=labels, repairs=repairs)


def sort_leads(names):
    """Every lead once: those of the channel table in its order, then others, respiration last."""
    known = {name: place for place, name in enumerate((*ECG_NAMES, "", "RESP"))}
    return sorted(set(names), key=lambda name: (known.get(name, len(ECG_NAMES)), name))


@contextmanager
def staging(out, identity):
    """Yield the folder that keeps finished work; kept if the process is killed, removed if something is wrong.

    Work left by an earlier run is used only if that had the same `identity` (files and settings).
    """
    out = Path(out)
    if out.exists() and not (out / "store.json").is_file() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"{out}: exists and holds no store.json; it would be replaced, so name another folder")
    stage = out.parent / f".{out.name}.part"
    try:
        if not (stage / "identity").is_file() or (stage / "identity").read_text() != identity:
            shutil.rmtree(stage, ignore_errors=True)
            stage.mkdir(parents=True)
            (stage / "identity").write_text(identity)
        yield stage
    except OSError as error:
        shutil.rmtree(stage, ignore_errors=True)
        raise UserError(f"cannot write {out}: {error.strerror or error}") from error
    except Exception:
        shutil.rmtree(stage, ignore_errors=True)
        raise
    shutil.rmtree(stage, ignore_errors=True)


def identity_of(paths, settings, old):
    """Text that differs if any file, setting or the store to append to does."""
    files = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths if path.exists()]
    people = sorted((record, sorted(person.items())) for record, person in settings.people.items())
    shown = repr((files, replace(settings, people={}), people, old.meta["shards"] if old else None))
    return hashlib.sha256(shown.encode()).hexdigest()


def run_local(paths, first, stage, settings, jobs):
    """Yield the notes of all files in their order, prepared by processes of this machine."""
    n_jobs = min(jobs or min(os.cpu_count(), 1 + len(paths) // FILES_A_PROCESS), len(paths))
    one = joblib.delayed(prepare_file)
    work = (one(path, first + number, stage, settings) for number, path in enumerate(paths))
    yield from joblib.Parallel(n_jobs, return_as="generator")(work)


def prepare(
    inputs: list[str],
    out: str = "runs/store",
    split: str | None = None,
    min_quality: float = 0.9,
    seed: int = 77,
    jobs: int = 0,
    leads: bool = False,
    channels: str | None = None,
    sfreq: float | None = None,
    subjects: str | None = None,
    align: bool = False,
    skip_bad: bool = False,
    append: bool = False,
    engine: str = "local",
    address: str | None = None,
) -> dict:
    """Turn recordings into a store of windows for training and probing.

    Each recording is cleaned (as by NeuroKit2), judged beat by beat, resampled to 100 Hz and cut into windows of 10 s.

    Parameters
    ----------
    inputs : list of str
        Recordings (.npz, WFDB .hea, .csv, .parquet, .edf, PulseDB .mat, .h5, .vital, PPG-DaLiA or WESAD .pkl), folders
        to search for them, or "bidmc" for the shipped excerpt.
    out : str
        Folder of the store, replaced as a whole when all is done; or an fsspec URL such as s3://bucket/store.
    split : str or None
        Shares of train, val and test by subject, such as "0.7,0.1,0.2", or a CSV file with the columns subject,split.
        Default: the shipped split for "bidmc" alone, else 0.7,0.1,0.2.
    min_quality : float
        Lowest quality of PPG and of ECG for a window to be kept (template-match correlation, 15th percentile over the
        window, at most 1); windows that are clipped, flat for 1 s, drop out, move, or whose beats disagree are dropped
        too. -1 keeps all.
    seed : int
        Seed of a split by shares.
    jobs : int
        Processes; 0 = one for every 200 recordings, up to the number of cores.
    leads : bool
        Also store all ECG leads and respiration at 200 Hz (`Windows.leads`), for methods that learn from them.
    channels : str or None
        YAML file that says which channel is PPG, ECG and so on; default: by their names. See docs/data.md.
    sfreq : float or None
        Sampling rate of tables without times, Hz.
    subjects : str or None
        CSV file with the columns record,subject and optionally age,sex. Without it, formats that name no subject take
        each file as a person of their own, which store.json counts as a repair.
    align : bool
        Estimate a constant offset between the clocks of ECG and PPG, and correct it where that is certain enough.
    skip_bad : bool
        Leave out recordings that cannot be used, and say so in store.json, instead of stopping.
    append : bool
        Add to the store that is there: its shards stay as they are, known subjects keep their split, and new ones are
        split by `split`.
    engine : str
        "local", or "ray" for a Ray cluster, which must see the same files and the folder of `out`.
    address : str or None
        Address of the cluster; default: one on this machine.

    Returns
    -------
    dict
        Windows kept, dropped by reason, and by split; subjects by split; repairs; recordings left out; "out".

    Raises
    ------
    UserError
        If an input cannot be used, nothing is left, or `out` cannot be written; `out` is then as it was before.
    """
    if engine not in ENGINES:
        raise UserError(f"unknown engine '{engine}'; expected {' or '.join(ENGINES)}")
    channel_map = ChannelMap.load(channels) if channels else ChannelMap()
    channel_map = replace(channel_map, sfreq=sfreq) if sfreq is not None else channel_map
    paths = find_recordings(inputs, channel_map)
    split = split or (SHIPPED_SPLIT if list(inputs) == ["bidmc"] else "0.7,0.1,0.2")
    settings = Settings(min_quality, leads, align, skip_bad, channel_map, read_subjects(subjects) if subjects else {})
    run = Run(paths, settings, jobs, engine, address, split, seed)
    if "://" in str(out):
        from xmae.data.remote import prepare_remote

        return prepare_remote(out, append, lambda folder: run.into(folder, None))
    return run.into(Path(out), WindowStore(out) if append else None)


@dataclass
class Run:
    """One call of `prepare`: how files become notes, and notes a store."""

    paths: list
    settings: Settings
    jobs: int
    engine: str
    address: str | None
    split: str | Path
    seed: int

    def __post_init__(self):
        table = Path(self.split).suffix == ".csv"
        self.given, self.shares = (read_splits(self.split), None) if table else (None, read_shares(self.split))
        self.shown = Path(self.split).name if table else self.split

    def into(self, out, old):
        """Prepare all files into the folder `out`, beside what the store `old` has in it; the result of `prepare`."""
        first = 1 + max((int(shard["file"][:5]) for shard in old.meta["shards"]), default=-1) if old else 0
        with staging(out, identity_of(self.paths, self.settings, old)) as stage:
            if self.engine == "ray":
                from xmae.data.ray_engine import run_ray

                found = run_ray(prepare_file, self.paths, first, stage, self.settings, self.address)
            else:
                found = run_local(self.paths, first, stage, self.settings, self.jobs)
            notes = list(tqdm(found, "prepare", len(self.paths), unit="recording"))
            meta, index = self.assemble(stage, notes, old)
            publish(out, stage, meta, index, old)
        return {name: meta[name] for name in RESULT} | {"out": str(out)}

    def assemble(self, stage, notes, old):
        """Check the recordings against each other and split the subjects: `store.json` and the rows of the index."""
        before = (old.meta if old else {}) | {"index": old.index() if old else []}
        index = [row for note in notes for row in note["recordings"]]
        left_out, same = settle_doubles(index, before["index"])
        shards = [shard for note in notes for shard in drop_recordings(note, stage, left_out)]
        counts, repairs = (
            sum((Counter(note[what]) for note in notes), Counter(before.get(what, {})))
            for what in ("counts", "repairs")
        )
        for row in left_out:
            counts.update(kept=-row["windows"], left_out=row["windows"])
        left_out += [{"source": note["source"], "why": note["refused"]} for note in notes if note["refused"]]
        if not shards:
            why = f"; {left_out[0]['why']}" if left_out else ""
            raise UserError(
                f"no window of {len(notes)} recordings reaches the quality {self.settings.min_quality:g}{why}"
            )
        splits = self.splits({shard["subject"] for shard in shards}, same, before.get("splits", {}))
        shards = [*before.get("shards", []), *shards]
        kept = Counter()
        for shard in shards:
            kept[splits[shard["subject"]]] += shard["windows"]
        min_quality = self.settings.min_quality
        leads = sort_leads(chain(before.get("leads", []), *(note["leads"] for note in notes)))
        meta = {
            "schema_version": SCHEMA_VERSION,
            "settings": {"split": self.shown, "min_quality": min_quality, "seed": self.seed},
            "limits": {name: limit for name, (_, limit) in LIMITS.items()} if min_quality > -1 else {},
            "window": {"sfreq": SFREQ, "n_times": N_TIMES, "seconds": WINDOW_S},
            "recordings": len(notes) + before.get("recordings", 0),
            "windows": counts["kept"],
            "dropped": {reason: n for reason, n in counts.items() if reason != "kept" and n},
            "windows_by_split": dict(kept),
            "subjects_by_split": dict(Counter(splits[subject] for subject in {shard["subject"] for shard in shards})),
            "repairs": dict(repairs),
            "left_out": [*before.get("left_out", []), *left_out],
            "counts": dict(counts),
            **({"leads": leads} if leads else {}),
            **({"labels": before["labels"]} if "labels" in before else {}),
            "splits": {subject: splits[subject] for subject in sorted(splits)},
            "shards": shards,
        }
        return meta, [*before["index"], *(row for row in index if row["windows"])]

    def splits(self, subjects, same, before):
        """Split of each subject: as before, as given, or drawn; people with two names go into one part."""
        fresh = sorted(subjects - before.keys())
        if self.given is not None:
            if unknown := [subject for subject in fresh if subject not in self.given]:
                raise UserError(f"{self.shown}: names no split for {', '.join(unknown)}")
            splits = before | {subject: self.given[subject] for subject in fresh}
            for name, first in same.items():
                if splits.get(name, splits.get(first)) != splits.get(first, splits.get(name)):
                    raise UserError(f"{self.shown}: {name} and {first} are one person, but in different splits")
            return splits
        people = {same.get(subject, subject) for subject in fresh} - before.keys()
        drawn = before | (draw_splits(people, self.shares, self.seed) if people else {})
        return before | {subject: drawn[same.get(subject, subject)] for subject in fresh}


def drop_recordings(note, stage, left_out):
    """The shards of a note without the recordings that are left out, which are taken out of their shards."""
    unwanted = {(row["source"], row["record"]) for row in left_out}
    gone = [row for row in note["recordings"] if (row["source"], row["record"]) in unwanted and row["windows"]]
    for shard in note["shards"]:
        records = [row["record"] for row in gone if row["shard"] == shard["file"]]
        if records:
            windows = read_shard(stage / shard["file"], shard["sha256"])
            windows = windows.select(~np.isin(windows.record, records))
            shard["windows"] = len(windows)
            write_shard(stage / shard["file"], windows)
            shard["sha256"] = sha256(stage / shard["file"])
    for row in gone:
        row |= {"windows": 0, "shard": ""}
    row = Counter()
    for recording in note["recordings"]:
        recording["row"] = row[recording["shard"]]
        row[recording["shard"]] += recording["windows"]
    return [shard for shard in note["shards"] if shard["windows"]]


def publish(out, stage, meta, index, old):
    """Bring shards, index and, last, store.json to their place; up to the last step the old store is what it was."""
    new = [shard["file"] for shard in meta["shards"] if (stage / shard["file"]).is_file()]
    if old is None:
        with atomic_folder(out, "store.json") as folder:
            for file in new:
                os.rename(stage / file, folder / file)
            meta["index"] = write_index(folder, index)
            write_json(folder / "store.json", meta)
        return
    for file in new:
        os.replace(stage / file, out / file)
    meta["index"] = write_index(out, index)
    write_json(out / "store.json", meta)
    for path in out.glob(f"{INDEX}-*.parquet"):
        if path.name != meta["index"]["file"]:
            path.unlink(missing_ok=True)
