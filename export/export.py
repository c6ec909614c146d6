"""Trained encoders become a bundle: every format and precision, each checked in its own runtime
once written.
"""

import os
import time
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import active_children, get_all_start_methods, get_context, parent_process
from pathlib import Path
from threading import Thread

import numpy as np
from tqdm import tqdm

from xmae.data.store.store import WindowStore
from xmae.data.store.windows import Windows
from xmae.errors import UserError
from xmae.evaluation.heads.heads import HEADS, heads_of, written
from xmae.export.bundle.beat_rows import certainty_of, table_of
from xmae.export.bundle.bundle import MANIFEST, PROBES, preprocessing, seal
from xmae.export.bundle.card import model_card
from xmae.export.bundle.migrate import SCHEMA_VERSION
from xmae.export.bundle.provenance import data_provenance, tool_versions, without_folders
from xmae.export.bundle.schema import CertaintyTable, Draft, Entry
from xmae.export.bundle.signature import load_key
from xmae.export.heads import make_heads
from xmae.export.mixed import check_budget, export_within
from xmae.export.motion import WEIGHTS, write_int8, write_motion_vectors
from xmae.export.targets.c.package import FOLDER, PackagedStudent, write_package
from xmae.export.targets.registry import (
    DEFAULT,
    SOURCE,
    TARGETS,
    chosen_precisions,
    chosen_targets,
    keeps_floats,
    takes,
)
from xmae.export.targets.session import ApartSession
from xmae.export.vectors import write_vectors
from xmae.files import atomic_folder, write_json
from xmae.manifest import Word, checked, parsed
from xmae.models import load_encoder, save_encoder
from xmae.models.beat_student import BeatStudent, takes_acceleration
from xmae.models.checkpoint import is_foreign
from xmae.models.student import McuStudent, count_macs
from xmae.progress import stage
from xmae.quantize.calibration import (
    Calibration,
    evenly,
    held_out,
    read_calibration,
    training_windows,
)
from xmae.quantize.graph import INPUT_SHAPE, BeatGraph, exportable
from xmae.quantize.layers import drift_of_embeddings, run_graph
from xmae.quantize.observers import MINMAX, known_observer
from xmae.quantize.pt2e import with_mean_kept
from xmae.signals.window import N_TIMES, SFREQ

N_COMPARED = 64  # held-out windows on which each exported file is compared with PyTorch
POOR = 0.95  # centred cosine to PyTorch below which a file is warned of
N_CHECKED = 16  # of them, where an interpreter in Python stands for the device
PRELOADED = [
    "xmae.quantize",
    "xmae.export.targets.trace",
]  # what every process of an export imports


