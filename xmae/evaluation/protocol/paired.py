"""Is one method better than another on the same windows? A permutation test that swaps the two for
whole subjects.

If the methods are alike, it makes no difference which of the two predictions of a subject is called
whose. So the difference of the metric is compared with its values when the two are swapped for half
of the subjects, at random, or in all ways where there are few subjects: exact, at any number of
subjects. For a mean of the subjects' errors that is to flip signs of their differences. For AUROC
the scores are first turned to ranks, so that swapping makes sense across methods.

Sources: Bandos, Rockette & Gur, Statistics in Medicine 24(18), 2005 (AUROC of paired designs);
Holm, Scandinavian Journal of Statistics 6, 1979 (several rivals).
"""

import numpy as np
from scipy.stats import rankdata

from xmae.evaluation.protocol.bootstrap import count_wins, subject_mae

ALL_WAYS = 11  # up to so many subjects, all 2^S ways
N_FLIPS = 20_000  # beyond that, random ways for `sign_flip_test`
ALPHA = 0.05
STARS = ((0.001, "***"), (0.01, "**"), (0.05, "*"))


def swap_test(kind, truth, first, second, subject, n_permutations=2000, seed=77):
    """Return the two-sided p-value of the difference between two methods, by swapping them within
    subjects.

    Parameters
    ----------
    kind : {"regression", "binary"}
        Compared by the subjects' MAE, by `sign_flip_test`; or by AUROC.
    truth, first, second : arrays, shape (n,)
        Truth and the predictions of two methods.
    subject : array, shape (n,)
        Name or number of each window's subject.
    n_permutations : int
        Random ways to swap AUROCs, where there are more than 11 subjects.
    seed : int
        Seed of the random swaps.

    Returns
    -------
    float
    """
    names, subject = np.unique(subject, return_inverse=True)
    n_subjects = len(names)
    if kind == "regression":
        return sign_flip_test(
            *(subject_mae(truth, x, subject, n_subjects)[0] for x in (first, second)), seed=seed
        )
    if n_subjects <= ALL_WAYS:
        swapped = (np.arange(2**n_subjects)[:, None] >> np.arange(n_subjects) & 1).astype(float)
    else:
        rng = np.random.default_rng(seed)
        swapped = rng.integers(0, 2, (n_permutations + 1, n_subjects)).astype(np.float64)
        swapped[0] = 0
    total = _auroc_difference(truth, first, second, subject, swapped)  # row 0: as it is
    return float((np.abs(total) >= np.abs(total[0]) - 1e-12).mean())


def _auroc_difference(truth, first, second, subject, swapped):
    """Return the difference in AUROC, first less second, under each swap: (R,)."""
    positive = truth == 1
    n_subjects, ranks = swapped.shape[1], [rankdata(x) for x in (first, second)]
    roles = [1 - swapped, swapped]  # who takes the first, the second method's scores
    n_positive, n_negative = (
        np.bincount(subject[rows], minlength=n_subjects) for rows in (positive, ~positive)
    )
    pairs = np.maximum(np.outer(n_positive, n_negative), 1)
    total = 0
    for i, mine in enumerate(ranks):
        for j, theirs in enumerate(ranks):
            wins = count_wins(
                mine[positive], subject[positive], theirs[~positive], subject[~positive], n_subjects
            )
            total += np.einsum("ri,ij,rj->r", roles[i], wins / pairs, roles[j], optimize=True)
            total -= np.einsum(
                "ri,ij,rj->r", roles[1 - i], wins / pairs, roles[1 - j], optimize=True
            )
    return total / ((n_positive > 0).sum() * (n_negative > 0).sum())


def sign_flip_test(first, second, n_flips=N_FLIPS, seed=77):
    """Return the two-sided p-value of the difference between two methods' scores of the same
    subjects, by sign flips.

    If the methods are alike, the sign of each subject's difference is a matter of chance. All ways
    to flip signs are tried up to 11 subjects, else 20,000 at random.

    Parameters
    ----------
    first, second : float arrays, shape (S,)
        Subjects that one of them lacks are left out.
    """
    difference = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    difference = difference[np.isfinite(difference)]
    n = len(difference)
    if n <= ALL_WAYS:
        signs = 1 - 2.0 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)
    else:
        signs = 1 - 2.0 * np.random.default_rng(seed).integers(0, 2, (n_flips + 1, n))
        signs[0] = 1  # as it is
    total = np.abs(signs @ difference)
    return float((total >= total[0] - 1e-12 * max(1, total[0])).mean())


def least_p(n_subjects, n_rivals=1):
    """Return the smallest p-value that sign flips can reach after Holm's adjustment for this many
    rivals.
    """
    ways = 2.0**n_subjects / 2 if n_subjects <= ALL_WAYS else N_FLIPS + 1
    return min(1.0, n_rivals / ways)


def power_note(n_subjects, n_rivals):
    """Return a sentence for the head of a table if its design cannot reach p < 0.05, else ""."""
    p = least_p(n_subjects, n_rivals)
    if p < ALPHA:
        return ""
    return (
        f"With {n_subjects} subjects and {n_rivals} rivals no difference can reach p < 0.05 "
        f"(the least possible p is {p:.2f}), so none is tested. "
    )


def holm(p_values):
    """Adjust several p-values by Holm's method: array (k,) -> array (k,), at most 1."""
    p_values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p_values)
    adjusted = np.maximum.accumulate(p_values[order] * (len(p_values) - np.arange(len(p_values))))
    out = np.empty(len(p_values))
    out[order] = np.minimum(adjusted, 1)
    return out


def stars(p_value):
    """Return *** for p below 0.001, ** below 0.01, * below 0.05, else ""."""
    return next((mark for limit, mark in STARS if p_value < limit), "")
