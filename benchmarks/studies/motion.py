"""How well a heart rate is followed through motion: generated people, and clips of real wrists.

    python -m xmae.benchmarks.studies.motion [MODEL] [FOLDER_OF_CLIPS]

With and without the accelerometer, with and without the tracker, the model beside spectra alone and
beside a first rival of thirty lines. A second table tells how often the truth lies in the interval.
The people are of seeds and wave shapes that nothing was trained or chosen on. Set off by `make`
nowhere.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from xmae.beats.certainty import shipped_certainty
from xmae.beats.read import as_codes, follow_moving, read_seconds
from xmae.beats.track import acceleration_samples, beside, evidence, follow
from xmae.beats.tracker import MOVES, shipped_tracker
from xmae.beats.truth import truth_of
from xmae.benchmarks.studies.first_rival import first_rival
from xmae.benchmarks.studies.runner import run_tool
from xmae.data.recording.readers import read_recording
from xmae.evaluation.moving_people import MovingPeople, maps_of, moving_people
from xmae.evaluation.protocol.beat_scores import interval_coverage
from xmae.evaluation.protocol.bootstrap import mean_interval
from xmae.models.checkpoint import load_encoder
from xmae.signals.front_end import FrontEnd
from xmae.signals.resample import resample
from xmae.signals.window import N_TIMES, SFREQ
from xmae.tables import markdown_table

PEOPLE, SEED = 12, 8_000_000
SETS = {"cadence on the pulse": 1.0, "on its double": 2.0, "on its half": 0.5, "as it comes": None}
WRONG = 10.0  # bpm
CERTAINTY = "student-motion"  # whose table says when beats are believed
HELD = ["answered seconds", "truth in the interval", "95 % by people", "median width, bpm"]
HEADS = ["MAE, answered", "answered", "fewest of a person", "wrong but sure", "MAE, all"]


@dataclass(frozen=True)
class Method:
    """A way to find a heart rate.

    Parameters
    ----------
    kind, way : str
        Of the tracker's table.
    worn : bool
        Whether the accelerometer is there.
    beats : bool
        Whether beats decide at rest and are asked in motion, as a user gets it.
    """

    kind: str
    way: str = "both ways"
    worn: bool = True
    beats: bool = False


METHODS = {
    "what `model.read` gives": Method("model", beats=True),
    "what the stream gives": Method("model", "live", beats=True),
    "belief: model and spectra, both ways": Method("model"),
    "belief: model and spectra, live": Method("model", "live"),
    "rival: spectra alone, both ways": Method("classical"),
    "rival: spectra alone, live": Method("classical", "live"),
    "no accelerometer: model and spectra, live": Method(
        "model without accelerometer", "live", worn=False
    ),
    "no accelerometer: spectra, live": Method(
        "classical without accelerometer", "live", worn=False
    ),
}
ALONE, FIRST = "model alone, 10 s, no tracker", "first rival, thirty lines"


class Answers(NamedTuple):
    """Heart rates of n people: (n, seconds) each, bpm.

    rate : also where none is given.
    given : bool.
    low, high : the interval of those that are given.
    """

    rate: np.ndarray
    given: np.ndarray
    low: np.ndarray
    high: np.ndarray


def shown_by(people, model):
    """Compute the evidence of people for each kind of tracker that `METHODS` ask for."""
    bare = people.samples.copy()
    bare[:, 1:] = 0
    shown = {}
    for kind, worn in {(method.kind, method.worn) for method in METHODS.values()}:
        rows = people.samples if worn else bare
        maps = maps_of(model, rows) if kind.startswith("model") else None
        shown[kind] = evidence(rows, shipped_tracker(kind).removal, maps)
    return shown


def answers(people, shown, seconds, method):
    """Return the `Answers` of a method.

    Parameters
    ----------
    people : MovingPeople
    shown : dict
        See `shown_by`.
    seconds : list of dict
        See `read_seconds`.
    method : Method
    """
    table, both_ways = shipped_tracker(method.kind, method.way), method.way == "both ways"
    rate, sure = follow(shown[method.kind], table, both_ways)
    if not method.beats:
        low, high = table.certainty.interval(rate, sure)
        return Answers(rate / 100, sure >= table.certainty.least, low / 100, high / 100)
    given = np.full((3, *rate.shape), np.nan)
    for k, own in enumerate(seconds):
        own = {name: values.copy() for name, values in own.items()}
        follow_moving(own, rate[k], sure[k], people.levels[k], table.certainty)
        given[:, k, : len(own["rate"])] = [own[name] for name in ("rate", "low", "high")]
    known = np.isfinite(given[0])
    return Answers(np.where(known, given[0], rate / 100), known, given[1], given[2])


def held(found, truth, seconds):
    """Return how often the truth lies in the interval, as cells of a table.

    Parameters
    ----------
    found : Answers
    truth : float array, shape (n, seconds)
    seconds : bool array, shape (n, seconds)
        That count, if they are answered.
    """
    counted = found.given & seconds & np.isfinite(truth)
    person = np.repeat(np.arange(len(truth))[:, None], truth.shape[1], 1)[counted]
    inside, width = interval_coverage(
        truth[counted], found.low[counted], found.high[counted], person
    )
    outside = mean_interval(1 - inside)
    spread = f"{100 - 100 * outside[1]:.0f} to {100 - 100 * outside[0]:.0f} %" if outside else ""
    return [f"{counted.sum()}", f"{100 * np.nanmean(inside):.0f} %", spread, f"{width:.1f}"]


def alone(seconds):
    """Return the heart rate of the model's beats in each 10 s alone, and which are given."""
    rate = np.stack([one["rate"] for one in seconds])
    return rate, np.isfinite(rate)


