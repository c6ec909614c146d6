"""What happens between the skin and the samples: baseline, noise, motion, contact, converter,
clock.
"""

from typing import NamedTuple

import torch

from xmae.twin.pulse import low_frequencies
from xmae.twin.rhythm import uniform


class Sensed(NamedTuple):
    """PPG as a sensor measures it.

    ppg : (B, L), any scale.
    readable : (B, L) bool, False where no pulse can be seen, as contact is lost.
    """

    ppg: torch.Tensor
    readable: torch.Tensor


def stretch_of(n, length, sfreq, generator, share, low, high):
    """Mark one stretch of `low` to `high` s in a share of windows: (n, L) bool."""
    rows, inside = some_stretches(n, length, sfreq, generator, share, low, high)
    marked = torch.zeros(n, length, dtype=torch.bool)
    marked[rows] = inside
    return marked


def some_stretches(n, length, sfreq, generator, share, low, high):
    """Draw one stretch of `low` to `high` s in a share of `n` windows: row numbers (m,), bool (m,
    L).
    """
    u = lambda low, high: uniform((n, 1), generator, low, high)
    duration = u(low, high) * sfreq
    start = u(0, 1) * length - duration / 2
    rows = chosen(u(0, 1) < share)
    start, at = start[rows], torch.arange(length)
    return rows, (at >= start) & (at < start + duration[rows])


def chosen(where):
    """Return the numbers of the marked rows: bool (n, 1) -> (m,)."""
    return where[:, 0].nonzero()[:, 0]


def cadence(n, length, sfreq, rate_hz, generator, rows=slice(None)):
    """Draw periodic motion: on, at half, at double the pulse rate, or anywhere from 0.6 to 3.2 Hz:
    (m, L).

    Of `n` draws only those of `rows` are made.
    """
    u = lambda low, high, m=1: uniform((n, m), generator, low, high)[rows]
    ratio = torch.tensor([0.5, 1.0, 2.0])[torch.randint(0, 3, (n, 1), generator=generator)][rows]
    tied = rate_hz[rows, None] * ratio * (1 + 0.04 * u(-1, 1))
    frequency = torch.where(u(0, 1) < 0.4, tied, u(0.6, 3.2)).clamp(0.4, 4.5)
    time = torch.arange(length) / sfreq
    wander = low_frequencies(n, length, sfreq, generator, 1.0, rows=rows) * u(0, 0.6)
    angle = 2 * torch.pi * frequency * time + wander + u(0, 6.28)
    parts = [u(0, 1) * torch.sin(h * angle + u(0, 6.28)) / h for h in (1, 2, 3)]
    return sum(parts)


def sense(pulse, rate_hz, breath_hz, sfreq, generator, flip=0.2, motion=0.22, moved=None):
    """Add the disturbances of a sensor to clean pulse waves.

    Parameters
    ----------
    pulse : tensor, shape (B, L)
        Clean waves of about 1.
    rate_hz, breath_hz : tensor, shape (B,)
        Beats and breaths a second.
    sfreq : float
        Hz.
    generator : torch.Generator
    flip : float
        Share of windows upside down.
    motion : float
        Share of windows with rhythmic motion that no accelerometer tells of.
    moved : xmae.twin.motion.Motion, optional
        Movement that an accelerometer tells of.

    Returns
    -------
    Sensed
    """
    n, length = pulse.shape
    u = lambda low, high: uniform((n, 1), generator, low, high)
    slow = lambda *shape, rows: low_frequencies(n, length, sfreq, generator, *shape, rows=rows)
    some = lambda *settings: some_stretches(n, length, sfreq, generator, *settings)
    time = torch.arange(length) / sfreq
    if moved is not None:
        pulse = pulse * moved.loose + moved.artefact
    breath = torch.sin(2 * torch.pi * breath_hz[:, None] * time + u(0, 6.28))
    x = pulse + breath.mul_(0.6 * u(0, 1) ** 2)
    x += (0.4 * u(0, 1) ** 3) * slow(1.2, rows=slice(None))
    rows, depth = chosen(u(0, 1) < 0.2), u(0, 0.5)
    x[rows] *= (1 + depth[rows] * slow(1.5, rows=rows)).clamp(0.2, 3)
    level = torch.where(u(0, 1) < 0.12, u(0.1, 0.4), 0.1 * u(0, 1) ** 2)  # low perfusion is noise
    x += torch.randn(x.shape, generator=generator).mul_(level)
    rows, burst = some(0.2, 0.3, 3.5)
    x[rows] += burst * u(0.1, 1.3)[rows] * slow(1.0, 0.5, rows=rows)
    rows, step = some(0.06, 0.5, 8.0)
    x[rows] += step * u(-3, 3)[rows]
    rows, moving = some(motion, 2.0, 30.0)
    strength = moving * u(0.1, 1.0)[rows] ** 2 * 2.5
    x[rows] += strength * cadence(n, length, sfreq, rate_hz, generator, rows)
    rows, lost = some(0.05, 1.0, 9.0)
    noise_only = 0.03 * torch.randn(x.shape, generator=generator)[rows] + u(-1, 1)[rows]
    x[rows] = torch.where(lost, noise_only, x[rows])
    readable = torch.ones(n, length, dtype=torch.bool)
    readable[rows] = ~lost
    rows, high = chosen(u(0, 1) < 0.06), u(0.5, 1.2)
    low = torch.where(u(0, 1) < 0.5, -high, torch.full((n, 1), -torch.inf))
    x[rows] = x[rows].clamp(low[rows], high[rows])
    coarse = torch.where(u(0, 1) < 0.1, u(0.02, 0.15), torch.full((n, 1), 1e-4))
    x.div_(coarse).round_().mul_(coarse)
    flipped = chosen(u(0, 1) < flip)
    x[flipped] = -x[flipped]
    return Sensed(x, readable)
