"""What the tiers keep of their teacher, and what int8 costs the teacher: probes on subjects that no
training saw.

    xmae export base --student student-mcu,student-mcu-s,student-app --data cinc --out BUNDLE
    python -m xmae.benchmarks.studies.students STORE BUNDLE --out benchmarks/results

The teacher's gain is what its frozen embedding does better in a linear probe than that of the same
network with random weights. Every int8 file is asked as exported, in its own runtime.
"""

import numpy as np
import torch
from tqdm import tqdm

from xmae.benchmarks.harness.drift import compare_heads
from xmae.benchmarks.harness.sessions import weight_files
from xmae.benchmarks.studies.distill_losses import number
from xmae.benchmarks.studies.runner import run_study
from xmae.data.store.store import WindowStore
from xmae.errors import UserError, require_choices
from xmae.evaluation.heads.embedding import embed_windows
from xmae.evaluation.probe import probe_embeddings, refuse_seen, untrained_like
from xmae.evaluation.protocol.tasks import TASKS
from xmae.export.bundle.bundle import Bundle
from xmae.export.bundle.provenance import COSINE_TO
from xmae.models.checkpoint import load_encoder
from xmae.models.student import count_macs, int8_bytes
from xmae.tables import markdown_table

# how far the int8 teacher may be from fp32: bpm, and area under the curve
LIMITS = {"mae": 0.2, "auroc": 0.005}
TIERS_NOTE = """Cosine: centred, on the validation subjects. Heart rate: error of the probe, bpm."""
GAIN_NOTE = """Goal for the int8 `mcu` (here `student`): at least 97 % of the gain. Kept: (student -
untrained) / (teacher - untrained); beside it the student's difference to the fp32 teacher. Where
the teacher has no gain there is nothing to keep; where it is no better than the constant (the
training mean, an area of 0.5), a share means nothing."""
TEACHER_NOTE = """Goal: within 0.2 bpm, and 0.005 of the area. Probes are fitted on the int8
embeddings; heads were fitted on fp32 and stay as they are, as in a bundle."""
HEAD = """# What the students keep of their teacher, and what int8 costs the teacher

    xmae export base --data cinc --precisions int8 --out bundle \\
        --student student-mcu,student-mcu-s,student-app,beats-mcu,beats-mcu-s,beats-app

Seed {seed}. Linear probes of frozen embeddings: ridge or logistic regression, folds by subject over
{n_subjects} subjects of `{store}`. None of them trained an encoder or calibrated a file. 95 %
intervals are by resampling subjects, differences are paired.

The bundle was made with {tools}.

"""


