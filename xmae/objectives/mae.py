"""MAE-1D: hide three quarters of the PPG's patches, encode the rest, rebuild what was hidden with
a light decoder.

Source: He et al., *Masked Autoencoders Are Scalable Vision Learners*, CVPR 2022, arXiv
2111.06377: random masks of 75 %, targets normalised patch by patch, loss on hidden patches only,
an encoder that never sees mask tokens, AdamW with betas 0.9 and 0.95, lr 1.5e-4 * batch / 256,
weight decay 0.05 but on norms and biases, no clipping of gradients.

Ours: the decoder has 2 blocks of half the width (paper: 8 of 512); no class token, the mean of
the tokens is the embedding; positions are learned, without decay (paper: fixed sines); warm-up is
a tenth of the run (paper: 40 of 800 epochs); early stopping; the views are crops of the recording
with the recipe's changes (paper: resized crops and flips).
"""

import torch
import torch.nn.functional as F
from torch import nn

from xmae.errors import require_choice
from xmae.models.transformer import Block
from xmae.models.vit import SIZES, ViTEncoder
from xmae.objectives.masks import n_hidden, scatter
from xmae.objectives.objective import Defaults, Objective, is_weight, register
from xmae.signals.window import N_TIMES, PATCH


@register
class MAEObjective(Objective):
    """Masked reconstruction of PPG.

    Parameters
    ----------
    size : str
        "base" or "small".
    mask_ratio : float
        Share of the patches that is hidden.
    """

    name = "mae"

    paper = "He et al., CVPR 2022, arXiv 2111.06377"
    defaults = Defaults(lr=1.5e-4, lr_batch=256, weight_decay=0.05)

    def __init__(self, size="base", mask_ratio=0.75):
        super().__init__()
        require_choice("size", size, SIZES)
        self.encoder = ViTEncoder(**SIZES[size])
        width = self.encoder.embed_dim // 2 // 16 * 16
        self.mask_ratio = mask_ratio
        self.to_decoder = nn.Sequential(
            nn.LayerNorm(self.encoder.embed_dim), nn.Linear(self.encoder.embed_dim, width)
        )
        self.mask_token = nn.Parameter(torch.empty(1, 1, width))
        self.positions = nn.Parameter(torch.empty(1, N_TIMES // PATCH, width))
        for parameter in (self.mask_token, self.positions):
            nn.init.trunc_normal_(parameter, std=0.02)
        self.decoder = nn.Sequential(
            *(Block(width, 4, 4, dropout=0.0) for _ in range(2)), nn.LayerNorm(width)
        )
        self.to_samples = nn.Linear(width, PATCH)

    def decays(self, name, parameter):
        """Tell whether weight decay applies to a parameter: to weights only."""
        return is_weight(name, parameter)

    def masks(self, n, n_patches, generator):
        """Draw the masks of the global batch: bool (n, N), True = hidden, as many in each row."""
        return scatter(n, n_patches, self.mask_ratio, generator)

    def targets(self, patches):
        """Return the target of the reconstruction, each patch at mean 0 and variance 1: (B, N, 40)
        -> (B, N, 40).
        """
        mean, variance = patches.mean(-1, keepdim=True), patches.var(-1, keepdim=True)
        return (patches - mean) / (variance + 1e-6).sqrt()

    def forward(self, batch):
        """Return the mean squared error over the hidden patches."""
        n_patches = batch.ppg.shape[-1] // PATCH
        mask = self.masks(batch.n_total, n_patches, torch.Generator().manual_seed(batch.seed))[
            batch.rows
        ]
        mask = mask.to(batch.ppg.device, non_blocking=True)
        rebuilt = self.rebuild(batch.ppg, mask, n_patches - n_hidden(n_patches, self.mask_ratio))
        targets = self.targets(batch.ppg.unflatten(-1, (-1, PATCH)).squeeze(1))
        return masked_error(rebuilt, targets, mask)

    def rebuild(self, ppg, mask, n_seen):
        """Reconstruct PPG (B, 1, L) with the patches of `mask` (B, N) hidden and `n_seen` visible
        in each row: patches (B, N, 40).
        """
        seen = mask.to(torch.int8).argsort(dim=1, stable=True)[:, :n_seen]  # in the order of time
        tokens = self.to_decoder(self.encoder.tokens(ppg, seen))  # (B, n_seen, width)
        x = self.mask_token.to(tokens.dtype).expand(*mask.shape, -1)
        x = (
            x.scatter(1, seen[..., None].expand_as(tokens), tokens)
            + self.positions[:, : mask.shape[1]]
        )
        return self.to_samples(self.decoder(x))


def masked_error(rebuilt, targets, mask):
    """Return the mean squared error over hidden patches: (B, N, P), (B, N, P), bool (B, N) ->
    ().
    """
    error = F.mse_loss(rebuilt.float(), targets.float(), reduction="none").mean(-1)
    return (error * mask).sum() / mask.sum()
