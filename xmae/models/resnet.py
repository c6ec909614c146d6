"""ResNet-1D (He et al., CVPR 2016, arXiv 1512.03385, in one dimension), the encoder of SimCLR and
PaPaGei-P here.

PaPaGei's (arXiv 2410.20542) is a ResNet-1D too, of 18 convolutional blocks that start at 32
channels; this one has 8 residual blocks of two convolutions, sized to the 5.0 M parameters of the
xMAE paper's table.
"""

import torch.nn.functional as F
from torch import nn

from xmae.models.convolutional import ConvEncoder, conv_bn

SIZES = {  # base: 4.95 M parameters
    "base": {"widths": [48, 96, 224, 448], "embed_dim": 512},
    "small": {"widths": [8, 16, 32, 48], "embed_dim": 64},
}


class ResNetEncoder(ConvEncoder):
    """ResNet-1D: scaled waveform (B, 1, L) -> embedding (B, E).

    Parameters
    ----------
    widths : list of int
        Channels of the stages, two blocks each; every stage after the first halves the time.
    embed_dim : int
        Embedding width E.

    Examples
    --------
    >>> encoder = ResNetEncoder(**SIZES["small"])
    >>> encoder(torch.zeros(2, 1, 1000)).shape, encoder.tokens(torch.zeros(2, 1, 1000)).shape
    (torch.Size([2, 64]), torch.Size([2, 32, 48]))
    """

    def __init__(self, widths, embed_dim):
        super().__init__()
        self.config = {"widths": list(widths), "embed_dim": embed_dim}
        self.embed_dim = embed_dim
        self.stem = nn.Sequential(*conv_bn(1, widths[0], 15, 2, activation=nn.ReLU()))
        self.blocks, n_in = nn.Sequential(nn.MaxPool2d((1, 3), (1, 2), (0, 1))), widths[0]
        for stage, n_out in enumerate(widths):
            for block in range(2):
                self.blocks.append(ResidualBlock(n_in, n_out, 2 if stage and not block else 1))
                n_in = n_out
        self.head = nn.Linear(n_in, embed_dim)

    def features(self, x):
        """Map (B, 1, 1, L) -> (B, C, 1, L / 32 rounded up)."""
        return self.blocks(self.stem(x))


class ResidualBlock(nn.Module):
    """Two convolutions of kernel 5 with batch norm, and a shortcut: (B, n_in, 1, L) -> (B, n_out,
    1, L / stride).
    """

    is_unit = True  # compiled and sharded as one piece

    def __init__(self, n_in, n_out, stride):
        super().__init__()
        self.first = conv_bn(n_in, n_out, 5, stride, activation=nn.ReLU())
        self.second = conv_bn(n_out, n_out, 5)
        self.shortcut = (
            nn.Identity() if n_in == n_out and stride == 1 else conv_bn(n_in, n_out, 1, stride)
        )

    def forward(self, x):
        """Map (B, n_in, 1, L) -> (B, n_out, 1, L / stride rounded up)."""
        return F.relu(self.second(self.first(x)) + self.shortcut(x))
