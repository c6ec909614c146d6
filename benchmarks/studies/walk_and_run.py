"""A generated person who rests, walks, runs and rests, on an emulated watch.

    python -m xmae.benchmarks.studies.walk_and_run FOLDER

Every result is compared with `xmae.MotionStream`, by `xmae simulate`. Set off by `make` nowhere.
"""

import json
from pathlib import Path

import numpy as np
import torch

from xmae.benchmarks.simulate import simulate
from xmae.benchmarks.studies.runner import run_tool
from xmae.evaluation.moving_people import SPAN_S
from xmae.tables import markdown_table
from xmae.twin.motion import ACTIVITIES, MOTION_SFREQ
from xmae.twin.people import RHYTHMS, draw_person

SEED, SECONDS = 3, 150
PLAN = (("rest", 25.0), ("walk", 50.0), ("run", 55.0))  # and rest
SFREQ = 64  # Hz of the watch's PPG
WRONG = 10.0  # bpm
HEADS = ["", "seconds with truth", "answered", "MAE, answered", "more than 10 bpm off",
         "truth in the interval"]  # fmt: skip


def true_rate(pulses, time):
    """Return the heart rate of the 10 s before a time, bpm; NaN in the first 10 s."""
    beats = pulses[(pulses > time - SPAN_S) & (pulses <= time)]
    if time < SPAN_S or len(beats) < 3:
        return np.nan
    return 60 * (len(beats) - 1) / (beats[-1] - beats[0])


def row_of(name, results, truth):
    """Return a row of the table: results of `xmae simulate` and their true heart rates."""
    known = [(one, rate) for one, rate in zip(results, truth, strict=True) if np.isfinite(rate)]
    given = [(one, rate) for one, rate in known if one["heart_rate_bpm"]]
    rates = [rate for _, rate in known]
    off = np.array([abs(one["heart_rate_bpm"] - rate) for one, rate in given])
    inside = [one["low_bpm"] <= rate <= one["high_bpm"] for one, rate in given]
    return [
        f"{name}, {min(rates):.0f} to {max(rates):.0f} bpm", len(known), len(given),
        f"{off.mean():.1f}", int((off > WRONG).sum()), f"{100 * np.mean(inside):.0f} %",
    ]  # fmt: skip


def walk_and_run(folder: str, /) -> str:
    """Play a walk and a run, and make the table of what the watch says.

    Parameters
    ----------
    folder : str
        For the recording and what `xmae simulate` writes.
    """
    path = Path(folder) / "walk_run.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(SEED)
    person = draw_person(SECONDS, generator, RHYTHMS["sinus"], True, 0.0, "wrist", plan=PLAN)
    np.savez(path, patient="twin", record=path.stem, **person)
    out = path.parent / "simulated"
    simulate("student-motion", signal=str(path), out=str(out), sfreq=SFREQ, emulator="qemu")
    (played,) = json.loads((out / "simulate.json").read_text())["devices"].values()
    results, same = played["results"], played["bit_exact"]
    time = np.array([one["time_s"] for one in results])
    truth = [true_rate(person["pulses_s"], t) for t in time]
    at = np.minimum(np.rint(time * MOTION_SFREQ).astype(int), len(person["activity"]) - 1)
    rows = []
    for number in np.unique(person["activity"]):
        chosen = np.flatnonzero(person["activity"][at] == number)
        own = [results[k] for k in chosen], [truth[k] for k in chosen]
        rows.append(row_of(ACTIVITIES[number], *own))
    return f"{markdown_table(HEADS, rows)}\n\n{same['equal']} of {same['results']} results the same"


if __name__ == "__main__":
    run_tool(walk_and_run)
