"""EfficientNet-1D (Tan and Le, ICML 2019, arXiv 1905.11946, in one dimension), the encoder of
`apple` here.

Apple's (arXiv 2312.05409) has 16 mobile inverted bottleneck blocks with squeeze and excitation, as
B0 has; this one is sized to the 5.0 M parameters of the xMAE paper's table.
"""

from torch import nn

from xmae.models.convolutional import ConvEncoder, conv_bn

STAGES = (  # (expansion, channels, blocks, stride, kernel) of B0
    (1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3), (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5), (6, 320, 1, 1, 3),
)  # fmt: skip
SIZES = {  # base: 4.9 M parameters
    "base": {"width": 1.1, "embed_dim": 256},
    "small": {"width": 0.2, "embed_dim": 64},
}


class EfficientNetEncoder(ConvEncoder):
    """EfficientNet-1D: scaled waveform (B, 1, L) -> embedding (B, E).

    Parameters
    ----------
    width : float
        Factor on B0's channels, which are rounded to multiples of 8.
    embed_dim : int
        Embedding width E.

    Examples
    --------
    >>> encoder = EfficientNetEncoder(**SIZES["small"])
    >>> encoder(torch.zeros(2, 1, 1000)).shape, encoder.tokens(torch.zeros(2, 1, 1000)).shape
    (torch.Size([2, 64]), torch.Size([2, 32, 256]))
    """

    def __init__(self, width, embed_dim):
        super().__init__()
        self.config = {"width": width, "embed_dim": embed_dim}
        self.embed_dim = embed_dim
        n_in, n_last = rounded(32 * width), rounded(1280 * width)
        self.stem = nn.Sequential(*conv_bn(1, n_in, 3, 2, activation=nn.SiLU()))
        self.blocks = nn.Sequential()
        for expansion, channels, blocks, stride, kernel in STAGES:
            for block in range(blocks):
                n_out = rounded(channels * width)
                self.blocks.append(
                    InvertedBlock(n_in, n_out, expansion, kernel, 1 if block else stride)
                )
                n_in = n_out
        self.last = conv_bn(n_in, n_last, activation=nn.SiLU())
        self.head = nn.Linear(n_last, embed_dim)

    def features(self, x):
        """Map (B, 1, 1, L) -> (B, C, 1, L / 32 rounded up)."""
        return self.last(self.blocks(self.stem(x)))


class InvertedBlock(nn.Module):
    """Expand, depthwise convolution, squeeze and excite, project: (B, n_in, 1, L) -> (B, n_out, 1,
    L / stride).
    """

    is_unit = True  # compiled and sharded as one piece

    def __init__(self, n_in, n_out, expansion, kernel, stride):
        super().__init__()
        wide, narrow = n_in * expansion, max(1, n_in // 4)
        self.expand = conv_bn(n_in, wide, activation=nn.SiLU()) if expansion > 1 else nn.Identity()
        self.depthwise = conv_bn(wide, wide, kernel, stride, groups=wide, activation=nn.SiLU())
        self.excite = nn.Sequential(
            nn.Conv2d(wide, narrow, 1), nn.SiLU(), nn.Conv2d(narrow, wide, 1), nn.Sigmoid()
        )
        self.project = conv_bn(wide, n_out)
        self.residual = n_in == n_out and stride == 1

    def forward(self, x):
        """Map (B, n_in, 1, L) -> (B, n_out, 1, L / stride rounded up)."""
        y = self.depthwise(self.expand(x))
        y = self.project(y * self.excite(y.mean((2, 3), keepdim=True)))
        return x + y if self.residual else y


def rounded(channels):
    """Round to the nearest multiple of 8, at least 8."""
    return max(8, round(channels / 8) * 8)
