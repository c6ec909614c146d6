"""Hand-made features against NeuroKit2, the bedside monitor and waves whose answer is known."""

import neurokit2 as nk
import numpy as np
import pytest
from scipy import stats

from xmae.data.bidmc import bidmc_files
from xmae.data.prepare.prepare import prepare_recording
from xmae.data.recording.readers import read_recording
from xmae.data.store.store import Windows
from xmae.evaluation.heads.features import ppg_features


@pytest.fixture(scope="module")
def real():
    """Return every window, good and bad, of six recordings."""
    paths = bidmc_files()[::6][:6]
    return Windows.concatenate(
        [prepare_recording(read_recording(path), min_quality=-1)[0] for path in paths]
    )


@pytest.fixture(scope="module")
def columns(real):
    features, names = ppg_features(real.ppg)
    return dict(zip(names, features.T, strict=True))


def wave(rate, breath=0.25, am=0.0, fm=0.0):
    """Return a pulse-like wave (three harmonics) with breathing in its amplitude and rate; one
    window (1, 1000).
    """
    t = np.arange(1000) / 100
    phase = 2 * np.pi * rate / 60 * t - fm * rate / 60 / breath * np.cos(2 * np.pi * breath * t)
    pulse = sum(a * np.sin(k * phase) for k, a in ((1, 1), (2, 0.5), (3, 0.2)))
    return ((1 + am * np.sin(2 * np.pi * breath * t)) * pulse)[None]


def named(ppg):
    features, names = ppg_features(ppg)
    return dict(zip(names, features[0], strict=True))


@pytest.mark.parametrize("rate", [42, 58, 75, 101, 140, 185])
@pytest.mark.parametrize(
    "how", ["rate_autocorrelation", "rate_spectrum", "rate_beats", "rate_phase"]
)
def test_rate_of_a_known_wave(rate, how):
    assert named(wave(rate))[how] == pytest.approx(rate, rel=0.02)


def test_breathing_is_found_in_amplitude_and_rate():
    assert named(wave(75, breath=0.3, am=0.2))["breath_am_rate"] == pytest.approx(18, abs=1.5)
    assert named(wave(75, breath=0.3, fm=0.05))["breath_fm_rate"] == pytest.approx(18, abs=1.5)
    assert named(wave(75, fm=0.05))["rate_modulation"] > 10 * named(wave(75))["rate_modulation"]


def test_moments_are_those_of_scipy(real, columns):
    assert columns["skewness"] == pytest.approx(
        stats.skew(real.ppg.astype(float), axis=1), abs=1e-6
    )
    assert columns["kurtosis"] == pytest.approx(
        stats.kurtosis(real.ppg.astype(float), axis=1, fisher=False), rel=1e-6
    )


def test_beats_agree_with_neurokit2(real, columns):
    """Same method (Elgendi), but all windows at once; bad windows may part by a beat."""
    expected = np.array(
        [
            60 / (np.diff(nk.ppg_findpeaks(x, sampling_rate=100)["PPG_Peaks"]).mean() / 100)
            for x in real.ppg
        ]
    )
    error = np.abs(columns["rate_beats"] - expected)
    assert np.median(error) < 0.5 and np.mean(error < 3) > 0.9


def test_rates_agree_with_the_monitor_where_the_signal_is_good(real, columns):
    good = (real.ppg_quality >= 0.9) & (real.ecg_quality >= 0.9)
    assert good.sum() > 100
    for how in ("rate_autocorrelation", "rate_spectrum", "rate_beats", "rate_phase"):
        error = np.abs(columns[how] - real.labels["hr_ecg"])[good]
        assert np.nanmedian(error) < 1 and np.nanmean(error < 5) > 0.9, how


def test_every_window_is_its_own(real):
    features, names = ppg_features(real.ppg[:8])
    assert features.shape == (8, len(names)) and len(set(names)) == len(names)
    assert features[3:4] == pytest.approx(ppg_features(real.ppg[3:4])[0], rel=1e-9)


def test_flat_and_tiny_windows_stay_finite():
    odd = np.stack(
        [np.zeros(1000), np.ones(1000), 1e-9 * np.random.default_rng(0).normal(size=1000)]
    )
    assert np.isfinite(ppg_features(odd)[0]).all()
