"""Batches for learning when the heart beats: real recordings with ECG beside generated people.

Pulses of a recording are its R peaks plus one delay, at which the PPG rises steepest on average.
The delay is clock lag plus arrival time, which signals cannot tell apart; what varies from beat to
beat stays in the target. Moments near a beat that only one of two ECG detectors found do not count.
"""

from typing import NamedTuple

import numpy as np
import torch

from xmae.beats.r_peaks import DETECTORS, fraction_of_peak, matched, r_peaks, stretches
from xmae.beats.timing_map import STEP, map_times, timing_target
from xmae.data.batches.batches import SteppedBatches, part_size
from xmae.errors import UserError, require_at_least, require_share
from xmae.signals.front_end import BLOCK
from xmae.signals.scale import minmax_scale
from xmae.signals.window import N_TIMES, SFREQ
from xmae.twin.motion import draw_activities, move, tie
from xmae.twin.rhythm import uniform
from xmae.twin.windows import Twin, clean_acceleration, running_scale, stream_response

N_OUTPUTS = N_TIMES // STEP
LONGEST_DELAY_S = 1.0
LEAST_BEATS = 20  # of a recording, to know its delay
LEAST_SHARPNESS = 1.5  # of the mean slope after R peaks: its largest value over its deviation
LEAST_Z = 5.0  # and over the error of a mean of so many beats that no pulse follows
DOUBT_S = 1.0  # s around a beat that one detector found alone
BEFORE = 500  # samples before a crop, for the running scale and the filters
GAP = 1000  # samples between recordings in memory
UNREADABLE_WEIGHT = 0.3  # of moments at which the map should be zero
KNOWN_PULSES = 64  # of a crop
MOVING = 0.75  # share of windows in which people may move, where acceleration is learnt
WITHOUT = 0.2  # share of these whose accelerometer is missing: zeros
PULSE_STD = 0.35  # of a wave of 1 from foot to peak


class TimingBatch(NamedTuple):
    """Windows with the timing of their pulses.

    ppg : (B, 1, 1000) in [-1, 1]; (B, 4, 1000) with three axes of acceleration.
    ecg : (B, 1, 1000) in [-1, 1], its delay taken off; zeros where none is asked for.
    target : (B, 3, 250), see `xmae.beats.timing_map`.
    weight : (B, 2, 250) of phase and interval; 0 where unknown.
    has_ecg : (B,) bool.
    seed : int
    step : int
        Step of the optimiser, from 1; 0 where nothing is trained.
    """

    ppg: torch.Tensor
    ecg: torch.Tensor
    target: torch.Tensor
    weight: torch.Tensor
    has_ecg: torch.Tensor
    seed: int
    step: int = 0


def recording_delay(ppg, peaks):
    """Find the delay from R peak to the steepest rise of the pulse in a recording.

    Parameters
    ----------
    ppg : array, shape (n_times,)
        Cleaned PPG at 100 Hz.
    peaks : array, shape (n_beats,)
        R peaks, samples.

    Returns
    -------
    float or None
        Samples, 0 to 100; None if there are too few beats, or no rise stands out.
    """
    reach = int(LONGEST_DELAY_S * SFREQ)
    at = np.rint(peaks).astype(int)
    at = at[(at >= 1) & (at + reach + 1 < len(ppg))]
    if len(at) < LEAST_BEATS:
        return None
    slope = np.gradient(ppg)
    slope = np.clip(slope / (np.std(slope) + 1e-12), -4, 4)
    mean = slope[at[:, None] + np.arange(reach)].mean(0)
    least = max(LEAST_SHARPNESS * mean.std(), LEAST_Z / np.sqrt(len(at)))
    if mean.max() < least or mean.std() == 0:
        return None
    return float(mean.argmax())


