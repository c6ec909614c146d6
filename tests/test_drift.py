"""The drift gate: its arithmetic against scikit-learn, and bundles that were broken on purpose."""

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error, roc_auc_score
from sklearn.metrics.pairwise import cosine_similarity
from xmae.benchmarks.drift import FP32_LIMITS, compare_embeddings, compare_heads, find_violations

INT8_LIMITS = {"min_cosine": 0.98, "min_cosine_p5": 0.95, "max_hr_change": 0.5, "max_auroc_change": 0.01}


def row(**changes):
    good = {"median": 1.0, "p5": 1.0}
    return {"precision": "int8", "cosine": good, "centred": good, "heads": {}} | changes


def head(metric, change, judged=True):
    return {"metric": metric, "change": change, "judged": judged}


def test_cosines_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    mean = rng.normal(size=16)
    original = mean + 0.1 * rng.normal(size=(50, 16))
    embedding = original + 0.03 * rng.normal(size=(50, 16))
    found = compare_embeddings(embedding, original, mean)
    for name, shift in (("cosine", 0), ("centred", mean)):
        expected = np.diag(cosine_similarity(embedding - shift, original - shift))
        assert found[name]["median"] == pytest.approx(np.median(expected))
        assert found[name]["p5"] == pytest.approx(np.quantile(expected, 0.05))
    assert found["centred"]["median"] < found["cosine"]["median"]  # the mean flatters


@pytest.mark.parametrize("embedding", [np.zeros((4, 3)), np.full((4, 2), np.nan), np.full((4, 2), np.inf)])
def test_another_width_or_values_that_are_not_finite_are_a_violation(embedding):
    found = compare_embeddings(embedding, np.ones((4, 2)), np.zeros(2))
    assert "width" in find_violations(row(**found), INT8_LIMITS)[0]


def test_an_embedding_of_zeros_fails():
    found = compare_embeddings(np.zeros((4, 2)), np.ones((4, 2)), np.zeros(2))
    assert found["centred"]["median"] == 0 and len(find_violations(row(**found), INT8_LIMITS)) == 2


def test_heads_give_the_metrics_of_scikit_learn():
    rng = np.random.default_rng(1)
    hr, age = rng.normal(80, 9, 60), rng.integers(30, 90, 60).astype(float)
    hr[:5] = np.nan
    windows = SimpleNamespace(subject=np.repeat(np.arange(6), 10), labels={"hr": hr, "age": age, "sex": np.ones(60)})
    heads = {
        name: {"kind": kind, "weight": rng.normal(size=4).tolist(), "bias": 1.0, "skill": skill}
        for name, kind, skill in (("hr", "regression", 0.9), ("age_over_65", "binary", 0.0), ("sex", "binary", 0.5))
    }
    original = rng.normal(size=(60, 4))
    embedding = original + 0.1 * rng.normal(size=(60, 4))
    found = compare_heads(heads, embedding, original, windows)
    assert set(found) == {"hr", "age_over_65"}  # one sex only
    shown = embedding @ heads["hr"]["weight"] + 1
    assert found["hr"]["value"] == pytest.approx(mean_absolute_error(hr[5:], shown[5:]))
    shown = original @ heads["age_over_65"]["weight"]
    assert found["age_over_65"]["reference"] == pytest.approx(roc_auc_score(age > 65, shown))
    assert found["hr"]["judged"] and not found["age_over_65"]["judged"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, []),
        ({"centred": {"median": 0.979, "p5": 0.96}}, ["median"]),
        ({"centred": {"median": 0.981, "p5": 0.94}}, ["5th percentile"]),
        ({"heads": {"hr": head("mae", 0.4), "sex": head("auroc", -0.009)}}, []),
        ({"heads": {"hr": head("mae", -0.6), "sex": head("auroc", -0.011)}}, ["hr MAE", "sex AUROC"]),
        ({"heads": {"rr": head("mae", 0.6), "sex": head("auroc", 0.2, judged=False)}}, []),
        ({"failure": "the process died of SIGSEGV"}, ["does not run"]),
        ({"missing": "not installed"}, []),
    ],
)
def test_limits(changes, said):
    found = find_violations(row(**changes), INT8_LIMITS)
    assert len(found) == len(said) and all(words in sentence for words, sentence in zip(said, found, strict=True))


def test_fp32_is_held_to_rounding():
    assert find_violations(row(centred={"median": 0.9995, "p5": 0.9995}), FP32_LIMITS)
    assert not find_violations(row(centred={"median": 0.99999, "p5": 0.9999}), FP32_LIMITS)
