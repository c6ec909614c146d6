"""The streaming front end: converter codes at any rate become int8 samples at 100 Hz, in whole
numbers.

The contract, fixed before weights were trained (docs/streaming.md): everything after the samples is
whole-number arithmetic in a stated order, so that Python and C give the same bits. A sample at 100
Hz needs codes up to 0.54 s later (`LOOK_AHEAD`); the network of `beats-mcu` needs 0.84 s more.

1. Resample: codes are held until the next one; a sample is their mean over 10 ms, times 16.
2. Low-pass: two moving averages of 5 samples (first zero at 20 Hz).
3. High-pass: less the moving average of 101 samples.
4. Scale: 100 steps are the largest deviation of the last 16 whole blocks of 0.25 s.
"""

import numpy as np

from xmae.errors import UserError
from xmae.signals.window import SFREQ

SMOOTH = 5  # samples of each of the two moving averages
BASELINE = 101  # samples of the moving average that is taken off
TRIANGLE = np.convolve(np.ones(SMOOTH, np.int64), np.ones(SMOOTH, np.int64))  # sums to 25
LOOK_AHEAD = BASELINE // 2 + SMOOTH - 1  # samples at 100 Hz
HISTORY = 2 * LOOK_AHEAD  # samples that an output needs beside its own
BLOCK, BLOCKS = 25, 16  # samples a block, blocks behind a sample that set its scale: 4 s
FULL = 100  # steps of int8 for the largest deviation of these
FRACTION = 16  # steps of a converter code after resampling
SHIFT = 10  # bits dropped after the filters, so that 24-bit codes fit 32 bits
MIN_RANGE = 8  # in these steps: less moves in no pulse
MIN_SFREQ, MAX_SFREQ = 25, 500  # Hz
MAX_BITS = 24


def filter_taps():
    """Return the taps of steps 2 and 3 combined: float64 (109,), symmetric, gain 1 in the pass
    band.
    """
    triangle = TRIANGLE / TRIANGLE.sum()
    centre = np.zeros(HISTORY + 1)
    middle = HISTORY // 2
    centre[middle - SMOOTH + 1 : middle + SMOOTH] = triangle
    low = np.convolve(np.ones(BASELINE) / BASELINE, np.eye(1, 2 * SMOOTH - 1, SMOOTH - 1)[0])
    return centre - low


def check_rate(sfreq):
    """Return a sampling rate in whole millihertz.

    Raises
    ------
    UserError
        If it is not within 25 to 500 Hz.
    """
    if not MIN_SFREQ <= sfreq <= MAX_SFREQ:
        raise UserError(f"sampling rate {sfreq:g} Hz; a stream takes {MIN_SFREQ} to {MAX_SFREQ} Hz")
    return round(sfreq * 1000)


def checked(codes):
    """Check converter codes and return them as int64.

    Raises
    ------
    UserError
        If they are not whole numbers of at most 24 bits in one row.
    """
    codes = np.asarray(codes)
    if codes.dtype.kind not in "iu" or codes.ndim != 1:
        raise UserError(f"codes must be whole numbers in one row, not {codes.dtype} {codes.shape}")
    if len(codes) and max(int(codes.max()), -int(codes.min())) >= 1 << MAX_BITS:
        raise UserError(f"a code has more than {MAX_BITS} bits; shift the codes first")
    return codes.astype(np.int64)