def export(
    teacher: str,
    student: list[str] | str,
    data: str,
    out: str = "runs/bundle",
    calibration: str | None = None,
    targets: str = DEFAULT,
    precisions: str = "fp32,int8",
    n_calibration: int = 256,
    seed: int = 77,
    sign_with: str | None = None,
    data_licence: str | None = None,
    observer: str | None = None,
    drift_budget: float | None = None,
    keep_heads: bool | None = None,
) -> dict:
    """Write a bundle: teacher and students, float and int8, for each runtime, with heads, manifest
    and model card.

    Parameters
    ----------
    teacher : str
        Encoder: a name such as "base" or a .safetensors file. One that `xmae adopt` made stays out
        of the bundle, which then has its students only.
    student : list of str or str
        Encoders: names such as "student-mcu" or .safetensors files. In the bundle the first is
        "student", which a watch runs unless told otherwise; others carry their tier, such as
        "student-app". Those that take acceleration too are in the folder `c` only.
    data : str
        Store of windows. Calibration and heads see its train split only; its val split judges them.
    out : str
        Folder of the bundle; replaced as a whole when all is done.
    calibration : str or None
        calibration.npz of `xmae quantize`; by default the same windows are chosen here.
    targets : str
        Formats, separated by commas, or "all". For this machine, phones and boards: executorch,
        litert, onnx. For microcontrollers, int8 students only: cortex-m (ExecuTorch with CMSIS-NN),
        ethos-u55, ethos-u65, ethos-u85 (ExecuTorch), vela-u55, vela-u65, vela-u85 (TFLite), and c:
        C99 source with its kernels, from the litert file.
    precisions : str
        Precisions, separated by commas, or "all"; a target skips what it does not have. fp32, int8;
        litert also int16x8, dynamic-int8, weight-int8 and weight-int4, onnx also dynamic-int8.
    n_calibration : int
        Windows (10 s each) that set the int8 ranges, unless `calibration` is given.
    seed : int
        Seed of the choice of windows.
    sign_with : str or None
        PEM file of an Ed25519 key; writes manifest.sig, which `xmae bundle verify` checks.
    data_licence : str or None
        Licence of the recordings in the store, for manifest and card; known for those that the
        package ships.
    observer : str or None
        How calibration windows set the int8 ranges: minmax, percentile, mse, entropy. By default
        what is best known for each target: minmax, and for cortex-m and ethos-u their quantizers'
        own.
    drift_budget : float or None
        Centred cosine to fp32, below 1, that 19 of 20 windows must keep in int8; layers that can
        least afford 8 bits then stay float. For executorch, litert and onnx; other targets have
        int8 arithmetic only.
    keep_heads : bool or None
        Keep the heads that an encoder came with (shipped ones, and those of `xmae finetune`), and
        only those. If false, heads are fitted anew on the train split. Default: kept where there
        are any, as heads fitted on a few subjects are worse.

    Returns
    -------
    dict
        A row per file: model, format, precision, bytes, centred cosine against PyTorch (median and
        5th percentile), undelegated operators, seconds it took; "out".

    Raises
    ------
    UserError
        If an encoder, the store, the calibration or the key cannot be used, a target is unknown,
        not installed or lacks an operator (named with its layer), calibration would leak from val
        or test subjects, or `out` cannot be written, or memory runs out; `out` is then as it was
        before.
    """
    formats = chosen_targets(targets)
    chosen = chosen_precisions(precisions, formats)
    check_settings(formats, chosen, sign_with, observer, drift_budget)
    store = WindowStore(data)
    plan = prepare(teacher, student, store, formats, calibration, n_calibration, seed, keep_heads)
    if targets != "all":
        refuse_idle(plan.taken)
    with atomic_folder(out, MANIFEST) as folder:
        made = export_all(plan, folder, chosen, observer, drift_budget)
        entries = [one.entry for one in made]
        heads = write_heads(plan, store, folder)
        certainty, notes = beat_tables(plan.students | plan.moving, store)
        manifest = manifest_of(plan, entries, heads, certainty, formats)
        manifest |= data_part(store, plan.ranges, data_licence)
        manifest |= c_library(folder, plan, heads.heads, certainty)
        draft = parsed(manifest, Draft, Path(out) / MANIFEST)
        (folder / "model_card.md").write_text(model_card(draft))
        seal(folder, manifest, sign_with)
    return {
        "models": [row_of(one) for one in made],
        "heads": {model: list(tasks) for model, tasks in heads.heads.items()},
        "summary": [*summary_of(entries, heads, plan.brought), *notes, *library_line(draft)],
        "out": str(out),
    }


@dataclass(frozen=True)
class Plan:
    """Everything that an export is made from.

    Attributes
    ----------
    encoders, students : dict of str to nn.Module
        All models that are exported for runtimes, and the students among them, by model.
    moving : dict of str to nn.Module
        Students that take acceleration too; they become C only.
    names : dict of str to str
        Name of each student's file.
    brought : dict of str to (dict or None)
        Heads that a model came with and that are kept.
    graphs : dict of str to nn.Module
        Graph of each model to export.
    taken : dict of str to list of str
        Models that each format takes.
    train : Windows
        The store's train split.
    ranges : Calibration
        Windows that set the int8 ranges.
    ppg : float32 array, shape (n, 1000)
        Held-out windows in [-1, 1], on which files are compared with PyTorch.
    """

    encoders: dict
    students: dict
    moving: dict
    names: dict
    brought: dict
    graphs: dict
    taken: dict
    train: Windows
    ranges: Calibration
    ppg: np.ndarray


