"""The ECG of generated people: P, QRS and T of each beat as Gaussians, one train of impulses a
wave.

After ECGSYN (McSharry et al., IEEE TBME 50(3), 2003): Gaussians for P, Q, R, S and T, drawn anew
for each person; QT follows the interval by Bazett's square root. Ventricular beats have a wide QRS
of their own and no P; fibrillation has f waves (4 to 9 Hz) in place of P.
"""

import torch

from xmae.twin.bank import VENTRICULAR
from xmae.twin.pulse import gaussians, impulses, low_frequencies
from xmae.twin.rhythm import uniform
from xmae.twin.sensor import stretch_of


def draw_ecg(rhythm, length, sfreq, generator, gain):
    """Draw the ECG of a rhythm, high-passed as the pipeline does.

    Parameters
    ----------
    rhythm : Rhythm
    length : int
        Samples.
    sfreq : float
        Hz.
    generator : torch.Generator
    gain : tensor, shape (length / 2 + 1,)
        Gain of the pipeline's high-pass.

    Returns
    -------
    tensor, shape (B, length)
        R waves of about 1.
    """
    time, n = rhythm.time, len(rhythm.time)
    u = lambda low, high, m=1: uniform((n, m), generator, low, high)  # noqa: E731
    rr = torch.cat([time[:, 1:] - time[:, :-1], time[:, -1:] - time[:, -2:-1]], 1)
    wide = rhythm.kind == VENTRICULAR
    breath = torch.sin(
        2 * torch.pi * rhythm.breath_hz[:, None] * time + rhythm.breath_phase[:, None]
    )
    size = 1 + 0.25 * u(0, 1) ** 2 * breath + 0.02 * torch.randn(time.shape, generator=generator)
    normal, early = size * ~wide, size * wide * u(0.7, 1.6)
    zero = torch.zeros(n, 1)
    qrs = gaussians(
        length,
        sfreq,
        torch.cat([-u(0.02, 0.04), zero, u(0.02, 0.045)], 1),
        torch.cat([u(0.006, 0.012), u(0.008, 0.014), u(0.007, 0.016)], 1),
        torch.cat([-u(0.0, 0.3), u(0.6, 1.2), -u(0.0, 0.5)], 1),
    )
    sign = torch.where(u(0, 1) < 0.5, 1.0, -1.0)
    own = gaussians(
        length,
        sfreq,
        torch.cat([zero, u(0.04, 0.09)], 1),
        torch.cat([u(0.02, 0.04), u(0.03, 0.05)], 1),
        torch.cat([sign * u(0.5, 1.3), -sign * u(0.2, 0.9)], 1),
    )
    p_wave = gaussians(length, sfreq, -u(0.12, 0.2), u(0.015, 0.03), u(0.03, 0.2))
    t_sign = torch.where(u(0, 1) < 0.12, -1.0, 1.0)
    t_wave = gaussians(length, sfreq, zero, u(0.03, 0.06), t_sign * u(0.05, 0.45))
    qt = u(0.22, 0.34) * rr.clamp(0.3, 1.6).sqrt()
    train = lambda at, weight: torch.fft.rfft(impulses(at, weight, length, sfreq))  # noqa: E731
    with_p = normal * ~rhythm.irregular[:, None]
    t_size = torch.where(wide, -sign * 0.9, torch.ones(()))
    spectrum = train(time, normal) * qrs + train(time, early) * own
    spectrum = spectrum + train(time, with_p) * p_wave + train(time + qt, t_size * size) * t_wave
    ecg = torch.fft.irfft(spectrum, length)
    t = torch.arange(length) / sfreq
    f_waves = 0.08 * u(0, 1) * torch.sin(2 * torch.pi * u(4, 9) * t + u(0, 6.28))
    ecg = ecg + f_waves * rhythm.irregular[:, None]
    ecg = ecg + 0.4 * u(0, 1) ** 2 * low_frequencies(n, length, sfreq, generator, 1.5)
    ecg = ecg + 0.06 * u(0, 1) ** 2 * torch.randn(ecg.shape, generator=generator)
    loud = stretch_of(n, length, sfreq, generator, 0.1, 0.3, 3.0)
    ecg = ecg + loud * u(0.1, 0.6) * torch.randn(ecg.shape, generator=generator)
    ecg = torch.fft.irfft(torch.fft.rfft(ecg) * gain, length)
    rail = torch.where(u(0, 1) < 0.12, u(0.5, 0.9), torch.full((n, 1), 50.0))
    ecg = ecg.clamp(-rail, rail)
    return torch.where(u(0, 1) < 0.15, -ecg, ecg)
