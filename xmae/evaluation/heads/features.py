"""Hand-made features of a cleaned PPG window: the classic signal-processing baseline that an
embedding must beat.

Everything is computed for all windows at once. The pulse rate comes four ways: autocorrelation,
harmonic spectrum, detected beats, and the phase of the band around the pulse. The beats also give
the variability of their intervals; the analytic signal of the band gives the respiratory modulation
of amplitude and of rate.
"""

import numpy as np
from scipy import ndimage, stats

from xmae.signals.window import SFREQ

RATE_RANGE = (40.0, 200.0)  # searched pulse rates, /min
RATE_STEP = 0.25  # grid of the search, /min
N_FFT = 8192  # zero-padded length: a bin is 0.73 /min at 100 Hz
BANDS_HZ = (0.5, 1.0, 1.5, 2.25, 3.5, 5.0, 8.0)  # edges; the usual PPG cleaning keeps 0.5-8 Hz
BREATH_HZ = (0.1, 0.6)  # respiration, 6-36 /min

NAMES = (
    ["rate_autocorrelation", "rate_spectrum", "rate_beats", "rate_phase", "regularity"]
    + ["interval_sd", "interval_rmssd"]
    + [
        "log_amplitude",
        "log_range",
        "skewness",
        "kurtosis",
        "slope_skewness",
        "slope_kurtosis",
        "rising_share",
    ]
    + [f"power_{low:g}_{high:g}_hz" for low, high in zip(BANDS_HZ[:-1], BANDS_HZ[1:], strict=True)]
    + ["spectral_entropy", "spectral_centroid", "harmonic_2", "harmonic_3", "harmonic_4"]
    + [
        "rate_modulation",
        "amplitude_modulation",
        "breath_am_rate",
        "breath_am_power",
        "breath_fm_rate",
        "breath_fm_power",
        "breath_rate",
    ]
)


def ppg_features(ppg):
    """Compute hand-crafted features of cleaned PPG windows.

    Parameters
    ----------
    ppg : array, shape (n, n_times)
        Cleaned PPG at 100 Hz in its own units, not min-max scaled, so that amplitudes mean
        something.

    Returns
    -------
    features : float64 array, shape (n, F)
        One row per window, one column per name; rates in 1/min, periods in s, powers as natural
        logarithm. A flat window gives finite values without meaning.
    names : list of str, length F
    """
    x = np.asarray(ppg, dtype=np.float64)
    x = x - x.mean(axis=1, keepdims=True)
    scale = x.std(axis=1, keepdims=True)
    x = np.divide(x, scale, out=np.zeros_like(x), where=scale > 0)
    spectrum = np.fft.rfft(x * np.hanning(x.shape[1]), N_FFT)  # (n, N_FFT / 2 + 1)
    frequency = np.fft.rfftfreq(N_FFT, 1 / SFREQ)
    power = np.abs(spectrum) ** 2

    rate_autocorrelation, regularity = _rate_from_autocorrelation(x)
    rate_spectrum = _rate_from_spectrum(power, frequency)
    rate_beats, interval_sd, interval_rmssd = _beats(x)
    period, envelope = _pulse_band(x, rate_autocorrelation)
    beat = np.median(period, axis=1)

    slope = np.diff(x, axis=1)
    columns = [
        rate_autocorrelation,
        rate_spectrum,
        rate_beats,
        60 / beat,
        regularity,
        interval_sd,
        interval_rmssd,
    ]
    columns += [np.log(scale[:, 0] + 1e-9), np.log(np.ptp(ppg, axis=1) + 1e-9)]
    columns += [
        _moment(x, 3),
        _moment(x, 4),
        _moment(slope, 3),
        _moment(slope, 4),
        (slope > 0).mean(axis=1),
    ]
    columns += _spectral_shape(power, frequency, rate_autocorrelation)
    columns += _modulation(period / beat[:, None], envelope)
    return np.nan_to_num(np.stack(columns, axis=1)), list(NAMES)


