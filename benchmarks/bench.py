"""Every model of a bundle, in every runtime and on every device, side by side: cost, and accuracy
from the same run.
"""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from xmae.benchmarks.harness.baseline import (
    fingerprint,
    load_reference,
    make_reference,
    other_weights,
    reference_windows,
    refuse_lacking,
    save_reference,
)
from xmae.benchmarks.harness.drift import HISTOGRAM_EDGES
from xmae.benchmarks.harness.drift import compare as accuracy
from xmae.benchmarks.harness.emulated import cortex_m, emulate
from xmae.benchmarks.harness.hardware import hardware
from xmae.benchmarks.harness.isolated import run_all_apart
from xmae.benchmarks.harness.moving import moving_rows
from xmae.benchmarks.harness.regressions import (
    SCHEMA,
    SCHEMA_VERSION,
    find_regressions,
    other_windows,
    read_result,
)
from xmae.benchmarks.harness.rows import BenchRow
from xmae.benchmarks.harness.sessions import describe, find_entries, not_checked
from xmae.benchmarks.harness.stopwatch import add_latency, load
from xmae.benchmarks.report.page import write_report
from xmae.data.store.store import WindowStore
from xmae.errors import UserError, refusing
from xmae.export.bundle.bundle import Bundle
from xmae.files import atomic_file, write_json
from xmae.quantize.calibration import evenly
from xmae.signals.scale import minmax_scale
from xmae.text import cell

EMULATED_WINDOWS = 16  # on each emulated device, evenly spaced over the test windows
POOR = 0.95  # centred cosine to float, below which to warn
COLUMNS = (  # of bench.csv
    "model", "format", "precision", "device", "kind", "windows", "bytes", "code_bytes", "macs",
    "latency_ms", "latency_low", "latency_high", "cpu_ms", "relative", "threads", "all_threads_ms",
    "all_threads_low", "all_threads_high", "mac_per_s", "cycles", "instructions", "cold_start_ms",
    "peak_memory_bytes", "model_memory_bytes", "energy_mj", "cosine_median", "cosine_p5",
    "centred_median", "centred_p5", "hr_mae", "hr_mae_low", "hr_mae_high", "hr_mae_change",
    "beat_ms_median", "beat_ms_p99", "beat_rate_change", "refusal_flips", "people", "missing",
    "failure", "profile_failure",
)  # fmt: skip


def bench(
    bundle: str,
    data: str,
    out: str = "runs/bench",
    record_baseline: bool = False,
    baseline: str | None = None,
    devices: str = "",
    windows: int = 20,
    rounds: int = 10,
    starts: int = 3,
    scored: int = 0,
    compare: str | None = None,
    public_key: str | None = None,
) -> dict:
    """Measure cost and accuracy of every model of a bundle, in every installed runtime and on
    emulated devices.

    One window at a time, on one thread and on all. The models take turns, so that whatever else the
    machine does hits all of them. Exit code 1 if a model fails or `compare` finds a regression; a
    runtime that is not installed is neither.

    Parameters
    ----------
    bundle : str
        Folder of the bundle.
    data : str
        Store of windows; those of the test split are used.
    out : str
        Folder for bench.json, bench.csv and report.html; with a new baseline also reference.npz
        and reference.json.
    record_baseline : bool
        Also record the fp32 embeddings of teacher and students in PyTorch, and their latency in
        fp32 and bf16, on the GPU where there is one: the baseline for `xmae validate` and
        `baseline`, here or on a machine without a GPU.
    baseline : str or None
        Folder or npz file of a recorded baseline: accuracy is then against it, and its device gets
        rows. By default the bundle's fp32 weights are run in PyTorch here.
    devices : str
        Emulated Cortex-M devices, separated by commas, that run the int8 student; `xmae simulate
        --list` names them. Their latency and energy are estimates.
    windows : int
        Windows per model and round of the latency measurement.
    rounds : int
        Rounds over all models.
    starts : int
        Fresh processes per model for the cold start.
    scored : int
        Test windows that accuracy is measured on, evenly spaced; 0 = all.
    compare : str or None
        bench.json of an earlier run: what is slower, larger or less accurate than its noise allows
        is a regression.
    public_key : str or None
        PEM file of the Ed25519 key that must have signed the bundle; see docs/bundle.md.

    Returns
    -------
    dict
        `models`: a row per model, runtime, precision and device with `kind` ("measured",
        "recorded", "estimated"), `latency_ms` (median), `latency_interval` (95 %, by resampling
        rounds; of an estimate its low and high end), `cpu_ms` (processor time), `relative`
        (processor time in yardsticks, a fixed computation timed in the same rounds), `all_threads`,
        `mac_per_s`, `cold_start_ms`, `bytes`, `code_bytes`, `peak_memory_bytes`,
        `model_memory_bytes`, `layers` (time of each operator) or `profile_failure`, `cosine`,
        `centred`, `heads` (accuracy of this run's outputs on `windows`), or `missing` / `failure`;
        `hardware`; `signature` of the bundle; `load` before and after; `windows_sha256` of the
        windows that accuracy was measured on; `regressions` with `compare`, and `not_compared`, why
        accuracy was not; `passed`; `summary`, lines for the terminal; `reference_info`; `out`.

    Raises
    ------
    UserError
        If bundle, store, baseline or old result cannot be read, a device cannot be emulated, or a
        count is below 1.
    """
    check_settings(windows, rounds, starts, record_baseline, baseline)
    old, opened = read_result(compare) if compare else None, Bundle.open(bundle, public_key)
    watches = known_devices(devices, opened)
    store, before = WindowStore(data).windows(), load()
    recorded = baseline_of(opened, store, baseline, record_baseline)
    chosen = evenly(np.arange(len(recorded.record)), scored)
    used = reference_windows(recorded, store).select(chosen)
    rows = measure(opened, recorded, used, chosen, windows, rounds, starts)
    rows += emulated(opened, recorded, used, chosen, watches)
    rows += moving_rows(opened, BenchRow)
    rows += device_rows(opened) + reference_rows(recorded.info)
    result = {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "bundle": str(bundle),
        "signature": opened.verdict.state,
        "weights": recorded.info["weights"],
        "hardware": hardware(),
        "load": [before, load()],
        "windows": windows,
        "rounds": rounds,
        "starts": starts,
        "subjects": int(np.unique(used.subject).size),
        "windows_sha256": fingerprint(used),
        "histogram_edges": HISTOGRAM_EDGES.tolist(),
        "models": [row.as_json() for row in rows],
        "reference_info": recorded.info,
    }
    if record_baseline:
        save_reference(recorded, out)
        result["reference"] = str(Path(out) / "reference.npz")
    result |= compared(result, old, compare) if old else {}
    result |= sum_up(rows, result, opened.verdict)
    return record(result, out)


