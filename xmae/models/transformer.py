"""Pre-LayerNorm transformer pieces: self-attention block and directional cross-attention block."""

import torch
import torch.nn.functional as F
from torch import nn

from xmae.signals.window import N_TIMES, PATCH

STEEPEST = 2.0  # fall of the first head's logits per patch of distance, at the start


def check_waveform(x):
    """Raise a `ValueError` unless x is (B, 1, L), L a whole number of 40-sample patches between 1
    and 25.
    """
    if x.dim() != 3 or x.shape[1] != 1 or x.shape[-1] % PATCH or not 0 < x.shape[-1] <= N_TIMES:
        raise ValueError(
            f"expected (B, 1, L) with L a multiple of {PATCH} up to {N_TIMES}, got {tuple(x.shape)}"
        )


class Attention(nn.Module):
    """Multi-head attention with packed query, key and value weights: queries (B, N, D), keys (B, M,
    D) -> (B, N, D).
    """

    def __init__(self, width, n_heads, dropout):
        super().__init__()
        self.n_heads, self.dropout = n_heads, dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.qkv.weight)  # as nn.MultiheadAttention starts
        nn.init.zeros_(self.qkv.bias)
        nn.init.zeros_(self.out.bias)

    def forward(self, queries, keys=None, bias=None):
        """Compute attention from `queries` to `keys`; without `keys`, self-attention of `queries`.

        `bias` (heads, N, M) is added to the logits.
        """
        if keys is None:
            q, k, v = self.qkv(queries).chunk(3, dim=-1)
        else:
            width = queries.shape[-1]
            q = F.linear(queries, self.qkv.weight[:width], self.qkv.bias[:width])
            k, v = F.linear(keys, self.qkv.weight[width:], self.qkv.bias[width:]).chunk(2, dim=-1)
        # (B, heads, N, D/heads)
        q, k, v = (t.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for t in (q, k, v))
        return self.out(
            attend(q, k, v, self.dropout if self.training else None, bias)
            .transpose(1, 2)
            .flatten(2)
        )


def attend(q, k, v, dropout=None, bias=None):
    """Compute scaled dot-product attention: (B, H, N, d), (B, H, M, d), (B, H, M, d) -> (B, H, N,
    d), with `bias` (H, N, M) on the logits.

    With `dropout` (a probability; while training) on a CPU it is written out, where the fused
    kernel does not pay for the 25 tokens of a window: 4 times faster forward and backward in
    bfloat16 (64 windows, 7 heads of 32, 1 thread).
    """
    if dropout is None or q.is_cuda:
        bias = None if bias is None else bias.to(q.dtype)
        return F.scaled_dot_product_attention(q, k, v, bias, dropout or 0.0)
    logits = q * q.shape[-1] ** -0.5 @ k.transpose(-1, -2)
    shares = (logits if bias is None else logits + bias.to(q.dtype)).softmax(-1)
    return F.dropout(shares, dropout) @ v


def feed_forward(width, ratio, dropout):
    """Return the feed-forward layers of a block: Linear, exact (erf) GELU, Linear, dropout: (...,
    D) -> (..., D).
    """
    return nn.Sequential(
        nn.Linear(width, ratio * width),
        nn.GELU(),
        nn.Linear(ratio * width, width),
        nn.Dropout(dropout),
    )


class Block(nn.Module):
    """Pre-LN transformer block: (B, N, D) -> (B, N, D)."""

    is_unit = True  # compiled and sharded as one piece

    def __init__(self, width, n_heads, mlp_ratio, dropout):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, n_heads, dropout)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = feed_forward(width, mlp_ratio, dropout)

    def forward(self, x):
        """Map (B, N, D) -> (B, N, D)."""
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class CrossBlock(nn.Module):
    """Cross-attention block whose keys are never changed: queries (B, N, D), keys (B, M, D) -> (B,
    N, D).

    Parameters
    ----------
    width, n_heads : int
    dropout : float
    n_near : int, optional
        Most positions of queries and keys that are of the same moments. With it, each head has a
        trained bias for each distance in time, which starts as in ALiBi (Press et al., arXiv
        2108.12409): the first head looks at its own moment, each further one half as closely.
    """

    is_unit = True  # compiled and sharded as one piece

    def __init__(self, width, n_heads, dropout, n_near=None):
        super().__init__()
        self.norm_queries = nn.LayerNorm(width)
        self.norm_keys = nn.LayerNorm(width)
        self.attention = Attention(width, n_heads, dropout)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = feed_forward(width, 4, dropout)
        if n_near:
            distance = (torch.arange(2 * n_near - 1) - n_near + 1).abs()
            slopes = STEEPEST / 2.0 ** torch.arange(n_heads)
            self.nearness = nn.Parameter(-slopes[:, None] * distance)  # (heads, 2 n - 1)
        else:
            self.nearness = None

    def forward(self, queries, keys):
        """Map queries (B, N, D), keys (B, M, D) -> (B, N, D)."""
        bias = None
        if self.nearness is not None:
            most = self.nearness.shape[1] // 2
            own, other = (torch.arange(x.shape[1], device=x.device) for x in (queries, keys))
            bias = self.nearness[:, (other - own[:, None]).clamp(-most, most) + most]
        x = queries + self.attention(self.norm_queries(queries), self.norm_keys(keys), bias)
        return x + self.mlp(self.norm_mlp(x))
