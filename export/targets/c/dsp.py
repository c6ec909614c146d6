"""The tier without a network: the timing map from an autocorrelation and two moving averages.

It stands where the int8 network stands, between front end and beat reader, and gives the same bits
as `library/src/xmae_dsp.c`. All of it is whole-number arithmetic.

1. Four samples become one, 25 per second; the last 10 s are kept.
2. Each second, the period is the shortest lag from 0.28 to 2 s whose autocorrelation is a peak
   and at least 7/8 of the highest peak. Its height is the certainty.
3. A beat is where a narrow moving average (a quarter of the period) rises above a wide one (one
   period).

Two moving averages: Elgendi et al., PLoS ONE 8(10): e76585, 2013.
"""

import numpy as np

from xmae.beats.timing_map import MAP_SFREQ, STEP, TYPICAL_S

SPAN = 250  # samples at 25 Hz that the autocorrelation sees
DELAY = 15  # outputs between the newest sample and the moment that is answered for
LOOK_AHEAD = STEP * DELAY  # samples at 100 Hz
SHORTEST, LONGEST = 7, 50  # lags: 214 and 30 bpm
STEEP = 45  # codes that the sine does not exceed
LEAST_SHARE = (7, 8)  # of the highest peak that a shorter lag must reach
FULL_HEIGHT = 256
SILENT = 4  # energy below which nothing moves
REFRACTORY = 1.25  # periods in the map, so that half a period is refused after a beat
SCALE = 0.01  # a code of the map


def interval_codes():
    """Return the int8 code of the log interval for each lag from 0 to 50."""
    length = REFRACTORY * np.maximum(np.arange(LONGEST + 1), 1) / MAP_SFREQ
    return np.clip(np.rint(100 * np.log(length / TYPICAL_S)), -127, 127).astype(np.int8)


def square_root(n):
    """Return the integer square root, rounded down."""
    root = 0
    while (root + 1) * (root + 1) <= n:
        root += 1
    return root


class DspTier:
    """Replacement of a `StreamNetwork` without weights: beats by signal processing alone.

    Attributes
    ----------
    scale, zero, look_ahead : float, int, int
        As in `StreamNetwork`.
    lag, length : int
        Period at 25 Hz, and the length of (cosine, sine) in codes, since the last second.
    """

    scale, zero, look_ahead = SCALE, 0, LOOK_AHEAD

    def __init__(self):
        self.codes = interval_codes()
        self.reset()

    def reset(self):
        """Set the state as after a long silence."""
        self.x = np.zeros(SPAN + DELAY + LONGEST, np.int64)
        self.lag, self.length = LONGEST // 2, 0

    def push(self, samples):
        """Take a second of int8 samples at 100 Hz and return the codes of its map, int64 (25,
        3).
        """
        new = np.asarray(samples, np.int64).reshape(-1, STEP).sum(1) >> 2
        self.x = np.concatenate([self.x[len(new) :], new])
        self.find_period()
        return np.array([self.output(k) for k in range(len(self.x) - len(new), len(self.x))])

    def find_period(self):
        """Find the period, at the first high peak of the autocorrelation, and how clear it is."""
        x = self.x[-SPAN:]
        energy = int(x @ x)
        r = [int(x[: SPAN - lag] @ x[lag:]) for lag in range(SHORTEST - 1, LONGEST + 2)]
        peaks = [
            (lag, r[i])
            for i, lag in enumerate(range(SHORTEST, LONGEST + 1), 1)
            if r[i] > r[i - 1] and r[i] >= r[i + 1] and r[i] > 0
        ]
        self.length = 0
        if energy < SILENT or not peaks:
            return
        highest = max(height for _, height in peaks)
        above, below = LEAST_SHARE
        lag, height = next((n, h) for n, h in peaks if below * (h >> 3) >= above * (highest >> 3))
        height = height * SPAN // (SPAN - lag) * FULL_HEIGHT // energy
        self.lag = lag
        self.length = square_root(31 * min(height, FULL_HEIGHT))

    def output(self, k):
        """Return the cosine, sine and log interval of the sample DELAY before number `k`."""
        at, narrow, half = k - DELAY, self.lag // 8, min(self.lag // 2, DELAY)
        wide = self.lag
        first = at + half - wide + 1
        near = int(self.x[at - narrow : at + narrow + 1].sum())
        far = int(self.x[first : first + wide].sum())
        difference = near * wide - far * (2 * narrow + 1)
        size = abs(difference) // (wide * (2 * narrow + 1))
        size = min(size * self.length >> 6, STEEP)
        return self.length, (-size if difference < 0 else size), int(self.codes[self.lag])
