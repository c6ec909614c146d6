"""The criss-cross encoder as the graph that every exporter maps: same numbers, friendlier
operations.

The real FFT of a patch is one product with a fixed matrix of cosines and sines. Group and layer
norms are plain means; the affine part of layer norms goes into the Linear that follows. Attention
is plain matrix products with the scale folded into the queries. The positional kernel is cut to the
channels and moments that there are: 19 x 7 becomes 3 x 7 for two leads.
"""

import math

import torch
from torch import nn

from xmae.models.criss_cross import PATCH, WIDTH


class CrissCrossGraph(nn.Module):
    """`CrissCrossEncoder` for a fixed shape: (1, 1, C, n * 200) -> (1, 200).

    Parameters
    ----------
    encoder : CrissCrossEncoder
        In evaluation mode.
    n_chans, n_patches : int
        Channels and seconds of the input.
    """

    def __init__(self, encoder, n_chans=2, n_patches=10):
        super().__init__()
        embedding = encoder.patch_embedding
        self.input_shape = (1, 1, n_chans, n_patches * PATCH)
        self.shape = n_chans, n_patches
        self.time = nn.Sequential(
            *(
                GroupNormalise(layer) if isinstance(layer, nn.GroupNorm) else layer
                for layer in embedding.proj_in
            )
        )
        self.spectrum = SpectrumNormalise()
        self.spectral = embedding.spectral_proj[0]
        self.position = cut_kernel(embedding.positional_encoding[0], n_chans, n_patches)
        self.blocks = nn.Sequential(
            *(CrissCrossBlockGraph(b, n_chans, n_patches) for b in encoder.encoder["layers"])
        )

    def forward(self, x):
        """Map (1, 1, C, n * 200) -> (1, 200)."""
        (n_chans, n_patches), n = self.shape, self.shape[0] * self.shape[1]
        patches = x.view(1, 1, n, PATCH)
        tokens = self.time(patches).transpose(1, 2).reshape(1, n, WIDTH)
        tokens = tokens + self.spectral(self.spectrum(patches.view(1, n, PATCH)))
        image = tokens.transpose(1, 2).reshape(1, WIDTH, n_chans, n_patches)
        tokens = tokens + self.position(image).view(1, WIDTH, n).transpose(1, 2)
        tokens = self.blocks(tokens)
        return (
            tokens.transpose(1, 2)
            .reshape(1, WIDTH, n_chans, n_patches)
            .mean((2, 3), keepdim=True)
            .view(1, WIDTH)
        )


