"""Folds, metrics and the paired test against scikit-learn, scipy and brute force; fine-tuning on
planted labels.
"""

import itertools

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import f1_score, mean_absolute_error, roc_auc_score

from xmae.errors import UserError
from xmae.evaluation.heads import finetune
from xmae.evaluation.protocol import bootstrap
from xmae.evaluation.protocol.datasets import Dataset
from xmae.evaluation.protocol.folds import constant_trial, make_trial, probe_trial, score_trial
from xmae.evaluation.protocol.paired import holm, stars, swap_test
from xmae.evaluation.protocol.tasks import REGISTRY


def dataset(n_subjects=20, per_subject=6, n_test=0, n_times=40, seed=0, **labels):
    """Return the windows of noise whose labels are given per subject, or drawn."""
    rng = np.random.default_rng(seed)
    subject = np.repeat([f"s{i:02d}" for i in range(n_subjects)], per_subject)
    n = len(subject)
    split = (
        np.where(np.arange(n) < n_test * per_subject, "test", "train") if n_test else np.full(n, "")
    )
    known = {name: np.repeat(np.asarray(x, float), per_subject) for name, x in labels.items()}
    ppg = rng.normal(size=(n, n_times)).astype(np.float32)
    return Dataset(
        "d",
        ppg,
        None,
        subject,
        subject,
        split,
        np.tile(10.0 * np.arange(per_subject), n_subjects),
        known,
    )


def test_f1_under_weights_is_scikit_learn_on_the_drawn_subjects():
    rng = np.random.default_rng(1)
    subject, truth = rng.integers(0, 6, 150), rng.integers(0, 2, 150).astype(float)
    log_odds = truth + rng.normal(0, 1, 150) - 0.5
    weights = bootstrap.draw_weights(6, 20)
    expected = [
        f1_score(truth, log_odds > 0, sample_weight=(w / np.bincount(subject))[subject])
        for w in weights
    ]
    assert bootstrap.f1(truth, log_odds, subject, weights) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", ["diabetes", "age"])
def test_folds_score_every_subject_once_with_both_classes_and_fit_on_others(name):
    data = dataset(n_subjects=23, n_test=11, diabetes=np.arange(23) % 3 == 0, age=np.arange(23))
    trial = make_trial(data, REGISTRY[name])
    assert sorted(trial.rows) == list(np.flatnonzero(data.split == "test"))
    assert len(trial.folds) == {"diabetes": 4, "age": 5}[name]  # 4 test subjects have diabetes
    for fitted, scored in trial.folds:
        assert not set(data.subject[fitted]) & set(data.subject[scored])
        assert set(data.subject[data.split == "train"]) <= set(data.subject[fitted])
        assert name == "age" or np.ptp(trial.truth[scored]) == 1
    everyone = make_trial(data, REGISTRY[name], protocol="all")
    assert sorted(everyone.rows) == list(range(len(data.subject)))


def test_scores_are_means_over_subjects():
    data = dataset(diabetes=np.arange(20) % 2, age=20 + np.arange(20))
    rng = np.random.default_rng(2)
    binary, number = (make_trial(data, REGISTRY[name]) for name in ("diabetes", "age"))
    for trial, metric, reference in (
        (binary, "auroc", roc_auc_score),
        (number, "mae", mean_absolute_error),
    ):
        prediction = trial.truth[trial.rows] + rng.normal(0, 1, len(trial.rows))
        found = score_trial(trial, prediction)[metric]
        # all subjects have as many windows
        assert found.value == pytest.approx(reference(trial.truth[trial.rows], prediction))
        assert found.interval[0] < found.value < found.interval[1]
    assert score_trial(binary, constant_trial(binary))["auroc"].value == 0.5
    assert set(score_trial(binary, constant_trial(binary))) == {"auroc", "f1"}
    # a subject with many windows weighs as much as one with few
    error, subject = np.array([1.0] * 9 + [5, 3]), np.array(["a"] * 9 + ["b", "c"])
    assert bootstrap.score("mae", error, 0 * error, subject)["value"] == 3


def test_a_probe_finds_what_is_planted_and_nothing_in_noise():
    data = dataset(diabetes=np.arange(20) % 2)
    trial = make_trial(data, REGISTRY["diabetes"])
    noise = np.random.default_rng(3).normal(size=(len(data.subject), 8))
    planted = noise + 2 * data.labels["diabetes"][:, None]
    assert score_trial(trial, probe_trial(trial, planted))["auroc"].value > 0.95
    assert 0.3 < score_trial(trial, probe_trial(trial, noise))["auroc"].value < 0.7


