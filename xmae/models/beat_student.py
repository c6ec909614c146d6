"""Students that read beats: convolutions only, the timing map at 25 Hz beside the embedding.

    ppg (1000) -> pad once -> stem -> blocks at 25 Hz -+-> 1x1 -> timing map (3, 250)
                                                       +-> 1x1, ReLU, mean, Linear -> embedding (256)

No layer pads: zeros are set around the window once. So an output is the same number whether a whole
window is computed or a stream, one sample after the other, wherever the receptive field lies inside.
The net of `mcu` looks 0.835 s ahead of the moment that it answers for, and 3.2 s back.
"""

from dataclasses import asdict, dataclass

from torch import nn

from xmae.beats.timing_map import STEP
from xmae.models.convolutional import row_image
from xmae.models.map_reading import read_by_map
from xmae.signals.window import N_TIMES

N_OUTPUTS = N_TIMES // STEP  # of the map
EMBED_DIM = 256


@dataclass(frozen=True)
class BeatConfig:
    """Sizes of a student.

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
    branch : int
        Channels that are pooled for the embedding.
    look_ahead : int
        Samples at 100 Hz after an output's four that it may see.
    n_inputs : int
        Channels: 1 = PPG, 4 = PPG and three axes of acceleration.
    """

    stem: int = 16
    width: int = 40
    depth: int = 6
    kernel: int = 15
    branch: int = 96
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

    embed_dim = EMBED_DIM

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
        self.branch = conv_bn_relu(config.width, config.branch, 1, 2)
        self.head = nn.Linear(config.branch, EMBED_DIM)
        self.reach = 8 + 2 * 5 + 4 * config.depth * (config.kernel - 1)  # samples an output sees
        right = config.look_ahead
        self.padding = (self.reach - STEP - right, right)

    def features(self, x):
        """(B, C, 1, L) -> (B, width, 1, L / 4): what map and embedding are read off.

        Acceleration that is missing is zeros.
        """
        if x.shape[1] < self.sizes.n_inputs:
            x = nn.functional.pad(x, (0, 0, 0, 0, 0, self.sizes.n_inputs - x.shape[1]))
        return self.trunk(nn.functional.pad(x, self.padding))

    def trunk(self, x):
        """`features` without padding: (B, C, 1, L) -> (B, width, 1, (L - reach) / 4 + 1)."""
        return self.blocks(self.down(self.stem(x)))

    def pool(self, features):
        """Features (B, width, 1, n) -> embedding (B, 256)."""
        return self.head(self.branch(features).mean((2, 3), keepdim=True).flatten(1))

    def timing(self, ppg):
        """Scaled window (B, C, 1000) -> timing map (B, 3, 250)."""
        return self.to_map(self.features(row_image(ppg))).squeeze(2)

    def forward(self, ppg):
        """Scaled window (B, C, 1000) -> embedding (B, 256)."""
        return self.pool(self.features(row_image(ppg)))

    def read(self, ppg, sfreq, acc=None, acc_sfreq=None):
        """Read beats, heart rate, rhythm and certainty; see `xmae.beats.read.read_recording`."""
        from xmae.beats.read import read_recording

        return read_recording(self, ppg, sfreq, acc=acc, acc_sfreq=acc_sfreq)

    def read_windows(self, ppg, batch_size=256):
        """Read cleaned windows at 100 Hz, (n, 1000) in any unit, each by itself: a `Reading`."""
        return read_by_map(self, ppg, batch_size)

    def both(self, ppg):
        """Scaled window (B, C, 1000) -> embedding (B, 256) and timing map (B, 3, 250)."""
        features = self.features(row_image(ppg))
        return self.pool(features), self.to_map(features).squeeze(2)


def conv_bn_relu(channels, out, kernel, stride=1, groups=1):
    """Conv2d of kernel (1, `kernel`) without bias and padding, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels, out, (1, kernel), (1, stride), groups=groups, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(),
    )


def separable(channels, out, kernel, stride=1):
    """Depthwise (1, `kernel`), pointwise 1x1, batch norm, ReLU; nothing between the two (Chollet, CVPR 2017)."""
    depthwise = nn.Conv2d(channels, channels, (1, kernel), (1, stride), groups=channels, bias=False)
    return nn.Sequential(depthwise, *conv_bn_relu(channels, out, 1))
