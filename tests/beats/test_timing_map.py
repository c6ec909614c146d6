"""The timing map and what is read from it, against the pulses that it was made of."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xmae.beats.certainty import calibrate, shipped_certainty
from xmae.beats.reader import TICKS_S, BeatReader, MapCode, read_maps
from xmae.beats.rhythm import ECTOPIC, IRREGULAR, REGULAR, UNKNOWN, rhythm_hint
from xmae.beats.timing_map import FIRST_S, timing_target


def pulses_of(intervals, start=-1.0):
    return torch.tensor(start + np.cumsum(intervals), dtype=torch.float32)[None]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0.3, 1.9), min_size=45, max_size=45), st.floats(-1.5, -0.2))
def test_beats_come_back_from_their_map(intervals, start):
    pulses = pulses_of(intervals, start - intervals[0])  # the first at `start`
    target, known = timing_target(pulses, 250)
    assert known.all()
    reading = read_maps(target.numpy())
    known_pulses = pulses[0].numpy()
    for found, wanted in ((reading.time, known_pulses), (known_pulses, reading.time)):
        inside = found[(found > 0.2) & (found < 9.8)]
        # phase is straight on each side of a pulse, the sine is not
        assert np.abs(inside[:, None] - wanted).min(1).max() < 0.02
    assert reading.certainty[0] > 0.95
    expected = 60 * (len(reading.time) - 1) / (reading.time[-1] - reading.time[0])
    assert reading.rate[0] == pytest.approx(expected, abs=0.02)


def test_unknown_stretches_are_no_beats():
    pulses = pulses_of([1.0] * 5)
    target, known = timing_target(pulses, 250)
    assert known[0, :90].all() and not known[0, 110:].any()
    assert not target[0, :, 110:].any()


def test_nothing_in_the_map_is_nothing_read():
    reading = read_maps(np.zeros((2, 3, 250)))
    assert np.isnan(reading.rate).all() and not reading.certainty.any() and not len(reading.time)


def test_streams_side_by_side_are_read_as_alone():
    rng = np.random.default_rng(0)
    maps = rng.integers(-120, 120, (5, 3, 250))
    code = MapCode.of_scale(0.01)
    together = read_maps(maps, code)
    for k in range(5):
        alone = read_maps(maps[k : k + 1], code)
        assert np.array_equal(together.time[together.window == k], alone.time)
        assert np.array_equal(together.rate[k : k + 1], alone.rate, equal_nan=True)


def test_double_crossings_count_once():
    target, _ = timing_target(pulses_of([0.8] * 30), 250)
    noisy = target.clone()
    noisy[0, 1, 100:104] *= torch.tensor([1.0, -1.0, 1.0, -1.0])
    clean, read = read_maps(target.numpy()), read_maps(noisy.numpy())
    assert abs(len(read.time) - len(clean.time)) <= 1


def test_times_are_ticks_after_the_first_output():
    target, _ = timing_target(pulses_of([0.8] * 30), 250)
    reader = BeatReader(MapCode.of_scale(0.01))
    reader.push(np.rint(target.numpy() * 100).astype(int).transpose(0, 2, 1))
    beats = reader.beats[0][reader.beats[0] >= 0] / TICKS_S + FIRST_S
    assert np.abs((beats - beats[0]) / 0.8 - np.arange(len(beats))).max() < 0.02


def test_rhythm_hints():
    rng = np.random.default_rng(1)
    regular = np.full(39, 5000) + rng.integers(-60, 60, 39)
    bigeminy = np.where(np.arange(39) % 3 == 0, 3500, 5200)
    fibrillation = rng.integers(3000, 8000, 39)
    few = np.concatenate([np.zeros(30, int), regular[:9]])
    hints = rhythm_hint(np.stack([regular, bigeminy, fibrillation, few, np.zeros(39, int)]))
    assert hints.tolist() == [REGULAR, ECTOPIC, IRREGULAR, UNKNOWN, UNKNOWN]


def test_certainty_keeps_its_promise_where_it_was_made():
    rng = np.random.default_rng(0)
    certainty = rng.integers(0, 256, 4000)
    truth = rng.uniform(50, 120, 4000)
    error = rng.standard_normal(4000) * (260 - certainty) / 20
    table = calibrate(certainty, truth + error, truth)
    low, high = table.interval(100 * (truth + error), certainty)
    assert 0.87 <= ((low <= 100 * truth) & (100 * truth <= high)).mean() <= 0.95
    assert (np.diff(table.half_width) <= 0).all()
    wrong = (certainty >= table.least) & (np.abs(error) > 10)
    assert wrong.mean() <= 0.01


def test_every_subject_counts_the_same():
    """Coverage is a mean over subjects: one with few windows and large errors is not outvoted."""
    error = np.concatenate([np.full(300, 0.5), np.full(20, 4.0)])
    certainty, truth = np.full(320, 200), np.full(320, 70.0)
    pooled = calibrate(certainty, truth + error, truth)
    fair = calibrate(certainty, truth + error, truth, np.repeat(["many", "few"], [300, 20]))
    assert pooled.half_width[12] == 50 and fair.half_width[12] == 400


def test_shipped_table_is_whole():
    table = shipped_certainty()
    assert len(table.half_width) == 16 and 0 <= table.least <= 255
