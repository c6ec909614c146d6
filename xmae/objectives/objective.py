"""What every way to pretrain has in common, and what the trainer asks of it."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from xmae.data.batches.batches import store_batches
from xmae.objectives.gather import gather

OBJECTIVES = {}  # {name of a method: its Objective}
FORGET = 10  # a teacher's momentum starts at most at 1 - FORGET / steps of the run


@dataclass(frozen=True)
class Defaults:
    """Default optimisation settings of a method; these are xMAE's.

    Parameters
    ----------
    epochs, batch_size : int
        Passes over the training windows; windows per step, over all processes.
    lr, weight_decay : float
        Peak learning rate and decoupled weight decay of AdamW.
    lr_batch : int or None
        Windows per step that `lr` is for; other batch sizes scale it linearly, as the paper does.
        None: the paper has no such rule, and `lr` stays.
    betas : (float, float)
        Betas of AdamW.
    patience : int or None
        Epochs without a better validation loss before stopping early; None: never.
    keep : str
        "best" (lowest validation loss) or "last" weights: last where the validation loss says
        little about the embedding, as with teachers that move, or contrast among few validation
        subjects.
    """

    epochs: int = 37
    batch_size: int = 512
    lr: float = 3e-4
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.95)
    patience: int | None = 17
    keep: str = "best"
    lr_batch: int | None = None

    def lr_at(self, batch_size):
        """Return the peak learning rate for this many windows per step."""
        return self.lr * batch_size / (self.lr_batch or batch_size)


class Objective(nn.Module):
    """A pretraining method: its networks, its masks or views, and its loss.

    A subclass takes its settings in its constructor, each with a default, `size` among them; if one
    is called `n_epochs`, it is given the epochs of the whole training. It has an `encoder` (what
    pretraining is for; see `xmae.models`) and `forward(batch)`, the training loss, a scalar. All
    trainable parameters must get a gradient from it, and all randomness must come from `batch.seed`
    or from torch's default generator, which the trainer seeds before each step.
    """

    name: ClassVar[str]  # on the command line
    paper: ClassVar[str] = ""
    defaults: ClassVar[Defaults] = Defaults()
    needs_ecg: ClassVar[bool] = False  # whether the store must hold ECG
    # whether row i and row i + B / 2 of a batch must be of one subject
    pairs: ClassVar[bool] = False
    # xMAE: loss relative to the ECG's variance, ramp of augmentations, picture
    rebuilds_ecg: ClassVar[bool] = False
    # provenance of other encoders that settings of the method name: `begun_from`, `teacher`
    learnt_from: ClassVar[dict] = {}

    @classmethod
    def batches(cls, store, **settings):
        """Make the training and validation batches of a store; see
        `xmae.data.batches.batches.store_batches`.

        A method that needs more than synchronous PPG and ECG windows makes its own here: a
        `SteppedBatches` and an iterable, whose batches are named tuples with at least `ppg` (B,
        ...) and `seed`.
        """
        return store_batches(store, needs_ecg=cls.needs_ecg, pairs=cls.pairs, **settings)

    def validate(self, batch):
        """Compute the validation loss of a batch."""
        return self(batch)

    def gather(self, x):
        """In training, gather the rows of all processes with gradients; validation is the same on
        each of them.
        """
        return gather(x) if self.training else x

    def begin(self, n_steps):
        """Prepare for a run of this many steps; called before the first step, for methods with a
        teacher.
        """

    def weight_decay(self, progress):
        """Return the decoupled weight decay at a share (0 to 1) of the run."""
        return self.defaults.weight_decay

    def decays(self, name, parameter):
        """Tell whether weight decay applies to a parameter; here, as in plain AdamW, to all."""
        return True

    def before_step(self, progress):
        """Change gradients before a step of the optimiser, for methods that clip them."""

    def after_step(self, progress):
        """Update networks after a step of the optimiser, at `progress` (0 to 1) of all steps; for
        methods with a teacher.
        """

    def end_epoch(self, val_loss):
        """Take the validation loss at the end of an epoch, and return what to log."""
        return {}

    def restart_teacher(self):
        """Reset the teacher after the encoder got other initial weights; for methods with a
        teacher.
        """

    def align(self):
        """Initialise positions so that PPG and ECG are aligned in time, if the method supports it
        and the recipe asks for it.
        """


def register(objective):
    """Register a subclass of `Objective` under its name; a class decorator.

    In this folder its module is found by itself; another package names its module as an entry point
    of the group "xmae.methods".
    """
    OBJECTIVES[objective.name] = objective
    return objective


def is_weight(name, parameter):
    """Tell whether a parameter is a weight, which decays; norms, biases, positions and prototypes
    do not.
    """
    return parameter.ndim > 1 and name.rpartition(".")[2] not in ("positions", "prototypes")


def first_momentum(published, n_steps):
    """Return the initial momentum with which a teacher forgets its random weights within the run.

    A momentum that rises to 1 by cosine leaves exp(-FORGET / 2) of them, 0.7 %; the published one,
    made for 100,000 steps, left a half after 350. It is kept from 2,500 steps on.
    """
    return max(0.0, min(published, 1 - FORGET / n_steps))


def cosine(start, end, progress):
    """Return the value between `start` and `end` on half a cosine."""
    return start + (end - start) * (1 - math.cos(math.pi * progress)) / 2


@torch.no_grad()
def follow(teacher, student, momentum):
    """Update a teacher by exponential moving average: teacher = momentum * teacher + (1 - momentum)
    * student; buffers are copied.
    """
    torch._foreach_lerp_(list(teacher.parameters()), list(student.parameters()), 1 - momentum)
    for ours, theirs in zip(teacher.buffers(), student.buffers(), strict=True):
        ours.copy_(theirs)
