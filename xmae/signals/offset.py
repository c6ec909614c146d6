"""How the clocks of two devices stand to each other, from the beats that both have seen.

Heartbeats do not come evenly, so the pulses of one device fit the R peaks of another at one lag.
Every lag at which many pulses follow R peaks is a candidate: a straight line, lag against time, is
fitted to each, and the best must beat all others in most stretches of the recording, not on
average alone. A regular heart fits as well one cycle later, and is then refused.

The lag is the offset of the clocks, the pulse arrival time and what the recorders delay, together;
nothing in the signals tells these apart. The slope of the line is the drift of one clock against
the other, and slow changes of the arrival time look the same.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

ARRIVAL_S = 0.25  # s, from R peak to the steepest rise of the pulse at finger or wrist, assumed
# s, what it can be, with what a recorder delays its PPG: of 281 recordings of CinC 2015, whose
# devices share a clock, those that are clear have 0.5 to 1.27 s; a bare finger has 0.1 or more
ARRIVALS_S = (0.1, 1.3)
MAX_OFFSET_S = 60.0
MAX_DRIFT = 500e-6  # crystals keep to 100e-6 and most watches to 50e-6
BIN_S = 0.02  # of the histogram of lags
NEAR_S = 0.06  # a pulse this near to the line answers its R peak
WIDTHS_S = (0.15, 0.1, 0.08, NEAR_S, NEAR_S)  # of the fit, step by step
FLOOR_S = 0.006  # least scatter of arrival times: the detectors' own
OTHER_S = 0.15  # lags further apart than this are two answers
BLOCK_S, WIDE_BLOCK_S = 10.0, 15.0  # stretches that are compared; and for the scatter of the line
FIRST_S = 600.0  # longer recordings are fitted from their middle outwards, twice as far each time
# arrival time wanders like a random walk: s per root s, such that 95 % intervals of the drift hold
# in CinC 2015 (281 recordings, 2 to 5 minutes), where it is 0
WANDER = 0.75e-3
# chosen on CinC 2015: no wrong answer in 281 recordings of 1, 2, 3 or 5 minutes
MAX_P, MIN_GAIN, MIN_MATCHED = 1e-3, 0.1, 0.4
MIN_BEATS = 30


@dataclass(frozen=True)
class Clocks:
    """What the beats tell about two clocks.

    Parameters
    ----------
    certain : bool
        Whether one lag beats all others; else the other numbers are no more than the best guess.
    why : str
        Why it is not certain; "" if it is.
    lag_s : float
        Lag of the pulses behind the R peaks in the middle of the recording, s; NaN = no guess.
    lag_half_s : float
        Half of its 95 % interval, s.
    drift_ppm, drift_half_ppm : float
        Relative speed of the PPG's clock, millionths, above 0 if it is faster; and half of its 95 %
        interval.
    middle_s : float
        The middle of the recording on the ECG's clock, s.
    matched : float
        Share of R peaks that a pulse answers.
    times_s, lags_s : float arrays, shape (n_beats,)
        R peaks, s, and the lag of the pulse nearest to where it should be, s.
    """

    certain: bool
    why: str
    lag_s: float = np.nan
    lag_half_s: float = np.nan
    drift_ppm: float = np.nan
    drift_half_ppm: float = np.nan
    middle_s: float = np.nan
    matched: float = 0.0
    times_s: np.ndarray | None = None
    lags_s: np.ndarray | None = None

    @property
    def drifts(self):
        """Tell whether the interval of the drift excludes 0."""
        return abs(self.drift_ppm) > self.drift_half_ppm

    @property
    def offset_s(self):
        """Return the offset of the PPG's clock in the middle of the recording, s: the lag less 0.25
        s.
        """
        return self.lag_s - ARRIVAL_S

    @property
    def offset_range_s(self):
        """Return the lowest and highest possible offset, s: the pulse arrival time and the
        recorder's delay are unknown.
        """
        shortest, longest = ARRIVALS_S
        return self.lag_s - longest - self.lag_half_s, self.lag_s - shortest + self.lag_half_s


@dataclass(frozen=True)
class Line:
    """Lag against time, `lag` + `drift` x `t`, fitted to R peaks and the pulses nearest to it."""

    lag: float  # s, in the middle
    drift: float
    r_peaks: np.ndarray  # s
    t: np.ndarray  # s from the middle
    residual: np.ndarray  # s

    @property
    def scatter(self):
        """Return the robust deviation of the residuals, s: 1.48 times their median absolute
        value.
        """
        return 1.4826 * float(np.median(np.abs(self.residual)))


def estimate_clocks(r_peaks, pulses, max_offset_s=MAX_OFFSET_S):
    """Estimate offset and drift between the clocks of ECG and PPG.

    Parameters
    ----------
    r_peaks : float array, shape (n,)
        Times of R peaks on the ECG's clock, s, ascending.
    pulses : float array, shape (m,)
        Times of the pulses' steepest rise on the PPG's clock, s, ascending.
    max_offset_s : float
        Largest lag looked for, to both sides, s.

    Returns
    -------
    Clocks
    """
    if min(len(r_peaks), len(pulses)) < MIN_BEATS:
        fewer = min(len(r_peaks), len(pulses))
        return Clocks(False, f"only {fewer} beats; at least {MIN_BEATS} are needed")
    lines = [grow(r_peaks, pulses, lag) for lag in candidate_lags(r_peaks, pulses, max_offset_s)]
    lines = [line for line in lines if line is not None]
    if not lines:
        return Clocks(False, "no lag at which pulses follow R peaks")
    scale = max(min(line.scatter for line in lines), FLOOR_S)
    losses = [np.minimum((line.residual / scale) ** 2, 9) / 9 for line in lines]
    best = int(np.argmin([loss.mean() for loss in losses]))
    why = doubt(lines, losses, best)
    return describe(lines[best], why)


def candidate_lags(r_peaks, pulses, max_offset_s):
    """Return the lags (s) at which many pulses follow R peaks: peaks in the histogram of all lags
    in the ten minutes around the middle.
    """
    middle = (r_peaks[0] + r_peaks[-1]) / 2
    some = r_peaks[np.abs(r_peaks - middle) <= FIRST_S / 2]
    first, last = (np.searchsorted(pulses, some + side * max_offset_s) for side in (-1, 1))
    lags = np.concatenate([pulses[a:b] - r for r, a, b in zip(some, first, last, strict=True)])
    edges = np.arange(-max_offset_s, max_offset_s + BIN_S, BIN_S)
    counts = np.histogram(lags, edges)[0].astype(float)
    counts = np.convolve(counts, np.hanning(9) / np.hanning(9).sum(), "same")
    middles = edges[:-1] + BIN_S / 2
    # R peaks that have pulses at all at that lag
    begin, end = (np.searchsorted(some, pulses[k] - middles) for k in (0, -1))
    counts /= np.maximum(end - begin, MIN_BEATS)
    rising = np.append(-np.inf, counts[:-1]) <= counts
    falling = np.append(counts[1:], -np.inf) < counts
    return middles[rising & falling & (counts > 0.5 * counts.max())]


def grow(r_peaks, pulses, lag):
    """Fit a `Line` near a lag to ten minutes in the middle, then to twice as much, until all beats
    are included; None if too few beats match.
    """
    middle, whole = (r_peaks[0] + r_peaks[-1]) / 2, r_peaks[-1] - r_peaks[0]
    drift, seconds = 0.0, FIRST_S
    while True:
        within = np.abs(r_peaks - middle) <= seconds / 2
        line = fit_line(r_peaks[within], pulses, lag, drift, middle)
        if line is None or seconds >= whole:
            return line
        lag, drift, seconds = line.lag, line.drift, 2 * seconds


def fit_line(r_peaks, pulses, lag, drift, middle):
    """Fit a `Line` that starts from a lag (s) and a drift; None with fewer than ten pulses near it,
    or fewer than 30 R peaks where there are pulses.
    """
    at = r_peaks + lag
    r_peaks = r_peaks[(at >= pulses[0] - 0.1) & (at <= pulses[-1] + 0.1)]
    if len(r_peaks) < MIN_BEATS:
        return None
    t = r_peaks - middle
    for width in WIDTHS_S:
        lags = nearest(pulses, r_peaks + lag + drift * t) - r_peaks
        near = np.abs(lags - lag - drift * t) < width
        if near.sum() < 10:
            return None
        about = t[near] - t[near].mean()
        slope = (about * lags[near]).sum() / max((about**2).sum(), 1e-9)
        drift = float(np.clip(slope, -MAX_DRIFT, MAX_DRIFT))
        lag = float(np.median(lags[near] - drift * t[near]))
    lags = nearest(pulses, r_peaks + lag + drift * t) - r_peaks
    return Line(lag, drift, r_peaks, t, lags - lag - drift * t)


def nearest(ascending, x):
    """Return the nearest of ascending numbers to each of `x`."""
    after = np.searchsorted(ascending, x).clip(1, len(ascending) - 1)
    before, after = ascending[after - 1], ascending[after]
    return np.where(after - x < x - before, after, before)


def doubt(lines, losses, best):
    """Say why the best line is uncertain; "" if it is certain."""
    answered = np.abs(lines[best].residual) < NEAR_S
    thirds = [part.mean() for part in np.array_split(answered, 3)]
    if answered.mean() < MIN_MATCHED:
        return f"only {answered.mean():.0%} of the R peaks are answered by a pulse"
    if min(thirds) < MIN_MATCHED / 2:
        return "pulses answer in one part of the recording only: the clocks do not keep step"
    for line, loss in zip(lines, losses, strict=True):
        if abs(line.lag - lines[best].lag) < OTHER_S:
            continue
        both, mine, other = np.intersect1d(lines[best].r_peaks, line.r_peaks, return_indices=True)
        if len(both) < MIN_BEATS:
            continue
        gains = block_means(loss[other] - losses[best][mine], both, BLOCK_S)
        spread = gains.std(ddof=1) / np.sqrt(len(gains)) if len(gains) > 3 else np.inf
        p_value = stats.t.sf(gains.mean() / max(spread, 1e-12), max(len(gains) - 1, 1))
        if p_value > MAX_P or gains.mean() < MIN_GAIN:
            return (
                f"a lag of {line.lag:.2f} s fits nearly as well as {lines[best].lag:.2f} s; "
                "the heart is too regular, or there are too few minutes"
            )
    return ""


def block_means(x, t, seconds):
    """Return the means of `x` (n,) over blocks of this many seconds of `t` (n,); empty blocks are
    left out.
    """
    block = ((t - t[0]) // seconds).astype(int)
    count = np.bincount(block)
    return np.bincount(block, x)[count > 0] / count[count > 0]


def describe(line, why):
    """Return the `Clocks` of a line, with intervals from the scatter of its blocks."""
    near = np.abs(line.residual) < NEAR_S
    found = Clocks(
        why == "",
        why,
        lag_s=line.lag,
        drift_ppm=1e6 * line.drift,
        middle_s=float(line.r_peaks[0] - line.t[0]),
        matched=float(near.mean()),
        times_s=line.r_peaks,
        lags_s=line.residual + line.lag + line.drift * line.t,
    )
    if near.sum() < MIN_BEATS:
        return found
    blocks = block_means(line.residual[near], line.t[near], WIDE_BLOCK_S)
    at = block_means(line.t[near], line.t[near], WIDE_BLOCK_S)
    if len(blocks) < 4:
        return found
    quantile = stats.t.ppf(0.975, len(blocks) - 2)
    spread = np.sqrt((blocks**2).sum() / (len(blocks) - 2))
    drift = spread / np.sqrt(((at - at.mean()) ** 2).sum())
    wander = WANDER / np.sqrt(np.ptp(line.t))
    return replace(
        found,
        lag_half_s=float(quantile * spread / np.sqrt(len(blocks))),
        drift_half_ppm=float(1e6 * np.hypot(quantile * drift, 1.96 * wander)),
    )


def steepest_rises(clean, peaks, sfreq):
    """Return the times (s) of the steepest rise before each systolic peak, interpolated between
    samples.

    Parameters
    ----------
    clean : float array, shape (n_times,)
        Cleaned PPG.
    peaks : int array
        Sample numbers of its systolic peaks.
    sfreq : float
        Hz.
    """
    slope, reach = np.gradient(clean), int(0.35 * sfreq)
    padded = np.pad(slope, (reach, 0), constant_values=-np.inf)
    rows = padded[np.asarray(peaks, int)[:, None] + np.arange(reach + 1)]  # ends with the peak
    place = np.unique(np.asarray(peaks, int) - reach + rows.argmax(axis=1))
    place = place[(place > 0) & (place < len(clean) - 1)]
    before, at, after = (slope[place + k] for k in (-1, 0, 1))
    bend = before - 2 * at + after
    fraction = np.divide(0.5 * (before - after), bend, out=np.zeros(len(place)), where=bend < 0)
    return (place + np.clip(fraction, -0.5, 0.5)) / sfreq
