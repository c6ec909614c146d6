"""Spectra of the last 10 s on the grid of heart rates, second by second, in whole numbers.

A second of 25 values becomes one complex number for each rate. Turns are counted from the start of
the stream, so seconds add up: the spectrum of 10 s is their sum, weighted by a Hann window in
steps. Python and C do the same operations in the same order, so they give the same bits.
"""

import numpy as np

from xmae.beats.timing_map import MAP_SFREQ

GRID = np.arange(30, 222, 2)  # bpm
SPAN = 10  # s
TURN = 60 * MAP_SFREQ  # steps of one turn: 1 bpm is one step a value
UNIT = 1024  # of the table of cosines
SHIFT = 10  # bits dropped from the sum of a second
DROP = 6  # bits dropped from the sum of 10 s
WINDOW = np.array([1, 4, 8, 13, 15, 15, 13, 8, 4, 1])  # of the seconds, sums to 82
WINDOW_SUM = int(WINDOW.sum())


def cosines():
    """Return a table of the cosine over one turn: int64 (1500,)."""
    return np.rint(UNIT * np.cos(2 * np.pi * np.arange(TURN) / TURN)).astype(np.int64)


class Spectra:
    """Running spectra of one signal of `n` streams.

    Parameters
    ----------
    n : int
        Streams.

    Attributes
    ----------
    blocks : int64 array, shape (n, 10, 96, 2)
        Sums of the last seconds, the newest last; each fits 16 bits.
    """

    def __init__(self, n=1):
        self.blocks = np.zeros((n, SPAN, len(GRID), 2), np.int64)
        self.place = 0  # number of the next value, within a turn
        self.table = cosines()

    def push(self, real, imaginary=None):
        """Take a second of values, (n, 25) whole numbers of at most 10 bits and a sign."""
        step = (GRID[None, :] * (self.place + np.arange(MAP_SFREQ))[:, None]) % TURN
        cosine, sine = self.table[step], self.table[(step + TURN * 3 // 4) % TURN]
        real = np.asarray(real, np.int64)
        first, second = real @ cosine, -(real @ sine)
        if imaginary is not None:
            imaginary = np.asarray(imaginary, np.int64)
            first, second = first + imaginary @ sine, second + imaginary @ cosine
        block = np.stack([first, second], 2) >> SHIFT
        self.blocks = np.concatenate([self.blocks[:, 1:], block[:, None]], 1)
        self.place = (self.place + MAP_SFREQ) % TURN

    def power(self):
        """Return the squared amplitude at each heart rate: (n, 96), below 2^31.

        A signal that turns with amplitude a gives `steady(a)` squared, a wave a quarter of it.
        """
        total = (self.blocks * WINDOW[:, None, None]).sum(1) >> DROP
        return (total * total).sum(2)


def steady(amplitude):
    """Return the square root of the power of a signal that rotates steadily with this amplitude."""
    return amplitude * MAP_SFREQ * WINDOW_SUM >> DROP


def root(x):
    """Return the integer square root, rounded down: int64 array -> int64 array, below 2^52."""
    return np.sqrt(np.asarray(x, np.float64)).astype(np.int64)
