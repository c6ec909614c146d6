"""The streaming front end against plain filters, and its promise that portions do not matter."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from xmae.errors import UserError
from xmae.signals.front_end import (
    BASELINE,
    FRACTION,
    HISTORY,
    LOOK_AHEAD,
    SHIFT,
    TRIANGLE,
    FrontEnd,
    filter_taps,
)

GAIN = FRACTION * BASELINE * int(TRIANGLE.sum()) / 2**SHIFT


def codes_of(seconds, sfreq, seed=0, bits=16):
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * sfreq)) / sfreq
    pulse = np.sin(2 * np.pi * 1.3 * t) + 0.3 * np.sin(2 * np.pi * 2.6 * t) + 0.5 * np.sin(t)
    middle = 1 << (bits - 1)
    return np.rint(middle + middle / 4 * (pulse + 0.02 * rng.standard_normal(len(t)))).astype(int)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([25, 50, 64, 64.0001, 100, 125, 333.3, 500]),
    st.lists(st.integers(0, 700), max_size=30),
)
def test_portions_do_not_matter(sfreq, cuts):
    codes = codes_of(6, sfreq)
    whole = FrontEnd(sfreq).push(codes)
    front_end = FrontEnd(sfreq)
    parts = np.split(codes, sorted(min(cut, len(codes)) for cut in cuts))
    assert np.array_equal(np.concatenate([front_end.push(part) for part in parts]), whole)


def test_filters_are_the_stated_ones():
    codes = codes_of(20, 100)
    front_end = FrontEnd(100)
    made = front_end.band(front_end.resample(codes))
    wanted = signal.convolve(codes.astype(float), filter_taps(), mode="valid") * GAIN
    assert len(made) == len(codes) - HISTORY
    assert np.abs(made - wanted).max() <= 1.5


def test_resampling_keeps_the_integral():
    codes = codes_of(8, 64)
    samples = FrontEnd(64).resample(codes)
    held = np.repeat(codes, 100)  # 6,400 a second, 64 of them a sample
    wanted = held[: len(samples) * 64].reshape(-1, 64).mean(1)
    assert np.abs(samples / FRACTION - (wanted + (1 << 24))).max() <= 1 / FRACTION


def test_look_ahead_is_as_stated():
    codes = np.full(1200, 1000)
    codes[600] = 3000
    front_end = FrontEnd(100)
    made = front_end.band(front_end.resample(codes))
    assert made.argmax() + LOOK_AHEAD == 600 and LOOK_AHEAD == 54


def test_scale_follows_four_seconds():
    codes = codes_of(12, 100)
    large = codes.astype(np.int64) * 40 % (1 << 22)
    out = FrontEnd(100).push(codes)
    assert out.dtype == np.int8 and 70 <= np.abs(out[200:].astype(int)).max() <= 127
    assert np.array_equal(FrontEnd(100).push(np.full(1500, 77)), np.zeros(1500 - HISTORY, np.int8))
    assert not np.array_equal(FrontEnd(100).push(large)[:10], out[:10]) or not out[:10].any()


@pytest.mark.parametrize("sfreq", [24, 501, 0, -64])
def test_rates_out_of_range_are_refused(sfreq):
    with pytest.raises(UserError, match="25 to 500"):
        FrontEnd(sfreq)


@pytest.mark.parametrize("codes", [np.array([1.5]), np.array([[1]]), np.array([1 << 24])])
def test_codes_that_no_converter_gives_are_refused(codes):
    with pytest.raises(UserError):
        FrontEnd(100).push(codes)
