"""The drift gate by beats: what an exported student reads against what its float original reads."""

from inspect import signature

import numpy as np
import pytest
import torch

from xmae.beats.timing_map import LOG_SHARE, timing_target
from xmae.benchmarks.harness.beat_drift import FP32_BEATS, beat_violations, compare_beats
from xmae.benchmarks.harness.drift import NO_MAP, beats_of
from xmae.benchmarks.harness.rows import DriftRow, Spread
from xmae.benchmarks.validate import find_violations, validate
from xmae.export.bundle.schema import End, Entry

INT8_BEATS = {name: signature(validate).parameters[name].default for name in FP32_BEATS}

FLOAT = Entry(model="student", format="onnx", precision="fp32", file="a", embedding=4)
CODES = End(shape=[1, 754], dtype="int8", scale=0.01, zero_point=3)
INT8 = FLOAT.model_copy(update={"precision": "int8", "output": CODES})


def rows_of(intervals, shift=0.0, length=1.0):
    """Return the rows (n, 4 + 750) whose maps have a beat each `interval` s."""
    pulses = torch.stack(
        [torch.arange(60) * interval - 4.0 + shift for interval in intervals]
    ).double()
    target, _ = timing_target(pulses, 250)
    maps = target.numpy() * np.array([length, length, LOG_SHARE])[:, None]
    flat = maps.transpose(0, 2, 1).reshape(len(maps), -1)
    return np.concatenate([np.zeros((len(maps), 4)), flat], 1).astype(np.float32)


INTERVALS = (0.7, 0.8, 0.9)


def test_the_same_rows_do_not_drift():
    found = compare_beats(rows_of(INTERVALS), FLOAT, rows_of(INTERVALS), 100)
    assert found.beats > 30 and found.unmatched == 0
    assert found.median_ms == found.p99_ms == found.rate_change == 0
    assert found.refusal_flips == 0 and not beat_violations(found, FP32_BEATS)


@pytest.mark.parametrize("ms", [3.0, 8.0])
def test_late_beats_are_measured_in_ms(ms):
    late = compare_beats(rows_of(INTERVALS, shift=ms / 1000), FLOAT, rows_of(INTERVALS), 100)
    assert late.median_ms == pytest.approx(ms, abs=1.0)
    (sentence,) = beat_violations(late, INT8_BEATS)
    assert sentence.startswith("beat times, median")


def test_codes_of_int8_are_read_by_their_scale():
    rows = rows_of(INTERVALS)
    codes = np.clip(np.rint(rows / 0.01) + 3, -128, 127)
    found = compare_beats((codes - 3) * 0.01, INT8, rows, 100)
    assert found.median_ms < 1 and found.p99_ms < 5 and found.rate_change < 0.1


def test_the_heart_rate_error_is_a_mean_over_subjects():
    truth, subject = np.array([60 / 0.7, 75.0, 60 / 0.9]), np.array(["a", "a", "b"])
    found = compare_beats(rows_of((0.7, 0.75, 0.9)), FLOAT, rows_of(INTERVALS), 100, truth, subject)
    assert found.rate_change == pytest.approx(5 / 2 / 2, abs=0.1)  # 80 for 75 bpm in one of a's two
    assert any("heart-rate error" in said for said in beat_violations(found, INT8_BEATS))


def test_refusals_that_flip_are_counted():
    weak = rows_of(INTERVALS, length=0.5)
    found = compare_beats(weak, FLOAT, rows_of(INTERVALS), 100)
    assert found.refusal_flips == 1
    assert "windows whose refusal flips: 1 is more than 0.005" in beat_violations(found, INT8_BEATS)


def test_nothing_to_compare_is_a_violation():
    empty = np.zeros((2, 754), np.float32)
    found = compare_beats(empty, FLOAT, empty, 100)
    assert found.median_ms is None
    assert len(beat_violations(found, INT8_BEATS)) == 3


def test_float_files_are_held_to_less_than_int8():
    assert all(FP32_BEATS[name] < limit for name, limit in INT8_BEATS.items())


def test_a_map_that_is_not_finite_fails_the_gate():
    rows = rows_of(INTERVALS)
    rows[1, 40] = np.nan  # of the map; the embedding is whole
    said = beats_of(None, FLOAT, rows, None, None, slice(None))
    row = DriftRow("student", "onnx", "int8", centred=Spread(1.0, 1.0), heads={}, **said)
    limits = {"min_cosine": 0.98, "min_cosine_p5": 0.95} | INT8_BEATS
    assert find_violations(row, limits) == [f"fails: {NO_MAP}"]
    teacher = FLOAT.model_copy(update={"embedding": None})
    assert beats_of(None, teacher, rows, None, None, slice(None)) == {}