def students(store: str, bundle: str, /, *, tasks: str = "hr", seed: int = 77) -> str:
    """Probe every file of a bundle: what the students keep of the teacher, and what int8 costs the
    teacher.

    Parameters
    ----------
    store : str
        Store whose subjects are scored.
    bundle : str
        Bundle with the teacher and int8 files, made from other people.
    tasks : str
        Separated by commas.
    seed : int
        Seed of the untrained network and the resamples.
    """
    opened = Bundle.open(bundle)
    windows = WindowStore(store).windows()
    encoders = {model: load_encoder(path) for model, path in weight_files(opened).items()}
    refuse_unfit(opened, encoders, windows.subject)
    embeddings = {
        (model, "pytorch"): embed_windows(encoder, windows) for model, encoder in encoders.items()
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        embeddings["untrained", "pytorch"] = embed_windows(
            untrained_like(encoders["teacher"]).eval(), windows
        )
    formats = []
    for entry in tqdm([entry for entry in opened.models if entry.precision == "int8"], "int8"):
        formats += [entry.format] if entry.format not in formats else []
        embeddings[entry.model, entry.format] = opened.embed(
            windows.ppg, entry.model, entry.format, "int8"
        )
    everyone = np.ones(len(windows.subject), bool)
    tasks = probe_embeddings(
        embeddings, windows, require_choices("task", tasks, TASKS), everyone, seed=seed,
        progress=True,
    )["tasks"]  # fmt: skip
    heads = heads_kept(opened, embeddings, formats, windows)
    tables = (
        tiers_table(encoders, tasks, formats),
        gain_table(tasks, formats),
        teacher_table(tasks, heads),
    )
    text = HEAD.format(
        seed=seed,
        tools=", ".join(f"{k} {v}" for k, v in opened.manifest.tools.items()),
        n_subjects=len(np.unique(windows.subject)),
        store=store,
    )
    return text + "\n".join(tables)


def refuse_unfit(bundle, encoders, subjects):
    """Raise a `UserError` if subjects to be scored trained an encoder, or calibrated the bundle."""
    for encoder in encoders.values():
        refuse_seen(encoder, subjects)
    if both := sorted(set(bundle.manifest.data["calibration"]["subjects"]) & set(subjects)):
        raise UserError(
            f"{bundle.path}: was calibrated on {', '.join(both[:3])}; export it from a store of "
            "other people"
        )


def heads_kept(bundle, embeddings, formats, windows):
    """Return {format: what the teacher's heads lose in it}."""
    heads, plain = bundle.drift_heads("teacher"), embeddings["teacher", "pytorch"]
    return {
        format: compare_heads(heads, embeddings["teacher", format], plain, windows)
        for format in formats
    }


def tiers_table(encoders, tasks, formats):
    """Return the table of size and heart-rate error of each model in fp32 and int8."""
    columns = ("model", "parameters", "M MAC", "kB as int8", "cosine", "heart rate, fp32")
    rows = []
    for model, encoder in encoders.items():
        name = f"student (`{encoder.config['tier']}`)" if model == "student" else model
        rates = [value_of(tasks["hr"], model, format) for format in ("pytorch", *formats)]
        parameters, macs = sum(p.numel() for p in encoder.parameters()), count_macs(encoder) / 1e6
        origin = encoder.provenance
        cosine = next(
            (f"{origin[key]:.3f} to {whom}" for key, whom in COSINE_TO.items() if key in origin), ""
        )
        size = f"{int8_bytes(encoder) / 1e3:.1f}" if model != "teacher" else ""
        rows.append((name, f"{parameters:,}", f"{macs:.2f}", size, cosine, *rates))
    return section("Tiers", TIERS_NOTE, (*columns, *(f"int8, {x}" for x in formats)), rows)


def gain_table(tasks, formats):
    """Return the table of the teacher's gain over random weights that each int8 student keeps, by
    task.
    """
    evaluable = {name: task for name, task in tasks.items() if "encoders" in task}
    first = next(iter(evaluable.values()))["encoders"]
    students = [key for key in first if key[0].startswith("student") and key[1] in formats]
    titles = [
        f"{task['label']}, {task['metric'].upper()} {task['units']}".strip()
        for task in evaluable.values()
    ]
    rows = [("constant", *(f"{task['baseline']:.2f}" for task in evaluable.values()))]
    for key in (("untrained", "pytorch"), ("teacher", "pytorch")):
        rows.append((f"{key[0]}, fp32", *(value_of(task, *key) for task in evaluable.values())))
    gains = {name: gain_of(task, ("teacher", "pytorch")) for name, task in evaluable.items()}
    cells = []
    for name, task in evaluable.items():
        low, high = task["encoders"]["untrained", "pytorch"]["minus_first_interval"]
        low, high = (low, high) if task["metric"] == "mae" else (-high, -low)
        cells.append(
            f"{gains[name]:+.2f} ({low:.2f} to {high:.2f})" + ("" if gains[name] > 0 else ", none")
        )
    rows.append(("teacher's gain", *cells))
    for key in students:
        cells = []
        for name, task in evaluable.items():
            entry = task["encoders"][key]
            kept = (
                f"{100 * gain_of(task, key) / gains[name]:.0f} %"
                if gains[name] > 0
                else "no gain to keep"
            )
            cells.append(f"{kept}; {number(entry, 'minus_first')}")
        rows.append((f"{key[0]}, int8 {key[1]}", *cells))
    return section(
        "The teacher's gain, and what int8 students keep of it", GAIN_NOTE, ("", *titles), rows
    )


def teacher_table(tasks, heads):
    """Return the table of differences of the int8 teacher from fp32 in each format, by probes and
    by the bundle's heads.
    """
    names = [
        name
        for name, task in tasks.items()
        if "encoders" in task and (name == "hr" or task["metric"] == "auroc")
    ]
    columns = ("format", "by", *(tasks[name]["label"] for name in names), "within")
    rows = []
    for format, changed in heads.items():
        probes = {name: tasks[name]["encoders"]["teacher", format] for name in names}
        cells = [number(entry, "minus_first", 3) for entry in probes.values()]
        within = all(
            abs(probes[name]["minus_first"]) <= LIMITS[tasks[name]["metric"]] for name in names
        )
        rows.append((format, "probe", *cells, "yes" if within else "no"))
        cells = [f"{changed[name].change:+.3f}" if name in changed else "no head" for name in names]
        within = all(
            abs(changed[name].change) <= LIMITS[tasks[name]["metric"]]
            for name in names
            if name in changed
        )
        verdict = ("yes" if within else "no") if changed else "-"
        rows.append((format, "heads", *cells, verdict))
    return section("The int8 teacher against fp32", TEACHER_NOTE, columns, rows)


def gain_of(task, key):
    """Return an embedding's gain over random weights in a probe."""
    better = task["encoders"][key]["value"] - task["encoders"]["untrained", "pytorch"]["value"]
    return -better if task["metric"] == "mae" else better


def value_of(task, model, format):
    """Return a probe's value with its interval."""
    entry = task["encoders"].get((model, format))
    return number(entry) if entry else ""


def section(title, note, columns, rows):
    """Return a heading, a paragraph, and a table."""
    return f"## {title}\n\n{note}\n\n{markdown_table(columns, rows)}\n"


if __name__ == "__main__":
    run_study(students, "students.md")