def known_devices(devices, opened):
    """Return the names of the emulated devices that were asked for; refuse an unknown one before
    any work.
    """
    names = list(dict.fromkeys(filter(None, map(str.strip, devices.split(",")))))
    for name in names:
        cortex_m(name, opened)
    return names


def measure(opened, recorded, windows, chosen, timed_windows, rounds, starts):
    """Measure every model that runs on this machine: accuracy, memory, cold start, latency.

    Parameters
    ----------
    opened : Bundle
    recorded : Reference
    windows : Windows
        Those that accuracy is measured on, n.
    chosen : int array, shape (n,)
        Numbers of these windows among the recorded ones.
    timed_windows, rounds, starts : int
        See `bench`.

    Returns
    -------
    list of BenchRow
    """
    ppg, _ = minmax_scale(windows.ppg)
    entries, rows = find_entries(opened), []
    apart = run_all_apart(opened, entries, ppg, True, 1)
    for entry, (given, report) in zip(entries, apart, strict=True):
        row = BenchRow(**describe(entry), **report)
        rows.append(replace(row, **accuracy(opened, entry, given, recorded, windows, chosen)))
    rows = with_cold_starts(opened, entries, rows, ppg[:1], starts)
    return timed(opened, entries, rows, evenly(ppg, timed_windows), rounds)


def emulated(opened, recorded, windows, chosen, watches):
    """Measure the models on emulated devices, on a few of the windows: a list of `BenchRow`."""
    few, rows = evenly(np.arange(len(windows)), EMULATED_WINDOWS), []
    ppg, _ = minmax_scale(windows.ppg[few])
    for name in tqdm(watches, "emulated devices", disable=not watches):
        given, row = emulate(opened, name, ppg)
        entry = opened.entry(row.model, "litert", "int8")
        found = accuracy(opened, entry, given, recorded, windows.select(few), chosen[few])
        rows.append(replace(row, **found))
    return rows


def compared(result, old, path):
    """Compare a result with an earlier one, read from `path`: the regressions, or why accuracy is
    not compared.
    """
    with refusing(path, "a result of xmae bench"):
        return {
            "regressions": find_regressions(result, old),
            "not_compared": other_windows(result, old),
        }


def sum_up(rows, result, signature):
    """Sum up a run: `passed`, and `summary`, the lines for the terminal."""
    failures = [f"{row.name}: fails: {row.failure}" for row in rows if row.failure is not None]
    regressions = result.get("regressions", [])
    summary = [
        f"{sum(row.latency_ms is not None for row in rows)} of {len(rows)} rows measured",
        *fastest_and_worst(rows),
        *failures,
        *not_checked(row for row in rows if row.kind == "measured"),
        *regressions,
        *filter(None, [result.get("not_compared")]),
        str(signature),
    ]
    return {"passed": not failures and not regressions, "summary": summary}


def record(result, out):
    """Write bench.json, bench.csv and report.html."""
    write_json(Path(out) / "bench.json", result)
    write_csv(Path(out) / "bench.csv", result["models"])
    write_report({"bench": result}, out, "xMAE: benchmark of a bundle")
    return result | {"out": str(out)}


