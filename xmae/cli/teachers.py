"""`xmae compare teachers`: which teacher is better on a watch?"""

import hashlib
import json
from datetime import date
from pathlib import Path

import numpy as np

from xmae.benchmarks.harness.hardware import hardware
from xmae.cli.adopt import take_to_watch
from xmae.data.recording.sizes import read_arrays
from xmae.data.store.store import WindowStore
from xmae.distill.beats import BEATS
from xmae.distill.distill import CROPS, EPOCHS
from xmae.errors import UserError, refusing, require_choices
from xmae.evaluation.compare import check_same
from xmae.evaluation.heads.embedding import embed_windows
from xmae.evaluation.probe import probe_embeddings, refuse_seen
from xmae.evaluation.protocol.bootstrap import with_interval
from xmae.files import atomic_file, read_json, write_json
from xmae.models.adopted.encoder import ProgramEncoder
from xmae.models.checkpoint import load_encoder
from xmae.tables import markdown_table

COLUMNS = ("teacher", "parameters", "licence", "agreement", "int8 gate", "int8 kB")


def teachers(
    teacher: list[str],
    data: str,
    out: str = "runs/teachers",
    tier: str = "beats-mcu",
    crops: int = CROPS,
    epochs: int = EPOCHS,
    batch_size: int = 128,
    tasks: str = "hr",
    n_calibration: int = 256,
    seed: int = 77,
) -> dict:
    """Distil, quantize and judge a student of each teacher, with the same budget, data and gates.

    All are scored by the same linear probes, on the same subjects and folds: the teacher, its
    student and the int8 file that a watch runs. Each row is kept as it is done: after a stop, the
    same call goes on from there, and a further teacher joins those that are done.

    Parameters
    ----------
    teacher : list of str
        Encoders: names such as "base", or files, of `xmae adopt` too.
    data : str
        Store with training, validation and test subjects; labels are for the probes.
    out : str
        Folder: one of each teacher, teachers.json and teachers.md (the table).
    tier : str
        The students: "beats-mcu-s", "beats-mcu" or "beats-app" with the beats of our shipped
        student, or "mcu-s", "mcu", "app" without.
    crops : int
        Random 10 s crops of PPG that each teacher answers.
    epochs : int
        Passes of each student over the crops.
    batch_size : int
        Crops a step.
    tasks : str
        Probes, separated by commas, such as hr,rr,spo2.
    n_calibration : int
        Windows (10 s each) that set the int8 ranges.
    seed : int
        Seed of everything random.

    Returns
    -------
    dict
        `teachers`: a row each with agreement, gate, bytes and probes (of teacher, student and int8,
        with 95 % intervals by subject); "out".

    Raises
    ------
    UserError
        If fewer than two teachers are given, one cannot be read or saw a test subject, two have the
        same name, or the folder was begun with other settings.
    """
    from xmae.evaluation.protocol.tasks import TASKS

    chosen = require_choices("task", tasks, TASKS)
    names = {name_of(file): file for file in teacher}
    if len(names) < 2 or len(names) < len(teacher):
        raise UserError("give at least two teachers, each with a name of its own")
    store = WindowStore(data)
    windows = store.windows()
    encoders = {name: load_encoder(file) for name, file in names.items()}
    for encoder in encoders.values():
        refuse_seen(encoder, windows.subject[windows.split == "test"])
    out, rows, embeddings = Path(out), [], {}
    settings = {
        "tier": tier, "crops": crops, "epochs": epochs, "batch_size": batch_size, "seed": seed,
    }  # fmt: skip
    begun = settings | {"n_calibration": n_calibration, "store_sha256": store.contents}
    for name, encoder in encoders.items():
        check_same(out / name / "compared.json", begun | {"teacher": print_of(encoder)})
    for name, file in names.items():
        row, embedded = kept(out / name) or compared(
            name, encoders[name], file, data, windows, out / name, n_calibration, settings
        )
        rows.append(row)
        embeddings |= embedded
    probes = probe_embeddings(embeddings, windows, chosen, seed=seed)
    for row in rows:
        row["probes"] = probes_of(row["teacher"], probes)
    result = {
        "settings": settings | {"tasks": tasks, "n_calibration": n_calibration},
        "scored_subjects": probes["scored_subjects"],
        "teachers": rows,
        "hardware": hardware(),
    }
    return record(result, probes, list(names.values()), data, out)


def record(result, probes, files, data, out):
    """Write teachers.json and teachers.md; return the result with the table as its summary."""
    write_json(out / "teachers.json", result)
    table = markdown(result["teachers"], probes)
    with atomic_file(out / "teachers.md") as temporary:
        temporary.write_text(f"{head(files, data, result)}\n\n{table}")
    return result | {"summary": table.splitlines(), "out": str(out / "teachers.md")}