@dataclass(frozen=True)
class Exported:
    """A file of the bundle, and the time it took to make, s."""

    entry: Entry
    seconds: float


@dataclass(frozen=True)
class MadeHeads:
    """Heads by model, their errors on val, and the labels of tasks without a head."""

    heads: dict
    metrics: dict
    at_chance: dict


def check_settings(formats, precisions, sign_with, observer, drift_budget):
    """Raise a `UserError` before the work begins if a setting is wrong."""
    if sign_with:
        load_key(sign_with, "load_pem_private_key", password=None)
    if observer is not None:
        known_observer(observer)
    if drift_budget is not None:
        check_budget(drift_budget)
        if without := ", ".join(format for format in formats if not keeps_floats(format)):
            raise UserError(
                f"target {without} has int8 arithmetic only; leave it or the drift budget out"
            )
    if SOURCE in formats and "int8" not in precisions:
        raise UserError(
            f"target {SOURCE} is written from the int8 student; add int8 to --precisions"
        )


def prepare(teacher, student, store, formats, calibration, n_calibration, seed, keep_heads):
    """Read the encoders and windows; the arguments are those of `export`.

    Returns
    -------
    Plan
    """
    train = store.windows("train")
    if calibration:
        ranges = read_calibration(calibration, store.splits)
    else:
        ranges = training_windows(train, n_calibration, seed)
    ppg = held_out(store, N_COMPARED, seed, ranges)
    original = load_encoder(teacher)
    # weights of others stay with their owners: the bundle has the student only
    own = {} if is_foreign(original) else {"teacher": original}
    every = load_students(student)
    given = [student] if isinstance(student, str) else student
    sources = dict.fromkeys(own, teacher) | dict(zip(every, given, strict=True))
    moving = {model: encoder for model, encoder in every.items() if takes_acceleration(encoder)}
    check_moving(moving, every, formats)
    students = {model: encoder for model, encoder in every.items() if model not in moving}
    encoders = own | students
    graphs = {model: exportable(encoder) for model, encoder in encoders.items()}
    taken = {
        format: [model for model, graph in graphs.items() if takes(format, model, graph)]
        for format in formats
    }
    return Plan(
        encoders,
        students,
        moving,
        names={model: Path(sources[model]).stem for model in every},
        brought=brought_heads({model: sources[model] for model in encoders}, keep_heads),
        graphs=graphs,
        taken=taken,
        train=train,
        ranges=ranges,
        ppg=ppg,
    )


def check_moving(moving, students, formats):
    """Raise a `UserError` if students that take acceleration cannot go into the bundle."""
    if not moving:
        return
    if next(iter(students)) in moving:
        raise UserError(
            f"{next(iter(moving))} takes acceleration: give a student for PPG alone before it, such"
            " as --student beats-mcu,student-motion"
        )
    if SOURCE not in formats:
        raise UserError(f"{', '.join(moving)} takes acceleration, which only --targets c carries")


def refuse_idle(taken):
    """Raise a `UserError` if a requested format can take none of the models."""
    if idle := ", ".join(format for format, models in taken.items() if not models):
        raise UserError(
            f"target {idle} has no operators for attention; give a student without, or leave it out"
        )


