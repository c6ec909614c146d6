"""What several published PPG encoders share: "same" convolutions and the pre-activation ResNet-1D.

The layout is that of the one-dimensional ResNet by Hong et al. (2019), from which PaPaGei and
Pulse-PPG take theirs; names of layers are those of their checkpoints.
"""

import torch.nn.functional as F
from torch import nn


class SameConv(nn.Module):
    """Convolution with ceil(L / stride) output samples; an odd padding is longer at the end."""

    def __init__(self, n_in, n_out, kernel, stride=1, groups=1):
        super().__init__()
        self.conv = nn.Conv1d(n_in, n_out, kernel, stride, groups=groups)

    def forward(self, x):
        """Map (B, n_in, L) -> (B, n_out, ceil(L / stride))."""
        (kernel,), (stride,) = self.conv.kernel_size, self.conv.stride
        n_out = -(-x.shape[-1] // stride)
        total = max(0, (n_out - 1) * stride + kernel - x.shape[-1])
        return self.conv(F.pad(x, (total // 2, total - total // 2)))


def shortcut(x, n_out, stride):
    """Return the shortcut of a block: the input pooled by `stride`, with zero channels on both
    sides up to `n_out`.
    """
    if stride > 1:
        x = F.max_pool1d(F.pad(x, ((stride - 1) // 2, stride - 1 - (stride - 1) // 2)), stride)
    more = n_out - x.shape[1]
    return F.pad(x, (0, 0, more // 2, more - more // 2))


class PreactivationBlock(nn.Module):
    """Norm, ReLU and convolution, twice, and a shortcut without weights."""

    def __init__(self, n_in, n_out, kernel, stride, is_first):
        super().__init__()
        self.n_out, self.stride, self.is_first = n_out, stride, is_first
        self.bn1 = nn.BatchNorm1d(n_in)  # in the first block too, where it is not used
        self.conv1 = SameConv(n_in, n_out, kernel, stride)
        self.bn2 = nn.BatchNorm1d(n_out)
        self.conv2 = SameConv(n_out, n_out, kernel)

    def forward(self, x):
        """Map (B, n_in, L) -> (B, n_out, ceil(L / stride))."""
        y = x if self.is_first else F.relu(self.bn1(x))
        y = self.conv2(F.relu(self.bn2(self.conv1(y))))
        return y + shortcut(x, self.n_out, self.stride)


class ResNet1D(nn.Module):
    """ResNet-1D with a stem and blocks: every second block halves the time, every fourth doubles
    the channels.

    Parameters
    ----------
    width : int
        Channels of the stem.
    kernel : int
        Of every convolution, samples.
    n_blocks : int
        Blocks of two convolutions.
    """

    def __init__(self, width, kernel, n_blocks):
        super().__init__()
        self.first_block_conv = SameConv(1, width, kernel)
        self.first_block_bn = nn.BatchNorm1d(width)
        self.basicblock_list = nn.ModuleList()
        for i in range(n_blocks):
            n_in = width * 2 ** (max(i - 1, 0) // 4)
            n_out = width * 2 ** (i // 4)
            stride = 1 + i % 2
            self.basicblock_list.append(PreactivationBlock(n_in, n_out, kernel, stride, i == 0))
        self.n_out = n_out

    def features(self, x):
        """Map (B, 1, L) -> (B, C, L / 2 ** (n_blocks // 2) rounded up)."""
        x = F.relu(self.first_block_bn(self.first_block_conv(x)))
        for block in self.basicblock_list:
            x = block(x)
        return x


def count(state, prefix):
    """Count the modules of a list in a state dict: 1 + the largest number after `prefix`."""
    numbers = [int(key[len(prefix) :].split(".")[0]) for key in state if key.startswith(prefix)]
    return 1 + max(numbers, default=-1)