def print_of(encoder):
    """Return the SHA-256 over an encoder's weights and provenance."""
    digest = hashlib.sha256(json.dumps(encoder.provenance, sort_keys=True).encode())
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(name.encode() + tensor.contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()


def kept(folder):
    """Return the row and the embeddings of a finished teacher; None if it is not finished."""
    row, arrays = folder / "row.json", folder / "embeddings.npz"
    if not (row.is_file() and arrays.is_file()):
        return None
    with refusing(arrays, "kept embeddings (remove it, and they are made anew)"):
        return read_json(row), read_arrays(arrays, lambda name: True)


def compared(name, encoder, file, data, windows, folder, n_calibration, settings):
    """Take one teacher to the watch, save its row and its embeddings, and return both."""
    took = take_to_watch(encoder, file, data, folder, "litert", n_calibration, settings, "int8")
    row, embedded = (
        row_of(name, encoder, took),
        three_embeddings(name, encoder, took, windows),
    )
    with atomic_file(folder / "embeddings.npz") as temporary:
        np.savez_compressed(temporary, **embedded)
    write_json(folder / "row.json", row)
    return row, embedded


def head(files, data, result):
    """Return the text above the table: the command, and the size of the budget."""
    settings, machine = result["settings"], result["hardware"]
    spelled = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in settings.items())
    answered, epochs = settings["crops"], settings["epochs"]
    share = answered * epochs / (CROPS * EPOCHS)
    lines = [
        "# Which teacher is better on a watch?",
        "",
        f"    xmae compare teachers {' '.join(files)} --data {data} {spelled}",
        "",
        f"Each teacher answered {answered:,} crops of PPG. Its student saw them at most {epochs}"
        f" times: {100 * share:.0f} % of the default budget.",
    ]
    if share < 1:
        lines += ["**The budget is small: what stands here is no verdict on these teachers.**"]
    if settings["tier"] in BEATS:
        lines += [f"All students read the beats of `{settings['tier']}`, whoever teaches them."]
    lines += [
        "Agreement is the mean centred cosine of student and teacher on validation subjects.",
        f"Probes score {result['scored_subjects']} test subjects, with 95 % intervals by subject."
        " The int8 gate is that of `xmae validate`.",
        f"{machine['cpu']}, xMAE {machine['packages']['xmae']}, {date.today()}.",
    ]
    return "\n".join(lines)


def name_of(file):
    """Return the name of a teacher in the table: a shipped one's own, or the folder of `xmae
    adopt`.
    """
    path = Path(file)
    return path.parent.name if path.name == "teacher.safetensors" else path.stem


def row_of(name, encoder, took):
    """Return a teacher's row, without probes."""
    (int8,) = (
        row
        for row in took["validate"]["models"]
        if (row["model"], row["format"], row["precision"]) == ("student", "litert", "int8")
    )
    program = isinstance(encoder, ProgramEncoder)  # its numbers are not told apart from its code
    return {
        "teacher": name,
        "parameters": None if program else sum(p.numel() for p in encoder.parameters()),
        "licence": encoder.provenance.get("licence", "Apache-2.0"),
        "agreement": took["agreement"],
        "int8_gate": not int8["violations"],  # of the student: a teacher of ours has a file too
        "int8_bytes": int8["bytes"],
        "int8_centred_cosine": int8["centred"],
    }


def three_embeddings(name, encoder, took, windows):
    """Return the embeddings (n, D) of a teacher, its student, and the student's int8 file."""
    from xmae.export.bundle.bundle import Bundle

    return {
        f"{name}/teacher": embed_windows(encoder, windows),
        f"{name}/student": embed_windows(load_encoder(took["student"]), windows),
        f"{name}/int8": np.asarray(Bundle.open(took["bundle"]).embed(windows.ppg)),
    }


def parameters_of(row):
    """Say how many parameters a teacher has; those of a program are not counted."""
    return "a program" if row["parameters"] is None else f"{row['parameters']:,}"


def probes_of(name, probes):
    """Probe one teacher: {task: {stage: value and interval}}."""
    return {
        task: {
            stage: {key: ways[f"{name}/{stage}"][key] for key in ("value", "interval")}
            for stage in ("teacher", "student", "int8")
        }
        for task, found in probes["tasks"].items()
        if (ways := found.get("encoders"))
    }


def markdown(rows, probes):
    """Return the table as Markdown, one row per teacher."""
    heads = list(COLUMNS)
    for task in rows[0]["probes"]:
        found = probes["tasks"][task]
        label = f"{found['label']}, {found['metric'].upper()} {found['units']}".rstrip()
        heads += [f"{label}: {stage}" for stage in ("teacher", "student", "int8")]
    table = []
    for row in rows:
        cells = [
            row["teacher"], parameters_of(row), row["licence"], f"{row['agreement']:.3f}",
            "passed" if row["int8_gate"] else "not passed", f"{row['int8_bytes'] / 1000:.0f}",
        ]  # fmt: skip
        for stages in row["probes"].values():
            cells += [with_interval(x["value"], x["interval"]) for x in stages.values()]
        table.append(cells)
    lines = [markdown_table(heads, table, right=False)]
    for found in probes["tasks"].values():
        if "reason" in found:
            lines += ["", f"{found['label']} is not evaluable: {found['reason']}."]
    return "\n".join(lines) + "\n"
