"""The findings as commands: their truths against independent computations, and what the verbs
write.
"""

import json
import re
import shutil
from dataclasses import replace

import neurokit2 as nk
import numpy as np
import pandas as pd
import pytest

from xmae.beats.intervals import variability
from xmae.benchmarks.studies import findings
from xmae.cli import main
from xmae.data.store.relabel import relabel
from xmae.data.store.store import WindowStore
from xmae.errors import UserError
from xmae.evaluation import evaluate
from xmae.evaluation.evaluate import predict_baselines
from xmae.evaluation.findings.curve import curve, keep_subjects, subset_store
from xmae.evaluation.findings.finding import correlations
from xmae.evaluation.findings.hrv import hrv_labels
from xmae.evaluation.findings.pulse_delay import delays, medians
from xmae.evaluation.findings.transfer import all_trials, transfer
from xmae.evaluation.protocol.datasets import load_datasets
from xmae.evaluation.protocol.folds import make_trial
from xmae.evaluation.protocol.tasks import REGISTRY
from xmae.models import load_encoder, save_encoder
from xmae.models.xmae import PPGEncoder, XMAEConfig

TINY = XMAEConfig(width=32, n_heads=4, stem_widths=(4, 8, 8), stem_out=4)


@pytest.fixture(scope="module")
def store(eight_patients):
    return str(eight_patients / "store")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for name in ("one", "two"):
        save_encoder(
            PPGEncoder(TINY), folder / f"{name}.safetensors", {"method": "none", "splits": {}}
        )
    return [str(folder / f"{name}.safetensors") for name in ("one", "two")]


def test_hrv_is_that_of_neurokit2():
    rng = np.random.default_rng(0)
    beats = [np.cumsum(rng.integers(600, 900, 12)) for _ in range(5)]  # ms
    time = np.concatenate([window + 100_000 * i for i, window in enumerate(beats)]) / 1000
    found = variability(time, np.repeat(np.arange(5), 12), 6)
    for i, window in enumerate(beats):
        expected = nk.hrv_time(window, sampling_rate=1000).iloc[0]
        assert found["rmssd"][i] == pytest.approx(np.sqrt(np.mean(np.diff(np.diff(window)) ** 2)))
        assert found["sdnn"][i] == pytest.approx(expected["HRV_SDNN"])
        changes = np.abs(np.diff(np.diff(window)))
        assert found["pnn50"][i] == pytest.approx(100 * (changes > 50).mean())
        assert found["rmssd"][i] == pytest.approx(expected["HRV_RMSSD"])
    assert np.isnan(found["rmssd"][5])  # no beats


def test_hrv_of_real_windows_leaves_out_ectopic_ones(recording_windows):
    regular, ectopic = (
        hrv_labels(recording_windows("bidmc07")),
        hrv_labels(recording_windows("bidmc26")),
    )
    assert np.isfinite(regular["rmssd"]).mean() > 0.8 and np.nanmedian(regular["rmssd"]) < 50
    assert np.isfinite(ectopic["rmssd"]).mean() < 0.2  # a premature beat in nearly every window


MEASURED = [("bidmc01", 0.562), ("bidmc03", 0.722), ("bidmc34", 0.546), ("bidmc43", 0.53)]


@pytest.mark.parametrize(("name", "seconds"), MEASURED)
def test_delays_are_those_measured_at_125_hz_with_other_tools(name, seconds, recording_windows):
    """Medians over the recording from NeuroKit2's R peaks and the raw PPG, beat by beat."""
    delay, other = delays(recording_windows(name))
    assert np.nanmedian(delay) == pytest.approx(1000 * seconds, abs=12)
    known = np.isfinite(delay)
    assert (
        np.median(np.abs(delay - other)[known]) < 3
        and np.corrcoef(delay[known], other[known])[0, 1] > 0.9
    )


def test_a_later_pulse_is_a_longer_delay(recording_windows):
    windows = recording_windows("bidmc34")
    later = replace(windows, ppg=np.roll(windows.ppg.ravel(), 7).reshape(windows.ppg.shape))
    assert np.nanmedian(delays(later)[0] - delays(windows)[0]) == pytest.approx(70, abs=1)


@pytest.fixture(scope="module")
def runs(models, store, tmp_path_factory):
    """Return a folder with the results of each verb."""
    folder = tmp_path_factory.mktemp("runs")
    for verb in ("hrv", "timing"):
        assert main([verb, *models, "--data", store, "--out", str(folder / verb)]) == 0
    transfer(models, store, "ppg_bp", "hr_monitor", out=str(folder / "transfer"))
    settings = {"methods": "dino", "budget": 32, "size": "small", "batch_size": 16}
    curve(models, store, "hr", fractions="0.5,1", repeats=2, out=str(folder / "curve"), **settings)
    return folder


