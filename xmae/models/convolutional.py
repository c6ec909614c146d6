"""What the convolutional encoders share: `Conv2d` over (B, channels, 1, time) with batch norm, and
how they pool.
"""

import torch
from torch import nn


class ConvEncoder(nn.Module):
    """A convolutional encoder, scaled waveform (B, 1, L) -> embedding (B, E): `features` of the
    subclass, their mean over time, its `head`.
    """

    def tokens(self, x):
        """Map a scaled waveform (B, 1, L) -> features before pooling (B, n, C)."""
        return self.features(row_image(x)).squeeze(2).transpose(1, 2)

    def pool(self, tokens):
        """Map features (B, n, C) -> embedding (B, E)."""
        return self.head(tokens.mean(1))

    def forward(self, x):
        """Map a scaled waveform (B, 1, L) -> embedding (B, E)."""
        return self.embed(row_image(x))

    def embed(self, x):
        """Compute `forward` on (B, 1, 1, L), the shape that is exported."""
        return self.head(self.features(x).mean((2, 3), keepdim=True).flatten(1))


def row_image(x):
    """Map (B, 1, L) -> (B, 1, 1, L) in channels-last order, which oneDNN convolves without
    reordering (see `Stem`).
    """
    return x.unsqueeze(2).to(memory_format=torch.channels_last)


def conv_bn(n_in, n_out, kernel=1, stride=1, groups=1, activation=None):
    """Return a Conv2d of odd kernel (1, `kernel`) without bias, batch norm and activation: time
    becomes ceil(L / stride).
    """
    conv = nn.Conv2d(
        n_in, n_out, (1, kernel), (1, stride), (0, kernel // 2), groups=groups, bias=False
    )
    # so that batch norm's statistics start near right
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    return nn.Sequential(conv, nn.BatchNorm2d(n_out), *([activation] if activation else []))
