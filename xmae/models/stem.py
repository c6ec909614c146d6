"""The length-preserving stem: a half U-Net of inception blocks that turns one channel into `out` feature channels.

Written so that it trains fast. The three parallel convolutions of an inception block (kernels 3, 5, 7) are one
convolution whose kernel is 7 wide, the shorter kernels padded with zeros; and as BatchNorm and SiLU act on each channel
alone, one of each serves the joined channels. The parameters stay those of the published design.

Source: Zhou et al., arXiv 2605.00973, and the authors' public configuration.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

KERNELS = (3, 5, 7)


def conv_bn_silu(n_in, n_out, kernel, stride=1):
    """Conv1d without bias, BatchNorm1d, SiLU: (B, n_in, L) -> (B, n_out, ceil(L / stride))."""
    return nn.Sequential(
        nn.Conv1d(n_in, n_out, kernel, stride, kernel // 2, bias=False), nn.BatchNorm1d(n_out), nn.SiLU(inplace=True)
    )


class Inception(nn.Module):
    """Parallel convolutions of kernels 3, 5, 7, joined and fused by a 1x1: (B, n_in, L) -> (B, n_out, L)."""

    def __init__(self, n_in, n_out):
        super().__init__()
        widths = (n_out // 3, n_out // 3, n_out - 2 * (n_out // 3))
        self.kernels = nn.ParameterList(torch.empty(w, n_in, k) for w, k in zip(widths, KERNELS, strict=True))
        for kernel in self.kernels:
            nn.init.kaiming_uniform_(kernel, a=math.sqrt(5))  # what nn.Conv1d does
        self.norm = nn.BatchNorm1d(n_out)
        self.fuse = conv_bn_silu(n_out, n_out, 1)

    def joined_kernel(self):
        """The three kernels as one, each zero-padded to the longest: (n_out, n_in, 7)."""
        return torch.cat([F.pad(w, ((KERNELS[-1] - k) // 2,) * 2) for w, k in zip(self.kernels, KERNELS, strict=True)])

    def forward(self, x):
        """(B, n_in, L) -> (B, n_out, L)."""
        x = F.conv1d(x, self.joined_kernel(), padding=KERNELS[-1] // 2)
        return self.fuse(F.silu(self.norm(x), inplace=True))


class Stem(nn.Module):
    """Half U-Net: three levels down, two up, and a skip from the input: (B, 1, L) -> (B, out, L).

    Parameters
    ----------
    widths : tuple of int
        Channels of the levels at L, L/2 and L/4.
    out : int
        Output channels.
    """

    def __init__(self, widths=(32, 64, 128), out=32):
        super().__init__()
        a, b, c = widths
        self.level1 = nn.Sequential(Inception(1, a), Inception(a, a))
        self.down1 = conv_bn_silu(a, b, 3, 2)
        self.level2 = nn.Sequential(Inception(b, b), Inception(b, b))
        self.down2 = conv_bn_silu(b, c, 3, 2)
        self.level3 = nn.Sequential(Inception(c, c), Inception(c, c))
        self.lateral2 = nn.Conv1d(b, b, 1, bias=False)
        self.lateral1 = nn.Conv1d(a, a, 1, bias=False)
        self.reduce3 = nn.Conv1d(c, b, 1, bias=False)
        self.reduce2 = nn.Conv1d(b, a, 1, bias=False)
        self.smooth2 = conv_bn_silu(b, b, 3)
        self.smooth1 = conv_bn_silu(a, a, 3)
        self.head = conv_bn_silu(a, out, 3)
        self.skip = nn.Sequential(nn.Conv1d(1, out, 1, bias=False), nn.BatchNorm1d(out))

    def forward(self, x):
        """(B, 1, L) -> (B, out, L)."""
        one = self.level1(x)  # (B, a, L)
        two = self.level2(self.down1(one))  # (B, b, L/2)
        three = self.level3(self.down2(two))  # (B, c, L/4)
        two = self.smooth2(self.lateral2(two) + upsample(self.reduce3(three), two.shape[-1]))
        one = self.smooth1(self.lateral1(one) + upsample(self.reduce2(two), one.shape[-1]))
        return self.head(one) + self.skip(x)


def upsample(x, length):
    """Linear interpolation along time to `length` samples (align_corners false)."""
    return F.interpolate(x, size=length, mode="linear", align_corners=False)
