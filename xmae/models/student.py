"""The conv-only students, from microcontroller to phone: one block that every runtime and NPU we
target runs whole.

Everything is a `Conv2d` over (batch, channels, 1, time): 1-D convolutions leave exporters with
transposes and unfused batch norms. Kernels and padding are chosen so that "same" padding in TFLite
equals PyTorch's and no PAD op appears: stride 2 on an even length wants an even kernel, everything
else an odd one.
"""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from xmae.models.convolutional import ConvEncoder
from xmae.signals.window import N_TIMES

# (channels, stride) of the stem and of each depthwise-separable block; lengths 500 -> 250 -> ... ->
# 16
TIERS = {
    "mcu-s": (
        (8, 2), (16, 2), (32, 2), (48, 2), (48, 1), (64, 2), (64, 1), (96, 2), (96, 1),
    ),
    "mcu": (
        (16, 2), (16, 2), (32, 2), (64, 2), (64, 1), (64, 1), (128, 2), (128, 1), (128, 1),
        (160, 2), (160, 1), (160, 1),
    ),
    "app": (
        (32, 2), (48, 2), (96, 2), (96, 1), (96, 1), (192, 2), (192, 1), (192, 1), (256, 2),
        (256, 1), (256, 1), (320, 2), (320, 1), (320, 1),
    ),
}  # fmt: skip


class McuStudent(ConvEncoder):
    """PPG encoder with convolutions only, in three sizes; MAC are multiply-accumulates for a 10 s
    window.

    ======  ==========  ======  =====================  ============================================
    tier    parameters  M MAC   int8 constants, kB     designed to stay within
    ======  ==========  ======  =====================  ============================================
    mcu-s       55,568    0.95   63.6                  64 KiB of these, 1 M MAC
    mcu        174,112    3.51  190.7                  192 KiB of these, 4 M MAC, 64 KiB activations
    app        688,256   20.18  725.5                  1 M parameters, 25 M MAC
    ======  ==========  ======  =====================  ============================================

    Parameters
    ----------
    embed_dim : int
        Width of the embedding.
    tier : str
        One of `TIERS`.

    Examples
    --------
    >>> student = McuStudent().eval()
    >>> student(torch.zeros(2, 1, 1000)).shape, student.tokens(torch.zeros(2, 1, 1000)).shape
    (torch.Size([2, 256]), torch.Size([2, 16, 160]))
    """

    def __init__(self, embed_dim=256, tier="mcu"):
        super().__init__()
        self.embed_dim = embed_dim
        self.config = {"embed_dim": embed_dim, "tier": tier}
        (channels, stride), *blocks = TIERS[tier]
        self.stem = conv_bn_relu(1, channels, kernel=8, stride=stride, padding=3)
        length = N_TIMES // stride
        self.blocks = nn.Sequential()
        for out, stride in blocks:
            self.blocks.append(SeparableBlock(channels, out, stride, even=length % 2 == 0))
            channels, length = out, -(-length // stride)
        self.head = nn.Linear(channels, embed_dim)

    def features(self, ppg):
        """Map PPG (B, 1, 1, L) -> feature map (B, C, 1, L / 64 rounded up), one position per 0.64
        s.
        """
        return self.blocks(self.stem(ppg))


class SeparableBlock(nn.Module):
    """Depthwise (1, k) then pointwise 1x1 convolution, each with batch norm and ReLU; a residual
    connection where shapes allow.
    """

    def __init__(self, channels, out, stride, even):
        super().__init__()
        kernel = 6 if stride == 2 and even else 5
        self.depthwise = conv_bn_relu(
            channels, channels, kernel, stride, padding=2, groups=channels
        )
        self.pointwise = conv_bn_relu(channels, out, kernel=1)
        self.residual = stride == 1 and channels == out

    def forward(self, x):
        """Map (B, channels, 1, L) -> (B, out, 1, L / stride rounded up)."""
        y = self.pointwise(self.depthwise(x))
        return x + y if self.residual else y


def conv_bn_relu(channels, out, kernel, stride=1, padding=0, groups=1):
    """Return a Conv2d of kernel (1, `kernel`) without bias, batch norm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels, out, (1, kernel), (1, stride), (0, padding), groups=groups, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(),
    )


def int8_bytes(module):
    """Return the flash that `module` takes in int8: one byte per weight and 9 more for each output
    channel of a layer.

    These are the int32 bias and multiplier and the int8 shift of TFLite's fixed-point arithmetic,
    batch norm folded in.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    return sum(layer.weight.numel() + 9 * layer.weight.shape[0] for layer in layers)


def count_macs(module, shape=(1, 1, N_TIMES)):
    """Count the multiply-accumulates of one forward pass of `module` on zeros of `shape` (matrix
    products and convolutions).
    """
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(torch.zeros(shape))
    return counter.get_total_flops() // 2
