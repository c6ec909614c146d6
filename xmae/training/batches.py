"""Batches of windows on the way to the model, in an order that depends on seed and step alone.

So a run that was killed and resumed sees what an unbroken run sees, and so do several processes that share one batch.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch

from xmae.data.augment import augment, random_crops, runs
from xmae.errors import UserError
from xmae.signals.scale import minmax_scale


class Batch(NamedTuple):
    """Rows of a global batch: ppg, ecg (B, 1, L) in [-1, 1]; which rows, of how many; seed of its randomness."""

    ppg: torch.Tensor
    ecg: torch.Tensor
    rows: slice
    n_total: int
    seed: int


class SteppedBatches:
    """An order of batches, cut into epochs, that remembers its place; subclasses make the batch of a step."""

    def __init__(self, n_batches, seed):
        self.n_batches, self.seed, self.step = n_batches, seed, 0

    def __len__(self):
        return self.n_batches

    def __iter__(self):
        for _ in range(self.step % self.n_batches, self.n_batches):
            self.step += 1
            yield self.batch(self.step, (self.seed * 1_000_003 + self.step) % 2**63)

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
    ramp : float
        Share of the training over which stretch and polarity flips grow from nothing to full, once the training
        loss is 10 % below the variance of the ECG, that is, the model does better than drawing the mean; 0 is full from
        the first step.
    aligned : bool
        Start positions and bridge so that each ECG query looks at the PPG of its own moment; see `XMAE.align`.
    """

    speed: tuple[float, float] = (1.0, 1.0)
    noise: float = 0.0
    ramp: float = 0.0
    aligned: bool = False


RECIPES = {
    "published": Recipe(),
    "small-data": Recipe(speed=(0.6, 1.7), noise=0.02, ramp=0.35, aligned=True),
}


class TrainingBatches(SteppedBatches):
    """Augmented random crops of ECG and PPG.

    Parameters
    ----------
    windows : Windows
        Training windows with ECG.
    batch_size : int
        Windows of the global batch, over all processes.
    n_epochs : int
        Epochs of the whole training; an epoch is as many crops as there are windows.
    seed : int
        Seed of crops and augmentations.
    recipe : Recipe
        Time stretch, and when it comes.
    rank, world_size : int
        This process, and how many share each batch.
    """

    def __init__(self, windows, batch_size, n_epochs, seed, recipe=RECIPES["published"], rank=0, world_size=1):
        windows.require_ecg("pretraining")
        if batch_size % world_size:
            raise UserError(f"batch_size {batch_size} cannot be shared evenly by {world_size} processes")
        super().__init__(max(2, len(windows) // batch_size), seed)
        self.runs = runs(windows)
        self.batch_size, self.recipe, self.n_steps = batch_size, recipe, n_epochs * self.n_batches
        self.rows = slice(rank, None, world_size)
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
        crops = random_crops(self.runs, self.batch_size, generator, speed, self.recipe.noise)
        ppg, ecg = augment(*crops, generator, flip=0.5 * strength)
        return Batch(ppg[self.rows], ecg[self.rows], self.rows, self.batch_size, seed)


class ValidationBatches:
    """Windows as they are, min-max scaled, in the order of the store; the same on every process."""

    def __init__(self, windows, batch_size):
        windows.require_ecg("pretraining")
        ppg, ecg = (minmax_scale(torch.from_numpy(x)[:, None])[0] for x in (windows.ppg, windows.ecg))
        self.variance = scaled_variance(windows.ecg)
        self.parts = list(zip(ppg.split(batch_size), ecg.split(batch_size), strict=True))

    def __len__(self):
        return len(self.parts)

    def __iter__(self):
        for index, (ppg, ecg) in enumerate(self.parts):
            yield Batch(ppg, ecg, slice(None), len(ppg), index)


def scaled_variance(ecg):
    """Mean variance within min-max scaled windows (n, 1000): the loss of drawing each window's mean."""
    return float(minmax_scale(ecg)[0].var(-1).mean())
