"""Windows of generated people for training: PPG, ECG if asked, and the timing of every pulse."""

from typing import NamedTuple

import torch

from xmae.errors import require_choice, require_share
from xmae.signals.filters import ECG_HIGHPASS, PPG_BANDPASS
from xmae.signals.front_end import BLOCK, BLOCKS, FULL, filter_taps
from xmae.signals.scale import minmax_scale
from xmae.signals.window import N_TIMES, SFREQ
from xmae.twin.heart import draw_ecg
from xmae.twin.motion import STEP, at_effort, draw_activities, move, tie
from xmae.twin.pulse import FAMILIES, draw_pulse
from xmae.twin.rhythm import SHARES, draw_rhythm, uniform
from xmae.twin.sensor import sense, stretch_of

LENGTH = 2048  # samples that are made; the window lies in the middle, beyond the filters' reach
BEFORE = (LENGTH - N_TIMES) // 2
ACC_FLOOR = 0.1  # g that are full scale at the least
LEAST_SHARE = 0.7  # of a map's step that must be readable


class TwinWindows(NamedTuple):
    """Generated windows of 10 s at 100 Hz, and the truth about them.

    ppg : (B, 1, 1000) in [-1, 1], as the window pipeline or the streaming front end gives it.
    ecg : (B, 1, 1000) in [-1, 1], or None.
    pulses : (B, K) s, steepest rise of each pulse if its delay were the window's usual one.
    beats : (B, K) s, R peaks.
    readable : (B, 1000) bool, where the pulse can be seen.
    delay : (B,) s, R peak to pulse.
    acc : (B, 3, 1000) in [-1, 1], as the streaming front end gives it, or None.
    """

    ppg: torch.Tensor
    ecg: torch.Tensor | None
    pulses: torch.Tensor
    beats: torch.Tensor
    readable: torch.Tensor
    delay: torch.Tensor
    acc: torch.Tensor | None = None


def band_response(length=LENGTH, sfreq=SFREQ):
    """Return the gain of the window pipeline's band-pass, run forward and backward: (F,)."""
    return butterworth_gain(length, sfreq, PPG_BANDPASS)


def butterworth_gain(length, sfreq, band, order=2):
    """Return the squared gain of a digital Butterworth filter at the bins of a real FFT: (F,)."""
    import numpy as np
    from scipy import signal

    kind = "bandpass" if isinstance(band, tuple) else "highpass"
    sos = signal.butter(order, band, btype=kind, output="sos", fs=sfreq)
    w = np.fft.rfftfreq(length, 1 / sfreq)
    _, gain = signal.sosfreqz(sos, w[:-1], fs=sfreq)
    return torch.as_tensor(np.append(np.abs(gain) ** 2, 0.0)).float()


