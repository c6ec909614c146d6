"""Movement: acceleration of a wrist in three axes, and what it adds to the PPG.

Walking and running have a cadence of steps with harmonics and the arm's swing at half of it;
cycling has the pedals'; typing and gestures come in bursts. Filters, one an axis and two that take
turns, couple the acceleration into the PPG. Made at 25 Hz: movement and pulse have little above 12
Hz. Cadences after Grieve and Gear, Ergonomics 9, 1966 (walking) and Cavanagh and Kram, 1989
(running).
"""

from typing import NamedTuple

import torch

from xmae.twin.pulse import low_frequencies
from xmae.twin.rhythm import SHORTEST_S, uniform

STEP = 4  # samples at 100 Hz from one of movement to the next
MOTION_SFREQ = 25  # Hz
ACTIVITIES = ("rest", "typing", "gestures", "walk", "run", "cycle")
SHARES = (0.16, 0.08, 0.12, 0.3, 0.22, 0.12)
PERIODIC = (3, 4, 5)  # numbers of activities with a cadence
# by activity, lowest and highest: cadence (Hz), amplitude of steps and of free movement (g), effort
CADENCE = ((1.0, 1.0), (1.0, 1.0), (1.0, 1.0), (1.3, 2.3), (2.1, 3.3), (0.7, 1.9))
STEPS = ((0.0, 0.0), (0.0, 0.0), (0.0, 0.0), (0.1, 0.5), (0.4, 1.6), (0.02, 0.2))
FREE = ((0.001, 0.006), (0.01, 0.06), (0.05, 0.5), (0.02, 0.1), (0.05, 0.3), (0.01, 0.12))
EFFORT = ((0.0, 0.05), (0.0, 0.1), (0.03, 0.2), (0.1, 0.5), (0.4, 1.0), (0.2, 0.95))
SWING = (0.0, 0.0, 0.0, 1.2, 0.8, 0.3)  # largest share of half the cadence
RATIOS = (0.5, 1.0, 2.0)  # cadence over pulse rate where they are tied
TIED = 0.6  # share of windows where that is possible
HARDEST = 0.7  # logarithm of the largest artefact over a pulse from foot to peak: twice
BREATHER = 0.02  # g: less moves no PPG


class Motion(NamedTuple):
    """Motion in B windows.

    acc : (B, 3, L / 4) g at 25 Hz, gravity included.
    artefact : (B, L) what it adds to a PPG whose pulse is about 1 from foot to peak.
    loose : (B, L) gain of the pulse through loose contact, 0 to 1.
    """

    acc: torch.Tensor
    artefact: torch.Tensor
    loose: torch.Tensor


def between(ranges, activity, share):
    """Return values from each activity's range: activity numbers and shares 0 to 1 -> values of the
    same shape.
    """
    low, high = torch.tensor(ranges).T
    return low[activity] + (high - low)[activity] * share


