"""Run one model of a bundle in a process of its own: its peak memory is then its own, and a crash is only its own.

python -m xmae.benchmarks.worker BUNDLE MODEL FORMAT PRECISION WINDOWS.npy EMBEDDINGS.npy
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

TIMEOUT_S = 900


def run_all_apart(bundle, entries, ppg):
    """`run_apart` for every entry, as many at a time as there are cores; a list of its results."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        runs = pool.map(lambda entry: run_apart(bundle, entry, ppg), entries)
        return list(tqdm(runs, desc="models", total=len(entries)))


def run_apart(bundle, entry, ppg):
    """Embed windows with one model in a fresh process.

    Parameters
    ----------
    bundle : Bundle
    entry : dict
        One of `find_entries`.
    ppg : float32 array, shape (n, 1000)
        Windows, min-max scaled to [-1, 1].

    Returns
    -------
    embedding : float32 array, shape (n, D), or None
    report : dict
        `peak_memory_bytes` (largest resident memory of the process) and `model_memory_bytes` (how much of it came
        after the runtime was imported), None where the system does not tell; or `missing` (its runtime is not
        installed), or `failure` (why there is no embedding).
    """
    with tempfile.TemporaryDirectory(prefix="xmae-") as folder:
        source, target = Path(folder) / "windows.npy", Path(folder) / "embeddings.npy"
        np.save(source, ppg)
        which = [str(bundle.path), entry["model"], entry["format"], entry["precision"]]
        command = [sys.executable, "-m", "xmae.benchmarks.worker", *which, str(source), str(target)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return None, {"failure": f"still running after {TIMEOUT_S} s"}
        if done.returncode < 0:
            return None, {"failure": f"the process died of {signal.Signals(-done.returncode).name}"}
        if done.returncode:
            return None, {"failure": (done.stderr.strip().splitlines() or ["no message"])[-1][:300]}
        report = json.loads(done.stdout.splitlines()[-1])
        return (None if "missing" in report else np.load(target)), report


def main(path, model, format, precision, source, target):
    """Embed the windows of the file `source` into the file `target`; print what it took as a line of JSON."""
    import torch

    from xmae.benchmarks.sessions import find_entries, import_runtime, open_session
    from xmae.export.bundle import Bundle

    torch.set_num_threads(1)
    ppg = np.load(source)
    bundle = Bundle.open(path)
    (entry,) = (
        e for e in find_entries(bundle) if (e["model"], e["format"], e["precision"]) == (model, format, precision)
    )
    if not import_runtime(entry):
        print(json.dumps({"missing": f"the runtime for {format} is not installed"}))
        return
    before = memory("VmRSS")
    counted = before is not None and restart_peak()
    np.save(target, open_session(bundle, entry)(ppg))
    peak = memory("VmHWM") if counted else None
    print(json.dumps({"peak_memory_bytes": peak, "model_memory_bytes": max(peak - before, 0) if counted else None}))


def restart_peak():
    """Count the peak of resident memory from here on; False where the system does not allow it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def memory(field):
    """A memory field of this process in bytes: "VmRSS" (resident now) or "VmHWM" (its peak); None outside Linux."""
    status = Path("/proc/self/status")
    return 1024 * int(re.search(rf"{field}:\s+(\d+) kB", status.read_text())[1]) if status.exists() else None


if __name__ == "__main__":
    main(*sys.argv[1:])
