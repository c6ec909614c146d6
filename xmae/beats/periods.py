"""A second opinion on a heart rate: after which time the signal repeats.

A network may follow a rhythm that is not the pulse's, and be sure. Its heart rate is compared with
the autocorrelation of the last 10 s. Three things speak against it, where the beats are not
irregular:

1. Waves alternate. The signal repeats well after two beats and a little less well after one: every
   second beat may be a second wave of the same pulse.
2. The signal repeats best after a time that is no multiple of a beat.
3. It repeats clearly better after three or four beats than after one or two: two rhythms lie over
   each other, as where a wrist moves in step.

All of it is whole-number arithmetic, so Python and C give the same bits. The thresholds were chosen
on generated people and on a tenth of `cinc2015_vt`, where they refuse 8 of 362 right windows.
"""

import numpy as np

from xmae.beats.timing_map import MAP_SFREQ, STEP

SPAN = 250  # samples at 25 Hz that are looked at
SHORTEST, LONGEST = 7, 50  # lags of the search: 214 and 30 bpm
MOST = SPAN // 2  # the longest lag that is looked at
FULL = 256  # height where the signal repeats exactly
QUIET = 250  # energy below which nothing is said: one square code a sample
IRREGULAR = 150  # 1 / 1000: beats from here on may well repeat badly
REGULAR = 80  # 1 / 1000: alternating waves are looked for up to here
LIKE, LEAST_APART, MOST_APART = 205, 13, 77  # heights: of two beats, and how much more than of one
CLEAR = 179  # height of another period
OFF_BEAT, MANY_BEATS = 20, 38  # by how much it is higher
BEAT_LAG = 6000 * MAP_SFREQ  # lag of a beat times the heart rate in 1 / 100 bpm


class Periods:
    """The last 10 s of a signal, with a check of a heart rate against its periodicity."""

    def __init__(self):
        self.x = np.zeros(SPAN, np.int64)

    def push(self, samples):
        """Take int8 samples at 100 Hz, a multiple of four; means of four are stored."""
        new = np.asarray(samples, np.int64).reshape(-1, STEP).sum(1) >> 2
        self.x = np.concatenate([self.x, new])[-SPAN:]

    def heights(self):
        """Return the autocorrelation at lags of 0 to 125 samples, 0 to about 256; None in
        silence.
        """
        energy = int(self.x @ self.x)
        if energy < QUIET:
            return None
        lags = np.arange(MOST + 1)
        product = np.correlate(self.x, self.x, "full")[SPAN - 1 : SPAN + MOST]
        return np.maximum(product, 0) * SPAN // (SPAN - lags) * FULL // energy

    def doubt(self, rate, irregularity):
        """Tell whether the signal contradicts a heart rate.

        Parameters
        ----------
        rate : int
            1 / 100 bpm; 0 = none.
        irregularity : int
            Irregularity of the beats, 1 / 1000; -1 = unknown.

        Returns
        -------
        bool
        """
        height = self.heights() if rate and irregularity < IRREGULAR else None
        if height is None:
            return False
        beats = [(m * BEAT_LAG + rate // 2) // rate for m in (1, 2, 3, 4)]
        one, two, three, four = (around(height, lag) for lag in beats)
        apart = min(two, four) - max(one, three)
        if irregularity < REGULAR and two >= LIKE and LEAST_APART <= apart <= MOST_APART:
            return True
        best = max(off_beat(height, beats))
        if best >= CLEAR and best - max(one, two, three, four) >= OFF_BEAT:
            return True
        many = max(three, four)
        return many >= CLEAR and many - max(one, two) >= MANY_BEATS


def around(height, lag):
    """Return the greatest height within one sample of a lag, by a parabola; -1 beyond the longest
    lag.
    """
    if lag + 2 > MOST:
        return -1
    at = lag - 1 + int(height[lag - 1 : lag + 2].argmax())
    before, top, after = (int(h) for h in height[at - 1 : at + 2])
    bend = 2 * top - before - after
    if top < before or top < after or bend == 0:
        return top
    return top + (after - before) ** 2 // (8 * bend)


def off_beat(height, beats):
    """List 0 and the heights at the lags that are not near a multiple of a beat."""
    lags = np.arange(SHORTEST, LONGEST + 1)
    near = np.zeros(len(lags), bool)
    for beat in beats:
        near |= np.abs(lags - beat) <= max(1, beat // 8)
    return [0, *height[lags[~near]].tolist()]
