"""95 % intervals by resampling subjects, and the metrics in a form that makes a resample cheap.

The interval of a mean over subjects is a bootstrap-t (Efron & Tibshirani, An Introduction to the
Bootstrap, 1993, chapter 12). Errors of subjects are skewed, so percentile and BCa intervals cover
too seldom: 0.81 to 0.89 at 8 subjects. The bootstrap-t covers 0.915 or more at 8 and 12 subjects
and 0.923 or more at 34, simulated for normal and log-normal errors
(benchmarks/results/interval_coverage.md).

Windows of one subject are alike, so the subject is what is drawn (cluster bootstrap: Field & Welsh,
J R Stat Soc B 69(3), 2007).
A resample only changes how often each subject counts. So every metric is first reduced to sums per
subject (MAE, F1) or per pair of subjects (AUROC, as the Mann-Whitney count), and 1000 resamples
become one matrix product.
"""

import numpy as np

N_RESAMPLES, LEVEL = 2000, 0.95
MIN_SUBJECTS = 3  # fewer scored subjects than this give no interval worth printing
# for the head of each table with bootstrap-t intervals: below 93 % at 34 subjects
COVERAGE_NOTE = (
    "Intervals are bootstrap-t over subjects "
    "(95 %; simulated coverage at 34 subjects 92.3 to 94.4 %)."
)


def draw_weights(n_subjects, n_resamples=1000, seed=77):
    """Draw how often each subject occurs in each resample, shape (n_resamples, n_subjects); rows
    sum to n_subjects.
    """
    rng = np.random.default_rng(seed)
    return rng.multinomial(
        n_subjects, np.full(n_subjects, 1 / n_subjects), size=n_resamples
    ).astype(np.float64)


def resamples(n_subjects, n_resamples=1000, seed=77):
    """Return weights of 1 for all subjects in row 0, then `draw_weights`: shape (1 + n_resamples,
    n_subjects).
    """
    return np.vstack([np.ones(n_subjects), draw_weights(n_subjects, n_resamples, seed)])


def mae(truth, prediction, subject, weights):
    """Return the mean over subjects of their mean absolute errors, under each weighting of the
    subjects.

    Parameters
    ----------
    truth, prediction : array, shape (n,)
    subject : int array, shape (n,)
        Index of the subject, 0 <= subject < S.
    weights : array, shape (R, S)
        Number of times a subject counts.

    Returns
    -------
    array, shape (R,)
        NaN where no window counts.
    """
    error, present = subject_mae(truth, prediction, subject, weights.shape[1])
    return _ratio(weights @ error, weights @ present)


def subject_mae(truth, prediction, subject, n_subjects):
    """Return the mean absolute error of each subject (0 without windows), and whether it has
    windows: (S,), (S,).
    """
    error = np.bincount(subject, np.abs(truth - prediction), minlength=n_subjects)
    count = np.bincount(subject, minlength=n_subjects)
    return error / np.maximum(count, 1), count > 0


def auroc(truth, score, subject, weights):
    """Return the area under the ROC curve (Mann-Whitney, ties count one half) under each weighting
    of the subjects.

    A pair of subjects counts once: the positive windows of one against the negative ones of the
    other. Parameters as in `mae`; `truth` is 0 or 1.

    Returns
    -------
    array, shape (R,)
        NaN where a weighting leaves a single class.
    """
    n_subjects = weights.shape[1]
    positive = truth == 1
    wins = count_wins(
        score[positive], subject[positive], score[~positive], subject[~positive], n_subjects
    )
    n_positive = np.bincount(subject[positive], minlength=n_subjects)
    n_negative = np.bincount(subject[~positive], minlength=n_subjects)
    wins = wins / np.maximum(np.outer(n_positive, n_negative), 1)
    pairs = (weights @ (n_positive > 0)) * (weights @ (n_negative > 0))
    return _ratio(np.einsum("ri,ij,rj->r", weights, wins, weights, optimize=True), pairs)


def count_wins(positive, positive_subject, negative, negative_subject, n_subjects):
    """Return how often the positive windows of subject i score above the negative ones of j (ties
    count one half): (S, S).
    """
    wins = np.zeros((n_subjects, n_subjects))
    for j in np.unique(negative_subject):
        theirs = np.sort(negative[negative_subject == j])
        below = np.searchsorted(theirs, positive, "left") + np.searchsorted(
            theirs, positive, "right"
        )
        wins[:, j] = np.bincount(positive_subject, below / 2, minlength=n_subjects)
    return wins


