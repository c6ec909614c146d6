"""Pulse-PPG: Saha, Xu et al., Pulse-PPG: An Open-Source Field-Trained PPG Foundation Model, ACM
IMWUT 2025, doi 10.1145/3749494.

A ResNet-1D of 12 blocks that starts at 128 channels, kernel 11, at 50 Hz. It was trained on four
minutes and tested by its authors on windows of 8 s and more; its first layer normalises each input,
its last takes the maximum over time: 512 numbers.
"""

from torch import nn

from xmae.models.adopted.architecture import Architecture
from xmae.models.adopted.blocks import ResNet1D, count
from xmae.models.adopted.contract import Contract


class PulsePPG(ResNet1D):
    """Pulse-PPG, (B, 1, 500) -> embedding (B, 512).

    Parameters
    ----------
    width, kernel, n_blocks : int
        See `ResNet1D`.
    """

    def __init__(self, width=128, kernel=11, n_blocks=12):
        super().__init__(width, kernel, n_blocks)
        self.embed_dim, self.normalise = self.n_out, nn.InstanceNorm1d(1)

    def tokens(self, x):
        """Map (B, 1, L) -> (B, n, 512), one token per 1.28 s."""
        return self.features(self.normalise(x)).transpose(1, 2)

    def pool(self, tokens):
        """Map (B, n, 512) -> (B, 512)."""
        return tokens.amax(1)


def layout(state):
    """Return the settings of `PulsePPG` that the shapes of a state dict ask for."""
    width, _, kernel = state["first_block_conv.conv.weight"].shape
    return {"width": width, "kernel": kernel, "n_blocks": count(state, "basicblock_list.")}


ARCHITECTURES = {
    "pulse-ppg": Architecture(
        PulsePPG, layout, {}, Contract(sfreq=50, scaling="zscore"),
        "Saha, Xu et al., ACM IMWUT 2025, doi 10.1145/3749494", "see the page of the weights",
    )
}  # fmt: skip
