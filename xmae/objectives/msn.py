"""MSN: masked views must fall to the same prototypes as the whole window does.

Source: Assran et al., *Masked Siamese Networks for Label-Efficient Learning*, ECCV 2022, arXiv
2204.07141: 1024 prototypes of 256 dimensions, similarities at temperature 0.1, targets of a
momentum encoder (0.996 rising to 1) sharpened at 0.25, one random anchor view with patches dropped
and several focal (short) ones, and mean-entropy maximisation (me-max, weight 1) against collapse.
Ours: focal views are crops of 3.2 s; no batch norm in the head, the mean token instead of a class
token.
"""

import copy
import math

import torch
from torch import nn

from xmae.errors import require_choice
from xmae.models.vit import SIZES, ViTEncoder
from xmae.objectives.contrast import cosines, mlp, small_start
from xmae.objectives.masks import n_hidden, scatter
from xmae.objectives.objective import Defaults, Objective, follow, register
from xmae.objectives.views import MILD, Draws, time_crop, view
from xmae.signals.window import PATCH

SHORT = 8 * PATCH  # samples


@register
class MSNObjective(Objective):
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
        Of the target encoder at the start.
    """

    name = "msn"

    paper = "Assran et al., ECCV 2022, arXiv 2204.07141"
    defaults = Defaults(lr=5e-4, weight_decay=0.04, betas=(0.9, 0.999), patience=None, keep="last")

    def __init__(self, size="base", prototypes=1024, mask_ratio=0.3, n_focal=4, momentum=0.996):
        super().__init__()
        require_choice("size", size, SIZES)
        self.mask_ratio, self.n_focal, self.momentum = mask_ratio, n_focal, momentum
        self.encoder = ViTEncoder(**SIZES[size])
        width = self.encoder.embed_dim
        self.head = small_start(mlp(width, 4 * width, 4 * width, 256, activation=nn.GELU))
        self.prototypes = nn.Parameter(torch.randn(prototypes, 256))
        self.teacher, self.teacher_head = (
            copy.deepcopy(part).requires_grad_(False) for part in (self.encoder, self.head)
        )

    def forward(self, batch):
        """Cross-entropy of anchors to sharpened targets, less the entropy of the anchors' mean."""
        draws, (size, n_patches) = Draws(batch), (len(batch.ppg), batch.ppg.shape[-1] // PATCH)
        mask = scatter(batch.n_total, n_patches, self.mask_ratio, draws.generator)[batch.rows].to(
            batch.ppg.device
        )
        seen = mask.to(torch.int8).argsort(dim=1, stable=True)[
            :, : n_patches - n_hidden(n_patches, self.mask_ratio)
        ]
        tokens = self.encoder.tokens(view(batch.ppg, draws, MILD), seen)
        anchors = [self.head(self.encoder.pool(tokens))]
        if self.n_focal:
            focal = [
                view(time_crop(batch.ppg, draws, SHORT)[0], draws, MILD)
                for _ in range(self.n_focal)
            ]
            anchors += self.head(self.encoder(torch.cat(focal))).split(size)
        with torch.no_grad():
            targets = self.teacher_head(self.teacher(view(batch.ppg, draws, MILD)))
        anchors = torch.cat([self.gather(anchor) for anchor in anchors])
        return msn_loss(anchors, self.gather(targets), self.prototypes)

    def restart_teacher(self):
        """The teacher begins where the encoder does."""
        follow(self.teacher, self.encoder, 0.0)

    def after_step(self, progress):
        """The target encoder follows, more slowly towards the end."""
        momentum = 1 - (1 - self.momentum) * (1 + math.cos(math.pi * progress)) / 2
        follow(self.teacher, self.encoder, momentum)
        follow(self.teacher_head, self.head, momentum)


def msn_loss(anchors, targets, prototypes, temperature=0.1, sharpen=0.25):
    """Cross-entropy of anchors (v * n, D), view by view, to targets (n, D), less the entropy of the
    anchors' mean.

    Plus log K, so that a flat mean costs nothing: (), at least 0.
    """
    log_p = assign(anchors, prototypes, temperature)
    with torch.no_grad():
        # p^(1 / sharpen), normalised
        target = (assign(targets, prototypes, temperature) / sharpen).softmax(1)
    n_views = len(anchors) // len(targets)
    mean = log_p.exp().mean(0)
    entropy = -(mean * mean.clamp(min=1e-12).log()).sum()
    return -(target.repeat(n_views, 1) * log_p).sum(1).mean() + math.log(len(prototypes)) - entropy


def assign(z, prototypes, temperature):
    """Log probability of each prototype: (n, D), (K, D) -> (n, K)."""
    return (cosines(z, prototypes) / temperature).log_softmax(1)
