"""When a generated heart beats: real rhythms from the bank beside parametric ones, many windows at
once.

Ranges are those of a first generator that carried over to real people, widened to 30 to 220 bpm.
Respiratory and low-frequency variability: Task Force of ESC and NASPE, Circulation 93, 1996
(bands).
"""

from typing import NamedTuple

import torch

from xmae.twin.bank import NORMAL, STRETCH, SUPRAVENTRICULAR, VENTRICULAR, read_bank

MEDIAN_BPM, SPREAD, RANGE_BPM = 82.0, 0.32, (30.0, 220.0)
SHARES = {"bank": 0.5, "sinus": 0.22, "fibrillation": 0.1, "ectopic": 0.18}
CLASS_WEIGHTS = (0.22, 0.2, 0.16, 0.12, 0.07, 0.06, 0.07, 0.04, 0.06)  # as `bank.CLASSES`
LONGEST_S, SHORTEST_S = 2.6, 0.24  # intervals that are drawn


class Rhythm(NamedTuple):
    """Heartbeats of B windows, K each, in order; they begin before the window and end after it.

    time : (B, K) s, R peaks; 0 is the first sample.
    kind : (B, K) 0 normal, 1 ventricular, 2 supraventricular.
    irregular : (B,) bool, fibrillation.
    breath_hz : (B,) breaths a second.
    breath_phase : (B,) radians at time 0.
    """

    time: torch.Tensor
    kind: torch.Tensor
    irregular: torch.Tensor
    breath_hz: torch.Tensor
    breath_phase: torch.Tensor


def draw_rhythm(n, seconds, generator, shares=SHARES, rate_bpm=None):
    """Draw the heartbeats of `n` windows of `seconds`.

    Parameters
    ----------
    n : int
        Windows.
    seconds : float
        Length that beats must cover.
    generator : torch.Generator
    shares : dict
        How often each kind of rhythm is drawn; see `SHARES`.
    rate_bpm : (float, float), optional
        Lowest and highest mean rate of parametric rhythms; default: log-normal about 82.

    Returns
    -------
    Rhythm
    """
    k = min(STRETCH - 8, int(seconds / 0.27) + 4)
    u = lambda *shape, low=0.0, high=1.0: uniform(shape, generator, low, high)
    choice = torch.multinomial(torch.tensor(list(shares.values())), n, True, generator=generator)
    bank_row, fibrillates, ectopic = (
        choice == place_of(shares, name) for name in ("bank", "fibrillation", "ectopic")
    )
    breath_hz, breath_phase = u(n, low=0.12, high=0.45), u(n, high=2 * torch.pi)
    if rate_bpm is None:
        rate = MEDIAN_BPM * torch.exp(SPREAD * torch.randn(n, generator=generator))
    else:
        rate = u(n, low=rate_bpm[0], high=rate_bpm[1])
    mean = 60 / rate.clamp(*RANGE_BPM)
    rr = sinus_intervals(mean, k, breath_hz, breath_phase, generator)
    kind = torch.zeros(n, k, dtype=torch.long)
    spread = u(n, 1, low=0.1, high=0.3)
    drawn = torch.exp(spread * torch.randn(n, k, generator=generator) - spread**2 / 2)
    rr = torch.where(fibrillates[:, None], mean[:, None] * drawn, rr)
    rr, kind = add_ectopics(rr, kind, ectopic, generator)
    bank_rr, bank_kind, bank_af = from_bank(n, k, generator)
    rr = torch.where(bank_row[:, None], bank_rr, rr).clamp(SHORTEST_S, LONGEST_S)
    kind = torch.where(bank_row[:, None], bank_kind, kind)
    first = -u(n, 1) * rr[:, :1] - 1.0
    return Rhythm(
        first + rr.cumsum(1),
        kind,
        torch.where(bank_row, bank_af, fibrillates),
        breath_hz,
        breath_phase,
    )


