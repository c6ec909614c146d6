"""Signals against NeuroKit2 and SciPy, on real recordings."""

import neurokit2 as nk
import numpy as np
import pytest
import torch

from xmae.data.bidmc import bidmc_files
from xmae.data.recording.readers import read_recording
from xmae.signals.filters import ecg_clean, ecg_sos, powerline_kernel, ppg_clean, ppg_sos
from xmae.signals.quality import ecg_peaks, ppg_peaks, template_quality, window_quality
from xmae.signals.resample import resample, resampling_ratio
from xmae.signals.scale import minmax_scale

OURS = {"ecg": ecg_clean, "ppg": ppg_clean}
THEIRS = {"ecg": nk.ecg_clean, "ppg": nk.ppg_clean}
FILES = bidmc_files()


@pytest.fixture(scope="module")
def recording():
    return read_recording(FILES[0])


def relative_error(ours, theirs):
    return np.abs(ours - theirs).max() / np.abs(theirs).max()


@pytest.mark.parametrize("sfreq", [50, 100, 125, 250])
@pytest.mark.parametrize("kind", ["ecg", "ppg"])
def test_filters_equal_neurokit(recording, kind, sfreq):
    # the same real samples taken at several rates: the filters only see numbers
    x = getattr(recording, kind)
    rows = x[: 4 * 10 * sfreq].reshape(2, 2, -1)
    expected = np.array([[THEIRS[kind](row, sampling_rate=sfreq) for row in pair] for pair in rows])
    assert relative_error(OURS[kind](rows, sfreq), expected) < 1e-6
    assert relative_error(OURS[kind](rows[0, 0], sfreq), expected[0, 0]) < 1e-6
    assert relative_error(OURS[kind](x, sfreq), THEIRS[kind](x, sampling_rate=sfreq)) < 1e-6


def test_coefficients_are_those_used(recording):
    # what goes into a bundle's manifest is what filters
    assert ecg_sos(125).shape == (3, 6) and ppg_sos(125).shape == (2, 6)
    assert (
        powerline_kernel(125).tolist() == [0.5, 0.5] and powerline_kernel(250).tolist() == [0.2] * 5
    )
    assert powerline_kernel(50).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("path", FILES[::9], ids=lambda path: path.stem)
@pytest.mark.parametrize("kind", ["ecg", "ppg"])
def test_quality_equals_neurokit(path, kind):
    recording = read_recording(path)
    clean = OURS[kind](getattr(recording, kind)[: 125 * 120], 125)
    if kind == "ecg":
        peaks, expected = (
            ecg_peaks(clean, 125),
            nk.ecg_quality(clean, sampling_rate=125, method="templatematch"),
        )
        assert peaks.tolist() == nk.ecg_peaks(clean, sampling_rate=125)[1]["ECG_R_Peaks"].tolist()
    else:
        peaks, expected = (
            ppg_peaks(clean, 125),
            nk.ppg_quality(clean, sampling_rate=125, method="templatematch"),
        )
        assert peaks.tolist() == nk.ppg_peaks(clean, sampling_rate=125)[1]["PPG_Peaks"].tolist()
    np.testing.assert_allclose(template_quality(clean, peaks, 125), expected, atol=1e-9)


def test_quality_of_ten_seconds_equals_neurokit(recording):
    for window in ppg_clean(recording.ppg[: 125 * 100].reshape(10, 1250), 125):
        peaks = ppg_peaks(window, 125)
        expected = nk.ppg_quality(window, sampling_rate=125, method="templatematch")
        np.testing.assert_allclose(template_quality(window, peaks, 125), expected, atol=1e-9)


def test_quality_falls_where_the_signal_is_broken(recording):
    whole = ppg_clean(recording.ppg[: 125 * 100], 125)
    expected = window_quality(template_quality(whole, ppg_peaks(whole, 125), 125), 125)
    ppg = recording.ppg[: 125 * 100].copy()
    ppg[125 * 40 : 125 * 50] = np.random.default_rng(0).normal(ppg.mean(), ppg.std(), 1250)
    clean = ppg_clean(ppg, 125)
    quality = window_quality(template_quality(clean, ppg_peaks(clean, 125), 125), 125)
    assert quality.shape == (10,) and quality[4] < 0.5 < 0.9 < expected[4]
    np.testing.assert_allclose(np.delete(quality, 4), np.delete(expected, 4), atol=0.05)


def test_quality_without_beats_is_zero():
    flat = np.zeros(1250)
    assert len(ppg_peaks(flat, 125)) == 0
    assert not template_quality(flat, ppg_peaks(flat, 125), 125).any()
    assert not template_quality(flat, np.arange(100, 1200, 100), 125).any()  # beats, but flat ones


def test_window_quality_is_the_percentile_at_the_recorded_rate():
    quality = np.random.default_rng(0).random(2500)
    expected = [np.percentile(quality[:1250][np.arange(1000) * 125 // 100], 15)]
    np.testing.assert_allclose(window_quality(quality[:1300], 125), expected)
    # a step function, as quality is: the percentile over all samples
    steps = np.repeat(quality[:100], 25)
    np.testing.assert_allclose(
        window_quality(steps, 125), np.percentile(steps.reshape(2, -1), 15, axis=1), atol=0.02
    )


@pytest.mark.parametrize(
    ("sfreq", "ratio"), [(125, (4, 5)), (50, (2, 1)), (250, (2, 5)), (100, (1, 1)), (62.5, (8, 5))]
)
def test_resampling_keeps_a_sine(sfreq, ratio):
    assert resampling_ratio(sfreq, 100) == ratio
    sine = np.sin(2 * np.pi * 3 * np.arange(int(20 * sfreq)) / sfreq)
    resampled = resample(np.stack([sine, -sine]), sfreq, 100)
    assert resampled.shape == (2, 2000)
    expected = np.sin(2 * np.pi * 3 * np.arange(2000) / 100)
    np.testing.assert_allclose(resampled[0, 100:-100], expected[100:-100], atol=2e-3)
    np.testing.assert_allclose(resampled[1], -resampled[0], atol=1e-12)


def test_resampling_keeps_real_beats_in_place(recording):
    clean = ecg_clean(recording.ecg, 125)
    before, after = ecg_peaks(clean, 125) / 125, ecg_peaks(resample(clean, 125, 100), 100) / 100
    nearest = np.abs(before[:, None] - after).min(axis=1)
    assert np.median(nearest) < 0.01 and np.mean(nearest < 0.02) > 0.97


@pytest.mark.parametrize("convert", [lambda x: x, lambda x: x.astype(np.float32), torch.from_numpy])
def test_minmax_scale(recording, convert):
    x = recording.ppg[: 1250 * 6].reshape(3, 2, 1250).copy()
    x[1, 1] = 0.46
    scaled, flat = minmax_scale(convert(x))
    assert type(scaled) is type(convert(x)) and scaled.dtype == convert(x).dtype
    scaled, flat = np.asarray(scaled), np.asarray(flat)
    assert flat.tolist() == [[False, False], [False, True], [False, False]]
    assert not scaled[1, 1].any() and np.isfinite(scaled).all()
    np.testing.assert_array_equal(scaled.min(axis=-1)[~flat], -1)
    np.testing.assert_array_equal(scaled.max(axis=-1)[~flat], 1)
    np.testing.assert_allclose(np.corrcoef(scaled[0, 0], x[0, 0])[0, 1], 1)
