"""Windows read one by one through a network's timing map."""

import numpy as np
import torch

from xmae.beats.reader import read_maps
from xmae.signals.scale import minmax_scale


@torch.no_grad()
def read_by_map(model, ppg, batch_size=256):
    """Read beats, heart rate and certainty of windows.

    Parameters
    ----------
    model : nn.Module
        With `timing`: scaled PPG (B, 1, 1000) -> timing map (B, 3, 250).
    ppg : array, shape (n, 1000)
        Cleaned PPG at 100 Hz, in any unit.
    batch_size : int

    Returns
    -------
    Reading
    """
    scaled = torch.as_tensor(minmax_scale(np.asarray(ppg, np.float32))[0])[:, None]
    maps = [model.timing(part).numpy() for part in scaled.split(batch_size)]
    return read_maps(np.concatenate(maps))
