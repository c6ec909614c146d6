"""The shipped encoders beside what people would use instead: accuracy and time, in turns, in one
run.

    python -m xmae.benchmarks.studies.side_by_side

prepares the shipped BIDMC recordings, exports the shipped encoders, and on the test subjects
compares: the teacher in PyTorch, eager and compiled; int8 in ExecuTorch, LiteRT and ONNX Runtime;
classic signal processing for the heart rate; and published models rebuilt at their stated size,
untrained, for what they cost. An exported bundle and its store can be given instead.
"""

import tempfile
import time
import warnings
from pathlib import Path

import neurokit2
import numpy as np
import torch
from tqdm import tqdm

from xmae.benchmarks.harness.sessions import RUNTIMES, TITLES, weight_files
from xmae.benchmarks.harness.stopwatch import all_threads, summarise, time_sessions
from xmae.benchmarks.studies.published_encoders import (
    PAPAGEI_SHAPE,
    TIMEPPG_SHAPE,
    TIMEPPG_SIZES,
    PaPaGeiS,
    TimePPGLike,
)
from xmae.benchmarks.studies.runner import run_study
from xmae.data.store.store import WindowStore
from xmae.errors import UserError
from xmae.evaluation.heads.features import NAMES, ppg_features
from xmae.evaluation.protocol.bootstrap import draw_weights, interval, mae
from xmae.export.bundle.bundle import Bundle
from xmae.export.int8_reader import Int8Reader
from xmae.export.stream import int8_file
from xmae.models import load_encoder
from xmae.models.student import count_macs
from xmae.quantize.calibration import evenly
from xmae.signals.scale import minmax_scale
from xmae.signals.window import SFREQ
from xmae.tables import markdown_table

TIMED_WINDOWS = 5  # of the test windows, in each round
BASE = "teacher fp32, PyTorch eager"
BEATS = "beats-mcu"
COLUMNS = (
    "what", "parameters", "weights or file, kB", "million MAC", "processor ms a window (95 %)",
    "of the eager teacher's (95 %)", "ms by the clock", "heart rate, MAE bpm (95 %)",
)  # fmt: skip


def side_by_side(*, bundle: str | None = None, store: str | None = None, rounds: int = 20) -> str:
    """Compare the shipped encoders with what people would use instead.

    Parameters
    ----------
    bundle : str or None
        Bundle of teacher and student; default: the shipped ones are exported.
    store : str or None
        Store that the bundle was made from.
    rounds : int
        Turns of the latency measurement.

    Raises
    ------
    UserError
        If a bundle is given without its store, or cannot be read.
    """
    if bool(bundle) != bool(store):
        raise UserError("--bundle and --store go together")
    with tempfile.TemporaryDirectory() as folder:
        if not bundle:
            bundle, store = shipped(Path(folder))
        opened, windows = Bundle.open(bundle), WindowStore(store).windows()
        rows, about = measure(opened, windows, rounds)
    return page(rows, about)


def shipped(folder):
    """Make the bundle and store of the shipped encoders and recordings in a folder; return both."""
    from xmae.data.prepare.prepare import prepare
    from xmae.export.export import export

    prepare(["bidmc"], str(folder / "store"), min_quality=-1)
    export("base", "student-mcu", str(folder / "store"), str(folder / "bundle"), precisions="int8")
    return folder / "bundle", folder / "store"


