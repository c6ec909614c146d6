"""AnyPPG: an encoder of PPG aligned with ECG by contrast, on more than 100,000 hours.

Its network is the Net1D of Hong et al. (2020): stages of bottleneck blocks (1, k, 1) with grouped
convolutions, Swish and squeeze-and-excitation, each stage halving the time. 10 s at 125 Hz,
0.5-8 Hz, z-scored. The authors' pages give a last stage of 1024 channels, their evaluation 512; it
is read off the file.
"""

import torch
import torch.nn.functional as F
from torch import nn

from xmae.models.adopted.architecture import Architecture
from xmae.models.adopted.blocks import SameConv, count, shortcut
from xmae.models.adopted.contract import Contract

GROUP_WIDTH = 16  # channels of a group of the middle convolution


class Bottleneck(nn.Module):
    """Three pre-activated convolutions, squeeze-and-excitation, and a shortcut without weights."""

    def __init__(self, n_in, n_out, kernel, stride, is_first):
        super().__init__()
        self.n_out, self.stride, self.is_first = n_out, stride, is_first
        self.bn1 = nn.BatchNorm1d(n_in)  # in the first block too, where it is not used
        self.conv1 = SameConv(n_in, n_out, 1)
        self.bn2 = nn.BatchNorm1d(n_out)
        self.conv2 = SameConv(n_out, n_out, kernel, stride, groups=n_out // GROUP_WIDTH)
        self.bn3 = nn.BatchNorm1d(n_out)
        self.conv3 = SameConv(n_out, n_out, 1)
        self.se_fc1 = nn.Linear(n_out, n_out // 2)
        self.se_fc2 = nn.Linear(n_out // 2, n_out)

    def forward(self, x):
        """Map (B, n_in, L) -> (B, n_out, ceil(L / stride))."""
        y = self.conv1(x if self.is_first else F.silu(self.bn1(x)))
        y = self.conv2(F.silu(self.bn2(y)))
        y = self.conv3(F.silu(self.bn3(y)))
        gate = torch.sigmoid(self.se_fc2(F.silu(self.se_fc1(y.mean(-1)))))
        return y * gate[..., None] + shortcut(x, self.n_out, self.stride)


class Stage(nn.Module):
    """Blocks of one width, under the name that the checkpoint gives them."""

    def __init__(self, blocks):
        super().__init__()
        self.block_list = nn.ModuleList(blocks)


class AnyPPG(nn.Module):
    """AnyPPG, (B, 1, 1250) -> embedding (B, 1024): the mean over time of the last stage.

    Parameters
    ----------
    widths, n_blocks : sequence of int
        Channels and blocks of the stages.
    width, kernel : int
        Channels of the stem; kernel of stem and of the middle convolutions.
    """

    def __init__(
        self, widths=(64, 160, 160, 400, 400, 1024), n_blocks=(2, 2, 2, 3, 3, 1), width=64, kernel=3
    ):  # fmt: skip
        super().__init__()
        self.first_conv, self.first_bn = SameConv(1, width, kernel), nn.BatchNorm1d(width)
        self.stage_list, n_in, self.embed_dim = nn.ModuleList(), width, widths[-1]
        for stage, (n_out, n) in enumerate(zip(widths, n_blocks, strict=True)):
            blocks = []
            for block in range(n):
                is_first = stage == block == 0
                blocks.append(Bottleneck(n_in, n_out, kernel, 1 if block else 2, is_first))
                n_in = n_out
            self.stage_list.append(Stage(blocks))

    def tokens(self, x):
        """Map (B, 1, L) -> (B, n, E), one token per 0.51 s."""
        x = F.silu(self.first_bn(self.first_conv(x)))
        for stage in self.stage_list:
            for block in stage.block_list:
                x = block(x)
        return x.transpose(1, 2)

    def pool(self, tokens):
        """Map (B, n, E) -> (B, E)."""
        return tokens.mean(1)


def layout(state):
    """Return the settings of `AnyPPG` that the shapes of a state dict ask for."""
    stages = [f"stage_list.{i}.block_list." for i in range(count(state, "stage_list."))]
    width, _, kernel = state["first_conv.conv.weight"].shape
    return {
        "widths": [len(state[f"{stage}0.conv3.conv.weight"]) for stage in stages],
        "n_blocks": [count(state, stage) for stage in stages],
        "width": width,
        "kernel": kernel,
    }


ARCHITECTURES = {
    "anyppg": Architecture(
        AnyPPG, layout, {}, Contract(sfreq=125, scaling="zscore", band_hz=(0.5, 8.0)),
        "AnyPPG, a PPG foundation model for comprehensive assessment of multi-organ health, 2025",
        "see the page of the weights",
    )
}  # fmt: skip
