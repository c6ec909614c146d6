"""Follow the heart rate of a recording with acceleration, second by second."""

import numpy as np

from xmae.beats.reader import FLOAT_STEP
from xmae.beats.timing_map import MAP_SFREQ
from xmae.beats.tracker import Evidence, Tracker, read_belief, within_16_bits
from xmae.errors import UserError
from xmae.signals.front_end import Acceleration
from xmae.signals.window import SFREQ

ONE_G = 4096  # codes that acceleration in g is rounded to
LARGEST_G = 16  # more is clipped
FIRST_S = 10  # s before which nothing is said


def acceleration_samples(acc, sfreq):
    """Filter acceleration in g, (3, n_times), by its front end; a missing sample repeats the one
    before.

    Returns
    -------
    samples : int8 array, shape (3, n)
        At 100 Hz.
    levels : int array, shape (seconds,)
        How much people move, 1 / 1000 g.

    Raises
    ------
    UserError
        If there are not three rows.
    """
    acc = np.asarray(acc, np.float64)
    if acc.ndim != 2 or len(acc) != 3:
        raise UserError(f"expected acceleration in g as three rows, got shape {acc.shape}")
    known = np.isfinite(acc).all(0)
    last = np.maximum.accumulate(np.where(known, np.arange(acc.shape[1]), 0))
    held = np.nan_to_num(acc[:, last])
    codes = np.rint(np.clip(held, -LARGEST_G, LARGEST_G) * ONE_G).astype(np.int64)
    front_end, parts, levels = Acceleration(sfreq, ONE_G), [], []
    for k in range(int(np.ceil(codes.shape[1] / sfreq))):
        parts.append(front_end.push(codes[:, round(k * sfreq) : round((k + 1) * sfreq)]))
        levels.append(front_end.level())
    return np.concatenate(parts, 1), np.array(levels, np.int64)


def beside(ppg, acc):
    """Stack int8 samples of PPG (n,) and acceleration (3, m), or None for zeros: (4, n)."""
    rows = np.zeros((4, len(ppg)), np.int8)
    rows[0] = ppg
    if acc is not None:
        m = min(len(ppg), acc.shape[1])
        rows[1:, :m] = acc[:, :m]
    return rows


def gathered(samples, maps=None):
    """Yield an `Evidence` after every whole second, always the same one; see `evidence`."""
    gathering = Evidence(FLOAT_STEP, len(samples))
    codes = None
    if maps is not None:
        codes = np.clip(np.rint(maps * FLOAT_STEP), -255, 255).astype(np.int64).transpose(0, 2, 1)
    for k in range(samples.shape[2] // SFREQ):
        part = None if codes is None else codes[:, k * MAP_SFREQ : (k + 1) * MAP_SFREQ]
        gathering.push(samples[:, :, k * SFREQ : (k + 1) * SFREQ], part)
        yield gathering


def evidence(samples, removal, maps=None, together=False):
    """Compute the evidence of every whole second.

    Parameters
    ----------
    samples : int8 array, shape (n, 4, n_times)
        Samples of the front ends.
    removal : Removal
        Of the tracker that follows the evidence.
    maps : float array, shape (n, 3, n_times / 4), optional
    together : bool
        Whether the rows are PPG channels of one wrist: what they show is averaged.

    Returns
    -------
    list of levels
        See `xmae.beats.tracker.Evidence.levels`.
    """
    levels = [second.levels(removal) for second in gathered(samples, maps)]
    if not together:
        return levels
    return [
        tuple(x.sum(0, keepdims=True) // len(samples) for x in of_second) for of_second in levels
    ]


def follow(levels, table, both_ways=False):
    """Track the heart rate through the evidence of seconds.

    Parameters
    ----------
    levels : list
        See `evidence`.
    table : TrackerTable
    both_ways : bool
        Also look at what comes later, as a whole recording allows.

    Returns
    -------
    rate, sure : int arrays, shape (n, seconds)
        1 / 100 bpm, and 0 to 255; sure is 0 in the first 10 s.
    """
    n = len(levels[0][0])
    tracker, beliefs = Tracker(table, n), []
    for level in levels:
        tracker.push(level)
        beliefs.append(tracker.belief)
    if both_ways:
        later = Tracker(table, n)
        for k in range(len(levels) - 1, -1, -1):
            beliefs[k] = within_16_bits(beliefs[k] * later.spread())
            later.push(levels[k])
    rate, sure = zip(*(read_belief(belief) for belief in beliefs), strict=True)
    rate, sure = np.stack(rate, 1), np.stack(sure, 1)
    sure[:, : FIRST_S - 1] = 0
    return rate, sure
