"""Probes, heads and intervals against scikit-learn, scipy, closed forms and planted signals."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from xmae.evaluation.heads.embedding import embed_windows
from xmae.evaluation.heads.heads import fit_heads, head_of
from xmae.evaluation.heads.linear import fit_linear
from xmae.evaluation.probe import probe_embeddings, probe_table
from xmae.evaluation.protocol import bootstrap
from xmae.evaluation.protocol.pooled import probe_folds
from xmae.evaluation.protocol.tasks import TASKS


def make_windows(n_subjects=20, per_subject=15, n_test=8, seed=0):
    """Return subjects with labels drawn at random: statistics only, no signals."""
    rng = np.random.default_rng(seed)
    subject = np.repeat([f"s{i:02d}" for i in range(n_subjects)], per_subject)
    n = len(subject)
    age = np.repeat(np.where(np.arange(n_subjects) % 2, 72.0, 50.0), per_subject)
    labels = {
        "hr_ecg": rng.normal(80, 10, n),
        "age": age,
        "sex": np.roll(age > 65, per_subject).astype(float),
    }
    split = np.where(np.arange(n) < n_test * per_subject, "test", "train")
    return SimpleNamespace(subject=subject, split=split, labels=labels)


def test_auroc_under_weights_is_scikit_learn_on_the_drawn_patients():
    rng = np.random.default_rng(1)
    subject = rng.integers(0, 7, 200)
    truth = rng.integers(0, 2, 200).astype(float)
    score = np.round(truth + rng.normal(0, 1, 200), 1)  # rounded: there are ties
    weights = bootstrap.draw_weights(7, 20)
    # each pair of subjects counts once
    count = np.stack([np.bincount(subject[truth == label], minlength=7) for label in (0, 1)])
    one = 1 / count[truth.astype(int), subject]
    expected = [roc_auc_score(truth, score, sample_weight=one * w[subject]) for w in weights]
    assert bootstrap.auroc(truth, score, subject, weights) == pytest.approx(expected, abs=1e-12)


def test_mae_under_weights_is_the_mean_over_the_drawn_patients():
    rng = np.random.default_rng(2)
    subject, truth, prediction = rng.integers(0, 5, 100), rng.normal(size=100), rng.normal(size=100)
    weights = bootstrap.draw_weights(5, 10)
    error = [np.abs(truth - prediction)[subject == number].mean() for number in range(5)]
    expected = [np.average(error, weights=w) for w in weights]
    assert bootstrap.mae(truth, prediction, subject, weights) == pytest.approx(expected, abs=1e-12)


def test_interval_agrees_with_scipy_and_the_normal_approximation():
    # one window per subject: the plain bootstrap
    error = np.abs(np.random.default_rng(3).normal(size=60))
    values = bootstrap.mae(error, np.zeros(60), np.arange(60), bootstrap.draw_weights(60, 20000))
    low, high = bootstrap.interval(values)
    reference = stats.bootstrap(
        (error,), np.mean, n_resamples=20000, method="percentile", rng=0
    ).confidence_interval
    assert (low, high) == pytest.approx((reference.low, reference.high), abs=0.005)
    half = 1.96 * error.std() / np.sqrt(60)
    assert (low, high) == pytest.approx((error.mean() - half, error.mean() + half), abs=0.02)


def test_interval_widens_when_patients_are_alike_inside():
    per_patient = np.random.default_rng(4).exponential(size=8)
    subject = np.repeat(np.arange(8), 50)
    truth = per_patient[subject]
    by_patient = bootstrap.interval(
        bootstrap.mae(truth, 0 * truth, subject, bootstrap.draw_weights(8))
    )
    by_window = bootstrap.interval(
        bootstrap.mae(truth, 0 * truth, np.arange(400), bootstrap.draw_weights(400))
    )
    assert np.ptp(by_patient) > 3 * np.ptp(by_window)


def test_resamples_without_a_class_are_left_out():
    values = bootstrap.auroc(
        np.array([1.0, 0.0]), np.array([2.0, 1.0]), np.array([0, 1]), np.array([[2.0, 0], [1, 1]])
    )
    assert np.isnan(values[0]) and values[1] == 1
    assert bootstrap.interval(np.array([np.nan, np.nan, 1.0])) is None


def test_every_scored_window_is_predicted_by_a_probe_that_never_saw_its_patient():
    windows = make_windows()
    usable = np.random.default_rng(0).random(len(windows.subject)) > 0.1
    truth = np.where(usable, windows.labels["hr_ecg"], np.nan)
    score, fit = windows.split == "test", windows.split == "train"
    seen = []
    for fitted, held in probe_folds(windows.subject, truth, score, fit, "regression"):
        assert not set(windows.subject[fitted]) & set(windows.subject[held])
        assert set(windows.subject[fit & usable]) <= set(windows.subject[fitted])
        seen.append(held)
    assert sorted(np.concatenate(seen)) == list(np.flatnonzero(score & usable))


def test_ridge_equals_scikit_learn_and_folds_its_standardisation():
    rng = np.random.default_rng(5)
    x, subject = rng.normal(3, 5, (300, 12)), np.repeat(np.arange(10), 30)
    y = x @ rng.normal(size=12) + rng.normal(0, 5, 300)
    model = fit_linear(x, y, subject, "regression")
    reference = make_pipeline(StandardScaler(), Ridge(alpha=model.strength)).fit(x, y)
    assert model.predict(x) == pytest.approx(reference.predict(x), abs=1e-8)


def test_probe_finds_a_planted_signal_and_nothing_in_noise():
    windows = make_windows()
    rng = np.random.default_rng(6)
    n = len(windows.subject)
    noise = rng.normal(size=(n, 32))
    noise[:, 5] = 7  # a constant column does no harm
    planted = noise + np.outer((windows.labels["hr_ecg"] - 80) / 10, rng.normal(size=32))
    planted += np.outer(windows.labels["age"] > 65, rng.normal(size=32))
    result = probe_embeddings({"planted": planted, "noise": noise}, windows, ["hr", "age_over_65"])
    hr, age = result["tasks"]["hr"], result["tasks"]["age_over_65"]
    assert result["scored_subjects"] == 8 and result["fit_subjects"] == 12
    assert hr["encoders"]["planted"]["value"] < 0.4 * hr["baseline"]
    assert hr["encoders"]["noise"]["value"] > 0.9 * hr["baseline"]
    assert hr["encoders"]["noise"]["minus_first_interval"][0] > 0  # the paired difference is sure
    assert age["encoders"]["planted"]["value"] > 0.95
    assert 0.3 < age["encoders"]["noise"]["value"] < 0.7
    low, high = hr["encoders"]["planted"]["interval"]
    assert low <= hr["encoders"]["planted"]["value"] <= high
    assert "Heart rate, MAE bpm | 8 |" in probe_table(result)


def test_pooled_auroc_of_noise_is_not_pushed_below_one_half():
    """Leaving out a subject of a class must not lower the log odds of that class for that
    subject.
    """
    values = []
    for seed in range(2):
        windows = make_windows(n_subjects=12, per_subject=4, n_test=12)
        noise = np.random.default_rng(seed).normal(size=(len(windows.subject), 8))
        result = probe_embeddings({"noise": noise}, windows, ["sex"], n_folds=12, n_resamples=10)
        values.append(result["tasks"]["sex"]["encoders"]["noise"]["value"])
    assert np.mean(values) > 0.4


def test_what_cannot_be_evaluated_is_said_and_does_not_stop_the_rest():
    windows = make_windows()
    windows.labels["sex"] = np.where(windows.split == "test", 1.0, windows.labels["sex"])
    windows.labels["age"][windows.split == "train"] = 40.0
    windows.labels["age"][(windows.subject != "s01") & (windows.split == "test")] = 40.0
    result = probe_embeddings(
        {"e": np.random.default_rng(0).normal(size=(len(windows.subject), 4))}, windows
    )["tasks"]
    assert "one class" in result["sex"]["reason"]
    # the only old subject is left out in his own fold
    assert "one class" in result["age_over_65"]["reason"]
    assert "0 scored subjects have the label 'spo2'" in result["spo2"]["reason"]
    assert "value" in result["hr"]["encoders"]["e"]
    windows.labels["hr_ecg"][windows.subject > "s01"] = np.nan
    result = probe_embeddings({"e": np.zeros((len(windows.subject), 2))}, windows, ["hr"])
    assert "2 scored subjects" in result["tasks"]["hr"]["reason"]
    assert "not evaluable" in probe_table(result)


def test_skill_is_nothing_without_a_signal_and_what_is_explained_with_one():
    """The strength is not chosen on the subjects that the skill is of: in noise it is below 0 on
    average.
    """
    rng = np.random.default_rng(5)
    subject = np.repeat(np.arange(16), 12)
    for kind in ("regression", "binary"):
        of_noise, of_signal = [], []
        for _ in range(12):
            signal, noise = rng.normal(size=(len(subject), 1)), rng.normal(size=(len(subject), 8))
            # half of its variance can be explained
            y = signal[:, 0] + rng.normal(size=len(subject))
            y = (y > 0).astype(float) if kind == "binary" else y
            of_noise.append(fit_linear(noise, y, subject, kind).skill)
            of_signal.append(fit_linear(np.hstack([signal, noise]), y, subject, kind).skill)
        assert np.mean(of_noise) < 0 and 0.15 < np.mean(of_signal) < 0.55
        heads = [head_of(TASKS["hr"], [0.0], 0.0, skill) for skill in of_noise]
        assert not any(head.has_skill for head in heads)


def test_without_a_test_split_everyone_is_scored():
    windows = make_windows()
    windows.split[:] = "train"
    result = probe_embeddings(
        {"e": np.random.default_rng(0).normal(size=(len(windows.subject), 4))}, windows, ["hr"]
    )
    assert result["scored_subjects"] == 20 and result["fit_subjects"] == 0


def test_age_task_keeps_missing_ages_missing():
    windows = SimpleNamespace(
        subject=["a", "b", "c"], labels={"age": np.array([65.0, 66.0, np.nan])}
    )
    assert TASKS["age_over_65"].target(windows) == pytest.approx([0, 1, np.nan], nan_ok=True)


def test_heads_are_the_linear_models_and_skip_what_has_no_label():
    windows = make_windows()
    rng = np.random.default_rng(7)
    x = rng.normal(size=(len(windows.subject), 6)) + windows.labels["hr_ecg"][:, None] / 10
    windows.labels["hr_ecg"][:10] = np.nan
    heads = fit_heads(x, windows, TASKS.values())
    assert set(heads) == {"hr", "sex", "age_over_65"}
    assert heads["hr"].skill > 0.5 and heads["sex"].skill < 0.05
    assert len(heads["hr"].weight) == 6
    ok = slice(10, None)
    expected = fit_linear(
        x[ok], windows.labels["hr_ecg"][ok], windows.subject[ok], "regression"
    ).predict(x)
    assert heads["hr"].apply(x) == pytest.approx(expected)
    probability = heads["sex"].apply(x)
    assert ((probability > 0) & (probability < 1)).all()


def test_embedding_does_not_depend_on_the_batch_or_on_units_and_keeps_the_mode():
    encoder = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(1000, 4), torch.nn.Dropout(0.5)
    ).train()
    ppg = np.random.default_rng(8).normal(size=(10, 1000)).astype(np.float32)
    ppg[3] = 1.0  # a flat window
    one = embed_windows(encoder, ppg, batch_size=1)
    assert one == pytest.approx(
        embed_windows(encoder, SimpleNamespace(ppg=5 * ppg + 2), batch_size=64), abs=1e-4
    )
    assert np.isfinite(one).all() and one.shape == (10, 4) and encoder.training
