"""Small cohorts: tasks of one's own, one subject left out at a time, who is not scored and why."""

import numpy as np
import pandas as pd
import pytest

from xmae.cli.verdict import verdict
from xmae.data.store.store import WindowStore
from xmae.errors import UserError
from xmae.evaluation.evaluate import evaluate, make_trials, summarise
from xmae.evaluation.protocol.folds import constant_trial
from xmae.evaluation.protocol.tasks import declared_tasks
from xmae.tables import best_methods, markdown_text


@pytest.fixture(scope="module")
def people(small_store):
    return sorted({row["subject"] for row in WindowStore(small_store).index()})


@pytest.fixture
def table(people, tmp_path):
    """Return a label table: load (W) of all people but the last, and stress in half of each
    recording.
    """
    rows = [
        {"subject": who, "time": t, "stress": int(t >= 240), "load": k if k < 5 else None}
        for k, who in enumerate(people) for t in (0, 240)
    ]  # fmt: skip
    pd.DataFrame(rows).to_csv(tmp_path / "labels.csv", index=False)
    return str(tmp_path / "labels.csv")


def test_tasks_of_ones_own_are_declared():
    names, known = declared_tasks(["hr", "stress:binary", "load:number:W"])
    assert names == ["hr", "stress", "load"] and known["hr"].units == "bpm"
    assert (known["stress"].kind, known["stress"].metric) == ("binary", "auroc")
    assert (known["load"].kind, known["load"].units, known["load"].column) == (
        "regression", "W", "load",
    )  # fmt: skip
    for text, complaint in (
        ("stress", "unknown task 'stress'.*stress:binary or stress:number:UNIT"),
        ("stress:class", "unknown kind of the task stress 'class'; expected one of binary, number"),
        ("hr:binary", "task hr is known, and is regression"),
    ):
        with pytest.raises(UserError, match=complaint):
            declared_tasks([text])


def test_one_subject_is_left_out_at_a_time(small_store, people, table):
    trials, _ = make_trials([small_store], "stress:binary,load:number:W", table, "loso")
    stress, load = trials
    assert len(stress.folds) == 6 and len(load.folds) == 5
    subject = load.dataset.subject
    for fitted, scored in load.folds:
        assert len(set(subject[scored])) == 1 and not set(subject[scored]) & set(subject[fitted])
    assert load.not_scored == {"no label in any window": [people[5]]} and not stress.not_scored
    # each is predicted by the mean of the others
    k = load.truth[load.rows]
    np.testing.assert_allclose(constant_trial(load), (10 - k) / 4, atol=0.02)


def test_it_fails_before_computing_and_says_what_to_do(small_store, people, table, tmp_path):
    out = str(tmp_path / "e")
    with pytest.raises(
        UserError, match="1 scored subjects .* 3 are needed; 5 have one in all splits"
    ):
        evaluate(["student-mcu-s"], small_store, "load:number:W,stress:binary", table, out=out)
    pd.DataFrame({"subject": people, "sick": [0, 1] * 3}).to_csv(tmp_path / "one.csv", index=False)
    with pytest.raises(UserError, match="needs both classes in every subject"):
        make_trials([small_store], "sick:binary", str(tmp_path / "one.csv"), "loso")
    with pytest.raises(UserError, match="no task uses the column 'load'.*load:number:UNIT"):
        make_trials([small_store], "stress:binary", table, "all")


def test_nothing_is_bold_that_is_no_better_than_the_constant(small_store, table):
    trials, reasons = make_trials([small_store], "stress:binary,load:number:W", table, "all")
    constant = {trial.name: constant_trial(trial) for trial in trials}
    off = {
        trial.name: constant[trial.name] + (5 if trial.task.kind == "regression" else 0)
        for trial in trials
    }
    result = summarise(trials, reasons, {"mine": off, "constant": constant}).as_json()
    assert all(best_methods(trial) == [] for trial in result["trials"])
    text = markdown_text(result)
    assert "**" not in text.split("Mean ")[0].replace(f"**{trials[0].dataset.name}**", "")
    assert "1 subjects are not scored, no label in any window" in text
    assert verdict("evaluate", result)[-1] == (
        "warning: mine is no better than a constant on stress, load"
    )
