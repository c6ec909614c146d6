"""Random views of PPG windows for methods that compare views: vectorised, each change drawn for
each row.

All that is random is drawn for the whole global batch, of which a process keeps its rows, so that
several processes see what one would. Views are min-max scaled again, as an encoder expects it; so
plain magnitude scaling, which the papers below have too, would change nothing, and is left out.
"""

import torch
import torch.nn.functional as F

from xmae.signals.scale import minmax_scale
from xmae.signals.window import PATCH


class Draws:
    """Random numbers for the rows of a batch, from its seed."""

    def __init__(self, batch):
        self.batch, self.generator = batch, torch.Generator().manual_seed(batch.seed)

    def rand(self, *shape):
        """Draw uniformly between 0 and 1, (B, *shape)."""
        return self.mine(torch.rand(self.batch.n_total, *shape, generator=self.generator))

    def randn(self, *shape):
        """Draw from a normal distribution, (B, *shape)."""
        return self.mine(torch.randn(self.batch.n_total, *shape, generator=self.generator))

    def mine(self, x):
        """Return the rows of this process, on its device: (n_total, ...) -> (B, ...)."""
        return x[self.batch.rows].to(self.batch.ppg.device, non_blocking=True)


def resample(x, place):
    """Interpolate linearly at fractional sample numbers: (B, 1, L), (B, 1, M) in samples -> (B, 1,
    M).
    """
    left = place.floor().clamp(0, x.shape[-1] - 2)
    return torch.lerp(x.gather(-1, left.long()), x.gather(-1, left.long() + 1), place - left)


def curve(draws, n_times, knots=6):
    """Draw a smooth random curve between 0 and 1: (B, 1, n_times)."""
    return F.interpolate(draws.rand(1, knots), n_times, mode="linear", align_corners=True)


def noise(x, draws):
    """Add white noise with a standard deviation of up to 5 % of the range."""
    return x + 0.1 * draws.rand(1, 1) * draws.randn(1, x.shape[-1])


def crop(x, draws):
    """Keep a stretch of half to all of the window in place, and set the rest to zero.

    Nothing is stretched in time, which would train against the heart rate.
    """
    return x * stretch(x, draws, 0.5 + 0.5 * draws.rand(1, 1))


def cutout(x, draws):
    """Set 10 to 30 % of the window to zero."""
    return x * ~stretch(x, draws, 0.1 + 0.2 * draws.rand(1, 1))


def stretch(x, draws, share):
    """Mark a stretch of a share (B, 1, 1) of the window at a random place: bool (B, 1, L)."""
    time = torch.arange(x.shape[-1], device=x.device) / x.shape[-1]
    begin = draws.rand(1, 1) * (1 - share)
    return (time >= begin) & (time < begin + share)


def magnitude_warp(x, draws):
    """Multiply the amplitude by a smooth random curve between 0.5 and 1.5."""
    return x * (0.5 + curve(draws, x.shape[-1]))


def time_warp(x, draws):
    """Warp time by a smooth random speed between 0.5 and 1.5; start and end stay in place."""
    speed = (0.5 + curve(draws, x.shape[-1] - 1)).cumsum(-1)
    return resample(x, F.pad(speed / speed[..., -1:] * (x.shape[-1] - 1), (1, 0)))


def negate(x, draws):
    """Flip windows upside down."""
    return -x


def reverse(x, draws):
    """Reverse windows in time."""
    return x.flip(-1)


def view(x, draws, changes):
    """Make a random view by each of `changes` (function, probability) in turn: (B, 1, L) -> (B, 1,
    L) in [-1, 1].
    """
    for change, probability in changes:
        x = torch.where(draws.rand(1, 1) < probability, change(x, draws), x)
    return minmax_scale(x)[0]


def time_crop(x, draws, n_times):
    """Cut a stretch of `n_times` samples at a random place, min-max scaled: (B, 1, L) -> (B, 1,
    n_times).

    Also the number of the patch nearest to its begin, (B,).
    """
    begin = (draws.rand(1, 1) * (x.shape[-1] - n_times + 1)).long()
    piece = minmax_scale(x.gather(-1, begin + torch.arange(n_times, device=x.device)))[0]
    return piece, (begin[:, 0, 0] + PATCH // 2) // PATCH


# Of PaPaGei-P (arXiv 2410.20542); SimCLR gets the same, so that the two differ in their pairs
# alone.
PAPAGEI = ((crop, 0.5), (negate, 0.2), (reverse, 0.2), (noise, 0.25))
# Of `apple` (arXiv 2312.05409) for PPG; its channel permutation needs several channels.
APPLE = ((cutout, 0.4), (magnitude_warp, 0.25), (noise, 0.25), (time_warp, 0.15))
# Of DINO and MSN, whose images are cropped and recoloured: changes that keep the pulse.
MILD = ((magnitude_warp, 0.5), (noise, 0.5))
