"""Apple: windows of one participant contrasted against a momentum encoder, with KoLeo
regularisation.

Source: Abbaspourazad et al., *Large-scale Training of Foundation Models for Wearable Biosignals*,
ICLR 2024, arXiv 2312.05409: positive pairs are two segments of one participant, each augmented;
InfoNCE at temperature 0.04 between the online and the momentum encoder, both ways; KoLeo at
weight 0.1; momentum 0.99; an EfficientNet-1D with a 256-dimensional embedding and a projection
256 -> 1024 -> 128 that is left out of it; Adam at 1e-3 for batches of 256. We know of no rule for
other batch sizes and of no clipping in it.

Ours: with fewer participants than pairs in a batch, other windows of a pair's own participant are
no negatives; AdamW with decay 1e-4 on all parameters and the common schedule; no permutation of
channels, for there is one; windows of 10 s (paper: 60 s); magnitude scaling is left out, for the
window is scaled again afterwards. The momentum is constant, as in the paper: of the random
teacher 0.7 % is left after 500 steps.
"""

import copy

from xmae.errors import require_choice
from xmae.models.efficientnet import SIZES, EfficientNetEncoder
from xmae.objectives.contrast import info_nce, koleo, mlp, same_subject
from xmae.objectives.objective import Defaults, Objective, follow, register
from xmae.objectives.views import APPLE, Draws, view


@register
class AppleObjective(Objective):
    """Contrastive learning between windows of one participant, with a momentum encoder.

    Parameters
    ----------
    size : str
        "base" or "small".
    temperature : float
        Temperature of the InfoNCE loss.
    koleo_weight : float
        Weight of the KoLeo regularisation.
    momentum : float
        Momentum of the momentum encoder, per step.
    """

    name = "apple"

    paper = "Abbaspourazad et al., ICLR 2024, arXiv 2312.05409"
    defaults = Defaults(
        batch_size=256, lr=1e-3, weight_decay=1e-4, betas=(0.9, 0.999), patience=None, keep="last"
    )
    pairs = True

    def __init__(self, size="base", temperature=0.04, koleo_weight=0.1, momentum=0.99):
        super().__init__()
        require_choice("size", size, SIZES)
        self.temperature, self.koleo_weight, self.momentum = temperature, koleo_weight, momentum
        self.encoder = EfficientNetEncoder(**SIZES[size])
        self.projection = mlp(self.encoder.embed_dim, 4 * self.encoder.embed_dim, 128)
        self.teacher, self.teacher_projection = (
            copy.deepcopy(part).requires_grad_(False) for part in (self.encoder, self.projection)
        )

    def forward(self, batch):
        """Return the InfoNCE in both directions between online and momentum projections of pairs,
        plus KoLeo, over the global batch.
        """
        x = view(batch.ppg, Draws(batch), APPLE)
        queries = self.gather(self.projection(self.encoder(x)))
        keys = self.gather(self.teacher_projection(self.teacher(x))).detach()
        person = same_subject(self.gather(batch.subject)[: len(queries) // 2])
        return self.loss(queries, keys, person)

    def loss(self, queries, keys, person):
        """Compute the loss of online and momentum projections (2n, D) of n pairs; `person` (n, n)
        is true for pairs of one person.
        """
        (one, two), (key_one, key_two) = queries.chunk(2), keys.chunk(2)
        contrast = info_nce(one, key_two, self.temperature, person) + info_nce(
            two, key_one, self.temperature, person
        )
        return contrast / 2 + self.koleo_weight * (koleo(one) + koleo(two)) / 2

    def restart_teacher(self):
        """Set the teacher to the weights of the encoder."""
        follow(self.teacher, self.encoder, 0.0)

    def after_step(self, progress):
        """Update the momentum encoder."""
        follow(self.teacher, self.encoder, self.momentum)
        follow(self.teacher_projection, self.projection, self.momentum)
