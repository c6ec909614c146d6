"""Two trained encoders become a bundle: every format and precision, each checked in its own runtime once written."""

import os
import time
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context

import numpy as np
from tqdm import tqdm

from xmae.data.store import WindowStore
from xmae.evaluation.embedding import embed_windows
from xmae.evaluation.heads import apply_head, fit_heads
from xmae.evaluation.tasks import TASKS
from xmae.export import c_source
from xmae.export.bundle import HEADS, MANIFEST, SCHEMA_VERSION, preprocessing, seal
from xmae.export.card import model_card
from xmae.export.targets import SOURCE, TARGETS, chosen_targets
from xmae.files import atomic_folder, write_json
from xmae.models import load_encoder, save_encoder
from xmae.models.student import count_macs
from xmae.quantize.calibration import held_out, read_calibration, training_windows
from xmae.quantize.graph import INPUT_SHAPE, exportable
from xmae.quantize.layers import centred_cosine, run_graph
from xmae.quantize.native import one_thread
from xmae.signals.window import N_TIMES, SFREQ

N_COMPARED = 64  # held-out windows on which each exported file is compared with PyTorch
PACKAGES = (
    "xmae", "torch", "torchao", "executorch", "litert-torch", "ai-edge-litert", "ai-edge-quantizer", "onnx",
    "onnxruntime",
)  # fmt: skip


def export(
    teacher: str,
    student: str,
    data: str,
    out: str = "runs/bundle",
    calibration: str | None = None,
    targets: str = "all",
    n_calibration: int = 256,
    seed: int = 77,
) -> dict:
    """Write a bundle: teacher and student, float and int8, for each runtime, with heads, manifest and model card.

    Parameters
    ----------
    teacher : str
        Encoder: a name such as "base" or a .safetensors file.
    student : str
        Encoder: a name such as "student-mcu" or a .safetensors file.
    data : str
        Store of windows. Calibration and heads see its train split only; its val split judges them.
    out : str
        Folder of the bundle; replaced as a whole when all is done.
    calibration : str or None
        calibration.npz of `xmae quantize`; by default the same windows are chosen here.
    targets : str
        Formats, separated by commas: executorch, litert, onnx; or "all" of these. Also c: C99 source of the int8
        student for microcontrollers, with its kernels, from the litert file.
    n_calibration : int
        Windows (10 s each) that set the int8 ranges, unless `calibration` is given.
    seed : int
        Seed of the choice of windows.

    Returns
    -------
    dict
        A row per file: model, format, precision, bytes, centred cosine against PyTorch (median and 5th percentile),
        undelegated operators, seconds it took; "out".

    Raises
    ------
    UserError
        If an encoder, the store or the calibration cannot be used, a target is unknown or not installed, calibration
        would leak from val or test subjects, or `out` cannot be written; `out` is then as it was before.
    """
    formats, store = chosen_targets(targets), WindowStore(data)
    train = store.windows("train")
    ranges = (
        read_calibration(calibration, store.splits) if calibration else training_windows(train, n_calibration, seed)
    )
    ppg = held_out(store, N_COMPARED, seed)
    encoders = {"teacher": load_encoder(teacher), "student": load_encoder(student)}
    with atomic_folder(out, MANIFEST) as folder:
        graphs = {model: exportable(encoder) for model, encoder in encoders.items()}
        expected = {
            model: (run_graph(graph, ppg), run_graph(graph, ranges.ppg).mean(0)) for model, graph in graphs.items()
        }
        work = [
            (format, model, graph, folder, ranges.ppg, ppg, *expected[model])
            for format in formats
            if format in TARGETS
            for model, graph in graphs.items()
        ]
        with ProcessPoolExecutor(min(2, os.cpu_count()), mp_context=get_context("spawn")) as pool:
            pairs = pool.map(export_model, *zip(*work, strict=True))
            models = [entry for pair in tqdm(pairs, "export", len(work), unit="model") for entry in pair]
        source = {"c_source": c_source.export(folder)} if SOURCE in formats else {}
        heads, metrics = {}, {}
        for model, encoder in encoders.items():
            save_encoder(encoder, folder / f"{model}.safetensors", encoder.provenance)
            heads[model], metrics[model] = make_heads(encoder, store, train)
        write_json(folder / HEADS, heads)
        manifest = {
            "schema_version": SCHEMA_VERSION,
            "name": "xmae",
            "created_with": {name: found for name in PACKAGES if (found := installed(name))},
            "window": {"sfreq": SFREQ, "n_times": N_TIMES, "range": [-1, 1]},
            "preprocessing": preprocessing(),
            "models": models,
            "calibration": ranges.describe(),
            "metrics": {"heads_on_val": metrics},
            "provenance": {model: encoder.provenance for model, encoder in encoders.items()},
            "licence": "Apache-2.0",
            **source,
        }
        (folder / "model_card.md").write_text(model_card(manifest))
        seal(folder, manifest)
    columns = ("model", "format", "precision", "bytes", "drift", "undelegated", "export_s")
    return {"models": [{key: entry[key] for key in columns} for entry in models], "out": str(out)}


