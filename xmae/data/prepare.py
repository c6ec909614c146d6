"""From recordings to a store of windows: clean, judge, resample, cut, split by subject."""

import os
from collections import Counter
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from tqdm import tqdm

from xmae.data.bidmc import SHIPPED_SPLIT, bidmc_files
from xmae.data.readers import is_recording, read_recording
from xmae.data.store import LABELS, SCHEMA_VERSION, SPLITS, Windows, write_shard
from xmae.errors import UserError
from xmae.files import atomic_folder, sha256, write_json
from xmae.signals.filters import ecg_clean, ppg_clean
from xmae.signals.quality import ecg_peaks, ppg_peaks, template_quality, window_quality
from xmae.signals.resample import resample, resampling_ratio
from xmae.signals.window import N_TIMES, SFREQ, WINDOW_S

FILES_A_PROCESS = 200  # a new process costs about 3 s (imports), a recording of 8 minutes 0.06 s
CHAIN = {"ppg": (ppg_clean, ppg_peaks), "ecg": (ecg_clean, ecg_peaks)}


def prepare_recording(recording, min_quality=0.9):
    """Clean a recording and cut it into windows that follow each other from its start.

    Parameters
    ----------
    recording : Recording
        Signals and labels.
    min_quality : float
        Lowest quality (template match, 15th percentile) of both PPG and ECG for a window to be kept; -1 keeps all.

    Returns
    -------
    windows : Windows
        Those kept, perhaps none; their `split` is "".
    counts : dict
        Windows "kept", and dropped for the first reason that applied: "missing" samples, "flat" signal, "ppg_quality",
        "ecg_quality". What is left over at the end of the recording counts nowhere.
    """
    sfreq = recording.sfreq
    up, down = resampling_ratio(sfreq, SFREQ)
    n_windows = len(recording.ppg) * up // (down * N_TIMES)
    starts = np.arange(n_windows + 1) * N_TIMES * down // up  # first sample of each window; last, the end of all
    cut, quality = {"ecg": None}, {"ecg": np.full(n_windows, np.nan)}
    missing, flat = np.zeros((2, n_windows), bool)
    for name in CHAIN:
        x = getattr(recording, name)
        if x is None:
            continue
        clean, judged = clean_and_judge(x, sfreq, name)
        cut[name] = resample(clean, sfreq, SFREQ)[: n_windows * N_TIMES].reshape(n_windows, N_TIMES).astype(np.float32)
        quality[name] = window_quality(judged, sfreq)
        x, first = x[: starts[-1]], starts[:-1]
        missing |= np.logical_or.reduceat(np.isnan(x), first)
        flat |= np.maximum.reduceat(x, first) == np.minimum.reduceat(x, first)
    verdict = np.select(
        [missing, flat, quality["ppg"] < min_quality, quality["ecg"] < min_quality],
        ["missing", "flat", "ppg_quality", "ecg_quality"],
        default="kept",
    )
    windows = Windows(
        ppg=cut["ppg"],
        ecg=cut["ecg"],
        subject=np.full(n_windows, recording.subject),
        record=np.full(n_windows, recording.record),
        start_s=np.arange(n_windows) * float(WINDOW_S),
        ppg_quality=quality["ppg"],
        ecg_quality=quality["ecg"],
        split=np.full(n_windows, ""),
        labels={name: window_label(recording.labels.get(name), n_windows) for name in LABELS},
    )
    return windows.select(verdict == "kept"), dict(Counter(verdict.tolist()))


def clean_and_judge(x, sfreq, kind):
    """Clean a signal and find its quality, each run between missing samples by itself.

    Parameters
    ----------
    x : float array, shape (n_times,)
        Raw signal, NaN = missing.
    sfreq : float
        Sampling rate, Hz.
    kind : str
        "ppg" or "ecg".

    Returns
    -------
    clean, quality : arrays, shape (n_times,)
        Cleaned signal and quality of each sample; 0 where samples are missing, and in runs shorter than a window.
    """
    clean_signal, find_peaks = CHAIN[kind]
    clean, quality = np.zeros((2, len(x)))
    for start, stop in finite_runs(np.isfinite(x)):
        if stop - start >= WINDOW_S * sfreq:
            run = clean_signal(x[start:stop], sfreq)
            clean[start:stop], quality[start:stop] = run, template_quality(run, find_peaks(run, sfreq), sfreq)
    return clean, quality


