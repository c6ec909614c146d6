"""Batches of windows on the way to the model, in an order that depends on seed and step alone.

So a run that was killed and resumed sees what an unbroken run sees, and so do several processes that share one batch.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch

from xmae.data.augment import augment, draw_crops, random_crops, runs, vary_ppg
from xmae.errors import UserError
from xmae.signals.scale import minmax_scale


class Batch(NamedTuple):
    """Rows of a global batch: ppg, ecg (B, 1, L) in [-1, 1]; subject (B,) by number; which rows, of how many; seed."""

    ppg: torch.Tensor
    ecg: torch.Tensor
    subject: torch.Tensor
    rows: slice
    n_total: int
    seed: int


class SteppedBatches:
    """An order of batches, cut into epochs, that remembers its place; subclasses make the batch of a step.

    With `accumulate` above 1, so many batches in a row are parts of one step of the optimiser and share its seed.
    """

    def __init__(self, n_batches, seed, accumulate=1):
        self.n_batches, self.seed, self.accumulate, self.step = n_batches, seed, accumulate, 0

    def __len__(self):
        return self.n_batches

    def __iter__(self):
        for _ in range(self.step % self.n_batches, self.n_batches):
            self.step += 1
            step = -(-self.step // self.accumulate)  # of the optimiser
            yield self.batch(self.step, (self.seed * 1_000_003 + step) % 2**63)

    def end_epoch(self, train_loss):
        """Told the smoothed training loss at the end of an epoch."""

    def state_dict(self):
        """The place in the order, for checkpoints."""
        return {"step": self.step}

    def load_state_dict(self, state):
        """Go on from a place in the order."""
        self.step = state["step"]


@dataclass(frozen=True)
class Recipe:
    """What happens to training windows beyond the published augmentations, and how positions start.

    Parameters
    ----------
    speed : (float, float)
        Joint time stretch of PPG and ECG: lowest and highest speed; (1, 1) for none.
    noise : float
        Largest level of white noise on the PPG; see `random_crops`.
    vary : bool
        Change the look of the PPG's pulses; see `vary_ppg`.
    ramp : float
        Share of the training over which stretch, variation and polarity flips grow from nothing to full, once the
        training loss is 10 % below the variance of the ECG, that is, the model does better than drawing the mean; 0 is
        full from the first step.
    aligned : bool
        Start positions and bridge so that each ECG query looks at the PPG of its own moment; see `XMAE.align`.
    """

    speed: tuple[float, float] = (1.0, 1.0)
    noise: float = 0.0
    vary: bool = False
    ramp: float = 0.0
    aligned: bool = False


RECIPES = {
    "published": Recipe(),
    "small-data": Recipe(speed=(0.6, 1.7), noise=0.02, vary=True, ramp=0.35, aligned=True),
}


class TrainingBatches(SteppedBatches):
    """Augmented random crops of ECG and PPG.

    Parameters
    ----------
    windows : Windows
        Training windows with ECG.
    batch_size : int
        Windows of a step of the optimiser, over all processes and accumulated parts.
    n_epochs : int
        Epochs of the whole training; an epoch is as many crops as there are windows.
    seed : int
        Seed of crops and augmentations.
    recipe : Recipe
        Time stretch, and when it comes.
    rank, world_size : int
        This process, and how many share each batch.
    accumulate : int
        Parts into which each step's batch is cut, one after the other.
    pairs : bool
        Draw the second half of a batch from the subjects of the first: rows i and i + B / 2 are of one subject.
    """

    def __init__(
        self, windows, batch_size, n_epochs, seed, recipe=RECIPES["published"], rank=0, world_size=1, accumulate=1,
        pairs=False,
    ):  # fmt: skip
        windows.require_ecg("pretraining")
        self.parts = world_size * accumulate
        if batch_size % (self.parts * (1 + pairs)):
            what = f"{world_size} processes" + f" in {accumulate} parts" * (accumulate > 1) + " by pairs" * pairs
            raise UserError(f"batch_size {batch_size} cannot be shared evenly by {what}")
        super().__init__(accumulate * max(2, len(windows) // batch_size), seed, accumulate)
        self.runs = runs(windows)
        self.batch_size, self.recipe, self.n_steps = batch_size, recipe, n_epochs * self.n_batches
        self.rank, self.world_size, self.pairs = rank, world_size, pairs
        self.plateau = scaled_variance(windows.ecg)
        self.ramp_start = None  # the step at which the loss was first clearly below the plateau

    def strength(self, step):
        """How much of the recipe's augmentations a step gets, 0 to 1."""
        if not self.recipe.ramp:
            return 1.0
        if self.ramp_start is None:
            return 0.0
        return min(1.0, (step - self.ramp_start) / (self.recipe.ramp * self.n_steps))

    def end_epoch(self, train_loss):
        """Take the smoothed training loss at the end of an epoch: off the plateau, augmentation sets in."""
        if self.ramp_start is None and train_loss < 0.9 * self.plateau:
            self.ramp_start = self.step

    def state_dict(self):
        """The place in the order and in the ramp."""
        return super().state_dict() | {"ramp_start": self.ramp_start}

    def load_state_dict(self, state):
        """Go on from a place in the order and in the ramp."""
        super().load_state_dict(state)
        self.ramp_start = state["ramp_start"]

    def batch(self, step, seed):
        """The batch of one step, counted from 1 over the whole training."""
        generator, strength = torch.Generator().manual_seed(seed), self.strength(step)
        speed = [x**strength for x in self.recipe.speed]
        draw, half = draw_crops(self.runs, self.batch_size, generator), self.batch_size // 2
        if self.pairs:
            draw[0, half:] = self.runs.elsewhere(draw[0, :half], draw[0, half:])
        ppg, ecg = random_crops(self.runs, self.batch_size, generator, speed, self.recipe.noise, draw)
        if self.recipe.vary:
            ppg = vary_ppg(ppg, generator, strength)
        ppg, ecg = augment(ppg, ecg, generator, flip=0.5 * strength)
        subject = self.runs.subject[self.runs.at(draw[0])][:, 0]
        rows = slice((step - 1) % self.accumulate * self.world_size + self.rank, None, self.parts)
        return Batch(ppg[rows], ecg[rows], subject[rows], rows, self.batch_size, seed)


