"""Latency, size and memory of every model of a bundle in every runtime, side by side on this machine."""

import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from xmae.benchmarks.hardware import hardware
from xmae.benchmarks.reference import evenly, make_reference, save_reference
from xmae.benchmarks.sessions import find_entries, open_session
from xmae.benchmarks.worker import run_all_apart
from xmae.data.store import WindowStore
from xmae.errors import UserError
from xmae.evaluation.bootstrap import interval
from xmae.export.bundle import Bundle
from xmae.files import write_json
from xmae.signals.scale import minmax_scale


def bench(
    bundle: str,
    data: str,
    out: str = "runs/bench",
    record_reference: bool = False,
    windows: int = 20,
    rounds: int = 10,
) -> dict:
    """Measure latency, size and memory of every model of a bundle, in every runtime that is installed.

    One window at a time, on one thread. The models take turns, so that whatever else the machine does hits all of them.

    Parameters
    ----------
    bundle : str
        Folder of the bundle.
    data : str
        Store of windows; those of the test split are used.
    out : str
        Folder for bench.json, and reference.npz with reference.json.
    record_reference : bool
        Also record the fp32 embeddings and latency of teacher and student in PyTorch, on the GPU where there is one:
        the reference for `xmae validate`, here or on a machine without a GPU.
    windows : int
        Windows per model and round.
    rounds : int
        Rounds over all models.

    Returns
    -------
    dict
        `models`: a row per model, runtime and precision with `latency_ms` (median), `latency_interval` (95 %, by
        resampling rounds), `mac_per_s`, `bytes`, `peak_memory_bytes`, `model_memory_bytes`, or `missing` / `failure`;
        `hardware`; if recorded `reference` (its path) and `reference_info` (device, latency); `out`.

    Raises
    ------
    UserError
        If bundle or store cannot be read, or `windows` or `rounds` is below 1.
    """
    if windows < 1 or rounds < 1:
        raise UserError("windows and rounds must be at least 1")
    opened = Bundle.open(bundle)
    store = WindowStore(data).windows()
    result = {"bundle": str(bundle), "hardware": hardware(), "windows": windows, "rounds": rounds}
    if record_reference:
        reference = make_reference(opened, store)
        save_reference(reference, out)
        result |= {"reference": str(Path(out) / "reference.npz"), "reference_info": reference.info}
    ppg, _ = minmax_scale(evenly(store.ppg[store.split == "test"], windows))
    entries = find_entries(opened)
    reports = [report for _, report in run_all_apart(opened, entries, ppg)]
    rows = [describe(entry) | report for entry, report in zip(entries, reports, strict=True)]
    result["models"] = add_latency(opened, entries, rows, ppg, rounds)
    write_json(Path(out) / "bench.json", result)
    return result | {"out": str(out)}


def describe(entry):
    """What names an entry in a table, and its size."""
    return {key: entry[key] for key in ("model", "format", "precision", "bytes", "macs")}


def add_latency(bundle, entries, rows, ppg, rounds):
    """Measure the latency of all entries that are known to run, and add it to their rows.

    Parameters
    ----------
    bundle : Bundle
    entries, rows : lists of dict
        As `find_entries` gives them; a row with `missing` or `failure` is left as it is.
    ppg : float32 array, shape (n, 1000)
        Windows in [-1, 1], each run once a round after one to warm up.
    rounds : int

    Returns
    -------
    list of dict
        The rows, with `latency_ms`, `latency_interval` and `mac_per_s`.
    """
    runs = [i for i, row in enumerate(rows) if not {"missing", "failure"} & row.keys()]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        sessions = {i: open_session(bundle, entries[i]) for i in runs}
        times = time_sessions(sessions, ppg, rounds)
    finally:
        torch.set_num_threads(threads)
    rows = list(rows)
    for i in runs:
        median = float(np.median(times[i]))
        rows[i] = rows[i] | {
            "latency_ms": 1e3 * median,
            "latency_interval": [1e3 * t for t in interval(resampled_medians(times[i]))],
            "mac_per_s": rows[i]["macs"] / median if rows[i]["macs"] else None,
        }
    return rows


def time_sessions(sessions, ppg, rounds):
    """Seconds per call, {key: array (rounds, n)}: in each round every session runs all n windows, one by one.

    The order of the sessions is drawn anew in each round.
    """
    rng = np.random.default_rng(77)
    times = {key: np.empty((rounds, len(ppg))) for key in sessions}
    for number in tqdm(range(rounds), desc="latency"):
        for key in rng.permutation(list(sessions)):
            session = sessions[key]
            session(ppg[:1])
            for i in range(len(ppg)):
                start = time.perf_counter()
                session(ppg[i : i + 1])
                times[key][number, i] = time.perf_counter() - start
    return times


def resampled_medians(times, n_resamples=500, seed=77):
    """Medians of `times` (rounds, n) with whole rounds drawn with replacement, shape (n_resamples,)."""
    drawn = np.random.default_rng(seed).integers(len(times), size=(n_resamples, len(times)))
    return np.median(times[drawn].reshape(n_resamples, -1), axis=1)
