"""`xmae twin`: recordings of generated people, as files that `xmae prepare` reads like any
other.
"""

from pathlib import Path

import numpy as np
import torch

from xmae.errors import UserError, require_at_least, require_choice
from xmae.files import atomic_file
from xmae.signals.filters import ECG_HIGHPASS
from xmae.signals.window import SFREQ
from xmae.twin.heart import draw_ecg
from xmae.twin.motion import MOTION_SFREQ, move
from xmae.twin.outing import beat_along, draw_outing
from xmae.twin.pulse import draw_pulse
from xmae.twin.rhythm import Rhythm, draw_rhythm, uniform
from xmae.twin.sensor import sense
from xmae.twin.windows import butterworth_gain

RHYTHMS = {
    "any": {"bank": 0.5, "sinus": 0.22, "fibrillation": 0.1, "ectopic": 0.18},
    "sinus": {"sinus": 1.0},
    "fibrillation": {"fibrillation": 1.0},
    "ectopic": {"ectopic": 1.0},
    "annotated": {"bank": 1.0},
}
PART_S = 20.0  # s of one drawn stretch of rhythm
LONGEST_MIN = 24 * 60
STEPS = 65000  # of int16 for the range of a signal


def twin(
    people: int = 10,
    minutes: float = 5.0,
    out: str = "runs/twin",
    rhythm: str = "any",
    motion: float = 0.2,
    flip: float = 0.0,
    seed: int = 77,
) -> dict:
    """Write recordings of generated people: ECG, PPG and their exact beats.

    No result may be reported on them: they teach a model and trap an algorithm.

    Parameters
    ----------
    people : int
        Number of people; each gets a file.
    minutes : float
        Length of each recording, 0.5 to 1440.
    out : str
        Folder for person_0001.npz and so on: `ppg`, `ecg`, `fs` (100 Hz), `patient`, and what is
        true: `beats_s` (R peaks), `pulses_s`, `beat_kind` (0 normal, 1 ventricular, 2
        supraventricular), `readable` (a sample each). People who move also have `acc_x`, `acc_y`,
        `acc_z` (g, 25 Hz), `activity` and `cadence_hz` (25 Hz).
    rhythm : str
        "any", "sinus", "fibrillation", "ectopic" or "annotated" (real intervals).
    motion : float
        Share of people who move and wear an accelerometer, 0 to 1: they rest, type, gesture, walk,
        run and cycle, each for 20 to 80 s, and their pulse follows.
    flip : float
        Share of people whose PPG is upside down, 0 to 1.
    seed : int
        The same seed makes the same people.

    Returns
    -------
    dict
        People, minutes, beats, "summary" and "out".

    Raises
    ------
    UserError
        If a setting is out of range or the folder cannot be written.
    """
    require_at_least(1, people=people)
    require_choice("rhythm", rhythm, RHYTHMS)
    if not 0.5 <= minutes <= LONGEST_MIN:
        raise UserError(f"{minutes:g} minutes; a recording lasts 0.5 to {LONGEST_MIN}")
    for name, share in {"motion": motion, "flip": flip}.items():
        if not 0 <= share <= 1:
            raise UserError(f"{name} is a share of people between 0 and 1, not {share:g}")
    beats = 0
    for number in range(1, people + 1):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
        moves = bool(uniform((1,), generator) < motion)
        person = draw_person(60 * minutes, generator, RHYTHMS[rhythm], moves, flip)
        beats += len(person["beats_s"])
        path = Path(out) / f"person_{number:04d}.npz"
        with atomic_file(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(
                file, patient=f"twin{seed}_{number:04d}", record=path.stem, **person
            )
    summary = [
        f"{people} generated people, {minutes:g} minutes each, {beats:,} beats",
        "for training and tests only: no result may be reported on generated people",
    ]
    return {
        "people": people,
        "minutes": minutes,
        "beats": beats,
        "summary": summary,
        "out": str(out),
    }


def draw_person(seconds, generator, shares, moves, flip, family="wrist", **outing):
    """Draw one recording: arrays for an .npz file.

    Parameters
    ----------
    seconds : float
    generator : torch.Generator
    shares : dict
        Shares of rhythms.
    moves : bool
        Whether the person moves and wears an accelerometer.
    flip : float
        Chance that the PPG is upside down.
    family : str
        Family of pulse waves of people who move; see `xmae.twin.pulse.wave_spectrum`.
    **outing
        `ratio` or `plan` of `xmae.twin.outing.draw_outing`.

    Returns
    -------
    dict
    """
    length = 4 * int(np.ceil(seconds * SFREQ / 4))
    rhythm = long_rhythm(seconds + 2, generator, shares)
    moved, more = None, {}
    if moves:
        done = draw_outing(length / SFREQ, generator, **outing)
        rhythm = beat_along(done, rhythm, generator)
        moved = move(done.activity, done.cadence, generator)
        more = {
            "acc_fs": float(MOTION_SFREQ),
            "acc_unit": "g",
            "activity": done.activity[0].numpy().astype(np.uint8),
            "cadence_hz": done.cadence[0].numpy(),
        }
        for name, axis in zip("xyz", moved.acc[0].numpy(), strict=True):
            more |= as_int16(f"acc_{name}", axis)
    pulse = draw_pulse(rhythm, length, SFREQ, generator, family=family if moves else "gaussians")
    rate = 1 / rhythm.time.diff(dim=1).mean(1)
    sensed = sense(pulse.ppg, rate, rhythm.breath_hz, SFREQ, generator, flip, 0.0, moved)
    gain = butterworth_gain(length, SFREQ, ECG_HIGHPASS, 5)
    ecg = draw_ecg(rhythm, length, SFREQ, generator, gain)
    inside = (rhythm.time[0] >= 0) & (rhythm.time[0] < length / SFREQ)
    return {
        "fs": float(SFREQ),
        **as_int16("ppg", sensed.ppg[0].numpy()),
        **as_int16("ecg", ecg[0].numpy()),
        "beats_s": rhythm.time[0][inside].numpy(),
        "pulses_s": (rhythm.time + pulse.arrival)[0][inside].numpy(),
        "beat_kind": rhythm.kind[0][inside].numpy().astype(np.uint8),
        "readable": sensed.readable[0].numpy(),
        **more,
    }


def long_rhythm(seconds, generator, shares):
    """Join stretches of one person's rhythm, each 20 s long, with slowly changing rates: a `Rhythm`
    of one row.
    """
    n = int(np.ceil(seconds / PART_S)) + 1
    kind = {name: share for name, share in shares.items() if share > 0}
    names, weights = list(kind), torch.tensor(list(kind.values()))
    one = names[int(torch.multinomial(weights, 1, generator=generator))]
    parts = draw_rhythm(n, PART_S + 2, generator, {one: 1.0})
    rr = torch.diff(parts.time, dim=1)
    base = rr[0].mean()
    wander = torch.exp(0.05 * torch.randn(n, generator=generator).cumsum(0).clamp(-5, 5))
    rr = rr * (base * wander / rr.mean(1))[:, None]
    counted = [row[: int((row.cumsum(0) < PART_S).sum()) + 1] for row in rr]
    kinds = [row[1 : len(part) + 1] for row, part in zip(parts.kind, counted, strict=True)]
    time = torch.cat(counted).clamp(0.24, 2.6).double().cumsum(0) - 1.0
    start = uniform((1,), generator, 0, 6.28)
    return Rhythm(
        time.float()[None], torch.cat(kinds)[None], parts.irregular[:1], parts.breath_hz[:1], start
    )


def as_int16(name, x):
    """Round a signal to int16 with scale and offset, as in stored recordings."""
    low, high = float(x.min()), float(x.max())
    scale = max(high - low, 1e-9) / STEPS
    offset = (low + high) / 2
    codes = np.rint((x - offset) / scale).astype(np.int16)
    return {name: codes, f"{name}_scale": scale, f"{name}_offset": offset}
