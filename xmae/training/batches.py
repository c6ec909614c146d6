"""Batches of windows on the way to the model, in an order that depends on seed and step alone.

So a run that was killed and resumed sees what an unbroken run sees, and so do several processes that share one batch.
"""

from typing import NamedTuple

import torch

from xmae.data.augment import Runs, augment, random_crops, runs
from xmae.errors import UserError
from xmae.signals.scale import minmax_scale


class Batch(NamedTuple):
    """Rows of a global batch: ppg and ecg (B, 1, L) in [-1, 1]; which rows they are, of how many; seed of its randomness."""

    ppg: torch.Tensor
    ecg: torch.Tensor
    rows: slice
    n_total: int
    seed: int


class TrainingBatches:
    """An endless order of augmented random crops, cut into epochs; remembers its place (`state_dict`).

    Parameters
    ----------
    windows : Windows
        Training windows with ECG.
    batch_size : int
        Windows of the global batch, over all processes.
    seed : int
        Seed of crops and augmentations.
    rank, world_size : int
        This process, and how many share each batch.
    speed : (float, float)
        Joint time stretch of PPG and ECG: lowest and highest speed; (1, 1) for none.
    """

    def __init__(self, windows, batch_size, seed, rank=0, world_size=1, speed=(0.6, 1.7)):
        windows.require_ecg("pretraining")
        if batch_size % world_size:
            raise UserError(f"batch_size {batch_size} cannot be shared evenly by {world_size} processes")
        self.runs: Runs = runs(windows)
        self.batch_size, self.seed, self.speed = batch_size, seed, speed
        self.rows = slice(rank, None, world_size)
        self.n_batches = max(1, len(windows) // batch_size)
        self.step = 0

    def __len__(self):
        return self.n_batches

    def __iter__(self):
        for _ in range(self.step % self.n_batches, self.n_batches):
            self.step += 1
            yield self.batch(self.step)

    def batch(self, step):
        """The batch of one step, counted from 1 over the whole training."""
        seed = self.seed * 1_000_003 + step
        generator = torch.Generator().manual_seed(seed)
        ppg, ecg = augment(*random_crops(self.runs, self.batch_size, generator, speed=self.speed), generator)
        return Batch(ppg[self.rows], ecg[self.rows], self.rows, self.batch_size, seed)

    def state_dict(self):
        """The place in the order."""
        return {"step": self.step}

    def load_state_dict(self, state):
        """Go on from a place in the order."""
        self.step = state["step"]


class ValidationBatches:
    """Windows as they are, min-max scaled, in the order of the store; the same on every process."""

    def __init__(self, windows, batch_size):
        windows.require_ecg("pretraining")
        ppg, ecg = (minmax_scale(torch.from_numpy(x)[:, None])[0] for x in (windows.ppg, windows.ecg))
        self.variance = ecg.var().item()  # of the scaled ECG: the loss of always drawing its mean
        self.parts = list(zip(ppg.split(batch_size), ecg.split(batch_size), strict=True))

    def __len__(self):
        return len(self.parts)

    def __iter__(self):
        for index, (ppg, ecg) in enumerate(self.parts):
            yield Batch(ppg, ecg, slice(None), len(ppg), index)
