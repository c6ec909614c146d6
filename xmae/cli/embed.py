"""`xmae embed`: a file of recordings in, an embedding for each 10 s out, and what the linear heads
say about it.
"""

import csv
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from xmae.beats.certainty import Certainty, answered, table_of_name
from xmae.beats.intervals import irregularity, sure_intervals, variability
from xmae.beats.reading import Reading
from xmae.data.prepare.windowing import LIMITS, prepare_recording
from xmae.data.recording.channels import ChannelMap
from xmae.data.recording.checks import upright
from xmae.data.recording.readers import read_recordings
from xmae.data.store.windows import Windows
from xmae.errors import UserError, require_choice
from xmae.export.targets.light import is_light
from xmae.files import atomic_file
from xmae.signals.scale import minmax_scale
from xmae.text import cell

CLEAR = 0.8  # quality below which beats differ in shape: noise, motion, ectopic beats
TOLD = {  # repairs that change what an embedding means
    "inverted_ppg": (
        "the pulses fell at systole, so the PPG was turned over (--polarity upright: as it is)"
    ),
    "polarity_unclear": "whether pulses rise or fall at systole is not clear; --polarity says it",
    "no_value": "samples that say 'no value' (such as 0 or -1) were taken as missing",
    "ecg_unit": "the stated unit of the ECG was wrong",
}
WEAK = 0.9  # skill below which a head's error is above a third of how much people differ
BY_BEATS = "; base and the students that read beats, as beats-mcu, read it off the beats"
NOT_CALIBRATED = "its certainty was calibrated on nobody, so every heart rate is given"
# of a bundle; first: default
TARGETS = ("litert", "executorch", "onnx")
PRECISIONS = ("int8", "fp32")


@dataclass(frozen=True)
class Answer:
    """What a model says about n windows.

    Parameters
    ----------
    embedding : float array, shape (n, D)
    heads : dict of str to Head
        By task, those with skill.
    without : list of str
        Labels of the tasks without a head.
    notes : list of str
        For the terminal.
    reading : Reading, optional
        Beats, of a model that finds them.
    table : Certainty, optional
        Certainty table of the model: from which certainty a heart rate is given.
    """

    embedding: np.ndarray
    heads: dict
    without: list
    notes: list
    reading: Reading | None = None
    table: Certainty | None = None


def embed(
    file: str,
    out: str = "runs/embed",
    model: str = "base",
    target: str | None = None,
    precision: str | None = None,
    part: str | None = None,
    sfreq: float | None = None,
    channels: str | None = None,
    public_key: str | None = None,
    polarity: str = "auto",
) -> dict:
    """Embed the PPG of a file, window by window.

    Parameters
    ----------
    file : str
        A recording, or a file with several, of any format that `xmae prepare` reads.
    out : str
        Folder for embeddings.csv: record, start (s), quality, heads (hr in bpm ...), then the
        embedding, a row per 10 s window. Models that find beats give hr, certainty, the number of
        beats, RMSSD and SDNN (ms) and the rhythm's irregularity (0 = regular) there, and one row
        per beat in beats.csv.
    model : str
        A shipped encoder ("base", "student-mcu", "student-mcu-s", "student-app",
        "beats-mcu-s", "beats-mcu", "beats-app"), a safetensors file, or the folder of a bundle.
    target : str or None
        Runtime for a bundle: "litert" (the default), "executorch" or "onnx". Other models run in
        PyTorch.
    precision : str or None
        Precision for a bundle: "int8" (the default) or "fp32".
    part : str or None
        Model of a bundle: "student" (the default), "teacher", or a further student, such as
        "student-app".
    sfreq : float or None
        Sampling rate of a .csv file without a time column, Hz.
    channels : str or None
        YAML file that names columns, rates and units, where their names do not; see docs/data.md.
    public_key : str or None
        PEM file of the Ed25519 key that must have signed a bundle; see docs/bundle.md.
    polarity : str
        "auto" turns a PPG over where it is certain that its pulses fall at systole, as in raw
        counts of reflected light, and says so; "upright" takes it as it is; "inverted" turns it
        over.

    Returns
    -------
    dict
        `windows` embedded, `repairs` by rule, `dropped` for missing samples, a flat signal or a
        flat line of over 1 s, median of each head and of what beats say, `without_skill` (heads
        left out, since on subjects left out of their training they say no more than a constant),
        "out".

    Raises
    ------
    UserError
        If recording, model or bundle cannot be used, or no window is left.
    """
    of_bundle = {
        "target": target,
        "precision": precision,
        "part": part,
        "public_key": public_key,
    }
    is_bundle = (Path(model) / "manifest.json").is_file()
    check_settings(model, is_bundle, of_bundle)
    recordings = list(read_recordings(file, ChannelMap.load(channels, sfreq)))
    windows, counts, repairs = usable_windows(recordings, file, polarity)
    answer = (answer_of_bundle if is_bundle else answer_of_weights)(model, windows, **of_bundle)
    said = {task: head.apply(answer.embedding) for task, head in answer.heads.items()}
    notes, beats = list(answer.notes), Path(out) / "beats.csv"
    if answer.reading is not None:
        said |= columns_of_beats(answer)
        write_beats(beats, windows, answer.reading)
        notes.insert(0, line_of_beats(said["hr"], answer.reading))
    columns = {
        "record": windows.record,
        "start_s": windows.start_s,
        "ppg_quality": windows.ppg_quality,
        **said,
    }
    path = Path(out) / "embeddings.csv"
    write_table(path, columns, answer.embedding)
    if answer.reading is None:
        beats.unlink(missing_ok=True)  # of an older run
    medians = {task: median_of(x) for task, x in said.items() if np.isfinite(x).any()}
    return {
        "windows": len(windows),
        "dropped": counts,
        "repairs": repairs,
        "median": medians,
        "without_skill": answer.without,
        "summary": [
            *summary_of(windows, counts, repairs, recordings),
            *lines_of_heads(answer.heads, medians, answer.without),
            *notes,
        ],
        "out": str(path),
    }


