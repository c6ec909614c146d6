"""Choose how the tracker weighs its evidence: writes xmae/beats/tracker.json.

    python -m xmae.benchmarks.release.choose_tracker MODEL

MODEL is an encoder with timing for PPG and three axes. Everything is chosen on generated people who
move. The classical tracker is chosen first, without the model, so that it is as good as it can be;
then the model's tracker, from there. How a belief spreads was counted: `heart_rate_changes`. When
to say nothing, and how wide an interval is, is calibrated on other generated people, not on real
ones, as no real recording in motion may calibrate it. Those others were looked at too while the
values to try were set.
"""

import json
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch

from xmae.beats.certainty import SILENT, calibrate, shipped_certainty
from xmae.beats.read import read_seconds
from xmae.beats.track import follow, gathered
from xmae.beats.tracker import KINDS, LEVELS, MOVES, TOP, WAYS, Removal, TrackerTable, agree
from xmae.benchmarks.release.heart_rate_changes import mixed_shares
from xmae.benchmarks.studies.runner import run_tool
from xmae.evaluation.moving_people import RATIOS, maps_of, moving_people
from xmae.files import atomic_file
from xmae.models.checkpoint import load_encoder

MODEL = "student-motion"  # whose certainty says when beats are believed
PEOPLE, OTHERS, SEED = 200, 240, 5_000_000  # seeds of training and tests lie elsewhere
SPECTRAL = {
    "quarters": (2, 3, 4),
    "lean": (150, 250, 1000),
    "temper": (0.25, 0.3, 0.4, 0.5, 0.75, 1.0),
    "ppg_power": (0.25, 0.5),
    "ppg_floor": (0.2, 0.3),
}
# a weaker map follows the harmonic where the cadence is the pulse's: a trap
OF_MAP = {"map_power": (0.5, 0.75)}
WRONG = 0.02  # share of seconds that may be answered and more than 10 bpm off
SUREST = 0.75  # share of seconds that counts twice: about what is answered
CAP = 40.0  # bpm that an error counts at the most
SUM = 4096  # of the shares of a transition


@dataclass(frozen=True)
class Settings:
    """How levels become likelihoods, (level + floor) ^ power, and how far a belief spreads.

    Parameters
    ----------
    quarters, lean
        See `Removal`.
    temper : float
        Power of the counted shares of change. As 9 of 10 s of evidence are those of the second
        before, evidence counts several times, and its powers are below 1; so is this one.
    ppg_power, ppg_floor, map_power, map_floor : float
        Powers and floors of levels from 0 to 1.
    """

    quarters: int = 3
    lean: int = 150
    temper: float = 0.4
    ppg_power: float = 0.5
    ppg_floor: float = 0.2
    map_power: float = 0.0
    map_floor: float = 0.2

    @property
    def removal(self):
        """Return how movement is taken off."""
        return Removal(self.quarters, self.lean)

    def table(self, shares, certainty=SILENT):
        """Make the tracker's table from counted shares of change, see `shares_of`."""
        level = (np.arange(LEVELS) + 0.5) / LEVELS
        turning = (level + self.map_floor) ** self.map_power
        likely = turning[:, None] * (level + self.ppg_floor) ** self.ppg_power
        evidence = np.maximum(np.rint(TOP * likely / likely.max()), 1).astype(np.int64)
        step = shares**self.temper
        share = np.rint(SUM * step / (step[0] + 2 * step[1:].sum())).astype(np.int64)
        return TrackerTable(evidence, share, certainty, self.removal)


def shown_by(samples, maps=None):
    """Gather what people show, second by second: how much the map turns, and the spectra of PPG and
    acceleration; see `Evidence`.
    """
    return [(second.turning(), second.spectra()) for second in gathered(samples, maps)]


def levels_of(shown, removal):
    """Return the levels of map and PPG of each second; see `Evidence.levels`."""
    return [(turning, removal.apply(*spectra)) for turning, spectra in shown]


def error(shown, truth, table):
    """Return the error of a tracker, bpm: of both ways, all seconds and the surest three quarters;
    each error counts 40 at the most.
    """
    levels, errors = levels_of(shown, table.removal), []
    for way in WAYS:
        rate, sure = follow(levels, table, way == "both ways")
        off = np.where(sure > 0, np.minimum(np.abs(rate / 100 - truth), CAP), np.nan)
        known = np.isfinite(off)
        surest = known & (sure >= np.quantile(sure[known], 1 - SUREST))
        errors += [over_kinds(off, known), over_kinds(off, surest)]
    return np.mean(errors)


def over_kinds(off, counted):
    """Average errors (n, seconds) over a person's seconds that count, over people, and over kinds
    of cadence by a root mean square: the worst kind counts most, as the limit holds for each.
    """
    people = np.ma.array(off, mask=~counted).mean(axis=1)
    kinds = [people[k :: len(RATIOS)].mean() for k in range(len(RATIOS))]
    return np.sqrt(np.mean(np.square(kinds)))


