"""Beats of a method against the beats of the ECG: one delay per recording, one-to-one pairs.

A pulse follows its R peak by a delay that differs between recordings; signals cannot tell how much
of it is the monitor's clock. So the lag in 0 to 1 s with the best F1 is taken off first. A pulse in
one window may belong to an R peak in the window before: beats are compared by their time in the
recording, and count only where the other signal was read.
"""

from dataclasses import dataclass

import numpy as np

from xmae.beats.intervals import beats_by_window
from xmae.signals.window import WINDOW_S

LAGS_S = np.arange(0, 1.005, 0.01)
TOLERANCE_S, QUARTER = 0.15, 0.25  # tolerance: at most this, and a quarter of the local interval


@dataclass(frozen=True)
class Matched:
    """Beats of the ECG in windows with truth, and the beats of a method matched to them.

    Parameters
    ----------
    window : int array, shape (n_beats,)
        Window of each beat of the ECG.
    found : float array, shape (n_beats,)
        Time of the method's beat in the recording, s, the recording's lag taken off; NaN = missed.
    counted : bool array, shape (n_beats,)
        Whether its pulse lies in a window that the method read.
    hits, claims : int arrays, shape (n_windows,)
        The method's beats that have a partner, and all of them, by the window of their R peak.
    lag_s : dict
        The lag of each recording, s.
    """

    window: np.ndarray
    found: np.ndarray
    counted: np.ndarray
    hits: np.ndarray
    claims: np.ndarray
    lag_s: dict


def match_beats(windows, recording, reading):
    """Match a method's beats with the ECG's.

    Parameters
    ----------
    windows : Windows or Dataset
        With `beats` and `start_s`, in the order of a store.
    recording : int array, shape (n,)
        Number of each window's recording.
    reading : Reading
        Reading of the same windows.

    Returns
    -------
    Matched
    """
    window, time = beats_by_window(windows.beats)
    truth, mine = windows.start_s[window] + time, windows.start_s[reading.window] + reading.time
    known = np.isfinite(windows.beats).any(axis=1)
    found, counted = np.full(len(window), np.nan), np.zeros(len(window), bool)
    hits, claims = np.zeros((2, len(known)), int)
    lags = {}
    for number in np.unique(recording[window]):
        here, rows = recording[window] == number, np.flatnonzero(recording == number)
        own, starts = mine[recording[reading.window] == number], windows.start_s[rows]
        lag, pairs, partner = best_lag(truth[here], own)
        found[here] = np.append(own, np.nan)[pairs] - lag  # no partner: -1, the NaN
        counted[here] = window_at(truth[here] + lag, starts) >= 0
        of = window_at(own - lag, starts)
        valid = (of >= 0) & known[rows[of]]
        np.add.at(claims, rows[of[valid]], 1)
        np.add.at(hits, rows[of[valid]], partner[valid])
        lags[int(number)] = float(lag)
    return Matched(window, found, counted, hits, claims, lags)


def best_lag(truth, mine):
    """Return the lag from 0 to 1 s with the best F1; of equal ones that with the smallest mean
    error.

    Parameters
    ----------
    truth, mine : float arrays, shape (n,), (m,)
        Times of the beats, s, ascending.

    Returns
    -------
    lag : float
        s.
    pairs : int array, shape (n,)
        Number of the partner of each of `truth`; -1 = none.
    partner : bool array, shape (m,)
        Whether each of `mine` has a partner.
    """
    tolerance = tolerances(truth)
    best = (-1, -np.inf)
    for lag in LAGS_S:
        pairs = pair(truth + lag, mine, tolerance)
        matched = pairs >= 0
        error = np.abs(mine[pairs[matched]] - truth[matched] - lag).mean() if matched.any() else 0
        best = max(best, (int(matched.sum()), -error, -lag))  # n + m is the same at every lag
    lag = -best[2]
    pairs = pair(truth + lag, mine, tolerance)
    return lag, pairs, np.isin(np.arange(len(mine)), pairs)


def tolerances(truth):
    """Return the tolerance at each beat, s: 0.15, or a quarter of the shorter interval beside
    it.
    """
    interval = np.diff(truth)
    before, after = np.append(np.inf, interval), np.append(interval, np.inf)
    return np.minimum(TOLERANCE_S, QUARTER * np.minimum(before, after))


def pair(truth, mine, tolerance):
    """Return the index of the nearest of `mine` within the tolerance of each of `truth` (both
    ascending, s); -1 = none.

    Tolerances do not overlap, so no beat is the partner of two.
    """
    if not len(mine):
        return np.full(len(truth), -1)
    after = np.searchsorted(mine, truth).clip(max=len(mine) - 1)
    before = np.maximum(after - 1, 0)
    nearer = np.abs(mine[before] - truth) <= np.abs(mine[after] - truth)
    nearest = np.where(nearer, before, after)
    return np.where(np.abs(mine[nearest] - truth) <= tolerance, nearest, -1)


def window_at(time, starts):
    """Return the index of the window that each time lies in, for ascending starts (s); -1 = none:
    (m,), (n,) -> (m,).
    """
    number = np.searchsorted(starts, time, side="right") - 1
    inside = (number >= 0) & (time < starts[number] + WINDOW_S)
    return np.where(inside, number, -1)


def matched_intervals(windows, recording, matched):
    """Return the intervals of the ECG and, where a method has both beats, the method's intervals.

    Returns
    -------
    window : int array, shape (k,)
        Window of the second beat.
    truth, mine : float arrays, shape (k,)
        Interval of the ECG and of the method, s; NaN = the method lacks a beat.
    """
    window, time = beats_by_window(windows.beats)
    at = windows.start_s[window] + time
    same = window[1:] == window[:-1]
    joined = (window[1:] == window[:-1] + 1) & windows.follows[window[:-1]]
    whole = (same | joined) & (recording[window[1:]] == recording[window[:-1]])
    return window[1:][whole], np.diff(at)[whole], np.diff(matched.found)[whole]
