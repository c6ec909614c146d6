"""From recordings to a store of windows: every file is prepared by itself, then checked against the
others, then split.

What is finished is kept in a hidden folder beside the store until all is done: a run that was
killed goes on from there when it is started again, and until the last moment the old store is
untouched. The same function prepares a file on one machine and on a Ray cluster.
"""

import hashlib
import os
import re
import shutil
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import joblib
from tqdm import tqdm

from xmae.data.bidmc import SHIPPED_SPLIT
from xmae.data.prepare.assemble import assemble, publish, refuse_foreign
from xmae.data.prepare.inputs import Split, find_recordings, read_subjects
from xmae.data.prepare.prepare_file import Settings, prepare_file, unique_names
from xmae.data.prepare.windowing import prepare_recording
from xmae.data.recording.channels import ChannelMap
from xmae.data.store.remote import publish_remote, read_remote_store, stage_of
from xmae.data.store.store import SCHEMA_VERSION, WindowStore, write_index
from xmae.errors import UserError, require_choice
from xmae.ownership import owned
from xmae.signals.polarity import POLARITIES
from xmae.version import __version__

__all__ = ["prepare", "prepare_recording"]

FILES_A_PROCESS = 200  # a new process costs about 3 s (imports), a recording of 8 minutes 0.06 s
ENGINES = ("local", "ray")
SHARES = "0.7,0.1,0.2"
RESULT = (
    "recordings",
    "windows",
    "windows_with_truth",
    "dropped",
    "windows_by_split",
    "subjects_by_split",
    "repairs",
    "left_out",
    "passed_over",
)


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
    polarity: str = "auto",
    skip_bad: bool = False,
    append: bool = False,
    engine: str = "local",
    address: str | None = None,
) -> dict:
    """Turn recordings into a store of windows for training and probing.

    Each recording is cleaned (as by NeuroKit2), judged beat by beat, resampled to 100 Hz and cut
    into windows of 10 s.

    Parameters
    ----------
    inputs : list of str
        Recordings (.npz, WFDB .hea, .csv, .txt, .parquet, .edf, .mat of PulseDB, IEEE SPC or BAMI,
        .h5, .vital, .pkl of PPG-DaLiA or WESAD, .avro, .acq), session manifests (.yaml) that join
        files of several devices, folders to search for them, or "bidmc" for the shipped excerpt.
    out : str
        Folder of the store, replaced as a whole when all is done; or an fsspec URL such as
        s3://bucket/store.
    split : str or None
        Shares of train, val and test by subject, such as "0.7,0.1,0.2", or a CSV file with the
        columns subject,split. Default: the shipped split for "bidmc" alone, else 0.7,0.1,0.2; one
        or two people then all go into train.
    min_quality : float
        Lowest quality of PPG and of ECG for a window to be kept (template-match correlation, 15th
        percentile over the window, at most 1); windows that are clipped, flat for 1 s, drop out,
        move, or whose beats disagree are dropped too. -1 keeps all.
    seed : int
        Seed of a split by shares.
    jobs : int
        Processes; 0 = one for every 200 recordings, up to the number of cores.
    leads : bool
        Also store all ECG leads and respiration at 200 Hz (`Windows.leads`), for methods that learn
        from them.
    channels : str or None
        YAML file that says which channel is PPG, ECG and so on; default: by their names. See
        docs/data.md.
    sfreq : float or None
        Sampling rate of tables without times, Hz.
    subjects : str or None
        CSV file with the columns record,subject and optionally age,sex. Without it, formats that
        name no subject take each file as a person of their own, which store.json counts as a
        repair.
    align : bool
        Check the clocks of ECG and PPG by their beats: correct offset and drift where they are
        certain, and leave the recording out where they are not. Sessions with several clocks are
        always checked.
    polarity : str
        "auto" turns a PPG over where it is certain that its pulses fall at systole, as in raw
        counts of reflected light, and counts it as a repair; "upright" takes it as it is;
        "inverted" turns all over.
    skip_bad : bool
        Leave out recordings that cannot be used, each by itself, and say so in store.json, instead
        of stopping.
    append : bool
        Add to the store that is there: its shards stay as they are, known subjects keep their
        split, and new ones are split by `split`.
    engine : str
        "local", or "ray" for a Ray cluster, which must see the same files and the folder of `out`;
        with a URL, the folder that keeps finished work, $XDG_CACHE_HOME/xmae/prepare.
    address : str or None
        Address of the cluster; default: one on this machine.

    Returns
    -------
    dict
        Windows kept, dropped by reason, and by split; subjects by split; repairs; recordings left
        out; what was passed over: files without PPG in folders, by suffix, and segments of files;
        "out".

    Raises
    ------
    UserError
        If an input cannot be used, nothing is left, or `out` cannot be written; `out` is then as it
        was before, and the files that were done are kept beside it for the next try.
    """
    require_choice("engine", engine, ENGINES)
    require_choice("--polarity", polarity, POLARITIES)
    channel_map = ChannelMap.load(channels, sfreq)
    paths, passed_over = find_recordings(inputs, channel_map)
    people = read_subjects(subjects) if subjects else {}
    settings = Settings(
        min_quality, leads, align, skip_bad, channel_map, people, unique_names(paths), polarity
    )
    rule = Split.read(split or (SHIPPED_SPLIT if list(inputs) == ["bidmc"] else SHARES), seed)
    rule = replace(rule, asked=split is not None)

    remote = "://" in str(out)
    folder = stage_of(out) if remote else Path(out).resolve()  # a link may lead to another disk
    with owned(folder, out):
        old = WindowStore(out) if append else None
        found = old.meta if old else read_remote_store(out) if remote else None
        first = next_number(old)
        with staging(folder, identity_of(paths, settings, old)) as stage:
            if engine == "ray":
                from xmae.data.prepare.ray import run_ray

                done = run_ray(prepare_file, paths, first, stage, settings, address)
            else:
                done = run_local(paths, first, stage, settings, jobs)
            notes = list(tqdm(done, "prepare", len(paths), unit="recording"))
            meta, index = assemble(notes, stage, old, settings, rule)
            meta["passed_over"] = dict(Counter(meta["passed_over"]) + Counter(passed_over))
            if remote:
                meta["index"] = write_index(stage, index)
                publish_remote(out, stage, meta, found)
            else:
                publish(folder, stage, meta, index)
    return {name: meta[name] for name in RESULT} | {"summary": summary_of(meta), "out": str(out)}


