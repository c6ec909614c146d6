"""SimCLR: two random views of one window must find each other among all other windows.

Source: Chen et al., *A Simple Framework for Contrastive Learning of Visual Representations*, ICML
2020, arXiv 2002.05709: NT-Xent on a projection of two layers, which is left out of the embedding;
temperature 0.1; a learning rate in proportion to the batch; no weight decay on norms and biases;
no clipping of gradients.

Ours: the views (of PaPaGei, see `views`); AdamW at 1e-3 for 512 windows with decay 1e-4 (paper:
LARS at 0.3 for 256 with 1e-6); no batch norm in the projection; batches of 512 (paper: 4,096);
warm-up is a tenth of the run (paper: 10 epochs); early stopping.
"""

from xmae.errors import require_choice
from xmae.models.resnet import SIZES, ResNetEncoder
from xmae.objectives.contrast import mlp, nt_xent
from xmae.objectives.objective import Defaults, Objective, is_weight, register
from xmae.objectives.views import PAPAGEI, Draws, view


@register
class SimCLRObjective(Objective):
    """Contrastive learning between augmented views.

    Parameters
    ----------
    size : str
        "base" or "small".
    temperature : float
        Temperature of the NT-Xent loss.
    """

    name = "simclr"

    paper = "Chen et al., ICML 2020, arXiv 2002.05709"
    defaults = Defaults(lr=1e-3, lr_batch=512, weight_decay=1e-4, betas=(0.9, 0.999))

    def __init__(self, size="base", temperature=0.1):
        super().__init__()
        require_choice("size", size, SIZES)
        self.encoder, self.temperature = ResNetEncoder(**SIZES[size]), temperature
        self.projection = mlp(self.encoder.embed_dim, self.encoder.embed_dim, 128)

    def decays(self, name, parameter):
        """Tell whether weight decay applies to a parameter: to weights only."""
        return is_weight(name, parameter)

    def forward(self, batch):
        """Return the NT-Xent loss of two views of each window, over the global batch."""
        draws = Draws(batch)
        a, b = (
            self.gather(self.projection(self.encoder(view(batch.ppg, draws, PAPAGEI))))
            for _ in range(2)
        )
        return nt_xent(a, b, self.temperature)