def result_of(folder):
    return json.loads((folder / "metrics.json").read_text())


@pytest.mark.parametrize(
    ("verb", "direct"), [("hrv", "pulse intervals"), ("timing", "both signals")]
)
def test_the_verbs_write_table_and_picture(verb, direct, runs):
    result, tmp_path = result_of(runs / verb), runs / verb
    assert list(result["trials"][0]["methods"]) == [
        "one",
        "two",
        "untrained",
        "features",
        "constant",
        direct,
    ]
    assert result["reference"] == "one" and (tmp_path / "predictions.png").stat().st_size > 10_000
    assert "within recordings" in (tmp_path / "table.md").read_text()
    if verb == "timing":
        delay = result["trials"][0]["methods"]
        assert (
            delay[direct]["r"] > 0.9
            and delay[direct]["mae"]["value"] < 0.5 * delay["constant"]["mae"]["value"]
        )


def test_correlation_within_recordings_ignores_their_means(store):
    (dataset,) = load_datasets([store], tasks=["hr"])
    trial = make_trial(dataset, REGISTRY["hr"])
    truth = trial.truth[trial.rows]
    means = pd.Series(truth).groupby(dataset.record[trial.rows]).transform("mean").to_numpy()
    assert correlations(trial, means)[1] is None and correlations(trial, means)[0] > 0.7
    assert correlations(trial, truth - means)[1] == pytest.approx(1)


def test_recordings_of_two_subjects_may_have_one_name(store):
    (dataset,) = load_datasets([store], tasks=["hr"])
    trial = make_trial(dataset, REGISTRY["hr"])
    named = replace(trial, dataset=replace(dataset, record=np.full(len(dataset.record), "1")))
    prediction = np.random.default_rng(0).normal(size=len(trial.rows))
    assert correlations(named, prediction) == correlations(trial, prediction)
    x = dataset.labels["hr_ecg"]
    by_name = pd.Series(x).groupby(dataset.record).transform("median")
    np.testing.assert_array_equal(medians(x, named.dataset.recording), by_name)


def test_transfer_is_fitted_on_one_and_tested_on_the_other(runs, store):
    result = result_of(runs / "transfer")
    across, within = result["trials"]
    assert (across["dataset"], within["dataset"]) == (
        "store -> ppg_bp",
        "ppg_bp -> ppg_bp",
    ) and result["seconds"] == 2
    assert across["n_subjects"] == within["n_subjects"] == 164
    rates = {row["dataset"]: row["methods"]["features"]["mae"]["value"] for row in (across, within)}
    constant = across["methods"]["constant"]["mae"]["value"]
    assert rates["ppg_bp -> ppg_bp"] < min(rates["store -> ppg_bp"], constant)
    (source,) = load_datasets([store], tasks=["hr_monitor"])
    (target,) = load_datasets(["ppg_bp"])
    offset = np.nanmean(
        source.labels["hr_monitor"]
    )  # the constant is the mean of the fitted dataset
    assert constant == pytest.approx(np.abs(target.labels["hr_monitor"] - offset).mean(), rel=0.05)


def test_a_label_of_one_subject_to_fit_on_is_left_out_of_all_tasks(store):
    source, target = load_datasets([store, "ppg_bp"])
    known = source.subject == source.subject[0]
    lonely = np.where(known, source.labels["hr_monitor"], np.nan)
    alone = replace(source, labels=source.labels | {"hr_monitor": lonely})
    with pytest.raises(UserError, match="hr_monitor: fewer than 2 subjects to fit on"):
        all_trials(alone, target, ["hr_monitor"], "test", 77, named=True)
    trials, reasons = all_trials(alone, target, ["hr_monitor", "sex"], "test", 77, named=False)
    assert {trial.task.name for trial in trials} == {"sex"}
    assert [reason.task for reason in reasons] == ["hr_monitor"]


def test_baselines_look_once_at_windows_that_trials_share(models, store, monkeypatch):
    (dataset,) = load_datasets([store], tasks=["hr"])
    trials = [make_trial(replace(dataset, name=name), REGISTRY["hr"]) for name in ("one", "two")]
    seen = []
    monkeypatch.setattr(
        evaluate, "ppg_features", lambda ppg: (seen.append(ppg) or np.zeros((len(ppg), 2)), [])
    )
    found = predict_baselines(load_encoder(models[0]), trials)
    assert len(seen) == 1 and set(found["features"]) == {"one/hr", "two/hr"}


