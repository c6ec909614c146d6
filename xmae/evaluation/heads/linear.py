"""The linear models on a frozen embedding: standardise, then ridge or logistic regression.

How strongly to regularise is chosen by cross-validation inside the subjects that are fitted,
grouped by subject, so the choice cannot see the subjects that are scored, nor reward the
recognition of a subject.

Both classes weigh the same in the logistic regression: otherwise the log odds of a fold follow the
share of the class among its fitted subjects, which is low just where the subjects left out have it,
and the AUROC pooled over folds falls below one half (the known bias of leaving out).
"""

from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GroupKFold
from threadpoolctl import threadpool_limits

from xmae.errors import UserError

ALPHAS = np.logspace(0, 6, 13)  # ridge penalty, for standardised inputs
STRENGTHS = np.logspace(-5, 0, 6)  # inverse penalty C of the logistic regression
INNER_FOLDS = 4


@dataclass
class LinearModel:
    """A linear model, `embedding @ weight + bias`, of a number or of the log odds of the positive
    class; standardisation is folded in.

    Attributes
    ----------
    weight : float64 array, shape (D,)
    bias : float
    strength : float
        The chosen regularisation: alpha (ridge) or C (logistic).
    skill : float
        1 - loss / loss of a constant (the mean; even odds), both on subjects left out of the fit
        and of the choice of `strength`: 1 is perfect, 0 is worth nothing.
    """

    weight: np.ndarray
    bias: float
    strength: float
    skill: float

    def predict(self, embedding):
        """Predict the number or log odds for every row of `embedding` (n, D), shape (n,)."""
        return embedding @ self.weight + self.bias


# BLAS threads that wait for each other make this 50 times slower on a busy machine
@threadpool_limits.wrap(limits=1)
def fit_linear(embedding, target, subject, kind):
    """Fit a ridge or logistic regression whose strength is chosen by cross-validation grouped by
    subject.

    Parameters
    ----------
    embedding : array, shape (n, D)
    target : array, shape (n,)
        Numbers, or 0/1; no NaN.
    subject : array, shape (n,)
        Subject of every row. At least two subjects; for a binary target both classes.
    kind : {"regression", "binary"}

    Returns
    -------
    LinearModel

    Raises
    ------
    UserError
        If there are fewer than two subjects.
    """
    n_subjects = len(np.unique(subject))
    if n_subjects < 2:
        raise UserError(
            f"a linear head needs at least 2 subjects to be fitted on, {n_subjects} have a label"
        )
    embedding = np.asarray(embedding, dtype=np.float64)
    fit_path, grid, loss = {
        "regression": (_ridge_path, ALPHAS, lambda y, p: np.mean((y - p) ** 2)),
        "binary": (_logistic_path, STRENGTHS, balanced_log_loss),
    }[kind]
    out_of_fold = np.full((len(target), len(grid)), np.nan)
    constant, fold = np.zeros(len(target)), []
    for fit, held in GroupKFold(min(INNER_FOLDS, n_subjects)).split(embedding, groups=subject):
        if kind == "regression" or np.ptp(target[fit]) > 0:
            weights, biases = fit_path(embedding[fit], target[fit], grid)
            out_of_fold[held] = embedding[held] @ weights.T + biases
            constant[held] = target[fit].mean() if kind == "regression" else 0.0
            fold.append(held)

    def best_on(rows):
        losses = [loss(target[rows], made[rows]) for made in out_of_fold.T] if len(rows) else [0]
        return int(np.argmin(losses))

    seen = np.concatenate([*fold, np.zeros(0, int)])
    # what the strength that does best on the other folds says of each
    chosen = np.full(len(target), np.nan)
    for held in fold:
        chosen[held] = out_of_fold[held, best_on(np.setdiff1d(seen, held))]
    skill = (
        1 - loss(target[seen], chosen[seen]) / max(loss(target[seen], constant[seen]), 1e-12)
        if len(seen)
        else 0.0
    )
    best = best_on(seen)
    weights, biases = fit_path(embedding, target, grid[best : best + 1])
    return LinearModel(weights[0], float(biases[0]), float(grid[best]), float(skill))


def balanced_log_loss(y, log_odds):
    """Return the cross entropy with equal weights of both classes, as in the fit."""
    loss = np.logaddexp(0, np.where(y == 1, -log_odds, log_odds))
    return np.mean([loss[y == label].mean() for label in np.unique(y)])


def _ridge_path(x, y, alphas):
    """Return weights (k, D) and biases (k,) for k penalties from a single SVD: k copies of the
    target, one penalty each.
    """
    z, fold = _standardise(x)
    model = Ridge(alpha=alphas, solver="svd").fit(z, np.tile(y[:, None], len(alphas)))
    return fold(model.coef_.reshape(len(alphas), -1), np.reshape(model.intercept_, -1))


def _logistic_path(x, y, strengths):
    """Return weights (k, D) and biases (k,) for k strengths, each fit starting from the one
    before.
    """
    z, fold = _standardise(x)
    model = LogisticRegression(class_weight="balanced", warm_start=True, max_iter=1000, tol=1e-3)
    rows = [
        (m.coef_[0], m.intercept_[0]) for m in (model.set_params(C=c).fit(z, y) for c in strengths)
    ]
    return fold(np.stack([row[0] for row in rows]), np.array([row[1] for row in rows]))


def _standardise(x):
    """Standardise each column to mean 0 and deviation 1 (a constant column becomes 0); return it
    with what undoes it in the weights.
    """
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    inverse = np.divide(
        1, deviation, out=np.zeros_like(deviation), where=deviation > 1e-9 * (np.abs(mean) + 1e-9)
    )

    def fold(weights, biases):
        return weights * inverse, biases - weights * inverse @ mean

    return (x - mean) * inverse, fold
