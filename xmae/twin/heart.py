"""The ECG of generated people: P, QRS and T of each beat as Gaussians, one train of impulses a
wave.

After ECGSYN (McSharry et al., IEEE TBME 50(3), 2003): Gaussians for P, Q, R, S and T, drawn anew
for each person; QT follows the interval by Bazett's square root. Ventricular beats have a wide QRS
of their own and no P; fibrillation has f waves (4 to 9 Hz) in place of P.
"""

import torch

from xmae.twin.bank import VENTRICULAR
from xmae.twin.pulse import gaussians, impulses, low_frequencies, transform
from xmae.twin.rhythm import uniform
from xmae.twin.sensor import chosen, some_stretches


def draw_ecg(rhythm, length, sfreq, generator, gain):
    """Draw the ECG of a rhythm, high-passed like the pipeline's.

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
    ecg = torch.fft.irfft(draw_waves(rhythm, length, sfreq, generator), length)
    return disturbed_ecg(ecg, rhythm, sfreq, generator, gain)


def draw_waves(rhythm, length, sfreq, generator):
    """Draw P waves, QRS complexes and T waves of a rhythm: the spectrum of a clean ECG, (B, length
    / 2 + 1).
    """
    time, n = rhythm.time, len(rhythm.time)
    u = lambda low, high, m=1: uniform((n, m), generator, low, high)
    rr = torch.cat([time[:, 1:] - time[:, :-1], time[:, -1:] - time[:, -2:-1]], 1)
    wide = rhythm.kind == VENTRICULAR
    breath = torch.sin(
        2 * torch.pi * rhythm.breath_hz[:, None] * time + rhythm.breath_phase[:, None]
    )
    size = 1 + 0.25 * u(0, 1) ** 2 * breath + 0.02 * torch.randn(time.shape, generator=generator)
    normal, early = size * ~wide, size * wide * u(0.7, 1.6)
    odd, atrial = chosen(wide.any(1, keepdim=True)), chosen(~rhythm.irregular[:, None])
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
        torch.cat([zero, u(0.04, 0.09)], 1)[odd],
        torch.cat([u(0.02, 0.04), u(0.03, 0.05)], 1)[odd],
        torch.cat([sign * u(0.5, 1.3), -sign * u(0.2, 0.9)], 1)[odd],
    )
    p_wave = gaussians(
        length, sfreq, -u(0.12, 0.2)[atrial], u(0.015, 0.03)[atrial], u(0.03, 0.2)[atrial]
    )
    t_sign = torch.where(u(0, 1) < 0.12, -1.0, 1.0)
    t_wave = gaussians(length, sfreq, zero, u(0.03, 0.06), t_sign * u(0.05, 0.45))
    qt = u(0.22, 0.34) * rr.clamp(0.3, 1.6).sqrt()
    train = lambda at, weight: transform(impulses(at, weight, length, sfreq))
    t_size = torch.where(wide, -sign * 0.9, torch.ones(()))
    beats = train(time, normal)
    spectrum = beats * qrs
    spectrum[odd] += train(time[odd], early[odd]) * own
    spectrum[atrial] += beats[atrial] * p_wave
    return spectrum + train(time + qt, t_size * size) * t_wave


def disturbed_ecg(ecg, rhythm, sfreq, generator, gain):
    """Add f waves, baseline wander, noise and clipping to ECG (B, length), and turn some of it
    upside down.

    `ecg` is overwritten.
    """
    n, length = ecg.shape
    u = lambda low, high, m=1: uniform((n, m), generator, low, high)
    t, rows = torch.arange(length) / sfreq, chosen(rhythm.irregular[:, None])
    size, hertz, phase = (u(low, high)[rows] for low, high in ((0, 1), (4, 9), (0, 6.28)))
    ecg[rows] += 0.08 * size * torch.sin(2 * torch.pi * hertz * t + phase)  # f waves
    ecg += (0.4 * u(0, 1) ** 2) * low_frequencies(n, length, sfreq, generator, 1.5)
    ecg += (0.06 * u(0, 1) ** 2) * torch.randn(ecg.shape, generator=generator)
    rows, loud = some_stretches(n, length, sfreq, generator, 0.1, 0.3, 3.0)
    ecg[rows] += loud * u(0.1, 0.6)[rows] * torch.randn(ecg.shape, generator=generator)[rows]
    ecg = torch.fft.irfft(torch.fft.rfft(ecg) * gain, length)
    rows, rail = chosen(u(0, 1) < 0.12), u(0.5, 0.9)
    ecg[rows] = ecg[rows].clamp(-rail[rows], rail[rows])
    upside_down = chosen(u(0, 1) < 0.15)
    ecg[upside_down] = -ecg[upside_down]
    return ecg