class SpectrumNormalise(nn.Module):
    """Magnitude of the real FFT (norm "forward") of patches (1, n, 200) -> (1, n, 101), as one
    fixed matrix product.

    Squares span too wide a range for 8 bits; quantizers that can leave it in float do so, as they
    do with norms.
    """

    def __init__(self):
        super().__init__()
        angle = (
            2
            * math.pi
            / PATCH
            * torch.outer(torch.arange(PATCH), torch.arange(PATCH // 2 + 1)).double()
        )
        # (200, 202)
        self.register_buffer("matrix", (torch.cat([angle.cos(), angle.sin()], 1) / PATCH).float())

    def forward(self, patches):
        """Map (1, n, 200) -> (1, n, 101)."""
        parts = torch.matmul(patches, self.matrix)
        power = parts * parts
        half = PATCH // 2 + 1
        return (power[..., :half] + power[..., half:]).sqrt()


class GroupNormalise(nn.Module):
    """Group norm of (1, C, H, W), computed by plain means."""

    def __init__(self, norm):
        super().__init__()
        self.groups, self.eps = norm.num_groups, norm.eps
        self.weight, self.bias = (
            nn.Parameter(norm.weight.view(-1, 1, 1)),
            nn.Parameter(norm.bias.view(-1, 1, 1)),
        )

    def forward(self, x):
        """Map (1, C, H, W) -> (1, C, H, W)."""
        groups = x.reshape(1, self.groups, -1, x.shape[-1])  # (1, groups, C / groups * H, W)
        centred = groups - groups.mean((2, 3), keepdim=True)
        variance = (centred * centred).mean((2, 3), keepdim=True)
        return (centred * (variance + self.eps).rsqrt()).reshape(x.shape) * self.weight + self.bias


class TokenNormalise(nn.Module):
    """Layer norm of (1, N, 200) without affine, computed by plain means."""

    def forward(self, x):
        """Map (1, N, 200) -> (1, N, 200)."""
        square = x.view(1, x.shape[1], 8, -1)
        centred = square - square.mean((2, 3), keepdim=True)
        variance = (centred * centred).mean((2, 3), keepdim=True)
        return (centred * (variance + 1e-5).rsqrt()).view(x.shape)


class CrissCrossBlockGraph(nn.Module):
    """A block on (1, C * n, 200), channel by channel in time order."""

    def __init__(self, block, n_chans, n_patches):
        super().__init__()
        half = WIDTH // 2
        self.spatial = AxisAttention(
            block.self_attn_s, block.norm1, slice(0, half), (n_chans, n_patches), 0
        )
        self.temporal = AxisAttention(
            block.self_attn_t, block.norm1, slice(half, None), (n_chans, n_patches), 1
        )
        self.norm1, self.norm2, self.gelu = TokenNormalise(), TokenNormalise(), nn.GELU()
        self.linear1 = folded(
            block.norm2.weight, block.norm2.bias, block.linear1.weight, block.linear1.bias
        )
        self.linear2 = block.linear2

    def forward(self, x):
        """Map (1, C * n, 200) -> (1, C * n, 200)."""
        y = self.norm1(x)
        half = WIDTH // 2
        x = x + torch.cat([self.spatial(y[..., :half]), self.temporal(y[..., half:])], -1)
        return x + self.linear2(self.gelu(self.linear1(self.norm2(x))))


class AxisAttention(nn.Module):
    """Attention of half the width along one axis, 0 = channels, 1 = time: (1, C * n, 100) -> (1, C
    * n, 100).
    """

    def __init__(self, attention, norm, columns, shape, axis):
        super().__init__()
        self.n_heads, self.shape, self.axis = attention.num_heads, shape, axis
        gain, shift = norm.weight[columns], norm.bias[columns]
        weights, biases = attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)
        scale = 1 / math.sqrt(attention.head_dim)
        self.q = folded(gain, shift, weights[0] * scale, biases[0] * scale)
        self.k, self.v = (folded(gain, shift, weights[i], biases[i]) for i in (1, 2))
        self.out = attention.out_proj

    def heads(self, x):
        """Split into heads: (1, C * n, 100) -> (others * heads, along the axis, 100 / heads)."""
        x = x.view(*self.shape, self.n_heads, -1)
        x = x.permute(1, 2, 0, 3) if self.axis == 0 else x.permute(0, 2, 1, 3)
        return x.reshape(-1, *x.shape[2:])

    def forward(self, y):
        """Map (1, C * n, 100) -> (1, C * n, 100)."""
        q, k, v = self.heads(self.q(y)), self.heads(self.k(y)), self.heads(self.v(y))
        x = torch.bmm(torch.bmm(q, k.transpose(1, 2)).softmax(-1), v)
        x = x.view(self.shape[1 - self.axis], self.n_heads, self.shape[self.axis], -1)
        x = x.permute(2, 0, 1, 3) if self.axis == 0 else x.permute(0, 2, 1, 3)
        return self.out(x.reshape(y.shape))


def folded(gain, shift, weight, bias):
    """Fold the affine map gain x + shift into a Linear with (weight, bias): it then takes x."""
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight, layer.bias = nn.Parameter(weight * gain), nn.Parameter(bias + weight @ shift)
    return layer


def cut_kernel(conv, n_chans, n_patches):
    """Cut the kernel of the positional convolution to the part that inputs of C x n reach."""
    reach = [
        min(full // 2, size - 1)
        for full, size in zip(conv.kernel_size, (n_chans, n_patches), strict=True)
    ]
    rows, columns = (
        slice(full // 2 - r, full // 2 + r + 1)
        for full, r in zip(conv.kernel_size, reach, strict=True)
    )
    small = nn.Conv2d(WIDTH, WIDTH, [2 * r + 1 for r in reach], padding=reach, groups=WIDTH)
    small.weight, small.bias = nn.Parameter(conv.weight[:, :, rows, columns].clone()), conv.bias
    return small
