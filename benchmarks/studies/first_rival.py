"""A first classical rival in thirty lines, of its own arithmetic: what any other method must beat.

Windows of 10 s every 2 s; the spectrum of the PPG less that of the accelerometer, each normalised
by its largest value from 40 to 200 bpm; a discrete Bayes filter with transitions of 3 bpm. It
always answers.
"""

import numpy as np

from xmae.signals.window import N_TIMES, SFREQ

RATES = np.arange(40, 201)  # bpm
HOP_S, SPREAD = 2, 3.0  # s, bpm
PADDED = 32 * N_TIMES  # samples of the transform
FLOOR = 0.02  # of a rate that shows nothing


def spectra(x):
    """Return the spectral amplitudes of signals (n, 1000) at `RATES`."""
    x = (x - x.mean(-1, keepdims=True)) * np.hanning(x.shape[-1])
    frequency = np.fft.rfftfreq(PADDED, 1 / SFREQ)
    return np.abs(np.fft.rfft(x, PADDED))[:, np.searchsorted(frequency, RATES / 60)]


def normalised(x):
    """Divide an array by its largest value."""
    return x / max(x.max(), 1e-9)


def first_rival(samples):
    """Track the heart rate of people in samples (n, 4, T): rates (n, seconds) in bpm, and whether
    each is given.
    """
    transition = np.exp(-0.5 * ((RATES[:, None] - RATES) / SPREAD) ** 2)
    transition /= transition.sum(0)
    rate = np.full((len(samples), samples.shape[2] // SFREQ), np.nan)
    for person, rows in enumerate(samples.astype(float)):
        belief = np.ones(len(RATES))
        for end in range(N_TIMES, rows.shape[1] + 1, HOP_S * SFREQ):
            parts = spectra(rows[:, end - N_TIMES : end])
            arm = np.sqrt((parts[1:] ** 2).sum(0))
            less = np.maximum(normalised(parts[0]) - normalised(arm), 0)
            belief = normalised((transition @ belief) * (normalised(less) + FLOOR))
            second = end // SFREQ - 1
            rate[person, second : second + HOP_S] = RATES[belief.argmax()]
    return rate, np.isfinite(rate)
