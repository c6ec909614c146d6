"""The pulse wave at the skin: one wave for each heartbeat, and what a sensor makes of it.

The wave of a beat is a sum of three Gaussians (systolic, reflected, dicrotic), so its spectrum is
known in closed form; beats are impulses split between the two samples beside them. One product of
spectra gives a window. Sources: filling of the ventricle after short intervals as in Solosenko et
al., PhysioNet 1.3.1 (idea only); shapes after Charlton et al., Am J Physiol 317, 2019 (ranges).
"""

from typing import NamedTuple

import torch

from xmae.twin.bank import VENTRICULAR
from xmae.twin.rhythm import uniform

FAMILIES = ("gaussians", "wrist", "skewed")  # of waves, see `wave_spectrum`


class Pulse(NamedTuple):
    """Pulse waves of B windows.

    ppg : (B, L) without sensor and noise, about 1 from foot to peak.
    arrival : (B, K) s from each R peak to the steepest rise of its wave.
    delay : (B,) s, their usual value in the window.
    amplitude : (B, K) of each wave, 0 = the beat makes none.
    """

    ppg: torch.Tensor
    arrival: torch.Tensor
    delay: torch.Tensor
    amplitude: torch.Tensor


def impulses(time, weight, length, sfreq):
    """Place weighted impulses between samples: times (B, K) s -> (B, L); those outside the window
    are left out.
    """
    at = time * sfreq
    left = at.floor()
    right_share = at - left
    inside = (left >= 0) & (left < length - 1)
    index = left.clamp(0, length - 2).long()
    weight = weight * inside
    train = torch.zeros(len(time), length, device=time.device)
    train.scatter_add_(1, index, weight * (1 - right_share))
    return train.scatter_add_(1, index + 1, weight * right_share)


def gaussians(length, sfreq, centre, width, height, reach_s=1.28):
    """Return the spectrum of a sum of Gaussians: centres, widths (s) and heights (B, G) -> spectrum
    (B, F).

    It is drawn over `reach_s` seconds to each side of 0 and set into `length` samples.
    """
    half = int(reach_s * sfreq)
    t = torch.arange(-half, half) / sfreq
    kernel = height[:, :1] * torch.exp(-0.5 * ((t - centre[:, :1]) / width[:, :1]) ** 2)
    for k in range(1, centre.shape[1]):
        away = (t - centre[:, k : k + 1]) / width[:, k : k + 1]
        kernel += height[:, k : k + 1] * torch.exp(-0.5 * away**2)
    whole = torch.zeros(len(centre), length)
    whole[:, :half], whole[:, -half:] = kernel[:, half:], kernel[:, :half]
    return transform(whole)


