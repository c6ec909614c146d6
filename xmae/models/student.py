"""The conv-only student for microcontrollers: one block that XNNPACK, TFLite int8, Ethos-U and Cortex-M all run whole.

Everything is a `Conv2d` over (batch, channels, 1, time): 1-D convolutions leave exporters with transposes and unfused
batch norms. Kernels and padding are chosen so that "same" padding in TFLite equals PyTorch's and no PAD op appears:
stride 2 on an even length wants an even kernel, everything else an odd one.
"""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from xmae.signals.window import N_TIMES

BLOCKS = (  # (channels, stride) of the depthwise-separable blocks after the stem; lengths 500 -> 250 -> ... -> 16
    (16, 2), (32, 2), (64, 2), (64, 1), (64, 1), (128, 2), (128, 1), (128, 1), (160, 2), (160, 1), (160, 1),
)  # fmt: skip


class McuStudent(nn.Module):
    """PPG encoder of 0.17 M parameters and 3.5 M multiply-accumulates (MAC) per 10 s window.

    Limits it is designed for: 192 KiB of flash for int8 weights with their biases and multipliers, 4 M MAC per window,
    64 KiB of activation memory.

    Parameters
    ----------
    embed_dim : int
        Width of the embedding.

    Examples
    --------
    >>> student = McuStudent().eval()
    >>> student(torch.zeros(2, 1, 1000)).shape, student.tokens(torch.zeros(2, 1, 1000)).shape
    (torch.Size([2, 256]), torch.Size([2, 16, 160]))
    """

    def __init__(self, embed_dim=256):
        super().__init__()
        self.embed_dim = embed_dim
        self.config = {"embed_dim": embed_dim}
        channels, length = 16, N_TIMES
        self.stem = conv_bn_relu(1, channels, kernel=8, stride=2, padding=3)
        length //= 2
        self.blocks = nn.Sequential()
        for out, stride in BLOCKS:
            self.blocks.append(SeparableBlock(channels, out, stride, even=length % 2 == 0))
            channels, length = out, -(-length // stride)
        self.head = nn.Linear(channels, embed_dim)

    def features(self, ppg):
        """(B, 1, 1, L) PPG -> (B, C, 1, L / 64 rounded up) feature map: one position each 0.64 s."""
        return self.blocks(self.stem(ppg))

    def tokens(self, ppg):
        """(B, 1, L) PPG, min-max scaled -> (B, L / 64 rounded up, C) features before pooling."""
        return self.features(ppg.unsqueeze(2)).squeeze(2).transpose(1, 2)

    def pool(self, tokens):
        """(B, n, C) tokens -> (B, embed_dim) embedding."""
        return self.head(tokens.mean(1))

    def forward(self, ppg):
        """(B, 1, L) PPG, min-max scaled to [-1, 1] -> (B, embed_dim) embedding."""
        return self.embed(ppg.unsqueeze(2))

    def embed(self, ppg):
        """`forward` on (B, 1, 1, L): the shape that is exported."""
        return self.head(self.features(ppg).mean((2, 3), keepdim=True).flatten(1))


class SeparableBlock(nn.Module):
    """Depthwise (1, k) then pointwise 1x1, each with batch norm and ReLU; a residual where shapes allow."""

    def __init__(self, channels, out, stride, even):
        super().__init__()
        kernel = 6 if stride == 2 and even else 5
        self.depthwise = conv_bn_relu(channels, channels, kernel, stride, padding=2, groups=channels)
        self.pointwise = conv_bn_relu(channels, out, kernel=1)
        self.residual = stride == 1 and channels == out

    def forward(self, x):
        """(B, channels, 1, L) -> (B, out, 1, L / stride rounded up)."""
        y = self.pointwise(self.depthwise(x))
        return x + y if self.residual else y


def conv_bn_relu(channels, out, kernel, stride=1, padding=0, groups=1):
    """Conv2d of kernel (1, `kernel`) without bias, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels, out, (1, kernel), (1, stride), (0, padding), groups=groups, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(),
    )


def count_macs(module, shape=(1, 1, N_TIMES)):
    """Multiply-accumulates of one forward pass of `module` on zeros of `shape` (products and convolutions)."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(torch.zeros(shape))
    return counter.get_total_flops() // 2