def measure(bundle, windows, rounds):
    """Measure accuracy on all test windows, then latency in turns.

    Parameters
    ----------
    bundle : Bundle
    windows : Windows
        All windows of the store.
    rounds : int

    Returns
    -------
    rows : list of dict
        `name`, `trained`, `parameters`, `bytes`, `macs`, `error` and `error_interval` (mean
        absolute error of the heart rate, bpm; 95 % by resampling subjects), `latency_ms`,
        `latency_interval`, `times_base`.
    about : dict
        `subjects`, `windows`, `silent` (windows in which a method found no pulse, by its name),
        `compile_s`.
    """
    test = windows.select(windows.split == "test")
    usual = float(np.nanmean(windows.labels["hr_ecg"][windows.split == "train"]))
    ppg = minmax_scale(test.ppg)[0]
    rows, about = [], {"rounds": rounds}
    with all_threads(1), torch.no_grad():
        models = contestants(bundle)
        silent = {}
        for name, model in tqdm(models.items(), desc="accuracy"):
            row = {"name": name, "trained": model["rate"] is not None} | model["size"]
            if model["rate"]:
                source = ppg if model["scaled"] else test.ppg
                rate = np.concatenate(
                    [model["rate"](model["run"](source[i : i + 1])) for i in range(len(source))]
                )
                silent[name] = int(np.isnan(rate).sum())
                row |= error(test, np.nan_to_num(rate, nan=usual))
            rows.append(row)
        rows.append({"name": "always the mean of the training subjects", "trained": True}
                    | error(test, np.full(len(ppg), usual)))  # fmt: skip
        timed = evenly(np.arange(len(ppg)), TIMED_WINDOWS)
        sessions = {name: on(model, ppg[timed], test.ppg[timed]) for name, model in models.items()}
        numbers = np.arange(len(timed))[:, None]
        times = time_sessions(sessions, numbers, rounds)
    for row in rows:
        if row["name"] in times:
            row |= summarise(times[row["name"]], times[BASE])
    about |= {
        "subjects": len(set(test.subject)), "windows": len(ppg),
        "silent": {k: n for k, n in silent.items() if n},
        "compile_s": models["teacher fp32, PyTorch compiled"]["compile_s"],
    }  # fmt: skip
    return rows, about


def on(model, scaled, raw):
    """Return a session that takes the number of a window, (1, 1), and runs the window, prepared for
    this model.
    """
    source = scaled if model["scaled"] else raw
    return lambda number: model["run"](source[number[0, 0]][None])


def error(windows, rate):
    """Return the mean absolute error of a heart rate (n,) against the ECG's, with its
    interval.
    """
    truth = windows.labels["hr_ecg"]
    known = ~np.isnan(truth)
    subjects, subject = np.unique(windows.subject[known], return_inverse=True)
    arguments = truth[known], rate[known], subject
    return {
        "error": float(mae(*arguments, np.ones((1, len(subjects))))[0]),
        "error_interval": interval(mae(*arguments, draw_weights(len(subjects)))),
    }


def contestants(bundle):
    """Return everything that is compared: {name: dict}.

    `run` takes one window (1, 1000), scaled to [-1, 1] if `scaled`; `rate` makes the heart rate
    (1,) of what it returns, None for the untrained; `size`: what is known of `parameters`, `bytes`
    and `macs`.
    """
    found = {}
    for model, path in weight_files(bundle).items():
        encoder, head = load_encoder(path).eval(), bundle.drift_heads(model)["hr"]
        size = network_size(encoder, (1, 1, 1000))
        found[f"{model} fp32, PyTorch eager"] = network(encoder, size, head)
        started = time.perf_counter()
        compiled = torch.compile(encoder)
        compiled(torch.zeros(1, 1, 1000))
        found[f"{model} fp32, PyTorch compiled"] = network(compiled, size, head) | {
            "compile_s": time.perf_counter() - started
        }
    for entry in bundle.models:
        eager = found.get(f"{entry.model} fp32, PyTorch eager")
        if eager and entry.precision == "int8" and entry.format in RUNTIMES:
            found[f"{entry.model} int8, {TITLES[entry.format]}"] = {
                "run": bundle.session(entry),
                "scaled": True,
                "rate": bundle.drift_heads(entry.model)["hr"].apply,
                "size": eager["size"] | {"bytes": entry.bytes, "macs": entry.macs},
            }
    found[f"{BEATS} int8, LiteRT, by its own beats"] = beat_reader()
    found["NeuroKit2: clean, find beats"] = {
        "run": neurokit_rate,
        "scaled": False,
        "rate": np.asarray,
        "size": {},
    }
    found["autocorrelation (hand-made features)"] = {
        "run": lambda ppg: ppg_features(ppg)[0][:, NAMES.index("rate_autocorrelation")],
        "scaled": False, "rate": np.asarray, "size": {},
    }  # fmt: skip
    rivals = {"PaPaGei-S rebuilt, PyTorch eager": (PaPaGeiS(), PAPAGEI_SHAPE)} | {
        f"TimePPG-like TCN ({size}), PyTorch eager": (TimePPGLike(*widths), TIMEPPG_SHAPE)
        for size, widths in TIMEPPG_SIZES.items()
    }
    for name, (rival, shape) in rivals.items():
        found[name] = untrained(rival, shape)
    return found


def beat_reader():
    """Return the shipped student that reads beats, whose heart rate needs no head."""
    path, encoder = int8_file(BEATS), load_encoder(BEATS)
    reader = Int8Reader(path)
    size = network_size(encoder, (1, 1, 1000)) | {"bytes": Path(path).stat().st_size}
    return {
        "run": lambda ppg: reader.read_windows(ppg).rate,
        "scaled": True, "rate": np.asarray, "size": size,
    }  # fmt: skip


