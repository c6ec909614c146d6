"""From one recording to its windows: clean, judge, resample, cut."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from xmae.beats.truth import truth_of
from xmae.data.recording.acceleration import length
from xmae.data.store.windows import LABELS, LEAD_SFREQ, LEAD_TIMES, Windows
from xmae.errors import UserError
from xmae.signals.defects import beat_agreement, clipped_share, flat_seconds, motion, relative_range
from xmae.signals.filters import ecg_clean, ppg_clean, resp_clean
from xmae.signals.quality import ecg_peaks, ppg_peaks, template_quality, window_quality
from xmae.signals.resample import bridge_gaps, resample, resample_with_gaps, resampling_ratio
from xmae.signals.window import N_TIMES, SFREQ, WINDOW_S

SEXES = {"M": 1.0, "MALE": 1.0, "F": 0.0, "FEMALE": 0.0}  # other words are no label
CHAIN = {"ppg": (ppg_clean, ppg_peaks), "ecg": (ecg_clean, ecg_peaks)}
# measure: (1 = must not be above, -1 = must not be below, limit); 4 of 1,339 well-shaped BIDMC
# windows are beyond one
LIMITS = {
    "clipping": (1, 0.1),  # share of samples at the rails
    "flat_line": (1, 1.0),  # s without any change
    "dropout": (-1, 0.1),  # range within 2 s over the recording's median
    # g, standard deviation of the fast part of acceleration; where there is an accelerometer
    "motion": (1, 0.1),
    "beats": (-1, 0.7),  # share of heartbeats that one pulse answers in time
}


def prepare_recording(recording, min_quality=0.9, leads=False, judge=True):
    """Clean a recording and cut it into consecutive windows from its start.

    Parameters
    ----------
    recording : Recording
        Signals and labels.
    min_quality : float
        Lowest quality (template match, 15th percentile) of both PPG and ECG for a window to be
        kept; the limits of `LIMITS` apply too. -1 keeps all windows without missing samples in
        which something moves.
    leads : bool
        Also cut all ECG leads and respiration, at 200 Hz.
    judge : bool
        Find beats and judge the quality. Without, quality is NaN, and only `min_quality` of -1
        makes sense: the light runtime has no detectors.

    Returns
    -------
    windows : Windows
        Those kept, perhaps none; their `split` is "".
    counts : dict
        Windows "kept", and dropped for the first reason that applied: "missing" samples, "flat"
        signal, "clipping", "flat_line", "dropout", "motion", "ppg_quality", "ecg_quality", "beats".
        What is left over at the end of the recording counts nowhere.
    """
    starts = window_starts(len(recording.ppg), recording.sfreq)
    n_windows = len(starts) - 1
    found = clean_and_measure(recording, starts, judge)
    reasons = reasons_to_drop(found, min_quality)
    verdict = np.select(list(reasons.values()), list(reasons), default="kept")
    truth = None if found.ecg is None else truth_of(found.ecg)
    lead_names, lead_windows = cut_leads(recording, starts) if leads else ((), None)
    windows = Windows(
        ppg=found.ppg,
        ecg=found.ecg,
        subject=np.full(n_windows, recording.subject),
        record=np.full(n_windows, recording.record),
        start_s=np.arange(n_windows) * float(WINDOW_S),
        ppg_quality=found.quality["ppg"],
        ecg_quality=found.quality["ecg"],
        split=np.full(n_windows, ""),
        labels=labels_of(recording, truth, n_windows),
        leads=lead_windows,
        lead_names=lead_names,
        measures=found.measures,
        acc=cut_acc(recording.acc, recording.sfreq, n_windows),
        beats=None if truth is None else truth.beats,
    )
    return windows.select(verdict == "kept"), dict(Counter(verdict.tolist()))


@dataclass
class Measured:
    """Clean windows of a recording, and their defects.

    Attributes
    ----------
    ppg, ecg : float32 array, shape (n, 1000), or None
    quality : dict of str to array, shape (n,)
        By signal; NaN = not judged.
    measures : dict of str to array, shape (n,)
        In the units of `LIMITS`.
    missing, flat : bool array, shape (n,)
        Has missing samples; does not move at all.
    """

    ppg: np.ndarray | None
    ecg: np.ndarray | None
    quality: dict
    measures: dict
    missing: np.ndarray
    flat: np.ndarray


def window_starts(n_samples, sfreq):
    """Return the first sample of each window, and the end of the last, shape (n + 1,)."""
    up, down = resampling_ratio(sfreq, SFREQ)
    n_windows = n_samples * up // (down * N_TIMES)
    return np.arange(n_windows + 1) * N_TIMES * down // up


def clean_and_measure(recording, starts, judge):
    """Clean PPG and ECG, cut them into windows, and measure the windows' defects.

    Parameters
    ----------
    recording : Recording
    starts : int array, shape (n + 1,)
        From `window_starts`.
    judge : bool
        See `prepare_recording`.

    Returns
    -------
    Measured
    """
    n_windows, sfreq = len(starts) - 1, recording.sfreq
    unknown = {name: np.full(n_windows, np.nan) for name in LIMITS}
    found = Measured(
        None,
        None,
        quality={name: np.full(n_windows, np.nan) for name in CHAIN},
        measures=unknown,
        missing=np.zeros(n_windows, bool),
        flat=np.zeros(n_windows, bool),
    )
    peaks = {}
    for name in CHAIN:
        x = getattr(recording, name)
        if x is None:
            continue
        if judge:
            clean, judged, peaks[name] = clean_and_judge(x, sfreq, name)
            found.quality[name] = window_quality(judged, sfreq)
        else:
            runs = clean_runs(x, sfreq, CHAIN[name][0])
            clean = bridge_gaps(runs, np.isfinite(runs))
        fine = resample(clean, sfreq, SFREQ)[: n_windows * N_TIMES]
        setattr(found, name, fine.reshape(n_windows, N_TIMES).astype(np.float32))
        measure_signal(found, name, x, starts, sfreq)
    if recording.acc is not None:
        found.measures["motion"] = motion(length(recording.acc), starts, sfreq)
    if "ecg" in peaks:
        found.measures["beats"] = beat_agreement(peaks["ecg"], peaks["ppg"], starts)
    return found


def measure_signal(found, name, x, starts, sfreq):
    """Measure the defects of a signal (n_times,); the worst of all signals counts."""
    measures = found.measures
    measures["clipping"] = np.fmax(measures["clipping"], clipped_share(x, starts))
    measures["flat_line"] = np.fmax(measures["flat_line"], flat_seconds(x, starts, sfreq))
    measures["dropout"] = np.fmin(measures["dropout"], relative_range(getattr(found, name)))
    x, first = x[: starts[-1]], starts[:-1]
    found.missing |= np.logical_or.reduceat(np.isnan(x), first)
    found.flat |= np.maximum.reduceat(x, first) == np.minimum.reduceat(x, first)


def reasons_to_drop(found, min_quality):
    """Return the windows to drop, by reason, in the order in which reasons apply."""
    reasons = {"missing": found.missing, "flat": found.flat}
    if min_quality <= -1:
        return reasons
    beyond = {
        name: sign * found.measures[name] > sign * limit for name, (sign, limit) in LIMITS.items()
    }
    reasons |= {name: beyond[name] for name in ("clipping", "flat_line", "dropout", "motion")}
    reasons |= {f"{name}_quality": found.quality[name] < min_quality for name in CHAIN}
    return reasons | {"beats": beyond["beats"]}


def labels_of(recording, truth, n_windows):
    """Return the labels of the windows by column, (n_windows,) each, with the reference heart rate
    if it is known.
    """
    names = dict.fromkeys((*LABELS, *recording.labels))
    labels = {name: window_label(recording.labels.get(name), n_windows) for name in names}
    if truth is not None:
        labels["hr_ecg"] = truth.hr_ecg
    return labels


def cut_acc(acc, sfreq, n_windows):
    """Cut acceleration (3, n_times) into windows at 100 Hz: float32 (n_windows, 3, 1000), or None.

    It is not cleaned, so gravity stays. A window with missing samples is NaN.
    """
    if acc is None:
        return None
    n_times = n_windows * N_TIMES
    fine = [resample_with_gaps(axis, sfreq, SFREQ)[:n_times] for axis in acc]
    cut = np.reshape(fine, (3, n_windows, N_TIMES)).transpose(1, 0, 2).astype(np.float32)
    cut[np.isnan(cut).any(axis=(1, 2))] = np.nan
    return cut


def cut_leads(recording, starts):
    """Return the names of all ECG leads and respiration, and their windows at 200 Hz, (n_windows,
    C, 2000), NaN = missing.
    """
    signals = dict(recording.leads or ({"ECG": recording.ecg} if recording.ecg is not None else {}))
    if recording.resp is not None:
        signals["RESP"] = recording.resp
    if not signals:
        raise UserError(f"{recording.record}: has neither ECG nor respiration, so no leads")
    n_windows = len(starts) - 1
    cut = np.empty((n_windows, len(signals), LEAD_TIMES), np.float32)
    for place, (name, x) in enumerate(signals.items()):
        clean = clean_runs(x, recording.sfreq, resp_clean if name == "RESP" else ecg_clean)
        fine = resample(bridge_gaps(clean, np.isfinite(clean)), recording.sfreq, LEAD_SFREQ)[
            : n_windows * LEAD_TIMES
        ]
        # odd rates: short of a sample or two
        fine = np.pad(fine, (0, n_windows * LEAD_TIMES - len(fine)), mode="edge")
        cut[:, place] = fine.reshape(n_windows, LEAD_TIMES)
        cut[np.logical_or.reduceat(np.isnan(clean[: starts[-1]]), starts[:-1]), place] = np.nan
    return tuple(signals), cut


def clean_runs(x, sfreq, clean_signal):
    """Clean each run between missing samples separately: (n_times,) -> (n_times,), NaN in gaps and
    in runs under 10 s.
    """
    clean = np.full(len(x), np.nan)
    for start, stop in finite_runs(np.isfinite(x)):
        if stop - start >= WINDOW_S * sfreq:
            clean[start:stop] = clean_signal(x[start:stop], sfreq)
    return clean


def clean_and_judge(x, sfreq, kind):
    """Clean a signal, and find its beats and quality, separately in each run between missing
    samples.

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
        Cleaned signal and quality of each sample. Where samples are missing, and in runs shorter
        than a window, straight lines bridge the gap, so that resampling does not ring beside it,
        and the quality is 0.
    beats : int array
        Sample numbers of R peaks or systolic peaks.
    """
    clean_signal, find_peaks = CHAIN[kind]
    clean, quality, beats = (
        clean_runs(x, sfreq, clean_signal),
        np.zeros(len(x)),
        [np.array([], int)],
    )
    known = np.isfinite(clean)
    for start, stop in finite_runs(known):
        run = clean[start:stop]
        peaks = find_peaks(run, sfreq)
        quality[start:stop] = template_quality(run, peaks, sfreq)
        beats.append(peaks + start)
    return bridge_gaps(clean, known), quality, np.concatenate(beats)


def finite_runs(finite):
    """Return the starts and ends of the runs of True: bool (n_times,) -> int (n_runs, 2)."""
    return np.flatnonzero(np.diff(np.concatenate([[0], finite, [0]]))).reshape(-1, 2)


def window_label(label, n_windows):
    """Return one number per window: a constant as it is, a series as the mean of its known values
    if at least half are known.
    """
    if label is None:
        return np.full(n_windows, np.nan)
    if isinstance(label, str):
        return np.full(n_windows, SEXES.get(label.strip().upper(), np.nan))
    if np.isscalar(label):
        return np.full(n_windows, float(label))
    values, sfreq = label
    edges = np.rint(np.arange(n_windows + 1) * WINDOW_S * sfreq).astype(int).clip(max=len(values))
    known = np.isfinite(values)
    count, total = (
        np.concatenate([[0], np.cumsum(x)]) for x in (known, np.where(known, values, 0))
    )
    count, total = np.diff(count[edges]), np.diff(total[edges])
    return np.divide(
        total,
        count,
        out=np.full(n_windows, np.nan),
        where=2 * count >= np.maximum(np.diff(edges), 1),
    )
