"""Apple-M: the multimodal variant: PPG and ECG of one participant and moment must find each other.

Source: the baseline "Apple-M" of Zhou et al., ICML 2026, arXiv 2605.00973, which takes
Abbaspourazad et al., ICLR 2024, arXiv 2312.05409 (InfoNCE at temperature 0.04, KoLeo at 0.1,
projections left out of the embedding) from pairs of windows to pairs of signals.

Ours: InfoNCE both ways as in CLIP (Radford et al., arXiv 2103.00020), no momentum encoder, two
ViT-1D, no views but the recipe's changes; optimisation is xMAE's, at any batch size, for neither
paper says how the baseline was trained.
"""

from xmae.errors import require_choice
from xmae.models.vit import SIZES, ViTEncoder
from xmae.objectives.contrast import info_nce, koleo, mlp
from xmae.objectives.objective import Defaults, Objective, register


@register
class AppleMObjective(Objective):
    """Contrastive learning between synchronous PPG and ECG.

    Parameters
    ----------
    size, temperature, koleo_weight
        As in `xmae.objectives.apple.AppleObjective`.
    """

    name = "apple-m"

    paper = (
        "Zhou et al., ICML 2026, arXiv 2605.00973, after Abbaspourazad et al., ICLR 2024, "
        "arXiv 2312.05409"
    )
    defaults = Defaults(batch_size=256, lr=3e-4, weight_decay=0.01)
    needs_ecg = True

    def __init__(self, size="base", temperature=0.04, koleo_weight=0.1):
        super().__init__()
        require_choice("size", size, SIZES)
        self.temperature, self.koleo_weight = temperature, koleo_weight
        self.encoder, self.ecg_encoder = ViTEncoder(**SIZES[size]), ViTEncoder(**SIZES[size])
        width = self.encoder.embed_dim
        self.projection, self.ecg_projection = (
            mlp(width, 4 * width, 128),
            mlp(width, 4 * width, 128),
        )

    def forward(self, batch):
        """Return the InfoNCE in both directions between PPG and ECG, plus KoLeo, over the global
        batch.
        """
        ppg = self.gather(self.projection(self.encoder(batch.ppg)))
        ecg = self.gather(self.ecg_projection(self.ecg_encoder(batch.ecg)))
        return self.loss(ppg, ecg)

    def loss(self, ppg, ecg):
        """Compute the loss of projections (n, D), where row i of both is from the same moment."""
        contrast = info_nce(ppg, ecg, self.temperature) + info_nce(ecg, ppg, self.temperature)
        return contrast / 2 + self.koleo_weight * (koleo(ppg) + koleo(ecg)) / 2
