"""The clock doctor: what it finds, what it corrects, and when it says that it does not know."""

import json
from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest

from xmae.data import WindowStore
from xmae.data.bidmc import FOLDER
from xmae.data.clocks import clocks
from xmae.data.prepare.prepare import prepare
from xmae.data.recording.clocks import OutOfStep, correct, examine, settle_clocks
from xmae.data.recording.readers import read_recording
from xmae.data.recording.recording import ClockNote
from xmae.data.store.overview import report
from xmae.errors import UserError
from xmae.signals.offset import estimate_clocks, steepest_rises

IRREGULAR, REGULAR = "bidmc33", "bidmc02"  # a heart that varies, and one on a ventilator


@pytest.fixture(scope="module")
def recording():
    return replace(read_recording(FOLDER / f"{IRREGULAR}.npz"), leads={}, resp=None)


def beats(seconds, spread, seed=0):
    """Return R peaks of a heart whose intervals scatter by `spread` (s), and pulses 0.25 s
    later.
    """
    random = np.random.default_rng(seed)
    r_peaks = 5 + np.cumsum(0.8 + spread * random.standard_normal(int(seconds / 0.8)))
    return r_peaks, r_peaks + 0.25 + 0.008 * random.standard_normal(len(r_peaks))


def on_other_clock(recording, offset_s, drift_ppm):
    """Return the recording with its PPG stamped by a clock that is ahead and runs fast."""
    return correct(recording, -offset_s, -drift_ppm, 0.0)


@pytest.mark.parametrize(("offset", "ppm"), [(0, 0), (3.7, 0), (-12.3, 80), (41.0, -60)])
def test_known_clocks_are_found_within_their_intervals(offset, ppm):
    r_peaks, pulses = beats(3600, 0.03)
    found = estimate_clocks(r_peaks, pulses * (1 + 1e-6 * ppm) + offset)
    assert found.certain and found.why == ""
    at_middle = 0.25 + offset + 1e-6 * ppm * (found.middle_s + 0.25)
    assert abs(found.lag_s - at_middle) < max(found.lag_half_s, 0.001)
    assert found.offset_s == found.lag_s - 0.25
    assert abs(found.drift_ppm - ppm) < found.drift_half_ppm < 40
    assert found.drifts == (ppm != 0)


def test_a_regular_heart_and_other_peoples_pulses_are_refused():
    r_peaks, pulses = beats(480, 0.001)
    assert "too regular" in estimate_clocks(r_peaks, pulses).why
    assert not estimate_clocks(r_peaks, beats(480, 0.03, seed=1)[1]).certain
    assert "only 5 beats" in estimate_clocks(np.arange(5.0), np.arange(100.0)).why


def test_clocks_that_jump_are_refused():
    r_peaks, pulses = beats(900, 0.03)
    pulses[pulses > 500] += 2.0
    assert not estimate_clocks(r_peaks, pulses).certain


def test_steepest_rise_is_finer_than_a_sample():
    time = np.arange(0, 20, 1 / 50)
    wave = np.sin(2 * np.pi * (time - 0.303))  # rises steepest at 0.303, 1.303 ...
    peaks = np.rint(50 * (0.553 + np.arange(19))).astype(int)
    rises = steepest_rises(wave, peaks, 50)
    np.testing.assert_allclose(rises[1:], 0.303 + np.arange(1, 19), atol=2e-3)


def test_injected_clocks_are_corrected_on_real_signals(recording):
    own = examine(recording)
    assert own.certain
    moved = on_other_clock(recording, 3.2, 0)
    found = examine(moved)
    assert found.certain and found.lag_s == pytest.approx(own.lag_s + 3.2, abs=0.02)
    settled = settle_clocks(replace(moved, start="2020-01-01T00:00:00"))
    assert settled.clocks.state == "corrected" and "clock_offset" in settled.repairs
    assert settled.clocks.offset_s == pytest.approx(found.offset_s)
    assert abs(settled.clocks.left_s) < 0.02 and len(settled.ppg) == len(settled.ecg)
    assert settled.start >= "2020-01-01T00:00:00"
    # back where it was: the same windows of PPG beside the same ECG, but for the own lag
    assert examine(settled).lag_s == pytest.approx(0.25, abs=0.02)


