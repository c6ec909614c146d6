"""The protocol of `xmae probe` and `xmae fuse`: every scored window predicted by a model that never
saw its patient.

The patients to score are cut into folds. In each, a model is fitted on the patients that are always
fitted on and on the scored ones of the other folds. The metric is taken over all scored windows at
once, with intervals by resampling patients. Whatever is compared shares folds and resamples, so
that differences are paired.
"""

import numpy as np
from sklearn.model_selection import GroupKFold

from xmae.evaluation.protocol.bootstrap import METRICS, MIN_SUBJECTS, interval, resamples


def probe_folds(subject, usable, score, fit, n_folds=5):
    """Index pairs (fitted rows, scored rows): every usable scored row is scored once, by patients
    other than its own.

    Parameters
    ----------
    subject : array, shape (n,)
        Patient of every row.
    usable, score, fit : bool array, shape (n,)
        Rows with a label; rows to score; rows that are always fitted.
    n_folds : int
        At most this many folds over the scored patients; 1: fit on `fit` alone.

    Yields
    ------
    fitted, scored : int arrays
    """
    scored = np.flatnonzero(score & usable)
    always = np.flatnonzero(fit & ~score & usable)
    if n_folds == 1:
        yield always, scored
        return
    folds = GroupKFold(min(n_folds, np.unique(subject[scored]).size))
    for others, held in folds.split(scored, groups=subject[scored]):
        yield np.concatenate([always, scored[others]]), scored[held]


def score_task(task, windows, score, fit, predict, n_folds=5, n_resamples=1000, seed=77):
    """Score several ways to predict a task on the same windows.

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
        Of the patients.

    Returns
    -------
    dict
        Either `reason` (why it cannot be evaluated), or `n_windows`, `n_subjects`, `baseline`
        (predicting the mean of the fitted windows; 0.5 for AUROC) with `baseline_interval`, and
        `ways`: per way `value`, `interval`, and `minus_first` with `minus_first_interval`.
    """
    truth = task.target(windows)
    usable = ~np.isnan(truth)
    rows = np.flatnonzero(usable & score)
    subjects, subject = np.unique(windows.subject[rows], return_inverse=True)
    if len(subjects) < MIN_SUBJECTS:
        return {
            "reason": f"{len(subjects)} scored patients have the label {task.column!r}, {MIN_SUBJECTS} are needed"
        }
    folds = list(probe_folds(windows.subject, usable, score, fit, n_folds))
    if (fewest := min(len(np.unique(windows.subject[fitted])) for fitted, _ in folds)) < 2:
        return {
            "reason": f"{fewest} patients to fit on have the label {task.column!r}, 2 are needed"
        }
    if task.kind == "binary":
        if np.ptp(truth[rows]) == 0:
            return {"reason": "all scored patients are of one class"}
        if any(np.ptp(truth[fitted]) == 0 for fitted, _ in folds):
            return {"reason": "the patients to fit on in one fold are of one class"}
    predicted = {}
    for fitted, held in folds:
        said = predict(truth, fitted, held)
        said["constant"] = truth[fitted].mean() if task.kind == "regression" else 0.0
        for name, value in said.items():
            predicted.setdefault(name, np.empty(len(truth)))[held] = value
    weights = resamples(len(subjects), n_resamples, seed)
    values = {
        name: METRICS[task.metric](truth[rows], x[rows], subject, weights)
        for name, x in predicted.items()
    }
    constant, first = values.pop("constant"), next(iter(values.values()))
    return {
        "n_windows": len(rows),
        "n_subjects": len(subjects),
        "baseline": float(constant[0]),
        "baseline_interval": interval(constant[1:]),
        "ways": {
            name: {
                "value": float(x[0]),
                "interval": interval(x[1:]),
                "minus_first": float(x[0] - first[0]),
                "minus_first_interval": interval(x[1:] - first[1:]),
            }
            for name, x in values.items()
        },
    }
