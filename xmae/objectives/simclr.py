"""SimCLR: two random views of one window must find each other among all other windows.

Source: Chen et al., *A Simple Framework for Contrastive Learning of Visual Representations*, ICML
2020, arXiv 2002.05709: NT-Xent on a projection of two layers, which is left out of the embedding.
Ours: the views (of PaPaGei, see `views`), the temperature, AdamW.
"""

from xmae.errors import require_choice
from xmae.models.resnet import SIZES, ResNetEncoder
from xmae.objectives.contrast import mlp, nt_xent
from xmae.objectives.objective import Defaults, Objective, register
from xmae.objectives.views import PAPAGEI, Draws, view


@register
class SimCLRObjective(Objective):
    """Contrast of augmented views.

    Parameters
    ----------
    size : str
        "base" or "small".
    temperature : float
        Of the NT-Xent loss.
    """

    name = "simclr"

    paper = "Chen et al., ICML 2020, arXiv 2002.05709"
    defaults = Defaults(lr=1e-3, weight_decay=1e-4, betas=(0.9, 0.999))

    def __init__(self, size="base", temperature=0.1):
        super().__init__()
        require_choice("size", size, SIZES)
        self.encoder, self.temperature = ResNetEncoder(**SIZES[size]), temperature
        self.projection = mlp(self.encoder.embed_dim, self.encoder.embed_dim, 128)

    def forward(self, batch):
        """NT-Xent of two views of each window, over the global batch."""
        draws = Draws(batch)
        a, b = (
            self.gather(self.projection(self.encoder(view(batch.ppg, draws, PAPAGEI))))
            for _ in range(2)
        )
        return nt_xent(a, b, self.temperature)
