"""The protocol: folds with subjects apart, out-of-fold predictions, means over subjects, intervals.

A fold's model never saw the subjects that it scores. A score is the mean over subjects, whatever
their folds. Every method gets the same folds and the same resamples of subjects, so methods compare
in pairs.
"""

import warnings
from dataclasses import dataclass, field

import numpy as np
from sklearn.model_selection import KFold, StratifiedKFold

from xmae.errors import UserError
from xmae.evaluation.heads.linear import fit_linear
from xmae.evaluation.protocol.bootstrap import MIN_SUBJECTS, score
from xmae.evaluation.protocol.datasets import Dataset
from xmae.evaluation.protocol.result import Score
from xmae.evaluation.protocol.tasks import Task

MAX_FOLDS = 5
METRICS_OF = {"binary": ("auroc", "f1"), "regression": ("mae",)}


@dataclass
class Trial:
    """A task on a dataset, with folds.

    Attributes
    ----------
    dataset : Dataset
    task : Task
    truth : float array, shape (n,)
        NaN = no label.
    folds : list of (fitted, scored)
        Row numbers.
    not_scored : dict of str to list of str
        Why subjects are not scored, and who.
    """

    dataset: Dataset
    task: Task
    truth: np.ndarray
    folds: list
    not_scored: dict = field(default_factory=dict)

    @property
    def name(self):
        """Return the dataset and the task in one name."""
        return f"{self.dataset.name}/{self.task.name}"

    @property
    def rows(self):
        """Return the rows to be scored, fold after fold."""
        return np.concatenate([scored for _, scored in self.folds])

    @property
    def subject(self):
        """Return the subject of each of `rows`."""
        return self.dataset.subject[self.rows]


def make_trial(dataset, task, protocol="test", n_folds=None, seed=77):
    """Divide the labelled subjects to be scored into folds; for a binary task each fold gets its
    share of both classes.

    A model is fitted on the other folds and, under the protocol "test", also on the labelled
    windows of the split "train".

    Parameters
    ----------
    dataset : Dataset
    task : Task
    protocol : {"test", "all", "loso"}
        Score the split "test" (everything, where there is none), or everything; "loso" leaves one
        subject out at a time.
    n_folds : int, optional
        Folds; default 5, or as many as there are subjects, or subjects of the rarer class.
    seed : int
        Seed of the assignment to folds.

    Raises
    ------
    UserError
        If subjects, or those with one of the classes, are too few for the folds, or a fold has a
        single class.
    """
    truth, where = task.target(dataset), f"{dataset.name}, {task.name}"
    usable = np.isfinite(truth)
    score = dataset.scored(protocol)
    always = np.flatnonzero(
        usable & (dataset.split == "train") & ~np.isin(dataset.subject, dataset.subject[score])
    )
    rows = np.flatnonzero(usable & score)
    subjects, subject = np.unique(dataset.subject[rows], return_inverse=True)
    if len(subjects) < MIN_SUBJECTS:
        raise UserError(
            f"{where}: {len(subjects)} scored subjects have a label, {MIN_SUBJECTS} are needed"
            + advice(dataset, usable, protocol)
        )
    lost = not_scored(dataset, usable, score)
    positive, most, whose = fewest_of_a_class(task, truth[rows], subject, where)
    if protocol == "loso":
        return Trial(dataset, task, truth, one_out(task, truth, rows, subject, always, where), lost)
    n_folds = int(min(MAX_FOLDS, most)) if n_folds is None else n_folds
    if not 2 <= n_folds <= most:
        raise UserError(
            f"{where}: {most} {whose}, too few for {max(n_folds, 2)} folds"
            + advice(dataset, usable, protocol)
        )
    folds = []
    for others, held in split_subjects(subjects, positive, n_folds, seed):
        fitted, scored = (rows[np.isin(subject, part)] for part in (others, held))
        folds.append((np.concatenate([always, fitted]), scored))
    if task.kind == "binary":
        refuse_single_class(truth, folds, where)
    return Trial(dataset, task, truth, folds, lost)


def fewest_of_a_class(task, truth, subject, where):
    """Count the subjects that limit the number of folds: all, or those of the rarer class.

    Returns
    -------
    positive : bool array, shape (S,), or None
        For a binary task: which subjects have a window of the class 1.
    most : int
        Number of all subjects, or of those of the rarer class.
    whose : str
        Description of these subjects.
    """
    n_subjects = int(subject.max()) + 1
    if task.kind != "binary":
        return None, n_subjects, "scored subjects"
    positive, negative = (
        np.bincount(subject[truth == kind], minlength=n_subjects) > 0 for kind in (1, 0)
    )
    most, whose = min(
        (positive.sum(), "scored subjects of the class 1"), (negative.sum(), "of the class 0")
    )
    if most == 0:
        raise UserError(f"{where}: all scored subjects are of a single class")
    return positive, most, whose


