"""Students that read beats: convolutions only, the timing map at 25 Hz beside the embedding.

  ppg (1000) -> pad once -> stem -> blocks at 25 Hz -+-> 1x1 -> timing map (3, 250)
                             |                       +-> 1x1, ReLU, mean, Linear -> embedding (256)
                             +-> or slow blocks --------^

No layer pads: zeros are set around the window once. So an output is the same number whether a whole
window is computed or a stream, one sample after the other, wherever the receptive field lies
inside. The net of `mcu` looks 0.835 s ahead of the moment that it answers for, and 3.2 s back.
"""

from dataclasses import asdict, dataclass
from itertools import pairwise

import torch
from torch import nn

from xmae.beats.timing_map import STEP
from xmae.models.convolutional import row_image
from xmae.models.map_reading import read_by_map
from xmae.signals.window import N_TIMES

N_OUTPUTS = N_TIMES // STEP  # of the map
EMBED_DIM = 256
SLOW_KERNEL = 9  # taps of the blocks that lead to the embedding alone


@dataclass(frozen=True)
class BeatConfig:
    """Sizes of a student that reads beats.

    Parameters
    ----------
    stem : int
        Channels at 50 Hz.
    width : int
        Channels at 25 Hz.
    depth : int
        Blocks at 25 Hz.
    kernel : int
        Taps of their depthwise convolutions, odd.
    slow : tuple of int
        Channels of blocks that lead from the stem to the embedding alone, each at half the rate.
        Without any, the embedding is pooled from the last features of the timing map.
    branch : int
        Channels that are pooled for the embedding.
    embed_dim : int
        Width of the embedding.
    look_ahead : int
        Samples at 100 Hz after an output's four that it may see.
    n_inputs : int
        Channels: 1 = PPG, 4 = PPG and three axes of acceleration.
    """

    stem: int = 16
    width: int = 40
    depth: int = 6
    kernel: int = 15
    slow: tuple[int, ...] = ()
    branch: int = 96
    embed_dim: int = EMBED_DIM
    look_ahead: int = 42
    n_inputs: int = 1


BEAT_TIERS = {
    "mcu-s": BeatConfig(stem=8, width=16, branch=48),
    "mcu": BeatConfig(kernel=17, look_ahead=82),
    "app": BeatConfig(stem=32, width=80, depth=8, branch=192),
    "motion": BeatConfig(stem=24, width=44, branch=64, n_inputs=4),
}


