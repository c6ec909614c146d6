"""PPG and acceleration as a stream: the same in any portions, and honest about what is missing."""

import numpy as np
import pytest

import xmae
from xmae.beats.tracker import MOVES
from xmae.errors import UserError
from xmae.export.motion_stream import MotionStream


@pytest.fixture(scope="module")
def person():
    """Return someone who rests for 20 s and then shakes an arm at 120 per minute: codes at 100 Hz,
    of PPG and 1/4096 g.
    """
    t = np.arange(4000) / 100

    def wave(bpm):
        turn = 2 * np.pi * bpm / 60 * t
        return np.sin(turn) + 0.4 * np.sin(2 * turn)

    arm = wave(120) * (t > 20)
    noise = np.random.default_rng(0).standard_normal((4, len(t)))
    ppg = np.rint(30000 + 2000 * (wave(80) + 0.5 * arm + 0.05 * noise[0])).astype(np.int64)
    acc = np.stack([0.3 * arm, 0.1 * arm, np.ones(len(t))]) + 0.004 * noise[1:]
    return ppg, np.rint(4096 * acc).astype(np.int64)


def played(person, portion):
    """Return the results of a person in portions of so many samples."""
    ppg, acc = person
    stream, results = MotionStream(), []
    for at in range(0, len(ppg), portion):
        stream.accelerate(acc[:, at : at + portion])
        results += stream.push(ppg[at : at + portion])
    return stream, results


def test_portions_make_no_difference(person):
    _, seconds = played(person, 100)
    _, long = played(person, 1000)
    assert len(seconds) > 35 and seconds == long


def test_rest_and_walk_are_told_apart(person):
    stream, results = played(person, 100)
    assert max(r.activity for r in results[8:17]) < 50 < min(r.activity for r in results[24:])
    for result in results:
        assert (result.low <= result.rate <= result.high) or not result.rate
        assert "moves" in stream.line(result)
    assert any(r.rate for r in results[10:18])


def test_a_missing_accelerometer_is_a_stated_case(person):
    stream = MotionStream()
    results = stream.push(person[0])
    assert all(r.activity == -1 for r in results)
    assert "no accelerometer" in stream.line(results[-1])
    with pytest.raises(UserError, match="three rows"):
        stream.accelerate(np.zeros((2, 10), int))


def test_the_model_reads_ppg_with_and_without_acceleration(person):
    model = xmae.load("student-motion")
    ppg, acc = person
    with_axes = model.read(ppg, 100, acc=acc / 4096)
    alone = model.read(ppg, 100)
    assert len(with_axes.activity) == len(with_axes.rate) and alone.activity is None
    assert with_axes.activity[30:].min() > 0.05 > with_axes.activity[8:17].max()


def test_no_rhythm_is_hinted_at_while_the_wrist_moves():
    """The pulse stays steady when an arm begins to swing, and the hint goes."""
    t = np.arange(6000) / 100
    swing = np.sin(2 * np.pi * 2.5 * t) * (t > 45)
    ppg = 2000 * (np.sin(2 * np.pi * 1.25 * t) + 0.4 * np.sin(5 * np.pi * t))
    acc = np.stack([0.3 * swing, 0 * t, np.ones(len(t))])
    person = np.rint(30000 + ppg).astype(np.int64), np.rint(4096 * acc).astype(np.int64)
    _, results = played(person, 100)
    resting = [r.rhythm for r in results if r.activity < MOVES]
    assert resting[-1] == 1 and {r.rhythm for r in results if r.activity >= MOVES} == {0}
    reading = xmae.load("student-motion").read(ppg, 100, acc=acc)
    hints = {moves: set() for moves in (False, True)}
    for hint, activity in zip(reading.rhythm, reading.activity, strict=True):
        hints[activity >= MOVES / 1000].add(hint)
    assert "regular" in hints[False] and hints[True] == {"rhythm unknown"}
