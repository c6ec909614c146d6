"""Traps: deterministic recordings of generated people, each with one difficulty and exact truth.

Their waves are of a family that training never draws ("skewed"), their seeds lie beyond training's.
They trap an algorithm; no result on people may be taken from them.

They are shipped as codes, each pinned by its SHA-256: drawn anew on another processor, some codes
differ by one step. `benchmarks/release/make_traps.py` drew them.
"""

import hashlib
import json
from dataclasses import dataclass
from importlib.resources import as_file, files

import numpy as np
import torch

from xmae.errors import UserError
from xmae.twin.pulse import draw_pulse, low_frequencies
from xmae.twin.rhythm import Rhythm

SECONDS = 80.0
SEED = 2**40  # training's seeds lie far below
SPAN_S = 10.0  # beats of the last 10 s make the true heart rate
WANDER = 0.03  # share by which the rate moves slowly
ACC_SFREQ, ONE_G = 25, 4096  # of the accelerometer: Hz, and codes that 1 g makes
SWING = 0.4  # g of the first harmonic of a cadence


@dataclass(frozen=True)
class Trap:
    """One recording with a known pulse that is easy to misread.

    Parameters
    ----------
    name : str
    codes : int64 array, shape (n,)
        0 to 2^bits - 1.
    sfreq : float
        Rate that the program is told, Hz.
    bits : int
    pulses : float array
        Times of the pulses that there are, s.
    readable : bool array, shape (seconds,)
        Whether a pulse can be read in each second.
    cadence : bool
        Whether rhythmic motion lies on the pulse.
    acceleration : int64 array, shape (3, seconds * 25)
        Codes of an accelerometer beside it, `ONE_G` to 1 g; still where nothing moves.
    """

    name: str
    codes: np.ndarray
    sfreq: float
    bits: int
    pulses: np.ndarray
    readable: np.ndarray
    cadence: bool
    acceleration: np.ndarray

    def true_rate(self, time):
        """Return the heart rate of the 10 s before each time, bpm; NaN where no pulse can be
        read.
        """
        rates = np.full(len(time), np.nan)
        for k, t in enumerate(time):
            beats = self.pulses[(self.pulses > t - SPAN_S) & (self.pulses <= t)]
            seconds = slice(max(0, int(t - SPAN_S)), max(1, int(t)))
            if len(beats) >= 3 and self.readable[seconds].mean() >= 0.9:
                rates[k] = 60 * (len(beats) - 1) / (beats[-1] - beats[0])
        return rates

    def empty(self, time):
        """Tell where the 10 s before each time contain no pulse at all, so that any answer is
        wrong.
        """
        starts = [slice(max(0, int(t - SPAN_S)), max(1, int(t))) for t in time]
        return np.array([not self.readable[part].any() for part in starts])


def intervals_of(kind, bpm, rng):
    """Draw the intervals (s) of a recording: "sinus", "fibrillation" or "bigeminy" at a mean
    rate.
    """
    n = int(SECONDS * bpm / 60 * 1.6) + 20
    mean = 60 / bpm
    slow = 1 + WANDER * np.sin(np.arange(n) * mean * 2 * np.pi / 40 + rng.uniform(0, 6))
    rr = mean * slow * (1 + 0.01 * rng.standard_normal(n))
    if kind == "fibrillation":
        rr = mean * np.exp(0.2 * rng.standard_normal(n))
    if kind == "bigeminy":
        early = np.arange(n) % 2 == 1
        rr = np.where(early, 0.68 * mean, 1.32 * mean) * slow
    return np.clip(rr, 0.26, 2.4)