def finite_runs(finite):
    """Starts and ends of the runs of True: bool (n_times,) -> int (n_runs, 2)."""
    return np.flatnonzero(np.diff(np.concatenate([[0], finite, [0]]))).reshape(-1, 2)


def window_label(label, n_windows):
    """One number a window: a constant as it is, a series as the mean of its known values if at least half are known."""
    if label is None:
        return np.full(n_windows, np.nan)
    if isinstance(label, str):
        return np.full(n_windows, {"M": 1.0, "F": 0.0}.get(label, np.nan))
    if np.isscalar(label):
        return np.full(n_windows, float(label))
    values, sfreq = label
    edges = np.rint(np.arange(n_windows + 1) * WINDOW_S * sfreq).astype(int).clip(max=len(values))
    known = np.isfinite(values)
    count, total = (np.concatenate([[0], np.cumsum(x)]) for x in (known, np.where(known, values, 0)))
    count, total = np.diff(count[edges]), np.diff(total[edges])
    return np.divide(total, count, out=np.full(n_windows, np.nan), where=2 * count >= np.maximum(np.diff(edges), 1))


def find_recordings(inputs):
    """Paths of the recordings named by files, folders (searched through) or the word "bidmc", each once."""
    paths = []
    for item in inputs:
        if item == "bidmc":
            paths += bidmc_files()
        elif Path(item).is_dir():
            found = sorted(path for path in Path(item).rglob("*") if is_recording(path))
            if not found:
                raise UserError(f"{item}: no recording in this folder that can be read")
            paths += found
        else:
            paths.append(Path(item))
    if not paths:
        raise UserError("no recordings given")
    return list(dict.fromkeys(path.resolve() for path in paths))


def read_splits(path):
    """Split of each subject from a CSV with the columns subject (or patient) and split."""
    try:
        table = pd.read_csv(path, dtype=str)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable as a split: a CSV with the columns subject,split ({error})") from error
    table = table.rename(columns={"patient": "subject"})
    if not {"subject", "split"} <= set(table) or not table["split"].isin(SPLITS).all():
        raise UserError(f"{path}: expected the columns subject,split with the splits {', '.join(SPLITS)}")
    return dict(zip(table["subject"], table["split"], strict=True))


def read_shares(text):
    """Shares of train, val and test from text such as "0.7,0.1,0.2"."""
    try:
        shares = [float(share) for share in text.split(",")]
    except ValueError:
        shares = []
    if len(shares) != len(SPLITS) or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        raise UserError(f"split '{text}': expected three shares that add up to 1, such as 0.7,0.1,0.2, or a .csv file")
    return shares


def draw_splits(subjects, shares, seed):
    """Draw a split by subject.

    Parameters
    ----------
    subjects : iterable of str
        Each subject once.
    shares : list of float
        Shares of train, val and test. A share above 0 gets at least one subject.
    seed : int
        The same seed and subjects give the same split.
    """
    names = np.random.default_rng(seed).permutation(sorted(subjects)).tolist()
    n_val, n_test = (max(round(share * len(names)), share > 0) for share in shares[1:])
    if n_val + n_test + (shares[0] > 0) > len(names):
        raise UserError(f"{len(names)} subjects are too few for the split {shares}; use 1,0,0 or more subjects")
    parts = ["val"] * n_val + ["test"] * n_test
    return dict(zip(names, parts + ["train"] * (len(names) - len(parts)), strict=True))


