"""How much a heart rate changes within a second: what a tracker's belief spreads by.

The heart rate is that of the beats of 10 s, as the tracker's evidence sees it. Half of the weight
have real intervals of the rhythm bank, its classes weighted as the twin draws them, each stretch
of 128 beats once. The other half have generated people who move, whose pulse follows effort.
"""

import numpy as np

from xmae.beats.spectra import GRID
from xmae.beats.tracker import REACH
from xmae.evaluation.moving_people import true_rates
from xmae.twin.bank import read_bank
from xmae.twin.rhythm import CLASS_WEIGHTS

REAL = 0.5  # share of the rhythm bank
LEAST = 1e-5  # of a share: no change within reach is impossible


def changes_of(rates):
    """Return the changes from second to second of heart rates (seconds,), NaN = unknown."""
    change = np.diff(rates)
    return change[np.isfinite(change)]


def shares_of(change, weight):
    """Count how far heart rates move on the grid in a second.

    Parameters
    ----------
    change : float array, shape (n,)
        bpm.
    weight : float array, shape (n,)

    Returns
    -------
    float array, shape (7,)
        Share that moves by 0 to 6 bins to each side: the first and twice the others make 1. A rate
        lies anywhere within its bin, so a change of half a bin moves half of them. More than 6
        bins are left out: a belief that starts anew covers them.
    """
    bins = np.abs(change) / (GRID[1] - GRID[0])
    near = np.maximum(1 - np.abs(bins[:, None] - np.arange(REACH + 1)), 0)  # a triangle each
    both = weight @ near
    both[1:] /= 2
    both = np.maximum(both / (both[0] + 2 * both[1:].sum()), LEAST)
    return both / (both[0] + 2 * both[1:].sum())


def bank_shares(bank=None):
    """Count the changes of the rhythm bank, or of another one: see `shares_of`."""
    bank = bank or read_bank()
    counts = np.bincount(bank.rhythm, minlength=len(CLASS_WEIGHTS))
    changes, weights = [], []
    for rr, kind in zip(bank.rr_ms, bank.rhythm, strict=True):
        beats = np.cumsum(rr, dtype=float) / 1000
        change = changes_of(true_rates(beats, int(beats[-1])))
        changes.append(change)
        weights.append(np.full(len(change), CLASS_WEIGHTS[kind] / counts[kind] / len(change)))
    return shares_of(np.concatenate(changes), np.concatenate(weights))


def people_shares(truth):
    """Count the changes of people's heart rates (n, seconds): see `shares_of`."""
    change = np.concatenate([changes_of(rates) for rates in truth])
    return shares_of(change, np.ones(len(change)))


def mixed_shares(truth):
    """Count the changes of the rhythm bank and of people with these heart rates, half and half."""
    return REAL * bank_shares() + (1 - REAL) * people_shares(truth)
