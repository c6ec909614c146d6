"""Augmentation of training batches in torch: no loop over the batch, no device synchronisation.

Both signals of a window are moved together: the delay from ECG to PPG is what xMAE learns. A
training batch is `augment(*random_crops(runs(windows), 64, generator), generator)`; validation uses
the windows as they are.

What is drawn for a batch does not depend on who makes which of its rows: random numbers are drawn
for the whole batch, signals are made for the rows asked for.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from xmae.data.store.flat import FlatWindows
from xmae.data.store.windows import Windows
from xmae.signals.scale import minmax_scale
from xmae.signals.window import N_TIMES, SFREQ

MAX_SHIFT = 7  # samples, 70 ms: the xMAE recipe


def augment(ppg, ecg, generator, flip=0.5, share=None):
    """Augment windows by the xMAE recipe, drawn for each window, and min-max scale them again.

    One of two with equal probability: scale by 0.8 to 1.2, or shift both signals together by up to
    7 samples, the edge sample repeated. And with probability one half the polarity of the ECG is
    flipped. The min-max scaling cancels the scale exactly, so it is not computed: a window that
    draws it is not shifted.

    Parameters
    ----------
    ppg, ecg : float tensors, shape (batch, 1, n_times)
        Windows, scaled or not.
    generator : torch.Generator
        On the device of the signals.
    flip : float
        Probability that the ECG's polarity is flipped.
    share : (int, slice), optional
        Size of the batch of which these windows are some rows, and which; default: they are the
        batch.

    Returns
    -------
    ppg, ecg : float tensors, shape (batch, 1, n_times)
        In [-1, 1].
    """
    n_times, device = ppg.shape[-1], ppg.device
    n, rows = share or (len(ppg), slice(None))
    shifted, by, flipped = torch.rand(3, n, 1, 1, generator=generator, device=device)[:, rows]
    by = torch.floor(by * (2 * MAX_SHIFT + 1)).long() - MAX_SHIFT
    index = torch.arange(n_times, device=device) - by * (shifted < 0.5)
    index = index.clamp_(0, n_times - 1)  # (batch, 1, n_times)
    ppg, ecg = (minmax_scale(x.gather(-1, index))[0] for x in (ppg, ecg))
    return ppg, torch.where(flipped < flip, -ecg, ecg)


@dataclass
class Runs:
    """Runs of consecutive windows of recordings, one after the other.

    Parameters
    ----------
    windows : Windows or FlatWindows
        Cleaned windows at 100 Hz in the order of the recordings; their samples are numbered one
        window after the other.
    start, length : int64 tensors, shape (n_runs,)
        First sample and number of samples of each run; whole windows.
    subject : int64 tensor, shape (n_runs,)
        Number of the run's subject, in the order of their names.
    """

    windows: Windows | FlatWindows
    start: torch.Tensor
    length: torch.Tensor
    subject: torch.Tensor

    def __post_init__(self):
        self.end = self.length.cumsum(0)
        # runs with those of a subject side by side
        self.by_subject = self.subject.argsort(stable=True)
        self.end_by_subject = self.length[self.by_subject].cumsum(0)
        self.total = torch.zeros(int(self.subject.max()) + 1, dtype=torch.int64)
        self.total.index_add_(0, self.subject, self.length)

    def at(self, place):
        """Return the runs at places on a scale from 0 to 1 of all recorded time: (n, 1) float64 ->
        (n, 1) int64.
        """
        return torch.searchsorted(self.end, place * self.end[-1], right=True).clamp_(
            max=len(self.end) - 1
        )

    def elsewhere(self, place, draw):
        """Choose places in recordings of the same subjects as `place`, uniformly by `draw`: (n, 1),
        (n, 1), all 0 to 1 -> (n, 1).
        """
        subject = self.subject[self.at(place)]
        # in the order by subject
        chosen = (self.total.cumsum(0) - self.total)[subject] + draw * self.total[subject]
        among = torch.searchsorted(self.end_by_subject, chosen, right=True).clamp_(
            max=len(self.end) - 1
        )
        run, begun = (
            self.by_subject[among],
            self.end_by_subject[among] - self.length[self.by_subject][among],
        )
        return (chosen - begun + (self.end - self.length)[run]) / self.end[-1]

    def samples(self, first, n_windows):
        """Return the PPG and ECG of consecutive windows, `n_windows` from each window `first` (n,)
        on: float32 (2, n, n_windows * 1000).

        Beyond the last window, the last window is repeated.
        """
        rows = (first[:, None] + torch.arange(n_windows)).clamp_(max=len(self.windows) - 1)
        # (2, n * n_windows, 1000)
        signals = torch.as_tensor(self.windows.signals(rows.flatten().numpy()))
        return signals.view(len(signals), len(rows), -1)


def runs(windows):
    """Join consecutive windows of each recording: windows in the order of the store -> `Runs`."""
    start = np.concatenate([[0], np.flatnonzero(~windows.follows) + 1])
    start, length = start[:-1], np.diff(start)
    subject = np.unique(windows.subject, return_inverse=True)[1][start]
    return Runs(
        windows, *(torch.from_numpy(x) for x in (start * N_TIMES, length * N_TIMES, subject))
    )


def draw_crops(n, generator):
    """Draw the random numbers of `random_crops` for each crop (place, speed, begin, noise), 0 to 1:
    float64 (4, n, 1).
    """
    return torch.rand(4, n, 1, generator=generator, dtype=torch.float64)


def random_crops(runs, n, generator, speed=(0.6, 1.7), noise=0.02, draw=None, rows=slice(None)):
    """Draw windows at random places of continuous recordings, at random speeds.

    A speed of 1.5 takes 15 s of both signals into a window of 10 s: heart rate and delays change
    together, and their order stays. A place is drawn evenly over all recorded time, the speed
    log-uniformly; a run too short for its speed is taken whole, slower. Samples between samples are
    interpolated linearly.

    Parameters
    ----------
    runs : Runs
        Where to crop; a crop never crosses the end of a run.
    n : int
        Windows to draw.
    generator : torch.Generator
        On the CPU.
    speed : (float, float)
        Lowest and highest speed; (1, 1) crops only.
    noise : float
        White noise added to the PPG: its largest standard deviation, as a share of the crop's
        range; each crop draws a level from 0 to this.
    draw : float64 tensor, shape (4, n, 1), optional
        Random numbers of `draw_crops`, where the caller needs to know or to change the places.
    rows : slice
        The rows to make, of the n windows.

    Returns
    -------
    ppg, ecg : float32 tensors, shape (n_rows, 1, 1000)
        Crops, in the units of the runs (not min-max scaled). Memory is needed for these, not for
        the runs.
    """
    last = N_TIMES - 1
    draw = (draw_crops(n, generator) if draw is None else draw)[:, rows]
    white = torch.randn(n, N_TIMES, generator=generator)[rows]
    run = runs.at(draw[0])  # (n_rows, 1), by length
    room = runs.length[run] - 1  # steps between the samples of the run
    low, high = speed
    factor = (low * (high / low) ** draw[1]).clamp(max=room / last)
    begin = (draw[2] * (room - last * factor)).clamp(min=0)
    if low == high == 1:
        begin = begin.floor()  # nothing to interpolate
    whole = begin.floor()
    # (n_rows, 1000), samples from `whole` on
    place = begin - whole + factor * torch.arange(N_TIMES)
    # so that the sample to its right is in the run too
    left = torch.minimum(place.floor(), room - whole - 1)
    weight = (place - left).float()
    first = runs.start[run] + whole.long()
    reach = math.ceil(high * last) + 1  # of the last sample to the right, from `whole`
    signals = runs.samples(first[:, 0] // N_TIMES, 1 + -(-reach // N_TIMES))
    index = (first % N_TIMES + left.long()).expand(len(signals), -1, -1)  # (2, n_rows, 1000)
    crops = torch.lerp(signals.gather(-1, index), signals[..., 1:].gather(-1, index), weight)
    ppg, ecg = crops[0], crops[-1]
    ppg = (
        ppg
        + noise
        * draw[3].float()
        * (ppg.amax(-1, keepdim=True) - ppg.amin(-1, keepdim=True))
        * white
    )
    return ppg[:, None], ecg[:, None]


def vary_ppg(ppg, generator, strength=1.0, share=None):
    """Change the shape of pulses but not their times (tilt and wander), so that a subject cannot be
    recognised by it.

    The spectrum is tilted, without phase, by (f / 1.5 Hz) ** a with a drawn from -0.6 to 0.6, and
    three slow waves (0.05 to 0.5 Hz) of up to 0.15 of the window's range each are added. The sizes
    are ours.

    Parameters
    ----------
    ppg : float tensor, shape (batch, 1, n_times)
        Crops at 100 Hz, in any unit.
    generator : torch.Generator
        On the device of the signal.
    strength : float
        0 leaves everything as it is, 1 is all of the above.
    share : (int, slice), optional
        As in `augment`.

    Returns
    -------
    float tensor, shape (batch, 1, n_times)
    """
    n, n_times, device = len(ppg), ppg.shape[-1], ppg.device
    n_all, rows = share or (n, slice(None))
    draw = torch.rand(n_all, 10, generator=generator, device=device)[rows]
    f = torch.fft.rfftfreq(n_times, 1 / SFREQ, device=device).clamp(min=0.5)
    gain = (f / 1.5) ** (strength * 0.6 * (2 * draw[:, :1] - 1))  # (batch, n_frequencies)
    ppg = torch.fft.irfft(torch.fft.rfft(ppg) * gain[:, None], n_times)
    frequency, phase, height = draw[:, 1:].reshape(n, 3, 3, 1).unbind(2)  # (batch, 3, 1) each
    t = torch.arange(n_times, device=device) / SFREQ
    waves = height * torch.sin(2 * torch.pi * ((0.05 + 0.45 * frequency) * t + phase))
    size = 0.15 * strength * (ppg.amax(-1, keepdim=True) - ppg.amin(-1, keepdim=True))
    return ppg + size * waves.sum(1, keepdim=True)