def check_settings(model, is_bundle, of_bundle):
    """Raise a `UserError` if a setting is unknown, or is for bundles and the model is not one."""
    require_choice("--target", of_bundle["target"] or TARGETS[0], TARGETS)
    require_choice("--precision", of_bundle["precision"] or PRECISIONS[0], PRECISIONS)
    for name, value in of_bundle.items():
        if value is not None and not is_bundle:
            raise UserError(
                f"--{name.replace('_', '-')} {value}: {model} is no bundle; give the folder of one "
                "as --model, or leave it out"
            )


def answer_of_bundle(model, windows, target, precision, part, public_key):
    """Embed windows with a file of a bundle: `Answer`."""
    from xmae.export.bundle.beat_rows import read_rows
    from xmae.export.bundle.bundle import Bundle

    bundle, part = Bundle.open(model, public_key), part or "student"
    entry = bundle.entry(part, target or TARGETS[0], precision or PRECISIONS[0])
    session, ppg = bundle.session(entry), minmax_scale(windows.ppg)[0].astype(np.float32)
    heads, without = bundle.trusted_heads(part), bundle.at_chance(part)
    notes = [str(bundle.verdict)]
    if not bundle.reads_beats(part):
        return Answer(session(ppg), heads, without, notes)
    rows = session.rows(ppg)
    reading = read_rows(rows, session.width, entry.output)
    embedding, table = rows[:, : session.width], bundle.certainty(part)
    return Answer(embedding, heads, without, notes, reading, table)


def answer_of_weights(model, windows, **_):
    """Embed windows with weights in PyTorch: `Answer`."""
    if is_light():
        raise UserError(
            f"{model}: weights need PyTorch; give the folder of a bundle, or xmae[train]"
        )
    from xmae.evaluation.heads.embedding import embed_windows
    from xmae.evaluation.heads.heads import heads_of
    from xmae.models.checkpoint import load_encoder

    encoder = load_encoder(model)
    embedding, brought = embed_windows(encoder, windows), heads_of(model)
    heads = {task: head for task, head in brought.items() if head.has_skill}
    without = [head.label for task, head in brought.items() if task not in heads]
    if not hasattr(encoder, "read_windows"):
        return Answer(embedding, heads, without, [])
    reading, table = encoder.read_windows(windows.ppg), table_of_weights(model, encoder)
    notes = [NOT_CALIBRATED] if table is None else []
    return Answer(embedding, heads, without, notes, reading, table)


def table_of_weights(model, encoder):
    """Return the certainty table of a shipped encoder, or of one whose timing is a shipped
    student's; None otherwise.
    """
    from xmae.export.bundle.beat_rows import certainty_of
    from xmae.models.beat_student import BeatStudent

    if isinstance(encoder, BeatStudent):
        return certainty_of(encoder, None)[0]
    return table_of_name(model)