def pulses_of(ppg, ecg):
    """Return where the pulses of a recording are, from its R peaks and their delay.

    Parameters
    ----------
    ppg, ecg : array, shape (n_times,)
        A stretch without a gap, at 100 Hz.

    Returns
    -------
    tuple of (array, bool array, float) or None
        Pulses in samples, at which samples a beat is in doubt, (n_times,), and the delay in
        samples; None if no delay is found.
    """
    first, second = (r_peaks(ecg.astype(float), name) for name in DETECTORS)
    delay = recording_delay(ppg, first)
    if delay is None:
        return None
    agreed = matched(first, second)
    alone = np.concatenate([first[~agreed], second[~matched(second, first)]])
    doubt, reach = np.zeros(len(ppg), bool), int(DOUBT_S * SFREQ)
    for beat in alone:
        doubt[max(0, int(beat + delay) - reach) : int(beat + delay) + reach] = True
    return fraction_of_peak(np.abs(ecg), first[agreed]) + delay, doubt, delay


class TimedRecordings:
    """Real windows of a store, joined to recordings, with the times of their pulses.

    Parameters
    ----------
    windows : Windows
        With ECG.

    Attributes
    ----------
    n_recordings, without_delay : int
        Stretches without a gap; those left out, as no delay was found.

    Raises
    ------
    UserError
        If there is no ECG, or no recording whose delay can be found.
    """

    def __init__(self, windows):
        if windows.ecg is None or not np.isfinite(windows.ecg).any():
            raise UserError(
                "timing is learnt from ECG, and the store has none; prepare recordings with ECG"
            )
        ppg, ecg, pulses, doubt, spans = [], [], [], [], []
        self.n_recordings = self.without_delay = 0
        place = 0
        for part in stretches(windows):
            signal, heart = windows.ppg[part].ravel(), windows.ecg[part].ravel()
            if len(signal) < 3 * N_TIMES:
                continue
            self.n_recordings += 1
            found = pulses_of(signal, heart)
            if found is None:
                self.without_delay += 1
                continue
            beats, mask, delay = found
            ppg += [signal, np.zeros(GAP)]
            ecg += [np.roll(heart, round(delay)), np.zeros(GAP)]
            pulses.append(place + beats)
            doubt += [mask, np.ones(GAP, bool)]
            spans.append((place, len(signal)))
            place += len(signal) + GAP
        if not spans:
            raise UserError(
                "no recording of the store has a pulse that follows its R peaks steadily"
            )
        self.ppg, self.ecg, self.doubt = (
            torch.from_numpy(np.concatenate(parts).astype(np.float32))
            for parts in (ppg, ecg, doubt)
        )
        self.pulses = torch.from_numpy(np.concatenate(pulses))
        self.start, self.length = (torch.tensor(x) for x in zip(*spans, strict=True))

    def crops(self, n, generator, speeds=(0.8, 1.25)):
        """Draw `n` crops of 15 s, of which the last 10 s count: ppg, ecg, doubt (n, 1500), pulses
        (n, K) in s.
        """
        span = int((N_TIMES + BEFORE) * speeds[1]) + 2
        room = (self.length - span).clamp(min=0).double()
        row = torch.multinomial(room, n, True, generator=generator)
        start = self.start[row] + torch.rand(n, generator=generator, dtype=torch.double) * room[row]
        low, high = speeds
        speed = torch.exp(
            torch.empty(n, dtype=torch.double).uniform_(
                np.log(low), np.log(high), generator=generator
            )
        )
        return self.cut(start, speed)

    def cut(self, start, speed):
        """Cut crops that start at samples `start` and play at `speed`; see `crops`."""
        at = start[:, None] + speed[:, None] * torch.arange(N_TIMES + BEFORE)
        left = at.floor().long().clamp(max=len(self.ppg) - 2)
        share = (at - left).float()
        take = lambda x: x[left] * (1 - share) + x[left + 1] * share
        zero = start + speed * BEFORE
        first = torch.searchsorted(self.pulses, zero) - 3
        index = (first[:, None] + torch.arange(KNOWN_PULSES)).clamp(0, len(self.pulses) - 1)
        pulses = (self.pulses[index] - zero[:, None]) / speed[:, None] / SFREQ
        return take(self.ppg), take(self.ecg), self.doubt[left] > 0, pulses.float()


