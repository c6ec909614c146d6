"""PaPaGei: Pillai et al., PaPaGei: Open Foundation Models for Optical Physiological Signals, ICLR
2025, arXiv 2410.20542.

A ResNet-1D of 18 blocks that starts at 32 channels, kernel 3, for 10 s at 125 Hz, z-scored after a
0.5-12 Hz band-pass. The published files differ in their heads: PaPaGei-S has two mixtures of
experts on the shape of the pulse, PaPaGei-P a projector of its contrastive loss, others a
regression. Which a file has is read off its keys. The heads load, so that a file must fit whole,
and the embedding is what the authors use: the 512 numbers of `dense` for PaPaGei-S, the 512 pooled
channels for the others.
"""

import torch.nn.functional as F
from torch import nn

from xmae.models.adopted.architecture import Architecture
from xmae.models.adopted.blocks import ResNet1D, count
from xmae.models.adopted.contract import Contract

CONTRACT = Contract(sfreq=125, scaling="zscore", band_hz=(0.5, 12.0))
PAPER = "Pillai et al., ICLR 2025, arXiv 2410.20542"


class PaPaGei(ResNet1D):
    """PaPaGei, (B, 1, 1250) -> embedding (B, 512).

    Parameters
    ----------
    uses_dense : bool
        The embedding is `dense` of the pooled channels, not these themselves.
    n_experts : int
        Experts of each mixture; 0: the file has none.
    has_projector, has_regression : bool
        Further heads that the file has.
    width, n_blocks, embed_dim : int
        Channels of the stem, blocks, width of `dense`.
    """

    def __init__(
        self, uses_dense=True, n_experts=3, has_projector=False, has_regression=False, width=32,
        n_blocks=18, embed_dim=512,
    ):  # fmt: skip
        super().__init__(width, 3, n_blocks)
        n = self.n_out
        self.uses_dense, self.embed_dim = uses_dense, embed_dim if uses_dense else n
        self.final_bn = nn.BatchNorm1d(n)
        self.dense = nn.Linear(n, embed_dim)
        if n_experts:
            for number, dropout in ((1, []), (2, [nn.Dropout(0.3)])):
                experts = nn.ModuleList(
                    nn.Sequential(nn.Linear(n, n // 2), nn.ReLU(), *dropout, nn.Linear(n // 2, 1))
                    for _ in range(n_experts)
                )
                gate = nn.Sequential(nn.Linear(n, n_experts), nn.Softmax(1))
                setattr(self, f"expert_layers_{number}", experts)
                setattr(self, f"gating_network_{number}", gate)
        if has_projector:
            self.projector = nn.Sequential(
                nn.Linear(n, 256), nn.BatchNorm1d(256), nn.ReLU(), nn.Linear(256, 128)
            )
        if has_regression:
            half, quarter = embed_dim // 2, embed_dim // 4
            self.mt_regression = nn.Sequential(
                nn.Linear(embed_dim, half), nn.BatchNorm1d(half), nn.Linear(half, quarter),
                nn.BatchNorm1d(quarter), nn.Linear(quarter, 1),
            )  # fmt: skip

    def tokens(self, x):
        """Map (B, 1, L) -> (B, n, 512), one token per 4.1 s."""
        return F.relu(self.final_bn(self.features(x))).transpose(1, 2)

    def pool(self, tokens):
        """Map (B, n, 512) -> (B, E)."""
        pooled = tokens.mean(1)
        return self.dense(pooled) if self.uses_dense else pooled


def layout_of(uses_dense):
    """Return the function that maps a state dict to the settings of `PaPaGei` that its tensors ask
    for.
    """

    def layout(state):
        return {
            "uses_dense": uses_dense,
            "n_experts": count(state, "expert_layers_1."),
            "has_projector": "projector.0.weight" in state,
            "has_regression": "mt_regression.0.weight" in state,
            "width": len(state["first_block_conv.conv.weight"]),
            "n_blocks": count(state, "basicblock_list."),
            "embed_dim": len(state["dense.weight"]),
        }

    return layout


LICENCE = "BSD-3-Clause-Clear of the code; see the page of the weights"
ARCHITECTURES = {
    "papagei-s": Architecture(
        PaPaGei, layout_of(True), {"n_experts": 3}, CONTRACT, PAPER, LICENCE
    ),
    "papagei-p": Architecture(
        PaPaGei, layout_of(False), {"uses_dense": False, "n_experts": 0, "has_projector": True},
        CONTRACT, PAPER, LICENCE,
    ),
    "papagei-svri": Architecture(
        PaPaGei, layout_of(False), {"uses_dense": False, "n_experts": 0, "has_regression": True},
        CONTRACT, PAPER, LICENCE,
    ),
}  # fmt: skip
