"""What happens between the skin and the samples: baseline, noise, motion, contact, converter,
clock.
"""

from typing import NamedTuple

import torch

from xmae.twin.pulse import low_frequencies
from xmae.twin.rhythm import uniform


class Sensed(NamedTuple):
    """PPG as a sensor gives it.

    ppg : (B, L), any scale.
    readable : (B, L) bool, False where no pulse can be seen: contact lost, no pulse, saturated.
    flipped : (B,) bool, systole falls.
    """

    ppg: torch.Tensor
    readable: torch.Tensor
    flipped: torch.Tensor


def stretch_of(n, length, sfreq, generator, share, low, high):
    """Mark one stretch of `low` to `high` s in a share of windows: (n, L) bool."""
    u = lambda low, high: uniform((n, 1), generator, low, high)  # noqa: E731
    duration = u(low, high) * sfreq
    start = u(0, 1) * length - duration / 2
    at = torch.arange(length)
    return (at >= start) & (at < start + duration) & (u(0, 1) < share)


def cadence(n, length, sfreq, rate_hz, generator):
    """Draw periodic motion: on, at half, at double the pulse rate, or anywhere from 0.6 to 3.2 Hz:
    (n, L).
    """
    u = lambda low, high, m=1: uniform((n, m), generator, low, high)  # noqa: E731
    ratio = torch.tensor([0.5, 1.0, 2.0])[torch.randint(0, 3, (n, 1), generator=generator)]
    tied = rate_hz[:, None] * ratio * (1 + 0.04 * u(-1, 1))
    frequency = torch.where(u(0, 1) < 0.4, tied, u(0.6, 3.2)).clamp(0.4, 4.5)
    time = torch.arange(length) / sfreq
    wander = low_frequencies(n, length, sfreq, generator, 1.0) * u(0, 0.6)
    angle = 2 * torch.pi * frequency * time + wander + u(0, 6.28)
    parts = [u(0, 1) * torch.sin(h * angle + u(0, 6.28)) / h for h in (1, 2, 3)]
    return sum(parts)


def sense(pulse, rate_hz, breath_hz, sfreq, generator, flip=0.2, motion=0.22, moved=None):
    """Add to clean pulse waves what a sensor adds.

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
    u = lambda low, high: uniform((n, 1), generator, low, high)  # noqa: E731
    time = torch.arange(length) / sfreq
    if moved is not None:
        pulse = pulse * moved.loose + moved.artefact
    breath = torch.sin(2 * torch.pi * breath_hz[:, None] * time + u(0, 6.28))
    x = pulse + 0.6 * u(0, 1) ** 2 * breath
    x = x + 0.4 * u(0, 1) ** 3 * low_frequencies(n, length, sfreq, generator, 1.2)
    gain = 1 + (u(0, 1) < 0.2) * u(0, 0.5) * low_frequencies(n, length, sfreq, generator, 1.5)
    x = x * gain.clamp(0.2, 3)
    level = torch.where(u(0, 1) < 0.12, u(0.1, 0.4), 0.1 * u(0, 1) ** 2)  # low perfusion is noise
    x = x + level * torch.randn(x.shape, generator=generator)
    burst = stretch_of(n, length, sfreq, generator, 0.2, 0.3, 3.5)
    x = x + burst * u(0.1, 1.3) * low_frequencies(n, length, sfreq, generator, 1.0, 0.5)
    step = stretch_of(n, length, sfreq, generator, 0.06, 0.5, 8.0)
    x = x + step * u(-3, 3)
    moving = stretch_of(n, length, sfreq, generator, motion, 2.0, 30.0)
    x = x + moving * u(0.1, 1.0) ** 2 * 2.5 * cadence(n, length, sfreq, rate_hz, generator)
    lost = stretch_of(n, length, sfreq, generator, 0.05, 1.0, 9.0)
    noise_only = 0.03 * torch.randn(x.shape, generator=generator) + u(-1, 1)
    x = torch.where(lost, noise_only, x)
    high = torch.where(u(0, 1) < 0.06, u(0.5, 1.2), torch.full((n, 1), 50.0))
    clipped = x.clamp(-high, high)
    x = torch.where(u(0, 1) < 0.5, clipped, x.clamp(max=high))
    coarse = torch.where(u(0, 1) < 0.1, u(0.02, 0.15), torch.full((n, 1), 1e-4))
    x = (x / coarse).round() * coarse
    flipped = u(0, 1) < flip
    return Sensed(torch.where(flipped, -x, x), ~lost, flipped[:, 0])