def network(encoder, size, head):
    """Return the contestant of a PyTorch encoder with a linear head."""
    return {
        "run": lambda ppg: encoder(torch.from_numpy(ppg)[:, None]).numpy(),
        "scaled": True, "rate": head.apply, "size": size,
    }  # fmt: skip


def untrained(module, shape):
    """Return a contestant with random weights and an input of its own shape."""
    module, x = module.eval(), torch.randn(shape)
    return {
        "run": lambda _: module(x),
        "scaled": True,
        "rate": None,
        "size": network_size(module, shape),
    }


def network_size(module, shape):
    """Return the parameters, bytes in float32 and multiply-accumulates of a module."""
    parameters = sum(p.numel() for p in module.parameters())
    return {
        "parameters": parameters,
        "bytes": 4 * parameters,
        "macs": count_macs(module.eval(), shape),
    }


def neurokit_rate(ppg):
    """Return the heart rate (1,) in bpm of a window (1, 1000) from the median interval of
    NeuroKit2's beats; NaN below two beats.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            beats = neurokit2.ppg_findpeaks(neurokit2.ppg_clean(ppg[0], SFREQ), SFREQ)["PPG_Peaks"]
        except IndexError:  # what it raises where no wave exceeds its threshold
            beats = []
    return np.array([60 * SFREQ / np.median(np.diff(beats)) if len(beats) > 1 else np.nan])


def page(rows, about):
    """Write the page as Markdown."""
    silent = "; ".join(f"{name}: {count} windows" for name, count in about["silent"].items())
    return f"""# Side by side with what people would use instead

Heart rate of {about["windows"]} windows of 10 s of {about["subjects"]} BIDMC subjects that no
training saw, against the ECG; 95 % intervals by resampling subjects. Teacher and
student are read by their linear head, fitted on the training subjects; `{BEATS}`, which nobody of
BIDMC trained, by its own beats. One window at a time on one thread, all in turns in
one run ({about["rounds"]} rounds, order drawn anew in each); medians, 95 % intervals by resampling
rounds. On a busy machine, what outlasts a time slice waits for others by the clock; so processor
time is what is compared, and the eager teacher's is the measure. Milliseconds are this machine's on
that day, trust the ratios. NeuroKit2 {neurokit2.__version__}.

{markdown_table(COLUMNS, [cells_of(row) for row in rows])}

- Compiling the teacher took {about["compile_s"]:.0f} s by the clock, which its time does not
  include.
- Exported graphs are counted as exported: the teacher's parallel convolutions are one, padded with
  zeros.
- Where a method finds no pulse it is given the training subjects' mean ({silent or "never"}).
- PaPaGei-S and TimePPG are rebuilt from their public descriptions (`published_encoders.py` beside
  this study) with random weights: they are here for their cost alone, and say nothing about their
  accuracy. PaPaGei-S takes 10 s at 125 Hz, TimePPG 8 s of PPG and acceleration at 32 Hz. TimePPG's
  layers were found by a search; here is its seed's pattern at two sizes.
- `{BEATS}` reads its beats in NumPy, made for many windows at once. One at a time costs it
  almost all that is seen here; on a watch it is C.
- BIDMC: ICU patients at rest; motion, which wearable methods are made for, is not in it.
"""


def cells_of(row):
    """Return the cells of one contestant."""
    timed = "cpu_ms" in row
    error = "untrained: cost only"
    if "error" in row:
        error = f"{row['error']:.2f}{span(row['error_interval'])}"
    return (
        row["name"],
        f"{row['parameters']:,}" if "parameters" in row else "",
        f"{row['bytes'] / 1e3:,.0f}" if "bytes" in row else "",
        f"{row['macs'] / 1e6:.2f}" if row.get("macs") else "",
        f"{row['cpu_ms']:.3g}{span(row['cpu_interval'])}" if timed else "",
        f"{row['relative']:.3g}{span(row['relative_interval'])}" if timed else "",
        f"{row['latency_ms']:.3g}" if timed else "",
        error,
    )


def span(interval):
    """Format an interval as ` (low to high)`."""
    return f" ({interval[0]:.3g} to {interval[1]:.3g})" if interval else ""


if __name__ == "__main__":
    run_study(side_by_side, "side_by_side.md")