def _rate_from_autocorrelation(x):
    """Return the rate (/min) and regularity (0-1) of standardised windows from the autocorrelation,
    whose period must repeat once, twice and three times.
    """
    n_times = x.shape[1]
    full = np.fft.irfft(np.abs(np.fft.rfft(x, 2 * n_times)) ** 2)[:, :n_times]
    # biased: long lags weigh less, so that octaves below lose
    correlation = full / np.maximum(full[:, :1], 1e-12)
    rates = np.arange(RATE_RANGE[0], RATE_RANGE[1] + RATE_STEP, RATE_STEP)
    lag = 60 * SFREQ / rates
    at = {k: _interpolate(correlation, k * lag) for k in (0.5, 1, 2, 3)}
    score = at[1] + at[2] + at[3] - np.maximum(at[0.5], 0)
    best = score.argmax(axis=1)
    return rates[best], np.clip(np.take_along_axis(at[1], best[:, None], axis=1)[:, 0], 0, 1)


def _rate_from_spectrum(power, frequency):
    """Return the rate (/min) with the most power in its first three harmonics, higher ones weighted
    less.
    """
    rates = np.arange(RATE_RANGE[0], RATE_RANGE[1] + RATE_STEP, RATE_STEP)
    bins = rates / 60 / frequency[1]
    magnitude = np.sqrt(power)
    score = sum(
        weight * _interpolate(magnitude, k * bins) for k, weight in ((1, 1.0), (2, 0.6), (3, 0.3))
    )
    return rates[score.argmax(axis=1)]


def _interpolate(rows, position):
    """Interpolate rows (n, m) linearly at the same fractional positions (k,): (n, k), 0 beyond the
    end.
    """
    low = np.minimum(position.astype(int), rows.shape[1] - 2)
    weight = position - low
    return np.where(weight <= 1, rows[:, low] * (1 - weight) + rows[:, low + 1] * weight, 0.0)


