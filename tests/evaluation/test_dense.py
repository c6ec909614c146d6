"""The dense probe: beats of subjects that it was not fitted on, from tokens that hold the PPG."""

import numpy as np
import pytest
import torch

from xmae.beats.reader import read_maps
from xmae.errors import UserError
from xmae.evaluation.heads.dense import by_patch, dense_maps, ridge, tokens_of


class Patches(torch.nn.Module):
    """An encoder whose tokens are stretches of the signal itself."""

    def __init__(self, size):
        super().__init__()
        self.size, self.unused = size, torch.nn.Parameter(torch.zeros(1))

    def tokens(self, x):
        return x[:, 0].unflatten(1, (-1, self.size))


@pytest.fixture(scope="module")
def people():
    """Return PPG, pulses and folds of 90 windows of 3 subjects, each window at its own rate."""
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
    """Two tokens of a patch are joined."""
    ppg, pulses, folds = people
    reading = read_maps(dense_maps(tokens_of(Patches(size), ppg), pulses, folds))
    inside = (pulses > 1.5) & (pulses < 8.5)
    truth = pulses[inside] + 100 * np.nonzero(inside)[0]
    found = reading.time + 100 * reading.window
    found = found[(reading.time > 1) & (reading.time < 9)]
    distance = np.abs(truth[:, None] - found)
    assert (distance.min(1) < 0.1).mean() > 0.97 and len(found) < 1.2 * len(truth)


def test_windows_without_pulses_or_folds_say_nothing(people):
    ppg, pulses, folds = people
    tokens, unknown = tokens_of(Patches(40), ppg), pulses.copy()
    unknown[::2] = np.nan  # of half of the windows no pulse is known: they are not fitted
    fitted, scored = folds[0]
    maps = dense_maps(tokens, unknown, [(fitted, scored)])
    assert np.isfinite(maps).all() and (maps[fitted] == 0).all() and maps[scored].any()
    known = np.setdiff1d(fitted, np.arange(0, 90, 2))
    np.testing.assert_allclose(maps, dense_maps(tokens, pulses, [(known, scored)]), atol=1e-4)


def test_tokens_are_brought_to_25_a_window():
    tokens = torch.arange(300.0).reshape(1, 100, 3)
    assert torch.equal(by_patch(tokens)[0, 1], tokens[0, 4:8].flatten())
    constant = torch.ones(2, 32, 3)
    assert torch.allclose(by_patch(constant), torch.ones(2, 25, 3))
    line = torch.linspace(0, 1, 5)[None, :, None]
    found = by_patch(line)[0, :, 0]
    assert len(found) == 25 and (found.diff() >= 0).all() and found[12] == 0.5


def test_no_known_pulse_is_an_error(people):
    ppg, pulses, folds = people
    with pytest.raises(UserError, match="no pulse is known"):
        dense_maps(tokens_of(Patches(40), ppg), np.full_like(pulses, np.nan), folds)


def test_the_ridge_is_scikit_learns(people):
    from sklearn.linear_model import Ridge

    rng = np.random.default_rng(1)
    x, y = rng.normal(2, 3, (200, 12)), rng.normal(size=(200, 4))
    other = Ridge(alpha=10.0)
    mean, spread = x[:150].mean(0), x[:150].std(0) + 1e-6
    other.fit((x[:150] - mean) / spread, y[:150])
    expected = other.predict((x[150:] - mean) / spread)
    np.testing.assert_allclose(ridge(x[:150], y[:150], x[150:]), expected, atol=1e-8)
