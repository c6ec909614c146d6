"""The truth from the ECG: against beats that are known, against the monitor, and what has none."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from xmae.beats.truth import beats_of, rate_of_beats, truth_of, truth_of_windows
from xmae.data.bidmc import FOLDER
from xmae.data.prepare.prepare import prepare
from xmae.data.prepare.windowing import prepare_recording
from xmae.data.recording.readers import read_recording
from xmae.data.store.relabel import relabel
from xmae.data.store.store import WindowStore
from xmae.files import sha256
from xmae.signals.window import N_TIMES, SFREQ


def ecg_with_beats(time, n_windows):
    """Return the windows of a clean ECG whose R peaks are at these times (s): (n_windows, 1000)."""
    sample = np.arange(n_windows * N_TIMES) / SFREQ
    late = sample[:, None] - np.asarray(time)
    wave = np.exp(-0.5 * (late / 0.012) ** 2) - 0.15 * np.exp(-0.5 * ((late - 0.03) / 0.012) ** 2)
    wave += 0.2 * np.exp(-0.5 * ((late - 0.25) / 0.05) ** 2)
    noise = 0.01 * np.random.default_rng(0).normal(size=len(sample))
    return (wave.sum(axis=1) + noise).reshape(n_windows, N_TIMES)


def test_beats_are_where_they_were_put():
    rng = np.random.default_rng(1)
    time = np.cumsum(rng.normal(0.83, 0.08, 70)) + 0.4
    time = time[time < 49.5]
    truth = truth_of(ecg_with_beats(time, 5))
    found = (truth.beats + 10 * np.arange(5)[:, None])[1:].ravel()
    found, time = (
        found[np.isfinite(found)],
        time[time > 10],
    )  # the first window has a detector's run-in
    assert len(found) == len(time) and np.abs(found - time).max() < 0.01
    for k in range(1, 5):
        inside = time[(time >= 10 * k) & (time < 10 * k + 10)]
        assert truth.hr_ecg[k] == pytest.approx(60 / np.diff(inside).mean(), abs=0.3)
    assert np.isnan(truth.beats[:, -1]).all()


def test_a_window_where_the_detectors_disagree_has_no_truth(monkeypatch):
    beats = {"neurokit": np.arange(50, 3000, 80), "kalidas2017": np.arange(55, 3000, 80)}
    beats["kalidas2017"] = np.delete(beats["kalidas2017"], 20)  # at 1650: in the second window
    monkeypatch.setattr("xmae.beats.truth.r_peaks", lambda ecg, detector: beats[detector])
    found = beats_of(np.zeros((3, N_TIMES)))
    assert np.isfinite(found).any(axis=1).tolist() == [True, False, True]
    assert np.isfinite(rate_of_beats(found)).tolist() == [True, False, True]


@pytest.mark.parametrize("ecg", [np.zeros((3, N_TIMES)), ecg_with_beats([1.0, 2.0], 1)])
def test_no_pulse_or_too_few_beats_are_no_truth(ecg):
    truth = truth_of(ecg)
    assert np.isnan(truth.hr_ecg).all() and np.isnan(truth.beats).all()


def test_pieces_of_an_hour_give_what_the_whole_gives(monkeypatch):
    windows, _ = prepare_recording(read_recording(FOLDER / "bidmc05.npz"), -1)
    whole = truth_of(windows.ecg)
    monkeypatch.setattr("xmae.beats.truth.PIECE", 10)
    pieces = truth_of(windows.ecg)
    np.testing.assert_allclose(pieces.hr_ecg, whole.hr_ecg, atol=1e-6)
    np.testing.assert_array_equal(whole.hr_ecg, windows.labels["hr_ecg"])
    np.testing.assert_array_equal(truth_of_windows(windows).beats, windows.beats)


def test_the_monitor_agrees_on_a_calm_recording():
    windows, _ = prepare_recording(read_recording(FOLDER / "bidmc05.npz"), -1)
    known = np.isfinite(windows.labels["hr_ecg"])
    off = np.abs(windows.labels["hr_ecg"] - windows.labels["hr_monitor"])[known]
    assert known.mean() > 0.9 and np.median(off) < 2


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Return a store of one recording, and what `prepare` said of it."""
    path = tmp_path_factory.mktemp("truth") / "store"
    made = prepare([str(FOLDER / "bidmc05.npz")], str(path), split="1,0,0", min_quality=-1)
    return path, made


def test_prepare_keeps_and_counts_the_truth(store):
    path, made = store
    windows, meta = WindowStore(path).windows(), WindowStore(path).meta
    known = int(np.isfinite(windows.labels["hr_ecg"]).sum())
    assert meta["windows_with_truth"] == meta["shards"][0]["with_truth"] == known > 40
    assert made["windows_with_truth"] == known and any(str(known) in x for x in made["summary"])
    assert windows.beats.shape == (len(windows), 40) and windows.beats.dtype == np.float32
    np.testing.assert_allclose(rate_of_beats(windows.beats), windows.labels["hr_ecg"], rtol=1e-6)
    chosen = windows.select(windows.labels["hr_ecg"] > 0)
    assert len(chosen.beats) == known and np.isfinite(chosen.beats[:, 2]).all()


def test_a_store_of_before_calls_hr_the_monitors(store, tmp_path):
    new = WindowStore(store[0]).windows()
    meta = json.loads((store[0] / "store.json").read_text()) | {"schema_version": 2}
    (shard,) = meta["shards"]
    table = pq.read_table(store[0] / shard["file"]).drop(["beats", "label_hr_ecg"])
    names = [name.replace("label_hr_monitor", "label_hr") for name in table.column_names]
    pq.write_table(table.rename_columns(names), tmp_path / shard["file"])
    shard["sha256"] = sha256(tmp_path / shard["file"])
    del meta["index"]
    (tmp_path / "store.json").write_text(json.dumps(meta))
    old = WindowStore(tmp_path).windows()
    assert not {"hr", "hr_ecg"} & set(old.labels) and np.isnan(old.beats).all()
    np.testing.assert_array_equal(old.labels["hr_monitor"], new.labels["hr_monitor"])
    (tmp_path / "t.csv").write_text("subject,hr\n" + f"{new.subject[0]},61\n")
    relabel(str(tmp_path), str(tmp_path / "t.csv"))
    assert set(WindowStore(tmp_path).windows().labels["hr_monitor"]) == {61.0}
