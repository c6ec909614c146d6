"""The support matrix, docs/targets.md: each model in each target and precision, with what was
measured of it.

    python -m xmae.benchmarks.release.support_matrix BUNDLE STORE docs/targets.md

of a bundle of all shipped encoders, made as the page says. Every file that this machine can run, or
check, runs on windows of the test subjects. TFLite files also go through LiteRT's reference
kernels, TensorFlow Lite Micro and tflite-runtime 2.14.
"""

import re
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
from tqdm import tqdm

from xmae.benchmarks.harness.baseline import make_reference, reference_windows
from xmae.benchmarks.harness.drift import compare_embeddings, compare_heads
from xmae.benchmarks.harness.hardware import hardware
from xmae.benchmarks.harness.rows import EmbeddingDrift, HeadDrift
from xmae.benchmarks.harness.sessions import find_entries, open_session
from xmae.benchmarks.harness.stopwatch import load, time_entries
from xmae.benchmarks.studies.runner import run_tool
from xmae.data.store.store import WindowStore
from xmae.errors import UserError
from xmae.export.bundle.bundle import Bundle
from xmae.export.bundle.schema import Entry
from xmae.export.targets import litert, tflite_runtime
from xmae.export.targets.registry import TARGETS, runs_here
from xmae.files import atomic_file
from xmae.firmware_sim.emulators import tflm
from xmae.models.checkpoint import SHIPPED
from xmae.quantize.calibration import evenly
from xmae.quantize.layers import centred_cosine
from xmae.signals.scale import minmax_scale
from xmae.tables import markdown_table

COMMANDS = f"""xmae prepare bidmc --out store --min-quality -1
xmae export base --student {" ".join(name for name in SHIPPED if name != "base")} --data store \\
  --targets all --precisions all --out bundle
python -m xmae.benchmarks.release.support_matrix bundle store docs/targets.md"""
N_WINDOWS, N_CHECKED = 96, 32  # of the test subjects; where an interpreter stands for a device
N_TIMED, ROUNDS = 3, 10  # windows and rounds of the timing
WRONG = 0.8  # median centred cosine below which a file does not compute the model
# device: the models that a test compiles for it as a whole and, but for vela, runs against PyTorch
COMPILED = {
    "cortex-m": ("student", "student-mcu-s", "student-app"),
    "ethos-u55": ("student", "student-mcu-s"),
    "ethos-u65": ("student-mcu-s",),
    "ethos-u85": ("student-mcu-s",),
    "vela-u55": ("student", "student-mcu-s", "student-app"),
    "vela-u65": ("student", "student-mcu-s", "student-app"),
    "vela-u85": ("student", "student-mcu-s", "student-app"),
}
FILE_COLUMNS = (
    "model", "target", "precision", "kB", "cosine", "5 %", "bpm", "ms", "outside", "memory",
)  # fmt: skip
TESTED = {  # target or interpreter: where each of its cells is held to PyTorch and to the others
    "executorch, litert, onnx": (
        "tests/export/test_export.py::test_file_computes_what_pytorch_does, ::test_runtimes_agree"
    ),
    "cortex-m": "tests/export/test_targets.py::test_cortex_m_program_in_its_own_memory_plan",
    "ethos-u": (
        "tests/export/test_targets.py::"
        "test_ethos_u_program_is_one_delegate_and_its_tosa_graph_computes_the_same"
    ),
    "vela": "tests/export/test_targets.py::test_vela_takes_the_whole_tflite",
    "c": "tests/export/test_c_source.py::test_a_thousand_real_windows_are_bit_exact_in_every_layer",
    "LiteRT, reference kernels (student)": (
        "tests/export/test_targets.py::test_interpreters_of_a_tflite"
    ),
    "TensorFlow Lite Micro (student)": (
        "tests/firmware_sim/test_tflm.py::test_outputs_are_within_one_step_of_the_reference_kernels"
    ),
    "tflite-runtime 2.14 (student)": (
        "tests/export/test_targets.py::test_an_old_interpreter_of_a_tflite"
    ),
}
PAGE = """# What runs where

```sh
{commands}
```

wrote this page from the shipped weights: one static shape (1, 1, 1, 1000), seed 77, {n} windows of
{n_subjects} BIDMC subjects that no training saw. {date}, {machine}.

## The matrix

Median centred cosine to float PyTorch: 1 is the same embedding, after the mean training embedding
is taken away. "–": the target has no such precision, or no operators for the model.

{matrix}

## The files

"5 %": 5th percentile of the cosine. "bpm": by how much the heart rate that the bundle's head reads
off is further (+) from the monitor's than PyTorch's. "ms": processor time of a window on one
thread, models in turns. "Outside": operators that the target's accelerated kernels do not take;
"none" is the whole network.

{files}

Files for devices were run here as far as that goes: `cortex-m` instruction by instruction in its
own memory plan, with the integer arithmetic that ExecuTorch defines for each CMSIS-NN operator;
`ethos-u` as the TOSA graph that Vela was given, in Arm's reference model ({n_checked} windows).
`vela` files run on the NPU alone: they must compute what TensorFlow Lite Micro does of the file
they were compiled from, below. The C99 source of target `c` is bit-exact with it
(docs/firmware.md).

## One TFLite file, four interpreters

Median centred cosine to PyTorch on {n_checked} windows. Arena: the smallest in which TensorFlow
Lite Micro runs it.

{runtimes}

{footnotes}

"wrong": the interpreter accepts the file, says nothing, and computes something else. The dynamic
fully connected kernel of tflite-runtime 2.14 takes one scale for all channels of the weights: give
such devices `int8` or `weight-int8`.

## Ethos-U, estimated

By Arm's compiler Vela with its own models of the NPU and its memories; nothing here was measured on
a chip. Layer by layer in the `.csv` beside each `vela` file.

{estimates}

## Where each is tested

{tests}

In no test, but compiled and run for this page: {untested}. Vela compiles the same networks for the
same NPUs in one. `tests/export/test_targets.py::test_every_cell_of_the_page_has_a_test` holds this
page to it.

## Tools that cannot share an environment

`tosa-tools` (for Ethos-U and Cortex-M) pins an older ml_dtypes. tflite-runtime 2.14 needs numpy 1
and Python up to 3.11. Each lives in a folder of its own under `~/.cache/xmae/environments`,
installed with pip on first use. The rest is `pip install 'xmae[edge,firmware]'`.

## What is not there

- Attention on microcontrollers: TensorFlow Lite Micro has no GELU; the targets for CMSIS-NN and
  Ethos-U are for conv-only students. An operator that a target lacks is named with its layer, and
  nothing is written.
- int8 input and output in ExecuTorch and ONNX files: they quantize inside.
- int4 weights anywhere but in LiteRT; int16 activations anywhere but in LiteRT and TensorFlow Lite
  Micro.
- Vendors' own compilers: none that a package registry carries covers these networks without an SDK
  of its own.
"""


