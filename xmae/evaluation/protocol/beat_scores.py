"""How well beats and heart rate are read: the endpoints in their order, for any set of readings.

A subject's score is the mean over its windows, the headline the mean over subjects. A window
without an answer scores as the training constant, for every method, and the answered share stands
beside. Only windows with truth count (see `xmae.beats.truth`).
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import pearsonr, rankdata, spearmanr

from xmae.beats.intervals import beats_by_window, irregularity, premature_share, variability
from xmae.evaluation.protocol.beat_matching import Matched, match_beats, matched_intervals

NEAR_BPM, FAR_BPM = 5, 10
SUREST = 0.8
IRREGULAR = 0.1  # mean change of neighbouring intervals over their mean, from here on
# of a window, with a training constant each
VALUES = ("hr", "rmssd", "sdnn", "premature", "irregularity")


@dataclass(frozen=True)
class Scored:
    """One method's reading beside the truth.

    Parameters
    ----------
    subject : int array, shape (n,)
        Number of each window's subject.
    error : float array, shape (n,)
        Error of the heart rate, bpm; the constant's where there is no answer, NaN without truth.
    answered : bool array, shape (n,)
    certainty : float array, shape (n,)
        0 to 1; NaN = the method does not say.
    values : dict of float arrays, shape (n,)
        Heart rate (bpm), RMSSD, SDNN (ms), premature beats (%) and irregularity (1); the constant
        where there is no answer.
    matched : Matched or None
        None for a method without beats.
    """

    subject: np.ndarray
    error: np.ndarray
    answered: np.ndarray
    certainty: np.ndarray
    values: dict[str, np.ndarray]
    matched: Matched | None


def true_values(windows):
    """Return the true values of every window by name of `VALUES`: float arrays (n,), NaN =
    unknown.
    """
    window, time = beats_by_window(windows.beats)
    return {"hr": windows.labels["hr_ecg"]} | values_of_beats(time, window, len(windows.beats))


def values_of_beats(time, window, n_windows, confidence=None):
    """Return the RMSSD, SDNN (ms), premature beats (%) and irregularity (1) of each window: dict
    of float arrays (n_windows,). Beats that are doubtful by `confidence` are left out of RMSSD and
    SDNN.
    """
    found = variability(time, window, n_windows, confidence)
    beats = time, window, n_windows
    return {
        "rmssd": found["rmssd"],
        "sdnn": found["sdnn"],
        "premature": premature_share(*beats),
        "irregularity": irregularity(*beats),
    }


def score_reading(windows, recording, subject, reading, constants):
    """Compare a reading with the truth.

    Parameters
    ----------
    windows : Windows or Dataset
        With `beats` and the label `hr_ecg`.
    recording, subject : int arrays, shape (n,)
        Numbers of each window's recording and subject.
    reading : Reading
        Reading of these windows.
    constants : dict of float arrays, shape (n,)
        By name of `VALUES`: what stands for a missing answer.

    Returns
    -------
    Scored
    """
    n_windows = len(subject)
    beats = reading.time, reading.window, n_windows, reading.confidence
    own = {"hr": reading.rate} | values_of_beats(*beats)
    values = {name: np.where(np.isfinite(own[name]), own[name], constants[name]) for name in own}
    return Scored(
        subject=subject,
        error=np.abs(values["hr"] - windows.labels["hr_ecg"]),
        answered=np.isfinite(reading.rate),
        certainty=reading.certainty,
        values=values,
        matched=match_beats(windows, recording, reading) if len(reading.time) else None,
    )


def subject_means(x, subject, rows=None):
    """Return the mean of x over the windows of each subject: (n,) -> (S,); NaN for a subject
    without any.

    Parameters
    ----------
    x : float array, shape (n,)
        NaN = does not count.
    subject : int array, shape (n,)
    rows : bool array, shape (n,), optional
        Windows that count; all by default.
    """
    counts = np.isfinite(x) if rows is None else np.isfinite(x) & rows
    n_subjects = int(subject.max()) + 1
    total = np.bincount(subject[counts], x[counts], minlength=n_subjects)
    number = np.bincount(subject[counts], minlength=n_subjects)
    return np.divide(total, number, out=np.full(n_subjects, np.nan), where=number > 0)


def surest(certainty, error, share=SUREST):
    """Mark the most certain share of all windows with truth, pooled: bool (n,); None if the method
    gives no certainty.
    """
    known = np.flatnonzero(np.isfinite(error))
    if np.isnan(certainty[known]).any():
        return None
    order = known[np.argsort(-certainty[known], kind="stable")]
    chosen = np.zeros(len(error), bool)
    chosen[order[: round(share * len(order))]] = True
    return chosen


def rate_scores(scored):
    """Score heart rates by subject: error (bpm), share within 5 bpm, answered share, wrong but
    sure; dict of arrays (S,).
    """
    known = np.isfinite(scored.error)
    far = scored.answered & (scored.error > FAR_BPM)
    columns = {
        "error": scored.error,
        "within": scored.error <= NEAR_BPM,
        "answered": scored.answered,
        "wrong_but_sure": far,
    }
    return {
        name: subject_means(x.astype(float), scored.subject, known) for name, x in columns.items()
    }


def match_scores(scored):
    """Score matched beats by subject: recall, precision, F1; dict of arrays (S,)."""
    matched, subject = scored.matched, scored.subject
    n_subjects = int(subject.max()) + 1

    def total(x, of):
        return np.bincount(subject[of], x, minlength=n_subjects)

    beats, every = matched.counted, np.arange(len(subject))
    seen = total(np.isfinite(matched.found) & beats, matched.window)
    recall = seen / np.maximum(total(beats, matched.window), 1)
    precision = total(matched.hits, every) / np.maximum(total(matched.claims, every), 1)
    f1 = 2 * recall * precision / np.maximum(recall + precision, 1e-12)
    absent = total(beats, matched.window) == 0  # a subject without truth
    scores = {"recall": recall, "precision": precision, "f1": f1}
    return {name: np.where(absent, np.nan, x) for name, x in scores.items()}


def interval_scores(windows, recording, scored, clean):
    """Return the interval errors of several methods, on the intervals that all of them have.

    Parameters
    ----------
    windows, recording
        As in `score_reading`.
    scored : dict of Scored
        Methods that find beats, by name.
    clean : bool array, shape (n,)
        Windows that are clean, to be looked at by themselves.

    Returns
    -------
    dict
        Per method `median` and `mean` of the error (ms), arrays (S,), on all windows with truth;
        `clean_median`, `clean_mean` on the clean ones; `share`: of the ECG's intervals that
        all methods have.
    """
    first = next(iter(scored.values()))
    found = {
        name: matched_intervals(windows, recording, one.matched) for name, one in scored.items()
    }
    window, truth, _ = next(iter(found.values()))
    common = np.all([np.isfinite(mine) for _, _, mine in found.values()], axis=0)
    scores = {}
    for name, (_, _, mine) in found.items():
        error = np.where(common, 1000 * np.abs(mine - truth), np.nan)
        scores[name] = {"share": common.mean()}
        for what, rows in (("", slice(None)), ("clean_", clean[window])):
            part, of = error[rows], first.subject[window[rows]]
            scores[name] |= {
                f"{what}median": by_subject(np.nanmedian, part, of, first.subject),
                f"{what}mean": by_subject(np.nanmean, part, of, first.subject),
            }
    return scores


def by_subject(function, x, of, subject):
    """Apply a function to the known values of each subject: (k,), (k,) -> (S,); NaN without any."""
    n_subjects = int(subject.max()) + 1
    parts = [x[(of == number) & np.isfinite(x)] for number in range(n_subjects)]
    return np.array([function(part) if len(part) else np.nan for part in parts])


def value_scores(truth, scored, name):
    """Score one of `VALUES` against the truth: error by subject (S,), correlations pooled and
    within subjects.

    Returns
    -------
    dict
        `error` (S,); `pearson`, `spearman` over all windows; `pearson_within`, `spearman_within`:
        medians over subjects of at least 5 windows with some variance.
    """
    known, mine = np.isfinite(truth), scored.values[name]
    pairs = [
        (truth[rows], mine[rows])
        for rows in (known & (scored.subject == number) for number in np.unique(scored.subject))
    ]
    pairs = [(a, b) for a, b in pairs if len(a) >= 5 and np.ptp(a) > 0]
    return {
        "error": subject_means(np.abs(mine - truth), scored.subject),
        "pearson": correlation(pearsonr, truth[known], mine[known]),
        "spearman": correlation(spearmanr, truth[known], mine[known]),
        "pearson_within": float(np.median([correlation(pearsonr, a, b) for a, b in pairs])),
        "spearman_within": float(np.median([correlation(spearmanr, a, b) for a, b in pairs])),
    }


def correlation(kind, a, b):
    """Return the correlation of two arrays, 0 if one of them is constant."""
    return float(kind(a, b).statistic) if np.ptp(a) > 0 and np.ptp(b) > 0 else 0.0


def detection_auroc(truth, score):
    """Return the AUROC of a score (n,) for detecting truth above 0; windows without truth are
    ignored.
    """
    known = np.isfinite(truth)
    positive, rank = truth[known] > 0, rankdata(score[known])
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if not n_positive or not n_negative:
        return np.nan
    wins = rank[positive].sum() - n_positive * (n_positive + 1) / 2
    return float(wins / (n_positive * n_negative))


def interval_coverage(truth, low, high, subject):
    """Return the share of windows by subject (S,) whose truth lies in the interval, and the median
    width.
    """
    known = np.isfinite(truth)
    inside = ((truth >= low) & (truth <= high)).astype(float)
    return subject_means(inside, subject, known), float(np.median((high - low)[known]))
