"""Leave one subject out on a folder of a data set as it comes, in one command."""

import json
import pickle

import numpy as np
import pytest
import scipy.io

from xmae.cli import main
from xmae.data.bidmc import bidmc_files
from xmae.data.recording.readers import read_recording
from xmae.errors import UserError
from xmae.evaluation.loso import PUBLISHED, as_stores, use_reference, words_and_data
from xmae.evaluation.protocol.datasets import load_dataset
from xmae.evaluation.protocol.folds import make_trial
from xmae.evaluation.protocol.tasks import REGISTRY
from xmae.signals.resample import resample

SECONDS, SUBJECTS = 60, 4


def real(number):
    recording = read_recording(bidmc_files()[number])
    n = SECONDS * 125
    rates = np.repeat(recording.labels["hr_monitor"][0][:SECONDS:2], 1)[: (SECONDS - 8) // 2 + 1]
    return recording.ppg[:n], recording.ecg[:n], rates + 0.5 * number


@pytest.fixture(scope="module")
def dalia(tmp_path_factory):
    """Return files of the exact layout of PPG-DaLiA, from real signals."""
    folder = tmp_path_factory.mktemp("ppg_dalia")
    for number in range(SUBJECTS):
        ppg, ecg, rates = real(number)
        signals = {
            "chest": {"ECG": resample(ecg, 125, 700)[:, None]},
            "wrist": {
                "BVP": resample(ppg, 125, 64)[:, None],
                "ACC": np.tile([0, 0, 64.0], (SECONDS * 32, 1)),
            },
        }
        content = {
            "subject": f"S{number + 1}", "signal": signals, "label": rates,
            "activity": np.zeros((SECONDS * 4, 1)), "questionnaire": {"AGE": 30, "Gender": " f"},
        }  # fmt: skip
        (folder / f"S{number + 1}").mkdir()
        path = folder / f"S{number + 1}" / f"S{number + 1}.pkl"
        path.write_bytes(pickle.dumps(content, 2))
    return folder


def test_one_command_for_ppg_dalia(dalia, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    line = ["evaluate", "student-mcu", "--tasks", "hr", "--protocol", "loso"]
    assert main([*line, "--baselines", "false", str(dalia)]) == 0
    capsys.readouterr()
    result = json.loads((tmp_path / "runs/evaluate/metrics.json").read_text())
    (trial,) = result["trials"]
    assert (trial["n_subjects"], trial["n_folds"]) == (SUBJECTS, SUBJECTS)
    # all windows but the first, of which less than half has a heart rate, are scored
    assert trial["n_windows"] >= SUBJECTS * (SECONDS // 10 - 1)
    mae = trial["methods"]["student-mcu"]["mae"]
    assert mae["interval"][0] <= mae["value"] <= mae["interval"][1]
    page = (tmp_path / "runs/evaluate/table.md").read_text()
    assert "Fitted in each fold, on all other subjects: a linear probe" in page
    for name, number in PUBLISHED["PPG-DaLiA"].items():
        assert f"{name} {number}" in page


def test_each_subject_is_left_out_once_and_never_fitted(dalia, tmp_path):
    (store,) = as_stores([str(dalia)], tmp_path)
    dataset = load_dataset(store)
    from_ecg = dataset.labels["hr_ecg"].copy()
    use_reference(dataset)
    assert np.array_equal(dataset.labels["hr_ecg"], dataset.labels["hr_reference"], equal_nan=True)
    known = np.isfinite(from_ecg) & np.isfinite(dataset.labels["hr_ecg"])
    assert np.nanmedian(np.abs(from_ecg - dataset.labels["hr_ecg"])[known]) < 3  # the same hearts
    trial = make_trial(dataset, REGISTRY["hr"], "loso")
    scored = []
    for fitted, held in trial.folds:
        (subject,) = set(dataset.subject[held])
        assert subject not in set(dataset.subject[fitted])
        scored.append(subject)
    assert sorted(scored) == sorted(set(dataset.subject))
    with pytest.raises(UserError, match="needs both classes in every subject"):
        dataset.labels["sex"] = (dataset.subject == scored[0]).astype(float)
        make_trial(dataset, REGISTRY["sex"], "loso")


def test_ieee_spc_and_bami_have_no_published_numbers_of_ours(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    spc = tmp_path / "spc"
    spc.mkdir()
    for number in range(3):
        ppg, ecg, rates = real(number)
        still = np.tile([[0.0], [0.0], [1.0]], SECONDS * 125)
        signals = np.vstack([ecg, ppg, ppg, still])
        scipy.io.savemat(spc / f"DATA_0{number + 1}_TYPE01.mat", {"sig": signals})
        scipy.io.savemat(spc / f"REF_0{number + 1}_TYPE01.mat", {"BPM0": rates[:, None]})
    assert main(["evaluate", "--tasks", "hr", "--protocol", "loso", str(spc), "student-mcu",
                 "--baselines", "false"]) == 0  # fmt: skip
    capsys.readouterr()
    page = (tmp_path / "runs/evaluate/table.md").read_text()
    assert "Leave one subject out" in page and "Published" not in page


def test_words_of_the_line(dalia):
    assert words_and_data([str(dalia)], None) == (["base"], [str(dalia)])
    assert words_and_data(["a", str(dalia)], None) == (["a"], [str(dalia)])
    assert words_and_data(["a"], "x,y") == (["a"], ["x", "y"])
    with pytest.raises(UserError, match="--data must be given"):
        words_and_data(["a"], None)
