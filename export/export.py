"""Trained encoders become a bundle: every format and precision, each checked in its own runtime
once written.
"""

import os
import time
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path
from threading import Thread

from tqdm import tqdm

from xmae.data.store.store import WindowStore
from xmae.errors import UserError
from xmae.export.bundle.beat_rows import certainty_of, table_of
from xmae.export.bundle.bundle import HEADS, MANIFEST, preprocessing, seal
from xmae.export.bundle.card import model_card
from xmae.export.bundle.migrate import SCHEMA_VERSION
from xmae.export.bundle.provenance import data_provenance, tool_versions, without_folders
from xmae.export.bundle.signature import load_key
from xmae.export.heads import make_heads
from xmae.export.mixed import check_budget, export_within
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
from xmae.manifest import Word, checked
from xmae.models import load_encoder, save_encoder
from xmae.models.beat_student import BeatStudent
from xmae.models.checkpoint import heads_of, is_foreign
from xmae.models.student import McuStudent, count_macs
from xmae.progress import stage
from xmae.quantize.calibration import evenly, held_out, read_calibration, training_windows
from xmae.quantize.graph import INPUT_SHAPE, BeatGraph, exportable
from xmae.quantize.layers import drift_of_embeddings, run_graph
from xmae.quantize.observers import known_observer
from xmae.signals.window import N_TIMES, SFREQ

N_COMPARED = 64  # held-out windows on which each exported file is compared with PyTorch
POOR = 0.95  # centred cosine to PyTorch below which a file is warned of
N_CHECKED = 16  # of them, where an interpreter in Python stands for the device


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
        "student-app".
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
    formats, store = chosen_targets(targets), WindowStore(data)
    chosen = chosen_precisions(precisions, formats)
    if sign_with:
        # a wrong one is known before the work
        load_key(sign_with, "load_pem_private_key", password=None)
    if observer is not None:
        known_observer(observer)
    if drift_budget is not None:
        check_budget(drift_budget)
        if without := ", ".join(format for format in formats if not keeps_floats(format)):
            raise UserError(
                f"target {without} has int8 arithmetic only; leave it or the drift budget out"
            )
    if SOURCE in formats and "int8" not in chosen:
        raise UserError(
            f"target {SOURCE} is written from the int8 student; add int8 to --precisions"
        )
    train = store.windows("train")
    ranges = (
        read_calibration(calibration, store.splits)
        if calibration
        else training_windows(train, n_calibration, seed)
    )
    ppg = held_out(store, N_COMPARED, seed, ranges)
    original = load_encoder(teacher)
    # weights of others stay with their owners: the bundle has the student only
    own = {} if is_foreign(original) else {"teacher": original}
    students = load_students(student)
    encoders = own | students
    given = [student] if isinstance(student, str) else student
    names = dict(zip(students, (Path(name).stem for name in given), strict=True))
    sources = dict(zip(encoders, [*[teacher] * len(own), *given], strict=True))
    brought = brought_heads(sources, keep_heads)
    graphs = {model: exportable(encoder) for model, encoder in encoders.items()}
    taken = {
        format: [model for model, graph in graphs.items() if takes(format, model, graph)]
        for format in formats
    }
    if targets != "all" and (
        idle := ", ".join(format for format, models in taken.items() if not models)
    ):
        raise UserError(
            f"target {idle} has no operators for attention; give a student without, or leave it out"
        )
    with atomic_folder(out, MANIFEST) as folder:
        stage(f"what PyTorch says on {len(ranges.ppg)} calibration and {len(ppg)} other windows")
        expected = {
            model: (run_graph(graph, ppg), run_graph(graph, ranges.ppg).mean(0))
            for model, graph in graphs.items()
        }
        work = [
            (
                TARGETS[format],
                model,
                graphs[model],
                folder,
                chosen,
                ranges.ppg,
                ppg,
                *expected[model],
                observer,
                drift_budget,
            )
            for format, models in taken.items()
            if format in TARGETS
            for model in models
        ]
        with two_processes() as pool:
            pairs = pool.map(export_model, *zip(*work, strict=True))
            models = [
                entry | {"params": sum(p.numel() for p in encoders[entry["model"]].parameters())}
                for pair in tqdm(pairs, "export", len(work), unit="model")
                for entry in pair
            ]
        origins = {
            model: without_folders(encoder.provenance) for model, encoder in encoders.items()
        }
        stage("heads")
        heads, metrics, at_chance = {}, {}, {}
        for model, encoder in encoders.items():
            save_encoder(encoder, folder / f"{model}.safetensors", origins[model])
            heads[model], metrics[model], at_chance[model] = make_heads(
                encoder, store, train, brought[model]
            )
        write_json(folder / HEADS, heads)
        certainty, notes = beat_tables(students, store)
        tables = {model: table_of(table) for model, table in certainty.items()}
        library = c_library(folder, taken.get(SOURCE), names, heads, tables)
        provenance = data_provenance(store, ranges, data_licence)
        manifest = {
            "schema_version": SCHEMA_VERSION,
            "name": "xmae",
            "tools": tool_versions(formats),
            "window": {"sfreq": SFREQ, "n_times": N_TIMES, "range": [-1, 1]},
            "preprocessing": preprocessing(),
            "models": [
                {key: value for key, value in entry.items() if key != "export_s"}
                for entry in models
            ],
            "certainty": certainty,
            "data": provenance,
            "metrics": {"heads_on_val": metrics, "heads_at_chance": at_chance},
            "provenance": origins,
            "licences": {"models": "Apache-2.0", "data": provenance["licence"]},
            **library,
        }
        (folder / "model_card.md").write_text(model_card(manifest))
        seal(folder, manifest, sign_with)
    columns = ("model", "format", "precision", "file", "bytes", "drift", "undelegated", "export_s")
    return {
        "models": [{key: entry[key] for key in columns} for entry in models],
        "heads": {model: list(tasks) for model, tasks in heads.items()},
        "summary": [*summary_of(models, metrics, brought, at_chance), *notes],
        "out": str(out),
    }


