"""NormWear: Luo et al., Toward Foundation Model for Multivariate Wearable Sensing of Physiological
Signals, 2024, arXiv 2412.09758.

A vision transformer (ViT-Base) on scalograms at 65 Hz: the signal, its first and its second
difference, each by 65 Ricker wavelets of scales 0.1 to 64.1 samples; patches of 9 samples and 5
scales. Every second block also lets the [CLS] tokens of the channels attend to each other; with one
channel a token to itself. The embedding is the mean over all tokens. Only the encoder is loaded;
the decoder of the checkpoint is left out.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from xmae.models.adopted.architecture import Architecture
from xmae.models.adopted.blocks import count
from xmae.models.adopted.contract import Contract

SCALES = torch.arange(65) + 0.1  # of the wavelets, samples
PATCH = (9, 5)  # samples, scales
GRID = (43, 13)  # patches in time and scale when it was trained


class NormWear(nn.Module):
    """NormWear, (B, 1, 650) -> embedding (B, 768).

    Parameters
    ----------
    embed_dim, n_layers, n_heads : int
        Width, blocks and heads of the transformer.
    """

    def __init__(self, embed_dim=768, n_layers=12, n_heads=12):
        super().__init__()
        self.embed_dim = embed_dim
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, embed_dim, PATCH, PATCH)
        self.cls_token = nn.Parameter(torch.randn(1, 1, embed_dim) * 0.02)
        n_positions = 1 + GRID[0] * GRID[1]
        self.pos_embed = nn.Parameter(torch.randn(1, n_positions, embed_dim) * 0.02)
        self.encoder_blocks = nn.ModuleList(
            Layer(embed_dim, n_heads, has_fusion=i % 2 == 0) for i in range(n_layers)
        )
        self.norm = nn.LayerNorm(embed_dim)

    def tokens(self, x):
        """Map (B, 1, L) -> (B, L / 9, E): the mean of the patches of a moment, with their share of
        [CLS].

        Their mean is that of [CLS] and all patches.
        """
        patches = self.patch_embed.proj(scalogram(x[:, 0]))  # (B, E, time, scale)
        n_times, n_scales = patches.shape[2:]
        first, rest = self.positions(n_times, n_scales)
        cls = (self.cls_token + first).expand(len(x), -1, -1)
        y = torch.cat([cls, patches.flatten(2).transpose(1, 2) + rest], 1)
        for layer in self.encoder_blocks:
            y = layer(y)
        y = self.norm(y)
        sums = y[:, 1:].unflatten(1, (n_times, n_scales)).sum(2) + y[:, :1] / n_times
        return sums / (n_scales + 1 / n_times)

    def positions(self, n_times, n_scales):
        """Return the position embeddings of [CLS] (1, 1, E) and of a grid of patches (1, n_times
        n_scales, E), by bicubic interpolation.
        """
        first, rest = self.pos_embed[:, :1], self.pos_embed[:, 1:]
        if (n_times, n_scales) != GRID:
            grid = rest.transpose(1, 2).unflatten(2, GRID)
            grid = F.interpolate(grid, (n_times, n_scales), mode="bicubic", align_corners=False)
            rest = grid.flatten(2).transpose(1, 2)
        return first, rest

    def pool(self, tokens):
        """Map (B, n, E) -> (B, E)."""
        return tokens.mean(1)


class Layer(nn.Module):
    """A transformer block on the tokens of a channel; every second layer has one more on [CLS]."""

    def __init__(self, width, n_heads, has_fusion):
        super().__init__()
        self.variate_encoder = Block(width, n_heads)
        self.cls_fusion = Block(width, n_heads) if has_fusion else None

    def forward(self, x):
        """Map (B, 1 + n, E) -> the same shape."""
        x = self.variate_encoder(x)
        if self.cls_fusion is None:
            return x
        return torch.cat([self.cls_fusion(x[:, :1]), x[:, 1:]], 1)


class Block(nn.Module):
    """Pre-norm transformer block, MLP four times as wide, GELU."""

    def __init__(self, width, n_heads):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn, self.mlp = nn.Module(), nn.Module()
        self.attn.qkv, self.attn.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp.fc1, self.mlp.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.n_heads = n_heads

    def forward(self, x):
        """Map (B, n, E) -> the same shape."""
        packed = self.attn.qkv(self.norm1(x)).unflatten(2, (3, self.n_heads, -1))
        q, k, v = packed.permute(2, 0, 3, 1, 4)  # each (B, heads, n, E / heads)
        heads = F.scaled_dot_product_attention(q, k, v)
        x = x + self.attn.proj(heads.transpose(1, 2).flatten(2))
        return x + self.mlp.fc2(F.gelu(self.mlp.fc1(self.norm2(x))))


def scalogram(x):
    """Compute the Ricker scalograms of a signal (B, L) and its first two differences: (B, 3, time,
    65).
    """
    first = x[:, 1:] - x[:, :-1]
    three = torch.stack([x[:, 2:], first[:, 1:], first[:, 1:] - first[:, :-1]], 1)
    n_taps = min(640, three.shape[-1])
    wavelets = ricker(n_taps, SCALES.to(x))[:, None]
    y = F.conv1d(three.flatten(0, 1)[:, None], wavelets, padding=n_taps // 2)
    return y.unflatten(0, (-1, 3)).transpose(2, 3)


def ricker(n_taps, scales):
    """Return Ricker wavelets (Mexican hats) of these scales (S,) in samples: (S, n_taps)."""
    t = torch.arange(n_taps, device=scales.device) - (n_taps - 1) / 2
    square = (t / scales[:, None]) ** 2
    size = 2 / (torch.sqrt(3 * scales) * math.pi**0.25)
    return size[:, None] * (1 - square) * torch.exp(-square / 2)


def layout(state):
    """Return the settings of `NormWear` that the shapes of a state dict ask for; heads are 64 wide,
    as published.
    """
    embed_dim = state["cls_token"].shape[-1]
    n_heads = max(1, embed_dim // 64)
    n_layers = count(state, "encoder_blocks.")
    return {"embed_dim": embed_dim, "n_layers": n_layers, "n_heads": n_heads}


ARCHITECTURES = {
    "normwear": Architecture(
        NormWear, layout, {}, Contract(sfreq=65, scaling="zscore"),
        "Luo et al., arXiv 2412.09758", "Apache-2.0 of the code; see the page of the weights",
        unused=("decoder_", "mask_token", "temporal_recon.", "spatial_recon."),
    )
}  # fmt: skip
