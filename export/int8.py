"""`xmae quantize`: an encoder in int8 in each format, what each layer lost, and what staying within
a budget costs.
"""

import os

from tqdm import tqdm

from xmae.data.store.store import WindowStore
from xmae.errors import UserError
from xmae.export.mixed import check_budget, export_within
from xmae.export.targets.registry import TARGETS, as_list
from xmae.files import atomic_folder, write_json
from xmae.models import load_encoder
from xmae.progress import stage
from xmae.quantize.calibration import evenly, held_out, training_windows
from xmae.quantize.graph import exportable
from xmae.quantize.layers import drift_of_embeddings, error_of, run_graph
from xmae.quantize.observers import MINMAX, known_observer
from xmae.quantize.pt2e import with_mean_kept

FORMATS = {name: target for name, target in TARGETS.items() if target.compare_layers}
# held-out windows on which files are compared; a budget is judged on as many others
N_COMPARED = 64
N_LAYERS = 8  # windows for the layers, all in memory at once


def quantize(
    model: str,
    data: str,
    out: str = "runs/quantize",
    n_calibration: int = 256,
    seed: int = 77,
    observer: str = MINMAX,
    targets: str = "executorch,litert,onnx",
    drift_budget: float | None = None,
) -> dict:
    """Quantize an encoder to int8 in each format, and report the loss in the embedding and in each
    layer.

    Writes the files int8.pte, int8.tflite and int8.onnx, `calibration.npz` (the windows that set
    the ranges; `xmae export` takes them) and `layers.json` (every layer against fp32, in running
    order, in each format).

    Parameters
    ----------
    model : str
        Encoder: a name such as "student-mcu" or a .safetensors file.
    data : str
        Store of windows; only its train split calibrates.
    out : str
        Folder for the files; replaced as a whole when all is done.
    n_calibration : int
        Windows (10 s each) that set the ranges of the activations.
    seed : int
        Seed of the choice of windows.
    observer : str
        How ranges are chosen: minmax, percentile (without the rarest 0.01 %), mse (least squared
        error), entropy.
    targets : str
        Any of executorch, litert, onnx, separated by commas.
    drift_budget : float or None
        Centred cosine to fp32, below 1, that 19 of 20 held-out windows must keep; layers that can
        least afford 8 bits then stay float until it holds. What is reported comes from other
        windows of the same subjects.

    Returns
    -------
    dict
        Calibration windows and subjects; `formats`, a row each: bytes, cosine (centred: median and
        5th percentile), SNR (dB) and largest error of the file's embedding against float on windows
        not calibrated on, run in the format's own runtime; the operation with the lowest SNR;
        layers that stayed float; "out".

    Raises
    ------
    UserError
        If the model or store cannot be used, the train split has too few windows that are not flat,
        observer or format is unknown, a library is not installed, or the budget cannot be kept.
    """
    known_observer(observer)
    names = as_list(targets)
    if unknown := [name for name in names if name not in FORMATS]:
        raise UserError(
            f"cannot quantize for {', '.join(map(repr, unknown))}; known: {', '.join(FORMATS)}"
        )
    if drift_budget is not None:
        check_budget(drift_budget)
    store = WindowStore(data)
    calibration = training_windows(store.windows("train"), n_calibration, seed)
    ppg = held_out(store, N_COMPARED * (1 if drift_budget is None else 2), seed, calibration)
    graph = exportable(load_encoder(model))
    rounded = with_mean_kept(graph, calibration.ppg, observer)
    rows, layers = [], {}
    with atomic_folder(out, "calibration.npz") as folder:
        calibration.save(folder / "calibration.npz")
        described = calibration.describe()
        for name in tqdm(names, "quantize", unit="format"):
            path = folder / f"int8{FORMATS[name].suffix}"
            row, layers[name] = quantize_for(
                FORMATS[name], graph, rounded, path, calibration.ppg, ppg, observer, drift_budget
            )
            rows.append({"format": name, "file": path.name} | row)
        about = {
            "model": model,
            "observer": observer,
            "drift_budget": drift_budget,
            "calibration": described,
        }
        write_json(folder / "layers.json", about | {"formats": rows, "layers": layers})
    return {
        "calibration_windows": described["n"],
        "calibration_subjects": len(described["subjects"]),
        "formats": rows,
        "out": str(out),
    }


def quantize_for(target, graph, rounded, path, calibration, ppg, observer, budget):
    """Write one int8 file and compare it with float: its row of the result, and one row per
    layer.
    """
    kept = {"float_layers": [], "float_modules": ()}
    stage(f"{target.name}: calibrate on {len(calibration)} windows and write {path.name}")
    if budget is None:
        target.convert(rounded, path, "int8", calibration, observer)
    else:
        judging, ppg = ppg[::2], ppg[1::2]  # what a file was chosen by says too much good of it
        rounded = graph
        kept = export_within(target, graph, path, calibration, judging, budget, observer)
    reference, actual = run_graph(graph, ppg), target.open(path)(ppg)
    few = evenly(ppg, N_LAYERS)
    stage(f"{target.name}: every layer against float, on {len(few)} windows")
    layers = target.compare_layers(rounded, path, calibration, observer, kept["float_modules"], few)
    worst = min(layers, key=lambda layer: layer["snr_db"])
    row = {
        "bytes": os.path.getsize(path),
        **drift_of_embeddings(actual, reference, run_graph(graph, calibration).mean(0)),
        **error_of(actual, reference),
        "worst_operation": f"{worst['operation']} of {worst['module'] or 'the embedding'}",
        "worst_snr_db": worst["snr_db"],
    }
    return row | ({"float_layers": kept["float_layers"]} if budget is not None else {}), layers