def refuse_single_class(truth, folds, where):
    """Raise a `UserError` if the rows to fit or to score in a fold have a single class."""
    for number, (fitted, scored) in enumerate(folds, 1):
        for part, doing in ((fitted, "fit on"), (scored, "score")):
            if np.ptp(truth[part]) == 0:
                raise UserError(
                    f"{where}: the subjects to {doing} in fold {number} are of a single class"
                )


def one_out(task, truth, rows, subject, always, where):
    """Make folds that leave out one subject at a time; for a binary task each subject needs both
    classes.
    """
    folds = []
    for number in range(subject.max() + 1):
        scored, fitted = rows[subject == number], rows[subject != number]
        if task.kind == "binary" and np.ptp(truth[scored]) == 0:
            raise UserError(
                f"{where}: leaving one subject out needs both classes in every subject, and one "
                "has a single class; use --protocol all"
            )
        folds.append((np.concatenate([always, fitted]), scored))
    return folds


def not_scored(dataset, usable, score):
    """Explain which subjects of a dataset are not scored: {reason: names}; `usable` and `score`
    mark the windows with a label and those to be scored.
    """
    everybody = set(dataset.subject)
    labelled, chosen = set(dataset.subject[usable]), set(dataset.subject[usable & score])
    found = {
        "no label in any window": sorted(everybody - labelled),
        "in another split than test (--protocol all scores them)": sorted(labelled - chosen),
    }
    return {why: names for why, names in found.items() if names}


def advice(dataset, usable, protocol):
    """Return advice for too few scored subjects, as the end of a message."""
    labelled = len(set(dataset.subject[usable]))
    if protocol == "test" and labelled >= MIN_SUBJECTS and (dataset.split == "test").any():
        return f"; {labelled} have one in all splits: --protocol all or loso scores them"
    return "; prepare more subjects, or give labels of more of them (--labels)"


def split_subjects(subjects, positive, n_folds, seed=77):
    """Divide subjects into folds: a list of (others, held), subject numbers.

    Parameters
    ----------
    subjects : array, shape (S,)
        Their names, in order.
    positive : bool array, shape (S,), or None
        For a binary task: each fold gets its share of positive subjects.
    n_folds, seed : int
    """
    splitter = KFold if positive is None else StratifiedKFold
    with warnings.catch_warnings():
        # fewer all-negative subjects than folds: `make_trial` checks
        warnings.simplefilter("ignore", UserWarning)
        folds = splitter(n_folds, shuffle=True, random_state=seed)
        return list(folds.split(subjects, positive))


def probe_trial(trial, embedding):
    """Return out-of-fold predictions of linear probes on a frozen embedding (n, D), for
    `trial.rows`: numbers or log odds.
    """
    parts = []
    for fitted, scored in trial.folds:
        model = fit_linear(
            embedding[fitted], trial.truth[fitted], trial.dataset.subject[fitted], trial.task.kind
        )
        parts.append(model.predict(embedding[scored].astype(np.float64)))
    return np.concatenate(parts)


def constant_trial(trial):
    """Return the predictions of a constant, the mean of the fitted windows or log odds 0, for
    `trial.rows`.
    """
    binary = trial.task.kind == "binary"
    return np.concatenate(
        [np.full(len(s), 0.0 if binary else trial.truth[f].mean()) for f, s in trial.folds]
    )


def fold_constants(x, trial):
    """Return, for each window, the mean of a column over the subjects of the other folds: (n,) ->
    (n,); NaN for subjects in no fold.
    """
    subject, constant = trial.dataset.subject, np.full(len(x), np.nan)
    for fitted, scored in trial.folds:
        held = np.isin(subject, subject[scored])
        constant[held] = np.nanmean(x[np.isin(subject, subject[fitted])])
    return constant


def score_trial(trial, prediction, n_resamples=1000, seed=77):
    """Compute the metrics of out-of-fold predictions.

    Parameters
    ----------
    trial : Trial
    prediction : array, shape (len(trial.rows),)
        Numbers, or log odds of the positive class (F1 cuts them at 0).
    n_resamples, seed : int
        Resamples of subjects.

    Returns
    -------
    dict of str to Score
        By metric.
    """
    truth, subject = trial.truth[trial.rows], trial.subject
    return {
        name: Score(**score(name, truth, prediction, subject, n_resamples, seed))
        for name in METRICS_OF[trial.task.kind]
    }