def export_model(format, model, graph, folder, calibration, ppg, reference, mean):
    """Write one model in one format, float and int8, and compare both files with PyTorch: entries of the manifest.

    Parameters
    ----------
    format, model : str
        Name of a target; "teacher" or "student".
    graph : torch.nn.Module
        From `exportable`.
    folder : Path
        Where to.
    calibration, ppg : float32 arrays, shape (n, 1000)
        Scaled windows that set the int8 ranges, and others to compare on.
    reference, mean : float32 arrays, shapes (n, D) and (D,)
        What PyTorch gives on `ppg`, and on average on `calibration`.

    Returns
    -------
    list of dict
    """
    target = TARGETS[format]
    entries = []
    for precision in ("fp32", "int8"):
        path = folder / f"{model}_{precision}{target.SUFFIX}"
        start = time.perf_counter()
        target.export(graph, path, precision, calibration)
        seconds = time.perf_counter() - start
        actual = target.open_model(path)(ppg)
        median, p5 = np.percentile(centred_cosine(actual, reference, mean), [50, 5])
        entries.append(
            {
                "model": model,
                "format": format,
                "precision": precision,
                "file": path.name,
                "bytes": path.stat().st_size,
                "macs": count_macs(graph, INPUT_SHAPE),
                "params": sum(parameter.numel() for parameter in graph.parameters()),
                **target.inspect_model(path),
                "drift": {
                    "windows": len(ppg),
                    "centred_cosine_median": float(median),
                    "centred_cosine_p5": float(p5),
                    "max_error": float(np.abs(actual - reference).max()),
                },
                "export_s": round(seconds, 1),
            }
        )
    return entries


@one_thread()
def make_heads(encoder, store, train):
    """Heads fitted on the train split, and what those that give numbers miss by on the val split, if there is one.

    Returns
    -------
    heads : dict
        From `fit_heads`.
    metrics : dict
        By task: `mae` of the head and `mae_constant` of the training mean, in `units`, over `windows` of `subjects`.
    """
    heads, metrics = fit_heads(embed_windows(encoder, train), train), {}
    if "val" not in store.splits.values():
        return heads, metrics
    val = store.windows("val")
    embeddings = embed_windows(encoder, val)
    for name, head in heads.items():
        truth = TASKS[name].target(val)
        known = np.isfinite(truth)
        if head["kind"] != "regression" or not known.any():
            continue
        constant = np.nanmean(TASKS[name].target(train))
        metrics[name] = {
            "units": head["units"],
            "mae": float(np.abs(apply_head(head, embeddings[known]) - truth[known]).mean()),
            "mae_constant": float(np.abs(constant - truth[known]).mean()),
            "windows": int(known.sum()),
            "subjects": len(set(val.subject[known])),
        }
    return heads, metrics


def installed(package):
    """Version of an installed package, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
