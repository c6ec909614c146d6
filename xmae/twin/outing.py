"""Minutes of a person who does one thing after the other: activity, cadence, and a pulse that
follows.

The heart rate goes from where it is to where the effort wants it, with a time constant of 15 to 45
s (Bunc et al., Eur J Appl Physiol 57, 1988: half-times of 20 to 30 s).
"""

from typing import NamedTuple

import torch

from xmae.twin.motion import (
    ACTIVITIES,
    CADENCE,
    EFFORT,
    MOTION_SFREQ,
    PERIODIC,
    SHARES,
    Motion,
    between,
    move,
)
from xmae.twin.pulse import low_frequencies
from xmae.twin.rhythm import LONGEST_S, SHORTEST_S, Rhythm, uniform

SEGMENT_S = (20.0, 80.0)  # of one activity
REST_BPM, MOST_BPM = (50.0, 85.0), (150.0, 200.0)
LAG_S = (15.0, 45.0)
TIED_BPM = (58.0, 195.0)  # pulse rates at which a cadence is tied to it


class Outing(NamedTuple):
    """Activities of one person at 25 Hz: activity numbers, cadence in Hz, heart rate in bpm; (1,
    T).
    """

    activity: torch.Tensor
    cadence: torch.Tensor
    rate: torch.Tensor


def draw_outing(seconds, generator, ratio=None, plan=None):
    """Draw the activities of a person over time.

    Parameters
    ----------
    seconds : float
    generator : torch.Generator
    ratio : float, optional
        Cadence over pulse rate, once the pulse has followed; default: whatever comes.
    plan : sequence of (str, float), optional
        Activities and how long each lasts, s; default: drawn.

    Returns
    -------
    Outing
    """
    u = lambda low=0.0, high=1.0: float(uniform((1,), generator, low, high))
    t = int(round(seconds * MOTION_SFREQ))
    resting, most = u(*REST_BPM), u(*MOST_BPM)
    activity, cadence = torch.zeros(t, dtype=torch.long), torch.ones(t)
    wanted = torch.full((t,), resting)
    steps = iter(plan) if plan else None
    place = 0
    while place < t:
        if steps is not None:
            name, lasts = next(steps, ("rest", seconds))
            what = torch.tensor(ACTIVITIES.index(name))
        else:
            lasts = u(*SEGMENT_S)
            what = draw_activity(generator, place, ratio)
        part = slice(place, min(t, place + int(lasts * MOTION_SFREQ)))
        steps_hz, effort = float(between(CADENCE, what, u())), float(between(EFFORT, what, u()))
        bpm = resting + effort * (most - resting)
        if ratio and int(what) in PERIODIC:
            steps_hz, bpm = tied_to(what, ratio, u)
        activity[part], cadence[part], wanted[part] = what, steps_hz * (1 + 0.02 * u(-1, 1)), bpm
        place = part.stop
    rate = follow(wanted, u(*LAG_S))
    wander = 0.03 * low_frequencies(1, t, MOTION_SFREQ, generator, 1.0, 0.005, 0.05)[0]
    return Outing(activity[None], cadence[None], (rate * (1 + wander)).clamp(35, 210)[None])


def draw_activity(generator, place, ratio):
    """Draw the next activity; a person with a tied cadence rests first and then always moves."""
    if ratio and place == 0:
        return torch.tensor(0)
    shares = torch.tensor(SHARES)
    if ratio:
        shares = shares * torch.tensor([k in PERIODIC for k in range(len(SHARES))])
    return torch.multinomial(shares, 1, generator=generator)[0]


def tied_to(what, ratio, u):
    """Draw a cadence (Hz) and a heart rate (bpm), one `ratio` times the other."""
    low, high = CADENCE[int(what)]
    low, high = max(60 * low / ratio, TIED_BPM[0]), min(60 * high / ratio, TIED_BPM[1])
    bpm = u(low, high) if low < high else u(*TIED_BPM)
    return bpm * ratio / 60, bpm


def follow(wanted, lag_s):
    """Filter a heart rate by its physiological lag: (T,) bpm at 25 Hz -> (T,)."""
    share = 1 - torch.exp(torch.tensor(-1 / (lag_s * MOTION_SFREQ))).item()
    rate, out = wanted[0].item(), []
    for value in wanted.tolist():
        rate += share * (value - rate)
        out.append(rate)
    return torch.tensor(out)


def beat_along(outing, rhythm, generator):
    """Give a rhythm of one row the heart rate of an outing, and keep its variation from beat to
    beat.

    Parameters
    ----------
    outing : Outing
    rhythm : Rhythm
        At least as many beats as the outing needs.
    generator : torch.Generator

    Returns
    -------
    Rhythm
    """
    rate = outing.rate[0].tolist()
    rr = rhythm.time[0].diff()
    padded = torch.nn.functional.pad(rr[None, None], (7, 7), mode="replicate")
    share = (rr / torch.nn.functional.avg_pool1d(padded, 15, 1)[0, 0]).tolist()
    time, at = -1.0, []
    for k in range(10 * len(rate)):
        index = min(max(int(time * MOTION_SFREQ), 0), len(rate) - 1)
        change = share[k % len(share)]
        calm = min(1.0, 80 / rate[index])  # effort steadies the heart
        interval = 60 / rate[index] * (1 + calm * (change - 1))
        time += min(max(interval, SHORTEST_S), LONGEST_S)
        at.append(time)
        if time > len(rate) / MOTION_SFREQ + 1:
            break
    kind = rhythm.kind[0, 1:].repeat(-(-len(at) // len(share)))[: len(at)]
    return rhythm._replace(time=torch.tensor(at)[None], kind=kind[None])


__all__ = ["Motion", "Outing", "Rhythm", "beat_along", "draw_outing", "move"]