def test_correction_keeps_labels_and_start_in_place(recording):
    labels = {"hr_monitor": (np.arange(480.0), 1.0), "age": 50.0}
    early = replace(recording, labels=labels, start="2020-01-01T00:00:00")
    cut = correct(early, -7.0, 0.0, 0.0)  # the PPG's clock is behind: its first 7 s have no pulse
    assert cut.labels["hr_monitor"][0][0] == 7 and cut.labels["age"] == 50
    begun = datetime.fromisoformat(cut.start) - datetime(2020, 1, 1)
    assert begun.total_seconds() == pytest.approx(7, abs=1 / 125)
    np.testing.assert_array_equal(cut.ecg, recording.ecg[875:])
    np.testing.assert_allclose(cut.ppg, recording.ppg[: len(cut.ppg)], atol=1e-9)
    with pytest.raises(OutOfStep, match="not recorded at the same time"):
        correct(recording, 9999.0, 0.0, 0.0)


def test_missing_samples_stay_missing(recording):
    gap = recording.ppg.copy()
    gap[5000:5010] = np.nan
    moved = correct(replace(recording, ppg=gap), 0.5, 0.0, 0.0)
    missing = np.flatnonzero(np.isnan(moved.ppg))
    assert 9 <= len(missing) <= 12 and abs(missing[0] - (5000 - 62.5)) <= 1


def test_given_clocks_are_taken_unless_the_beats_speak_against_them(recording):
    given = ClockNote("given", offset_s=3.0)
    kept = settle_clocks(replace(recording, clocks=given))
    assert kept.clocks.state == "given" and np.isfinite(kept.clocks.left_s)
    with pytest.raises(OutOfStep, match="with the clocks as given"):
        settle_clocks(replace(on_other_clock(recording, 3, 0), clocks=given))


def test_what_is_not_certain_is_left_out_of_the_store_and_told_first(recording, tmp_path):
    moved = on_other_clock(recording, 3.2, 0)
    np.savez(tmp_path / "sure.npz", ppg=moved.ppg, ecg=moved.ecg, fs=125.0, patient="a")
    unsure = read_recording(FOLDER / f"{REGULAR}.npz")
    n = 60 * 125
    np.savez(tmp_path / "unsure.npz", ppg=unsure.ppg[:n], ecg=unsure.ecg[:n], fs=125.0, patient="b")
    files = [str(tmp_path / f"{name}.npz") for name in ("sure", "unsure")]
    result = prepare(files, str(tmp_path / "store"), split="1,0,0", min_quality=-1, align=True)
    assert result["summary"][0].startswith("NOT IN STEP: 1 recordings left out")
    store = WindowStore(tmp_path / "store")
    (row,) = store.index()
    assert (row["record"], row["clock_state"]) == ("sure", "corrected")
    assert abs(row["clock_left_s"]) < 0.02
    (left_out,) = store.meta["left_out"]
    assert (
        left_out["out_of_step"] and "unsure: clocks of ECG and PPG not certain" in left_out["why"]
    )
    report(str(tmp_path / "store"), str(tmp_path / "report"))
    page = (tmp_path / "report" / "report.html").read_text()
    assert page.index("Not in step: 1 recordings") < page.index("<h2>Windows</h2>")
    assert "<td>corrected</td>" in page


def test_the_verb_shows_every_recording(recording, tmp_path):
    np.savez(tmp_path / "a.npz", ppg=recording.ppg, ecg=recording.ecg, fs=125.0)
    np.savez(tmp_path / "b.npz", ppg=recording.ppg, fs=125.0)
    result = clocks([str(tmp_path / "a.npz"), str(tmp_path / "b.npz")], str(tmp_path / "out"))
    assert (result["certain"], result["not_certain"]) == (1, 0)
    (row,) = json.loads((tmp_path / "out" / "clocks.json").read_text())["recordings"]
    assert row["offset_s"] == pytest.approx(row["lag_s"] - 0.25, abs=1e-3)
    assert (
        row["offset_low_s"] < row["offset_s"] < row["offset_high_s"] and row["drift_half_ppm"] > 0
    )
    assert "data:image/png" in (tmp_path / "out" / "clocks.html").read_text()
    with pytest.raises(UserError, match="none of the recordings has ECG"):
        clocks([str(tmp_path / "b.npz")], str(tmp_path / "out"))