def export_all(plan, folder, precisions, observer, drift_budget):
    """Write every model in every format that takes it, with two processes.

    Returns
    -------
    list of Exported
    """
    n_ranges, n_compared = len(plan.ranges.ppg), len(plan.ppg)
    stage(f"what PyTorch says on {n_ranges} calibration and {n_compared} other windows")
    expected = {
        model: (run_graph(graph, plan.ppg), run_graph(graph, plan.ranges.ppg).mean(0))
        for model, graph in plan.graphs.items()
    }
    rounded = dict(plan.graphs)
    if "int8" in precisions:
        stage("what rounding does to the mean")
        for model, graph in plan.graphs.items():
            rounded[model] = with_mean_kept(graph, plan.ranges.ppg, observer or MINMAX)
    common = folder, precisions, plan.ranges.ppg, plan.ppg
    work = []
    for format in [name for name in plan.taken if name in TARGETS]:
        for model in plan.taken[format]:
            what = TARGETS[format], model, plan.graphs[model], rounded[model], *common
            work.append((*what, *expected[model], observer, drift_budget))
    made = []
    with two_processes() as pool:
        done = pool.map(export_model, *zip(*work, strict=True))
        for found in tqdm(done, "export", len(work), unit="model"):
            made += found
    params = {model: n_parameters(encoder) for model, encoder in plan.encoders.items()}
    return [
        replace(one, entry=one.entry.model_copy(update={"params": params[one.entry.model]}))
        for one in made
    ]


def n_parameters(encoder):
    """Count the weights of a network."""
    return sum(p.numel() for p in encoder.parameters())


def write_heads(plan, store, folder):
    """Write float weights and heads of all models.

    Returns
    -------
    MadeHeads
    """
    stage("heads")
    heads, metrics, at_chance, probes = {}, {}, {}, {}
    for model, encoder in plan.encoders.items():
        origin = without_folders(encoder.provenance)
        save_encoder(encoder, folder / f"{model}.safetensors", origin)
        heads[model], metrics[model], at_chance[model], probes[model] = make_heads(
            encoder, store, plan.train, plan.brought[model]
        )
    write_json(folder / HEADS, written(heads))
    if any(probes.values()):
        write_json(folder / PROBES, written(probes))
    return MadeHeads(heads, metrics, at_chance)


def manifest_of(plan, entries, heads, certainty, formats):
    """Return the manifest's part on models and tools."""
    return {
        "schema_version": SCHEMA_VERSION,
        "name": "xmae",
        "tools": tool_versions(formats),
        "window": {"sfreq": SFREQ, "n_times": N_TIMES, "range": [-1, 1]},
        "preprocessing": preprocessing(),
        "models": [entry.as_json() for entry in entries],
        "certainty": {model: table.as_json() for model, table in certainty.items()},
        "metrics": {
            "heads_on_val": {
                model: {task: row.as_json() for task, row in rows.items()}
                for model, rows in heads.metrics.items()
            },
            "heads_at_chance": heads.at_chance,
        },
        "provenance": {
            model: without_folders(encoder.provenance)
            for model, encoder in (plan.encoders | plan.moving).items()
        },
    }


def data_part(store, ranges, licence):
    """Return the manifest's part on data and licences."""
    data = data_provenance(store, ranges, licence)
    return {"data": data, "licences": {"models": "Apache-2.0", "data": data["licence"]}}


@contextmanager
def two_processes():
    """Yield a pool of two processes for long work; they end with this process, however it ends, and
    at once if the work fails.

    Raises
    ------
    UserError
        If one of them is killed.
    """
    # where processes can be forked from a server, PyTorch is imported there, once for all exports
    method = "forkserver" if "forkserver" in get_all_start_methods() else "spawn"
    context = get_context(method)
    context.set_forkserver_preload(PRELOADED)
    before = active_children()
    with ProcessPoolExecutor(min(2, os.cpu_count()), context, initializer=end_with_parent) as pool:
        try:
            yield pool
        except BaseException as error:  # an interrupt too
            for process in set(active_children()) - set(before):
                process.terminate()
            if not isinstance(error, BrokenExecutor):
                raise
            raise UserError(
                "a process of the export was killed, most likely because memory ran out; "
                "close other programs, or export fewer models or targets at a time"
            ) from error


