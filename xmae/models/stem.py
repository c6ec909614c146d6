"""The length-preserving stem: a half U-Net of inception blocks that turns one channel into `out`
feature channels.

Written so that it trains fast. Inside, a waveform is an image of one row in channels-last order,
which oneDNN convolves without reordering it before and after each layer. The three parallel
convolutions of an inception block (kernels 3, 5, 7) are cut at whole vectors of 16 channels instead
of thirds, the few kernels on the wrong side of a cut padded with zeros; and as BatchNorm and SiLU
act on each channel alone, one of each serves the joined channels. The parameters stay those of the
published design.

Source: Zhou et al., arXiv 2605.00973, and the authors' public configuration.
"""

import math
from itertools import accumulate, pairwise

import torch
import torch.nn.functional as F
from torch import nn

KERNELS = (3, 5, 7)
# float32 numbers in the widest vector register, and the channels that oneDNN convolves at a time
VECTOR = 16


class RowConv(nn.Conv1d):
    """Conv1d without bias, kernel odd, on images of one row: (B, n_in, 1, L) -> (B, n_out, 1,
    ceil(L / stride)).
    """

    def __init__(self, n_in, n_out, kernel, stride=1):
        super().__init__(n_in, n_out, kernel, stride, kernel // 2, bias=False)

    def forward(self, x):
        """Map (B, n_in, 1, L) -> (B, n_out, 1, ceil(L / stride)), in the memory order of `x`
        (Conv1d would reorder it).
        """
        return F.conv2d(
            x, self.weight.unsqueeze(2), stride=(1, *self.stride), padding=(0, *self.padding)
        )


def conv_bn_silu(n_in, n_out, kernel, stride=1):
    """Return a convolution without bias, batch norm and SiLU: (B, n_in, 1, L) -> (B, n_out, 1,
    ceil(L / stride)).
    """
    return nn.Sequential(RowConv(n_in, n_out, kernel, stride), nn.BatchNorm2d(n_out), nn.SiLU())


class Inception(nn.Module):
    """Parallel convolutions of kernels 3, 5, 7, joined and fused by a 1x1: (B, n_in, 1, L) -> (B,
    n_out, 1, L).
    """

    def __init__(self, n_in, n_out):
        super().__init__()
        widths = (n_out // 3, n_out // 3, n_out - 2 * (n_out // 3))
        self.kernels = nn.ParameterList(
            torch.empty(w, n_in, k) for w, k in zip(widths, KERNELS, strict=True)
        )
        for kernel in self.kernels:
            nn.init.kaiming_uniform_(kernel, a=math.sqrt(5))  # what nn.Conv1d does
        edges = [0, *(n // VECTOR * VECTOR for n in accumulate(widths[:-1])), n_out]
        self.spans = [
            (slice(a, b), k // 2)
            for (a, b), k in zip(pairwise(edges), KERNELS, strict=True)
            if a < b
        ]
        self.norm = nn.BatchNorm2d(n_out)
        self.fuse = conv_bn_silu(n_out, n_out, 1)

    def joined_kernel(self):
        """Join the three kernels into one, each zero-padded to the longest: (n_out, n_in, 7)."""
        return torch.cat(
            [
                F.pad(w, ((KERNELS[-1] - k) // 2,) * 2)
                for w, k in zip(self.kernels, KERNELS, strict=True)
            ]
        )

    def forward(self, x):
        """Map (B, n_in, 1, L) -> (B, n_out, 1, L)."""
        kernel, middle = self.joined_kernel().unsqueeze(2), KERNELS[-1] // 2
        parts = [
            F.conv2d(x, kernel[rows, ..., middle - reach : middle + reach + 1], padding=(0, reach))
            for rows, reach in self.spans
        ]
        return self.fuse(F.silu(self.norm(torch.cat(parts, 1))))


class Stem(nn.Module):
    """Half U-Net: three levels down, two up, and a skip from the input: (B, 1, L) -> (B, out, L).

    Parameters
    ----------
    widths : tuple of int
        Channels of the levels at L, L/2 and L/4.
    out : int
        Output channels.
    """

    is_unit = True  # compiled and sharded as one piece

    def __init__(self, widths=(32, 64, 128), out=32):
        super().__init__()
        a, b, c = widths
        self.level1 = nn.Sequential(Inception(1, a), Inception(a, a))
        self.down1 = conv_bn_silu(a, b, 3, 2)
        self.level2 = nn.Sequential(Inception(b, b), Inception(b, b))
        self.down2 = conv_bn_silu(b, c, 3, 2)
        self.level3 = nn.Sequential(Inception(c, c), Inception(c, c))
        self.lateral2 = RowConv(b, b, 1)
        self.lateral1 = RowConv(a, a, 1)
        self.reduce3 = RowConv(c, b, 1)
        self.reduce2 = RowConv(b, a, 1)
        self.smooth2 = conv_bn_silu(b, b, 3)
        self.smooth1 = conv_bn_silu(a, a, 3)
        self.head = conv_bn_silu(a, out, 3)
        self.skip = nn.Sequential(RowConv(1, out, 1), nn.BatchNorm2d(out))

    def forward(self, x):
        """Map (B, 1, L) -> (B, out, L)."""
        x = x.unsqueeze(2).to(memory_format=torch.channels_last)  # (B, 1, 1, L)
        one = self.level1(x)  # (B, a, 1, L)
        two = self.level2(self.down1(one))  # (B, b, 1, L/2)
        three = self.level3(self.down2(two))  # (B, c, 1, L/4)
        two = self.smooth2(self.lateral2(two) + upsample(self.reduce3(three), two.shape[-1]))
        one = self.smooth1(self.lateral1(one) + upsample(self.reduce2(two), one.shape[-1]))
        return (self.head(one) + self.skip(x)).squeeze(2)


def upsample(x, length):
    """Interpolate linearly along time (align_corners false): (B, C, 1, L) -> (B, C, 1, length)."""
    return F.interpolate(x, size=(1, length), mode="bilinear", align_corners=False)
