"""Windows for training on more than fits into memory: random access, shuffled across shards, the
same on every restart.

The order of an epoch depends on seed and epoch alone, so a place in it is one number, and ranks and
workers share it without talking. Signals come from flat files that are memory-mapped
(`xmae.data.store.flat`); or, where there is no room for them, from the shards themselves, a few at
a time, in an order that stays with them for a while.
"""

from collections import OrderedDict
from itertools import chain

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from xmae.data.batches.batches import part_size
from xmae.data.store.flat import (
    RECORD,
    SIGNALS,
    FlatWindows,
    columns_of,
    physical,
    records_of,
    shards_of,
)
from xmae.data.store.shard import read_table
from xmae.data.store.store import WindowStore
from xmae.errors import UserError


class WindowLoader(IterableDataset):
    """Batches of PPG and ECG windows of a store; iterating gives the rest of an epoch from the
    current place.

    Parameters
    ----------
    store : str or WindowStore
        The store: a folder or an fsspec URL.
    split : str or None
        "train", "val", "test", or all.
    batch_size : int
        Windows of the global batch, over all ranks; the last, smaller batch of an epoch is left
        out.
    seed : int
        Seed of the order.
    rank, world_size : int
        This process takes every `world_size`-th window of each batch, beginning with `rank`.
    cache : str, Path or None
        Folder for the flat files, 4 kB per window; default: see `xmae.data.store.flat.caches_of`.
    stream : int
        0: memory-mapped; else the number of shards among which windows are shuffled, and that are
        held in memory twice over, 8 MB for 1,000 windows.

    Yields
    ------
    ppg, ecg : float32 tensors, shape (batch_size / world_size, 1, 1000)
        Cleaned windows in the recorder's units, not scaled.
    rows : int64 tensor, shape (batch_size / world_size,)
        Number of each window in the split, as `WindowStore.windows(split)` counts them.

    Notes
    -----
    With `torch.utils.data.DataLoader(loader, batch_size=None, num_workers=n)` each worker makes
    every n-th batch, and they come in the order of the epoch. `state_dict` and `load_state_dict`
    keep the place, epoch and batch; with workers, which work on copies and ahead, count the batches
    that arrived and set the place before each epoch.
    """

    def __init__(
        self, store, split, batch_size, seed=77, rank=0, world_size=1, cache=None, stream=0
    ):
        self.store = store if isinstance(store, WindowStore) else WindowStore(store)
        part_size(batch_size, world_size)  # must be whole
        self.shards = shards_of(self.store, split)
        self.first = np.cumsum([0, *(shard.windows for shard in self.shards)])
        self.batch_size, self.seed, self.rank, self.world_size, self.stream = (
            batch_size,
            seed,
            rank,
            world_size,
            stream,
        )
        self.epoch = self.batch = 0
        self.held = OrderedDict()  # shard -> records of each signal, the latest last
        if len(self) == 0:
            raise UserError(
                f"batch_size {batch_size} is more than the {self.first[-1]} windows of '{split}'"
            )
        self.flat = None if stream else FlatWindows(self.store, split, cache=cache)

    def __len__(self):
        return int(self.first[-1]) // self.batch_size

    def state_dict(self):
        """Return the place in the order, for checkpoints."""
        return {"epoch": self.epoch, "batch": self.batch}

    def load_state_dict(self, state):
        """Continue from a place in the order."""
        self.epoch, self.batch = state["epoch"], state["batch"]

    def order(self, epoch):
        """Return the numbers of all windows in the order of an epoch: int64 (n,)."""
        rng = np.random.default_rng([self.seed, epoch])
        if not self.stream:
            return rng.permutation(self.first[-1])
        shards = rng.permutation(len(self.shards))
        groups = [shards[i : i + self.stream] for i in range(0, len(shards), self.stream)]
        rows = [
            np.concatenate([np.arange(self.first[k], self.first[k + 1]) for k in group])
            for group in groups
        ]
        return np.concatenate([rng.permutation(part) for part in rows])

    def __iter__(self):
        worker = get_worker_info()
        here, step = (worker.id, worker.num_workers) if worker else (0, 1)
        order, begun = self.order(self.epoch), self.batch
        while self.batch < len(self):
            number, self.batch = self.batch, self.batch + 1
            if (number - begun) % step == here:
                rows = order[number * self.batch_size : (number + 1) * self.batch_size]
                yield self.fetch(rows[self.rank :: self.world_size])
        self.epoch, self.batch = self.epoch + 1, 0

    def fetch(self, rows):
        """Read windows by number: int64 (n,) -> ppg, ecg (n, 1, 1000) float32, and the numbers."""
        ppg, ecg = self.flat.signals(rows) if self.flat else physical(self.from_shards(rows))
        return ppg[:, None], ecg[:, None], torch.from_numpy(rows)

    def from_shards(self, rows):
        """Return the records (n,) of each signal of windows by number, from shards in memory or
        fetched now.
        """
        signals = [np.empty(len(rows), RECORD) for _ in SIGNALS]
        shard_of = np.searchsorted(self.first, rows, side="right") - 1
        for shard in np.unique(shard_of):
            if shard not in self.held:
                self.held[shard] = self.decode(self.shards[shard])
                while len(self.held) > 2 * self.stream:
                    self.held.popitem(last=False)
            self.held.move_to_end(shard)
            here = shard_of == shard
            within = rows[here] - self.first[shard]
            for records, held in zip(signals, self.held[shard], strict=True):
                records[here] = held[within]
        return signals

    def decode(self, shard):
        """Decode the records of each signal of one shard, after a check of its SHA-256."""
        columns = list(chain.from_iterable(columns_of(name) for name in SIGNALS))
        table = read_table(self.store.file(shard.file), shard.sha256, columns)
        return [records_of(table, name) for name in SIGNALS]
