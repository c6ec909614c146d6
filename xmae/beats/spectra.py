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
FINE = 3  # bits dropped from the sum of a second where products are added up
FAINT = 400_000  # weighted square of movement that leaves a gain undecided
GAIN_BITS = 14  # of the divisor of a gain
LARGEST_GAIN = 2
LARGEST = 32767  # of each part of what is left


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
        return squared(self.total())

    def total(self):
        """Return the spectrum of the last 10 s: cosine and sine parts at each rate, (n, 96, 2)."""
        return (self.blocks * WINDOW[:, None, None]).sum(1) >> DROP


def squared(total):
    """Return the squared amplitudes of spectra (..., 2)."""
    return (total * total).sum(-1)


def power_without(signal, others):
    """Return the power of a signal without the part that follows other signals: (n, 96), below
    2^31.

    At each rate the strongest of the others is used. One gain and delay, fitted by least squares
    over the ten seconds, say how much of it is in the signal. That part is removed, and the rest
    stays.

    Parameters
    ----------
    signal : Spectra
    others : sequence of Spectra
    """
    totals = np.stack([other.total() for other in others])
    strongest = squared(totals).argmax(0)[None]
    other = np.take_along_axis(totals, strongest[..., None], 0)[0]
    blocks = np.stack([other.blocks for other in others])
    blocks = np.take_along_axis(blocks, strongest[:, :, None, :, None], 0)[0]
    a, b = signal.blocks >> FINE, blocks >> FINE
    weighted = lambda x: (x * WINDOW[:, None]).sum(1)
    gain = [
        weighted(a[..., 0] * b[..., 0] + a[..., 1] * b[..., 1]),
        weighted(a[..., 1] * b[..., 0] - a[..., 0] * b[..., 1]),
    ]
    whole = weighted(b[..., 0] ** 2 + b[..., 1] ** 2) + FAINT
    drop = np.maximum(bits(whole) - GAIN_BITS, 0)
    whole >>= drop
    re, im = (np.clip(x >> drop, -LARGEST_GAIN * whole, LARGEST_GAIN * whole) for x in gain)
    moved = [re * other[..., 0] - im * other[..., 1], re * other[..., 1] + im * other[..., 0]]
    left = signal.total() - np.stack(moved, 2) // whole[..., None]
    return squared(left.clip(-LARGEST, LARGEST))


def bits(x):
    """Return the number of bits of whole numbers above 0, below 2^52."""
    return np.floor(np.log2(np.asarray(x, np.float64))).astype(np.int64) + 1


def steady(amplitude):
    """Return the square root of the power of a signal that rotates steadily with this amplitude."""
    return amplitude * MAP_SFREQ * WINDOW_SUM >> DROP


def root(x):
    """Return the integer square root, rounded down: int64 array -> int64 array, below 2^52."""
    return np.sqrt(np.asarray(x, np.float64)).astype(np.int64)
