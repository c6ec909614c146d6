"""The support matrix, docs/targets.md: each model in each target and precision, with what was measured of it.

    xmae prepare bidmc --out store --min-quality -1
    xmae export base --student student-mcu --data store --targets all --precisions all --out bundle
    python -m xmae.benchmarks.support_matrix bundle store docs/targets.md

Files that this machine can run were compared with PyTorch when the bundle was made; here the TFLite files also go
through LiteRT's reference kernels, TensorFlow Lite Micro and tflite-runtime 2.14.
"""

import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

from xmae.data.store import WindowStore
from xmae.errors import UserError
from xmae.export import litert, tflite_runtime
from xmae.export.bundle import Bundle
from xmae.export.card import table
from xmae.files import atomic_file
from xmae.firmware_sim import tflm
from xmae.models import load_encoder
from xmae.quantize.calibration import held_out
from xmae.quantize.graph import exportable
from xmae.quantize.layers import centred_cosine, run_graph

N_WINDOWS = 16  # held-out windows that go through every runtime of a TFLite file
CHECKED = {  # how a file that needs its device was run here
    "cortex-m": "its instructions one by one in its own memory plan, integer arithmetic of each CMSIS-NN operator",
    "ethos": "its TOSA graph in Arm's reference model",
    "vela": "not run: it must compute what TensorFlow Lite Micro does of the file it was compiled from",
}
PAGE = """# What runs where

Every cell was exported from the shipped weights, with one static shape (1, 1, 1, 1000), and measured; written by

```sh
{command}
```

Centred cosine: embeddings of the file against float PyTorch on held-out windows, after the mean training embedding is
taken away (median / 5th percentile). `tests/test_export.py` and `tests/test_targets.py` hold every cell to it.
"Outside" are operators that the target's accelerated kernels do not take: "none" is the whole network.

{files}

How the files for devices were checked here: {checked}.

## One TFLite file, four interpreters

Centred cosine (median) to float PyTorch, on {n} windows. Arena: what TensorFlow Lite Micro allocates for the model.

{runtimes}

## Ethos-U, estimated

By Arm's compiler Vela with its own models of the NPU and its memories; nothing here was measured on a chip. Layer by
layer in the `.csv` beside each `vela` file.

{estimates}

## Tools that cannot share an environment

`tosa-tools` (for Ethos-U and Cortex-M) pins an older ml_dtypes, and tflite-runtime 2.14 needs numpy 1 and Python up to
3.11: each lives in a folder of its own under `~/.cache/xmae/environments`, installed with pip on first use. The rest is
`pip install 'xmae[edge,firmware]'`.

## What is not there

- The teacher on microcontrollers: CMSIS-NN, Ethos-U55 and TensorFlow Lite Micro lack operators of its attention; asking
  for it names the layer.
- int8 input and output in ExecuTorch and ONNX files: they quantize inside.
- int4 weights anywhere but in LiteRT; int16 activations anywhere but in LiteRT and TensorFlow Lite Micro.
- Vendors' own compilers: none that a package registry carries covers these networks without an SDK of its own.
"""


def support_matrix(bundle, data, out):
    """Measure a bundle's TFLite files in all four interpreters and write the page.

    Parameters
    ----------
    bundle, data, out : str
        Folder of a bundle with all targets and precisions, the store it was made with, and the page to write.

    Raises
    ------
    UserError
        If bundle or store cannot be read, or the page cannot be written.
    """
    opened, ppg = Bundle.open(bundle), held_out(WindowStore(data), N_WINDOWS, 77)
    columns = ("model", "target", "precision", "kB", "centred cosine", "outside", "memory")
    page = PAGE.format(
        command=__doc__.split("\n\n")[1].replace("    ", ""),
        files=table(columns, [file_row(entry) for entry in opened.all_models]),
        checked="; ".join(f"{kind}: {how}" for kind, how in CHECKED.items()),
        n=N_WINDOWS,
        runtimes=runtimes(opened, ppg),
        estimates=estimates(opened),
    )
    with atomic_file(out) as temporary:
        temporary.write_text(page)


def file_row(entry):
    """Cells of one exported file."""
    drift = entry["drift"]
    return (
        *(entry[key] for key in ("model", "format", "precision")),
        f"{entry['bytes'] / 1000:.0f}",
        f"{drift['centred_cosine_median']:.4f} / {drift['centred_cosine_p5']:.4f}" if drift else "",
        "" if entry["undelegated"] is None else ", ".join(entry["undelegated"]) or "none",
        f"{entry['arena_bytes']:,} B planned" if "arena_bytes" in entry else "",
    )


def runtimes(bundle, ppg):
    """Table of the TFLite files in LiteRT with XNNPACK and with reference kernels, TFLM and tflite-runtime 2.14."""
    rows = []
    entries = [entry for entry in bundle.all_models if entry["format"] == "litert"]
    references = {}
    for entry in tqdm(entries, "TFLite files"):
        model, path = entry["model"], bundle.path / entry["file"]
        if model not in references:
            graph = exportable(load_encoder(bundle.path / f"{model}.safetensors"))
            references[model] = run_graph(graph, ppg)
        ways = (
            litert.open_model,
            lambda path: litert.open_model(path, reference=True),
            lambda path: lambda ppg: tflm.run_tflm(path, ppg, tflm.AMPLE),
            tflite_runtime.open_model,
        )
        cells = [cell(way, path, ppg, references[model]) for way in ways]
        rows.append((model, entry["precision"], *cells, arena(path) if cells[2].startswith("0.") else ""))
    header = ("model", "precision", "LiteRT, XNNPACK", "LiteRT, reference", "TFLM", "tflite-runtime 2.14", "TFLM arena")
    return table(header, rows)


def cell(open_model, path, ppg, reference):
    """Median centred cosine of a file in an interpreter, or why it does not run there."""
    try:
        actual = open_model(path)(ppg)
    except UserError as error:
        return "no: " + str(error).partition("(")[2].rstrip(")")[:90].replace("|", "/")
    return f"{np.median(centred_cosine(actual, reference, reference.mean(0))):.4f}"


def arena(path):
    """Smallest arena, as a cell."""
    return f"{tflm.measure_arena(path):,} B"


def estimates(bundle):
    """Table of what Vela estimates."""
    rows = []
    for entry in bundle.all_models:
        if e := entry.get("estimated"):
            ms = f"{e['inference_ms']:.3f}" if "inference_ms" in e else ""
            rows.append((entry["format"], f"{e['cycles']:,}", ms, f"{e['macs'] / 1e6:.2f}", e["source"]))
    return table(("target", "cycles", "ms", "M MAC", "estimated by"), rows)


if __name__ == "__main__":
    if len(sys.argv) != 4 or not Path(sys.argv[1]).is_dir():
        sys.exit(__doc__)
    support_matrix(*sys.argv[1:])
