"""The dense probe: beats of subjects that it was not fitted on, from tokens that hold the PPG."""

import numpy as np
import pytest
import torch

from xmae.beats.reader import read_maps
from xmae.evaluation.heads.dense import dense_maps, ridge, tokens_of


class Patches(torch.nn.Module):
    """An encoder whose tokens are stretches of the signal itself."""

    def __init__(self, size):
        super().__init__()
        self.size = size

    def tokens(self, x):
        return x[:, 0].unflatten(1, (-1, self.size))


@pytest.fixture(scope="module")
def people():
    """Return PPG, pulses and folds of 90 windows of 3 subjects, each with a rate of its own."""
    rng, t = np.random.default_rng(0), np.arange(1000) / 100
    pulses = np.full((90, 24), np.nan)
    ppg = np.zeros((90, 1000), np.float32)
    for row in range(90):
        beats = -1 + rng.uniform(0, 0.8) + np.arange(20) * rng.uniform(0.6, 0.95)
        pulses[row, :20] = beats
        ppg[row] = np.exp(-0.5 * ((t - beats[:, None]) / 0.08) ** 2).sum(0)
    subject = np.arange(90) % 3
    folds = [(np.flatnonzero(subject != k), np.flatnonzero(subject == k)) for k in range(3)]
    return ppg, pulses, folds


@pytest.mark.parametrize("size", [40, 20])
def test_beats_are_found_on_other_subjects(people, size):
    """Tokens at another rate than 25 a window are brought to it, and blur what they say."""
    ppg, pulses, folds = people
    reading = read_maps(dense_maps(tokens_of(Patches(size), ppg), pulses, folds))
    inside = (pulses > 1.5) & (pulses < 8.5)
    truth = pulses[inside] + 100 * np.nonzero(inside)[0]
    found = reading.time + 100 * reading.window
    apart = np.abs(truth[:, None] - found).min(1)
    assert (apart < 0.1).mean() > (0.97 if size == 40 else 0.8)


def test_windows_without_pulses_or_folds_say_nothing(people):
    ppg, pulses, folds = people
    tokens, unknown = tokens_of(Patches(40), ppg), pulses.copy()
    unknown[::2] = np.nan  # of half of the windows no pulse is known: they are not fitted
    fitted, scored = folds[0]
    maps = dense_maps(tokens, unknown, [(fitted, scored)])
    assert np.isfinite(maps).all() and (maps[fitted] == 0).all() and maps[scored].any()
    known = np.setdiff1d(fitted, np.arange(0, 90, 2))
    np.testing.assert_allclose(maps, dense_maps(tokens, pulses, [(known, scored)]), atol=1e-4)


def test_the_ridge_is_scikit_learns(people):
    from sklearn.linear_model import Ridge

    rng = np.random.default_rng(1)
    x, y = rng.normal(2, 3, (200, 12)), rng.normal(size=(200, 4))
    other = Ridge(alpha=10.0)
    mean, spread = x[:150].mean(0), x[:150].std(0) + 1e-6
    other.fit((x[:150] - mean) / spread, y[:150])
    expected = other.predict((x[150:] - mean) / spread)
    np.testing.assert_allclose(ridge(x[:150], y[:150], x[150:]), expected, atol=1e-8)
