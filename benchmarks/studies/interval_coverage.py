"""How often the 95 % interval of a mean over subjects holds the true mean: bootstrap-t, BCa,
percentiles.

    python -m xmae.benchmarks.studies.interval_coverage --out benchmarks/results

Subjects' errors are drawn from a normal and from log-normal distributions (sigma 0.5 and 0.8), as
many as our tables have. Errors of heart rate over subjects look like the widest of them.
"""

import numpy as np
from scipy.stats import norm

from xmae.benchmarks.studies.runner import run_study
from xmae.evaluation.protocol.bootstrap import LEVEL, mean_interval
from xmae.tables import markdown_table

SUBJECTS = (8, 12, 34)
LIMITS = {8: 0.90, 12: 0.90, 34: 0.93}
SHAPES = {"normal": None, "log-normal, sigma 0.5": 0.5, "log-normal, sigma 0.8": 0.8}
N_TRIALS, N_RESAMPLES, SEED = 4000, 1000, 77
TAILS = np.array([(1 - LEVEL) / 2, (1 + LEVEL) / 2])


def draw(sigma, shape, rng):
    """Draw the errors of subjects, normal about 5 or log-normal; return them and their true
    mean.
    """
    if sigma is None:
        return rng.normal(5, 1, shape), 5.0
    return rng.lognormal(0, sigma, shape), float(np.exp(sigma**2 / 2))


def resampled_means(x, seed):
    """Return the means of bootstrap resamples of the subjects, (n_resamples,)."""
    return x[np.random.default_rng(seed).integers(0, len(x), (N_RESAMPLES, len(x)))].mean(axis=1)


def percentile(x, seed):
    """Return the percentile interval of the mean."""
    return np.quantile(resampled_means(x, seed), TAILS)


def corrected(x, seed):
    """Return the BCa interval of the mean (Efron & Tibshirani 1993, chapter 14)."""
    means = resampled_means(x, seed)
    share = (means < x.mean()).mean().clip(1 / N_RESAMPLES, 1 - 1 / N_RESAMPLES)
    bias, deviation = norm.ppf(share), x - x.mean()
    skew = (deviation**3).sum() / (6 * (deviation**2).sum() ** 1.5)
    z = bias + norm.ppf(TAILS)
    return np.quantile(means, norm.cdf(bias + z / (1 - skew * z)))


def studentised(x, seed):
    """Return the bootstrap-t interval of the mean: the one in our tables."""
    return mean_interval(x, n_resamples=N_RESAMPLES, seed=seed)


METHODS = {"bootstrap-t": studentised, "BCa": corrected, "percentile": percentile}


def simulate(sigma, n_subjects, n_trials=N_TRIALS, seed=SEED):
    """Return the coverage of each method and its median width over the true mean: {name: (float,
    float)}.
    """
    samples, true = draw(sigma, (n_trials, n_subjects), np.random.default_rng(seed))
    found = {}
    for name, method in METHODS.items():
        limits = np.array([method(x, number) for number, x in enumerate(samples)])
        inside = (limits[:, 0] <= true) & (true <= limits[:, 1])
        found[name] = float(inside.mean()), float(np.median(np.diff(limits)) / true)
    return found


def interval_coverage(*, n_trials: int = N_TRIALS) -> str:
    """Simulate how often the intervals of each method contain the true mean.

    Parameters
    ----------
    n_trials : int
        Simulated tables of each kind.
    """
    rows = []
    for shape, sigma in SHAPES.items():
        for n_subjects in SUBJECTS:
            found = simulate(sigma, n_subjects, n_trials)
            cells = [f"{100 * share:.1f} ({width:.2f})" for share, width in found.values()]
            reached = found["bootstrap-t"][0] >= LIMITS[n_subjects]
            limit = f"{100 * LIMITS[n_subjects]:.0f} {'reached' if reached else 'MISSED'}"
            rows.append([shape, n_subjects, *cells, limit])
    columns = ("subjects' errors", "subjects", *(f"{name}, %" for name in METHODS), "limit, %")
    error = 100 * np.sqrt(0.95 * 0.05 / n_trials)
    return (
        "# Coverage of 95 % intervals of a mean over subjects\n\n"
        f"Share of {n_trials:,} simulated tables whose interval holds the true mean (standard "
        f"error about {error:.1f} points); in brackets the median width over the true mean. "
        f"{N_RESAMPLES:,} resamples each. Tables print the bootstrap-t.\n\n"
        f"{markdown_table(columns, rows)}\n"
    )


if __name__ == "__main__":
    run_study(interval_coverage, "interval_coverage.md")
