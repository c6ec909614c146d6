"""Drift of a student that reads beats, by what a wearer notices: when beats are, what the heart
rate is, and whether one is given.
"""

import numpy as np

from xmae.benchmarks.harness.rows import BeatDrift
from xmae.evaluation.protocol.beat_matching import pair, tolerances
from xmae.export.bundle.beat_rows import read_rows

WINDOW_GAP_S = 100.0  # between windows laid end to end, so that beats of two never match
PERCENTILE = 99
DIGITS = 6  # of ms: what the gaps leave of a float
FP32_BEATS = {  # those of int8 are defaults of `xmae validate`
    "max_beat_ms": 0.5,
    "max_beat_ms_p99": 5.0,
    "max_rate_change": 0.02,
    "max_refusal_flips": 0.002,
}
WORDS = {  # what each limit is of: field of `BeatDrift`, words, unit
    "max_beat_ms": ("median_ms", "beat times, median", " ms"),
    "max_beat_ms_p99": ("p99_ms", "beat times, 99th percentile", " ms"),
    "max_rate_change": ("rate_change", "heart-rate error changes by", " bpm"),
    "max_refusal_flips": ("refusal_flips", "windows whose refusal flips", ""),
}


def compare_beats(rows, entry, original, least, hr_ecg=None, subject=None):
    """Compare the beats and heart rates of an exported student with those of its float original.

    Parameters
    ----------
    rows : float array, shape (n, D)
        Output of the file for n windows.
    entry : Entry
        The file's, with `embedding` and `output`.
    original : float array, shape (n, D)
        Rows of the float original.
    least : int
        Certainty (0 to 255) from which a heart rate is given.
    hr_ecg, subject : arrays, shape (n,), optional
        True heart rate, bpm, NaN = unknown; whose window it is.

    Returns
    -------
    BeatDrift
    """
    ours = read_rows(rows, entry.embedding, entry.output)
    theirs = read_rows(original, entry.embedding)
    truth = theirs.window * WINDOW_GAP_S + theirs.time
    mine = ours.window * WINDOW_GAP_S + ours.time
    pairs = pair(truth, mine, tolerances(truth))
    matched = pairs >= 0
    off = np.round(1000 * np.abs(mine[pairs[matched]] - truth[matched]), DIGITS)
    given, meant = (answered(reading, least) for reading in (ours, theirs))
    return BeatDrift(
        beats=int(matched.sum()),
        unmatched=float(1 - matched.mean()) if len(matched) else 0.0,
        median_ms=float(np.median(off)) if len(off) else None,
        p99_ms=float(np.percentile(off, PERCENTILE)) if len(off) else None,
        rate_change=rate_change(ours.rate, theirs.rate, hr_ecg, subject),
        refusal_flips=float((given != meant).mean()),
    )


def answered(reading, least):
    """Tell in which windows a reading gives a heart rate."""
    return np.isfinite(reading.rate) & (np.rint(reading.certainty * 255) >= least)


def rate_change(ours, theirs, truth, subject):
    """Return the change of the mean absolute heart-rate error over subjects, bpm; without truth,
    the change of the heart rate.
    """
    known = np.isfinite(ours) & np.isfinite(theirs)
    if truth is None or not (known & np.isfinite(truth)).any():
        return float(np.abs(ours - theirs)[known].mean()) if known.any() else None
    known &= np.isfinite(truth)
    change = (np.abs(ours - truth) - np.abs(theirs - truth))[known]
    subjects = np.asarray(subject)[known]
    return float(np.mean([change[subjects == one].mean() for one in np.unique(subjects)]))


def beat_violations(beats, limits):
    """List what is beyond the limits: a list of sentences."""
    found = []
    for name, (key, words, unit) in WORDS.items():
        value, limit = getattr(beats, key), limits[name]
        if value is None:
            found.append(f"{words}: nothing to compare")
        elif abs(value) > limit:
            found.append(f"{words}: {value:.3g}{unit} is more than {limit:g}{unit}")
    return found