@dataclass(frozen=True)
class Measured:
    """What was measured of a file; None where it cannot run on this machine.

    Attributes
    ----------
    entry : Entry
        The file.
    drift : EmbeddingDrift or None
        Its embeddings against PyTorch's.
    hr : HeadDrift or None
        The heart rate's head.
    cpu_ms : float or None
        Processor time of a window, ms.
    """

    entry: Entry
    drift: EmbeddingDrift | None = None
    hr: HeadDrift | None = None
    cpu_ms: float | None = None


def support_matrix(bundle: str, data: str, out: str, /) -> None:
    """Run the files of a bundle, the TFLite ones in all four interpreters, and write the page.

    Parameters
    ----------
    bundle : str
        Folder of a bundle with all targets and precisions.
    data : str
        The store it was made with.
    out : str
        The page to write.

    Raises
    ------
    UserError
        If bundle or store cannot be read, or the page cannot be written.
    """
    opened, windows, before = Bundle.open(bundle), WindowStore(data).windows(), load()
    recorded = make_reference(opened, windows, "cpu")
    chosen = evenly(np.arange(len(recorded.record)), N_WINDOWS)
    test = reference_windows(recorded, windows).select(chosen)
    originals = {model: embedding[chosen] for model, embedding in recorded.embeddings.items()}
    rows = measure(opened, originals, recorded.train_mean, test)
    entries = [entry for entry in opened.all_models if entry.format == "litert"]
    cells, footnotes = runtimes(
        opened, entries, originals, recorded.train_mean, minmax_scale(test.ppg)[0]
    )
    machine = hardware()
    page = PAGE.format(
        commands=COMMANDS,
        date=date.today().isoformat(),
        machine=(
            f"{machine['cpu']}, {machine['cores']} cores, load {before} to {load()}. Made with `"
        )
        + ", ".join(f"{name} {number}" for name, number in opened.manifest.tools.items())
        + "`",
        n=len(test.ppg),
        n_subjects=len(set(test.subject)),
        n_checked=N_CHECKED,
        matrix=matrix(rows),
        files=markdown_table(FILE_COLUMNS, [file_row(row) for row in rows]),
        runtimes=cells,
        footnotes="\n".join(f"{number}. {why}" for why, number in footnotes.items()),
        estimates=estimates(opened),
        untested=untested(rows),
        tests=markdown_table(
            ("target", "test"),
            [(name, f"`{where.replace(', ', '`, `')}`") for name, where in TESTED.items()],
        ),
    )
    with atomic_file(out) as temporary:
        temporary.write_text(page)


