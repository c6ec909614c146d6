"""Acceleration: three axes in g at 100 Hz, from recorder to store and back."""

from dataclasses import replace

import numpy as np
import pytest

from xmae.data import Windows, WindowStore
from xmae.data.bidmc import bidmc_files
from xmae.data.prepare.prepare import prepare
from xmae.data.prepare.windowing import prepare_recording
from xmae.data.recording.acceleration import UNKNOWN, in_g
from xmae.data.recording.readers import read_recording
from xmae.data.store.flat import FlatWindows
from xmae.data.store.integrity import verify
from xmae.data.store.overview import report

SFREQ = 32


def worn(seconds, sfreq=SFREQ):
    """Return the acceleration of a wrist that lies still, then swings from 20 to 30 s at 2 Hz: (3,
    n) in g.
    """
    time = np.arange(round(seconds * sfreq)) / sfreq
    swing = np.where((time >= 20) & (time < 30), 0.5 * np.sin(4 * np.pi * time), 0)
    return np.stack([0.1 + swing, np.full(len(time), -0.2), np.full(len(time), 0.97)])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return a shipped recording with an accelerometer in m/s2 at 32 Hz, and one without any."""
    folder = tmp_path_factory.mktemp("worn")
    with_acc, without = bidmc_files()[:2]
    data = dict(np.load(with_acc))
    axes = worn(len(data["ppg"]) / 125) * 9.80665
    data |= {"acc_fs": 32.0} | dict(zip(("acc_x", "acc_y", "acc_z"), axes, strict=True))
    np.savez(folder / "worn.npz", **data)
    return [str(folder / "worn.npz"), str(without)]


@pytest.fixture(scope="module")
def store(files, tmp_path_factory):
    out = tmp_path_factory.mktemp("acc") / "store"
    prepare(files, str(out), split="1,0,0", min_quality=-1)
    return out


@pytest.mark.parametrize(
    ("one_g", "unit"), [(1, ""), (9.80665, ""), (64, ""), (1000, ""), (1000, "mg")]
)
def test_gravity_tells_the_unit(one_g, unit):
    acc, repairs = in_g(list(worn(60) * one_g), [1e-3 if unit else None] * 3)
    np.testing.assert_allclose(acc, worn(60), atol=1e-9)
    assert repairs == ([] if unit else ["acceleration_unit"])


def test_a_unit_that_nobody_tells_leaves_acceleration_out():
    assert in_g(list(worn(60) * 0.05), [None] * 3) == (None, [UNKNOWN])


def test_one_axis_is_the_length_of_the_vector():
    acc, _ = in_g([np.full(100, 0.99)], [1.0])
    np.testing.assert_array_equal(np.sqrt((acc**2).sum(0)), 0.99)


def test_store_gives_back_three_axes_at_100_hz(store):
    windows = WindowStore(store).windows()
    assert windows.acc.shape == (len(windows), 3, 1000) and windows.acc.dtype == np.float32
    mine = windows.select(windows.record == "bidmc01")
    time = mine.start_s[:, None] + np.arange(1000) / 100
    truth = worn(500, 100)[:, np.rint(time * 100).astype(int)].transpose(1, 0, 2)
    inside = np.ones(truth.shape, bool)
    inside[np.abs(time - 20)[:, None].repeat(3, 1) < 0.2] = False  # the filter rings at the steps
    inside[np.abs(time - 30)[:, None].repeat(3, 1) < 0.2] = False
    assert np.abs(mine.acc - truth)[inside].max() < 0.02
    others = windows.select(windows.record != "bidmc01")
    assert len(others) and np.isnan(others.acc).all()
    motion = dict(zip(mine.start_s, mine.measures["motion"], strict=True))
    assert motion[20] > 0.05 and motion[40] < 0.005


def test_motion_drops_a_window(files):
    recording = read_recording(files[0])
    wild = recording.acc.copy()
    n = round(10 * recording.sfreq)
    wild[2, 5 * n : 6 * n] += 0.4 * np.sin(np.arange(n) * 0.1)
    quiet, first = prepare_recording(recording, 0)
    _, second = prepare_recording(replace(recording, acc=wild), 0)
    assert second.get("motion", 0) == first.get("motion", 0) + 1 and quiet.acc is not None


def test_missing_samples_are_missing_in_their_window_only(files):
    recording = read_recording(files[0])
    gap = recording.acc.copy()
    gap[1, round(95 * recording.sfreq)] = np.nan
    windows, _ = prepare_recording(replace(recording, acc=gap), -1)
    assert windows.start_s[np.isnan(windows.acc).any(axis=(1, 2))].tolist() == [90]


def test_windows_with_and_without_are_joined_and_picked(store):
    windows = WindowStore(store).windows()
    picked = windows.select(slice(3, 5))
    np.testing.assert_array_equal(picked.acc, windows.acc[3:5])
    joined = Windows.concatenate([picked, replace(picked, acc=None)])
    assert np.isnan(joined.acc[2:]).all()
    np.testing.assert_array_equal(joined.acc[:2], picked.acc)


def test_flat_files_report_and_verification(store, tmp_path):
    flat = FlatWindows(WindowStore(store), "train", ("ppg", "acc_x", "acc_y", "acc_z"), tmp_path)
    windows = WindowStore(store).windows("train")
    rows = np.arange(len(windows))
    np.testing.assert_allclose(
        flat.signals(rows)[1:].numpy(), windows.acc.transpose(1, 0, 2), atol=1e-6
    )
    found = report(str(store), str(tmp_path / "report"))
    assert found["windows_with_acceleration"] == (windows.record == "bidmc01").sum()
    assert "three axes, g, at 100 Hz" in (tmp_path / "report" / "report.html").read_text()
    assert verify(str(store))["passed"]
