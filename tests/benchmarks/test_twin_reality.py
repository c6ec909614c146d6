"""The twin is no farther from real windows than it was measured to be."""

import json
from pathlib import Path

import numpy as np
import pytest

from xmae.benchmarks.studies.twin_reality import (
    MEASURES,
    columns_of,
    distance,
    measure,
    tell_apart,
    twin_people,
)

COMMITTED = Path(__file__).parents[2] / "benchmarks" / "results" / "twin_reality.json"


@pytest.fixture(scope="module")
def committed():
    return json.loads(COMMITTED.read_text())


@pytest.mark.parametrize(("source", "length"), [("cinc2015_vt", 1000), ("PPG-BP, 2 s", 200)])
def test_distances_stay_within_the_committed_bounds(committed, source, length):
    twin = twin_people(256, seed=5, length=length)
    shares = np.array(committed["shares"])
    for name, real in committed["sources"][source].items():
        mine = np.sort(twin.measures[name])
        below = np.searchsorted(mine, real["quantiles"], side="right") / len(mine)
        assert np.abs(below - shares).max() <= real["bound"], name


def test_a_twin_with_pulses_of_double_width_would_be_noticed(committed):
    twin = twin_people(256, seed=5)
    real = committed["sources"]["cinc2015_vt"]["width"]
    narrow = np.sort(twin.measures["width"] / 2)
    below = np.searchsorted(narrow, real["quantiles"], side="right") / len(narrow)
    assert np.abs(below - committed["shares"]).max() > real["bound"]


def test_measures_of_pulses_that_are_known():
    t = np.arange(1000) / 100
    rise, fall = 0.15, 0.45  # straight up and down: half as wide at half height
    phase = (t[None] % 0.8) - 0.05
    wave = np.interp(phase, [0, rise, rise + fall], [0, 1, 0])
    people = measure("known", np.repeat(wave, 3, 0), ["a", "b", "c"], np.array([300.0]))
    assert people.measures["rate"] == pytest.approx(np.full(3, 75))
    assert people.measures["rise"] == pytest.approx(np.full(3, 0.9 * 150), abs=10)
    assert people.measures["width"] == pytest.approx(np.full(3, 300), abs=12)
    assert people.measures["variation"].max() < 1 and people.measures["rmssd"].max() < 1
    assert set(people.measures) == set(MEASURES) and people.table.shape == (3, len(columns_of()))
    assert people.spectrum.sum() == pytest.approx(1) and people.spectrum.argmax() == 1


def test_windows_without_pulses_are_left_out_of_the_measures():
    people = measure("flat", np.zeros((4, 1000)), list("abcd"))
    assert all(len(values) == 0 for name, values in people.measures.items() if name != "centroid")


@pytest.mark.extended
def test_the_classifier_tells_apart_what_differs_and_nothing_else():
    first, second = twin_people(120, seed=1), twin_people(120, seed=2)
    assert 0.35 < tell_apart(first, second)[0] < 0.65
    second.table = second.table.copy()
    second.table[:, 2] += 300
    auroc, uses = tell_apart(first, second)
    assert auroc > 0.95 and uses[0][0] == columns_of()[2] == "rise"
    assert distance(first.measures["rise"], first.measures["rise"]) == 0