@contextmanager
def two_processes():
    """A pool for long work, whose processes end with this one however that ends, and at once if the
    work fails here.

    Raises
    ------
    UserError
        If one of them is killed.
    """
    before = active_children()
    with ProcessPoolExecutor(
        min(2, os.cpu_count()), get_context("spawn"), initializer=end_with_parent
    ) as pool:
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
    """Let this process of a pool end as soon as the one that started it has ended."""
    Thread(target=lambda: (parent_process().join(), os._exit(1)), daemon=True).start()


def load_students(names):
    """{"student": the first, "student-app": another by its tier, or else by its file}.

    Raises
    ------
    UserError
        If there is none, one cannot be read, or two would have the same name.
    """
    students = {}
    for name in [names] if isinstance(names, str) else names:
        encoder = load_encoder(name)
        tier = encoder.config["tier"] if isinstance(encoder, McuStudent) else Path(name).stem
        model = checked(f"student-{tier}" if students else "student", Word, name)
        if model in students:
            raise UserError(
                f"{name}: the bundle has a {model} already; give one student of each tier"
            )
        students[model] = encoder
    if not students:
        raise UserError("a bundle needs at least one student")
    return students


def c_library(folder, models, names, heads, tables):
    """Write the folder `c` for these models, if there are any; its part of the manifest."""
    if not models:
        return {}
    students = [
        PackagedStudent(
            model, names[model], folder / f"{model}_int8.tflite", heads[model], tables.get(model)
        )
        for model in models
    ]
    library = write_package(folder / FOLDER, students)
    write_vectors(folder / FOLDER, students)
    return {"c": library}


