"""R peaks in hidden patches: on peaks that are known, and a run of a method that rebuilds ECG."""

import numpy as np
import pytest
import torch

from xmae.benchmarks.studies.rebuilt_peaks import (
    Windows,
    open_run,
    peaks_of,
    read_linearly,
    rebuild,
    score,
    score_subject,
)
from xmae.errors import UserError
from xmae.evaluation.heads.dense import with_neighbours
from xmae.objectives import OBJECTIVES


@pytest.fixture
def windows():
    """Return 24 windows of 6 subjects; the PPG is a bell 70 ms after each R peak."""
    rng, n, t = np.random.default_rng(0), 24, np.arange(1000)
    peaks = [np.arange(20 + rng.integers(60), 980, rng.integers(60, 110)) for _ in range(n)]
    ecg, ppg = (
        torch.tensor(
            np.array([np.exp(-0.5 * ((t - p[:, None] - late) / wide) ** 2).sum(0) for p in peaks]),
            dtype=torch.float32,
        )[:, None]
        for late, wide in ((0, 1.5), (7, 6.0))
    )
    hidden = torch.arange(25).expand(n, 25) >= 5
    subject = np.repeat(np.arange(6), 4)
    folds = [(np.flatnonzero(subject != k), np.flatnonzero(subject == k)) for k in range(6)]
    return Windows(ppg, ecg, peaks, hidden, subject, folds, set())


def test_a_right_ecg_is_perfect_upside_down_too_and_noise_is_not(windows):
    for strength in (windows.ecg[:, 0].numpy(), np.abs(-windows.ecg[:, 0].numpy())):
        recall, precision, error = score(windows, peaks_of(strength, windows.hidden))
        assert (recall == 1).all() and (precision == 1).all() and error.max() < 1
    noise = np.random.default_rng(1).random((24, 1000))
    recall, precision, error = score(windows, peaks_of(noise, windows.hidden))
    assert recall.mean() < 0.9 and precision.mean() < 0.6 and error.mean() > 20


def test_what_was_seen_does_not_count(windows):
    strength = windows.ecg[:, 0].numpy().copy()
    strength[:, :200] = 0  # the five patches that are seen
    recall, precision, _ = score(windows, peaks_of(strength, windows.hidden))
    assert (recall == 1).all() and (precision == 1).all()
    strength[:, 200:] = np.random.default_rng(1).random((24, 800))
    assert score(windows, peaks_of(strength, windows.hidden))[0].mean() < 0.9


def test_a_lag_of_a_subject_is_taken_off_and_misses_count():
    truth = np.arange(1.0, 20.0)
    assert score_subject(truth, truth + 0.06) == pytest.approx((1, 1, 0), abs=1e-6)
    recall, precision, _ = score_subject(truth, np.sort(np.append(truth[::2], truth[:9] + 0.4)))
    assert recall == pytest.approx(10 / 19) and precision == pytest.approx(10 / 19)
    assert np.isnan(score_subject(truth, truth[:0])[1]) and score_subject(truth, truth[:0])[0] == 0


def test_a_ridge_on_patches_finds_the_peaks_of_other_subjects(windows):
    patches = with_neighbours(windows.ppg.numpy().reshape(24, 25, 40))
    recall, _, error = score(windows, peaks_of(read_linearly(windows, patches), windows.hidden))
    assert recall.mean() > 0.9 and error.mean() < 12


def test_a_run_is_opened_whole_and_one_without_ecg_is_refused(windows, tmp_path):
    import json

    import safetensors.torch

    objective = OBJECTIVES["xmae-timing"](size="small")
    (tmp_path / "config.json").write_text(json.dumps({"method": "xmae-timing", "size": "small"}))
    state = {k: v.contiguous() for k, v in objective.model.state_dict().items()}
    safetensors.torch.save_file(state, tmp_path / "model.safetensors")
    few = Windows(*(x[:2] for x in (windows.ppg, windows.ecg)), windows.peaks[:2],
                  windows.hidden[:2], windows.subject[:2], [], set())  # fmt: skip
    found = rebuild(open_run(tmp_path), few)
    objective.eval()
    with torch.no_grad():
        whole = objective.model(few.ppg, few.ecg, few.hidden).reconstruction[:, 0]
    middle = np.median(whole.numpy(), axis=1, keepdims=True)
    np.testing.assert_allclose(found, np.abs(whole.numpy() - middle), rtol=1e-4, atol=1e-6)
    (tmp_path / "config.json").write_text(json.dumps({"method": "mae", "size": "small"}))
    with pytest.raises(UserError, match="rebuilds no ECG"):
        open_run(tmp_path)
