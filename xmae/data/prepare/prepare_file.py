"""One file of recordings in, shards and a note out: the work that every engine runs, each file by
itself.
"""

import re
from collections import Counter
from dataclasses import asdict, dataclass, replace
from itertools import chain

import numpy as np

from xmae import progress
from xmae.data.prepare.windowing import prepare_recording
from xmae.data.recording.channels import ECG_NAMES, ChannelMap
from xmae.data.recording.checks import fingerprint, upright
from xmae.data.recording.clocks import OutOfStep, settle_clocks
from xmae.data.recording.readers import read_each
from xmae.data.recording.readers.formats import reader_of
from xmae.data.recording.recording import PassedOver
from xmae.data.store.schema import Note, Shard
from xmae.data.store.shard import write_named, write_shard
from xmae.data.store.windows import Windows
from xmae.errors import UserError
from xmae.files import write_json
from xmae.manifest import parsed, read_manifest
from xmae.text import composed

SHARD_WINDOWS = 4096  # a shard is closed beyond this, so that memory stays bounded: about 40 MB
LARGE_BYTES, LONG_H = 50e6, 1.0  # of a file and a recording, above which a line says what is done


@dataclass(frozen=True)
class Settings:
    """Settings that shape the windows of a file; the same settings and files give the same
    store.
    """

    min_quality: float
    leads: bool
    align: bool
    skip_bad: bool
    channel_map: ChannelMap
    people: dict  # record or file -> subject, age, sex
    names: dict  # file -> its name, where its stem is not the only one
    polarity: str = "auto"  # see `xmae.data.recording.checks.upright`


def prepare_file(path, number, stage, settings):
    """Prepare one file: write its shards and, last, a note on their content; return the note.

    Parameters
    ----------
    path : Path
        A recording, or several.
    number : int
        Its place among the files, which names the shards.
    stage : Path
        Folder for shards and note; a note that is there already is returned as it is, if it is of
        this state of the file, nothing was refused, and its shards are there too.
    settings : Settings
        The same for all files.
    """
    written, state = stage / f"{number:05d}.json", state_of(path)  # before it is read
    if note := earlier_note(written, state):
        return note
    name = composed(settings.names.get(path, path.stem))
    if path.is_file() and (size := path.stat().st_size) > LARGE_BYTES:
        progress.stage(f"reading {path.name}, {size / 1e6:.0f} MB")
    shards, parts, recordings, refused, out_of_step = [], [], [], [], []

    def close():
        if parts:
            leads = sort_leads(chain.from_iterable(part.lead_names for part in parts))
            windows = Windows.concatenate([part.with_leads(leads) for part in parts])
            shards.append(save_shard(stage, f"{number:05d}-{name}", windows, path.name))
            parts.clear()

    counts, repairs, passed_over, leads = Counter(), Counter(), Counter(), {}
    recordings_read = to_the_end(read_each(path, settings.channel_map))
    prepared = each_prepared(
        recordings_read, path, name, settings, passed_over, out_of_step, refused
    )
    for recording, windows, verdicts in prepared:
        counts.update(verdicts)
        repairs.update(recording.repairs)
        leads |= dict.fromkeys(windows.lead_names)
        full = sum(map(len, parts)) >= SHARD_WINDOWS
        if parts and (full or parts[0].subject[0] != recording.subject):
            close()
        place = {"shard": len(shards), "row": sum(map(len, parts))}
        recordings.append(row_of(recording, path, len(windows)) | place)
        if len(windows):
            parts.append(windows)
    close()
    for row in recordings:
        row["shard"] = shards[row["shard"]].file if row["windows"] else ""
    note = {
        "of": state, "source": path.name, "counts": counts, "repairs": repairs,
        "passed_over": passed_over, "leads": list(leads), "refused": refused,
        "out_of_step": out_of_step, "shards": [shard.as_json() for shard in shards],
        "recordings": recordings,
    }  # fmt: skip
    write_json(written, note)
    return note


def row_of(recording, path, n_windows):
    """Return a recording's row in the index, without the place of its windows."""
    return {
        "subject": recording.subject, "record": recording.record, "source": path.name,
        "start": recording.start, "seconds": len(recording.ppg) / recording.sfreq,
        "windows": n_windows, "samples_sha256": fingerprint(recording),
    } | clock_columns(recording.clocks)  # fmt: skip