def uniform(shape, generator, low=0.0, high=1.0):
    """Draw uniform numbers of a shape between `low` and `high`."""
    return torch.rand(shape, generator=generator).mul_(high - low).add_(low)


def place_of(shares, name):
    """Return the index of a name among shares; -1 if it is not there."""
    names = list(shares)
    return names.index(name) if name in names else -1


def sinus_intervals(mean, k, breath_hz, breath_phase, generator):
    """Vary intervals by respiration, slow waves, noise and drift: mean (n,) s -> (n, k) s."""
    n = len(mean)
    u = lambda low, high: uniform((n, 1), generator, low, high)
    time = mean[:, None] * torch.arange(k) - 1.0
    breath = (
        0.12
        * u(0, 1) ** 2
        * torch.sin(2 * torch.pi * breath_hz[:, None] * time + breath_phase[:, None])
    )
    slow = 0.08 * u(0, 1) ** 2 * torch.sin(2 * torch.pi * (u(0.07, 0.12) * time + u(0, 1)))
    noise = 0.02 * u(0, 1) * torch.randn(n, k, generator=generator)
    drift = 0.01 * (u(-1, 1) * time).clamp(-10, 10)
    return mean[:, None] * (1 + breath + slow + noise + drift).clamp(0.5, 1.6)


def add_ectopics(rr, kind, where, generator):
    """Add premature beats to some windows: at random, or every second to fourth beat.

    Ventricular ones are followed by a full compensatory pause; supraventricular ones reset the
    sinus.
    """
    n, k = rr.shape
    u = lambda *shape, low=0.0, high=1.0: uniform(shape, generator, low, high)
    every = torch.randint(2, 5, (n, 1), generator=generator)
    regular = u(n, 1) < 0.35
    at_random = u(n, k) < u(n, 1, low=0.02, high=0.35)
    in_turn = (torch.arange(k) + torch.randint(0, 4, (n, 1), generator=generator)) % every == 0
    early = torch.where(regular, in_turn, at_random) & where[:, None]
    early[:, 0] = False
    early[:, 1:] &= ~early[:, :-1]
    ventricular = u(n, 1) < 0.6
    coupling = u(n, 1, low=0.5, high=0.88) + 0.02 * torch.randn(n, k, generator=generator)
    after = torch.zeros_like(early)
    after[:, 1:] = early[:, :-1]
    pause = torch.where(ventricular, 2 - coupling, 1 + 0.1 * u(n, 1))
    pause = torch.cat([pause[:, :1], pause[:, :-1]], 1)
    rr = torch.where(early, rr * coupling, torch.where(after, rr * pause, rr))
    mark = torch.where(ventricular, VENTRICULAR, SUPRAVENTRICULAR).expand(n, k)
    return rr, torch.where(early, mark, kind)


def from_bank(n, k, generator):
    """Draw real stretches with slightly changed rates: intervals (n, k) s, kinds, and whether they
    are atrial fibrillation.
    """
    bank = read_bank()
    rhythm = torch.as_tensor(bank.rhythm).long()  # on the default device, as all that is made here
    counts = torch.bincount(rhythm, minlength=len(CLASS_WEIGHTS)).clamp(min=1)
    weights = (torch.tensor(CLASS_WEIGHTS) / counts)[rhythm]
    row = torch.multinomial(weights, n, True, generator=generator)
    start = torch.randint(0, STRETCH - k + 1, (n, 1), generator=generator)
    at = start + torch.arange(k)
    place = row[:, None].cpu().numpy(), at.cpu().numpy()
    rr = torch.as_tensor(bank.rr_ms[place].astype("float32") / 1000)
    kind = torch.as_tensor(bank.kind[place].astype("int64"))
    stretch = torch.exp(0.12 * torch.randn(n, 1, generator=generator)).clamp(0.75, 1.35)
    return rr * stretch, kind, rhythm[row] == 1


__all__ = ["NORMAL", "SUPRAVENTRICULAR", "VENTRICULAR", "Rhythm", "draw_rhythm", "uniform"]
