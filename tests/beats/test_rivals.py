"""The classical rivals: their settings are frozen, and they read what they should."""

import hashlib
import json

import neurokit2
import numpy as np
import pytest

from xmae.beats.rivals import METHODS, SETTINGS, multiscale_peaks, read_classical
from xmae.data.bidmc import FOLDER
from xmae.data.prepare.windowing import prepare_recording
from xmae.data.recording.readers import read_recording
from xmae.errors import UserError
from xmae.signals.window import N_TIMES, SFREQ

FROZEN = "6e26c7653bcf33fe41678fd347000e7bbc6f339c6f40226904fad0104d74235a"


@pytest.fixture(scope="module")
def windows():
    """Return the first windows of a calm recording, with truth."""
    windows, _ = prepare_recording(read_recording(FOLDER / "bidmc05.npz"), -1)
    return windows.select(np.flatnonzero(np.isfinite(windows.labels["hr_ecg"]))[:8])


def test_the_settings_are_those_of_before_the_first_score():
    content = json.dumps(SETTINGS, sort_keys=True).encode()
    assert hashlib.sha256(content).hexdigest() == FROZEN
    assert neurokit2.__version__ == SETTINGS["neurokit2"]


@pytest.mark.parametrize("method", METHODS)
def test_a_calm_pulse_is_read_right(windows, method):
    reading = read_classical(windows.ppg, method)
    truth = windows.labels["hr_ecg"]
    assert np.abs(reading.rate - truth).max() < 2 and (reading.certainty > 0.5).all()
    if method != "autocorrelation":
        count = np.bincount(reading.window, minlength=len(truth))
        missing = (
            np.isfinite(windows.beats).sum(axis=1) - count
        )  # a pulse may be cut at either edge
        assert (missing >= -1).all() and (missing <= 2).all()
        assert (np.diff(reading.window) >= 0).all() and reading.confidence.max() <= 1
        assert ((reading.time >= 0) & (reading.time < 10)).all()


def test_the_quick_multiscale_detector_is_neurokits(windows):
    x = windows.ppg[0, :500].astype(np.float64)
    expected = neurokit2.ppg_findpeaks(x, sampling_rate=SFREQ, method="bishop")["PPG_Peaks"]
    assert len(expected) > 4
    np.testing.assert_array_equal(multiscale_peaks(x), expected)


@pytest.mark.parametrize("method", METHODS)
def test_a_flat_window_and_a_single_wave_have_no_rate(method):
    one = np.exp(-0.5 * ((np.arange(N_TIMES) - 500) / 8) ** 2)
    reading = read_classical(np.stack([np.zeros(N_TIMES), one]), method)
    assert np.isnan(reading.rate[0]) and (reading.certainty == 0).any()
    if method != "autocorrelation":
        assert np.isnan(reading.rate[1])
    assert len(read_classical(np.zeros((0, N_TIMES)), method).rate) == 0


def test_the_autocorrelation_lies_between_samples():
    time = np.arange(N_TIMES) / SFREQ
    rates = np.array([33.0, 61.7, 97.3, 150.2, 215.0])
    reading = read_classical(np.sin(2 * np.pi * rates[:, None] / 60 * time), "autocorrelation")
    np.testing.assert_allclose(reading.rate, rates, rtol=0.02)


def test_an_unknown_method_is_refused(windows):
    with pytest.raises(UserError, match="unknown method 'best'"):
        read_classical(windows.ppg, "best")
