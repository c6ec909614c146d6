"""The scikit-learn face: its checks pass, and its numbers are those of the encoder and the
beats.
"""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

from xmae.data.bidmc import bidmc_files
from xmae.data.prepare.prepare import prepare_recording
from xmae.data.recording.readers import read_recording
from xmae.evaluation.heads.embedding import embed_windows
from xmae.models import load_encoder
from xmae.sklearn import PulseEncoder


@pytest.fixture(scope="module")
def recording():
    return read_recording(bidmc_files()[1])


def test_it_passes_the_checks_of_scikit_learn():
    results = check_estimator(PulseEncoder("student-mcu-s"), on_fail=None, on_skip=None)
    failed = {r["check_name"]: r["exception"] for r in results if r["status"] == "failed"}
    assert not failed
    assert sum(r["status"] == "passed" for r in results) > 30


def test_windows_are_embedded_as_everywhere_else(recording):
    windows = prepare_recording(recording, min_quality=-1)[0].ppg[:5]
    table = PulseEncoder("student-mcu-s").fit_transform(windows)
    wanted = embed_windows(load_encoder("student-mcu-s"), windows)
    np.testing.assert_allclose(table, wanted, rtol=1e-4, atol=1e-5)
    halved = PulseEncoder("student-mcu-s").fit_transform(windows[:, ::2])
    assert np.corrcoef(halved.ravel(), wanted.ravel())[0, 1] > 0.99


def test_a_raw_recording_is_the_mean_over_its_windows(recording):
    windows = prepare_recording(recording, min_quality=-1)[0].ppg[:6]
    raw = [recording.ppg[: int(60 * recording.sfreq)], recording.ppg[: int(31 * recording.sfreq)]]
    encoder = PulseEncoder("student-mcu-s", sfreq=recording.sfreq, features="embedding,beats")
    table = encoder.fit_transform(raw)
    assert table.shape == (2, 261) and table.dtype == np.float32
    names = encoder.get_feature_names_out()
    assert len(names) == 261 and names[-5] == "rate_bpm"
    wanted = embed_windows(load_encoder("student-mcu-s"), windows).mean(0)
    assert np.corrcoef(table[0, :256], wanted)[0, 1] > 0.999  # ends of the filter differ
    monitor = np.nanmean(recording.labels["hr_monitor"][0][:60])
    assert table[0, -5] == pytest.approx(monitor, abs=4)
    assert table[0, -3] == pytest.approx(60_000 / table[0, -5], rel=0.05)


def test_what_it_cannot_take_is_said(recording):
    with pytest.raises(ValueError, match="row 1 of X: 2.0 s; expected 10 s"):
        PulseEncoder(sfreq=100).fit([np.zeros(1000), np.zeros(200)])
    with pytest.raises(ValueError, match="sfreq is 1000"):
        PulseEncoder(sfreq=1000).fit([np.zeros(10_000)])
    with pytest.raises(ValueError, match="unknown feature 'beat'"):
        PulseEncoder(features="beat").fit(np.zeros((2, 1000)))


def test_it_stands_in_a_pipeline_and_gives_a_frame(recording):
    windows = prepare_recording(recording, min_quality=-1)[0].ppg[:8]
    pipeline = make_pipeline(PulseEncoder("student-mcu-s"), Ridge())
    assert pipeline.fit(windows, np.arange(8.0)).predict(windows).shape == (8,)
    frame = PulseEncoder("student-mcu-s").set_output(transform="pandas").fit_transform(windows)
    assert isinstance(frame, pd.DataFrame) and list(frame.columns[:2]) == ["e0", "e1"]