def wave(bpm, sfreq, seed, kind="sinus", pulseless=None):
    """Draw clean pulse waves: (n,) of about 1, and pulse times, without pulses in the stretch
    `pulseless` (s, s).
    """
    rng = np.random.default_rng(SEED + seed)
    generator = torch.Generator().manual_seed(SEED + seed)
    time = torch.tensor(np.cumsum(intervals_of(kind, bpm, rng)) - 1.0)[None].float()
    flat = torch.zeros(time.shape, dtype=torch.bool)
    if pulseless:
        flat = (time > pulseless[0]) & (time < pulseless[1])
    rhythm = Rhythm(
        time,
        torch.zeros(time.shape, dtype=torch.long),
        torch.zeros(1, dtype=torch.bool),
        torch.tensor([0.25]),
        torch.tensor([0.0]),
    )
    length = 2 * int(SECONDS * sfreq / 2)
    pulse = draw_pulse(rhythm, length, sfreq, generator, flat, family="skewed")
    kept = ~flat[0] & (time[0] + pulse.arrival[0] < SECONDS) & (time[0] > 0)
    noise = 0.05 * low_frequencies(1, length, sfreq, generator, 1.0)[0]
    ppg = pulse.ppg[0] / pulse.ppg[0].std().clamp(min=1e-6) + noise
    return ppg.numpy().astype(float), (time + pulse.arrival)[0][kept].numpy()


def digitise(x, bits, share=0.25):
    """Round a signal of about 1 to codes that span a share of the converter's range."""
    middle, step = 1 << (bits - 1), share * (1 << bits) / 8
    return np.clip(np.rint(middle + step * x), 1, (1 << bits) - 2).astype(np.int64)


def cadence(n, sfreq, hertz, rng, strength):
    """Draw rhythmic motion with harmonics: (n,). Its phase wanders alike whatever is drawn."""
    t = np.arange(n) / sfreq
    angle = 2 * np.pi * hertz * t + 0.3 * np.sin(2 * np.pi * 0.05 * t)
    return strength * sum(np.sin(h * angle + rng.uniform(0, 6.28)) / h for h in (1, 2, 3))


def acceleration_of(hertz, rng):
    """Draw the codes of an accelerometer on the wrist: (3, n); `hertz` is None for a wrist that is
    still.
    """
    n = int(SECONDS * ACC_SFREQ)
    axes = np.outer([0.0, 0.6, 0.8], np.ones(n))  # gravity, g
    if hertz:
        shares = (1.0, 0.5, 0.3)  # of the axes
        axes += [cadence(n, ACC_SFREQ, hertz, rng, SWING * share) for share in shares]
    return np.rint(ONE_G * axes).astype(np.int64)


def make(
    name,
    bpm=72,
    kind="sinus",
    sfreq=100.0,
    bits=16,
    seed=0,
    change=None,
    pulseless=None,
    lost=None,
    moving=None,
):
    """Make one trap.

    `change(ppg, pulses, sfreq, rng)` gives the signal, and pulses if they move. `moving` is the
    cadence in Hz that an accelerometer sees.
    """
    ppg, pulses = wave(bpm, sfreq, seed, kind, pulseless)
    rng = np.random.default_rng(SEED + 1000 + seed)
    if change:
        ppg, pulses = change(ppg, pulses, sfreq, rng)
    readable = np.ones(int(SECONDS), bool)
    for gap in (pulseless, lost):
        if gap:
            readable[int(gap[0]) : int(gap[1])] = False
    if lost:
        part = slice(int(lost[0] * sfreq), int(lost[1] * sfreq))
        ppg[part] = 6 + 0.05 * rng.standard_normal(part.stop - part.start)
    acceleration = acceleration_of(moving, np.random.default_rng(SEED + 2000 + seed))
    codes = digitise(ppg, bits)
    return Trap(name, codes, sfreq, bits, pulses, readable, moving is not None, acceleration)


def with_noise(level):
    """Add white noise."""
    return lambda ppg, pulses, sfreq, rng: (ppg + level * rng.standard_normal(len(ppg)), pulses)


def with_cadence(ratio, bpm, strength=1.2):
    """Add motion at a multiple of the pulse rate."""
    return lambda ppg, pulses, sfreq, rng: (
        ppg + cadence(len(ppg), sfreq, ratio * bpm / 60, rng, strength),
        pulses,
    )


def on_the_move(name, ratio, bpm, seed, strength=1.2):
    """Make a trap with motion at a multiple of the pulse rate, which the accelerometer sees too."""
    change = with_cadence(ratio, bpm, strength)
    return make(name, bpm=bpm, change=change, seed=seed, moving=ratio * bpm / 60)


def with_echo(ppg, pulses, sfreq, rng):
    """Add a second wave half a beat later, nearly as large as the first, which suggests the double
    rate.
    """
    late = int(0.5 * np.median(np.diff(pulses)) * sfreq)
    return ppg + 0.75 * np.concatenate([np.zeros(late), ppg[:-late]]), pulses