def each_prepared(recordings, path, name, settings, passed_over, out_of_step, refused):
    """Yield the recording, windows and verdicts of each recording in a file that has windows.

    What is said of the others goes into `passed_over` (a counter of rules), `out_of_step` and
    `refused` (lists of sentences).
    """
    for recording in recordings:
        try:
            yield windows_of(recording, path, name, settings)
        except PassedOver as part:
            passed_over[part.rule] += 1
        except OutOfStep as error:  # whatever skip_bad says: the rest is as good as before
            out_of_step.append(str(error))
        except UserError as error:
            if not settings.skip_bad:
                raise
            refused.append(str(error))


def earlier_note(written, state):
    """Return the note of an earlier run if the file is unchanged and all shards exist; a damaged
    note counts as none.
    """
    if not written.is_file():
        return None
    try:
        note = read_manifest(written, Note)
    except UserError:
        return None
    shards = parsed(note["shards"], list[Shard], written)
    there = all((written.parent / shard.file).is_file() for shard in shards)
    return note if there and note["of"] == state and not note["refused"] else None


def state_of(path):
    """Return what changes with a file, or with one that it names: size and time of each."""
    files = [path]
    if path.is_file() and hasattr(reader_of(path), "files_of"):
        files = reader_of(path).files_of(path)
    return [
        [str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files if file.exists()
    ]


def to_the_end(recordings):
    """Yield from `read_each`; if it ends with a `UserError`, yield that last."""
    try:
        yield from recordings
    except UserError as error:
        yield error


def windows_of(recording, path, name, settings):
    """Return the recording after repairs, its windows, and the verdicts on them; raises `recording`
    if it is a `UserError`.
    """
    if isinstance(recording, UserError):
        raise recording
    if (hours := len(recording.ppg) / recording.sfreq / 3600) > LONG_H:
        progress.stage(f"beats and quality of {recording.record}, {hours:.1f} h")
    recording = known_person(named_apart(recording, path, name), name, settings.people)
    recording = upright(recording, settings.polarity)
    if settings.align or recording.own_clocks:
        recording = settle_clocks(recording)
    return recording, *prepare_recording(recording, settings.min_quality, settings.leads)


def clock_columns(note):
    """Return the columns of the index on a recording's clocks; `note` is a `ClockNote` or None."""
    if note is None:
        return {}
    return {
        f"clock_{name}": None if value != value else value for name, value in asdict(note).items()
    }


def save_shard(folder, name, windows, source):
    """Write the windows of one subject, prepared from the file `source`: a `Shard`."""
    plain = re.sub(r"[^\w.-]+", "_", name)[:80]
    written = write_named(folder, plain, lambda path: write_shard(path, windows))
    known = int(np.isfinite(windows.labels["hr_ecg"]).sum())
    subject = str(windows.subject[0])
    counts = {"windows": len(windows), "with_truth": known}
    return parsed(written | {"subject": subject, "source": source} | counts, Shard, source)


def unique_names(paths):
    """Return names for files with equal stems: the stem with as many parent folders as are needed
    to tell them apart.

    Examples
    --------
    >>> unique_names([Path("a/1/ecg.csv"), Path("b/1/ecg.csv"), Path("c/2/ppg.csv")])
    {PosixPath('a/1/ecg.csv'): 'a-1-ecg', PosixPath('b/1/ecg.csv'): 'b-1-ecg'}
    """
    stems = Counter(path.stem for path in paths)
    names, depth = {}, 1
    alike = [path for path in paths if stems[path.stem] > 1]
    while alike:
        depth += 1
        names |= {path: "-".join([*path.parts[-depth:-1], path.stem]) for path in alike}
        seen = Counter(names[path] for path in alike)
        alike = [path for path in alike if seen[names[path]] > 1 and depth < len(path.parts)]
    return names


def named_apart(recording, path, name):
    """Return the recording under the file's unique name, if its names came from the file name."""
    stem = composed(path.stem)
    if name == stem or not recording.record.startswith(stem):
        return recording
    own = "subject_from_file_name" in recording.repairs and recording.subject == stem
    record = name + recording.record.removeprefix(stem)
    return replace(recording, record=record, subject=name if own else recording.subject)


def known_person(recording, name, people):
    """Return the recording with subject, age and sex from the user's table, if that lists the
    record or the file.
    """
    person = people.get(recording.record, people.get(name))
    if person is None:
        return recording
    labels = recording.labels | {key: person[key] for key in ("age", "sex") if key in person}
    repairs = [rule for rule in recording.repairs if rule != "subject_from_file_name"]
    return replace(recording, subject=person["subject"], labels=labels, repairs=repairs)


def sort_leads(names):
    """Sort leads, each once: those of the channel table in its order, then others, respiration
    last.
    """
    known = {name: place for place, name in enumerate((*ECG_NAMES, "", "RESP"))}
    return sorted(set(names), key=lambda name: (known.get(name, len(ECG_NAMES)), name))
