"""Windows for training on more than fits into memory: random access, shuffled across shards, the same on every restart.

The order of an epoch depends on seed and epoch alone, so a place in it is one number, and ranks and workers share it
without talking. Signals come from a flat file of int16 codes that is made once from the shards and memory-mapped; or,
where there is no room for that, from the shards themselves, a few at a time, in an order that stays with them for a
while.
"""

import hashlib
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from xmae.data.shard import read_codes, read_table
from xmae.data.store import WindowStore
from xmae.errors import UserError
from xmae.files import atomic_file
from xmae.signals.window import N_TIMES

SIGNALS = ("ppg", "ecg")
COLUMNS = [f"{name}{part}" for name in SIGNALS for part in ("", "_scale", "_offset")]


class WindowLoader(IterableDataset):
    """Batches of PPG and ECG windows of a store: iterating gives the rest of an epoch, from where it stands.

    Parameters
    ----------
    store : str or WindowStore
        The store: a folder or an fsspec URL.
    split : str or None
        "train", "val", "test", or all.
    batch_size : int
        Windows of the global batch, over all ranks; the last, smaller batch of an epoch is left out.
    seed : int
        Of the order.
    rank, world_size : int
        This process takes every `world_size`-th window of each batch, beginning with `rank`.
    cache : str, Path or None
        Folder for the flat file, 4 kB a window; default: "cache" within a local store.
    stream : int
        0: memory-mapped; else the number of shards among which windows are shuffled, and that are held in memory twice
        over, 8 MB for 1,000 windows.

    Yields
    ------
    ppg, ecg : float32 tensors, shape (batch_size / world_size, 1, 1000)
        Cleaned windows in the recorder's units, not scaled.
    rows : int64 tensor, shape (batch_size / world_size,)
        Number of each window in the split, as `WindowStore.windows(split)` counts them.

    Notes
    -----
    With `torch.utils.data.DataLoader(loader, batch_size=None, num_workers=n)` each worker makes every n-th batch, and
    they come in the order of the epoch. `state_dict` and `load_state_dict` keep the place, epoch and batch; with
    workers, which work on copies and ahead, count the batches that arrived and set the place before each epoch.
    """

    def __init__(self, store, split, batch_size, seed=77, rank=0, world_size=1, cache=None, stream=0):
        self.store = store if isinstance(store, WindowStore) else WindowStore(store)
        if batch_size % world_size:
            raise UserError(f"batch_size {batch_size} cannot be shared evenly by {world_size} processes")
        meta, splits = self.store.meta["shards"], self.store.splits
        self.shards = [shard for shard in meta if split is None or splits[shard["subject"]] == split]
        if not self.shards:
            raise UserError(f"{self.store.path}: holds no windows for the split '{split}'")
        self.first = np.cumsum([0, *(shard["windows"] for shard in self.shards)])
        self.batch_size, self.seed, self.rank, self.world_size, self.stream = batch_size, seed, rank, world_size, stream
        self.epoch = self.batch = 0
        self.held = OrderedDict()  # shard -> codes, scale and offset, the latest last
        if len(self) == 0:
            raise UserError(f"batch_size {batch_size} is more than the {self.first[-1]} windows of '{split}'")
        if not stream:
            if cache is None and not isinstance(self.store.path, Path):
                raise UserError(f"{self.store.path}: name a cache folder for a remote store, or stream it")
            self.flat = self.make_flat(Path(cache) if cache else self.store.path / "cache")

    def __len__(self):
        return int(self.first[-1]) // self.batch_size

    def state_dict(self):
        """The place in the order, for checkpoints."""
        return {"epoch": self.epoch, "batch": self.batch}

    def load_state_dict(self, state):
        """Go on from a place in the order."""
        self.epoch, self.batch = state["epoch"], state["batch"]

    def order(self, epoch):
        """Numbers of all windows in the order of an epoch: int64 (n,)."""
        rng = np.random.default_rng([self.seed, epoch])
        if not self.stream:
            return rng.permutation(self.first[-1])
        shards = rng.permutation(len(self.shards))
        groups = [shards[i : i + self.stream] for i in range(0, len(shards), self.stream)]
        rows = [np.concatenate([np.arange(self.first[k], self.first[k + 1]) for k in group]) for group in groups]
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
        """Windows by number: int64 (n,) -> ppg, ecg (n, 1, 1000) float32, and the numbers."""
        if self.stream:
            codes, scale, offset = self.from_shards(rows)
        else:
            codes, scale, offset = (x[rows] for x in self.flat)  # (n, 2, 1000), (n, 2), (n, 2)
        signals = torch.from_numpy(codes).float()
        signals.mul_(torch.from_numpy(scale)[..., None]).add_(torch.from_numpy(offset)[..., None])
        return signals[:, :1], signals[:, 1:], torch.from_numpy(rows)

    def from_shards(self, rows):
        """Codes, scales and offsets of windows by number, from shards that are held or fetched now."""
        codes = np.empty((len(rows), len(SIGNALS), N_TIMES), np.int16)
        scale, offset = np.empty((2, len(rows), len(SIGNALS)), np.float32)
        shard_of = np.searchsorted(self.first, rows, side="right") - 1
        for shard in np.unique(shard_of):
            if shard not in self.held:
                self.held[shard] = self.decode(self.shards[shard])
                while len(self.held) > 2 * self.stream:
                    self.held.popitem(last=False)
            self.held.move_to_end(shard)
            here = shard_of == shard
            within = rows[here] - self.first[shard]
            codes[here], scale[here], offset[here] = (x[within] for x in self.held[shard])
        return codes, scale, offset

    def decode(self, shard):
        """Codes (n, 2, 1000), scales and offsets (n, 2) of one shard, after its SHA-256 was checked."""
        table = read_table(self.store.file(shard["file"]), shard["sha256"], COLUMNS)
        if "ecg" not in table.column_names:
            raise UserError(f"{shard['file']}: has no ECG beside the PPG, which the loader needs")
        scale, offset = (
            np.stack([table[f"{name}_{part}"].to_numpy() for name in SIGNALS], axis=1) for part in ("scale", "offset")
        )
        return np.stack([read_codes(table, name) for name in SIGNALS], axis=1), scale, offset

    def make_flat(self, folder):
        """The flat files of these shards, made if they are not there: codes, scales, offsets, memory-mapped."""
        content = hashlib.sha256("".join(shard["sha256"] for shard in self.shards).encode()).hexdigest()[:16]
        shapes = {"codes": (N_TIMES,), "scale": (), "offset": ()}
        paths = {name: folder / f"{content}-{name}.npy" for name in shapes}
        if not all(path.is_file() for path in paths.values()):
            arrays = []
            with (
                atomic_file(paths["codes"]) as codes,
                atomic_file(paths["scale"]) as scale,
                atomic_file(paths["offset"]) as offset,
            ):
                for path, (name, shape) in zip((codes, scale, offset), shapes.items(), strict=True):
                    dtype = np.int16 if name == "codes" else np.float32
                    shape = (int(self.first[-1]), len(SIGNALS), *shape)
                    arrays.append(np.lib.format.open_memmap(path, "w+", dtype, shape))
                for number, shard in enumerate(self.shards):
                    rows = slice(self.first[number], self.first[number + 1])
                    for array, values in zip(arrays, self.decode(shard), strict=True):
                        array[rows] = values
                for array in arrays:
                    array.flush()
        return tuple(np.load(path, mmap_mode="r") for path in paths.values())