def measure(bundle, originals, train_mean, test):
    """Measure PyTorch's weights and all files: a list of `Measured`."""
    ppg, entries, rows = minmax_scale(test.ppg)[0], find_entries(bundle), []
    few = evenly(np.arange(len(ppg)), N_CHECKED)
    devices = [entry for entry in bundle.all_models if entry not in bundle.models]
    for entry in tqdm(entries + devices, "files"):
        model, row = entry.model, Measured(entry)
        if entry.format == "pytorch" or TARGETS[entry.format].can_open:
            chosen = few if entry in devices else np.arange(len(ppg))
            embedding, original = open_session(bundle, entry)(ppg[chosen]), originals[model][chosen]
            drift = compare_embeddings(embedding, original, train_mean[model])
            heads = {name: head for name, head in bundle.drift_heads(model).items() if name == "hr"}
            compared = compare_heads(heads, embedding, original, test.select(chosen))
            row = replace(row, drift=drift, hr=compared.get("hr"))
        rows.append(row)
    times = time_entries(bundle, dict(enumerate(entries)), evenly(ppg, N_TIMED), ROUNDS)
    return [
        replace(row, cpu_ms=times[i]["cpu_ms"]) if i in times else row for i, row in enumerate(rows)
    ]


def matrix(rows):
    """Return the table of cosines: a row per target and model, a column per precision."""
    rows = [row for row in rows if row.entry.format != "pytorch"]
    precisions = list(dict.fromkeys(row.entry.precision for row in rows))
    cells = {}
    for row in rows:
        cell = said(row.drift.centred.median) if row.drift else "as TFLM"
        cells[row.entry.format, row.entry.model, row.entry.precision] = cell
    lines = [
        (format, model, *(cells.get((format, model, precision), "–") for precision in precisions))
        for format, model in dict.fromkeys(key[:2] for key in cells)
    ]
    return markdown_table(("target", "model", *precisions), lines)


def said(median):
    """Return the median of a cosine as a cell, with a mark where the file does not compute the
    model.
    """
    return f"{median:.4f}" if median >= WRONG else f"**wrong: {median:.2f}**"


def file_row(row):
    """Return the cells of one file."""
    entry, drift, hr = row.entry, row.drift, row.hr
    return (
        entry.model,
        entry.format,
        entry.precision,
        f"{entry.bytes / 1000:,.0f}",
        said(drift.centred.median) if drift else "",
        f"{drift.centred.p5:.4f}" if drift else "",
        f"{round(hr.change, 2) + 0:+.2f}" if hr else "",  # no negative zero
        "" if row.cpu_ms is None else f"{row.cpu_ms:.3g}",
        "" if entry.undelegated is None else ", ".join(entry.undelegated) or "none",
        "" if entry.arena_bytes is None else f"{entry.arena_bytes:,} B planned",
    )


def runtimes(bundle, entries, originals, train_mean, ppg):
    """Return the table of TFLite files in four interpreters, and the footnotes on those that do not
    run: {reason: number}.
    """
    rows, footnotes, ppg = [], {}, evenly(ppg, N_CHECKED)
    ways = (
        litert.open_model,
        lambda path: litert.open_model(path, reference=True),
        lambda path: lambda ppg: tflm.run_tflm(path, ppg, tflm.AMPLE),
        tflite_runtime.open_model,
    )
    for entry in tqdm(entries, "TFLite files"):
        model, path, cells = entry.model, bundle.path / entry.file, []
        for open_model in ways:
            try:
                actual = open_model(path)(ppg)
            except UserError as error:
                cells.append(f"no [{footnotes.setdefault(reason(error), len(footnotes) + 1)}]")
                continue
            cosine = centred_cosine(actual, evenly(originals[model], N_CHECKED), train_mean[model])
            cells.append(said(np.median(cosine)))
        arena = "" if cells[2].startswith("no") else f"{tflm.measure_arena(path):,} B"
        rows.append((model, entry.precision, *cells, arena))
    header = (
        "model",
        "precision",
        "LiteRT, XNNPACK",
        "LiteRT, reference",
        "TFLM",
        "tflite-runtime 2.14",
        "TFLM arena",
    )
    return markdown_table(header, rows), footnotes


def reason(error):
    """Return an interpreter's message without the file and line of its own source."""
    said = str(error).partition(" (")[2].rstrip(")") or str(error)
    said = (
        re.sub(r"(RuntimeError: )?\S+\.cc(:\d+)? ", "", said)
        .replace(" || ", " or ")
        .replace("|", "/")
    )
    return said if len(said) < 160 else said[:160].rpartition(" ")[0] + " ..."


def untested(rows):
    """List the models of devices that no test covers: "ethos-u55 of student-app, ..."."""
    left = {}
    for model, format in dict.fromkeys((row.entry.model, row.entry.format) for row in rows):
        if format in TARGETS and not runs_here(format) and model not in COMPILED.get(format, ()):
            left.setdefault(format, []).append(model)
    return "; ".join(f"{format} of {', '.join(models)}" for format, models in left.items())


def estimates(bundle):
    """Return the table of Vela's estimates."""
    rows = []
    for entry in bundle.all_models:
        if e := entry.estimated:
            counts = f"{e.cycles:,}", f"{e.inference_ms:.3f}", f"{e.macs / 1e6:.2f}"
            rows.append((entry.model, entry.format, *counts, e.source))
    return markdown_table(("model", "target", "cycles", "ms", "M MAC", "estimated by"), rows)


if __name__ == "__main__":
    run_tool(support_matrix)
