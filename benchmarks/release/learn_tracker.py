"""Learn what evidence says about heart rate: writes xmae/beats/tracker.json.

    python -m xmae.benchmarks.release.learn_tracker [MODEL]

Evidence and transitions are learnt on generated people who move (and on the rhythm bank), intervals
and refusals on other generated people. MODEL is an encoder with timing for PPG and three axes;
without it only the classical tables are made.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch

from xmae.beats.certainty import calibrate
from xmae.beats.spectra import GRID
from xmae.beats.track import evidence, follow
from xmae.beats.tracker import ACC_LEVELS, KINDS, MAP_LEVELS, PPG_LEVELS, REACH, TOP, TrackerTable
from xmae.evaluation.moving_people import maps_of, moving_people, true_rates
from xmae.models.checkpoint import load_encoder
from xmae.twin.bank import read_bank

PEOPLE, OTHERS, SEED = 60, 40, 5_000_000  # seeds of training and tests lie elsewhere
TEMPERS = (0.06, 0.1, 0.15, 0.2)  # seconds share most of their evidence
PRIOR_TEMPER, WRONG = 0.15, 0.03  # of the rates' prior; share of seconds that may be answered wrong
CAP = 40.0  # bpm that an error counts at the most
PRIOR = 20  # counts of evidence that says nothing
SHOWN = 1.5  # bpm around the true rate that show its evidence


def learn_evidence(levels, truth):
    """Count how often true rates show levels, against all rates: log likelihood ratios (12, 10,
    4).
    """
    shape = (MAP_LEVELS, PPG_LEVELS, ACC_LEVELS)
    shown, whole = np.zeros(shape), np.zeros(shape)
    for k, (turning, less, acc, _) in enumerate(levels):
        known = np.isfinite(truth[:, k])
        near = np.abs(GRID - truth[:, k, None]) <= SHOWN
        for where, counts in (
            (near & known[:, None], shown),
            (np.broadcast_to(known[:, None], near.shape), whole),
        ):
            np.add.at(counts, (turning[where], less[where], acc[where]), 1)
    whole *= shown.sum() / whole.sum()
    return np.log((shown + PRIOR) / (whole + PRIOR))


def learn_prior(levels, truth):
    """Count how often each rate is true at rest and in motion, smoothed: (2, 96), 1 to 65535."""
    prior = np.zeros((2, len(GRID)))
    for k, level in enumerate(levels):
        known = np.isfinite(truth[:, k])
        place = np.abs(GRID - truth[known, k, None]).argmin(1)
        np.add.at(prior, (level[3][known, 0], place), 1)
    smooth = np.exp(-0.5 * (np.arange(-20, 21) / 6) ** 2)
    prior = np.stack([np.convolve(row, smooth, "same") for row in prior])
    prior = (prior / np.maximum(prior.max(1, keepdims=True), 1) + 0.02) ** PRIOR_TEMPER
    return np.rint(TOP * np.minimum(prior / prior.max(1, keepdims=True), 1)).astype(np.int64)


def learn_transition(truth):
    """Count by how many bins the heart rate moves in a second, in people who move and in the bank:
    (7,) of 4096.
    """
    rows = [np.append(np.nan, t) for t in truth]
    for rr in read_bank().rr_ms[::7]:
        rows.append(true_rates(np.cumsum(rr) / 1000, int(rr.sum() / 1000)))
    step = np.abs(np.concatenate([np.diff(row) for row in rows]))
    step = np.rint(step[np.isfinite(step)] / (GRID[1] - GRID[0])).astype(int)
    count = np.bincount(np.minimum(step, REACH), minlength=REACH + 1) + 1.0
    share = count / count.sum()
    share[1:] /= 2
    return np.maximum(np.rint(4096 * share).astype(int), 1)


def table_of(log_ratio, temper, prior, transition, certainty=None):
    """Make a tracker's table from learnt log ratios."""
    likely = np.exp(temper * (log_ratio - log_ratio.max()))
    evidence = np.maximum(np.rint(TOP * likely).astype(np.int64), 1)
    return TrackerTable(evidence, prior, transition, certainty)


def learn(levels, truth, other_levels, other_truth):
    """Learn a table on some people, its interval and refusal on others."""
    log_ratio, transition = learn_evidence(levels, truth), learn_transition(truth)
    prior = learn_prior(levels, truth)
    losses = []
    for temper in TEMPERS:
        rate, sure = follow(levels, table_of(log_ratio, temper, prior, transition))
        known = np.isfinite(truth) & (sure > 0)
        off = np.minimum(np.abs(rate / 100 - truth)[known], CAP)
        losses.append(off[sure[known] >= np.median(sure[known])].mean())  # of the surest half
    temper = TEMPERS[int(np.argmin(losses))]
    table = table_of(log_ratio, temper, prior, transition)
    rate, sure = follow(other_levels, table)
    known = np.isfinite(other_truth)
    certainty = calibrate(sure[known], rate[known] / 100, other_truth[known], wrong_share=WRONG)
    print(
        f"temper {temper}, error of the surest half {min(losses):.2f} bpm, least certainty "
        f"{certainty.least}"
    )
    return table_of(log_ratio, temper, prior, transition, certainty)


def main(path=None):
    """Learn all tables that can be learnt, and write them."""
    torch.set_num_threads(1)
    model = load_encoder(path) if path else None
    mine, others = moving_people(PEOPLE, SEED), moving_people(OTHERS, SEED + 10_000)
    file = Path(__file__).parents[2] / "xmae" / "beats" / "tracker.json"
    tables = json.loads(file.read_text()) if file.is_file() else {}
    for kind in KINDS:
        if kind.startswith("model") and model is None:
            continue
        parts = []
        for samples, truth in (mine, others):
            rows = samples.copy()
            if "without" in kind:
                rows[:, 1:] = 0
            maps = maps_of(model, rows) if kind.startswith("model") else None
            parts += [evidence(rows, maps), truth]
        print(kind, end=": ")
        table = learn(*parts)
        tables[kind] = {
            "evidence": table.evidence.tolist(),
            "prior": table.prior.tolist(),
            "transition": table.transition.tolist(),
            "half_width": table.certainty.half_width.tolist(),
            "least": int(table.certainty.least),
        }
    file.write_text(json.dumps(tables) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:2])
