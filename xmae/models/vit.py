"""ViT-1D: patches of raw waveform, learned positions, transformer blocks.

Source: Dosovitskiy et al., ICLR 2021, arXiv 2010.11929, in one dimension. The encoder of the masked
and self-distilling rivals of xMAE. It has no stem and no class token: its embedding is, as xMAE's,
the mean of the tokens, normalised.
"""

import torch
from torch import nn

from xmae.models.transformer import Block, check_waveform
from xmae.signals.window import N_TIMES, PATCH

SIZES = {  # base: 6.67 M parameters
    "base": {"width": 224, "depth": 11, "n_heads": 7},
    "small": {"width": 64, "depth": 2, "n_heads": 4},
}


class ViTEncoder(nn.Module):
    """ViT-1D: scaled waveform (B, 1, n * 40), n at most 25 -> embedding (B, D).

    Parameters
    ----------
    width : int
        Token width D, a multiple of 16 and of `n_heads`.
    depth, n_heads : int
        Transformer blocks; attention heads of each.

    Examples
    --------
    >>> encoder = ViTEncoder(**SIZES["small"])
    >>> encoder(torch.zeros(2, 1, 200)).shape, encoder.tokens(torch.zeros(2, 1, 200)).shape
    (torch.Size([2, 64]), torch.Size([2, 5, 64]))
    """

    def __init__(self, width, depth, n_heads):
        super().__init__()
        self.config = {"width": width, "depth": depth, "n_heads": n_heads}
        self.embed_dim = width
        self.stem = nn.Identity()
        self.patches = nn.Conv1d(1, width, PATCH, PATCH)
        self.positions = nn.Parameter(torch.empty(1, N_TIMES // PATCH, width))
        nn.init.trunc_normal_(self.positions, std=0.02)
        self.blocks = nn.Sequential(*(Block(width, n_heads, 4, dropout=0.0) for _ in range(depth)))
        self.projection = nn.LayerNorm(width, elementwise_affine=False)

    def embedded(self, x, first=None):
        """Map a waveform (B, 1, n * 40) -> patches with positions added (B, n, D), counted from 0
        or from `first` (B,) of each.

        Raises
        ------
        ValueError
            If the length is not a whole number of 40-sample patches between 1 and 25.
        """
        check_waveform(x)
        x = self.patches(x).transpose(1, 2)  # (B, n, D)
        if first is None:
            return x + self.positions[:, : x.shape[1]]
        place = (first[:, None] + torch.arange(x.shape[1], device=x.device))[..., None].expand_as(x)
        # rows add up in one order: exact resume
        return x + self.positions.expand(len(x), -1, -1).gather(1, place)

    def tokens(self, x, seen=None, first=None):
        """Map a waveform (B, 1, n * 40) -> tokens (B, n, D), or only the tokens of the patches
        numbered by `seen` (B, k): (B, k, D).
        """
        x = self.embedded(x, first)
        if seen is not None:
            x = x.gather(1, seen[..., None].expand(-1, -1, x.shape[-1]))
        return self.blocks(x)

    def pool(self, tokens):
        """Map tokens (B, n, D) -> embedding (B, D)."""
        return self.projection(tokens.mean(1))

    def forward(self, x, first=None):
        """Map a scaled waveform (B, 1, L), whose patches begin at position 0 or `first` (B,) ->
        embedding (B, D).
        """
        return self.pool(self.tokens(x, first=first))
