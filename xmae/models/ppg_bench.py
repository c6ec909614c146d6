"""An encoder in the protocol of PPG-Bench (package `ppg-bench`, arXiv 2610.13435).

PPG-Bench loads a class by name and calls two methods of it; nothing of that package is imported
here. Its model file for this class:

    name: xMAE
    port: xmae.models.ppg_bench:Port
    fs: 100
    embedding_dim: 256
    init: {model: base}
"""

import torch.nn.functional as F

from xmae.errors import UserError
from xmae.models.checkpoint import load_encoder
from xmae.signals.scale import minmax_scale
from xmae.signals.window import N_TIMES, SFREQ


class Port:
    """Adapter to the model interface of PPG-Bench.

    Parameters
    ----------
    model_init_cfg : dict
        `init` of the model file: `model`, an encoder as `xmae.load` takes it; and `target_fs`,
        which PPG-Bench adds.

    Raises
    ------
    UserError
        If the model file states another rate than 100 Hz.
    """

    def __init__(self, model_init_cfg):
        self.model = model_init_cfg.get("model", "base")
        if model_init_cfg.get("target_fs", SFREQ) != SFREQ:
            raise UserError(f"fs of the model file must be {SFREQ}")

    def load_encoder(self):
        """Load a new encoder: windows (B, 1, 1000) -> embeddings (B, E)."""
        return load_encoder(self.model)

    def prepare_batch(self, batch, model_cfg, device):
        """Convert the windows of `batch["x"]` (B, n_times) at 100 Hz to scaled ones of 10 s, (B, 1,
        1000).

        Longer ones are cut to their middle, shorter ones go on as their mirror image.
        """
        x = batch["x"].float().to(device)[:, None]
        first = max(0, (x.shape[-1] - N_TIMES) // 2)
        x = x[..., first : first + N_TIMES]
        while (lacking := N_TIMES - x.shape[-1]) > 0:
            x = F.pad(x, (0, min(lacking, x.shape[-1] - 1)), mode="reflect")
        return minmax_scale(x)[0]