def check_settings(windows, rounds, starts, record_baseline, baseline):
    """Raise a `UserError` for counts below 1, or a baseline that is both recorded and reused."""
    if min(windows, rounds, starts) < 1:
        raise UserError("windows, rounds and starts must be at least 1")
    if record_baseline and baseline:
        raise UserError(
            "a baseline is either recorded or reused; give one of record_baseline and baseline"
        )


def baseline_of(opened, store, baseline, record_baseline):
    """Read the recorded baseline at `baseline` for the weights of this bundle, or make one."""
    if not baseline:
        return make_reference(
            opened, store, None if record_baseline else "cpu", precisions=record_baseline
        )
    recorded = load_reference(baseline)
    refuse_lacking(recorded, opened)
    if other := other_weights(recorded, opened):
        raise UserError(
            f"{baseline}: made from other weights of {' and '.join(other)}; record it again"
        )
    return recorded


def timed(bundle, entries, rows, ppg, rounds):
    """Return the rows with their latency on one thread and on all cores."""
    cores = hardware()["cores"]
    rows = add_latency(bundle, entries, rows, ppg, rounds)
    threaded = add_latency(bundle, entries, rows, ppg, rounds, cores)
    for i, row in enumerate(threaded):
        if rows[i].runs:
            found = {
                "threads": cores,
                "latency_ms": row.latency_ms,
                "latency_interval": row.latency_interval,
            }
            rows[i] = replace(rows[i], all_threads=found)
    return rows


def fastest_and_worst(rows):
    """Return lines that name the fastest int8 file on this machine, and the least accurate one."""
    int8 = [row for row in rows if row.kind == "measured" and row.precision == "int8"]
    timed = [row for row in int8 if row.latency_ms is not None]
    judged = [row for row in int8 if row.centred]
    lines = []
    if timed:
        row = min(timed, key=lambda row: row.latency_ms)
        lines.append(f"fastest int8 here: {row.name}, {row.latency_ms:.2f} ms a window")
    if judged:
        row = min(judged, key=lambda row: row.centred.median)
        value = row.centred.median
        poor = "" if value >= POOR else "warning: "
        lines.append(f"{poor}farthest from float: {row.name}, centred cosine {value:.4f}")
    return lines


def with_cold_starts(bundle, entries, rows, ppg, starts):
    """Start every model in fresh processes until it has `starts` cold starts; `cold_start_ms`
    becomes their median.
    """
    runs = [i for i, row in enumerate(rows) if row.cold_start_ms is not None]
    times = {i: [rows[i].cold_start_ms] for i in runs}
    for _ in tqdm(range(starts - 1), "cold starts", unit="round"):
        apart = run_all_apart(bundle, [entries[i] for i in runs], ppg, False, 1)
        for i, (_, report) in zip(runs, apart, strict=True):
            if "cold_start_ms" in report:
                times[i].append(report["cold_start_ms"])
    medians = {i: float(np.median(found)) for i, found in times.items()}
    return [
        replace(row, cold_start_ms=medians.get(i, row.cold_start_ms)) for i, row in enumerate(rows)
    ]


def device_rows(bundle):
    """Return the rows of files that run on their device only, with cycles where their compiler
    estimates them.
    """
    return [
        BenchRow(
            **describe(entry),
            device=entry.format,
            kind="estimated",
            missing="runs on its device only",
            cycles=entry.estimated.cycles if entry.estimated else None,
        )
        for entry in bundle.all_models
        if entry not in bundle.models
    ]


def reference_rows(info):
    """Return the rows recorded with a reference on its device (a GPU if there was one)."""
    named = {"format": "pytorch", "device": info["device"], "kind": "recorded"}
    return [BenchRow.from_json(named | row) for row in info.get("precisions", [])]


def write_csv(path, rows):
    """Write the rows as CSV, one number per column; nested values are left out."""
    with atomic_file(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows({key: cell(x) for key, x in flat(row).items()} for row in rows)


def flat(row):
    """Return a row with its intervals, cosines and heart rate as separate columns."""
    low, high = row.get("latency_interval") or ("", "")
    values = row | {"latency_low": low, "latency_high": high}
    if threaded := row.get("all_threads"):
        low, high = threaded["latency_interval"]
        values |= {"threads": threaded["threads"], "all_threads_ms": threaded["latency_ms"]}
        values |= {"all_threads_low": low, "all_threads_high": high}
    for key in ("cosine", "centred"):
        values |= {f"{key}_{name}": value for name, value in (row.get(key) or {}).items()}
    if hr := row.get("heads", {}).get("hr"):
        low, high = hr["interval"] or ("", "")
        values |= {
            "hr_mae": hr["value"],
            "hr_mae_change": hr["change"],
            "hr_mae_low": low,
            "hr_mae_high": high,
        }
    if beats := row.get("beats"):
        values |= {"beat_ms_median": beats["median_ms"], "beat_ms_p99": beats["p99_ms"]}
        values |= {
            "beat_rate_change": beats["rate_change"],
            "refusal_flips": beats["refusal_flips"],
        }
    return values
