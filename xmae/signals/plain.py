"""The few functions of `scipy.signal` that pre-processing needs, in NumPy alone.

The light runtime has no SciPy. `xmae.signals.filters` and `xmae.signals.resample` take these in its
place where it is missing, so that the definition of the pre-processing stays one; tests hold each
equal to SciPy's. Formulas are those of SciPy 1.17's documentation.
"""

import numpy as np


def butter(order, band, btype="bandpass", output="sos", fs=2.0):
    """Return the second-order sections of a digital Butterworth band-pass.

    Parameters
    ----------
    order : int
        Order of the low-pass that it is made from, even; the filter has as many sections.
    band : tuple of float
        Lower and upper limit (-3 dB), Hz.
    btype, output : str
        "bandpass" and "sos"; nothing else is here.
    fs : float
        Sampling rate, Hz.

    Returns
    -------
    array, shape (order, 6)
        b0, b1, b2, 1, a1, a2 of each section, in SciPy's order.
    """
    if btype != "bandpass" or output != "sos" or order % 2:
        raise NotImplementedError("without SciPy: band-passes of even order, as sections, only")
    low, high = (2 * fs * np.tan(np.pi * edge / fs) for edge in band)  # warped, rad/s
    prototype = -np.exp(1j * np.pi * np.arange(-order + 1, order, 2) / (2 * order))
    half, centre = prototype * (high - low) / 2, low * high
    root = np.sqrt(half.astype(complex) ** 2 - centre)
    analogue = np.concatenate([half + root, half - root])
    poles = (2 * fs + analogue) / (2 * fs - analogue)
    gain = ((high - low) ** order * (2 * fs) ** order / np.prod(2 * fs - analogue)).real
    upper = poles[poles.imag > 0]
    upper = upper[np.argsort(-np.abs(1 - np.abs(upper)))]  # nearest to the unit circle last
    sections = np.zeros((order, 6))
    for i, pole in enumerate(upper):
        # nearest zeros: those at z = 1 go to the poles near them, last first
        sections[i, 3:] = 1, -2 * pole.real, abs(pole) ** 2
    for i, zeros in enumerate(zero_pairs(upper)):
        sections[i, :3] = np.poly(zeros).real
    sections[0, :3] *= gain
    return sections


def zero_pairs(poles):
    """Return the two zeros (half at 1, half at -1) to pair with each pole, by nearness, last pole
    first.
    """
    free = [1.0] * len(poles) + [-1.0] * len(poles)
    pairs = []
    for pole in poles[::-1]:
        pair = []
        for _ in range(2):
            pair.append(free.pop(int(np.argmin(np.abs(pole - np.array(free))))))
        pairs.append(pair)
    return pairs[::-1]


def sosfiltfilt(sos, x, axis=-1):
    """Filter forward and backward by second-order sections, with odd extension at the ends: the
    shape of x.

    Raises
    ------
    ValueError
        If a signal is shorter than what is continued at its ends.
    """
    sos, x = np.asarray(sos, float), np.moveaxis(np.asarray(x, float), axis, -1)
    zeros = min(int((sos[:, 2] == 0).sum()), int((sos[:, 5] == 0).sum()))
    edge = 3 * (2 * len(sos) + 1 - zeros)
    if x.shape[-1] <= edge:
        raise ValueError(f"the length of x must be greater than {edge}")
    ahead = 2 * x[..., :1] - x[..., edge:0:-1]
    after = 2 * x[..., -1:] - x[..., -2 : -edge - 2 : -1]
    y = np.concatenate([ahead, x, after], axis=-1)
    for _ in range(2):
        y = steady_sosfilt(sos, y)[..., ::-1]
    return np.moveaxis(y[..., edge:-edge], -1, axis)


def steady_sosfilt(sos, x):
    """Filter (..., n_times) as if the first sample had always been there."""
    shape = x.shape
    rows = x.reshape(-1, shape[-1])
    first, scale = rows[:, 0], 1.0
    for b0, b1, b2, _, a1, a2 in sos.tolist():
        gain = (b0 + b1 + b2) / (1 + a1 + a2)
        z2 = scale * (b2 - a2 * gain) * first
        z1 = scale * (b1 - a1 * gain) * first + z2
        scale *= gain
        rows = filtered(rows, (b0, b1, b2, a1, a2), z1, z2)
    return rows.reshape(shape)


def filtered(rows, section, z1, z2):
    """Filter rows (n, n_times) by one section in transposed direct form II, from the states z1, z2
    (n,).
    """
    b0, b1, b2, a1, a2 = section
    out = np.empty_like(rows)
    if len(rows) == 1:  # numbers of Python are three times as fast as arrays of one
        z1, z2, line = float(z1[0]), float(z2[0]), []
        for value in rows[0].tolist():
            y = b0 * value + z1
            z1, z2 = b1 * value - a1 * y + z2, b2 * value - a2 * y
            line.append(y)
        out[0] = line
        return out
    for i in range(rows.shape[1]):
        value = rows[:, i]
        y = b0 * value + z1
        z1, z2 = b1 * value - a1 * y + z2, b2 * value - a2 * y
        out[:, i] = y
    return out


def resample_poly(x, up, down, axis=-1, padtype="line"):
    """Resample by up / down with a Kaiser-windowed low-pass (beta 5, 20 max(up, down) + 1 taps).

    Beyond its ends the signal is continued by the straight line from its first to its last sample.
    """
    if padtype != "line":
        raise NotImplementedError("without SciPy: padtype 'line' only")
    x = np.moveaxis(np.asarray(x, float), axis, -1)
    n_in, half = x.shape[-1], 10 * max(up, down)
    n_out, more = -(-n_in * up // down), half // up + 1  # samples of x that the filter reaches
    slope = (x[..., -1:] - x[..., :1]) / max(n_in - 1, 1)
    steps = np.arange(1, more + 1)
    line = [x[..., :1] - slope * steps[::-1], x, x[..., -1:] + slope * steps]
    rows = np.concatenate(line, axis=-1).reshape(-1, n_in + 2 * more)
    taps = low_pass(2 * half + 1, 1 / max(up, down)) * up
    # output k lies at place `at` of the signal with up - 1 zeros between samples: one in `up` taps
    # meets a sample, which ones says the phase
    at = np.arange(n_out) * down + half + more * up
    y = np.empty((len(rows), n_out))
    for phase in np.unique(at % up):
        chosen = at % up == phase
        for row, out in zip(rows, y, strict=True):
            out[chosen] = np.convolve(row, taps[phase::up])[at[chosen] // up]
    return np.moveaxis(y.reshape(*x.shape[:-1], n_out), -1, axis)


def low_pass(n_taps, cutoff):
    """Return the taps of a low-pass (n_taps,): `cutoff` as a share of half the rate, Kaiser window
    of beta 5, sum 1.
    """
    places = np.arange(n_taps) - (n_taps - 1) / 2
    taps = np.sinc(cutoff * places) * np.kaiser(n_taps, 5.0)
    return taps / taps.sum()