def test_what_transfer_refuses(models, store, tmp_path):
    with pytest.raises(UserError, match="subjects in common"):
        copy = subset_store(WindowStore(store), {"s01241"}, tmp_path / "copy")
        transfer(models, store, str(copy.path), out=str(tmp_path / "x"))
    with pytest.raises(UserError, match="do not both have labels for diabetes; both have"):
        transfer(models, store, "ppg_bp", "diabetes", out=str(tmp_path / "x"))


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_subset_of_a_store_keeps_its_labels_wherever_it_is(store, scheme, tmp_path):
    shutil.copytree(store, tmp_path / "store")
    (tmp_path / "labels.csv").write_text("subject,diabetes\ns01241,1\n")
    relabel(str(tmp_path / "store"), str(tmp_path / "labels.csv"))
    whole = WindowStore(f"{scheme}{tmp_path}/store")
    part = subset_store(whole, {"s01241"}, tmp_path / "part")
    expected = [w for w in whole.shards() if w.subject[0] == "s01241" or w.split[0] != "train"]
    found = part.windows()
    assert len(found) == sum(map(len, expected)) == part.meta["windows"] < whole.meta["windows"]
    assert (
        set(part.windows("train").subject) == {"s01241"}
        and np.nansum(found.labels["diabetes"]) == 20
    )
    np.testing.assert_array_equal(found.ppg, np.concatenate([w.ppg for w in expected]))


def test_curve_of_labels_and_of_pretraining_subjects(runs):
    result, tmp_path = result_of(runs / "curve"), runs / "curve"
    points = {(p["model"], p["kind"], p["fraction"]): p for p in result["points"]}
    assert set(points) == {
        (m, "labels", f) for m in ("one", "two", "features") for f in (0.5, 1)
    } | {("dino", "subjects", f) for f in (0.5, 1)}
    assert (
        points["dino", "subjects", 0.5]["n_subjects"] == 1
        and points["dino", "subjects", 1]["n_subjects"] == 2
    )
    assert points["one", "labels", 0.5]["n_subjects"] < points["one", "labels", 1]["n_subjects"]
    assert (tmp_path / "curve.png").stat().st_size > 10_000 and "| Heart rate" in (
        tmp_path / "curve.md"
    ).read_text()


def test_a_curve_over_all_subjects_pretrains_on_other_people_only(models, store, tmp_path):
    settings = {"fractions": "1", "protocol": "all", "out": str(tmp_path)}
    (point,) = [p for p in curve(models[:1], store, **settings)["points"] if p["model"] == "one"]
    assert point["n_subjects"] > 2  # of all subjects, and not of the training ones alone
    with pytest.raises(UserError, match="would be trained or chosen on, and scored"):
        curve(models, store, methods="mae", **settings)
    with pytest.raises(UserError, match="would be trained or chosen on, and scored"):
        curve(models, store, methods="mae", pretrain=store, **settings)


def test_the_page_gathers_what_the_verbs_found_and_repeats_nothing(runs, models, store, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in runs.glob("*/metrics.json")}
    where = {"runs": str(runs), "out": str(tmp_path)}
    page = findings.findings(store, models=models, **where)
    assert before == {path: path.stat().st_mtime_ns for path in runs.glob("*/metrics.json")}
    assert page.count("\n## ") == 4 and page.count("two-sided permutation test") == 1
    for verb in ("hrv", "timing", "transfer", "curve"):
        assert f"xmae {verb} " in page
    for name in re.findall(r"\((findings-\w+\.png)\)", page):
        assert 1000 < (tmp_path / name).stat().st_size < 60_000
    with pytest.raises(UserError, match="is of other models"):
        findings.findings(store, models=models[:1], **where)


def test_fewer_subjects_keep_both_classes_and_whole_subjects(store):
    (dataset,) = load_datasets([store], tasks=["sex"])
    trial = make_trial(dataset, REGISTRY["sex"])
    fitted = trial.folds[0][0]
    for seed in range(10):
        rows = keep_subjects(trial, fitted, 0.1, np.random.default_rng(seed))
        assert np.ptp(trial.truth[rows]) == 1 and len(np.unique(dataset.subject[rows])) >= 2
        for subject in np.unique(dataset.subject[rows]):
            assert (dataset.subject[rows] == subject).sum() == (
                dataset.subject[fitted] == subject
            ).sum()


@pytest.mark.parametrize("fractions", ["0,1", "0.5,2", "half"])
def test_shares_that_make_no_sense(models, store, fractions, tmp_path):
    with pytest.raises(UserError, match="expected shares above 0 and up to 1"):
        curve(models, store, fractions=fractions, out=str(tmp_path))
