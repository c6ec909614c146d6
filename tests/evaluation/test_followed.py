"""Rows of a table in which the heart rate is followed with the accelerometer."""

import numpy as np
import pytest

from xmae.evaluation.moving import CLASSICAL, followed_predictions, followed_rates
from xmae.evaluation.protocol.datasets import Dataset
from xmae.evaluation.protocol.folds import make_trial
from xmae.evaluation.protocol.tasks import REGISTRY
from xmae.models.checkpoint import load_encoder

PULSE, ARM, WINDOWS = (96.0, 72.0, 84.0), 132.0, 9  # bpm


@pytest.fixture(scope="module")
def walkers():
    """Return three people whose arms shake the sensor harder than their pulse, as windows of a
    store.
    """
    t = np.arange(1000 * WINDOWS) / 100
    wave = lambda bpm: np.sin(2 * np.pi * bpm / 60 * t)  # noqa: E731
    noise = np.random.default_rng(0).standard_normal((3, len(t)))
    ppg = np.stack([wave(bpm) + 2 * wave(ARM) for bpm in PULSE]) + 0.1 * noise
    acc = np.stack([0.3 * wave(ARM), 0.1 * wave(ARM), 1 + 0 * t]).reshape(3, WINDOWS, 1000)
    who = np.repeat(["a", "b", "c"], WINDOWS)
    return Dataset(
        name="walkers", ppg=ppg.reshape(-1, 1000).astype(np.float32), ecg=None, subject=who,
        record=who, split=np.repeat("", 3 * WINDOWS), start_s=np.tile(10.0 * np.arange(WINDOWS), 3),
        labels={"hr_ecg": np.repeat(PULSE, WINDOWS)}, beats=None,
        acc=np.tile(acc.transpose(1, 0, 2), (3, 1, 1)).astype(np.float32),
    )  # fmt: skip


def test_the_pulse_is_followed_and_not_the_arm(walkers):
    truth = walkers.labels["hr_ecg"]
    for model in (None, load_encoder("student-motion")):
        rates = followed_rates(walkers, model)
        known = np.isfinite(rates)
        assert known.mean() > 0.7 and np.abs(rates - truth)[known].max() < 5


def test_without_its_accelerometer_nobody_knows(walkers):
    rates = followed_rates(Dataset(**{**vars(walkers), "acc": None}))
    assert np.isnan(rates).any() or np.nanmax(np.abs(rates - walkers.labels["hr_ecg"])) > 20


def test_the_table_says_how_much_is_answered_and_how_far_off(walkers):
    trial = make_trial(walkers, REGISTRY["hr"], "loso")
    found, lines = followed_predictions({}, [trial])
    (predictions,) = found[CLASSICAL].values()
    assert np.abs(predictions - trial.truth[trial.rows]).mean() < 12
    assert f"{CLASSICAL} answered" in lines[-1] and "bpm off there" in lines[-1]
    bare = make_trial(Dataset(**{**vars(walkers), "acc": None}), REGISTRY["hr"], "loso")
    assert followed_predictions({}, [bare]) == ({}, [])
