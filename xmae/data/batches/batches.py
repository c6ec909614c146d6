"""Batches of windows on the way to the model, in an order that depends on seed and step alone.

So a run that was killed and resumed sees what an unbroken run sees, and so do several processes
that share one batch (not where windows are generated: see `xmae.data.batches.timing`). Windows stay
on disk, memory-mapped, and each process makes its own rows of a batch, so memory is that of a
batch.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from time import monotonic
from typing import NamedTuple

import numpy as np
import torch

from xmae.data.batches.augment import augment, draw_crops, random_crops, runs, vary_ppg
from xmae.data.store.flat import SIGNALS, FlatWindows
from xmae.errors import UserError
from xmae.signals.scale import minmax_scale


class Batch(NamedTuple):
    """Rows of a global batch: ppg, ecg (B, 1, L) in [-1, 1]; subject numbers (B,); the rows' place
    in the global batch and its size; seed.
    """

    ppg: torch.Tensor
    ecg: torch.Tensor
    subject: torch.Tensor
    rows: slice
    n_total: int
    seed: int


class SteppedBatches:
    """Batches in a fixed order, cut into epochs, that can be resumed; subclasses make the batch of
    a step.

    While a batch is trained on, another thread makes the next one. With `accumulate` above 1, so
    many batches in a row are parts of one step of the optimiser and share its seed.

    Attributes
    ----------
    waited_s, passed_s : float
        Time that the training waited for batches, and all of its time, s; without the last batch of
        each epoch.
    """

    def __init__(self, n_batches, seed, accumulate=1):
        self.n_batches, self.seed, self.accumulate, self.step = n_batches, seed, accumulate, 0
        self.waited_s = self.passed_s = 0.0

    def __len__(self):
        return self.n_batches

    def __iter__(self):
        last = (self.step // self.n_batches + 1) * self.n_batches  # of the epoch
        with ThreadPoolExecutor(1) as other:
            coming = other.submit(self.make, self.step + 1)
            asked, waited = None, 0.0
            while self.step < last:
                now = monotonic()
                if asked is not None:  # of the last batch nobody tells when it was trained on
                    self.passed_s, self.waited_s = (
                        self.passed_s + now - asked,
                        self.waited_s + waited,
                    )
                batch, asked = coming.result(), now
                waited = monotonic() - now
                self.step += 1
                if self.step < last:
                    coming = other.submit(self.make, self.step + 1)
                yield batch

    def make(self, step):
        """Make the batch of one step, counted from 1, with the seed of its optimiser step."""
        return self.batch(step, (self.seed * 1_000_003 + -(-step // self.accumulate)) % 2**63)

    def end_epoch(self, train_loss):
        """Take the smoothed training loss at the end of an epoch."""

    def facts(self):
        """Return what a run should record of its training data, by name."""
        return {}

    def state_dict(self):
        """Return the place in the order, for checkpoints."""
        return {"step": self.step}

    def load_state_dict(self, state):
        """Continue from a place in the order."""
        self.step = state["step"]


@dataclass(frozen=True)
class Recipe:
    """Changes to training windows beyond the published augmentations, and how positions start.

    Parameters
    ----------
    speed : (float, float)
        Joint time stretch of PPG and ECG: lowest and highest speed; (1, 1) for none.
    noise : float
        Largest level of white noise on the PPG; see `random_crops`.
    vary : bool
        Change the look of the PPG's pulses; see `vary_ppg`.
    ramp : float
        Share of the training over which stretch, variation and polarity flips grow from nothing to
        full, once the training loss is 10 % below the variance of the ECG, that is, the model does
        better than drawing the mean; 0 is full from the first step.
    aligned : bool
        Start positions and bridge so that each ECG query looks at the PPG of its own moment; see
        `XMAE.align`.
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


def part_size(batch_size, world_size, accumulate=1, pairs=False):
    """Return how many windows of a batch each part gets: of each process, and of each accumulated
    part.

    Raises
    ------
    UserError
        If they do not get the same number of windows, or, with `pairs`, of pairs.
    """
    parts = world_size * accumulate
    if batch_size % (parts * (1 + pairs)):
        what = f"{world_size} processes"
        if accumulate > 1:
            what += f" in {accumulate} parts"
        if pairs:
            what += " by pairs"
        raise UserError(f"batch_size {batch_size} cannot be shared evenly by {what}")
    return batch_size // parts


