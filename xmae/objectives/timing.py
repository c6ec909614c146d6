"""Timing: a student of convolutions learns when the heart beats, from generated and real people.

Each output says where in its beat the heart is and how long the beat lasts
(`xmae.beats.timing_map`). Half of the windows are generated, with exact beats; half are the
store's, with those of its ECG. Half pass the streaming front end. With a teacher, the student also
follows what that one says of the same windows: its map is short where it is unsure. See
docs/twin.md.
"""

import numpy as np
import torch
import torch.nn.functional as F

from xmae.data.batches.timing import TimedRecordings, TimedWindows, TimingBatches
from xmae.errors import UserError, require_at_least, require_choice
from xmae.models.beat_student import BEAT_TIERS, BeatStudent, takes_acceleration
from xmae.models.checkpoint import load_encoder
from xmae.objectives.objective import Defaults, Objective, register

PHASE_WEIGHT, INTERVAL_WEIGHT = 1.0, 0.5
BETA = 0.25  # where the loss turns from square to straight
STEPS = 250  # batches that make an epoch
FOLLOW = 0.5  # weight of a teacher's map beside exact beats


def timing_loss(made, target, weight):
    """Return the loss between timing maps: smooth L1 of cosine and sine, and of the log interval,
    weighted by moment.

    Parameters
    ----------
    made, target : tensor, shape (B, 3, n)
    weight : tensor, shape (B, 2, n)
        Weights of phase and interval.

    Returns
    -------
    scalar tensor
    """
    loss = F.smooth_l1_loss(made.float(), target, reduction="none", beta=BETA)
    phase = ((loss[:, 0] + loss[:, 1]) * weight[:, 0]).sum() / weight[:, 0].sum().clamp(min=1)
    interval = (loss[:, 2] * weight[:, 1]).sum() / weight[:, 1].sum().clamp(min=1)
    return PHASE_WEIGHT * phase + INTERVAL_WEIGHT * interval


def guide(name):
    """Load an encoder whose timing map a student may follow.

    Raises
    ------
    UserError
        If it has none for PPG alone.
    """
    teacher = load_encoder(name)
    if not hasattr(teacher, "timing") or takes_acceleration(teacher):
        raise UserError(f"{name}: reads no beats from PPG alone, so no student can follow it")
    return teacher


@torch.no_grad()
def teacher_map(teacher, ppg):
    """Return a teacher's timing map of windows as a target, (B, 3, n), and its weights, (B, 2, n).

    The phase counts everywhere, as it is short where the teacher is unsure. The interval has no
    such sign, and counts as far as the phase is long.
    """
    target = teacher.timing(ppg).float()
    sure = target[:, :2].square().sum(1).clamp(max=1)
    return target, torch.stack([torch.ones_like(sure), sure], 1)


@torch.no_grad()
def grow_from(student, smaller):
    """Initialise a student from a smaller one with as many layers; new channels contribute nothing
    at first.

    Channels that a layer takes in anew have weight 0; those that it gives anew are drawn.

    Raises
    ------
    UserError
        If the layers do not correspond.
    """
    own, given = student.state_dict(), smaller.state_dict()
    if own.keys() != given.keys():
        raise UserError("a student can start from another only if both have the same layers")
    for name, tensor in own.items():
        old = given[name]
        if name.startswith(("branch", "head")) or not tensor.ndim:
            continue
        if tensor.ndim != old.ndim or (np.less(tensor.shape, old.shape).any()):
            raise UserError("a student can start from a smaller one only")
        if tensor.ndim > 1:
            tensor[:, old.shape[1] :] = 0
        tensor[tuple(slice(n) for n in old.shape)] = old


@register
class TimingObjective(Objective):
    """Training of a student's timing map.

    Parameters
    ----------
    size : str
        One of `xmae.models.beat_student.BEAT_TIERS`.
    real : float
        Share of real windows, 0 to 1.
    start : str
        A student, by name or path, whose weights are the start; "" = random ones.
    teacher : str
        An encoder with a timing map, by name or path, whose map is followed too; "" = none.
    follow : float
        Weight of the teacher's map, beside 1 of exact beats.
    steps : int
        Batches that make an epoch.
    """

    name = "timing"

    paper = "dense beat timing is ours (docs/twin.md), beside Zhou et al., arXiv 2605.00973"
    defaults = Defaults(epochs=64, batch_size=64, lr=3e-3, patience=None, keep="last")
    needs_ecg = True

    def __init__(self, size="mcu", real=0.5, start="", teacher="", follow=FOLLOW, steps=STEPS):
        super().__init__()
        require_choice("size", size, BEAT_TIERS)
        self.model, self.real, self.steps = BeatStudent(size), real, steps
        require_at_least(0, follow=follow)
        smaller = load_encoder(start) if start else None
        if smaller is not None:
            grow_from(self.model, smaller)
        # in a tuple it is no part of the network: not trained, saved, moved or cast with it
        self.guides, self.follow = (guide(teacher),) if teacher else (), follow
        known = {"begun_from": smaller, "teacher": next(iter(self.guides), None)}
        self.learnt_from = {
            name: encoder.provenance for name, encoder in known.items() if encoder is not None
        }

    @property
    def encoder(self):
        """Return the student, which is the result of pretraining."""
        return self.model

    def batches(self, store, batch_size, seed, rank=0, world_size=1, accumulate=1, **_):
        """Make training batches from the twin and the store, and validation windows from the
        store.
        """
        recordings = TimedRecordings(store.windows("train"))
        acc = self.model.sizes.n_inputs > 1
        train = TimingBatches(
            recordings, batch_size, self.steps, seed, self.real, acc=acc,
            rank=rank, world_size=world_size, accumulate=accumulate,
        )  # fmt: skip
        return train, TimedWindows(TimedRecordings(store.windows("val")))

    def forward(self, batch):
        """Compute the timing loss of a batch; the embedding is trained later, by distillation."""
        made = self.model.timing(batch.ppg)
        loss = timing_loss(made, batch.target, batch.weight)
        for teacher in self.guides:
            taught = teacher_map(teacher.to(batch.ppg.device), batch.ppg[:, :1])
            loss = loss + self.follow * timing_loss(made, *taught)
        return loss

    def validate(self, batch):
        """Compute the loss on exact beats alone."""
        return timing_loss(self.model.timing(batch.ppg), batch.target, batch.weight)
