"""DINO: a student must say of short and long crops what a slowly moving teacher says of long
ones.

Source: Caron et al., *Emerging Properties in Self-Supervised Vision Transformers*, ICCV 2021,
arXiv 2104.14294: several crops, student temperature 0.1, centre with momentum 0.9, teacher
momentum 0.996 rising to 1 by cosine, a head of three layers, normalised bottleneck and
weight-normalised prototypes that rest for the first hundredth of the run; AdamW at 5e-4 * batch /
256 with weight decay 0.04 rising to 0.4 by cosine, not on norms and biases; each parameter's
gradient is bounded to a norm of 3.

Ours: crops in time, of 8 s (teacher and student) and four of 3.2 s (student; paper: eight), whose
patches keep the positions of their place in the window, so that all positions of a whole window
are trained (images' crops are drawn out, and positions with them; here that would change the
heart rate); 1024 prototypes (paper: 65,536), without decay, as positions; the mean token instead
of a class token; a head as wide as four embeddings; no stochastic depth; in runs of fewer than
2,500 steps the teacher's momentum starts lower, for it would keep its random weights; the centre
starts at the mean of the first batch (from zero, all answers agree for the first steps, and the
embedding narrows); a sharper teacher: at the paper's temperature (0.04, rising to 0.07) the
answers stayed even, the loss at log K, for 500 steps on BIDMC, at 0.015 it fell from 4.3 to 2.2
(128 prototypes, small size, measured when the prototypes started 28 times as long).
"""

from itertools import chain, product

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_

from xmae.errors import require_choice
from xmae.models.vit import SIZES, ViTEncoder
from xmae.objectives.contrast import cosines, mlp, small_start, start_prototypes
from xmae.objectives.gather import mean_over_processes
from xmae.objectives.momentum import MomentumTeacher
from xmae.objectives.objective import Defaults, cosine, register
from xmae.objectives.views import MILD, Draws, time_crop, view
from xmae.signals.window import PATCH

LONG, SHORT = 20 * PATCH, 8 * PATCH  # samples
LONGEST_GRADIENT = 3.0  # norm, of each parameter
REST = 0.01  # share of the run in which prototypes do not move: 1 of 100 epochs


@register
class DINOObjective(MomentumTeacher):
    """Self-distillation without labels.

    Parameters
    ----------
    size : str
        "base" or "small".
    prototypes : int
        Width of the head's output.
    n_short : int
        Short crops per window.
    temperature : float
        Temperature of the teacher's outputs; the lower, the sharper.
    momentum : float
        Momentum of the teacher at the start of a long run.
    """

    name = "dino"

    paper = "Caron et al., ICCV 2021, arXiv 2104.14294"
    defaults = Defaults(
        lr=5e-4, lr_batch=256, weight_decay=0.04, betas=(0.9, 0.999), patience=None, keep="last"
    )

    def __init__(self, size="base", prototypes=1024, n_short=4, temperature=0.015, momentum=0.996):
        super().__init__()
        require_choice("size", size, SIZES)
        self.n_short, self.temperature, self.momentum = n_short, temperature, momentum
        self.encoder = ViTEncoder(**SIZES[size])
        self.head = PrototypeHead(self.encoder.embed_dim, prototypes)
        self.add_teacher()
        self.register_buffer("centre", torch.zeros(prototypes))
        self.register_buffer("centred", torch.tensor(False))

    def forward(self, batch):
        """Return the cross-entropy between the student's and the teacher's outputs, over pairs of
        different crops.
        """
        draws = Draws(batch)
        long = [self.crop(batch.ppg, draws, LONG) for _ in range(2)]
        short = [self.crop(batch.ppg, draws, SHORT) for _ in range(self.n_short)]
        student = list(
            chain.from_iterable(
                self.answers(self.encoder, self.head, crops) for crops in (long, short)
            )
        )
        with torch.no_grad():
            teacher = self.answers(self.teacher, self.teacher_head, long)
        if self.training:
            mean = mean_over_processes(torch.cat(teacher).mean(0))
            self.centre.copy_(torch.where(self.centred, self.centre, mean))
            self.centred.fill_(True)
        loss = dino_loss(student, teacher, self.centre.clone(), self.temperature)
        if self.training:
            self.centre.lerp_(mean, 0.1)
        return loss

    def crop(self, ppg, draws, n_times):
        """Crop a random view of a random stretch, (B, 1, n_times); return it with the number of its
        first patch, (B,).
        """
        piece, first = time_crop(ppg, draws, n_times)
        return view(piece, draws, MILD), first

    def answers(self, encoder, head, crops):
        """Compute the outputs of one network for crops of one length: list of (crops (B, 1, L),
        first (B,)) -> list of (B, K).
        """
        if not crops:
            return []
        pieces, first = (torch.cat(parts) for parts in zip(*crops, strict=True))
        return head(encoder(pieces, first)).chunk(len(crops))

    def before_step(self, progress):
        """Clip each gradient; at the start the prototypes get none."""
        for parameter in self.parameters():
            if parameter.grad is not None:
                clip_grad_norm_([parameter], LONGEST_GRADIENT)
        if progress < REST:
            self.head.prototypes.grad = None

    def after_step(self, progress):
        """Update the teacher, more slowly towards the end."""
        momentum = cosine(self.momentum, 1.0, progress)
        self.follow_student(momentum)


class PrototypeHead(nn.Module):
    """Head from embedding (B, D) to similarities (B, K) between its bottleneck and K prototypes,
    all of unit length.
    """

    def __init__(self, width, prototypes, bottleneck=256):
        super().__init__()
        self.mlp = small_start(mlp(width, 4 * width, 4 * width, bottleneck, activation=nn.GELU))
        self.prototypes = start_prototypes(prototypes, bottleneck)

    def forward(self, x):
        """Map (B, D) -> (B, K)."""
        return cosines(self.mlp(x), self.prototypes)


def dino_loss(student, teacher, centre, temperature):
    """Return the cross-entropy from teacher to student, averaged over pairs of different crops.

    Parameters
    ----------
    student, teacher : lists of tensors (B, K)
        Answers to crops; the teacher's crops are the first of the student's.
    centre : tensor (K,)
        Taken off the teacher's answers.
    temperature : float
        Temperature of the teacher; the student's is 0.1.
    """
    wanted = [((answer - centre) / temperature).softmax(-1).detach() for answer in teacher]
    said = [(answer / 0.1).log_softmax(-1) for answer in student]
    pairs = [
        -(p * q).sum(-1).mean()
        for (i, p), (j, q) in product(enumerate(wanted), enumerate(said))
        if i != j
    ]
    return torch.stack(pairs).mean()
