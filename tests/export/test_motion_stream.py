"""PPG and acceleration as a stream: the same in any portions, and honest about what is missing."""

import numpy as np
import pytest
import torch

import xmae
from xmae.errors import UserError
from xmae.export.motion_stream import MotionStream
from xmae.twin.people import RHYTHMS, draw_person


@pytest.fixture(scope="module")
def person():
    """Someone who rests and then walks: PPG codes at 100 Hz, acceleration codes at 25 Hz."""
    generator = torch.Generator().manual_seed(11)
    plan = [("rest", 25), ("walk", 20)]
    drawn = draw_person(45, generator, RHYTHMS["sinus"], True, 0.0, plan=plan)
    axes = [drawn[f"acc_{a}"] * drawn[f"acc_{a}_scale"] + drawn[f"acc_{a}_offset"] for a in "xyz"]
    return drawn["ppg"].astype(np.int64) + 32768, np.rint(4096 * np.stack(axes)).astype(np.int64)


def played(person, portion):
    """Results of a person in portions of so many quarters of a second."""
    ppg, acc = person
    stream, results = MotionStream(acc_sfreq=25), []
    for at in range(0, len(ppg), 25 * portion):
        stream.accelerate(acc[:, at // 4 : (at + 25 * portion) // 4])
        results += stream.push(ppg[at : at + 25 * portion])
    return stream, results


def test_portions_make_no_difference(person):
    _, seconds = played(person, 4)
    _, long = played(person, 40)
    assert len(seconds) > 40 and seconds == long


def test_rest_and_walk_are_told_apart(person):
    stream, results = played(person, 4)
    assert max(r.activity for r in results[8:20]) < 50 < min(r.activity for r in results[32:])
    for result in results:
        assert (result.low <= result.rate <= result.high) or not result.rate
        assert "moves" in stream.line(result)
    assert any(r.rate for r in results[10:24])


def test_a_missing_accelerometer_is_a_stated_case(person):
    stream = MotionStream(acc_sfreq=25)
    results = stream.push(person[0])
    assert all(r.activity == -1 for r in results)
    assert "no accelerometer" in stream.line(results[-1])
    with pytest.raises(UserError, match="three rows"):
        stream.accelerate(np.zeros((2, 10), int))


def test_the_model_reads_ppg_with_and_without_acceleration(person):
    model = xmae.load("student-motion")
    ppg, acc = person
    with_axes = model.read(ppg, 100, acc=acc / 4096, acc_sfreq=25)
    alone = model.read(ppg, 100)
    assert len(with_axes.activity) == len(with_axes.rate) and alone.activity is None
    assert with_axes.activity[35:].min() > 0.05 > with_axes.activity[8:20].max()
