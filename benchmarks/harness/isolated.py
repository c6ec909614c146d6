"""Run one model of a bundle in a process of its own: its peak memory is then its own, and a crash
is only its own.

python -m xmae.benchmarks.harness.isolated BUNDLE ENTRY WINDOWS.npy EMBEDDINGS.npy REPORT.json
PROFILE
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from xmae.files import read_json, write_json

TIMEOUT_S = 900


def run_all_apart(bundle, entries, ppg, profile=False, at_a_time=None):
    """Run every entry by `run_apart`, by default one process per core; a list of the results."""
    with ThreadPoolExecutor(at_a_time or os.cpu_count()) as pool:
        runs = pool.map(lambda entry: run_apart(bundle, entry, ppg, profile), entries)
        return list(tqdm(runs, desc="models", total=len(entries)))


def run_apart(bundle, entry, ppg, profile=False):
    """Embed windows with one model in a fresh process.

    Parameters
    ----------
    bundle : Bundle
    entry : Entry
        One of `find_entries`.
    ppg : float32 array, shape (n, 1000)
        Windows, min-max scaled to [-1, 1].
    profile : bool
        Also time each operator, once all else is measured.

    Returns
    -------
    embedding : float32 array, shape (n, D), or None
        Embeddings; whole rows of a student that reads beats, see `xmae.export.bundle.beat_rows`.
    report : dict
        `cold_start_ms` (from an imported runtime to the first embedding: open the file, run a
        window), `peak_memory_bytes` (largest resident memory of the process), `model_memory_bytes`
        (how much of it came after the runtime was imported) and `code_bytes` (shared libraries of
        the runtime that were loaded), None where the system does not tell; `layers`, if asked for,
        or `profile_failure` (why not: even if the profiler took the process with it, the rest is
        there); or `missing` (its runtime is not installed), or `failure` (why there is no
        embedding).
    """
    with tempfile.TemporaryDirectory(prefix="xmae-") as folder:
        source, target, said = (
            Path(folder) / name for name in ("windows.npy", "embeddings.npy", "report.json")
        )
        np.save(source, ppg)
        arguments = map(
            str, (bundle.path, json.dumps(entry.as_json()), source, target, said, profile)
        )
        failure = run_to_the_end(
            [sys.executable, "-m", "xmae.benchmarks.harness.isolated", *arguments]
        )
        if failure and not (profile and said.exists()):
            return None, {"failure": failure}
        report = read_json(said) | ({"profile_failure": failure} if failure else {})
        return (None if "missing" in report else np.load(target)), report


def run_to_the_end(command):
    """Run a command; return None if it succeeded, else a sentence that says how it failed."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return f"still running after {TIMEOUT_S} s"
    if done.returncode < 0:
        return f"the process died of {signal.Signals(-done.returncode).name}"
    return (
        (done.stderr.strip().splitlines() or ["no message"])[-1][:300] if done.returncode else None
    )


def main(path, entry, source, target, said, profile):
    """Embed the windows of the file `source` into the file `target`; write time and memory as JSON
    into `said`.
    """
    import torch

    from xmae.benchmarks.harness.sessions import import_runtime, open_session
    from xmae.export.bundle.bundle import Bundle
    from xmae.export.bundle.schema import Entry
    from xmae.manifest import parsed

    torch.set_num_threads(1)
    ppg = np.load(source)
    bundle, entry = Bundle.open(path), parsed(json.loads(entry), Entry, path)
    if absent := import_runtime(entry):
        write_json(said, {"missing": f"{absent} is not installed"})
        return
    before = memory("VmRSS")
    counted = before is not None and restart_peak()
    start = time.perf_counter()
    session = open_session(bundle, entry)
    session(ppg[:1])
    report = {"cold_start_ms": 1e3 * (time.perf_counter() - start)}
    np.save(target, getattr(session, "rows", session)(ppg))
    peak = memory("VmHWM") if counted else None
    report |= {
        "peak_memory_bytes": peak,
        "model_memory_bytes": max(peak - before, 0) if counted else None,
    }
    report["code_bytes"] = loaded_bytes(entry.format)
    write_json(said, report)
    if profile == "True":
        from xmae.benchmarks.harness.per_layer import per_layer

        try:
            report["layers"] = per_layer(bundle, entry, ppg[0])
        # a profiler is another version's, another build's; the model is none the worse
        except Exception as error:
            report["profile_failure"] = (
                f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            )
        write_json(said, report)


def loaded_bytes(format):
    """Return the size of the shared libraries of a format's runtime that this process has loaded,
    bytes; None outside Linux.
    """
    from xmae.benchmarks.harness.sessions import RUNTIMES

    maps, package = Path("/proc/self/maps"), RUNTIMES[format].split(".")[0]
    if not maps.exists():
        return None
    paths = {
        line.split(maxsplit=5)[5]
        for line in maps.read_text().splitlines()
        if f"/{package}/" in line
    }
    return sum(Path(path).stat().st_size for path in paths if ".so" in Path(path).name)


def restart_peak():
    """Reset the peak of this process's resident memory; return False where the system does not
    allow it.
    """
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def memory(field):
    """Return a memory field of this process in bytes: "VmRSS" (resident now) or "VmHWM" (its peak);
    None outside Linux.
    """
    status = Path("/proc/self/status")
    return (
        1024 * int(re.search(rf"{field}:\s+(\d+) kB", status.read_text())[1])
        if status.exists()
        else None
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