def score(rate, given, truth):
    """Return means over people: error of given rates, share given, smallest share given, share
    given and wrong, error of all rates.
    """
    rows = []
    for r, g, t in zip(rate, given, truth, strict=True):
        known = np.isfinite(t)
        off, g = np.abs(r - t), g & known
        error = off[g].mean() if g.any() else np.nan
        wrong = (g & (off > WRONG)).sum() / known.sum()
        rows.append((error, g.sum() / known.sum(), wrong, np.nanmean(off[known])))
    error, answered, wrong, every = np.array(rows).T
    return np.nanmean(error), answered.mean(), answered.min(), wrong.mean(), np.nanmean(every)


def clips(folder):
    """Yield real clips: the name and `MovingPeople` of each, with the heart rate of the ECG where
    that is clear.
    """
    for path in sorted(Path(folder).glob("*.npz")):
        recording = read_recording(path)
        sfreq = recording.sfreq
        axes, levels = acceleration_samples(recording.acc, sfreq)
        samples = beside(FrontEnd(sfreq).push(as_codes(recording.ppg)), axes)[None]
        ecg = resample(np.nan_to_num(recording.ecg), sfreq, SFREQ)
        truth = np.full((1, samples.shape[2] // SFREQ), np.nan)
        for k in range(9, min(truth.shape[1], len(ecg) // SFREQ)):
            part = ecg[100 * k - 900 : 100 * k + 100]
            truth[0, k] = truth_of(part[None, :N_TIMES]).hr_ecg[0]
        yield path.stem, MovingPeople(samples, truth, levels[None, 1 : truth.shape[1] + 1])


def rows_of(name, people, model):
    """Return the rows of both tables for one set of people."""
    shown = shown_by(people, model)
    maps = maps_of(model, people.samples)
    seconds = [
        read_seconds(own, samples[0], shipped_certainty(CERTAINTY))
        for own, samples in zip(maps, people.samples, strict=True)
    ]
    found = {method: answers(people, shown, seconds, how) for method, how in METHODS.items()}
    rows, intervals = [], []
    for method, (rate, given, *_) in (
        found | {ALONE: alone(seconds), FIRST: first_rival(people.samples)}
    ).items():
        error, answered, fewest, wrong, every = score(rate, given, people.truth)
        shares = [f"{100 * share:.0f} %" for share in (answered, fewest)]
        rows.append([name, method, f"{error:.1f}", *shares, f"{100 * wrong:.1f} %", f"{every:.1f}"])
    moving = people.levels >= MOVES
    for method, how in METHODS.items():
        if how.beats:
            for when, counted in (("all", np.ones_like(moving)), ("in motion", moving)):
                cells = held(found[method], people.truth, counted)
                intervals.append([name, method, when, *cells])
    for row in rows + intervals:
        print(" | ".join(row), file=sys.stderr, flush=True)
    return rows, intervals


def motion(model: str = "student-motion", folder: str | None = None, /) -> str:
    """Make the tables of heart rates in motion and of their intervals, as Markdown.

    Parameters
    ----------
    model : str
        Encoder with timing for PPG and three axes.
    folder : str or None
        Clips with acceleration, as a further check.
    """
    torch.set_num_threads(1)
    net = load_encoder(model)
    rows, intervals = [], []
    for name, ratio in SETS.items():
        seed = SEED + 1000 * int(2 * (ratio or 0))
        made = rows_of(name, moving_people(PEOPLE, seed, (ratio,), "skewed"), net)
        rows, intervals = rows + made[0], intervals + made[1]
    for name, person in clips(folder) if folder else ():
        if np.isfinite(person.truth).any():
            rows += rows_of(name, person, net)[0]
        else:
            rows.append([name, "no truth in the ECG", *[""] * len(HEADS)])
    tables = (["set", "method", *HEADS], rows), (["set", "method", "seconds", *HELD], intervals)
    return "\n\n".join(markdown_table(heads, cells) for heads, cells in tables)


if __name__ == "__main__":
    run_tool(motion)
