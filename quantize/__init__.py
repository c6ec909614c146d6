"""From float to 8 bits: calibration windows, static post-training quantization, and what it costs layer by layer."""

from xmae.quantize.calibration import held_out, read_calibration, training_windows
from xmae.quantize.graph import exportable
from xmae.quantize.layers import compare_layers, compare_outputs
from xmae.quantize.pt2e import quantize_graph

__all__ = [
    "compare_layers",
    "compare_outputs",
    "exportable",
    "held_out",
    "quantize",
    "quantize_graph",
    "read_calibration",
    "training_windows",
]

N_COMPARED, N_LAYERS = 64, 8  # held-out windows for the embedding, and (all layers in memory at once) for the layers


def quantize(model: str, data: str, out: str = "runs/quantize", n_calibration: int = 256, seed: int = 77) -> dict:
    """Choose calibration windows, quantize an encoder to int8, and say what each layer lost.

    The int8 graph is PyTorch's own (PT2E, XNNPACK's rules); the exporters calibrate on the same windows. Writes
    `calibration.npz`, which `xmae export` takes, and `layers.json`.

    Parameters
    ----------
    model : str
        Encoder: a name such as "student-mcu" or a .safetensors file.
    data : str
        Store of windows; only its train split calibrates.
    out : str
        Folder for the two files; replaced as a whole when all is done.
    n_calibration : int
        Windows (10 s each) that set the ranges of the activations.
    seed : int
        Seed of the choice of windows.

    Returns
    -------
    dict
        Calibration windows and subjects; cosine (centred: median and 5th percentile), SNR (dB) and largest error of the
        int8 embedding against float on windows not calibrated on; the operation with the lowest SNR; "out".

    Raises
    ------
    UserError
        If the model or store cannot be used, or the train split has too few windows that are not flat.
    """
    from xmae.data.store import WindowStore
    from xmae.files import atomic_folder, write_json
    from xmae.models import load_encoder

    store = WindowStore(data)
    calibration = training_windows(store.windows("train"), n_calibration, seed)
    ppg = held_out(store, N_COMPARED, seed)
    graph = exportable(load_encoder(model))
    quantized = quantize_graph(graph, calibration.ppg)
    embedding = compare_outputs(graph, quantized, ppg, calibration.ppg)
    layers = compare_layers(graph, quantized, ppg[:N_LAYERS])
    with atomic_folder(out, "calibration.npz") as folder:
        calibration.save(folder / "calibration.npz")
        described = calibration.describe()
        write_json(
            folder / "layers.json",
            {"model": model, "calibration": described, "embedding": embedding, "layers": layers},
        )
    worst = min(layers, key=lambda layer: layer["snr_db"])
    return {
        "calibration_windows": described["n"],
        "calibration_subjects": len(described["subjects"]),
        **embedding,
        "worst_operation": f"{worst['operation']} of {worst['module'] or 'the embedding'}",
        "worst_snr_db": worst["snr_db"],
        "out": str(out),
    }
