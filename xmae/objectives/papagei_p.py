"""PaPaGei-P: two windows of one subject must find each other among the windows of other subjects.

Source: Pillai et al., *PaPaGei: Open Foundation Models for Optical Physiological Signals*, ICLR
2025, arXiv 2410.20542: positive pairs are segments of one subject, augmented (a crop stays where
it was, with zeros around it), NT-Xent at temperature 0.07. We know of no rule for other batch
sizes and of no clipping in it.

Ours: with fewer subjects than pairs in a batch, other windows of a pair's own subject are no
negatives; a projection, left out of the embedding; noise is up to 5 % of the range; scaling is
left out, for the window is scaled again afterwards; AdamW at 1e-3 with decay 1e-4 on all
parameters, the common schedule and batches of 512 (the paper's were not at hand); the
ResNet of `xmae.models.resnet`; 10 s at 100 Hz (paper: 125 Hz).
"""

from xmae.errors import require_choice
from xmae.models.resnet import SIZES, ResNetEncoder
from xmae.objectives.contrast import mlp, nt_xent, same_subject
from xmae.objectives.objective import Defaults, Objective, register
from xmae.objectives.views import PAPAGEI, Draws, view


@register
class PaPaGeiPObjective(Objective):
    """Contrastive learning between windows of one subject.

    Parameters
    ----------
    size, temperature
        As in `xmae.objectives.simclr.SimCLRObjective`.
    """

    name = "papagei-p"

    paper = "Pillai et al., ICLR 2025, arXiv 2410.20542"
    defaults = Defaults(lr=1e-3, weight_decay=1e-4, betas=(0.9, 0.999), patience=None, keep="last")
    pairs = True

    def __init__(self, size="base", temperature=0.07):
        super().__init__()
        require_choice("size", size, SIZES)
        self.encoder, self.temperature = ResNetEncoder(**SIZES[size]), temperature
        self.projection = mlp(self.encoder.embed_dim, self.encoder.embed_dim, 128)

    def forward(self, batch):
        """Return the NT-Xent loss of pairs of windows of one subject, over the global batch."""
        z = self.gather(self.projection(self.encoder(view(batch.ppg, Draws(batch), PAPAGEI))))
        subject = same_subject(self.gather(batch.subject)[: len(z) // 2])
        return nt_xent(*z.chunk(2), self.temperature, subject)
