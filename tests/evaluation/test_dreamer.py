"""DREAMER: a file of its exact layout, made here from real ECG and drawn EEG, goes through reader
and protocol.

It tests the layout; no result is claimed from it.
"""

import numpy as np
import pytest
import torch
from scipy import io

from xmae.data.bidmc import bidmc_files
from xmae.data.recording.readers.dreamer import read_dreamer
from xmae.errors import UserError
from xmae.evaluation.fusion.dreamer import (
    dreamer,
    eeg_windows,
    embed_trials,
    metrics_of,
    split_trials,
)
from xmae.models import save_encoder
from xmae.models.criss_cross import CRISS_CROSS_SIZES, CrissCrossEncoder
from xmae.signals.resample import resample

ELECTRODES = [
    "AF3",
    "F7",
    "F3",
    "FC5",
    "T7",
    "P7",
    "O1",
    "O2",
    "P8",
    "T8",
    "FC6",
    "F4",
    "F8",
    "AF4",
]
N_CLIPS = 4
SECONDS = (31, 22, 20, 25)  # of the clips; the rest before each lasts 11 s


def cells(values):
    """Return a MATLAB cell column."""
    column = np.empty((len(values), 1), object)
    column[:, 0] = values
    return column


def write_dreamer(path, n_subjects=4, **changes):
    """Return a small DREAMER.mat: real ECG excerpts resampled to 256 Hz, EEG drawn around the
    headset's offset.
    """
    rng = np.random.default_rng(7)
    people = np.empty((1, n_subjects), object)
    for number, file in zip(range(n_subjects), bidmc_files()[::4], strict=False):
        with np.load(file) as z:
            ecg = np.stack([z["ecg"], z["ecg2"]], 1) * float(z["ecg_scale"])
        ecg, signals = resample(ecg.T, 125, 256).T, {"ECG": {}, "EEG": {}}
        for part, seconds in (("baseline", (11,) * N_CLIPS), ("stimuli", SECONDS)):
            starts = np.cumsum([0, *seconds])
            signals["ECG"][part] = cells(
                [ecg[256 * a : 256 * b] for a, b in zip(starts, starts[1:], strict=False)]
            )
            signals["EEG"][part] = cells(
                [4200 + 30 * rng.standard_normal((128 * s, 14)) for s in seconds]
            )
        scores = {
            f"Score{name}": rng.permutation([[1.0], [2.0], [4.0], [5.0]])
            for name in ("Valence", "Arousal")
        }
        scores["ScoreDominance"] = rng.permutation([[3.0], [3.0], [4.0], [2.0]])
        people[0, number] = {"Age": "22", "Gender": "male", **signals, **scores}
    electrodes = np.empty((1, 14), object)
    electrodes[0] = ELECTRODES
    content = {
        "Data": people, "EEG_SamplingRate": 128.0, "ECG_SamplingRate": 256.0,
        "EEG_Electrodes": electrodes, "noOfSubjects": float(n_subjects),
        "noOfVideoSequences": float(N_CLIPS), "Disclaimer": "", "Provider": "", "Version": "1.0.2",
        "Acknowledgement": "",
    }  # fmt: skip
    io.savemat(path, {"DREAMER": content | changes}, do_compression=True)
    return path


@pytest.fixture(scope="module")
def mat(tmp_path_factory):
    return write_dreamer(tmp_path_factory.mktemp("dreamer") / "DREAMER.mat")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("encoder") / "tiny.safetensors"
    save_encoder(CrissCrossEncoder(**CRISS_CROSS_SIZES["tiny"]), path, {})
    return str(path)


def test_reader_finds_every_part_in_its_place(mat):
    trials, electrodes = read_dreamer(mat)
    assert electrodes == ELECTRODES
    assert [(t.subject, t.video) for t in trials] == [
        (f"S{s:02d}", v) for s in range(1, 5) for v in range(1, 5)
    ]
    assert [t.eeg.shape for t in trials[:4]] == [(14, 128 * s) for s in SECONDS]
    assert [t.ecg.shape for t in trials[:4]] == [(2, 256 * s) for s in SECONDS]
    assert trials[0].eeg_baseline.shape == (14, 128 * 11)
    assert sorted(t.ratings["dominance"] for t in trials[:4]) == [2, 3, 3, 4]
    assert abs(trials[0].eeg.mean() - 4200) < 1


def test_eeg_comes_out_in_units_of_100_microvolts_without_the_offset():
    time = np.arange(128 * 30) / 128
    x = np.stack([4200 + 50 * np.sin(2 * np.pi * 10 * time)] * 14)
    windows = eeg_windows(x)
    assert windows.shape == (3, 14, 2000)
    # the second window starts at 10 s
    expected = 0.5 * np.sin(2 * np.pi * 10 * np.arange(2000) / 200)
    np.testing.assert_allclose(windows[1, 0], expected, atol=0.01)


