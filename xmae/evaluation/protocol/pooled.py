"""The protocol of `xmae probe` and `xmae fuse`: every scored window predicted by a model that never
saw its subject.

The subjects to score are cut into folds, the same as those of `xmae evaluate`. In each, a model is
fitted on the subjects that are always fitted on and on the scored ones of the other folds. A score
is the mean over subjects, with intervals by resampling them. Whatever is compared shares folds and
resamples, so that differences are paired.
"""

import numpy as np

from xmae.evaluation.protocol import bootstrap
from xmae.evaluation.protocol.bootstrap import METRICS, MIN_SUBJECTS, interval, resamples
from xmae.evaluation.protocol.folds import MAX_FOLDS, split_subjects


def probe_folds(subject, truth, score, fit, kind, n_folds=MAX_FOLDS, seed=77):
    """Return index pairs (fitted rows, scored rows): every labelled row to be scored is scored
    once, by a model fitted on other subjects.

    Parameters
    ----------
    subject : array, shape (n,)
        Subject of every row.
    truth : float array, shape (n,)
        Labels; NaN = missing.
    score, fit : bool array, shape (n,)
        Rows to score; rows that are always fitted.
    kind : str
        "regression", or "binary": each fold gets its share of positive subjects.
    n_folds : int
        At most this many folds over the scored subjects; 1: fit on `fit` alone.
    seed : int
        Seed of the assignment to folds.

    Yields
    ------
    fitted, scored : int arrays
    """
    usable = ~np.isnan(truth)
    scored = np.flatnonzero(score & usable)
    always = np.flatnonzero(fit & ~score & usable)
    if n_folds == 1:
        yield always, scored
        return
    subjects, number = np.unique(subject[scored], return_inverse=True)
    positive, most = None, len(subjects)
    if kind == "binary":
        positive = np.bincount(number[truth[scored] == 1], minlength=most) > 0
        most = max(2, min(positive.sum(), (~positive).sum()))
    for others, held in split_subjects(subjects, positive, min(n_folds, most), seed):
        rows = [scored[np.isin(number, part)] for part in (others, held)]
        yield np.concatenate([always, rows[0]]), rows[1]


def score_task(task, windows, score, fit, predict, n_folds=5, n_resamples=1000, seed=77):
    """Score several ways of predicting a task, on the same windows.

    Parameters
    ----------
    task : Task
    windows : Windows
        Only `subject` and `labels` are used.
    score, fit : bool array, shape (n,)
        Windows to score, and further windows to fit on.
    predict : callable
        (truth (n,), fitted rows, scored rows) -> {way: numbers or log odds of the scored rows}.
    n_folds : int
        See `probe_folds`.
    n_resamples, seed : int
        Number and seed of the resamples of subjects.

    Returns
    -------
    dict
        Either `reason` (why it cannot be evaluated), or `n_windows`, `n_subjects`, `baseline`
        (predicting the mean of the fitted windows; 0.5 for AUROC) with `baseline_interval`, and
        `ways`: per way `value`, `interval`, and `minus_first` with `minus_first_interval`.
    """
    truth = task.target(windows)
    rows = np.flatnonzero(~np.isnan(truth) & score)
    subjects, subject = np.unique(windows.subject[rows], return_inverse=True)
    if len(subjects) < MIN_SUBJECTS:
        why = f"{len(subjects)} scored subjects have the label {task.column!r}, "
        return {"reason": f"{why}{MIN_SUBJECTS} are needed"}
    folds = list(probe_folds(windows.subject, truth, score, fit, task.kind, n_folds))
    if reason := cannot_be_fitted(task, windows.subject, truth, rows, folds):
        return {"reason": reason}
    predicted = out_of_fold(task, truth, folds, predict)
    metric = METRICS[task.metric]
    weights = resamples(len(subjects), n_resamples, seed)
    values, scores = {}, {}
    for name, x in predicted.items():
        values[name] = metric(truth[rows], x[rows], subject, weights)
        scores[name] = bootstrap.score(
            task.metric, truth[rows], x[rows], subject, n_resamples, seed
        )
    constant, first = scores.pop("constant"), next(iter(values.values()))
    for name, found in scores.items():
        less = values[name] - first
        found |= {"minus_first": float(less[0]), "minus_first_interval": interval(less[1:])}
    return {
        "n_windows": len(rows),
        "n_subjects": len(subjects),
        "baseline": constant["value"],
        "baseline_interval": constant["interval"],
        "ways": scores,
    }


def cannot_be_fitted(task, subject, truth, rows, folds):
    """Say why a task cannot be evaluated on these folds; None if it can be."""
    fewest = min(len(np.unique(subject[fitted])) for fitted, _ in folds)
    if fewest < 2:
        return f"{fewest} subjects to fit on have the label {task.column!r}, 2 are needed"
    if task.kind != "binary":
        return None
    if np.ptp(truth[rows]) == 0:
        return "all scored subjects are of one class"
    if any(np.ptp(truth[fitted]) == 0 for fitted, _ in folds):
        return "the subjects to fit on in one fold are of one class"
    return None


def out_of_fold(task, truth, folds, predict):
    """Predict every scored row by models fitted on other subjects: {way: (n,)}, with "constant"."""
    predicted = {}
    for fitted, held in folds:
        found = predict(truth, fitted, held)
        found["constant"] = truth[fitted].mean() if task.kind == "regression" else 0.0
        for name, value in found.items():
            predicted.setdefault(name, np.empty(len(truth)))[held] = value
    return predicted
