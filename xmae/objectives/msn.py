"""MSN: masked views must fall to the same prototypes as the whole of another view does.

Source: Assran et al., *Masked Siamese Networks for Label-Efficient Learning*, ECCV 2022, arXiv
2204.07141, and its released configuration for ViT-S: 1024 prototypes of 256 dimensions,
similarities at temperature 0.1; a target view and an anchor view of 30 to 100 % of the image, 15
% of the anchor's patches dropped, ten focal views of 5 to 30 %; targets of a momentum encoder
(0.996, rising in a line that would reach 1 after 1.25 runs) sharpened at 0.25 and spread over the
prototypes by three rounds of Sinkhorn; mean-entropy maximisation (me-max, weight 1) against
collapse; AdamW at 1e-3 for 1,024 windows, weight decay from 0.04 to 0.4 by a cosine over 1.25
runs, not on norms, biases and prototypes; gradients of networks bounded to a norm of 3 in all.

Ours: views are stretches of time of those shares, one length for all windows of a step; they are
not drawn out, which would change the heart rate, and their patches keep the positions of their
place; changes of pulses in place of colours; no batch norm in the head, which is as wide as four
embeddings (paper: 2,048); no decay on positions; the mean token instead of a class token; no
stochastic depth; the learning rate in proportion to the batch is DINO's rule, for the paper has
one batch size; its schedule is the common one (paper: warm-up over 15 of 800 epochs from 2e-4, a
cosine over 1.25 runs); in runs of fewer than 2,500 steps the momentum starts lower, for the
targets would stay random.
"""

import math

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_

from xmae.errors import require_choice
from xmae.models.vit import SIZES, ViTEncoder
from xmae.objectives.contrast import cosines, mlp, small_start, start_prototypes
from xmae.objectives.masks import n_hidden, scatter
from xmae.objectives.momentum import MomentumTeacher
from xmae.objectives.objective import Defaults, register
from xmae.objectives.views import MILD, Draws, time_crop, view
from xmae.signals.window import PATCH

RANDOM, FOCAL = (8, 25), (2, 7)  # patches of a view: 30 to 100 %, and 5 to 30 % of 25
LONGEST_GRADIENT = 3.0  # norm, of encoder and head together
BEYOND = 1.25  # schedules are made for so many runs


@register
class MSNObjective(MomentumTeacher):
    """Masked siamese networks.

    Parameters
    ----------
    size : str
        "base" or "small".
    prototypes : int
        Clusters to fall to.
    mask_ratio : float
        Share of the random anchor view's patches that is dropped (paper: 0.15 to 0.7, more for
        larger encoders).
    n_focal : int
        Short anchor views a window.
    momentum : float
        Momentum of the target encoder at the start of a long run.

    Raises
    ------
    UserError
        If the ratio drops none or all patches of the shortest random view.
    """

    name = "msn"

    paper = "Assran et al., ECCV 2022, arXiv 2204.07141"
    defaults = Defaults(
        lr=1e-3, lr_batch=1024, weight_decay=0.04, betas=(0.9, 0.999), patience=None, keep="last"
    )

    def __init__(self, size="base", prototypes=1024, mask_ratio=0.15, n_focal=10, momentum=0.996):
        super().__init__()
        require_choice("size", size, SIZES)
        n_hidden(RANDOM[0], mask_ratio)
        self.mask_ratio, self.n_focal, self.momentum = mask_ratio, n_focal, momentum
        self.encoder = ViTEncoder(**SIZES[size])
        width = self.encoder.embed_dim
        self.head = small_start(mlp(width, 4 * width, 4 * width, 256, activation=nn.GELU))
        self.prototypes = start_prototypes(prototypes, 256)
        self.add_teacher()

    def forward(self, batch):
        """Return the cross-entropy between anchors and sharpened targets, less the entropy of the
        anchors' mean.
        """
        draws = Draws(batch)
        with torch.no_grad():
            targets = self.teacher_head(self.teacher(*self.pieces(batch.ppg, draws, RANDOM)))
        anchors = [self.masked(*self.pieces(batch.ppg, draws, RANDOM), draws)]
        if self.n_focal:
            anchors.append(self.encoder(*self.pieces(batch.ppg, draws, FOCAL, self.n_focal)))
        anchors = self.head(torch.cat(anchors)).split(len(batch.ppg))
        anchors = torch.cat([self.gather(anchor) for anchor in anchors])
        return msn_loss(anchors, self.gather(targets), self.prototypes)

    def pieces(self, ppg, draws, lengths, n_views=1):
        """Crop random views of random stretches; return them with the numbers of their first
        patches: (n_views * B, 1, L), (n_views * B,).

        One length between `lengths` (patches) is drawn for all of them.
        """
        shortest, longest = lengths
        n = int(torch.randint(shortest, longest + 1, (1,), generator=draws.generator))
        crops = [time_crop(ppg, draws, n * PATCH) for _ in range(n_views)]
        views = [view(piece, draws, MILD) for piece, _ in crops]
        return torch.cat(views), torch.cat([first for _, first in crops])

    def masked(self, piece, first, draws):
        """Embed a view without some of its patches: (B, 1, L), (B,) -> (B, D)."""
        n = piece.shape[-1] // PATCH
        hidden = scatter(draws.batch.n_total, n, self.mask_ratio, draws.generator)
        order = draws.mine(hidden).to(torch.int8).argsort(dim=1, stable=True)
        seen = order[:, : n - n_hidden(n, self.mask_ratio)]
        return self.encoder.pool(self.encoder.tokens(piece, seen, first))

    def weight_decay(self, progress):
        """Return weight decay that goes from 0.04 towards 0.4 along a cosine."""
        return super().weight_decay(progress / BEYOND)

    def before_step(self, progress):
        """Clip the gradients of encoder and head."""
        networks = [*self.encoder.parameters(), *self.head.parameters()]
        clip_grad_norm_(networks, LONGEST_GRADIENT)

    def after_step(self, progress):
        """Update the target encoder, more slowly towards the end."""
        momentum = self.momentum + (1 - self.momentum) * progress / BEYOND
        self.follow_student(momentum)


def msn_loss(anchors, targets, prototypes, temperature=0.1, sharpen=0.25):
    """Return the cross-entropy between anchors (v * n, D), view by view, and targets (n, D), less
    the entropy of the anchors' mean.

    Plus log K, so that a flat mean costs nothing: (), at least 0.
    """
    log_p = assign(anchors, prototypes, temperature)
    with torch.no_grad():
        # p^(1 / sharpen), normalised
        target = sinkhorn((assign(targets, prototypes, temperature) / sharpen).log_softmax(1))
    n_views = len(anchors) // len(targets)
    mean = log_p.exp().mean(0)
    entropy = -(mean * mean.clamp(min=1e-12).log()).sum()
    return -(target.repeat(n_views, 1) * log_p).sum(1).mean() + math.log(len(prototypes)) - entropy


def assign(z, prototypes, temperature):
    """Return the log probability of each prototype: (n, D), (K, D) -> (n, K)."""
    return (cosines(z, prototypes) / temperature).log_softmax(1)


def sinkhorn(log_p, rounds=3):
    """Balance assignments by Sinkhorn's algorithm: log (n, K) -> (n, K), each row sums to 1,
    columns nearly to n / K.

    A round scales all columns to one sum, then all rows (Cuturi, NeurIPS 2013, arXiv 1306.0895).
    """
    for _ in range(rounds):
        log_p = log_p.log_softmax(0).log_softmax(1)
    return log_p.exp()