def improved(settings, sweeps, score):
    """Choose one setting after the other, until none lowers the score."""
    before = None
    while settings != before:
        before = settings
        for name, values in sweeps.items():
            others = [replace(settings, **{name: value}) for value in values]
            settings = min([settings, *others], key=score)
            print(f"{score(settings):.2f} bpm by {name}: {settings}", flush=True)
    return settings


def choose(people, model, shares):
    """Choose the settings of both trackers on people: first the classical one, then the model's.

    Returns
    -------
    dict
        Settings by the first word of a kind of tracker.
    """
    shown = shown_by(people.samples, maps_of(model, people.samples))
    bare = without_map(shown)
    score = cache(lambda settings: error(bare, people.truth, settings.table(shares)))
    classical = improved(Settings(), SPECTRAL, score)
    score = cache(lambda settings: error(shown, people.truth, settings.table(shares)))
    start = replace(classical, map_power=0.5)
    return {"model": improved(start, OF_MAP | SPECTRAL, score), "classical": classical}


def shown_to(people, model):
    """Gather what people show to each kind of tracker."""
    bare = people.samples.copy()
    bare[:, 1:] = 0
    kinds = {"": people.samples, " without accelerometer": bare}
    shown = {f"model{kind}": shown_by(rows, maps_of(model, rows)) for kind, rows in kinds.items()}
    return shown | {f"classical{kind}": without_map(shown[f"model{kind}"]) for kind in kinds}


def without_map(shown):
    """Return what people show without the model's map."""
    return [(0 * turning, spectra) for turning, spectra in shown]


def beats_of(people, model):
    """Return the heart rates of people's beats alone, (n, seconds) in 1 / 100 bpm, 0 = none."""
    rates = np.zeros(people.truth.shape, np.int64)
    table = shipped_certainty(MODEL)
    for own, maps, samples in zip(
        rates, maps_of(model, people.samples), people.samples, strict=True
    ):
        found = np.rint(100 * np.nan_to_num(read_seconds(maps, samples[0], table)["rate"]))
        own[: len(found)] = found
    return rates


def rule(shown, people, table, both_ways, beats):
    """Calibrate the certainty below which nothing is said, and the width of the interval.

    The interval is that of seconds in which a belief decides: people move, it is sure enough, and
    no beats agree. All people count the same.

    Returns
    -------
    dict
        A `Certainty`.
    """
    rate, sure = follow(levels_of(shown, table.removal), table, both_ways)
    known = np.isfinite(people.truth) & (sure > 0)
    person = np.repeat(np.arange(len(sure))[:, None], sure.shape[1], 1)
    of = lambda seconds: (
        sure[seconds], rate[seconds] / 100, people.truth[seconds], person[seconds]
    )  # fmt: skip
    least = calibrate(*of(known), wrong_share=WRONG).least
    decided = known & (people.levels >= MOVES) & (sure >= least) & ~agree(beats, rate)
    half_width = calibrate(*of(decided)).half_width
    answered = (sure[known] >= least).mean()
    print(f"least {least}, answered {100 * answered:.0f} %", flush=True)
    return {"half_width": half_width.tolist(), "least": int(least)}


def table_of(settings, shares):
    """Return the part of a tracker's table that does not depend on the way, for JSON."""
    table = settings.table(shares)
    return {
        "settings": asdict(settings),
        "evidence": table.evidence.tolist(),
        "transition": table.transition.tolist(),
        "removal": asdict(table.removal),
    }


def choose_tracker(path: str = MODEL, /) -> None:
    """Choose the trackers' settings, calibrate them, and write both.

    Parameters
    ----------
    path : str
        Encoder with timing for PPG and three axes.
    """
    torch.set_num_threads(1)
    model = load_encoder(path)
    people = moving_people(PEOPLE, SEED)
    shares = mixed_shares(people.truth)
    settings = choose(people, model, shares)
    others = moving_people(OTHERS, SEED + 10_000)
    shown = shown_to(others, model)
    read = beats_of(others, model)
    beats = {kind: read if kind == "model" else 0 * read for kind in KINDS}
    table = {kind: settings[kind.split()[0]].table(shares) for kind in KINDS}
    rules = {
        way: {
            kind: rule(shown[kind], others, table[kind], way == "both ways", beats[kind])
            for kind in KINDS
        }
        for way in WAYS
    }
    tables = {
        "changes": shares.tolist(),
        "tables": {name: table_of(chosen, shares) for name, chosen in settings.items()},
        "certainty": rules,
    }
    file = Path(__file__).parents[2] / "xmae" / "beats" / "tracker.json"
    with atomic_file(file) as temporary:
        temporary.write_text(json.dumps(tables) + "\n")


if __name__ == "__main__":
    run_tool(choose_tracker)