def f1(truth, log_odds, subject, weights):
    """Return the F1 score of the positive class (log odds above 0) under each weighting of the
    subjects; the windows of each subject together weigh one. Parameters as in `mae`; `truth` is 0
    or 1.

    Returns
    -------
    array, shape (R,)
        NaN where a weighting leaves neither positives nor windows called positive.
    """
    n_subjects, called = weights.shape[1], log_odds > 0
    count = np.maximum(np.bincount(subject, minlength=n_subjects), 1)
    hit = np.bincount(subject[called & (truth == 1)], minlength=n_subjects) / count
    off = np.bincount(subject[called != (truth == 1)], minlength=n_subjects) / count
    return _ratio(weights @ (2 * hit), weights @ (2 * hit + off))


def interval(values, level=0.95):
    """Return the percentile interval [low, high] of resampled values without NaN; None if most of
    them are NaN.
    """
    values = values[~np.isnan(values)] if np.isnan(values).mean() <= 0.5 else values[:0]
    if not values.size:
        return None
    return [float(v) for v in np.quantile(values, [(1 - level) / 2, (1 + level) / 2])]


def mean_interval(x, level=LEVEL, n_resamples=N_RESAMPLES, seed=77):
    """Return the bootstrap-t interval of the mean of the subjects' scores: (S,) -> (low, high).

    NaN scores are left out; None with fewer than 3 subjects, or if all scores are equal.
    """
    x = np.asarray(x, np.float64)
    x = x[np.isfinite(x)]
    n = len(x)
    if n < MIN_SUBJECTS or np.ptp(x) == 0:
        return None
    drawn = x[np.random.default_rng(seed).integers(0, n, (n_resamples, n))]
    mean, error = drawn.mean(axis=1) - x.mean(), drawn.std(axis=1, ddof=1) / np.sqrt(n)
    whole = x.std(ddof=1) / np.sqrt(n)
    varied = error > 1e-3 * whole  # not all of one subject
    below, above = np.quantile(mean[varied] / error[varied], [(1 - level) / 2, (1 + level) / 2])
    low, high = float(x.mean() - above * whole), float(x.mean() - below * whole)
    return (max(low, 0.0) if x.min() >= 0 else low), high  # errors are not negative


def with_interval(value, low_high):
    """Format a number with its interval: "0.87 (0.59 to 0.99)"."""
    return f"{value:.2f}" + (f" ({low_high[0]:.2f} to {low_high[1]:.2f})" if low_high else "")


def mean_with_interval(x, digits=2):
    """Format the mean of the subjects' scores (S,) with its bootstrap-t interval, without NaN."""
    x = x[np.isfinite(x)]
    mean, low_high = (x.mean() if len(x) else np.nan), mean_interval(x)
    shown = f"{mean:.{digits}f}"
    return shown + (f" ({low_high[0]:.{digits}f} to {low_high[1]:.{digits}f})" if low_high else "")


def _ratio(top, bottom):
    return np.divide(top, bottom, out=np.full(len(top), np.nan), where=bottom > 0)


METRICS = {"mae": mae, "auroc": auroc, "f1": f1}


def score(metric, truth, prediction, subject, n_resamples=1000, seed=77):
    """Score out-of-fold predictions; every table is made from this result.

    Parameters
    ----------
    metric : {"mae", "auroc", "f1"}
        The mean over subjects; see the functions of these names.
    truth, prediction : arrays, shape (n,)
        Numbers, or 0/1 and log odds.
    subject : array, shape (n,)
        Name or number of each window's subject.
    n_resamples, seed : int
        Number and seed of the resamples of subjects.

    Returns
    -------
    dict
        `value`; `interval` [low, high] of 95 %, or None: bootstrap-t of a mean of errors,
        percentiles of the resamples for AUROC and F1.
    """
    names, subject = np.unique(subject, return_inverse=True)
    if metric == "mae":
        error, _ = subject_mae(truth, prediction, subject, len(names))
        low_high = mean_interval(error, n_resamples=n_resamples, seed=seed)
        return {"value": float(error.mean()), "interval": low_high and list(low_high)}
    values = METRICS[metric](truth, prediction, subject, resamples(len(names), n_resamples, seed))
    return {"value": float(values[0]), "interval": interval(values[1:])}