def end_with_parent():
    """Make this process of a pool end as soon as its parent has ended."""
    Thread(target=lambda: (parent_process().join(), os._exit(1)), daemon=True).start()


def load_students(names):
    """Load the students: {"student": the first, "student-app": another, named by its tier or else
    by its file}.

    Raises
    ------
    UserError
        If there is none, one cannot be read, or two would have the same name.
    """
    students = {}
    for name in [names] if isinstance(names, str) else names:
        encoder = load_encoder(name)
        stem = Path(name).stem.removeprefix("student-")
        tier = encoder.config["tier"] if isinstance(encoder, McuStudent) else stem
        model = checked(f"student-{tier}" if students else "student", Word, name)
        if model in students:
            raise UserError(
                f"{name}: the bundle has a {model} already; give one student of each tier"
            )
        students[model] = encoder
    if not students:
        raise UserError("a bundle needs at least one student")
    return students


def c_library(folder, plan, heads, certainty):
    """Write the folder `c`, if it was asked for, and return its part of the manifest."""
    models = plan.taken.get(SOURCE)
    if not models:
        return {}
    for model, encoder in plan.moving.items():
        write_int8(encoder, plan.names[model], folder / f"{model}_int8.tflite")
        weights = folder / WEIGHTS / f"{model}.safetensors"
        save_encoder(encoder, weights, without_folders(encoder.provenance))
    tables = {model: table_of(table) for model, table in certainty.items()}
    plain, moving = (
        [
            PackagedStudent(
                model, plan.names[model], folder / f"{model}_int8.tflite", heads.get(model, {}),
                tables.get(model),
            )
            for model in group
        ]
        for group in (models, plan.moving)
    )  # fmt: skip
    library = write_package(folder / FOLDER, [*plain, *moving])
    write_vectors(folder / FOLDER, plain)
    if moving:
        write_motion_vectors(folder / FOLDER, moving)
    return {"c": library}


def export_model(
    target,
    model,
    graph,
    rounded,
    folder,
    precisions,
    calibration,
    ppg,
    reference,
    mean,
    observer=None,
    budget=None,
):
    """Write one model in one format, and compare each file with PyTorch.

    Parameters
    ----------
    target : Target
    model : str
        "teacher", "student", ...
    graph, rounded : torch.nn.Module
        From `exportable`; and what becomes int8, see `with_mean_kept`.
    folder : Path
        Folder to write into.
    precisions : list of str
        Those that the target does not have are skipped.
    calibration, ppg : float32 arrays, shape (n, 1000)
        Scaled windows that set the int8 ranges, and others to compare on.
    reference, mean : float32 arrays, shapes (n, D) and (D,)
        Embeddings of PyTorch on `ppg`, and their mean on `calibration`.
    observer, budget : str, float, optional
        See `export`.

    Returns
    -------
    list of Exported
        `macs` are those of the graph: what the file computes for a window, which may be more than
        what the encoder does (kernels of several widths joined into one).
    """
    made = []
    for precision in [name for name in precisions if name in target.precisions]:
        path = folder / f"{model}_{precision}{target.suffix}"
        start = time.perf_counter()
        mixed, compared = {}, slice(None)
        if budget is not None and precision == "int8" and target.compare_layers:
            kept = export_within(target, graph, path, calibration, ppg[::2], budget, observer)
            # not those it was chosen by
            mixed, compared = {"float_layers": kept["float_layers"]}, slice(1, None, 2)
        else:
            source = rounded if precision == "int8" else graph
            target.convert(source, path, precision, calibration, observer)
        refuse_saturated(target, path)
        seconds, drift = time.perf_counter() - start, None
        if target.can_open:
            drift = drift_of(target.open(path), ppg[compared], reference[compared], mean)
        entry = {
            "model": model,
            "format": target.name,
            "precision": precision,
            "file": path.name,
            "bytes": path.stat().st_size,
            "macs": count_macs(graph, INPUT_SHAPE),
            **({"embedding": graph.encoder.embed_dim} if isinstance(graph, BeatGraph) else {}),
            **target.inspect(path),
            **mixed,
            "drift": drift,
        }
        made.append(Exported(parsed(entry, Entry, path), round(seconds, 1)))
    return made


