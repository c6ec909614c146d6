"""The optical front end, played from a recording: what its FIFO would hold, word by word.

A word is the sample's code (bits 0-23), a flag for saturation (24) and how many samples were lost
just before it (25-30); bit 31 tells the emulated board that the next word has arrived too before
the core wakes. Beside each word is the time at which it was read, ms. `app/fifo.h` is the other
side.
"""

import numpy as np

from xmae.errors import UserError
from xmae.firmware_sim.build.generate import MAX_SFREQ, MIN_SFREQ
from xmae.signals.resample import resample
from xmae.signals.window import SFREQ

SATURATED, BURST = 1 << 24, 1 << 31
LOST_SHIFT, MAX_LOST = 25, 63
HEADROOM = 0.1  # of the converter's range, kept free at both ends

ROUNDED = 1e-3  # share by which a stated rate may be off


def front_end_rate(sfreq):
    """Return the rate at which a recording of `sfreq` Hz is played: its own where a watch supports
    it, else 100 Hz. A rate within a thousandth of a whole number, as from rounded times, counts as
    that number.
    """
    whole = round(sfreq)
    near = abs(sfreq - whole) <= ROUNDED * whole
    return whole if near and MIN_SFREQ <= whole <= MAX_SFREQ else SFREQ


def digitise(ppg, sfreq, rate, adc_bits):
    """Convert a recording to converter codes.

    Parameters
    ----------
    ppg : float array, shape (n_times,)
        PPG in any unit, NaN or infinite = missing.
    sfreq, rate : float, int
        Rate of the recording and of the front end, Hz.
    adc_bits : int
        Width of a code.

    Returns
    -------
    float array, shape (n,)
        Whole codes between 10 and 90 % of full scale, NaN where the recording misses samples.
    """
    missing = ~np.isfinite(ppg)
    if missing.all():
        raise UserError("the recording has no PPG samples")
    times = np.arange(len(ppg))
    filled = np.interp(times, times[~missing], ppg[~missing])
    if rate != sfreq:
        filled = resample(filled, sfreq, rate)
        missing = missing[
            np.minimum((np.arange(len(filled)) * sfreq / rate).astype(int), len(missing) - 1)
        ]
    low, high = filled.min(), filled.max()
    if high == low:
        high = low + 1
    share = HEADROOM + (1 - 2 * HEADROOM) * (filled - low) / (high - low)
    return np.where(missing, np.nan, np.rint(share * (2**adc_bits - 1)))


def fifo_words(codes, rate, saturated=None):
    """Return the words that the front end's FIFO delivers.

    Parameters
    ----------
    codes : array, shape (n,)
        Converter codes, NaN = lost.
    rate : float
        Sampling rate by the watch's own clock, Hz.
    saturated : bool array, shape (n,), optional
        Samples that the converter marks as saturated.

    Returns
    -------
    uint32 array, shape (m, 2)
        Word and time (ms) of each sample that arrived. Of a longer gap 63 samples are reported, as
        a counter of six bits would; the times tell the rest.
    """
    arrived = np.flatnonzero(~np.isnan(codes))
    words = np.asarray(codes)[arrived].astype(np.uint32)
    if saturated is not None:
        words |= np.where(saturated[arrived], SATURATED, 0).astype(np.uint32)
    lost = np.minimum(np.diff(arrived, prepend=arrived[0] - 1) - 1, MAX_LOST).astype(np.uint32)
    return np.stack([words | lost << LOST_SHIFT, (arrived * 1000 / rate).astype(np.uint32)], axis=1)