def dropping(ppg, pulses, sfreq, rng):
    """Drop one sample in 200 without marking it as lost, so that time seems to run faster."""
    keep = rng.random(len(ppg)) > 0.005
    clock = np.cumsum(keep) / sfreq
    return ppg[keep], clock[np.minimum((pulses * sfreq).astype(int), len(ppg) - 1)]


def doubling(ppg, pulses, sfreq, rng):
    """Repeat one sample in 200."""
    times = 1 + (rng.random(len(ppg)) < 0.005)
    clock = np.cumsum(times) / sfreq
    return np.repeat(ppg, times), clock[np.minimum((pulses * sfreq).astype(int), len(ppg) - 1)]


def jittering(ppg, pulses, sfreq, rng):
    """Take each sample up to 4 ms too early or too late."""
    t = np.arange(len(ppg)) / sfreq
    return np.interp(t + rng.uniform(-0.004, 0.004, len(t)), t, ppg), pulses


def digest(codes):
    """Return the SHA-256 of codes as int32, little-endian: str."""
    return hashlib.sha256(codes.astype("<i4").tobytes()).hexdigest()


def traps():
    """Read the shipped traps: list of `Trap`.

    Raises
    ------
    UserError
        If codes are not those that are pinned.
    """
    folder = files("xmae.twin")
    pinned = json.loads((folder / "traps.json").read_text())
    with as_file(folder / "traps.npz") as path, np.load(path, allow_pickle=False) as archive:
        parts = {name: archive[name] for name in archive.files}
    found = []
    for number, about in enumerate(pinned):
        codes = np.cumsum(parts[f"steps{number}"], dtype=np.int64)
        acceleration = parts[f"acceleration{number}"].astype(np.int64)
        pins = about.pop("sha256"), about.pop("acceleration_sha256")
        if (digest(codes), digest(acceleration)) != pins:
            raise UserError(f"trap '{about['name']}' is damaged; install the package again")
        found.append(
            Trap(
                codes=codes,
                pulses=parts[f"pulses{number}"],
                readable=parts[f"readable{number}"],
                acceleration=acceleration,
                **about,
            )
        )
    return found


def draw_traps():
    """Draw all traps: list of `Trap`."""
    return [
        make("rest, 72 bpm", seed=1),
        make("bradycardia, 32 bpm", bpm=32, seed=2),
        make("tachycardia, 210 bpm", bpm=210, seed=3),
        make("fibrillation, 85 bpm", bpm=85, kind="fibrillation", seed=4),
        make("bigeminy, 76 bpm", bpm=76, kind="bigeminy", seed=5),
        make("echo: double rate, 62 bpm", bpm=62, change=with_echo, seed=6),
        on_the_move("cadence on the pulse, 80 bpm", 1.03, 80, seed=7),
        on_the_move("cadence at double, 75 bpm", 2, 75, seed=8),
        on_the_move("cadence at half, 110 bpm", 0.5, 110, seed=9),
        on_the_move("cadence elsewhere, 85 bpm", 1.4, 85, seed=10, strength=2.0),
        make("low perfusion, 70 bpm", bpm=70, change=with_noise(0.6), seed=11),
        make("upside down, 66 bpm", bpm=66, change=lambda x, p, f, r: (-x, p), seed=12),
        make("dropped samples, 78 bpm", bpm=78, change=dropping, seed=13),
        make("doubled samples, 78 bpm", bpm=78, change=doubling, seed=14),
        make("jitter of 4 ms, 64 bpm", bpm=64, change=jittering, seed=15),
        make("25 Hz, 74 bpm", bpm=74, sfreq=25.0, seed=16),
        make("500 Hz, 88 bpm", bpm=88, sfreq=500.0, seed=17),
        make("8 bits, 69 bpm", bpm=69, bits=8, seed=18),
        make("24 bits, 83 bpm", bpm=83, bits=24, seed=19),
        make(
            "no pulse from 25 to 65 s", bpm=80, pulseless=(25, 65), change=with_noise(0.1), seed=20
        ),
        make("contact lost from 30 to 55 s", bpm=72, lost=(30, 55), seed=21),
    ]
