"""Which way up a PPG is: on real recordings, both ways."""

from pathlib import Path

import numpy as np
import pytest

from xmae.data.bidmc import bidmc_files
from xmae.data.ppg_bp import ppg_bp_segments
from xmae.data.recording.checks import upright
from xmae.data.recording.readers import read_recording
from xmae.data.recording.recording import Recording
from xmae.errors import UserError
from xmae.signals.polarity import polarity_of, polarity_of_windows, rise_score

NCKU = Path(__file__).parents[1] / "fixtures" / "ncku_static.npz"


def test_score_is_the_share_of_time_that_is_not_spent_rising():
    x = np.random.default_rng(0).standard_normal((3, 4, 500)).cumsum(-1)
    expected = [
        [sum(b < a for a, b in zip(w, w[1:], strict=False)) / 499 - 0.5 for w in row] for row in x
    ]
    np.testing.assert_allclose(rise_score(x), expected, atol=1e-12)
    np.testing.assert_allclose(rise_score(-x), -rise_score(x), atol=1e-12)
    assert rise_score(np.zeros(100)) == 0  # neither rises nor falls


@pytest.mark.parametrize("start_s", [0, 240])
def test_every_shipped_recording_is_upright(start_s):
    for path in bidmc_files()[::3]:
        recording = read_recording(path)
        piece = recording.ppg[int(start_s * 125) : int((start_s + 60) * 125)]
        assert polarity_of(piece, 125).name == "upright", path.stem
        assert polarity_of(120000 - 800 * piece, 125).name == "inverted", path.stem


def test_watch_and_seconds_long_pieces():
    recording = read_recording(NCKU)
    assert polarity_of(recording.ppg, 50).name == "upright"
    assert polarity_of(-recording.ppg, 50).name == "inverted"
    scores = rise_score(ppg_bp_segments()[0])  # 2.1 s each, 164 people
    assert np.mean(scores > 0) > 0.99


def test_what_is_no_pulse_is_unclear():
    t = np.arange(6000) / 100
    noise = np.random.default_rng(0).standard_normal(6000)
    for x in (np.sin(2 * np.pi * 1.2 * t), noise, np.full(6000, np.nan), np.zeros(6000), t[:300]):
        assert polarity_of(x, 100).name == "unclear"
    assert polarity_of_windows(np.zeros((0, 1000))).name == "unclear"


def test_windows_in_motion_do_not_vote():
    ppg = read_recording(bidmc_files()[0]).ppg[: 125 * 40].copy()
    shaken = np.arange(len(ppg)) < 125 * 30
    ppg[shaken] *= -1
    assert polarity_of(ppg, 125).name == "inverted"
    assert polarity_of(ppg, 125, ~shaken).name == "upright"
    acc = np.zeros((3, len(ppg)))
    acc[2] = 1 + 0.5 * shaken * np.sin(np.arange(len(ppg)) / 5)
    recording = upright(Recording("s", "r", 125.0, ppg, acc=acc))
    np.testing.assert_array_equal(recording.ppg, ppg)


def test_recordings_are_turned_over_and_it_is_said():
    ppg = read_recording(bidmc_files()[0]).ppg[: 125 * 60]
    recording = Recording("s", "r", 125.0, -ppg)
    turned = upright(recording)
    np.testing.assert_array_equal(turned.ppg, ppg)
    assert turned.repairs == ["inverted_ppg"] and upright(turned).repairs == ["inverted_ppg"]
    assert upright(recording, "upright") is recording
    np.testing.assert_array_equal(upright(recording, "inverted").ppg, ppg)
    with pytest.raises(UserError, match="unknown --polarity 'up'"):
        upright(recording, "up")
    sine = Recording("s", "r", 100.0, np.sin(np.arange(6000) / 13))
    assert upright(sine).repairs == ["polarity_unclear"]
