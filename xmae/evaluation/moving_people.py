"""Generated people in motion, as the front ends give them, with their true heart rates.

They teach the tracker and torture it; no result on people may be taken from them.
"""

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


def moving_people(n, seed, ratios=RATIOS, family="wrist", seconds=SECONDS):
    """Generate recordings in motion: int8 samples (n, 4, T) and true heart rates (n, seconds), NaN
    unknown.
    """
    samples, truth = [], []
    for k in range(n):
        generator = torch.Generator().manual_seed(seed + k)
        person = draw_person(
            seconds + 3, generator, RHYTHMS["any" if k % 4 == 0 else "sinus"], True, 0.3, family,
            ratio=ratios[k % len(ratios)],
        )  # fmt: skip
        acc = np.stack(
            [
                person[f"acc_{a}"] * person[f"acc_{a}_scale"] + person[f"acc_{a}_offset"]
                for a in "xyz"
            ]
        )
        ppg = FrontEnd(SFREQ).push(as_codes(person["ppg"]))
        rows = beside(ppg, acceleration_samples(acc, person["acc_fs"])[0])
        samples.append(rows[:, : seconds * SFREQ])
        truth.append(true_rates(person["pulses_s"], seconds))
    return np.stack(samples), np.stack(truth)


def true_rates(pulses, seconds):
    """Heart rate of the 10 s before the end of each second, bpm; NaN with fewer than three
    beats.
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
    """Timing maps of samples: (n, 3, T / 4)."""
    x = torch.from_numpy(samples.astype(np.float32) / 127)
    return np.concatenate([model.timing(part).numpy() for part in x.split(4)])
