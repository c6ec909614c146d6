"""Preparation side by side with the published recipe, which calls NeuroKit2 on each window; and on
one and two cores.

python -m xmae.benchmarks.studies.prepare_speed [RESULT.md]

Both take the shipped BIDMC recordings from raw samples to min-max scaled windows with a quality, in
turns, in one process on one thread, in seconds of CPU; reading the files is not counted. Then `xmae
prepare` makes a store of copies of the recordings with one and two processes, in turns; the start
of the processes (imports) is not counted, as it is once for any amount. The last line of the output
is the result as JSON; the same as a page goes into RESULT.md.
"""

import os
import tempfile
import time
import warnings
from pathlib import Path

import neurokit2 as nk
import numpy as np
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from xmae.benchmarks.studies.prepare_memory import copies
from xmae.benchmarks.studies.runner import run_study
from xmae.data.bidmc import bidmc_files
from xmae.data.prepare.prepare import prepare
from xmae.data.prepare.windowing import prepare_recording
from xmae.data.recording.readers import read_recording
from xmae.signals.scale import minmax_scale
from xmae.signals.window import SFREQ, WINDOW_S
from xmae.tables import markdown_table

MIN_QUALITY = 0.9
FREE = 0.5  # load below which a machine has nothing else to do


def prepare_by_windows(recording):
    """Prepare windows by the published recipe: NeuroKit2 cleans and judges, resamples and scales
    them one by one.

    Parameters
    ----------
    recording : Recording
        With ECG.

    Returns
    -------
    ppg, ecg : float arrays, shape (n_windows, 1000)
        Windows in [-1, 1]; all of them, the bad ones too.
    kept : bool array, shape (n_windows,)
        Whether both qualities reach 0.9.
    """
    step = int(WINDOW_S * recording.sfreq)
    rate = {"sampling_rate": int(recording.sfreq)}
    signals, kept = ([], []), []
    for start in range(0, len(recording.ppg) - step + 1, step):
        ppg = nk.ppg_clean(recording.ppg[start : start + step], **rate)
        ecg = nk.ecg_clean(recording.ecg[start : start + step], **rate)
        qualities = (
            nk.ppg_quality(ppg, method="templatematch", **rate),
            nk.ecg_quality(ecg, method="templatematch", **rate),
        )
        kept.append(min(np.percentile(quality, 15) for quality in qualities) >= MIN_QUALITY)
        for x, out in zip((ppg, ecg), signals, strict=True):
            resampled = nk.signal_resample(x, desired_sampling_rate=SFREQ, method="poly", **rate)
            out.append(2 * (resampled - resampled.min()) / np.ptp(resampled) - 1)
    return np.array(signals[0]), np.array(signals[1]), np.array(kept)


def prepare_at_once(recording):
    """Prepare the same windows by `prepare_recording`."""
    windows, _ = prepare_recording(recording, -1)
    kept = np.minimum(windows.ppg_quality, windows.ecg_quality) >= MIN_QUALITY
    return minmax_scale(windows.ppg)[0], minmax_scale(windows.ecg)[0], kept


def speed(n_recordings):
    """Time both ways on evenly chosen shipped recordings; see `main`."""
    files = bidmc_files()
    chosen = [files[i] for i in np.linspace(0, len(files) - 1, n_recordings).astype(int)]
    ways = {"neurokit2_by_windows": prepare_by_windows, "xmae": prepare_at_once}
    seconds, agree = {name: [] for name in ways}, []
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NeuroKit2 warns about windows with few beats
        prepare_at_once(read_recording(chosen[0]))  # imports and filter designs
        for path in tqdm(chosen, "prepare_speed", unit="recording"):
            recording, kept = read_recording(path), {}
            for name, way in ways.items():
                start = time.process_time()
                *_, kept[name] = way(recording)
                seconds[name].append(time.process_time() - start)
            agree.append(np.equal(*kept.values()))
    theirs, ours = (np.array(times) for times in seconds.values())
    n_windows = sum(map(len, agree))
    return {
        "windows": n_windows,
        "windows_per_s": {
            name: round(n_windows / sum(times), 1) for name, times in seconds.items()
        },
        "ratio": round(theirs.sum() / ours.sum(), 1),
        "ratio_lowest": round(float((theirs / ours).min()), 1),
        "same_verdict": round(float(np.concatenate(agree).mean()), 3),
    }