def to_weights(known, seen, doubt):
    """Return the target factors (B, 250) and weights (B, 2, 250) of moments from known (B, 250),
    seen and doubt (B, 1000).
    """
    seen = seen.unflatten(1, (-1, STEP)).float().mean(2) > 0.5
    sure = ~doubt.unflatten(1, (-1, STEP)).any(2)
    counted = (known & seen & sure).float()
    blind = (~seen).float() * UNREADABLE_WEIGHT
    return seen, torch.stack([counted + blind, counted], 1)


class TimingBatches(SteppedBatches):
    """Batches for timing: half generated, half real windows.

    Parameters
    ----------
    recordings : TimedRecordings or None
        Real ones; None: generated windows alone.
    batch_size, n_batches : int
        Windows per step of the optimiser, over all processes and accumulated parts; steps per
        epoch.
    seed : int
    real : float
        Share of real windows.
    stream : float
        Share of windows that pass the streaming front end.
    ecg : bool
        Also give ECG.
    flip : float
        Share of windows upside down.
    acc : bool
        People move, and three axes of acceleration stand beside the PPG.
    rank, world_size, accumulate : int
        This process, how many share each step, and into how many parts one after the other it is
        cut. Each part draws windows of its own, so other numbers of parts train on other windows.
    """

    def __init__(
        self, recordings, batch_size, n_batches, seed, real=0.5, stream=0.5, ecg=False, flip=0.2,
        acc=False, rank=0, world_size=1, accumulate=1,
    ):  # fmt: skip
        require_share(real=real, stream=stream, flip=flip)
        require_at_least(1, steps=n_batches)
        super().__init__(accumulate * n_batches, seed, accumulate)
        self.rank, self.world_size, self.n_parts = rank, world_size, world_size * accumulate
        self.recordings = recordings
        self.batch_size = part_size(batch_size, world_size, accumulate)
        # of the whole step: parts may be too small to have their share each
        self.n_real = round(batch_size * real) if recordings is not None else 0
        self.stream, self.ecg, self.flip = stream, ecg, flip
        self.acc = acc
        wrist = {"acc": True, "motion": MOVING, "family": "wrist"} if acc else {}
        self.twin = Twin(ecg=ecg, stream=stream, flip=flip, aligned=True, **wrist)
        self.response = stream_response(N_TIMES + BEFORE)

    def facts(self):
        """Count the stretches of recordings, and those left out because their delay was not
        found.
        """
        if self.recordings is None:
            return {}
        of = self.recordings
        return {"stretches": of.n_recordings, "without_delay": of.without_delay}

    def batch(self, step, seed):
        """Make this process's part of one step."""
        part = (step - 1) % self.accumulate * self.world_size + self.rank
        seed = (seed * self.n_parts + part) % 2**63
        generator = torch.Generator().manual_seed(seed)
        first, last = (self.n_real * number // self.n_parts for number in (part, part + 1))
        parts, n_real = [], last - first
        if n_real < self.batch_size:
            parts.append(self.generated(self.batch_size - n_real, generator))
        if n_real:
            parts.append(self.real(n_real, generator))
        joined = [torch.cat(column) for column in zip(*parts, strict=True)]
        return TimingBatch(*joined, seed, -(-step // self.accumulate))

    def generated(self, n, generator):
        """Draw generated windows: the columns of a `TimingBatch`."""
        windows = self.twin.draw(n, generator)
        target, known = timing_target(windows.pulses, N_OUTPUTS)
        doubt = torch.zeros_like(windows.readable)
        seen, weight = to_weights(known, windows.readable, doubt)
        ecg = windows.ecg if self.ecg else torch.zeros_like(windows.ppg)
        ppg = self.beside(windows.ppg, windows.acc, generator)
        return ppg, ecg, target * seen[:, None], weight, torch.ones(n, dtype=torch.bool)

    def real(self, n, generator):
        """Draw real windows: the columns of a `TimingBatch`."""
        ppg, ecg, doubt, pulses = self.recordings.crops(n, generator)
        u = lambda: torch.rand(n, 1, generator=generator)
        noise = 0.15 * u() ** 3 * ppg.std(1, keepdim=True)
        ppg = ppg + noise * torch.randn(ppg.shape, generator=generator)
        ppg = torch.where(u() < self.flip, -ppg, ppg)
        smooth = self.filtered(ppg)
        acc = None
        if self.acc:
            added, acc = self.moved(ppg, pulses, generator)
            ppg, smooth = ppg + added, smooth + added
        window = minmax_scale(ppg[:, BEFORE:])[0]
        assert (N_TIMES + BEFORE) % BLOCK == 0
        window = torch.where(u() < self.stream, running_scale(smooth)[:, BEFORE:], window)
        target, known = timing_target(pulses, N_OUTPUTS)
        _, weight = to_weights(known, torch.ones_like(doubt[:, BEFORE:]), doubt[:, BEFORE:])
        ecg = minmax_scale(ecg[:, BEFORE:])[0][:, None] if self.ecg else torch.zeros(n, 1, N_TIMES)
        ppg = self.beside(window[:, None], acc, generator)
        return ppg, ecg, target, weight, torch.ones(n, dtype=torch.bool)

    def filtered(self, x):
        """Apply the filters of the streaming front end: (n, 1500) -> (n, 1500)."""
        return torch.fft.irfft(torch.fft.rfft(x) * self.response, N_TIMES + BEFORE)

    def moved(self, ppg, pulses, generator):
        """Simulate motion in real windows: return the artefact to add to `ppg`, and the
        acceleration.
        """
        activity, cadence = draw_activities(len(ppg), N_TIMES + BEFORE, generator, MOVING)
        rate_hz = 1 / pulses.diff(dim=1).clamp(0.25, 2.5).mean(1, keepdim=True)
        motion = move(activity, tie(activity, cadence, rate_hz, generator), generator)
        size = ppg.std(1, keepdim=True) / PULSE_STD
        return size * self.filtered(motion.artefact), clean_acceleration(motion.acc)[:, :, BEFORE:]

    def beside(self, ppg, acc, generator):
        """Join acceleration to PPG (n, 1, 1000), missing in some windows; PPG alone where
        acceleration is not used.
        """
        if acc is None:
            return ppg
        there = uniform((len(ppg), 1, 1), generator) >= WITHOUT
        return torch.cat([ppg, acc * there], 1)


class TimedWindows:
    """Real windows without changes, in the order of the store: the validation set of a timing
    network.
    """

    def __init__(self, recordings, batch_size=256):
        starts = [
            torch.arange(int(a), int(a + n) - N_TIMES - BEFORE, N_TIMES).double()
            for a, n in zip(recordings.start, recordings.length, strict=True)
        ]
        self.recordings, self.starts, self.batch_size = recordings, torch.cat(starts), batch_size

    @property
    def variance(self):
        """Return the mean variance within windows of scaled ECG: the loss of predicting each
        window's mean.
        """
        total = sum(float(batch.ecg.var(-1, correction=0).sum()) for batch in self)
        return total / len(self.starts)

    def __len__(self):
        return -(-len(self.starts) // self.batch_size)

    def __iter__(self):
        for seed, start in enumerate(self.starts.split(self.batch_size)):
            ppg, ecg, doubt, pulses = self.recordings.cut(start, torch.ones_like(start))
            target, known = timing_target(pulses, N_OUTPUTS)
            doubt = doubt[:, BEFORE:]
            _, weight = to_weights(known, torch.ones_like(doubt), doubt)
            window, heart = (minmax_scale(x[:, BEFORE:])[0][:, None] for x in (ppg, ecg))
            yield TimingBatch(
                window, heart, target, weight, torch.ones(len(start), dtype=torch.bool), seed
            )


__all__ = ["TimedRecordings", "TimedWindows", "TimingBatch", "TimingBatches", "map_times"]