@pytest.mark.parametrize(
    "protocol",
    ["leave-subjects-out", pytest.param("subject-dependent", marks=pytest.mark.extended)],
)
def test_the_protocol_runs_to_metrics_with_intervals(mat, encoder, tmp_path, protocol):
    result = dreamer(str(mat), str(tmp_path), eeg=encoder, ecg=encoder, protocol=protocol, folds=2)
    assert result["protocol"] == protocol and result["subjects"] == 4
    for rating in ("valence", "arousal", "dominance"):
        found = result["ratings"][rating]
        assert found["high_share"] == (0.25 if rating == "dominance" else 0.5)  # 3 is not above 3
        assert list(found["ways"])[:3] == ["eeg + ecg, concatenate", "eeg", "ecg"]
        for metrics in found["ways"].values():
            for name in ("auc", "f1", "accuracy"):
                value, (low, high) = metrics[name]
                assert 0 <= low <= high <= 1 and 0 <= value <= 1
    assert f"Protocol: {protocol}" in (tmp_path / "dreamer.md").read_text()


def test_the_baseline_is_the_mean_embedding_of_the_rest_before_the_clip(mat):
    torch.manual_seed(0)
    trials, encoder = (
        read_dreamer(mat)[0][:3],
        CrissCrossEncoder(**CRISS_CROSS_SIZES["tiny"]).eval(),
    )
    rows = [0, 5]
    (plain, trial), (less, _) = (
        embed_trials({"eeg": encoder}, trials, rows, how) for how in ("none", "subtract")
    )
    # whole windows of 10 s in clips of 31, 22 and 20 s
    assert trial.tolist() == [0, 0, 0, 1, 1, 2, 2]
    for number, of in enumerate(trials):
        with torch.no_grad():
            rest = encoder(torch.from_numpy(eeg_windows(of.eeg_baseline[rows]))).mean(0)
        taken = (plain["eeg"] - less["eeg"])[trial == number]
        torch.testing.assert_close(taken, rest.expand_as(taken), atol=1e-5, rtol=1e-5)


def test_no_person_or_clip_is_on_both_sides():
    subject = np.repeat(np.arange(5), 6)
    seen = []
    for fit, held, _ in split_trials(subject, "leave-subjects-out", 5):
        assert not set(subject[fit]) & set(subject[held])
        seen += held.tolist()
    assert sorted(seen) == list(range(30))
    seen = []
    for fit, held, _ in split_trials(subject, "subject-dependent", 3):
        assert set(subject[fit]) == set(subject[held]) and len(set(subject[held])) == 1
        assert not set(fit) & set(held)
        seen += held.tolist()
    assert sorted(seen) == list(range(30))


def test_metrics_equal_scikit_learns():
    from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

    rng = np.random.default_rng(0)
    high, score = rng.integers(0, 2, 60).astype(float), rng.standard_normal(60)
    subject = np.arange(60) % 6
    found = metrics_of(high, score, subject, np.ones((5, 6)))
    # each pair of subjects counts once
    count = np.stack([np.bincount(subject[high == label], minlength=6) for label in (0, 1)])
    one = 1 / count[high.astype(int), subject]
    assert found["auc"][0] == pytest.approx(roc_auc_score(high, score, sample_weight=one))
    assert found["f1"][0] == pytest.approx(f1_score(high, score > 0))
    assert found["accuracy"][0] == pytest.approx(accuracy_score(high, score > 0))


def test_bad_files_and_settings_are_one_clear_line(mat, encoder, tmp_path):
    with pytest.raises(UserError, match="no such file; DREAMER.mat comes from its authors"):
        read_dreamer(tmp_path / "DREAMER.mat")
    (tmp_path / "damaged.mat").write_bytes(mat.read_bytes()[:5000])
    with pytest.raises(UserError, match="damaged.mat"):
        read_dreamer(tmp_path / "damaged.mat")
    with pytest.raises(UserError, match="rates 256 and 256 Hz; expected 128 and 256 Hz"):
        read_dreamer(write_dreamer(tmp_path / "rate.mat", 1, EEG_SamplingRate=256.0))
    with pytest.raises(UserError, match="not laid out as DREAMER.mat"):
        read_dreamer(write_dreamer(tmp_path / "layout.mat", 1, Data=np.zeros((1, 2))))
    with pytest.raises(UserError, match=r"14\)"):
        read_dreamer(
            write_dreamer(
                tmp_path / "names.mat", 1, EEG_Electrodes=np.array([["AF3", "F7"]], object)
            )
        )
    with pytest.raises(UserError, match="unknown electrode 'Cz'; the recording has AF3"):
        dreamer(str(mat), str(tmp_path), eeg=encoder, electrodes="AF3,Cz")
    with pytest.raises(UserError, match="give an encoder"):
        dreamer(str(mat), str(tmp_path))
    with pytest.raises(UserError, match="a McuStudent is no encoder of EEG or ECG leads"):
        dreamer(str(mat), str(tmp_path), eeg="student-mcu")
    with pytest.raises(UserError, match="unknown protocol"):
        dreamer(str(mat), str(tmp_path), eeg=encoder, protocol="random")


def test_eeg_and_ecg_of_different_length_are_refused(tmp_path):
    trials_of_one = write_dreamer(tmp_path / "d.mat", 1)
    content = io.loadmat(trials_of_one)["DREAMER"]
    ecg = content[0, 0]["Data"][0, 0]["ECG"][0, 0]["stimuli"][0, 0]
    ecg[1, 0] = ecg[1, 0][: 256 * 15]
    io.savemat(tmp_path / "e.mat", {"DREAMER": content})
    with pytest.raises(
        UserError, match=r"S01, clip 2: EEG of the clip lasts 22.0 s but ECG 15.0 s"
    ):
        read_dreamer(tmp_path / "e.mat")