class BeatStudent(nn.Module):
    """PPG (B, 1, 1000) in [-1, 1] -> embedding (B, 256); `timing` gives the map (B, 3, 250).

    Parameters
    ----------
    tier : str
        One of `BEAT_TIERS`.
    **sizes
        Fields of `BeatConfig` that differ from the tier's.

    Examples
    --------
    >>> student = BeatStudent("mcu").eval()
    >>> student(torch.zeros(2, 1, 1000)).shape, student.timing(torch.zeros(2, 1, 1000)).shape
    (torch.Size([2, 256]), torch.Size([2, 3, 250]))
    """

    certainty = None  # table that `read` goes by; None: that of `beats-mcu` or `student-motion`

    def __init__(self, tier="mcu", **sizes):
        super().__init__()
        config = BeatConfig(**(asdict(BEAT_TIERS[tier]) | sizes))
        self.config, self.sizes = {"tier": tier} | asdict(config), config  # a tier may change
        self.stem = conv_bn_relu(config.n_inputs, config.stem, 8, 2)
        self.down = separable(config.stem, config.width, 6, 2)
        self.blocks = nn.Sequential(
            *(separable(config.width, config.width, config.kernel) for _ in range(config.depth))
        )
        self.to_map = nn.Conv2d(config.width, 3, 1)
        widths = (config.width, *config.slow)
        self.slow = nn.Sequential(*(separable(a, b, SLOW_KERNEL, 2) for a, b in pairwise(widths)))
        self.branch = conv_bn_relu(widths[-1], config.branch, 1, 2)
        self.head = nn.Linear(config.branch, config.embed_dim)
        self.embed_dim = config.embed_dim
        self.reach = 8 + 2 * 5 + 4 * config.depth * (config.kernel - 1)  # samples an output sees
        right = config.look_ahead
        self.padding = (self.reach - STEP - right, right)

    def first(self, x):
        """Compute the first features at 25 Hz, with those of the padding: (B, C, 1, L) -> (B,
        width, 1, n).

        Missing acceleration is replaced by zeros.
        """
        if x.shape[1] < self.sizes.n_inputs:
            x = nn.functional.pad(x, (0, 0, 0, 0, 0, self.sizes.n_inputs - x.shape[1]))
        return self.down(self.stem(nn.functional.pad(x, self.padding)))

    def features(self, x):
        """Compute the features from which the map is read: (B, C, 1, L) -> (B, width, 1, L / 4)."""
        return self.blocks(self.first(x))

    def embedding(self, features):
        """Map features (B, width, 1, n), the first ones if there are slow blocks -> embedding (B,
        E).
        """
        pooled = self.branch(self.slow(features)).mean((2, 3), keepdim=True)
        return self.head(pooled.flatten(1))

    def tokens(self, ppg):
        """Map scaled windows (B, C, 1000) -> the features behind the embedding (B, n, width)."""
        read = self.first if len(self.slow) else self.features
        return read(row_image(ppg)).squeeze(2).transpose(1, 2)

    def pool(self, tokens):
        """Map features (B, n, width) -> embedding (B, E)."""
        return self.embedding(tokens.transpose(1, 2).unsqueeze(2))

    def timing(self, ppg):
        """Map scaled windows (B, C, 1000) -> timing map (B, 3, 250)."""
        return self.to_map(self.features(row_image(ppg))).squeeze(2)

    def forward(self, ppg):
        """Map scaled windows (B, C, 1000) -> embedding (B, E)."""
        return self.pool(self.tokens(ppg))

    def read(self, ppg, sfreq, acc=None, acc_sfreq=None, polarity="auto"):
        """Read beats, heart rate, rhythm and certainty; see `xmae.beats.read.read_recording`."""
        from xmae.beats.read import read_recording

        return read_recording(self, ppg, sfreq, self.certainty, acc, acc_sfreq, polarity=polarity)

    def read_windows(self, ppg, batch_size=256):
        """Read cleaned windows at 100 Hz, (n, 1000) in any unit, each by itself: a `Reading`."""
        return read_by_map(self, ppg, batch_size)

    def both(self, ppg):
        """Map scaled windows (B, C, 1000) -> embedding (B, E) and timing map (B, 3, 250)."""
        embedding, timing = self.outputs(row_image(ppg))
        return embedding, timing.squeeze(2)

    def outputs(self, x):
        """Map (B, C, 1, L) -> embedding (B, E) and timing map (B, 3, 1, L / 4)."""
        first = self.first(x)
        last = self.blocks(first)
        return self.embedding(first if len(self.slow) else last), self.to_map(last)


def takes_acceleration(encoder):
    """Tell whether an encoder takes three axes of acceleration beside PPG."""
    return isinstance(encoder, BeatStudent) and encoder.sizes.n_inputs > 1


def conv_bn_relu(channels, out, kernel, stride=1, groups=1):
    """Return a Conv2d of kernel (1, `kernel`) without bias and padding, batch norm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels, out, (1, kernel), (1, stride), groups=groups, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(),
    )


class Depthwise(nn.Conv2d):
    """Depthwise convolution (1, `kernel`) without bias and padding: (B, C, 1, L) -> (B, C, 1, n).

    In bfloat16, with at most 16 channels in channels-last order and 15 taps or more, oneDNN of
    PyTorch 2.13 never returns on processors with AVX-512 BF16 (seen on an AMD EPYC). Those are
    convolved in plain order.
    """

    def __init__(self, channels, kernel, stride=1):
        super().__init__(channels, channels, (1, kernel), (1, stride), groups=channels, bias=False)
        self.hangs = channels <= 16 and kernel >= 15

    def forward(self, x):
        """Map (B, C, 1, L) -> (B, C, 1, n)."""
        if not (self.hangs and torch.is_autocast_enabled("cpu")):
            return super().forward(x)
        return super().forward(x.contiguous()).contiguous(memory_format=torch.channels_last)


def separable(channels, out, kernel, stride=1):
    """Return depthwise (1, `kernel`) and pointwise 1x1 convolution, batch norm and ReLU, with
    nothing between the convolutions (Chollet, CVPR 2017).
    """
    return nn.Sequential(Depthwise(channels, kernel, stride), *conv_bn_relu(channels, out, 1))