def _pulse_band(x, rate):
    """Return the instantaneous period (s) and envelope of the pulse's fundamental, without half a
    second at both ends.

    The analytic signal is taken of a Gaussian band at the rate, 25 % wide (one standard deviation),
    which lets breathing pass as side bands and holds the second harmonic out.
    """
    n_times = x.shape[1]
    padded = np.pad(x, ((0, 0), (n_times // 2, n_times // 2)), mode="reflect", reflect_type="odd")
    frequency = np.fft.fftfreq(padded.shape[1], 1 / SFREQ)
    centre = rate[:, None] / 60
    band = np.exp(-0.5 * ((frequency - centre) / (0.25 * centre)) ** 2) * (frequency > 0)
    analytic = np.fft.ifft(np.fft.fft(padded) * 2 * band)[:, n_times // 2 : n_times // 2 + n_times]
    step = np.angle(analytic[:, 1:] * analytic[:, :-1].conj())  # phase per sample, rad
    period = 2 * np.pi / SFREQ / np.clip(step, 2 * np.pi * 0.4 / SFREQ, 2 * np.pi * 4 / SFREQ)
    inner = slice(SFREQ // 2, n_times - SFREQ // 2)
    return period[:, inner], np.abs(analytic[:, 1:])[:, inner]


def _beats(x):
    """Return the rate (/min) of detected beats, and standard deviation and RMSSD of their intervals
    (s); zeros below 3 beats.

    Systolic peaks after Elgendi et al., PLoS ONE 8(10): e76585, 2013: a beat lies where the squared
    positive signal, averaged over 0.111 s, exceeds its average over 0.667 s plus 2 % of its mean
    for at least 0.111 s.
    """
    n, n_times = x.shape
    square = np.maximum(x, 0) ** 2
    peak_width, beat_width = round(0.111 * SFREQ), round(0.667 * SFREQ)
    short, long = (
        ndimage.uniform_filter1d(square, width, axis=1, mode="nearest")
        for width in (peak_width, beat_width)
    )
    inside = short > long + 0.02 * square.mean(axis=1, keepdims=True)
    edges = np.diff(np.pad(inside, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    row, start = np.nonzero(edges == 1)
    end = np.nonzero(edges == -1)[1]
    wide = end - start >= peak_width
    row, start, end = row[wide], start[wide], end[wide]
    cumulative = np.pad(np.cumsum(square, axis=1), ((0, 0), (1, 0)))
    moment = np.pad(np.cumsum(square * np.arange(n_times), axis=1), ((0, 0), (1, 0)))
    peak = (moment[row, end] - moment[row, start]) / np.maximum(
        cumulative[row, end] - cumulative[row, start], 1e-12
    )

    same = row[1:] == row[:-1]
    interval, of = np.diff(peak)[same] / SFREQ, row[1:][same]
    count = np.bincount(of, minlength=n)
    mean = np.bincount(of, interval, minlength=n) / np.maximum(count, 1)
    variance = np.bincount(of, (interval - mean[of]) ** 2, minlength=n) / np.maximum(count, 1)
    again = of[1:] == of[:-1]
    change, of = np.diff(interval)[again], of[1:][again]
    rmssd = np.sqrt(
        np.bincount(of, change**2, minlength=n) / np.maximum(np.bincount(of, minlength=n), 1)
    )
    enough = count >= 2
    rate = np.divide(60, mean, out=np.zeros(n), where=enough)
    return np.where(enough, rate, 0), np.sqrt(variance) * enough, rmssd * enough


def _spectral_shape(power, frequency, rate):
    """Return log relative band powers, entropy (0-1), centroid (Hz), and log ratio of harmonics 2-4
    to the fundamental.
    """
    inside = (frequency >= BANDS_HZ[0]) & (frequency < BANDS_HZ[-1])
    share = power[:, inside] / np.maximum(power[:, inside].sum(axis=1, keepdims=True), 1e-12)
    f = frequency[inside]
    bands = [
        share[:, (f >= a) & (f < b)].sum(axis=1)
        for a, b in zip(BANDS_HZ[:-1], BANDS_HZ[1:], strict=True)
    ]
    entropy = stats.entropy(share + 1e-15, axis=1) / np.log(f.size)
    cumulative = np.cumsum(power, axis=1)
    rows = np.arange(len(power))
    width = 0.2 * rate / 60  # half width of a harmonic's band, Hz

    def harmonic(k):
        low, high = (
            np.rint((k * rate / 60 + sign * width) / frequency[1]).astype(int) for sign in (-1, 1)
        )
        last = power.shape[1] - 1
        return np.log(
            cumulative[rows, np.minimum(high, last)]
            - cumulative[rows, np.minimum(low, last)]
            + 1e-9
        )

    fundamental = harmonic(1)
    return (
        [np.log(band + 1e-6) for band in bands]
        + [entropy, share @ f]
        + [np.maximum(harmonic(k) - fundamental, -15) for k in (2, 3, 4)]
    )


def _modulation(period, envelope):
    """Return the modulation of rate and amplitude by breathing: deviations, then rate (/min) and
    log power of both spectra.
    """
    envelope = envelope / np.maximum(envelope.mean(axis=1, keepdims=True), 1e-12)
    am, frequency = _breath_spectrum(envelope)
    fm, _ = _breath_spectrum(period)
    both = am / np.maximum(am.sum(1, keepdims=True), 1e-12) + fm / np.maximum(
        fm.sum(1, keepdims=True), 1e-12
    )
    columns = [period.std(axis=1), envelope.std(axis=1)]
    for spectrum in (am, fm):
        columns += [60 * frequency[spectrum.argmax(axis=1)], np.log(spectrum.sum(axis=1) + 1e-9)]
    return columns + [60 * frequency[both.argmax(axis=1)]]


def _breath_spectrum(x):
    """Return the power (n, k) of detrended rows in the respiration band, and its frequencies (k,)
    in Hz.
    """
    t = np.linspace(-1, 1, x.shape[1])
    x = x - x.mean(axis=1, keepdims=True)
    x = x - (x @ t / (t @ t))[:, None] * t
    power = np.abs(np.fft.rfft(x * np.hanning(x.shape[1]), N_FFT)) ** 2
    frequency = np.fft.rfftfreq(N_FFT, 1 / SFREQ)
    inside = (frequency >= BREATH_HZ[0]) & (frequency <= BREATH_HZ[1])
    return power[:, inside], frequency[inside]


def _moment(x, order):
    """Return the standardised central moment of every row (3: skewness; 4: kurtosis, 3 for a
    Gaussian); 0 for flat rows.
    """
    x = x - x.mean(axis=1, keepdims=True)
    deviation = x.std(axis=1)
    return np.divide(
        (x**order).mean(axis=1), deviation**order, out=np.zeros(len(x)), where=deviation > 0
    )