def next_number(old):
    """Return the number of the next file of recordings in a store; shards are named by it."""
    before = [-1]
    for shard in old.entries if old else ():
        number = shard.file.split("-")[0]
        if not re.fullmatch(r"[0-9]{1,9}", number):
            raise UserError(f"{old.path}: {shard.file} is no name of a shard; prepare it again")
        before.append(int(number))
    return 1 + max(before)


def summary_of(meta):
    """Summarise the content of a store in a few lines."""
    by_split = ", ".join(f"{n} {split}" for split, n in meta["windows_by_split"].items())
    lines = [
        *not_in_step(meta),
        f"{meta['windows']} windows of {len(meta['splits'])} subjects: {by_split}",
        f"heart rate known from the ECG in {meta['windows_with_truth']} of them",
    ]
    if set(meta["splits"].values()) == {"train"}:
        lines.append("all subjects are in train: nothing to validate or score on (--split)")
    counted = [
        f"{what.replace('_', ' ')}: {', '.join(f'{n} {why}' for why, n in meta[what].items())}"
        for what in ("dropped", "repairs", "passed_over")
        if meta[what]
    ]
    lines += ["; ".join(counted)] if counted else []
    dropped = sum(meta["dropped"].values())
    if dropped > meta["windows"]:
        lines.append(
            f"warning: more windows dropped ({dropped}) than kept; xmae data report shows why"
        )
    if left_out := meta["left_out"]:
        more = f" (and {len(left_out) - 1} more; see store.json)" if len(left_out) > 1 else ""
        lines.append(f"left out: {left_out[0]['source']}: {left_out[0]['why']}{more}")
    return lines


def not_in_step(meta):
    """Return a line with the number of recordings left out because their clocks are uncertain; none
    if there is none.
    """
    count = sum(row.get("out_of_step", False) for row in meta["left_out"])
    if not count:
        return []
    return [f"NOT IN STEP: {count} recordings left out, as ECG and PPG have no certain clocks"]


@contextmanager
def staging(out, identity):
    """Yield the folder that keeps finished work until all is done, so that a next try can use it.

    Work left by an earlier run is used only if that had the same `identity` (files and settings); a
    mended file is prepared again.
    """
    refuse_foreign(out)
    stage = out.parent / f".{out.name}.part"
    try:
        if not (stage / "identity").is_file() or (stage / "identity").read_text() != identity:
            shutil.rmtree(stage, ignore_errors=True)
            stage.mkdir(parents=True)
            (stage / "identity").write_text(identity)
        yield stage
        shutil.rmtree(stage, ignore_errors=True)
    except (UserError, OSError) as error:
        what = (
            error
            if isinstance(error, UserError)
            else f"cannot write {out}: {error.strerror or error}"
        )
        kept = (
            f"; finished recordings are kept for the next try ({stage.name})"
            if any(stage.glob("*.json"))
            else ""
        )
        raise UserError(f"{what}{kept}") from error
    finally:
        if not any(stage.glob("*.json")):  # no file is done
            shutil.rmtree(stage, ignore_errors=True)


def identity_of(paths, settings, old):
    """Return a digest of everything that shapes the result: file names, settings, the store to
    append to, and versions.
    """
    people = sorted((record, sorted(person.items())) for record, person in settings.people.items())
    plain = replace(settings, people={}, skip_bad=False)
    versions = (__version__, SCHEMA_VERSION)
    shown = repr(
        (
            versions,
            [str(path) for path in paths],
            plain,
            people,
            old.meta["shards"] if old else None,
        )
    )
    return hashlib.sha256(shown.encode()).hexdigest()


def run_local(paths, first, stage, settings, jobs):
    """Yield the notes of all files in their order, prepared by processes on this machine."""
    n_jobs = min(jobs or min(os.cpu_count(), 1 + len(paths) // FILES_A_PROCESS), len(paths))
    one = joblib.delayed(prepare_file)
    work = (one(path, first + number, stage, settings) for number, path in enumerate(paths))
    yield from joblib.Parallel(n_jobs, return_as="generator")(work)