class FrontEnd:
    """Streaming front end: converter codes in, int8 samples at 100 Hz out, in portions of any size.

    Parameters
    ----------
    sfreq : float
        Rate of the codes, Hz, 25 to 500.

    Examples
    --------
    >>> front_end = FrontEnd(64)
    >>> codes = (1000 * np.sin(np.arange(64 * 8) * 2 * np.pi * 1.2 / 64)).astype(int)
    >>> out = np.concatenate([front_end.push(part) for part in np.split(codes, 8)])
    >>> out.dtype, len(out), int(out.max())
    (dtype('int8'), 692, 100)
    """

    def __init__(self, sfreq):
        self.rate = check_rate(sfreq)
        self.codes = np.zeros(0, np.int64)  # not yet used up
        self.first_code = 0  # number of the first of these
        self.n_codes = self.n_samples = 0  # taken; resampled
        self.samples = np.zeros(0, np.int64)  # resampled, for the filters
        self.scaled = RunningScale()

    def push(self, codes):
        """Take codes (n,), whole numbers of up to 24 bits, and return the samples that they
        complete.

        Raises
        ------
        UserError
            If codes are not whole numbers of at most 24 bits.
        """
        return self.scale(self.band(self.resample(checked(codes))))

    def resample(self, codes):
        """Resample codes to 100 Hz, times 16: each code is held for its interval, and averaged over
        10 ms.
        """
        self.codes = np.concatenate([self.codes, codes + (1 << MAX_BITS)])
        self.n_codes += len(codes)
        # in units of 1 / (100,000 sfreq) s a code lasts 100,000 and a sample `rate`
        whole = SFREQ * 1000
        n_ready = self.n_codes * whole // self.rate
        edges = np.arange(self.n_samples, n_ready + 1, dtype=np.int64) * self.rate
        integral = np.concatenate([[0], np.cumsum(self.codes)]) * whole
        place = edges - self.first_code * whole
        index = place // whole
        ends = np.append(self.codes, 0)[index] * (place - index * whole) + integral[index]
        samples = np.diff(ends) * FRACTION // self.rate
        self.n_samples = n_ready
        used = int(n_ready * self.rate // whole) - self.first_code
        self.codes, self.first_code = self.codes[used:], self.first_code + used
        return samples

    def band(self, samples):
        """Band-pass by moving averages: samples times 16 -> deviations, 0.54 s later."""
        x = np.concatenate([self.samples, samples])
        self.samples = x[max(0, len(x) - HISTORY) :]
        n = len(x) - HISTORY
        if n <= 0:
            return np.zeros(0, np.int64)
        middle = HISTORY // 2
        total = np.concatenate([[0], np.cumsum(x)])
        start = middle - BASELINE // 2
        base = total[start + BASELINE : start + BASELINE + n] - total[start : start + n]
        smooth = sum(
            int(w) * x[middle - SMOOTH + 1 + k : middle - SMOOTH + 1 + k + n]
            for k, w in enumerate(TRIANGLE)
        )
        return (BASELINE * smooth - int(TRIANGLE.sum()) * base) >> SHIFT

    def scale(self, deviations):
        """Scale to int8 by the largest deviation of the last 4 s; zeros for a constant signal."""
        return self.scaled.push(deviations[None])[0]


class RunningScale:
    """Running scale: divides signals by the largest deviation of any of them in the last 16 whole
    blocks of 0.25 s.

    Parameters
    ----------
    rows : int
        Signals.
    least, floor : int
        Deviations below `least` are nothing: zeros. What is less than `floor` counts as that.
    """

    def __init__(self, rows=1, least=MIN_RANGE, floor=0):
        self.least, self.floor = least, floor
        self.running = np.zeros((rows, 0), np.int64)
        self.peaks = []  # largest deviation of the last blocks

    def push(self, deviations):
        """Take deviations (rows, n) and return int8 (rows, n); 100 is the largest."""
        out = np.zeros(deviations.shape, np.int8)
        done, n = 0, deviations.shape[1]
        while done < n:
            take = min(BLOCK - self.running.shape[1], n - done)
            part = deviations[:, done : done + take]
            peak = max(self.floor, max(self.peaks, default=0))
            if peak >= self.least:
                factor = (FULL << 24) // peak
                steps = (part * factor + (1 << 23)) >> 24
                out[:, done : done + take] = np.clip(steps, -127, 127)
            self.running = np.concatenate([self.running, part], 1)
            if self.running.shape[1] == BLOCK:
                self.peaks = [*self.peaks, int(np.abs(self.running).max())][-BLOCKS:]
                self.running = self.running[:, :0]
            done += take
        return out


class Acceleration:
    """Streaming front end of acceleration: codes of three axes in, int8 samples at 100 Hz out,
    synchronous with the PPG's front end.

    The largest of three axes sets the scale; 0.1 g is full scale at the least.

    Parameters
    ----------
    sfreq : float
        Rate of the codes, Hz, 25 to 500.
    one_g : int
        Codes that 1 g makes, 16 to 65536.

    Raises
    ------
    UserError
        If one of them is out of range.
    """

    def __init__(self, sfreq, one_g):
        if not 16 <= one_g <= 1 << 16:
            raise UserError(f"{one_g} codes for 1 g; acceleration takes 16 to {1 << 16}")
        self.axes = [FrontEnd(sfreq) for _ in range(3)]
        gain = BASELINE * int(TRIANGLE.sum()) * FRACTION
        self.one_g = (gain * one_g) >> SHIFT  # in deviations
        self.scaled = RunningScale(3, 1, max(1, self.one_g // 10))
        self.fresh = []  # largest deviation of each block of 0.25 s, until someone takes it

    def push(self, codes):
        """Take codes (3, n), whole numbers of up to 24 bits, and return the samples that they
        complete.
        """
        moved = [
            front_end.band(front_end.resample(row))
            for front_end, row in zip(self.axes, map(checked, codes), strict=True)
        ]
        deviations, parts = np.stack(moved), [np.zeros((3, 0), np.int8)]
        while deviations.shape[1]:
            take = BLOCK - self.scaled.running.shape[1]
            parts.append(self.scaled.push(deviations[:, :take]))
            deviations = deviations[:, take:]
            if not self.scaled.running.shape[1]:
                self.fresh.append(self.scaled.peaks[-1])
        return np.concatenate(parts, 1)

    def level(self):
        """Return the level of motion: the largest deviation of the last 4 s, 1 / 1000 g."""
        return max(self.scaled.peaks, default=0) * 1000 // self.one_g