class ValidationBatches:
    """Windows as they are, min-max scaled, in the order of the store; the same on every process.

    With `pairs`, rows i and i + B / 2 of a batch are windows of one subject, and neighbouring pairs of different ones.
    """

    def __init__(self, windows, batch_size, pairs=False):
        windows.require_ecg("pretraining")
        if pairs:
            windows = windows.select(in_pairs(windows.subject, batch_size))
        ppg, ecg = (minmax_scale(torch.from_numpy(x)[:, None])[0] for x in (windows.ppg, windows.ecg))
        self.variance = scaled_variance(windows.ecg)
        subject = torch.from_numpy(np.unique(windows.subject, return_inverse=True)[1])
        self.parts = list(zip(*(x.split(batch_size) for x in (ppg, ecg, subject)), strict=True))

    def __len__(self):
        return len(self.parts)

    def __iter__(self):
        for index, (ppg, ecg, subject) in enumerate(self.parts):
            yield Batch(ppg, ecg, subject, slice(None), len(ppg), index)


def in_pairs(subject, batch_size):
    """Order in which rows i and i + half of a batch share a subject; an odd window is left out: (n,) -> (m,)."""
    _, number, counts = np.unique(subject, return_inverse=True, return_counts=True)
    place = np.empty(len(number), int)  # of each window among those of its subject
    place[np.argsort(number, kind="stable")] = np.concatenate([np.arange(n) for n in counts])
    half = counts[number] // 2
    first, second = (
        np.lexsort((number, np.where(mine, place % np.maximum(half, 1), np.inf)))[: mine.sum()]
        for mine in (place < half, (place >= half) & (place < 2 * half))
    )
    if not len(first):
        raise UserError("pairs of windows of one subject are needed, and no subject has two windows")
    size = batch_size // 2
    return np.concatenate([part[i : i + size] for i in range(0, len(first), size) for part in (first, second)])


def store_batches(store, needs_ecg, pairs, **settings):
    """Training and validation batches of a store; `settings` are those of `TrainingBatches`.

    Where ECG is neither needed nor there, the PPG stands in its place.
    """
    train, val = store.windows("train"), store.windows("val")
    if not needs_ecg:
        train, val = (replace(x, ecg=x.ppg) if x.ecg is None else x for x in (train, val))
    return TrainingBatches(train, pairs=pairs, **settings), ValidationBatches(val, 256, pairs)


def scaled_variance(ecg):
    """Mean variance within min-max scaled windows (n, 1000): the loss of drawing each window's mean."""
    return float(minmax_scale(ecg)[0].var(-1).mean())