class TrainingBatches(SteppedBatches):
    """Augmented random crops of ECG and PPG.

    Parameters
    ----------
    windows : FlatWindows or Windows
        Training windows. Of a flat file of PPG alone, the PPG stands in the place of the ECG too.
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
        Draw the second half of a batch from the subjects of the first: rows i and i + B / 2 are of
        one subject.
    """

    def __init__(
        self, windows, batch_size, n_epochs, seed, recipe=RECIPES["published"], rank=0,
        world_size=1, accumulate=1, pairs=False,
    ):  # fmt: skip
        self.parts = world_size * accumulate
        part_size(batch_size, world_size, accumulate, pairs)  # must be whole
        super().__init__(accumulate * max(2, len(windows) // batch_size), seed, accumulate)
        self.windows, self.runs = windows, runs(windows)
        self.batch_size, self.recipe, self.n_steps = batch_size, recipe, n_epochs * self.n_batches
        self.rank, self.world_size, self.pairs = rank, world_size, pairs
        self.ramp_start = None  # the step at which the loss was first clearly below the plateau

    @cached_property
    def plateau(self):
        """Return the loss of predicting each window's mean."""
        return scaled_variance(self.windows)

    def strength(self, step):
        """Return the strength of the recipe's augmentations at a step, 0 to 1."""
        if not self.recipe.ramp:
            return 1.0
        if self.ramp_start is None:
            return 0.0
        return min(1.0, (step - self.ramp_start) / (self.recipe.ramp * self.n_steps))

    def end_epoch(self, train_loss):
        """Take the smoothed training loss at the end of an epoch; below the plateau the
        augmentations set in.
        """
        if self.recipe.ramp and self.ramp_start is None and train_loss < 0.9 * self.plateau:
            self.ramp_start = self.step

    def state_dict(self):
        """Return the place in the order and in the ramp of augmentations."""
        return super().state_dict() | {"ramp_start": self.ramp_start}

    def load_state_dict(self, state):
        """Continue from a place in the order and in the ramp."""
        super().load_state_dict(state)
        self.ramp_start = state["ramp_start"]

    def batch(self, step, seed):
        """Make the batch of one step, counted from 1 over the whole training."""
        generator, strength = torch.Generator().manual_seed(seed), self.strength(step)
        speed = [x**strength for x in self.recipe.speed]
        rows = slice((step - 1) % self.accumulate * self.world_size + self.rank, None, self.parts)
        n, draw, half = (
            self.batch_size,
            draw_crops(self.batch_size, generator),
            self.batch_size // 2,
        )
        if self.pairs:
            draw[0, half:] = self.runs.elsewhere(draw[0, :half], draw[0, half:])
        ppg, ecg = random_crops(self.runs, n, generator, speed, self.recipe.noise, draw, rows)
        if self.recipe.vary:
            ppg = vary_ppg(ppg, generator, strength, (n, rows))
        ppg, ecg = augment(ppg, ecg, generator, 0.5 * strength, (n, rows))
        subject = self.runs.subject[self.runs.at(draw[0, rows])][:, 0]
        return Batch(ppg, ecg, subject, rows, n, seed)


class ValidationBatches:
    """Unchanged windows, min-max scaled, in the order of the store; the same on every process.

    With `pairs`, rows i and i + B / 2 of a batch are windows of one subject, and neighbouring pairs
    of different ones.
    """

    def __init__(self, windows, batch_size, pairs=False):
        order = in_pairs(windows.subject, batch_size) if pairs else np.arange(len(windows))
        subject = torch.from_numpy(np.unique(windows.subject[order], return_inverse=True)[1])
        self.windows, self.order, self.subject, self.batch_size = (
            windows,
            order,
            subject,
            batch_size,
        )

    @cached_property
    def variance(self):
        """Return the variance of the scaled ECG; see `scaled_variance`."""
        return scaled_variance(self.windows)

    def __len__(self):
        return -(-len(self.order) // self.batch_size)

    def __iter__(self):
        for index in range(len(self)):
            rows = slice(index * self.batch_size, (index + 1) * self.batch_size)
            x = minmax_scale(torch.as_tensor(self.windows.signals(self.order[rows])))[0][:, :, None]
            yield Batch(x[0], x[-1], self.subject[rows], slice(None), x.shape[1], index)


def in_pairs(subject, batch_size):
    """Return an order in which rows i and i + half of a batch share a subject, without odd windows:
    (n,) -> (m,).
    """
    _, number, counts = np.unique(subject, return_inverse=True, return_counts=True)
    place = np.empty(len(number), int)  # of each window among those of its subject
    place[np.argsort(number, kind="stable")] = np.concatenate([np.arange(n) for n in counts])
    half = counts[number] // 2
    first, second = (
        np.lexsort((number, np.where(mine, place % np.maximum(half, 1), np.inf)))[: mine.sum()]
        for mine in (place < half, (place >= half) & (place < 2 * half))
    )
    if not len(first):
        raise UserError(
            "pairs of windows of one subject are needed, and no subject has two windows"
        )
    size = batch_size // 2
    parts = product(range(0, len(first), size), (first, second))
    return np.concatenate([part[i : i + size] for i, part in parts])


def store_batches(store, needs_ecg, pairs, **settings):
    """Make the training and validation batches of a store; `settings` are those of
    `TrainingBatches`.
    """
    train, val = (
        FlatWindows(store, split, SIGNALS if needs_ecg else ("ppg",)) for split in ("train", "val")
    )
    return TrainingBatches(train, pairs=pairs, **settings), ValidationBatches(val, 256, pairs)


def scaled_variance(windows, at_once=1024):
    """Return the mean variance within min-max scaled windows of ECG: the loss of predicting each
    window's mean.
    """
    rows = np.arange(len(windows))
    parts = (
        np.asarray(windows.signals(rows[k : k + at_once]))[-1] for k in range(0, len(rows), at_once)
    )
    return float(np.concatenate([minmax_scale(ecg)[0].var(-1) for ecg in parts]).mean())
