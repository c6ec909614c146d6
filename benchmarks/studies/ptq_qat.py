"""What int8 costs by observer, after quantization-aware training, and with the worst layers left in
float.

    python -m xmae.benchmarks.studies.ptq_qat

prepares the shipped BIDMC recordings, quantizes the shipped teacher and student for each format
with each observer, trains the student to bear int8 (`xmae qat`, default settings) and quantizes it
again, and leaves layers of the teacher in float to meet drift budgets. Every file is run in its own
runtime on validation subjects, by whom to choose, and on test subjects. With `--work FOLDER`, what
is done is kept there, and done again only if it is of other weights, other windows or other
versions of the tools.
"""

import contextlib
import os
import tempfile
import time
from dataclasses import asdict
from functools import partial
from itertools import product
from pathlib import Path

from tqdm import tqdm

from xmae.benchmarks.harness.drift import compare_embeddings, compare_heads
from xmae.benchmarks.harness.saved_results import digest, kept, made_of
from xmae.benchmarks.harness.sessions import TITLES
from xmae.benchmarks.studies.runner import run_study
from xmae.data.prepare.prepare import prepare
from xmae.data.store.store import WindowStore
from xmae.evaluation.heads.embedding import embed_windows
from xmae.evaluation.heads.heads import fit_heads
from xmae.evaluation.protocol.tasks import TASKS
from xmae.export.int8 import FORMATS
from xmae.export.mixed import export_within
from xmae.files import read_json
from xmae.models import load_encoder
from xmae.native import one_thread
from xmae.quantize.calibration import training_windows
from xmae.quantize.graph import exportable
from xmae.quantize.layers import run_graph
from xmae.quantize.observers import OBSERVERS
from xmae.quantize.qat import qat
from xmae.signals.scale import minmax_scale
from xmae.tables import markdown_table

N_CALIBRATION, SEED = 256, 77
BUDGETS = (0.995,)
OBSERVERS_OF = {"teacher": ("minmax", "mse")}  # a file of it takes minutes, so not all of them
SPLITS = ("val", "test")
COLUMNS = (
    "model",
    "format",
    "kB",
    "validation",
    "heart rate, bpm",
    "AUROC",
    "test",
    "heart rate, bpm",
    "AUROC",
)
PAIRED = ("observer", "format", "validation", "validation, QAT", "test", "test, QAT")


def ptq_qat(*, work: str | None = None) -> str:
    """Measure the cost of int8 by observer, after quantization-aware training, and with some layers
    left in float.

    Parameters
    ----------
    work : str or None
        Folder for what is done already.
    """
    place = contextlib.nullcontext(work) if work else tempfile.TemporaryDirectory()
    with place as folder, one_thread():
        return page(measure(Path(folder)))


def measure(folder):
    """Return all rows, each saved in a file of `folder` once it is known.

    Returns
    -------
    dict
        `rows`, and `qat` (what `qat` gave).
    """
    if not (folder / "store" / "store.json").exists():
        prepare(["bidmc"], str(folder / "store"), min_quality=-1)
    store = WindowStore(folder / "store")
    made = made_of(load_encoder("student-mcu"), store, (), seed=SEED, says="cosine_to_float")
    trained = folder / f"qat-{digest(made)}"
    if not (trained / "student.safetensors").exists():
        resume = (trained / "checkpoints" / "last.ckpt").exists()
        qat("student-mcu", str(store.path), str(trained), seed=SEED, resume=resume)
    models = {
        "student": "student-mcu",
        "student, QAT": str(trained / "student.safetensors"),
        "teacher": "base",
    }
    rows, subjects = [], {}
    for model, name in models.items():
        encoder = load_encoder(name)
        subject = subjects[model] = Subject(encoder, store, subjects.get("student"))
        plans = list(product(FORMATS, OBSERVERS_OF.get(model, OBSERVERS), (None,)))
        if model == "teacher":
            plans += product(FORMATS, ("minmax",), BUDGETS)
        plans.sort(key=lambda plan: plan[1] != "minmax")
        for format, observer, budget in tqdm(plans, model):
            path = folder / f"{model.replace(', ', '-')}_{format}_{observer}_{budget or 'all'}.json"
            of = made_of(encoder, store, [format], calibration=N_CALIBRATION, seed=SEED)
            row = kept(path, of, partial(subject.row, format, observer, budget, folder))
            rows.append({"model": model} | row)
    rows.sort(
        key=lambda row: (list(models).index(row["model"]), list(FORMATS).index(row["format"]))
    )
    learned = read_json(trained / "metrics.json")
    return {"rows": rows, "qat": learned}


