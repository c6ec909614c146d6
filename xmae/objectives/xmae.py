"""xMAE's objective: hide most of the ECG, rebuild it from the rest and the synchronous PPG.

Source: Zhou et al., *Physiology-Aware Masked Cross-Modal Reconstruction for Biosignal
Representation Learning*, ICML 2026, arXiv 2605.00973: mask, bridge, loss, AdamW at 3e-4 with
betas 0.9 and 0.95 and decay 0.01 on all parameters, warm-up over a tenth and cosine, batches of
512, 37 epochs, patience 17. The paper has no rule for other batch sizes and clips no gradients.

Ours: the ladder of mask ratios (declared, not defined); PPG and ECG are shifted together, not
each by its own draw; training is augmented, not validation; an embedding without the projection
that no loss reaches; random crops; and with the recipe "small-data" joint time stretch, changes
of the PPG's look, and a bridge that starts aligned in time.
"""

import torch

from xmae.errors import require_choice
from xmae.models.xmae import SIZES, XMAE
from xmae.objectives.curriculum import RATIOS, EpochSchedule, LossLadder
from xmae.objectives.masks import SHAPES, n_hidden
from xmae.objectives.objective import Objective, register
from xmae.signals.window import PATCH

CURRICULA = ("ladder", "schedule", "none")


@register
class XMAEObjective(Objective):
    """Masked reconstruction of ECG from PPG: model, masks and curriculum.

    Parameters
    ----------
    size : str
        "base" (published) or "small".
    mask : str
        Shape of the ECG mask: "anchor" (published), "block", "scatter" or "mixed".
    curriculum : str
        How the mask ratio rises through 0.80, 0.85, 0.90: "ladder" by validation loss, "schedule"
        over epochs, "none" stays.
    n_epochs : int
        Epochs of the whole training (for "schedule").
    """

    name = "xmae"

    paper = "Zhou et al., ICML 2026, arXiv 2605.00973"
    needs_ecg = True
    rebuilds_ecg = True

    def __init__(self, size="base", mask="anchor", curriculum="ladder", n_epochs=37):
        super().__init__()
        require_choice("size", size, SIZES)
        require_choice("mask", mask, SHAPES)
        require_choice("curriculum", curriculum, CURRICULA)
        self.model = XMAE(SIZES[size])
        self.shape = SHAPES[mask]
        self.curriculum = {
            "ladder": LossLadder(),
            "schedule": EpochSchedule(n_epochs),
            "none": LossLadder(RATIOS[:1]),
        }[curriculum]

    @property
    def encoder(self):
        """Return the PPG encoder, which is the result of pretraining."""
        return self.model.encoder

    def align(self):
        """Initialise positions and bridge aligned in time."""
        self.model.align()

    def forward(self, batch):
        """Compute the training loss of a `Batch`. The mask is drawn for the global batch, and each
        process keeps its own rows.
        """
        return self.loss(batch, self.curriculum.ratio)

    def validate(self, batch):
        """Compute the validation loss, always at the first mask ratio, so that the levels of the
        curriculum are comparable.
        """
        return self.loss(batch, RATIOS[0])

    def loss(self, batch, ratio):
        """Return the masked mean squared error of one batch at one mask ratio."""
        n_patches = batch.ppg.shape[-1] // PATCH
        generator = torch.Generator().manual_seed(batch.seed)
        mask = self.shape(batch.n_total, n_patches, ratio, generator)[batch.rows].to(
            batch.ppg.device, non_blocking=True
        )
        return self.model(batch.ppg, batch.ecg, mask, n_patches - n_hidden(n_patches, ratio)).loss

    def end_epoch(self, val_loss):
        """Update the curriculum; return the mask ratio of the next epoch, to be logged."""
        self.curriculum.update(val_loss)
        return {"mask_ratio": self.curriculum.ratio}

    def get_extra_state(self):
        """Return the state of the curriculum, for checkpoints."""
        return vars(self.curriculum)

    def set_extra_state(self, state):
        """Restore the state of the curriculum from a checkpoint; the remaining epochs follow the
        current settings.
        """
        vars(self.curriculum).update({k: v for k, v in state.items() if k != "n_epochs"})
