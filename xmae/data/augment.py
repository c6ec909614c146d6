"""Augmentation of training batches in torch: no loop over the batch, no device synchronisation.

Both signals of a window are moved together: the delay from ECG to PPG is what xMAE learns. A training batch is
`augment(*random_crops(runs(windows), 64, generator), generator)`; validation uses the windows as they are.
"""

from dataclasses import dataclass

import numpy as np
import torch

from xmae.signals.scale import minmax_scale
from xmae.signals.window import N_TIMES, WINDOW_S

MAX_SHIFT = 7  # samples, 70 ms: the xMAE recipe


def augment(ppg, ecg, generator, flip=0.5):
    """The augmentations of the xMAE recipe, drawn for each window, then min-max scaling again.

    One of two with equal probability: scale by 0.8 to 1.2, or shift both signals together by up to 7 samples, the edge
    sample repeated. And with probability one half the polarity of the ECG is flipped. The min-max scaling cancels
    the scale exactly, so it is not computed: a window that draws it is not shifted.

    Parameters
    ----------
    ppg, ecg : float tensors, shape (batch, 1, n_times)
        Windows, scaled or not.
    generator : torch.Generator
        On the device of the signals.
    flip : float
        Probability that the ECG's polarity is flipped.

    Returns
    -------
    ppg, ecg : float tensors, shape (batch, 1, n_times)
        In [-1, 1].
    """
    n_times, device = ppg.shape[-1], ppg.device
    shifted, by, flipped = torch.rand(3, len(ppg), 1, 1, generator=generator, device=device)
    by = torch.floor(by * (2 * MAX_SHIFT + 1)).long() - MAX_SHIFT
    index = torch.arange(n_times, device=device) - by * (shifted < 0.5)
    index = index.clamp_(0, n_times - 1)  # (batch, 1, n_times)
    ppg, ecg = (minmax_scale(x.gather(-1, index))[0] for x in (ppg, ecg))
    return ppg, torch.where(flipped < flip, -ecg, ecg)


@dataclass
class Runs:
    """Continuous stretches of recordings, one after the other.

    Parameters
    ----------
    signals : float32 tensor, shape (n_samples, 2)
        PPG and ECG side by side, 100 Hz, cleaned, all runs joined.
    start, length : int64 tensors, shape (n_runs,)
        First sample and number of samples of each run; at least one window.
    """

    signals: torch.Tensor
    start: torch.Tensor
    length: torch.Tensor

    def to(self, device):
        """The same runs on another device."""
        return Runs(self.signals.to(device), self.start.to(device), self.length.to(device))


def runs(windows):
    """Join the windows that follow each other in a recording: `Windows` with ECG, in the order of the store -> `Runs`.

    Raises
    ------
    UserError
        If the windows have no ECG.
    """
    windows.require_ecg("pretraining")
    follows = (windows.record[1:] == windows.record[:-1]) & (windows.subject[1:] == windows.subject[:-1])
    follows &= np.isclose(np.diff(windows.start_s), WINDOW_S)
    start = np.concatenate([[0], np.flatnonzero(~follows) + 1])
    length = np.diff(np.concatenate([start, [len(windows)]]))
    signals = torch.from_numpy(np.stack([windows.ppg.ravel(), windows.ecg.ravel()], axis=1))
    return Runs(signals, torch.from_numpy(start * N_TIMES), torch.from_numpy(length * N_TIMES))


def random_crops(runs, n, generator, speed=(0.6, 1.7), noise=0.02):
    """Draw windows at random places of continuous recordings, at random speeds.

    A speed of 1.5 takes 15 s of both signals into a window of 10 s: heart rate and delays change together, and their
    order stays. A place is drawn evenly over all recorded time, the speed log-uniformly; a run too short for its speed
    is taken whole, slower. Samples between samples are interpolated linearly.

    Parameters
    ----------
    runs : Runs
        Where to crop; a crop never crosses the end of a run.
    n : int
        Windows to draw.
    generator : torch.Generator
        On the device of the runs.
    speed : (float, float)
        Lowest and highest speed; (1, 1) crops only.
    noise : float
        White noise added to the PPG: its largest standard deviation, as a share of the crop's range; each crop draws a
        level from 0 to this.

    Returns
    -------
    ppg, ecg : float32 tensors, shape (n, 1, 1000)
        Crops, in the units of the runs (not min-max scaled).
    """
    device, last = runs.signals.device, N_TIMES - 1
    draw = torch.rand(4, n, 1, generator=generator, device=device, dtype=torch.float64)
    end = runs.length.cumsum(0)
    run = torch.searchsorted(end, draw[0] * end[-1], right=True).clamp_(max=len(end) - 1)  # (n, 1), by length
    room = runs.length[run] - 1  # steps between the samples of the run
    low, high = speed
    factor = (low * (high / low) ** draw[1]).clamp(max=room / last)
    begin = (draw[2] * (room - last * factor)).clamp(min=0)
    if low == high == 1:
        begin = begin.floor()  # nothing to interpolate
    whole = begin.floor()
    place = begin - whole + factor * torch.arange(N_TIMES, device=device)  # (n, 1000), samples from `whole` on
    left = torch.minimum(place.floor(), room - whole - 1)  # so that the sample to its right is in the run too
    weight, left = (place - left).float(), (whole + left).long()
    index = runs.start[run] + left
    ppg, ecg = (torch.lerp(signal[index], signal[index + 1], weight) for signal in runs.signals.T)
    level = noise * draw[3].float() * (ppg.amax(-1, keepdim=True) - ppg.amin(-1, keepdim=True))
    ppg = ppg + level * torch.randn(ppg.shape, generator=generator, device=device)
    return ppg[:, None], ecg[:, None]
