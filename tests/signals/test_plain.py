"""NumPy's own filters of the light runtime are SciPy's."""

from fractions import Fraction

import numpy as np
import pytest
from scipy import signal

from xmae.signals import plain

RATES = (25, 33, 50, 64, 100, 125, 128, 250, 500)


@pytest.fixture
def x():
    return np.random.default_rng(0).normal(size=(3, 700)).cumsum(axis=1)


@pytest.mark.parametrize("sfreq", RATES)
def test_the_band_pass_is_scipys(x, sfreq):
    for order in (2, 4):
        sos = signal.butter(order, (0.5, 8.0), btype="bandpass", output="sos", fs=sfreq)
        np.testing.assert_allclose(plain.butter(order, (0.5, 8.0), fs=sfreq), sos, atol=1e-12)
        wanted = signal.sosfiltfilt(sos, x)
        np.testing.assert_allclose(plain.sosfiltfilt(sos, x), wanted, atol=1e-9)
        np.testing.assert_allclose(plain.sosfiltfilt(sos, x[0]), wanted[0], atol=1e-9)


@pytest.mark.parametrize("sfreq", RATES)
def test_resampling_is_scipys(x, sfreq):
    ratio = Fraction(100, sfreq)
    for y in (x, x[:, :333], x[0]):
        wanted = signal.resample_poly(
            y, ratio.numerator, ratio.denominator, axis=-1, padtype="line"
        )
        got = plain.resample_poly(y, ratio.numerator, ratio.denominator)
        np.testing.assert_allclose(got, wanted, atol=1e-10)


def test_what_is_not_there_is_refused(x):
    with pytest.raises(NotImplementedError):
        plain.butter(5, 0.5, btype="highpass", fs=100)
    with pytest.raises(NotImplementedError):
        plain.resample_poly(x, 1, 2, padtype="mean")
    with pytest.raises(ValueError, match="greater than 15"):
        plain.sosfiltfilt(plain.butter(2, (0.5, 8), fs=100), np.zeros(15))
