"""Generated people in motion, as the front ends give them, with their true heart rates.

They teach the tracker and torture it; no result on people may be taken from them.
"""

from typing import NamedTuple

import numpy as np
import torch

from xmae.beats.read import as_codes
from xmae.beats.track import acceleration_samples, beside
from xmae.signals.front_end import LOOK_AHEAD, FrontEnd
from xmae.signals.window import SFREQ
from xmae.twin.people import RHYTHMS, draw_person

SECONDS = 180
RATIOS = (None, None, 1.0, 2.0, 0.5)  # cadence over pulse rate, person by person; None: as it comes
SPAN_S = 10.0  # of the beats that make the true heart rate


class MovingPeople(NamedTuple):
    """Recordings of n generated people.

    samples : int8 (n, 4, T) of the front ends.
    truth : (n, seconds) heart rate of the 10 s before the end of each second, bpm; NaN unknown.
    levels : int (n, seconds) how much they move, 1 / 1000 g.
    """

    samples: np.ndarray
    truth: np.ndarray
    levels: np.ndarray


def moving_people(n, seed, ratios=RATIOS, family="wrist", seconds=SECONDS):
    """Generate recordings in motion.

    Parameters
    ----------
    n, seed : int
        People, and the seed of the first; the others' follow.
    ratios : sequence of (float or None)
        Cadence over pulse rate, person by person; None: as it comes.
    family : str
        Family of pulse waves; see `xmae.twin.pulse.wave_spectrum`.
    seconds : int

    Returns
    -------
    MovingPeople
    """
    samples, truth, levels = [], [], []
    for k in range(n):
        generator = torch.Generator().manual_seed(seed + k)
        person = draw_person(
            seconds + 3, generator, RHYTHMS["any" if k % 4 == 0 else "sinus"], True, 0.3, family,
            ratio=ratios[k % len(ratios)],
        )  # fmt: skip
        axes, level = acceleration_samples(acceleration_of(person), person["acc_fs"])
        rows = beside(FrontEnd(SFREQ).push(as_codes(person["ppg"])), axes)
        samples.append(rows[:, : seconds * SFREQ])
        truth.append(true_rates(person["pulses_s"], seconds))
        levels.append(level[1 : seconds + 1])
    return MovingPeople(np.stack(samples), np.stack(truth), np.stack(levels))


def acceleration_of(person):
    """Return the acceleration of a generated person, g: (3, n)."""
    return np.stack(
        [person[f"acc_{a}"] * person[f"acc_{a}_scale"] + person[f"acc_{a}_offset"] for a in "xyz"]
    )


def true_rates(pulses, seconds):
    """Return the heart rate of the 10 s before the end of each second, bpm; NaN with fewer than
    three beats.
    """
    rates = np.full(seconds, np.nan)
    for k in range(seconds):
        end = k + 1 + LOOK_AHEAD / SFREQ
        beats = pulses[(pulses > end - SPAN_S) & (pulses <= end)]
        if k + 1 >= SPAN_S and len(beats) >= 3:
            rates[k] = 60 * (len(beats) - 1) / (beats[-1] - beats[0])
    return rates


@torch.no_grad()
def maps_of(model, samples):
    """Compute the timing maps of samples: (n, 3, T / 4)."""
    x = torch.from_numpy(samples.astype(np.float32) / 127)
    return np.concatenate([model.timing(part).numpy() for part in x.split(4)])
