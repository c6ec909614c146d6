"""The pre-processing of a watch, which has no whole recording, only the samples around a window.

Cleaning runs forward and backward, so a window depends on what comes after it. A watch therefore
waits for a margin behind the window and keeps one before it; over this buffer the same functions
run as over a recording. With 3 s on both sides a window differs from the whole recording's by at
most one step of int8 (all windows of the 23 training subjects; `docs/firmware.md`). The C firmware
is this module in single precision.
"""

import numpy as np

from xmae.signals.filters import ppg_clean
from xmae.signals.resample import resample
from xmae.signals.scale import minmax_scale
from xmae.signals.window import N_TIMES, SFREQ, WINDOW_S

MARGIN_S = 3  # s before and after the window; 6.5 time constants of the 0.5 Hz high-pass
BUFFER_S = WINDOW_S + 2 * MARGIN_S  # s
MIN_SPAN = 1.0  # converter codes: a window that moves less in the pulse's band holds no pulse
PULSE_STEP = 4  # samples of a window in one for `has_pulse`: 25 Hz
PULSE_LAGS = 7, 50  # of these: 0.28 to 2 s, a pulse of 214 to 30 a minute
# %; chosen on training and validation subjects, see docs/firmware.md
MIN_SMOOTHNESS, MIN_PERIODICITY = 55, 25


def stream_windows(codes, sfreq, hop_s=WINDOW_S):
    """Cut a recording into the windows that a watch sees.

    Parameters
    ----------
    codes : array, shape (n_times,)
        Samples of the front end, converter codes; none missing (see `bridge_lost`).
    sfreq : int
        Sampling rate, Hz.
    hop_s : int
        Seconds from one window to the next.

    Returns
    -------
    windows : float64 array, shape (n, 1000)
        At 100 Hz, min-max scaled to [-1, 1]; zeros where flat.
    start_s : int array, shape (n,)
        Start of each window in the recording, s.

    Examples
    --------
    >>> windows, start_s = stream_windows(np.sin(np.arange(125 * 30) / 20) * 1000, 125)
    >>> windows.shape, start_s.tolist()
    ((2, 1000), [3, 13])
    """
    codes = np.asarray(codes, dtype=np.float64)
    buffers = np.lib.stride_tricks.sliding_window_view(codes, BUFFER_S * sfreq)[:: hop_s * sfreq]
    clean = resample(ppg_clean(buffers - buffers[:, :1], sfreq), sfreq, SFREQ)
    windows = clean[:, MARGIN_S * SFREQ : MARGIN_S * SFREQ + N_TIMES]
    scaled, _ = minmax_scale(windows)
    scaled[np.ptp(windows, axis=1) < MIN_SPAN] = 0
    return scaled, MARGIN_S + hop_s * np.arange(len(buffers))


def has_pulse(windows):
    """Tell whether windows hold something like a pulse: smooth, and similar to itself one beat
    later.

    Both are read off the normalised autocorrelation (unbiased), that of a periodic signal being
    near 1 at its period (Rabiner, IEEE Trans. ASSP 25, 1977): at one step it is at least
    `MIN_SMOOTHNESS`, as most power lies below 4 Hz, and somewhere in `PULSE_LAGS`, after it has
    been negative, at least `MIN_PERIODICITY`. Steps are means of `PULSE_STEP` samples, but power is
    that of all samples: what is faster than a pulse counts against it. In whole numbers all
    through, so that a watch decides the same on the same int8 window.

    Parameters
    ----------
    windows : int array, shape (n, 1000)
        The network's input codes; scale and zero point do not matter.

    Returns
    -------
    bool array, shape (n,)

    Examples
    --------
    >>> t = np.arange(1000) / 100
    >>> noise = np.random.default_rng(0).integers(-128, 128, 1000)
    >>> has_pulse(np.stack([100 * np.sin(2 * np.pi * 1.2 * t), noise]).astype(np.int8)).tolist()
    [True, False]
    """
    windows = np.asarray(windows, np.int64)
    n = N_TIMES // PULSE_STEP
    total = windows.sum(axis=1)
    # 1000 x (mean of four - mean)
    steps = n * windows.reshape(-1, n, PULSE_STEP).sum(axis=2) - total[:, None]
    power = n * (N_TIMES * (windows**2).sum(axis=1) - total**2)  # of the same, over all samples
    lags = np.arange(1, PULSE_LAGS[1] + 1)
    # (n_windows, n_lags): 100 n times the unbiased autocovariance, beside a share of the power in %
    sums = (
        100 * n * np.stack([(steps[:, lag:] * steps[:, :-lag]).sum(axis=1) for lag in lags], axis=1)
    )
    shares = power[:, None] * (n - lags)
    smooth = sums[:, 0] >= MIN_SMOOTHNESS * shares[:, 0]
    again = (
        (sums >= MIN_PERIODICITY * shares)
        & (np.cumsum(sums < 0, axis=1) > 0)
        & (lags >= PULSE_LAGS[0])
    )
    return (power > 0) & smooth & again.any(axis=1)


def bridge_lost(codes):
    """Fill lost samples (NaN) by linear interpolation, in whole codes as the firmware does."""
    codes = np.asarray(codes, dtype=np.float64)
    known = np.flatnonzero(np.isfinite(codes))
    lost = np.setdiff1d(np.arange(known[0], known[-1]), known)
    before = codes[known[np.searchsorted(known, lost) - 1]]
    line = np.interp(lost, known, codes[known])
    filled = codes.copy()
    filled[lost] = before + np.trunc(line - before)
    return filled
