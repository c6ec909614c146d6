"""Every method's encoder in every format: does what other methods pretrained export and quantize
like xMAE's own?

    python -m xmae.benchmarks.studies.int8_methods runs/methods runs/cinc

exports the encoder of each method of a comparison (benchmarks/results/probes.md has its commands),
float and int8 (ranges by 64 windows of training subjects), runs each file in its own runtime on
windows of validation subjects, and writes how far it is from PyTorch. With `--work FOLDER`, what is
done is kept there.
"""

import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from xmae.benchmarks.harness.saved_results import kept, made_of
from xmae.benchmarks.harness.sessions import TITLES
from xmae.benchmarks.studies.runner import run_study
from xmae.data.store.store import WindowStore
from xmae.errors import UserError, names_of
from xmae.export.int8 import FORMATS
from xmae.models import load_encoder
from xmae.native import one_thread
from xmae.quantize.calibration import held_out, training_windows
from xmae.quantize.graph import exportable
from xmae.quantize.layers import centred_cosine, run_graph
from xmae.tables import markdown_table

N_CALIBRATION, N_COMPARED, SEED = 64, 64, 77
COLUMNS = (
    "method", "encoder", "parameters", "format", "fp32, largest error", "int8, kB",
    "int8, centred cosine", "left",
)  # fmt: skip


def int8_methods(
    compared: str, store: str, /, *, methods: str | None = None, work: str | None = None
) -> str:
    """Export every method's encoder in every format, and compare it with PyTorch.

    Parameters
    ----------
    compared : str
        Folder of METHOD/encoder.safetensors, as of `xmae compare`.
    store : str
        Store of windows.
    methods : str or None
        Some of them, separated by commas; default: all that are there.
    work : str or None
        Folder for what is done already; not done again unless it is of other things.

    Raises
    ------
    UserError
        If a method has no encoder there.
    """
    chosen = known_methods(Path(compared), methods)
    rows, opened = [], WindowStore(store)
    with tempfile.TemporaryDirectory() as folder, one_thread():
        for method in tqdm(chosen, unit="method"):
            encoder = load_encoder(Path(compared) / method / "encoder.safetensors")
            of = made_of(
                encoder, opened, FORMATS, calibration=N_CALIBRATION, compared=N_COMPARED, seed=SEED
            )
            make = partial(measure, encoder, opened, Path(folder))
            found = kept(Path(work or folder) / f"{method}.json", of, make)
            rows += [{"method": method} | row for row in found]
    return page(rows)


def known_methods(compared, methods):
    """Return the methods to export; raises a `UserError` if one has no encoder."""
    there = sorted(path.parent.name for path in compared.glob("*/encoder.safetensors"))
    chosen = names_of(methods) if methods else there
    if not there or not set(chosen) <= set(there):
        lacking = ", ".join(sorted(set(chosen) - set(there))) or "any method"
        raise UserError(
            f"{compared}: holds no encoder.safetensors of {lacking}; make it with `xmae compare`"
        )
    return chosen


def measure(encoder, store, folder):
    """Return one row per format of an encoder: bytes, largest error of fp32, centred cosines of
    int8, seconds.
    """
    graph, chosen = (
        exportable(encoder),
        training_windows(store.windows("train"), N_CALIBRATION, SEED),
    )
    calibration, ppg = chosen.ppg, held_out(store, N_COMPARED, SEED, chosen)
    reference, mean = run_graph(graph, ppg), run_graph(graph, calibration).mean(0)
    rows = []
    for name, target in FORMATS.items():
        started, found = time.process_time(), {}
        for precision in ("fp32", "int8"):
            file = folder / f"{precision}{target.suffix}"
            target.convert(graph, file, precision, calibration)
            found[precision] = file.stat().st_size, target.open(file)(ppg)
        (_, exact), (n_bytes, rounded) = found.values()
        median, p5 = np.percentile(centred_cosine(rounded, reference, mean), [50, 5])
        rows.append(
            {
                "encoder": type(encoder).__name__.removesuffix("Encoder"),
                "parameters": sum(p.numel() for p in encoder.parameters()),
                "format": name,
                "fp32_error": float(np.abs(exact - reference).max()),
                "bytes": n_bytes,
                "median": float(median),
                "p5": float(p5),
                "left": target.inspect(file)["undelegated"],
                "cpu_seconds": time.process_time() - started,
            }
        )
    return rows


def page(rows):
    """Write the page as Markdown."""
    cpu = sum(row["cpu_seconds"] for row in rows) / 60
    return f"""# Every method's encoder, float and int8, in three formats

The encoders and the store are those of [probes](probes.md), which has the commands that make
both. {N_CALIBRATION} calibration windows of training subjects, minmax; {N_COMPARED} windows of
validation subjects compared; seed {SEED}; {cpu:.0f} min of processor time on one thread.

fp32: largest error of any element of the embedding against PyTorch. int8: centred cosine against
PyTorch fp32, median / 5th percentile of the windows. Left: operators that the delegate, or int8,
did not take.

{markdown_table(COLUMNS, [cells_of(row) for row in rows])}
"""


def cells_of(row):
    """Return the cells of one file."""
    return (
        row["method"],
        row["encoder"],
        f"{row['parameters']:,}",
        TITLES[row["format"]],
        f"{row['fp32_error']:.1e}",
        f"{row['bytes'] / 1e3:,.0f}",
        f"{row['median']:.4f} / {row['p5']:.4f}",
        ", ".join(row["left"] or []),
    )


if __name__ == "__main__":
    run_study(int8_methods, "int8_methods.md")
