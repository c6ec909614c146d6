"""The stop-watch: models take turns, window by window, so that whatever else the machine does hits
all of them.

Intervals come from resampling whole rounds. On a busy machine a call that outlasts its time slice
waits for others, a short one does not: so besides latency the processor time of a call is measured,
which does not count the waiting. A yardstick, the same small computation in every round, says how
fast the machine was just then: processor time in yardsticks can be compared between runs,
milliseconds cannot.
"""

import os
import time
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from xmae.benchmarks.harness.sessions import open_session
from xmae.evaluation.protocol.bootstrap import interval

YARDSTICK = "yardstick"


def add_latency(bundle, entries, rows, ppg, rounds, threads=1):
    """Measure the latency of every entry that is known to run, and add it to its row.

    Parameters
    ----------
    bundle : Bundle
    entries : list of Entry
        As `find_entries` gives them.
    rows : list of Row
        One for each; that of a model that does not run is left as it is.
    ppg : float32 array, shape (n, 1000)
        Windows in [-1, 1], each run once a round after one to warm up.
    rounds : int
    threads : int
        Threads of each runtime.

    Returns
    -------
    list of Row
        The rows, with `latency_ms`, `cpu_ms` and `relative`, their intervals, and `mac_per_s`.
    """
    runs = [i for i, row in enumerate(rows) if row.runs]
    found = time_entries(bundle, {i: entries[i] for i in runs}, ppg, rounds, threads)
    return [replace(row, **found.get(i, {})) for i, row in enumerate(rows)]


def time_entries(bundle, entries, ppg, rounds, threads=1):
    """Time entries by any key, in turns: {key: columns of a `Row`}. Other parameters are those of
    `add_latency`.
    """
    with all_threads(threads):
        sessions = {key: open_session(bundle, entry, threads) for key, entry in entries.items()}
        times = time_sessions(sessions | {YARDSTICK: make_yardstick()}, ppg, rounds)
    found = {}
    for key, entry in entries.items():
        found[key] = summarise(times[key], times[YARDSTICK])
        speed = 1e3 * entry.macs / found[key]["latency_ms"] if entry.macs else None
        found[key]["mac_per_s"] = speed
    return found


@contextmanager
def all_threads(threads):
    """Let PyTorch and BLAS use this many threads inside a `with` block."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with threadpool_limits(threads):
            yield
    finally:
        torch.set_num_threads(before)


def make_yardstick():
    """Return a function that takes about as long as a small model: a float32 matrix product and a
    sort, in NumPy.
    """
    numbers = np.random.default_rng(77).random((96, 96), np.float32)
    return lambda _: np.sort(numbers @ numbers, axis=None)


def time_sessions(sessions, ppg, rounds):
    """Return seconds per call, {key: array (2, rounds, n)}: wall-clock time and processor time.

    In each round every session runs all n windows, one by one. The order of the sessions is drawn
    anew in each round.
    """
    rng = np.random.default_rng(77)
    times = {key: np.empty((2, rounds, len(ppg))) for key in sessions}
    keys = list(sessions)
    for number in tqdm(range(rounds), desc="latency"):
        for i in rng.permutation(len(keys)):
            session = sessions[keys[i]]
            session(ppg[:1])
            for j in range(len(ppg)):
                start = time.perf_counter(), time.process_time()
                session(ppg[j : j + 1])
                end = time.perf_counter(), time.process_time()
                times[keys[i]][:, number, j] = np.subtract(end, start)
    return times


def summarise(times, yardstick):
    """Summarise times (2, rounds, n) in s: medians of latency and processor time in ms, and of
    processor time in yardsticks.
    """
    (wall, cpu), (_, ruler), drawn = times, yardstick, resample(times.shape[1])
    resampled = resampled_medians(cpu, drawn)
    return {
        "latency_ms": 1e3 * float(np.median(wall)),
        "latency_interval": [1e3 * t for t in interval(resampled_medians(wall, drawn))],
        "cpu_ms": 1e3 * float(np.median(cpu)),
        "cpu_interval": [1e3 * t for t in interval(resampled)],
        "relative": float(np.median(cpu) / np.median(ruler)),
        "relative_interval": interval(resampled / resampled_medians(ruler, drawn)),
    }


def resample(rounds, n_resamples=500, seed=77):
    """Draw rounds with replacement, shape (n_resamples, rounds)."""
    return np.random.default_rng(seed).integers(rounds, size=(n_resamples, rounds))


def resampled_medians(times, drawn):
    """Return the medians of `times` (rounds, n) over the drawn rounds, shape (n_resamples,)."""
    return np.median(times[drawn].reshape(len(drawn), -1), axis=1)


def load():
    """Return the load average of the last minute, in processes; None where the system does not
    tell.
    """
    return round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None
