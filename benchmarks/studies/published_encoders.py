"""Published models for PPG, rebuilt at their stated size to compare what they cost; their weights
are not used.

PaPaGei-S: Pillai et al., PaPaGei: Open Foundation Models for Optical Physiological Signals, ICLR
2025, arXiv 2410.20542; sizes from the authors' public configuration: a ResNet-1D of 18 blocks that
starts at 32 channels, kernel 3, embedding 512, two mixtures of 3 experts, for 10 s at 125 Hz; 5.7 M
parameters are stated, 5.79 M come out.

TimePPG: Burrello et al., Embedding Temporal Convolutional Networks for Energy-Efficient PPG-Based
Heart Rate Monitoring, ACM Trans. Comput. Healthcare 2022, arXiv 2203.04396; 8 s of PPG and three
axes of acceleration at 32 Hz. Its layers come out of an architecture search around a seed in the
manner of TEMPONet (Zanghieri et al., IEEE TBioCAS 2020): stages of two dilated convolutions, a
strided one and a pool. Here is that pattern, once with 32 to 128 channels as the seed, once with
widths chosen for the 5 k parameters stated of the smallest: alike in kind and size, not the
networks themselves.
"""

import torch
import torch.nn.functional as F
from torch import nn

PAPAGEI_SHAPE = (1, 1, 1250)  # 10 s at 125 Hz
TIMEPPG_SHAPE = (1, 4, 256)  # 8 s at 32 Hz: PPG and acceleration
# channels, hidden units: 238 k, 5.1 k
TIMEPPG_SIZES = {"seed": ((32, 64, 128), 64), "smallest": ((4, 8, 16), 24)}


class PaPaGeiS(nn.Module):
    """PaPaGei-S, (B, 1, 1250) -> (B, 512) and (B, 2): the ResNet-1D with its two mixtures of three
    experts.
    """

    def __init__(self, width=32, n_blocks=18):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv1d(1, width, 3, padding=1), nn.BatchNorm1d(width), nn.ReLU()
        )
        blocks, n_in = [], width
        for i in range(n_blocks):
            n_out = n_in * 2 if i and i % 4 == 0 else n_in
            blocks.append(PreactivationBlock(n_in, n_out, 2 if i % 2 else 1, first=i == 0))
            n_in = n_out
        self.blocks = nn.Sequential(*blocks, nn.BatchNorm1d(n_in), nn.ReLU())
        self.head = nn.Linear(n_in, 512)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(n_in, n_in // 2), nn.ReLU(), nn.Linear(n_in // 2, 1))
            for _ in range(6)
        )
        self.gates = nn.ModuleList(
            nn.Sequential(nn.Linear(n_in, 3), nn.Softmax(1)) for _ in range(2)
        )

    def forward(self, x):
        """Map (B, 1, L) -> (B, 512), and two numbers on the shape of the pulse, one from each
        mixture of experts (B, 2).
        """
        x = self.blocks(self.stem(x)).mean(-1)
        said = torch.cat([expert(x) for expert in self.experts], 1).unflatten(1, (2, 3))
        weight = torch.stack([gate(x) for gate in self.gates], 1)
        return self.head(x), (said * weight).sum(2)


class PreactivationBlock(nn.Module):
    """Norm, ReLU and convolution, twice; the shortcut pools and pads with zero channels, and has no
    weights.
    """

    def __init__(self, n_in, n_out, stride, first):
        super().__init__()
        self.before = (
            nn.Identity()
            if first
            else nn.Sequential(nn.BatchNorm1d(n_in), nn.ReLU(), nn.Dropout(0.5))
        )
        self.one = nn.Conv1d(n_in, n_out, 3, stride, 1)
        self.two = nn.Sequential(
            nn.BatchNorm1d(n_out), nn.ReLU(), nn.Dropout(0.5), nn.Conv1d(n_out, n_out, 3, padding=1)
        )
        self.stride, self.more = stride, n_out - n_in

    def forward(self, x):
        """Map (B, n_in, L) -> (B, n_out, L / stride rounded up)."""
        y = self.two(self.one(self.before(x)))
        if self.stride > 1:
            x = F.max_pool1d(x, self.stride, ceil_mode=True)
        return y + F.pad(x, (0, 0, self.more // 2, self.more - self.more // 2))


class TimePPGLike(nn.Module):
    """A network like TimePPG, (B, 4, 256) -> (B, 1): three stages of two dilated convolutions, a
    strided one and a pool; two linear layers.
    """

    def __init__(self, widths, hidden):
        super().__init__()
        layers, n_in, length = [], TIMEPPG_SHAPE[1], TIMEPPG_SHAPE[2]
        for width, dilation, stride in zip(widths, (2, 4, 8), (1, 2, 4), strict=True):
            for n, kernel, d, s in (
                (n_in, 3, dilation, 1),
                (width, 3, dilation, 1),
                (width, 5, 1, stride),
            ):
                layers += [
                    nn.Conv1d(n, width, kernel, s, d * (kernel // 2), d),
                    nn.BatchNorm1d(width),
                    nn.ReLU(),
                ]
            layers.append(nn.AvgPool1d(2))
            n_in, length = width, -(-length // stride) // 2
        self.features = nn.Sequential(*layers, nn.Flatten())
        self.head = nn.Sequential(nn.Linear(n_in * length, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def forward(self, x):
        """Map (B, 4, 256) -> (B, 1)."""
        return self.head(self.features(x))
