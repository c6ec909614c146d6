"""Loading for training: every window once an epoch, shared by ranks and workers, the same after a
restart.
"""

import itertools
import shutil
import time

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from xmae.benchmarks.studies.loading_speed import enlarge, epochs, rate, steps
from xmae.data import WindowStore
from xmae.data.batches.batches import RECIPES, SteppedBatches, TrainingBatches, store_batches
from xmae.data.batches.loader import WindowLoader
from xmae.data.bidmc import bidmc_files
from xmae.data.prepare.prepare import prepare
from xmae.data.store import flat
from xmae.data.store.flat import FlatWindows, caches_of
from xmae.errors import UserError


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("loader") / "store"
    prepare([str(path) for path in bidmc_files()[:5]], str(path), split="1,0,0", min_quality=-1)
    return path


def rows_of(batches):
    return [rows.tolist() for *_, rows in batches]


@pytest.mark.parametrize("stream", [0, 2])
def test_windows_are_those_of_the_store(store, stream):
    windows = WindowStore(store).windows("train")
    loader = WindowLoader(store, "train", 60, stream=stream)
    batches = list(loader)
    assert len(batches) == len(loader) == 4 and batches[0][0].shape == (60, 1, 1000)
    for ppg, ecg, rows in batches:
        np.testing.assert_allclose(ppg[:, 0], windows.ppg[rows], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(ecg[:, 0], windows.ecg[rows], rtol=1e-5, atol=1e-6)
    seen = sorted(itertools.chain(*rows_of(batches)))
    assert seen == list(range(240))  # each once
    again = rows_of(loader)
    # the next epoch, in another order
    assert sorted(itertools.chain(*again)) == seen and again != rows_of(batches)


@pytest.mark.parametrize("stream", [0, 2])
def test_order_mixes_shards(store, stream):
    loader = WindowLoader(store, "train", 40, stream=stream)
    shards = [len(set(np.array(rows) // 48)) for rows in rows_of(loader)]
    assert min(shards[:-1]) >= (2 if stream else 4)  # the last of five shards is alone
    assert len(loader.held) <= 2 * stream


@pytest.mark.parametrize("stream", [0, 2])
def test_ranks_and_workers_share_without_doubles(store, stream):
    whole = rows_of(WindowLoader(store, "train", 24, stream=stream))
    ranks = [
        rows_of(WindowLoader(store, "train", 24, rank=rank, world_size=3, stream=stream))
        for rank in range(3)
    ]
    for number, batch in enumerate(whole):
        parts = [ranks[rank][number] for rank in range(3)]
        assert sorted(itertools.chain(*parts)) == sorted(batch) and {
            len(part) for part in parts
        } == {8}
    workers = DataLoader(
        WindowLoader(store, "train", 24, stream=stream), batch_size=None, num_workers=2
    )
    assert rows_of(workers) == whole


@pytest.mark.parametrize("stream", [0, 2])
def test_goes_on_from_an_exact_place(store, stream):
    unbroken = WindowLoader(store, "train", 24, stream=stream)
    expected = rows_of(unbroken) + rows_of(unbroken)
    broken = WindowLoader(store, "train", 24, stream=stream)
    begun = rows_of(itertools.islice(broken, 7))
    state = broken.state_dict()
    assert state == {"epoch": 0, "batch": 7}
    resumed = WindowLoader(store, "train", 24, stream=stream)
    resumed.load_state_dict(state)
    assert begun + rows_of(resumed) + rows_of(resumed) == expected
    resumed.load_state_dict({"epoch": 0, "batch": 7})
    assert rows_of(DataLoader(resumed, batch_size=None, num_workers=2)) == expected[7:10]


def test_random_access_decodes_nothing(store, monkeypatch):
    loader = WindowLoader(store, "train", 24)
    assert all(isinstance(records.base, np.memmap) for records in loader.flat.records)
    monkeypatch.setattr(flat, "read_table", None)
    again = WindowLoader(store, "train", 24)  # the flat files are there
    torch.testing.assert_close(
        again.fetch(np.array([3, 200]))[0], loader.fetch(np.array([3, 200]))[0]
    )


def test_flat_windows_are_those_of_the_store(store, tmp_path):
    opened = WindowStore(store)
    windows, mapped = (
        opened.windows("train"),
        FlatWindows(opened, "train", cache=tmp_path / "cache"),
    )
    rows = np.array([239, 0, 47, 48])
    np.testing.assert_array_equal(mapped.signals(rows), windows.signals(rows))  # to the last bit
    np.testing.assert_array_equal(mapped.follows, windows.follows)
    assert len(mapped) == 240 and mapped.follows.sum() == 235
    np.testing.assert_array_equal(
        mapped.subject, np.unique(windows.subject, return_inverse=True)[1]
    )
    (one,) = (tmp_path / "cache").glob("*-ppg")
    one.write_bytes(one.read_bytes()[:-1])  # as after a crash of the machine
    np.testing.assert_array_equal(
        FlatWindows(opened, "train", cache=tmp_path / "cache").signals(rows)[0], windows.ppg[rows]
    )
    alone = FlatWindows(opened, "train", ("ppg",), tmp_path / "ppg")
    assert alone.signals(rows).shape == (1, 4, 1000) and not list((tmp_path / "ppg").glob("*-ecg"))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="file: is no folder"):
        FlatWindows(opened, "train", cache=tmp_path / "file")


def test_stores_that_are_not_ours_are_mapped_elsewhere(store, tmp_path, monkeypatch):
    opened = WindowStore(
        shutil.copytree(store, tmp_path / "store", ignore=shutil.ignore_patterns("cache"))
    )
    beside, home = opened.path / "cache", tmp_path / "home" / "xmae" / "windows"
    assert caches_of(opened) == [beside]
    FlatWindows(opened, "train", ("ppg",))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(flat.os, "access", lambda path, mode: False)
    assert caches_of(opened)[0] == beside and caches_of(opened)[1].parent == home
    FlatWindows(opened, "train", ("ppg",))  # somebody else has made them already
    assert not home.exists()
    FlatWindows(opened, "train")
    assert len(list(home.glob("*/*-ecg"))) == 1 and not list(beside.glob("*-ecg"))


def test_flat_files_of_what_a_store_was_are_cleared_away(store, tmp_path):
    opened = WindowStore(
        shutil.copytree(store, tmp_path / "store", ignore=shutil.ignore_patterns("cache"))
    )
    FlatWindows(opened, "train", ("ppg",))
    opened.splits[opened.entries[0].subject] = "val"
    FlatWindows(opened, "val", ("ppg",))  # all windows are still "train" as it was, so these stay
    assert len(list((opened.path / "cache").glob("*-ppg"))) == 2
    (opened.path / "cache" / ".0123456789abcdef-ppg.k1l2").touch()  # of a process that was killed
    opened.entries.pop()
    FlatWindows(opened, "train", ("ppg",))
    # both splits as they are now, and the lock
    assert len(list((opened.path / "cache").iterdir())) == 2 * 2 + 1


def test_training_holds_a_batch_not_the_store(store, monkeypatch):
    """The same training batches as from windows in memory, to the last bit, but no split is read
    whole.
    """
    recipe, opened = RECIPES["small-data"], WindowStore(store)
    windows = opened.windows("train")
    opened.splits = {
        subject: split
        for subject, split in zip(
            opened.splits, ("train", "train", "val", "train", "train"), strict=True
        )
    }
    chosen = windows.select([opened.splits[subject] == "train" for subject in windows.subject])
    held = TrainingBatches(chosen, 24, 2, 5, recipe, pairs=True)
    monkeypatch.setattr(WindowStore, "windows", None)
    monkeypatch.setattr(WindowStore, "shards", None)
    train, val = store_batches(opened, True, True, batch_size=24, n_epochs=2, seed=5, recipe=recipe)
    for batch, expected in zip(train, held, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(batch[:3], expected[:3], strict=True))
    assert train.plateau == held.plateau and val.variance == pytest.approx(train.plateau, rel=0.5)
    assert sum(len(batch.ppg) for batch in val) == 48
    seen = []
    monkeypatch.setattr(
        train.windows,
        "signals",
        lambda rows: seen.append(len(rows)) or FlatWindows.signals(train.windows, rows),
    )
    train.rank, train.world_size, train.parts = 1, 3, 3
    # its own 8 rows
    assert torch.equal(train.batch(3, 7).ppg, held.batch(3, 7).ppg[1::3]) and max(seen) <= 8 * 3


def test_no_ecg_no_problem_unless_it_is_needed(tmp_path):
    with np.load(bidmc_files()[0]) as data:
        np.savez(tmp_path / "a.npz", ppg=data["ppg"], fs=125)
        np.savez(tmp_path / "b.npz", ppg=data["ppg"][::-1], ecg=data["ecg"], fs=125)
    prepare(
        [str(tmp_path / f"{name}.npz") for name in "ab"],
        str(tmp_path / "store"),
        "0.5,0.5,0",
        min_quality=-1,
    )
    settings = {"batch_size": 24, "n_epochs": 1, "seed": 5}
    train, _ = store_batches(WindowStore(tmp_path / "store"), False, False, **settings)
    assert all(torch.isfinite(batch.ppg).all() for batch in train)
    with pytest.raises(UserError, match="pretraining needs ECG"):
        store_batches(WindowStore(tmp_path / "store"), True, False, **settings)


def test_mistakes_are_told(store):
    with pytest.raises(UserError, match="no windows for the split 'val'"):
        WindowLoader(store, "val", 8)
    with pytest.raises(UserError, match="batch_size 500 is more than the 240 windows"):
        WindowLoader(store, "train", 500)
    with pytest.raises(UserError, match="cannot be shared evenly"):
        WindowLoader(store, "train", 25, world_size=2)


@pytest.mark.extended
def test_speed_is_of_the_order_that_a_gpu_needs(tmp_path):
    """The benchmark at a small size; its own numbers are in benchmarks/results/loading_speed.md."""
    prepare(
        [str(path) for path in bidmc_files()[:2]],
        str(tmp_path / "store"),
        split="1,0,0",
        min_quality=-1,
    )
    enlarge(tmp_path / "store", 20)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        loader, stream = (
            WindowLoader(tmp_path / "store", None, 512, stream=stream) for stream in (0, 16)
        )
        ways = {
            "mapped": epochs(loader),
            "streamed": epochs(stream),
            "crops": steps(loader.flat, "published", 64),
        }
        _, mapped = rate(ways["mapped"], 0.5)
        _, streamed = rate(ways["streamed"], 0.5)
        _, crops = rate(ways["crops"], 0.5)
        # per second of CPU, as the machine may be busy
        assert mapped > 20_000 and streamed > 10_000 and crops > 10_000
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("making", "training", "low", "high"), [(0.02, 0, 0.8, 1), (0, 0.02, 0, 0.2)]
)
def test_the_time_that_a_training_waits_is_known(making, training, low, high):
    class Slow(SteppedBatches):
        def batch(self, step, seed):
            time.sleep(making)
            return step

    batches = Slow(10, 1)
    for _ in range(2):  # epochs, whose last batch asks for no other
        for _, _ in zip(batches, range(len(batches)), strict=False):
            time.sleep(training)
    assert low <= batches.waited_s / batches.passed_s <= high
