"""The second opinion on a heart rate: against a plain definition, in C, and in traps."""

import ctypes

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xmae.beats.periods import MOST, SPAN, Periods
from xmae.export.stream import MIXED, Stream
from xmae.firmware_sim.build.compile import KERNELS, compile_host
from xmae.twin.traps import make, traps, with_cadence, with_echo

LIBRARY = KERNELS.parent / "library"


@pytest.fixture(scope="module")
def in_c(tmp_path_factory):
    """Call `xmae_doubt` of the C library: samples, heart rate, irregularity -> whether it is
    doubted.
    """
    path = tmp_path_factory.mktemp("periods") / "periods.so"
    include = [LIBRARY / "include", LIBRARY / "src", KERNELS]
    compile_host([LIBRARY / "src" / "xmae_periods.c"], path, include=include)
    function = ctypes.CDLL(str(path)).xmae_doubt
    function.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int32]
    return lambda x, rate, irregular: bool(function(x.ctypes.data, rate, irregular))


def of_samples(x):
    """Return the opinion on these samples at 25 Hz."""
    periods = Periods()
    periods.push(np.repeat(x, 4))
    return periods


def waves(rng):
    """Return two waves of one rhythm and one of another, with noise: int8 (250,)."""
    t, f, g = np.arange(SPAN) / 25, rng.uniform(0.6, 3), rng.uniform(0.4, 3)
    first, second, other, noise = rng.uniform(0, 60, 4) * (1, rng.integers(2), rng.integers(2), 0.3)
    x = first * np.sin(2 * np.pi * f * t) + second * np.sin(np.pi * f * t + rng.uniform(0, 6))
    x += other * np.sin(2 * np.pi * g * t) + noise * rng.standard_normal(SPAN)
    return np.clip(np.rint(x), -128, 127).astype(np.int8), round(6000 * f)


def test_python_and_c_say_the_same(in_c):
    rng, said = np.random.default_rng(3), []
    for _ in range(3000):
        x, rate = waves(rng)
        rate = int(np.clip(rng.choice([rate, rng.integers(3000, 22001)]), 3000, 22000))
        irregular = int(rng.integers(-1, 200))
        said.append(of_samples(x).doubt(rate, irregular))
        assert in_c(x, rate, irregular) == said[-1]
    assert 100 < sum(said) < 2900


@settings(max_examples=200, deadline=None)
@given(st.binary(min_size=SPAN, max_size=SPAN), st.integers(3000, 22000), st.integers(-1, 300))
def test_any_samples_are_borne(in_c, raw, rate, irregular):
    x = np.frombuffer(raw, np.int8).copy()
    assert in_c(x, rate, irregular) == of_samples(x).doubt(rate, irregular)


def test_heights_are_the_autocorrelation():
    x, _ = waves(np.random.default_rng(1))
    height, y = of_samples(x).heights(), x.astype(float)
    for lag in range(MOST + 1):
        r = (y[: SPAN - lag] @ y[lag:]) / (SPAN - lag) / np.mean(y * y)
        assert height[lag] == pytest.approx(max(256 * r, 0), abs=1.1)


def test_nothing_is_said_of_silence_and_of_irregular_beats():
    assert not of_samples(np.zeros(SPAN, int)).doubt(6000, 0)
    t = np.arange(SPAN) / 25
    other = np.rint(90 * np.sin(2 * np.pi * 1.7 * t)).astype(int)
    assert of_samples(other).doubt(6000, 0)
    assert not of_samples(other).doubt(6000, 150)
    assert not of_samples(other).doubt(0, 0)


def statuses(trap):
    """Return the status of each result of the shipped student after 15 s."""
    return np.array([r.status for r in Stream(sfreq=trap.sfreq, bits=trap.bits).push(trap.codes)])[
        15:
    ]


@pytest.mark.parametrize(
    "trap",
    [
        make("echo", bpm=64, change=with_echo, seed=104),
        make("elsewhere", bpm=60, change=with_cadence(1.5, 60, 2.0), seed=122),
    ],
    ids=lambda trap: trap.name,
)
def test_a_stream_refuses_what_repeats_after_another_time(trap):
    status = statuses(trap)
    assert (status & MIXED > 0).mean() > 0.9


@pytest.mark.parametrize("name", ["rest, 72 bpm", "fibrillation, 85 bpm", "bigeminy, 76 bpm"])
def test_a_stream_passes_rhythms_of_the_heart(name):
    trap = next(trap for trap in traps() if trap.name == name)
    assert not (statuses(trap) & MIXED).any()