def columns_of_beats(answer):
    """Return the columns on the beats of each window: heart rate (bpm) where it is certain enough,
    certainty (0 to 1), number of beats, RMSSD and SDNN (ms) of the certain intervals, and
    irregularity (mean change of neighbouring intervals over their mean).
    """
    reading, n = answer.reading, len(answer.embedding)
    found = variability(reading.time, reading.window, n, reading.confidence)
    return {
        "hr": answered(reading, answer.table),
        "certainty": reading.certainty.round(3),
        "n_beats": np.bincount(reading.window, minlength=n),
        "rmssd": found["rmssd"].round(1),
        "sdnn": found["sdnn"].round(1),
        "irregularity": irregularity(reading.time, reading.window, n).round(3),
    }


def write_beats(path, windows, reading):
    """Write one row per beat: record, time from the record's start (s), interval since the previous
    beat (s; none at the first beat of a window, or at a doubtful one), confidence (0 to 1).
    """
    columns = {
        "record": windows.record[reading.window],
        "time_s": (windows.start_s[reading.window] + reading.time).round(4),
        "interval_s": sure_intervals(reading).round(4),
        "confidence": reading.confidence.round(3),
    }
    write_table(path, columns, np.zeros((len(reading.time), 0)))


def line_of_beats(rate, reading):
    """Return a line with the heart rate from beats, and the number of windows that have one."""
    known = np.isfinite(rate)
    said = f"median {median_of(rate):.1f} bpm, " if known.any() else ""
    return (
        f"Heart rate of the beats: {said}given in {known.sum()} of {len(rate)} windows; "
        f"{len(reading.time)} beats in beats.csv"
    )


def median_of(values):
    """Return the median of the known values: a float."""
    return float(np.median(values[np.isfinite(values)]))


def lines_of_heads(heads, medians, without):
    """Return one line per head, and one on the tasks without a head."""
    lines = [line_of_head(task, head, medians[task]) for task, head in heads.items()]
    if without:
        labels = ", ".join(without)
        lines.append(f"no better than a constant on other subjects, so left out: {labels}")
    return lines


def line_of_head(task, head, median):
    """Return a line with a head's median answer, and a warning if it explains too little."""
    line = f"{head.label}: median {median:.1f} {head.units}".rstrip()
    if head.skill is None or head.skill >= WEAK:
        return line
    hint = BY_BEATS if task == "hr" else ""
    return (
        f"warning: {line}, a rough guess: on other subjects the head explains"
        f" {head.skill:.0%} of a constant's loss{hint}"
    )


def usable_windows(recordings, file, polarity):
    """Return the windows of all recordings with a signal, the number of dropped windows by reason,
    and of repairs by rule.
    """
    found, counts, repairs = [], Counter(), Counter()
    for recording in recordings:
        recording = upright(recording, polarity)
        windows, counted = prepare_recording(
            replace(recording, ecg=None), min_quality=-1, judge=not is_light()
        )
        moves = windows.measures["flat_line"] <= LIMITS["flat_line"][1]
        found.append(windows.select(moves))
        counts.update(counted | {"flat_line": int((~moves).sum())})
        repairs.update(recording.repairs)
    if not sum(map(len, found)):
        raise UserError(f"{file}: no window of 10 s without missing or flat stretches")
    dropped = {reason: n for reason, n in counts.items() if n and reason != "kept"}
    return Windows.concatenate([w for w in found if len(w)]), dropped, dict(repairs)


def summary_of(windows, dropped, repairs, recordings):
    """Summarise the result in two or three lines: what came out, and whether it is good."""
    lost = ", ".join(f"{n} {reason}" for reason, n in dropped.items())
    rates = sorted({f"{recording.sfreq:g}" for recording in recordings}, key=float)
    lines = [
        f"{len(windows)} windows of 10 s at {' and '.join(rates)} Hz"
        + (f"; dropped: {lost}" if lost else "")
    ]
    if not is_light():  # nothing was judged
        clear = int((windows.ppg_quality >= CLEAR).sum())
        lines.append(
            f"median PPG quality {np.median(windows.ppg_quality):.2f}; a clear pulse ({CLEAR} or "
            f"more) in {clear} of {len(windows)} windows"
            + ("" if 2 * clear >= len(windows) else ": do not trust what is said about the others")
        )
    told = [TOLD[rule] for rule in TOLD if rule in repairs]
    return [*lines, *told]


def write_table(path, columns, embedding):
    """Write a table with one row per window: columns by name, then the embedding (n, D) as e0, e1,
    ....
    """
    names = [*columns, *(f"e{i}" for i in range(embedding.shape[1]))]
    with atomic_file(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(map(cell, names))
        for *cells, row in zip(*columns.values(), embedding, strict=True):
            writer.writerow(
                ["" if x != x else cell(x) for x in (*cells, *row)]
            )  # NaN: an empty cell