def draw_activities(n, length, generator, moving=1.0):
    """Draw the activities of people in windows, one activity or two in succession.

    Parameters
    ----------
    n, length : int
        Windows; samples at 100 Hz.
    generator : torch.Generator
    moving : float
        Share of windows that are not at rest throughout.

    Returns
    -------
    activity : long tensor, shape (n, length / 4)
        Numbers of `ACTIVITIES`.
    cadence : float tensor, alike
        Hz.
    """
    u = lambda low=0.0, high=1.0: uniform((n, 1), generator, low, high)
    first, second = torch.multinomial(torch.tensor(SHARES), 2 * n, True, generator=generator).view(
        2, n, 1
    )
    at = torch.arange(length // STEP)
    later = (at > u(0.1, 0.9) * len(at)) & (u() < 0.3)
    activity = torch.where(later, second, first) * (u() < moving)
    return activity, between(CADENCE, activity, u())


def at_effort(rhythm, activity, generator):
    """Change the pulse rate of windows as their first activity requires: a `Rhythm`."""
    n = len(activity)
    u = lambda low=0.0, high=1.0: uniform((n, 1), generator, low, high)
    rr = rhythm.time.diff(dim=1)
    resting = 60 / rr.mean(1, keepdim=True)
    effort = between(EFFORT, activity[:, :1], u())
    wanted = resting + effort * (u(140, 205) - resting).clamp(min=0)
    rr = (rr * resting / wanted.clamp(35, 205)).clamp(min=SHORTEST_S)
    start = rhythm.time[:, :1]
    return rhythm._replace(time=torch.cat([start, start + rr.cumsum(1)], 1))


def tie(activity, cadence, rate_hz, generator):
    """Tie some cadences to the pulse rate, its half or its double, whichever a person can move at.

    An arm swings once in two steps, so slower cadences than those of steps are allowed too.
    """
    n = len(cadence)
    u = lambda low=0.0, high=1.0: uniform((n, 1), generator, low, high)
    low, high = (bound[activity][:, None] for bound in torch.tensor(CADENCE).T)
    near = rate_hz * (1 + 0.05 * u(-1, 1))
    tied = near[:, None] * torch.tensor(RATIOS)[:, None]
    fits = (tied > 0.7 * low) & (tied < 1.15 * high)
    some = fits.any(2).float() + 1e-6
    ratio = torch.multinomial(some, 1, generator=generator)[:, :, None].expand(
        -1, -1, fits.shape[2]
    )
    at = tied.expand_as(fits).gather(1, ratio)[:, 0]
    return torch.where((u() < TIED) & fits.gather(1, ratio)[:, 0], at, cadence)


def move(activity, cadence, generator):
    """Draw the acceleration and the PPG artefact of these activities.

    Parameters
    ----------
    activity : long tensor, shape (n, T)
        Numbers of `ACTIVITIES` at 25 Hz.
    cadence : tensor, shape (n, T)
        Hz.
    generator : torch.Generator

    Returns
    -------
    Motion
        Motion of T x 4 samples at 100 Hz.
    """
    n, t = activity.shape
    u = lambda low=0.0, high=1.0: uniform((n, 1), generator, low, high)
    envelope = lambda ranges: smooth(between(ranges, activity, u()))
    dynamic = envelope(STEPS)[:, None] * gait(activity, cadence, generator)
    free = low_frequencies(3 * n, t, MOTION_SFREQ, generator, 0.7, 0.4).view(n, 3, t)
    bursts = low_frequencies(n, t, MOTION_SFREQ, generator, 1.0, 0.2).square().clamp(max=3)
    still = torch.where(activity == 2, bursts, torch.ones(()))
    dynamic = dynamic + (envelope(FREE) * still)[:, None] * free
    artefact = couple(dynamic, generator)
    own = low_frequencies(n, t, MOTION_SFREQ, generator, 1.0, 0.3)
    size = dynamic.square().sum(1).sqrt()
    artefact = artefact + 0.5 * u() ** 2 * smooth(size) * own  # what no accelerometer sees
    rms = artefact.square().mean(1, keepdim=True).sqrt()
    typical = size.square().mean(1, keepdim=True).sqrt()
    strength = torch.exp(u(-2.3, HARDEST)) * (typical / BREATHER).clamp(max=1)
    artefact = artefact / rms.clamp(min=1e-6) * strength
    bent = artefact.square() / strength.clamp(min=1e-6)
    artefact = artefact + 0.3 * u(-1, 1) * (bent - bent.mean(1, keepdim=True))
    tilt = 0.15 * low_frequencies(3 * n, t, MOTION_SFREQ, generator, 1.5).view(n, 3, t)
    gravity = torch.randn(n, 3, 1, generator=generator) + tilt * smooth(size)[:, None].clamp(max=1)
    acc = gravity / gravity.square().sum(1, keepdim=True).sqrt() + dynamic
    acc = acc + 0.004 * torch.randn(acc.shape, generator=generator)
    loose = 1 - (u() ** 2 * smooth(size) * own.abs()).clamp(0, 1)
    return Motion(acc, upsample(artefact), upsample(loose).clamp(0, 1))


def smooth(x, seconds=1.0):
    """Average over a moving second: (n, T) -> (n, T)."""
    width = int(seconds * MOTION_SFREQ) | 1
    return torch.nn.functional.avg_pool1d(
        x[:, None], width, 1, width // 2, count_include_pad=False
    )[:, 0]


def gait(activity, cadence, generator):
    """Draw the periodic part of gait, half the cadence and its multiples, in three axes: (n, 3,
    T).
    """
    n, t = activity.shape
    wander = 0.015 * low_frequencies(n, t, MOTION_SFREQ, generator, 1.0, 0.05)
    angle = torch.pi * ((cadence * (1 + wander)).cumsum(1) / MOTION_SFREQ)
    one = torch.polar(torch.ones(()), angle)
    two = one * one
    powers = torch.stack(
        [one, two, two * one, two * two, two * two * two], 1
    )  # of half the cadence
    weight = torch.view_as_complex(torch.randn(n, 3, 5, 2, generator=generator))
    main = activity.max(1).values
    swing = torch.tensor(SWING)[main][:, None, None]
    share = uniform((n, 1, 5), generator) * torch.tensor([1.0, 0.0, 0.4, 0.8, 0.5])
    share[:, :, [0, 2]] *= swing
    share[:, :, 1] = 1.0
    made = torch.einsum("nak,nkt->nat", weight * share, powers).real
    return made / made.square().sum(1).mean(1).sqrt().clamp(min=1e-6)[:, None, None]


def couple(dynamic, generator):
    """Filter three axes by random filters that change with time, and add them: (n, 3, T) -> (n, T).

    A filter is a gain, a delay up to 0.25 s and a share of low-pass; two sets of them take turns.
    """
    n, _, t = dynamic.shape
    draw = lambda low, high: uniform((n, 2, 3, 1), generator, low, high)
    w = 2 * torch.pi * torch.fft.rfftfreq(t, 1 / MOTION_SFREQ)
    corner = 2 * torch.pi * torch.exp(draw(-0.7, 1.8))
    gain = torch.randn(n, 2, 3, 1, generator=generator)
    low, share = 1 / (1 + 1j * w / corner), draw(0, 1)
    response = gain * (share + (1 - share) * low) * torch.polar(torch.ones(()), -w * draw(0, 0.25))
    spectrum = torch.fft.rfft(dynamic)[:, None] * response
    first, second = torch.fft.irfft(spectrum.sum(2), t).unbind(1)
    turn = low_frequencies(n, t, MOTION_SFREQ, generator, 1.5, 0.02, 0.5)
    turn = turn * uniform((n, 1), generator, 0, 1.2)
    return first * turn.cos() + second * turn.sin()


def upsample(x):
    """Upsample from 25 to 100 Hz without new frequencies: (..., T) -> (..., 4 T)."""
    return STEP * torch.fft.irfft(torch.fft.rfft(x), STEP * x.shape[-1])