def row_of(made):
    """Return the row on an `Exported` file in the result of `xmae export`."""
    columns = ("model", "format", "precision", "file", "bytes", "drift", "undelegated")
    entry = made.entry.as_json()
    return {key: entry[key] for key in columns} | {"export_s": made.seconds}


def refuse_saturated(target, path):
    """Raise a `UserError` if a bias of an int8 file overflows 32 bits."""
    if full := target.saturated(path):
        raise UserError(
            f"{path.name}: the bias {full[0]} does not fit into 32 bits, so its channel is lost;"
            " the weights of that channel are next to nothing: train on, or prune it"
        )


def brought_heads(names, keep):
    """Return {model: the heads that it came with, if they are to be kept, or None}.

    Parameters
    ----------
    names : dict
        Model -> name or file that it was loaded from.
    keep : bool or None
        See `export`.

    Raises
    ------
    UserError
        If heads are to be kept, and no model has any.
    """
    brought = {
        model: None if keep is False else heads_of(name) or None for model, name in names.items()
    }
    if keep and not any(brought.values()):
        raise UserError(
            f"--keep-heads: {' and '.join(map(str, names.values()))} came without heads; leave it"
            " out, and heads are fitted on the train split"
        )
    return brought


def summary_of(models, heads, brought):
    """Summarise in a few lines what was exported, and whether it is good."""
    lines = [f"{len(models)} files of {len({entry.model for entry in models})} models"]
    cosines = {entry.file: entry.drift.centred_cosine_median for entry in models if entry.drift}
    if cosines:
        worst = min(cosines, key=cosines.get)
        lines.append(
            f"embeddings against PyTorch: centred cosine {cosines[worst]:.4f} or better ({worst})"
        )
    lines += [
        f"warning: {file} keeps little of its float weights (centred cosine {value:.2f}): see xmae"
        " quantize, --observer and --drift-budget"
        for file, value in cosines.items()
        if value < POOR
    ]
    kept = [model for model, found in brought.items() if found]
    if kept:
        lines.append(f"heads of {', '.join(kept)} are those that it came with (--keep-heads)")
    if left := sorted(set().union(*heads.at_chance.values())):
        lines.append(f"without a head, as it would say no more than a constant: {', '.join(left)}")
    return lines


def drift_of(session, ppg, reference, mean):
    """Compare the embeddings of an opened file with PyTorch's, on fewer windows where an
    interpreter is slow.
    """
    if isinstance(session, ApartSession):
        ppg, reference = evenly(ppg, N_CHECKED), evenly(reference, N_CHECKED)
    return {"windows": len(ppg)} | drift_of_embeddings(session(ppg), reference, mean)


def library_line(manifest):
    """Name the folder of the C library, if there is one."""
    if manifest.c is None:
        return []
    names = ", ".join(model.name for model in manifest.c.models)
    return [f"libxmae with {names}: {FOLDER}/README.md says how to build and test it"]


def beat_tables(students, store):
    """Return the manifest's certainty tables for the students that read beats, and warnings."""
    tables, notes = {}, []
    for model, encoder in students.items():
        if not isinstance(encoder, BeatStudent):
            continue
        windows = store.windows("val") if "val" in store.splits.values() else None
        table, how = certainty_of(encoder, windows)
        if table is None:
            notes.append(f"warning: {model} has no certainty table and gives no heart rate: {how}")
        else:
            tables[model] = CertaintyTable(half_width=table.half_width.tolist(), least=table.least)
    return tables, notes