def transform(x):
    """Compute the real FFT of rows, also of none, which MKL refuses: (n, L) -> (n, F)."""
    if not len(x):
        return torch.zeros(0, x.shape[1] // 2 + 1, dtype=torch.complex64)
    return torch.fft.rfft(x)


def draw_pulse(rhythm, length, sfreq, generator, flat=None, family="gaussians"):
    """Draw the pulse waves of a rhythm.

    Parameters
    ----------
    rhythm : Rhythm
    length : int
        Samples.
    sfreq : float
        Hz.
    generator : torch.Generator
    flat : bool tensor, shape (B, K), optional
        Beats that make no pulse.
    family : str
        Family of waves; see `wave_spectrum`.

    Returns
    -------
    Pulse
    """
    time, n = rhythm.time, len(rhythm.time)
    u = lambda low, high, m=1: uniform((n, m), generator, low, high)
    rr = torch.cat([time[:, 1:2] - time[:, :1], time[:, 1:] - time[:, :-1]], 1)
    mean = rr.mean(1, keepdim=True)
    breath = torch.sin(
        2 * torch.pi * rhythm.breath_hz[:, None] * time + rhythm.breath_phase[:, None] + u(0, 6.28)
    )
    near, far = u(0.12, 0.45), u(0.40, 0.75)
    delay = torch.where(u(0, 1) < 0.4, near, far)
    arrival = (
        delay
        + 0.02 * u(0, 1) * breath
        + 0.004 * torch.randn(time.shape, generator=generator)
        - u(0, 0.08) * (rr - mean).clamp(-0.6, 0.6)
    )
    filling = 1 - torch.exp(-((rr / mean / u(0.4, 1.2)) ** u(1.2, 3.0)))
    amplitude = filling / (1 - torch.exp(-((1 / u(0.4, 1.2)) ** 2))).clamp(min=0.3)
    amplitude = amplitude * (1 + 0.3 * u(0, 1) ** 2 * breath)
    amplitude = amplitude * (1 + 0.03 * torch.randn(time.shape, generator=generator))
    weak = torch.where(rhythm.kind == VENTRICULAR, u(0.0, 0.9), torch.ones(()))
    amplitude = (amplitude * weak).clamp(min=0)
    if flat is not None:
        amplitude = amplitude * ~flat
    wave = wave_spectrum(mean, length, sfreq, generator, family)
    train = impulses(time + arrival, amplitude, length, sfreq)
    ppg = torch.fft.irfft(torch.fft.rfft(train) * wave, length)
    return Pulse(ppg, arrival, delay[:, 0], amplitude)


def wave_spectrum(mean, length, sfreq, generator, family="gaussians"):
    """Draw the spectrum of one wave per window, with its steepest rise at time 0: mean interval (B,
    1) s -> (B, F).

    Parameters
    ----------
    mean : tensor, shape (B, 1)
        Mean interval, s; waves widen with its square root.
    length, sfreq : int, float
        Samples and Hz of the window.
    generator : torch.Generator
    family : str
        "gaussians" for training; "wrist" has weaker, rounder waves among them too; "skewed" is a
        family that training never draws (gamma-shaped rise).

    Returns
    -------
    complex tensor, shape (B, length / 2 + 1)
    """
    n = len(mean)
    u = lambda low, high: uniform((n, 1), generator, low, high)
    frequency = torch.fft.rfftfreq(length, 1 / sfreq)
    scale = mean.clamp(0.3, 1.6).sqrt()
    if family == "skewed":
        shape, tau = u(2.0, 4.0), u(0.05, 0.12) * scale
        rise = tau * (shape - 1 - (shape - 1).sqrt())  # of a gamma density: its steepest rise
        w = 2 * torch.pi * frequency[None]
        peak = torch.exp((shape - 1) * ((shape - 1).log() - 1) - torch.lgamma(shape)) / tau
        wave = (1 + 1j * w * tau) ** (-shape) * torch.exp(1j * w * rise) * sfreq / peak
        echo = u(0.0, 0.4) * torch.exp(-1j * w * u(0.2, 0.35) * scale)
        return wave * (1 + echo)
    width = torch.cat([u(0.05, 0.12), u(0.06, 0.16), u(0.04, 0.12)], 1) * scale
    place = torch.cat([torch.zeros(n, 1), u(0.1, 0.26), u(0.28, 0.46)], 1) * scale
    height = torch.cat([torch.ones(n, 1), u(0.0, 0.8), u(0.0, 0.4)], 1)
    wave = gaussians(
        length, sfreq, place + width[:, :1], width, height
    )  # a Gaussian rises steepest at -1 sigma
    lowest = -1.5 if family == "wrist" else -0.6
    tilt = (frequency.clamp(min=0.3) / 1.5)[None] ** u(lowest, 0.6)
    if family == "wrist":
        tilt[:, 0] = 1.0  # else a constant of many pulses, which clipping takes for the signal
    return wave * tilt


def low_frequencies(
    n, length, sfreq, generator, exponent=1.0, lowest=0.05, highest=12.0, rows=slice(None)
):
    """Draw noise whose amplitude falls as 1 / f^exponent from `lowest` to `highest` Hz: (n, L),
    deviation 1.

    Of `n` draws only those of `rows` are made: whether a row is wanted changes no other.
    """
    frequency = torch.fft.rfftfreq(length, 1 / sfreq)
    frequency = frequency[: int((frequency < highest).sum())]
    weight = frequency.clamp(min=lowest) ** -exponent
    weight[0] = 0
    weight *= length / (4 * (weight**2).sum()).sqrt()
    spectrum = torch.randn(n, len(frequency), 2, generator=generator)[rows] * weight[:, None]
    if not len(spectrum):
        return spectrum.new_zeros(0, length)
    return torch.fft.irfft(torch.view_as_complex(spectrum), length)