def scaling(n_recordings, rounds=3):
    """Time `xmae prepare` on copies of the shipped recordings with one and two processes, s; see
    `main`.
    """
    with tempfile.TemporaryDirectory() as folder:
        copies(n_recordings, Path(folder) / "data")
        seconds = {1: [], 2: []}
        for _ in range(rounds):
            for jobs in seconds:
                # the processes live on
                prepare(["bidmc"], f"{folder}/warm", min_quality=-1, jobs=jobs)
                start = time.perf_counter()
                prepare(
                    [f"{folder}/data"], f"{folder}/store{jobs}", "1,0,0", min_quality=-1, jobs=jobs
                )
                seconds[jobs].append(round(time.perf_counter() - start, 1))
    best = {jobs: min(times) for jobs, times in seconds.items()}
    return {
        "scaling_windows": 48 * n_recordings,
        "scaling_seconds": seconds,
        "scaling_windows_per_s": {jobs: round(48 * n_recordings / best[jobs]) for jobs in best},
        "scaling": round(best[1] / best[2], 2),
    }


def measure(n_recordings=12, n_scaling=200):
    """Measure the speed and its scaling with processes.

    Parameters
    ----------
    n_recordings : int
        Recordings of 8 minutes for the comparison with the recipe.
    n_scaling : int
        Recordings of 8 minutes for one process against two; 0 = leave it out. It is left out on a
        machine that is not free too (load of 0.5 or more): two processes get more of a busy machine
        than one.

    Returns
    -------
    dict
        Windows prepared, windows per second of both ways, their `ratio` (over all recordings) and
        `ratio_lowest` (over one), the share of windows on which they agree whether to keep them;
        seconds of each round with one and two processes and `scaling`, the ratio of the best; load
        of the machine before (processes that want a core, besides this one).
    """
    load = os.getloadavg()[0]
    result = speed(n_recordings) | (scaling(n_scaling) if n_scaling and load < FREE else {})
    return result | {"load": round(load, 1)}


def page(result):
    """Return the result as Markdown."""
    rates = result["windows_per_s"]
    return f"""# Speed of preparation

| {result["windows"]} windows, one thread | windows per s of CPU |
|---|---|
| NeuroKit2 window by window | {rates["neurokit2_by_windows"]} |
| xMAE | {rates["xmae"]} |

xMAE is **{result["ratio"]} times** as fast (lowest ratio over one recording:
{result["ratio_lowest"]}) and agrees on {100 * result["same_verdict"]:.1f} % of the windows whether
to keep them.

{scaling_table(result)}
"""


def scaling_table(result):
    """Return the part of the page on scaling from one to two processes."""
    if "scaling" not in result:
        return (
            "One process against two: not measured, as the machine was not free (load "
            f"{result['load']})."
        )
    rows = [
        (jobs, rate, ", ".join(map(str, result["scaling_seconds"][jobs])))
        for jobs, rate in result["scaling_windows_per_s"].items()
    ]
    head = f"processes (`xmae prepare`, {result['scaling_windows']:,} windows)"
    return f"""{markdown_table((head, "windows per s, best", "s, each round"), rows, right=False)}

Two processes are **{result["scaling"]} times** as fast as one."""


def prepare_speed() -> str:
    """Compare the speed of our preparation with the recipe that goes window by window."""
    return page(measure())


if __name__ == "__main__":
    run_study(prepare_speed, "prepare_speed.md")
