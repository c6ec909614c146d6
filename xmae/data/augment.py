"""Augmentation of training batches in torch: no loop over the batch, no device synchronisation.

Both signals of a window are moved together: the delay from ECG to PPG is what xMAE learns. A training batch is
`augment(*random_crops(runs(windows), 64, generator), generator)`; validation uses the windows as they are.
"""

from dataclasses import dataclass, fields

import numpy as np
import torch

from xmae.signals.scale import minmax_scale
from xmae.signals.window import N_TIMES, SFREQ, WINDOW_S

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
    subject : int64 tensor, shape (n_runs,)
        Number of the run's subject, in the order of their names.
    """

    signals: torch.Tensor
    start: torch.Tensor
    length: torch.Tensor
    subject: torch.Tensor

    def to(self, device):
        """The same runs on another device."""
        return Runs(*(getattr(self, field.name).to(device) for field in fields(self)))

    def at(self, place):
        """Runs at places of all recorded time, 0 to 1: (n, 1) float64 -> (n, 1) int64."""
        end = self.length.cumsum(0)
        return torch.searchsorted(end, place * end[-1], right=True).clamp_(max=len(end) - 1)

    def elsewhere(self, place, draw):
        """Places of the same subjects as `place`, chosen evenly by `draw`: (n, 1), (n, 1), all 0 to 1 -> (n, 1)."""
        order = self.subject.argsort(stable=True)  # runs with those of a subject side by side
        end = self.length[order].cumsum(0)
        total = torch.zeros(int(self.subject.max()) + 1, dtype=end.dtype, device=end.device)
        total = total.index_add_(0, self.subject, self.length)
        subject = self.subject[self.at(place)]
        chosen = (total.cumsum(0) - total)[subject] + draw * total[subject]  # among the runs in that order
        among = torch.searchsorted(end, chosen, right=True).clamp_(max=len(end) - 1)
        run, all_end = order[among], self.length.cumsum(0)
        return (chosen - (end - self.length[order])[among] + (all_end - self.length)[run]) / all_end[-1]


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
    subject = np.unique(windows.subject, return_inverse=True)[1][start]
    return Runs(signals, *(torch.from_numpy(x) for x in (start * N_TIMES, length * N_TIMES, subject)))


def draw_crops(runs, n, generator):
    """What `random_crops` draws for each crop: place, speed, begin and noise, 0 to 1: float64 (4, n, 1)."""
    return torch.rand(4, n, 1, generator=generator, device=runs.signals.device, dtype=torch.float64)


def random_crops(runs, n, generator, speed=(0.6, 1.7), noise=0.02, draw=None):
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
    draw : float64 tensor, shape (4, n, 1), optional
        What `draw_crops` gave, where the caller needs to know or to change the places.

    Returns
    -------
    ppg, ecg : float32 tensors, shape (n, 1, 1000)
        Crops, in the units of the runs (not min-max scaled).
    """
    device, last = runs.signals.device, N_TIMES - 1
    if draw is None:
        draw = draw_crops(runs, n, generator)
    run = runs.at(draw[0])  # (n, 1), by length
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


def vary_ppg(ppg, generator, strength=1.0):
    """Change the look of pulses but not their times, so that a patient cannot be known by them: tilt and wander.

    The spectrum is tilted, without phase, by (f / 1.5 Hz) ** a with a drawn from -0.6 to 0.6, and three slow waves
    (0.05 to 0.5 Hz) of up to 0.15 of the window's range each are added. The sizes are ours.

    Parameters
    ----------
    ppg : float tensor, shape (batch, 1, n_times)
        Crops at 100 Hz, in any unit.
    generator : torch.Generator
        On the device of the signal.
    strength : float
        0 leaves everything as it is, 1 is all of the above.

    Returns
    -------
    float tensor, shape (batch, 1, n_times)
    """
    n, n_times, device = len(ppg), ppg.shape[-1], ppg.device
    draw = torch.rand(n, 10, generator=generator, device=device)
    f = torch.fft.rfftfreq(n_times, 1 / SFREQ, device=device).clamp(min=0.5)
    gain = (f / 1.5) ** (strength * 0.6 * (2 * draw[:, :1] - 1))  # (batch, n_frequencies)
    ppg = torch.fft.irfft(torch.fft.rfft(ppg) * gain[:, None], n_times)
    frequency, phase, height = draw[:, 1:].reshape(n, 3, 3, 1).unbind(2)  # (batch, 3, 1) each
    t = torch.arange(n_times, device=device) / SFREQ
    waves = height * torch.sin(2 * torch.pi * ((0.05 + 0.45 * frequency) * t + phase))
    size = 0.15 * strength * (ppg.amax(-1, keepdim=True) - ppg.amin(-1, keepdim=True))
    return ppg + size * waves.sum(1, keepdim=True)