def stream_response(length=LENGTH):
    """Return the gain of the streaming front end's filters, without its delay: (F,)."""
    import numpy as np

    taps = filter_taps()
    rolled = np.zeros(length)
    rolled[: len(taps)] = taps
    rolled = np.roll(rolled, -(len(taps) // 2))
    return torch.as_tensor(np.fft.rfft(rolled).real).float()


def running_scale(x):
    """Scale as the streaming front end does, in steps / 127: (B, L), L a multiple of 25 -> (B,
    L).
    """
    peak = x.abs().unflatten(1, (-1, BLOCK)).amax(2)
    before = torch.nn.functional.pad(peak, (BLOCKS, 0))[:, :-1]
    largest = before.unfold(1, BLOCKS, 1).amax(2).repeat_interleave(BLOCK, 1)
    return (x * (FULL / 127) / largest.clamp(min=1e-6)).clamp(-1, 1) * (largest > 1e-6)


def clean_acceleration(acc):
    """Pass acceleration through the streaming front end: (B, 3, T) g at 25 Hz -> (B, 3, 4 T) in
    [-1, 1].

    The largest of three axes sets the scale, and no movement below `ACC_FLOOR` does.
    """
    t = STEP * acc.shape[-1]
    spectrum = torch.fft.rfft(acc - acc[..., :1]) * stream_response(t)[: acc.shape[-1] // 2 + 1]
    clean = STEP * torch.fft.irfft(spectrum, t)
    first = t % BLOCK
    peak = clean[..., first:].abs().amax(1).unflatten(1, (-1, BLOCK)).amax(2)
    before = torch.nn.functional.pad(peak, (BLOCKS, 0))[:, :-1]
    largest = before.unfold(1, BLOCKS, 1).amax(2).repeat_interleave(BLOCK, 1)
    largest = torch.nn.functional.pad(largest, (first, 0)).clamp(min=ACC_FLOOR)
    return (clean * (FULL / 127) / largest[:, None]).clamp(-1, 1)


class Twin:
    """A source of generated windows.

    Parameters
    ----------
    ecg : bool
        Make ECG too.
    stream : float
        Share of windows that pass the streaming front end instead of the window pipeline.
    flip, motion : float
        Shares of windows upside down, and with motion.
    shares : dict
        Shares of rhythms; see `xmae.twin.rhythm.SHARES`.
    acc : bool
        Make people who move, and their acceleration.
    family : str
        Family of pulse waves; see `xmae.twin.pulse.wave_spectrum`.
    aligned : bool
        Shift the ECG so that R peaks lie where the pulse rises: the window's delay is taken off.
    device : str
        Where windows are made: "cpu", or a GPU such as "cuda:0".

    Raises
    ------
    UserError
        If a share is not between 0 and 1, or a rhythm or the family is unknown.
    """

    def __init__(
        self, ecg=True, stream=0.0, flip=0.2, motion=0.22, shares=SHARES, aligned=False, acc=False,
        family="gaussians", device="cpu",
    ):  # fmt: skip
        require_share(stream=stream, flip=flip, motion=motion)
        for name in shares:
            require_choice("rhythm", name, SHARES)
        require_share(**shares)
        require_choice("family", family, FAMILIES)
        self.ecg, self.stream, self.flip, self.motion = ecg, stream, flip, motion
        self.shares, self.aligned, self.acc, self.family = shares, aligned, acc, family
        self.device = torch.device(device)
        with self.device:
            self.band, self.smooth = band_response(), stream_response()
            self.ecg_gain = butterworth_gain(LENGTH, SFREQ, ECG_HIGHPASS, 5)

    def generator(self, seed):
        """Make a generator of random numbers on the device of the windows."""
        return torch.Generator(self.device).manual_seed(seed)

    def draw(self, n, generator):
        """Draw `n` windows: a `TwinWindows` on the device; the generator is of that device too."""
        if self.device.type == "cpu":
            return self.made(n, generator)
        with self.device:  # every tensor that is made below lies there
            return self.made(n, generator)

    def made(self, n, generator):
        """Make `n` windows on the default device; see `draw`."""
        rhythm = draw_rhythm(n, LENGTH / SFREQ + 1.5, generator, self.shares)
        moved = None
        if self.acc:
            rhythm, moved = self.move(rhythm, generator)
        flat = self.pulseless(rhythm, generator)
        pulse = draw_pulse(rhythm, LENGTH, SFREQ, generator, flat, self.family)
        rr = rhythm.time.diff(dim=1)
        unseen = 0.0 if self.acc else self.motion
        sensed = sense(
            pulse.ppg, 1 / rr.mean(1), rhythm.breath_hz, SFREQ, generator, self.flip, unseen, moved
        )
        seen = (pulse.amplitude > 0.05) | ~flat
        unfelt = self.unfelt(rhythm.time + pulse.delay[:, None], flat & ~seen)
        middle = slice(BEFORE, BEFORE + N_TIMES)
        return TwinWindows(
            self.clean(sensed.ppg, generator)[:, None],
            self.heart(rhythm, pulse.delay, generator) if self.ecg else None,
            rhythm.time + pulse.delay[:, None] - BEFORE / SFREQ,
            rhythm.time - BEFORE / SFREQ,
            (sensed.readable & ~unfelt)[:, middle],
            pulse.delay,
            clean_acceleration(moved.acc)[:, :, middle] if self.acc else None,
        )

    def move(self, rhythm, generator):
        """Simulate motion: return the people's `Rhythm` under effort, and their `Motion`."""
        n = len(rhythm.time)
        activity, cadence = draw_activities(n, LENGTH, generator, self.motion)
        rhythm = at_effort(rhythm, activity, generator)
        rate_hz = 1 / rhythm.time.diff(dim=1).mean(1, keepdim=True)
        return rhythm, move(activity, tie(activity, cadence, rate_hz, generator), generator)

    def clean(self, ppg, generator):
        """Clean PPG (B, LENGTH) by the window pipeline or the streaming front end: (B, 1000)."""
        streams = uniform((len(ppg), 1), generator) < self.stream
        spectrum = torch.fft.rfft(ppg - ppg[:, :1])
        clean = torch.fft.irfft(spectrum * torch.where(streams, self.smooth, self.band), LENGTH)
        window, _ = minmax_scale(clean[:, BEFORE : BEFORE + N_TIMES])
        if not self.stream:
            return window
        first = BEFORE % BLOCK
        scaled = running_scale(clean[:, first : first + (LENGTH - first) // BLOCK * BLOCK])
        return torch.where(streams, scaled[:, BEFORE - first : BEFORE - first + N_TIMES], window)

    def heart(self, rhythm, delay, generator):
        """Draw the ECG, cleaned and scaled: (B, 1, 1000)."""
        late = delay[:, None] if self.aligned else 0.0
        heart = rhythm._replace(time=rhythm.time + late)
        ecg = draw_ecg(heart, LENGTH, SFREQ, generator, self.ecg_gain)
        return minmax_scale(ecg[:, BEFORE : BEFORE + N_TIMES])[0][:, None]

    def pulseless(self, rhythm, generator):
        """Choose beats without a pulse, a run of them in 4 % of windows and all beats in 1 %: (B,
        K) bool.
        """
        n, k = rhythm.time.shape
        run = stretch_of(n, k, 1, generator, 0.04, 3, 30)
        return run | (uniform((n, 1), generator) < 0.01)

    def unfelt(self, pulses, flat):
        """Mark the samples from each pulseless beat to the next beat: (B, LENGTH) bool."""
        marked = torch.zeros(len(pulses), LENGTH, dtype=torch.bool)
        rows = flat.any(1).nonzero()[:, 0]
        t = (torch.arange(LENGTH) / SFREQ).repeat(len(rows), 1)
        index = torch.searchsorted(pulses[rows], t) - 1
        marked[rows] = flat[rows].gather(1, index.clamp(0, flat.shape[1] - 1))
        return marked
