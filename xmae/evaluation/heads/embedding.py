"""Windows in, embeddings out: the one place where the scaling that an encoder expects is
applied.
"""

from itertools import chain

import numpy as np
import torch
from tqdm import tqdm

from xmae.signals.scale import minmax_scale


@torch.no_grad()
def embed_windows(encoder, windows, batch_size=64, progress=False):
    """Embed windows with a PyTorch encoder in evaluation mode, on the device of its parameters.

    Parameters
    ----------
    encoder : torch.nn.Module
        `encoder(ppg (B, 1, 1000) in [-1, 1]) -> (B, D)`; its training mode is put back afterwards.
    windows : Windows or array, shape (n, 1000)
        Cleaned PPG at 100 Hz, in any units: every window is min-max scaled to [-1, 1], a flat one
        to zeros.
    batch_size : int
        Windows per call.
    progress : bool
        Show a bar on standard error.

    Returns
    -------
    float32 array, shape (n, D)
    """
    ppg = np.asarray(getattr(windows, "ppg", windows))
    # an adopted program has no parameters, only buffers
    device = next(chain(encoder.parameters(), encoder.buffers())).device
    was_training = encoder.training
    encoder.eval()
    rows = []
    for start in tqdm(
        range(0, len(ppg), batch_size), desc="embed", disable=not progress, leave=False
    ):
        scaled, _ = minmax_scale(ppg[start : start + batch_size])
        batch = torch.as_tensor(scaled, dtype=torch.float32, device=device)[:, None]
        rows.append(encoder(batch).float().cpu())
    encoder.train(was_training)
    return torch.cat(rows).numpy()
