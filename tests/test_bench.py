"""The stop-watch, the reference and the machine's description."""

import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from xmae.benchmarks.bench import resampled_medians, time_sessions
from xmae.benchmarks.hardware import hardware
from xmae.benchmarks.reference import (
    evenly,
    load_reference,
    make_reference,
    reference_windows,
    save_reference,
)
from xmae.data.bidmc import bidmc_files
from xmae.data.prepare import prepare_recording
from xmae.data.readers import read_recording
from xmae.data.store import Windows
from xmae.errors import UserError
from xmae.evaluation.embedding import embed_windows
from xmae.models import McuStudent, load_encoder, save_encoder


@pytest.fixture(scope="module")
def windows():
    """A minute of two patients, one to train on and one to test on."""
    parts = [prepare_recording(read_recording(path), min_quality=-1)[0].select(slice(6)) for path in bidmc_files()[:2]]
    for part, split in zip(parts, ("train", "test"), strict=True):
        part.split = np.full(len(part), split)
    return Windows.concatenate(parts)


@pytest.fixture
def weights(tmp_path):
    """A folder with a student's fp32 weights, as a bundle has it."""
    torch.manual_seed(0)
    save_encoder(McuStudent(), tmp_path / "student.safetensors", {})
    return SimpleNamespace(path=tmp_path)


def test_times_are_of_single_windows_in_every_round():
    calls = []

    def session(seconds):
        return lambda ppg: (calls.append(len(ppg)), time.sleep(seconds))

    times = time_sessions({"fast": session(0.001), "slow": session(0.01)}, np.zeros((4, 1000)), rounds=3)
    assert set(calls) == {1} and len(calls) == 2 * 3 * (4 + 1)  # one to warm up in each round
    assert times["fast"].shape == (3, 4)
    assert (times["slow"] >= 0.01).all() and np.median(times["fast"]) < 0.01


def test_the_interval_comes_from_whole_rounds():
    steady = np.tile(np.random.default_rng(0).normal(1, 0.01, 20), (10, 1))
    assert np.ptp(resampled_medians(steady)) == 0
    drifting = steady + np.linspace(0, 1, 10)[:, None]
    assert np.ptp(resampled_medians(drifting)) > 0.2


def test_reference_is_the_encoder_and_survives_the_disk(windows, weights, tmp_path):
    made = make_reference(weights, windows, "cpu")
    encoder = load_encoder(tmp_path / "student.safetensors")
    test = windows.select(windows.split == "test")
    assert made.embeddings["student"] == pytest.approx(embed_windows(encoder, test), abs=1e-6)
    train = embed_windows(encoder, windows.select(windows.split == "train"))
    assert made.train_mean["student"] == pytest.approx(train.mean(axis=0), abs=1e-6)
    assert made.info["latency_ms"]["student"] > 0 and len(made.info["weights"]["student"]) == 64
    save_reference(made, tmp_path / "ref")
    loaded = load_reference(tmp_path / "ref")
    assert (loaded.embeddings["student"] == made.embeddings["student"]).all() and loaded.info == made.info
    shuffled = windows.select(np.random.default_rng(0).permutation(len(windows.ppg)))
    assert (reference_windows(loaded, shuffled).ppg == test.ppg).all()


def test_reference_of_other_windows_is_refused(windows, weights):
    made = make_reference(weights, windows, "cpu")
    with pytest.raises(UserError, match="not in the store"):
        reference_windows(made, windows.select(windows.split == "train"))
    with pytest.raises(UserError, match="test and training windows"):
        make_reference(weights, windows.select(windows.split == "train"), "cpu")


def test_damaged_reference_is_refused(windows, weights, tmp_path):
    save_reference(make_reference(weights, windows, "cpu"), tmp_path)
    whole = (tmp_path / "reference.npz").read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", whole[:100] + bytes(200) + whole[300:]):
        (tmp_path / "reference.npz").write_bytes(damaged)
        with pytest.raises(UserError, match="not readable as a reference"):
            load_reference(tmp_path)
    (tmp_path / "reference.json").unlink()
    with pytest.raises(UserError, match="no such file"):
        load_reference(tmp_path)


def test_evenly_keeps_both_ends():
    assert evenly(np.arange(10), 4).tolist() == [0, 3, 6, 9]
    assert evenly(np.arange(3), 4).tolist() == evenly(np.arange(3), 0).tolist() == [0, 1, 2]


def test_hardware_names_the_machine():
    found = hardware()
    assert found["cpu"] and found["cores"] >= 1 and found["memory_gib"] > 0
    assert found["packages"]["torch"] == torch.__version__