def export_model(
    target,
    model,
    graph,
    folder,
    precisions,
    calibration,
    ppg,
    reference,
    mean,
    observer=None,
    budget=None,
):
    """Write one model in one format and compare each file with PyTorch: entries of the manifest.

    Parameters
    ----------
    target : Target
    model : str
        "teacher", "student", ...
    graph : torch.nn.Module
        From `exportable`.
    folder : Path
        Where to.
    precisions : list of str
        Those that the target does not have are skipped.
    calibration, ppg : float32 arrays, shape (n, 1000)
        Scaled windows that set the int8 ranges, and others to compare on.
    reference, mean : float32 arrays, shapes (n, D) and (D,)
        What PyTorch gives on `ppg`, and on average on `calibration`.
    observer, budget : str, float, optional
        See `export`.

    Returns
    -------
    list of dict
        `macs` are those of the graph: what the file computes for a window, which may be more than
        what the encoder does (kernels of several widths joined into one).
    """
    entries = []
    for precision in [name for name in precisions if name in target.precisions]:
        path = folder / f"{model}_{precision}{target.suffix}"
        start = time.perf_counter()
        mixed, compared = {}, slice(None)
        if budget is not None and precision == "int8" and target.compare_layers:
            kept = export_within(target, graph, path, calibration, ppg[::2], budget, observer)
            # not those it was chosen by
            mixed, compared = {"float_layers": kept["float_layers"]}, slice(1, None, 2)
        else:
            target.convert(graph, path, precision, calibration, observer)
        refuse_saturated(target, path)
        seconds, drift = time.perf_counter() - start, None
        if target.can_open:
            drift = drift_of(target.open(path), ppg[compared], reference[compared], mean)
        entries.append(
            {
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
                "export_s": round(seconds, 1),
            }
        )
    return entries


def refuse_saturated(target, path):
    """Raise a `UserError` if a bias of an int8 file does not fit into 32 bits."""
    if full := target.saturated(path):
        raise UserError(
            f"{path.name}: the bias {full[0]} does not fit into 32 bits, so its channel is lost;"
            " the weights of that channel are next to nothing: train on, or prune it"
        )


def brought_heads(names, keep):
    """{model: heads that it came with and that are to be kept, or None}.

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


def summary_of(models, metrics, brought, at_chance):
    """What was exported and whether it is good, in a few lines."""
    lines = [f"{len(models)} files of {len({entry['model'] for entry in models})} models"]
    cosines = {
        entry["file"]: entry["drift"]["centred_cosine_median"] for entry in models if entry["drift"]
    }
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
    for model, tasks in metrics.items():
        poor = [name for name, row in tasks.items() if row["mae"] >= row["mae_constant"]]
        if poor:
            lines.append(
                f"warning: heads of {model} that are no better than a constant on val: "
                f"{', '.join(poor)}"
            )
    kept = [model for model, heads in brought.items() if heads]
    if kept:
        lines.append(f"heads of {', '.join(kept)} are those that it came with (--keep-heads)")
    if left := sorted({label for labels in at_chance.values() for label in labels}):
        lines.append(f"without a head, as it would say no more than a constant: {', '.join(left)}")
    return lines


def drift_of(session, ppg, reference, mean):
    """Embeddings of an opened file against PyTorch's; on fewer windows where only an interpreter
    can check it.
    """
    if isinstance(session, ApartSession):
        ppg, reference = evenly(ppg, N_CHECKED), evenly(reference, N_CHECKED)
    return {"windows": len(ppg)} | drift_of_embeddings(session(ppg), reference, mean)


def beat_tables(students, store):
    """Certainty tables of the students that read beats, for the manifest, and warnings."""
    tables, notes = {}, []
    for model, encoder in students.items():
        if not isinstance(encoder, BeatStudent):
            continue
        windows = store.windows("val") if "val" in store.splits.values() else None
        table, how = certainty_of(encoder, windows)
        if table is None:
            notes.append(f"warning: {model} has no certainty table and gives no heart rate: {how}")
        else:
            tables[model] = {"half_width": table.half_width.tolist(), "least": table.least}
    return tables, notes