class Subject:
    """An encoder with what its int8 files are compared with: embeddings and heads of its own float
    weights.

    Parameters
    ----------
    encoder : torch.nn.Module
    store : WindowStore
    before : Subject, optional
        The same encoder before training, with which the files are also compared.
    """

    def __init__(self, encoder, store, before=None):
        train = store.windows("train")
        self.graph = exportable(encoder)
        self.calibration = training_windows(train, N_CALIBRATION, SEED).ppg
        embedding = embed_windows(encoder, train)
        self.mean, self.heads = embedding.mean(0), fit_heads(embedding, train, TASKS.values())
        self.windows = {split: store.windows(split) for split in SPLITS}
        self.ppg = {split: minmax_scale(windows.ppg)[0] for split, windows in self.windows.items()}
        self.reference = {split: run_graph(self.graph, ppg) for split, ppg in self.ppg.items()}
        self.before = before or self

    def row(self, format, observer, budget, folder):
        """Quantize for one format, run the file, and compare it on each split."""
        target, started, cpu = FORMATS[format], time.monotonic(), time.process_time()
        path = folder / f"int8{target.suffix}"
        kept = {"float_layers": []}
        if budget is None:
            target.convert(self.graph, path, "int8", self.calibration, observer)
        else:
            kept = export_within(
                target, self.graph, path, self.calibration, self.ppg["val"], budget, observer
            )
        session = target.open(path)
        row = {
            "format": format,
            "observer": observer,
            "budget": budget,
            "bytes": os.path.getsize(path),
        }
        row |= {"float_layers": kept["float_layers"]}
        for split in SPLITS:
            embedding = session(self.ppg[split])
            found = compare_embeddings(embedding, self.reference[split], self.mean)
            heads = compare_heads(self.heads, embedding, self.reference[split], self.windows[split])
            changes = [abs(head.change) for head in heads.values() if head.metric == "auroc"]
            before = compare_embeddings(embedding, self.before.reference[split], self.before.mean)
            row[split] = {
                **asdict(found.centred),
                "before": asdict(before.centred),
                "hr": heads["hr"].value,
                "hr_change": heads["hr"].change,
                "auroc_change": max(changes, default=None),
            }
        return row | {
            "seconds": time.monotonic() - started,
            "cpu_seconds": time.process_time() - cpu,
        }


def page(results):
    """Write the page as Markdown."""
    rows, learned = results["rows"], results["qat"]
    whole, mixed = ([row for row in rows if bool(row["budget"]) is left] for left in (False, True))
    by_budget = markdown_table(
        ("budget", *COLUMNS[:3], "validation, chosen on", *COLUMNS[4:]),
        [(row["budget"], *cells(row, ())) for row in mixed],
    )
    cpu = sum(row["cpu_seconds"] for row in rows) / 60
    return f"""# Int8 by observer, after quantization-aware training, and mixed

Seed {SEED}, {N_CALIBRATION} calibration windows of training subjects; {cpu:.0f} min of processor
time for the files and {learned["seconds"] / 60:.1f} min (by the clock) for the training, on one
thread.

The shipped encoders on BIDMC, each int8 file run in its own runtime and held against the float
weights that it was made from, with heads fitted on training subjects: centred cosine (median / 5th
percentile of the windows), change of the heart rate's mean absolute error, largest change of the
AUROC of sex and age over 65. Validation: 3 subjects, to choose by; test: 8 subjects. Bold: the best
5th percentile on validation of a model in a format. The teacher, whose files take minutes, has two
of the observers.

The test subjects are not fresh: the test columns of the student, with QAT and without, had been
seen before the scales of ONNX weights were corrected and before `xmae qat` was changed to train in
fp32 with ranges from training windows; the rows were then made again. No setting was chosen by
them.

{markdown_table(("observer", *COLUMNS), [(row["observer"], *cells(row, whole)) for row in whole])}

## Layers left in float

The teacher with a budget for the centred cosine that 19 of 20 validation windows must keep
(`--drift-budget`): its most sensitive layers stay float until the file keeps to it. So its
validation columns say what it was chosen by; the test columns say what to expect.

{by_budget}

{floats(mixed)}

{trained_and_not(whole, learned)}"""


def trained_and_not(whole, learned):
    """Return the section on files with and without quantization-aware training."""
    paired = [cells_before(row, trained) for row, trained in pairs(whole)]
    loss = learned["history"]["train_loss"]
    return f"""## Training and not training, against the same

Above, each file is held against the float weights that it was made from, and QAT changes them. Here
both are held against the student in float before QAT, which is what a file is meant to replace:
centred cosine, median / 5th percentile.

{markdown_table(PAIRED, paired)}

`xmae qat student-mcu`, {learned["windows_seen"]:,} windows seen: centred cosine of the rounded
student on the validation subjects {learned["cosine_to_float_before"]:.4f} before,
{learned["cosine_to_float"]:.4f} after; training loss {loss[0]:.4f} in the first epoch,
{loss[-1]:.4f} in the last.
"""


def floats(rows):
    """List the layers that each file leaves in float."""
    lines = []
    for row in rows:
        layers = ", ".join(row["float_layers"]) or "none"
        lines.append(f"- {TITLES[row['format']]}, {row['budget']}: {layers} in float.")
    return "\n".join(lines)


def pairs(rows):
    """Pair each row of the student with that of the same file after QAT."""
    named = {(row["model"], row["format"], row["observer"]): row for row in rows}
    return [
        (row, named["student, QAT", *key])
        for (model, *key), row in named.items()
        if model == "student"
    ]


def cells_before(row, trained):
    """Return one row that compares a file without and one with QAT with the float student before
    QAT.
    """
    parts = [one[split]["before"] for split, one in product(SPLITS, (row, trained))]
    return (
        row["observer"],
        TITLES[row["format"]],
        *(f"{part['median']:.4f} / {part['p5']:.4f}" for part in parts),
    )


def cells(row, rows):
    """Return the cells of a row after the first; the best on validation for its model and format
    among `rows` is bold.
    """
    alike = [
        r["val"]["p5"] for r in rows if (r["model"], r["format"]) == (row["model"], row["format"])
    ]
    best = row["val"]["p5"] == max(alike, default=None)
    shown = [row["model"], TITLES[row["format"]], f"{row['bytes'] / 1e3:.0f}"]
    for split in SPLITS:
        part = row[split]
        cosines = f"{part['median']:.4f} / {part['p5']:.4f}"
        shown += [
            f"**{cosines}**" if best and split == "val" else cosines,
            f"{part['hr_change']:+.3f}",
        ]
        shown += ["" if part["auroc_change"] is None else f"{part['auroc_change']:.4f}"]
    return shown


if __name__ == "__main__":
    run_study(ptq_qat, "ptq_qat.md")