def prepare_file(path, shard, min_quality):
    """Prepare one file and write its windows, if any; who it was, the windows' counts and the shard's SHA-256."""
    recording = read_recording(path)
    windows, counts = prepare_recording(recording, min_quality)
    if len(windows):
        write_shard(shard, windows)
    return recording.subject, counts, sha256(shard) if len(windows) else None


def prepare(
    inputs: list[str],
    out: str = "runs/store",
    split: str | None = None,
    min_quality: float = 0.9,
    seed: int = 77,
    jobs: int = 0,
) -> dict:
    """Turn recordings into a store of windows for training and probing.

    Each recording is cleaned (as by NeuroKit2), judged beat by beat, resampled to 100 Hz and cut into windows of 10 s.

    Parameters
    ----------
    inputs : list of str
        Recordings (.npz, WFDB .hea, .csv), folders to search for them, or "bidmc" for the shipped excerpt.
    out : str
        Folder of the store; replaced as a whole when all is done.
    split : str or None
        Shares of train, val and test by subject, such as "0.7,0.1,0.2", or a CSV file with the columns subject,split.
        Default: the shipped split for "bidmc" alone, else 0.7,0.1,0.2.
    min_quality : float
        Lowest quality of PPG and of ECG for a window to be kept (template-match correlation, 15th percentile over the
        window, at most 1); -1 keeps all.
    seed : int
        Seed of a split by shares.
    jobs : int
        Processes; 0 = one for every 200 recordings, up to the number of cores.

    Returns
    -------
    dict
        Windows kept, dropped by reason, and by split; subjects by split; "out".

    Raises
    ------
    UserError
        If an input cannot be used, nothing is left, or `out` cannot be written; `out` is then as it was before.
    """
    paths = find_recordings(inputs)
    split = split or (SHIPPED_SPLIT if list(inputs) == ["bidmc"] else "0.7,0.1,0.2")
    given, shares = (read_splits(split), None) if Path(split).suffix == ".csv" else (None, read_shares(split))
    shown = Path(split).name if given else split
    out = Path(out)
    files = [f"{number:05d}-{path.stem}.parquet" for number, path in enumerate(paths)]
    with atomic_folder(out, "store.json") as folder:
        prepare_one = joblib.delayed(prepare_file)
        work = [prepare_one(path, folder / file, min_quality) for path, file in zip(paths, files, strict=True)]
        n_jobs = min(jobs or min(os.cpu_count(), 1 + len(paths) // FILES_A_PROCESS), len(paths))
        pool = joblib.Parallel(n_jobs, return_as="generator")
        notes = list(tqdm(pool(work), "prepare", len(paths), unit="recording"))
        shards = [
            {"file": file, "subject": subject, "source": path.name, "windows": counts["kept"], "sha256": digest}
            for file, path, (subject, counts, digest) in zip(files, paths, notes, strict=True)
            if digest
        ]
        subjects = {shard["subject"] for shard in shards}
        if not subjects:
            raise UserError(f"no window of {len(paths)} recordings reaches the quality {min_quality:g}")
        splits = given or draw_splits(subjects, shares, seed)
        if unknown := sorted(subjects - splits.keys()):
            raise UserError(f"{shown}: names no split for {', '.join(unknown)}")
        counts = sum((Counter(counts) for _, counts, _ in notes), Counter())
        kept = Counter()
        for shard in shards:
            kept[splits[shard["subject"]]] += shard["windows"]
        result = {
            "recordings": len(paths),
            "windows": counts.pop("kept"),
            "dropped": dict(counts),
            "windows_by_split": dict(kept),
            "subjects_by_split": dict(Counter(splits[subject] for subject in subjects)),
        }
        write_json(
            folder / "store.json",
            {
                "schema_version": SCHEMA_VERSION,
                "settings": {"split": shown, "min_quality": min_quality, "seed": seed},
                "window": {"sfreq": SFREQ, "n_times": N_TIMES},
                **result,
                "splits": {subject: splits[subject] for subject in sorted(subjects)},
                "shards": shards,
            },
        )
    return {**result, "out": str(out)}
