"""Choose how the tracker weighs its evidence: writes xmae/beats/tracker.json.

    python -m xmae.benchmarks.release.choose_tracker MODEL

MODEL is an encoder with timing for PPG and three axes. Everything is chosen on generated people who
move. What spectra say is chosen without the model, so that the classical tracker is as good as it
can be; then how much the model's map says beside them. When to say nothing, and how wide an
interval is, are rules chosen on other generated people. They are not calibrated on real ones, as no
real recording in motion may calibrate them.
"""

import json
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import torch

from xmae.beats.certainty import SILENT, calibrate
from xmae.beats.spectra import GRID
from xmae.beats.track import evidence, follow
from xmae.beats.tracker import KINDS, LEVELS, REACH, TOP, WAYS, TrackerTable
from xmae.benchmarks.studies.runner import run_tool
from xmae.evaluation.moving_people import maps_of, moving_people
from xmae.files import atomic_file
from xmae.models.checkpoint import load_encoder

PEOPLE, OTHERS, SEED = 60, 120, 5_000_000  # seeds of training and tests lie elsewhere
PPG_POWERS, PPG_FLOORS = (0.25, 0.5, 1.0), (0.1, 0.2)
MAP_POWERS, MAP_FLOORS = (0.0, 0.25, 0.5, 0.75, 1.0), (0.2, 0.4)
SPREADS = (2.0, 3.0, 4.0)  # bpm in a second
WRONG = 0.035  # share of seconds that may be answered and more than 10 bpm off
CAP = 40.0  # bpm that an error counts at the most


@dataclass(frozen=True)
class Settings:
    """How levels become likelihoods, (level + floor) ^ power, and how far a belief spreads.

    Parameters
    ----------
    ppg_power, ppg_floor, map_power, map_floor : float
        Powers and floors of levels from 0 to 1.
    spread : float
        Standard deviation of a heart rate's change in a second, bpm.
    """

    ppg_power: float
    ppg_floor: float
    spread: float
    map_power: float = 0.0
    map_floor: float = 1.0

    def table(self, certainty=SILENT):
        """Make the tracker's table."""
        level = (np.arange(LEVELS) + 0.5) / LEVELS
        turning = (level + self.map_floor) ** self.map_power
        likely = turning[:, None] * (level + self.ppg_floor) ** self.ppg_power
        evidence = np.maximum(np.rint(TOP * likely / likely.max()), 1).astype(np.int64)
        change = (GRID[1] - GRID[0]) * np.arange(REACH + 1)
        step = np.exp(-0.5 * (change / self.spread) ** 2)
        share = 4096 * step / (step[0] + 2 * step[1:].sum())
        return TrackerTable(evidence, np.rint(share).astype(np.int64), certainty)


def error(levels, truth, settings):
    """Return the mean absolute error over people and both ways, bpm, of all seconds; each error
    counts 40 at most.
    """
    errors = []
    for way in WAYS:
        rate, sure = follow(levels, settings.table(), way == "both ways")
        off = np.minimum(np.abs(rate / 100 - truth), CAP)
        errors.append(np.nanmean(np.where(sure > 0, off, np.nan), axis=1).mean())
    return np.mean(errors)


def best_of(candidates, levels, truth):
    """Choose the settings with the smallest error."""
    errors = {settings: error(levels, truth, settings) for settings in candidates}
    best = min(errors, key=errors.get)
    print(f"{errors[best]:.2f} bpm with {best}", flush=True)
    return best


def choose(levels, truth):
    """Choose settings on people: first those of the spectra without the map, then those of the
    map.
    """
    spectral = [Settings(*values) for values in product(PPG_POWERS, PPG_FLOORS, SPREADS)]
    best = best_of(spectral, levels["classical"], truth)
    beside = [
        replace(best, map_power=power, map_floor=floor)
        for power, floor in product(MAP_POWERS, MAP_FLOORS)
    ]
    return best_of(beside, levels["model"], truth)


def evidence_of(people, model):
    """Gather the evidence of people for each kind of tracker."""
    bare = people.copy()
    bare[:, 1:] = 0
    return {
        "model": evidence(people, maps_of(model, people)),
        "model without accelerometer": evidence(bare, maps_of(model, bare)),
        "classical": evidence(people),
        "classical without accelerometer": evidence(bare),
    }


def rule(levels, truth, table, both_ways):
    """Choose the certainty below which nothing is said, and the width of the interval: a
    `Certainty`, as a dict.
    """
    rate, sure = follow(levels, table, both_ways)
    known = np.isfinite(truth) & (sure > 0)
    made = calibrate(sure[known], rate[known] / 100, truth[known], wrong_share=WRONG)
    answered = (sure[known] >= made.least).mean()
    print(f"least {made.least}, answered {100 * answered:.0f} %", flush=True)
    return {"half_width": made.half_width.tolist(), "least": int(made.least)}


def choose_tracker(path: str = "student-motion", /) -> None:
    """Choose the tracker's settings and rules, and write them.

    Parameters
    ----------
    path : str
        Encoder with timing for PPG and three axes.
    """
    torch.set_num_threads(1)
    model = load_encoder(path)
    people, truth, _ = moving_people(PEOPLE, SEED)
    settings = choose(evidence_of(people, model), truth)
    table = settings.table()
    others, truth, _ = moving_people(OTHERS, SEED + 10_000)
    levels = evidence_of(others, model)
    tables = {
        "settings": asdict(settings),
        "evidence": table.evidence.tolist(),
        "transition": table.transition.tolist(),
        "certainty": {
            way: {kind: rule(levels[kind], truth, table, way == "both ways") for kind in KINDS}
            for way in WAYS
        },
    }
    file = Path(__file__).parents[2] / "xmae" / "beats" / "tracker.json"
    with atomic_file(file) as temporary:
        temporary.write_text(json.dumps(tables) + "\n")


if __name__ == "__main__":
    run_tool(choose_tracker)