@pytest.mark.parametrize(
    ("labels", "folds", "message"),
    [
        ({"age": [1] * 2 + [np.nan] * 8}, None, "2 scored subjects have a label, 3 are needed"),
        ({"age": np.arange(10)}, 11, "10 scored subjects, too few for 11 folds"),
        ({"age": np.arange(10)}, 1, "too few for 2 folds|10 scored"),
        ({"diabetes": [0] * 10}, None, "all scored subjects are of a single class"),
        (
            {"diabetes": [1] + [0] * 9},
            None,
            "1 scored subjects of the class 1, too few for 2 folds",
        ),
        (
            {"diabetes": [1] * 3 + [0] * 7},
            5,
            "3 scored subjects of the class 1, too few for 5 folds",
        ),
    ],
)
def test_what_cannot_be_cut_into_folds_is_an_error(labels, folds, message):
    with pytest.raises(UserError, match=message):
        make_trial(dataset(n_subjects=10, **labels), REGISTRY[next(iter(labels))], n_folds=folds)


def test_a_fold_of_a_single_class_is_an_error():
    """Every subject has both classes in some windows, but those who have the negative one are in
    one fold.
    """
    data = dataset(n_subjects=4, per_subject=2, pvc=np.ones(4))
    data.labels["pvc"][[0, 2]] = 0
    with pytest.raises(UserError, match="to score in fold . are of a single class"):
        for seed in range(20):
            make_trial(data, REGISTRY["pvc"], n_folds=2, seed=seed)


def test_swapping_all_ways_is_the_exact_test_of_scipy():
    rng = np.random.default_rng(4)
    truth, first = rng.normal(size=(2, 9))
    second = truth + 0.3 * rng.normal(size=9)
    exact = stats.permutation_test(
        (np.abs(truth - first), np.abs(truth - second)), lambda a, b,
        axis: np.mean(a - b, axis=axis), permutation_type="samples", vectorized=True,
        n_resamples=np.inf,
    )  # fmt: skip
    found = swap_test("regression", truth, first, second, np.arange(9))
    assert found == pytest.approx(exact.pvalue)


def test_swapping_for_auroc_is_brute_force_over_whole_subjects():
    rng = np.random.default_rng(5)
    subject = np.repeat(np.arange(6), 4)
    truth = np.tile([0, 1, 0, 1, 1, 0, 1, 0], 3).astype(float)  # two of each in every subject
    first, second = truth + rng.normal(0, 0.5, 24), 100 * rng.normal(size=24)  # scales differ
    ranks = np.stack([stats.rankdata(x) for x in (first, second)])

    def difference(swap):
        mine, theirs = (np.where(swap[subject], ranks[1 - i], ranks[i]) for i in range(2))
        return roc_auc_score(truth, mine) - roc_auc_score(truth, theirs)

    ways = [difference(np.array(swap, bool)) for swap in itertools.product([0, 1], repeat=6)]
    expected = np.mean(np.abs(ways) >= abs(ways[0]) - 1e-12)
    assert swap_test("binary", truth, first, second, subject) == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["binary", "regression"])
def test_the_paired_test_holds_its_level_and_has_power(kind):
    rng = np.random.default_rng(6)
    subject = np.repeat(np.arange(20), 5)
    p_values = []
    for seed in range(60):
        offset = rng.normal(size=(2, 20))[:, subject]  # both methods err by subject, equally
        truth = rng.integers(0, 2, 100).astype(float) if kind == "binary" else rng.normal(size=100)
        first, second = truth + offset + rng.normal(size=(2, 100))
        p_values.append(
            swap_test(kind, truth, first, second, subject, n_permutations=200, seed=seed)
        )
    assert np.mean(np.array(p_values) < 0.05) < 0.15
    good = truth + 0.1 * rng.normal(size=100)
    assert swap_test(kind, truth, good, first, subject) < 0.01
    assert swap_test(kind, truth, first, first, subject) == 1


def test_holm_and_stars():
    assert holm([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.09, 0.09, 0.5])
    assert [stars(p) for p in (0.0005, 0.005, 0.03, 0.05)] == ["***", "**", "*", ""]


def test_fine_tuning_learns_what_a_frozen_probe_cannot_and_leaves_the_encoder(monkeypatch):
    """The label is the sign of a slow wave that the random encoder mixes with strong noise."""
    monkeypatch.setattr(finetune, "LR", 3e-3)  # few steps
    torch.manual_seed(0)
    rng = np.random.default_rng(7)
    data = dataset(n_subjects=24, per_subject=10, n_times=80, diabetes=np.arange(24) % 2)
    wave = np.sin(np.linspace(0, 2 * np.pi, 80))
    data.ppg = rng.normal(size=data.ppg.shape) + np.outer(
        2 * data.labels["diabetes"] - 1, 0.35 * wave
    )
    data.ppg = data.ppg.astype(np.float32)
    encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(80, 3), torch.nn.Tanh())
    before = encoder[1].weight.clone()
    trial = make_trial(data, REGISTRY["diabetes"], n_folds=3)
    with torch.no_grad():
        embedding = encoder(torch.from_numpy(data.ppg)[:, None]).numpy()
    frozen = score_trial(trial, probe_trial(trial, embedding))["auroc"].value
    tuned = score_trial(trial, finetune.finetune_trial(trial, encoder, embedding, epochs=15))[
        "auroc"
    ].value
    assert torch.equal(encoder[1].weight, before) and tuned > frozen + 0.03
