"""How the tracker's tables are made: changes that were counted, intervals of those who move."""

import json
from importlib.resources import files

import numpy as np
import pytest

from xmae.beats.tracker import KINDS, MOVES, WAYS, shipped_tracker
from xmae.benchmarks.release import choose_tracker
from xmae.benchmarks.release.choose_tracker import Settings, improved, rule
from xmae.benchmarks.release.heart_rate_changes import bank_shares, people_shares, shares_of
from xmae.benchmarks.studies.motion import Answers, held
from xmae.evaluation.moving_people import MovingPeople
from xmae.twin.bank import STRETCH, Bank


@pytest.mark.parametrize(
    ("change", "expected"),
    [(0.0, [1, 0, 0]), (2.0, [0, 0.5, 0]), (-2.0, [0, 0.5, 0]), (1.0, [0.5, 0.25, 0]),
     (3.5, [0, 0.125, 0.375])],
)  # fmt: skip
def test_a_change_moves_as_many_bins(change, expected):
    shares = shares_of(np.array([change]), np.ones(1))
    assert shares[:3] == pytest.approx(expected, abs=1e-3)
    assert shares[0] + 2 * shares[1:].sum() == pytest.approx(1) and shares.min() > 0


def test_stretches_count_by_their_class():
    """Steady sinus and a wild fibrillation: the more of it the twin draws, the more changes."""
    rng = np.random.default_rng(1)
    steady = np.full((3, STRETCH), 800, np.uint16)
    wild = rng.uniform(400, 1000, (1, STRETCH)).astype(np.uint16)
    rr, rhythm = np.concatenate([steady, wild]), np.array([0, 0, 0, 1], np.uint8)
    shares = bank_shares(Bank(rr, np.zeros_like(rr, np.uint8), rhythm))
    alone = bank_shares(Bank(wild, np.zeros_like(wild, np.uint8), np.array([1], np.uint8)))
    sinus, fibrillation = 0.22, 0.2  # of the twin's classes
    expected = (sinus + fibrillation * alone[0]) / (sinus + fibrillation)
    assert shares[0] == pytest.approx(expected, rel=0.02) and alone[0] < 0.5


def test_heart_rates_that_are_not_known_change_nothing():
    truth = np.array([[np.nan, 70, 72, np.nan, 90], [60, 60, np.nan, 60, 60]])
    assert people_shares(truth)[:2] == pytest.approx([2 / 3, 1 / 6], abs=1e-3)


def test_the_shipped_tables_are_those_of_their_settings():
    shipped = json.loads((files("xmae.beats") / "tracker.json").read_text())
    for kind in KINDS:
        part = shipped["tables"][kind.split()[0]]
        made = Settings(**part["settings"]).table(np.array(shipped["changes"]))
        for way in WAYS:
            table = shipped_tracker(kind, way)
            assert np.array_equal(table.evidence, made.evidence) and table.removal == made.removal
            assert np.array_equal(table.transition, made.transition)
            assert table.certainty.half_width.min() >= 50  # 1 / 100 bpm: no step without people


def test_settings_improve_until_none_helps():
    best = Settings(quarters=2, lean=50)
    score = lambda s: abs(s.quarters - best.quarters) + abs(s.lean - best.lean) / 50
    sweeps = {"quarters": (2, 3, 4), "lean": (0, 50, 100)}
    assert improved(Settings(quarters=4, lean=150), sweeps, score) == best


def people_of(off, levels):
    """Return people with a heart rate of 100 bpm, and what a tracker says of them."""
    truth = np.full(off.shape, 100.0)
    samples = np.zeros((len(off), 4, 0), np.int8)
    rate = np.rint(100 * (truth + off)).astype(int)
    return MovingPeople(samples, truth, levels), (rate, np.full(off.shape, 255))


def test_rest_does_not_narrow_the_interval_and_people_count_the_same(monkeypatch):
    """Many exact seconds at rest, and two people of whom one moves little, and is read badly."""
    rng = np.random.default_rng(2)
    off, levels = np.zeros((2, 2000)), np.zeros((2, 2000), int)
    levels[0, 1000:], levels[1, 1900:] = MOVES, MOVES
    off[0, 1000:], off[1, 1900:] = rng.uniform(0, 2, 1000), rng.uniform(0, 8, 100)
    people, followed = people_of(off, levels)
    monkeypatch.setattr(choose_tracker, "follow", lambda *_: followed)
    monkeypatch.setattr(choose_tracker, "levels_of", lambda *_: [])
    table = shipped_tracker()
    width = rule([], people, table, False, np.zeros(off.shape, int))["half_width"][-1] / 100
    inside = [(off[0, 1000:] <= width).mean(), (off[1, 1900:] <= width).mean()]
    assert np.mean(inside) == pytest.approx(0.9, abs=0.01) and width == pytest.approx(6.4, abs=0.4)


def test_seconds_in_which_beats_decide_do_not_widen_the_interval(monkeypatch):
    off, levels = np.full((2, 200), 1.0), np.full((2, 200), MOVES)
    off[:, 100:] = 9.0
    people, followed = people_of(off, levels)
    monkeypatch.setattr(choose_tracker, "follow", lambda *_: followed)
    monkeypatch.setattr(choose_tracker, "levels_of", lambda *_: [])
    agreeing = np.where(off > 1, followed[0], 0)
    widths = [
        rule([], people, shipped_tracker(), False, beats)["half_width"][-1]
        for beats in (agreeing, 0 * agreeing)
    ]
    assert widths == [100, 900]


def test_coverage_is_a_mean_over_people():
    truth = np.array([[70.0, 70, 70, np.nan], [80, 80, 80, 80]])
    given = np.array([[True, True, False, True], [True, False, False, False]])
    found = Answers(truth, given, truth - 2, np.where(truth == 70, truth + 4, truth - 1))
    seconds, inside, _, width = held(found, truth, np.ones_like(given))
    assert (seconds, inside, width) == ("3", "50 %", "6.0")
