"""LSM: masked reconstruction with the large sensor model's three tasks: imputation,
interpolation, forecasting.

Source: Narayanswamy et al., *Scaling Wearable Foundation Models*, ICLR 2025, arXiv 2410.13638: a
masked autoencoder (MAE) whose masks are random patches (imputation), a run of time
(interpolation), or all time after a moment (forecasting), 80 % hidden, mean squared error of the
samples as they are.

Ours: the mix is even, and all three hide as many patches, so that the visible ones of a batch
form a rectangle; one signal of 10 s (paper: 26 features of 300 minutes); learning rate, its rule
for other batch sizes, decoder and what decays are MAE's; what else differs there differs here.
"""

import torch

from xmae.objectives.mae import MAEObjective
from xmae.objectives.masks import sensor_mix
from xmae.objectives.objective import Defaults, register


@register
class LSMObjective(MAEObjective):
    """Masked reconstruction of PPG with mixed masks.

    Parameters
    ----------
    size, mask_ratio
        As in `xmae.objectives.mae.MAEObjective`.
    """

    name = "lsm"

    paper = "Narayanswamy et al., ICLR 2025, arXiv 2410.13638"
    defaults = Defaults(lr=1.5e-4, lr_batch=256, weight_decay=1e-4)

    def __init__(self, size="base", mask_ratio=0.8):
        super().__init__(size, mask_ratio)

    def masks(self, n, n_patches, generator):
        """Draw the masks of the global batch: bool (n, N), True = hidden, as many in each row."""
        return sensor_mix(n, n_patches, self.mask_ratio, generator)

    def targets(self, patches):
        """Return the target of the reconstruction: the samples, (B, N, 40)."""
        return patches.to(torch.float32)
