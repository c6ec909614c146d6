"""What the training drew: reconstructed over true ECG for a few validation windows."""

import lightning as L
import numpy as np
import torch
from matplotlib.figure import Figure

from xmae.files import atomic_file
from xmae.objectives.curriculum import RATIOS
from xmae.objectives.masks import anchor, n_hidden
from xmae.signals.window import PATCH, SFREQ


class ReconstructionPicture(L.Callback):
    """Callback that draws reconstructed over true ECG into ``reconstruction.png`` every few
    epochs.
    """

    def __init__(self, out, every=5):
        self.path, self.every = out / "reconstruction.png", every

    def on_validation_epoch_end(self, trainer, module):
        """Draw the picture, on the first process."""
        done = trainer.current_epoch + 1
        if trainer.is_global_zero and (done % self.every == 0 or done == trainer.max_epochs):
            ppg, ecg = sample(trainer.val_dataloaders)
            draw_reconstruction(
                module.objective.model, ppg.to(module.device), ecg.to(module.device), self.path
            )


def sample(batches, n_windows=3):
    """Return a few windows of the first validation batch, evenly spaced: ppg, ecg (n, 1, L)."""
    ppg, ecg = next(iter(batches))[:2]
    pick = np.linspace(0, len(ppg) - 1, n_windows).astype(int)
    return ppg[pick], ecg[pick]


def draw_reconstruction(model, ppg, ecg, path):
    """Draw windows (n, 1, L) as PPG, true ECG and reconstructed ECG; patches visible to the model
    are shaded.
    """
    training = model.training
    model.eval()
    n_patches = ppg.shape[-1] // PATCH
    mask = anchor(len(ppg), n_patches, RATIOS[0], torch.Generator().manual_seed(0)).to(ppg.device)
    with torch.no_grad():
        out = model(ppg, ecg, mask, n_patches - n_hidden(n_patches, RATIOS[0]))
    model.train(training)
    hidden = mask.repeat_interleave(PATCH, 1).cpu()  # only there is the reconstruction asked for
    rebuilt = torch.where(hidden, out.reconstruction[:, 0].float().cpu(), torch.nan)
    time = np.arange(ppg.shape[-1]) / SFREQ
    figure = Figure(figsize=(9, 2.2 * len(ppg)), layout="constrained")
    for i, ax in enumerate(figure.subplots(len(ppg), 1, sharex=True, squeeze=False)[:, 0]):
        ax.plot(time, ppg[i, 0].cpu() - 2.2, color="#2a9d8f", lw=1, label="PPG (seen whole)")
        ax.plot(time, ecg[i, 0].cpu(), color="#8d99ae", lw=1, label="ECG")
        ax.plot(time, rebuilt[i], color="#d62828", lw=1, label="rebuilt ECG")
        for patch in torch.nonzero(~mask[i].cpu())[:, 0].tolist():
            ax.axvspan(
                patch * PATCH / SFREQ,
                (patch + 1) * PATCH / SFREQ,
                color="#e9c46a",
                alpha=0.35,
                lw=0,
            )
        ax.set_yticks([])
        ax.margins(x=0)
    ax.set_xlabel("time (s); shaded: ECG that the model saw")
    figure.legend(
        *ax.get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False
    )
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=110)
