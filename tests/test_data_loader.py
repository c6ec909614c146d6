"""Loading for training: every window once an epoch, shared by ranks and workers, the same after a restart."""

import itertools

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from xmae.benchmarks.loading_speed import enlarge, rate
from xmae.data import WindowStore
from xmae.data.bidmc import bidmc_files
from xmae.data.loader import WindowLoader
from xmae.data.prepare import prepare
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
    assert sorted(itertools.chain(*again)) == seen and again != rows_of(batches)  # the next epoch, in another order


@pytest.mark.parametrize("stream", [0, 2])
def test_order_mixes_shards(store, stream):
    loader = WindowLoader(store, "train", 40, stream=stream)
    shards = [len(set(np.array(rows) // 48)) for rows in rows_of(loader)]
    assert min(shards[:-1]) >= (2 if stream else 4)  # the last of five shards is alone
    assert len(loader.held) <= 2 * stream


@pytest.mark.parametrize("stream", [0, 2])
def test_ranks_and_workers_share_without_doubles(store, stream):
    whole = rows_of(WindowLoader(store, "train", 24, stream=stream))
    ranks = [rows_of(WindowLoader(store, "train", 24, rank=rank, world_size=3, stream=stream)) for rank in range(3)]
    for number, batch in enumerate(whole):
        parts = [ranks[rank][number] for rank in range(3)]
        assert sorted(itertools.chain(*parts)) == sorted(batch) and {len(part) for part in parts} == {8}
    workers = DataLoader(WindowLoader(store, "train", 24, stream=stream), batch_size=None, num_workers=2)
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
    assert loader.flat[0].dtype == np.int16 and isinstance(loader.flat[0], np.memmap)
    monkeypatch.setattr(WindowLoader, "decode", None)
    again = WindowLoader(store, "train", 24)  # the flat file is there
    torch.testing.assert_close(again.fetch(np.array([3, 200]))[0], loader.fetch(np.array([3, 200]))[0])


def test_mistakes_are_told(store):
    with pytest.raises(UserError, match="no windows for the split 'val'"):
        WindowLoader(store, "val", 8)
    with pytest.raises(UserError, match="batch_size 500 is more than the 240 windows"):
        WindowLoader(store, "train", 500)
    with pytest.raises(UserError, match="cannot be shared evenly"):
        WindowLoader(store, "train", 25, world_size=2)


def test_speed_is_of_the_order_that_a_gpu_needs(tmp_path):
    """The benchmark at a small size; its own numbers are in benchmarks/results/loading_speed.md."""
    prepare([str(path) for path in bidmc_files()[:2]], str(tmp_path / "store"), split="1,0,0", min_quality=-1)
    enlarge(tmp_path / "store", 20)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        _, mapped = rate(WindowLoader(tmp_path / "store", None, 512), 1.0)
        _, streamed = rate(WindowLoader(tmp_path / "store", None, 512, stream=16), 1.0)
        assert mapped > 20_000 and streamed > 10_000  # per second of CPU, as the machine may be busy
    finally:
        torch.set_num_threads(threads)
