"""Preparation side by side with the published recipe, which calls NeuroKit2 on each window.

python -m xmae.benchmarks.prepare_speed

Both take the shipped BIDMC recordings from raw samples to min-max scaled windows with a quality, in turns, in one
process on one thread; reading the files is not counted. The last line of the output is the result as JSON.
"""

import json
import time
import warnings

import neurokit2 as nk
import numpy as np
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from xmae.benchmarks.hardware import hardware
from xmae.data.bidmc import bidmc_files
from xmae.data.prepare import prepare_recording
from xmae.data.readers import read_recording
from xmae.signals.scale import minmax_scale
from xmae.signals.window import SFREQ, WINDOW_S

MIN_QUALITY = 0.9


def prepare_by_windows(recording):
    """The recipe as published: NeuroKit2 cleans and judges, resamples and scales one window after another.

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
    """The same with `prepare_recording`."""
    windows, _ = prepare_recording(recording, -1)
    kept = np.minimum(windows.ppg_quality, windows.ecg_quality) >= MIN_QUALITY
    return minmax_scale(windows.ppg)[0], minmax_scale(windows.ecg)[0], kept


def main(n_recordings=12):
    """Time both ways on evenly chosen shipped recordings.

    Parameters
    ----------
    n_recordings : int
        Recordings of 8 minutes.

    Returns
    -------
    dict
        Windows prepared, windows per second of both ways, their `ratio` (over all recordings) and `ratio_lowest` (over
        one), the share of windows on which they agree whether to keep them, and the hardware.
    """
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
                start = time.perf_counter()
                *_, kept[name] = way(recording)
                seconds[name].append(time.perf_counter() - start)
            agree.append(np.equal(*kept.values()))
    theirs, ours = (np.array(times) for times in seconds.values())
    n_windows = sum(map(len, agree))
    return {
        "windows": n_windows,
        "windows_per_s": {name: round(n_windows / sum(times), 1) for name, times in seconds.items()},
        "ratio": round(theirs.sum() / ours.sum(), 1),
        "ratio_lowest": round(float((theirs / ours).min()), 1),
        "same_verdict": round(float(np.concatenate(agree).mean()), 3),
        "hardware": hardware(),
    }


if __name__ == "__main__":
    result = main()
    rates = ", ".join(f"{name} {rate} windows/s" for name, rate in result["windows_per_s"].items())
    print(f"preparation: {rates}; {result['ratio']} times as fast")
    print(json.dumps(result))
