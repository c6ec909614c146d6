"""Label tables as people write them; the id is the folder in which the situations were
collected.
"""

import numpy as np
import pandas as pd
import pytest

from xmae.data.prepare.inputs import read_splits, read_subjects
from xmae.data.store.relabel import read_labels as read_relabel
from xmae.data.store.store import WindowStore
from xmae.errors import UserError
from xmae.evaluation.protocol.datasets import load_dataset
from xmae.evaluation.protocol.folds import make_trial
from xmae.evaluation.protocol.labels import read_labels
from xmae.evaluation.protocol.tasks import REGISTRY


@pytest.fixture(scope="module")
def people(small_store):
    return sorted({row["subject"] for row in WindowStore(small_store).index()})


def label(frame, path, **style):
    frame.to_csv(path, index=False, **style)
    return path


def test_51_labels_of_one_class_are_refused(small_store, people, tmp_path):
    path = label(pd.DataFrame({"subject": people, "wake": 1}), tmp_path / "one.csv")
    with pytest.raises(UserError, match="single class"):
        make_trial(load_dataset(small_store, path), REGISTRY["wake"], "all")


def test_51_labels_that_are_infinite_are_refused(people, tmp_path):
    sbp = [np.inf if k == 3 else 120 + k for k in range(len(people))]
    path = label(pd.DataFrame({"subject": people, "sbp": sbp}), tmp_path / "inf.csv")
    for read in (read_labels, read_relabel):
        with pytest.raises(UserError, match="inf.csv: column sbp is infinite in row 4"):
            read(path)


@pytest.mark.parametrize("mark", [-999, -9999.0])
def test_labels_that_say_no_value_are_refused(people, tmp_path, mark):
    sbp = [mark if k == 2 else 120 + k for k in range(len(people))]
    path = label(pd.DataFrame({"subject": people, "sbp": sbp}), tmp_path / "mark.csv")
    for read in (read_labels, read_relabel):
        with pytest.raises(UserError, match="mark.csv: column sbp says 'no value' .* row 3"):
            read(path)


def test_51_labels_in_spreadsheet_styles(people, tmp_path, capsys):
    frame = pd.DataFrame({"subject": people, "wake": [k % 2 for k in range(len(people))]})
    bom = label(frame, tmp_path / "bom.csv", encoding="utf-8-sig")
    assert read_labels(bom)["wake"].tolist() == frame["wake"].tolist()
    below = label(frame.assign(sbp=-1).drop(columns="wake"), tmp_path / "below.csv")
    assert (read_labels(below)["sbp"] == -1).all()
    some = label(frame.assign(sbp=[-1, *range(120, 119 + len(people))]), tmp_path / "some.csv")
    assert read_labels(some)["sbp"][0] == -1
    assert "column sbp is -1 in 1 rows, which are taken as measured" in capsys.readouterr().err
    with pytest.raises(UserError, match="label table"):
        read_labels(label(frame, tmp_path / "semicolon.csv", sep=";"))
    words = frame.assign(wake=["yes", "no"] * (len(people) // 2))
    with pytest.raises(UserError, match="column wake"):
        read_labels(label(words, tmp_path / "words.csv"))


def test_51_labels_of_epochs_in_any_order(small_store, tmp_path):
    index = WindowStore(small_store).index()
    rows = [
        {"subject": row["subject"], "record": row["record"], "time": t, "wake": (t // 30) % 2}
        for row in index for t in range(0, 480, 30)
    ]  # fmt: skip
    shuffled = pd.DataFrame(rows).sample(frac=1, random_state=0)
    data = load_dataset(small_store, label(shuffled, tmp_path / "epochs.csv"))
    expected = ((data.start_s + 5) // 30) % 2
    np.testing.assert_array_equal(data.labels["wake"], expected)


def test_names_are_the_same_however_they_are_written(tmp_path):
    (tmp_path / "people.csv").write_text("Record,Participant_ID\nZoe\u0308, Zo\u00eb\n")
    assert read_subjects(tmp_path / "people.csv") == {"Zo\u00eb": {"subject": "Zo\u00eb"}}
    (tmp_path / "split.csv").write_text("Patient ID,split\nZoe\u0308,test\n")
    assert read_splits(tmp_path / "split.csv") == {"Zo\u00eb": "test"}


def test_cells_beyond_the_names_are_told(tmp_path):
    """An unquoted decimal comma would make 120 of 120,5."""
    (tmp_path / "comma.csv").write_text("subject,sbp\np01,120,5\np02,118,0\n")
    for read in (read_labels, read_relabel):
        with pytest.raises(UserError, match="comma.csv: not readable as"):
            read(tmp_path / "comma.csv")
    (tmp_path / "end.csv").write_text("subject,sbp\np01,120,\np02,118,\n")
    assert read_labels(tmp_path / "end.csv")["sbp"].tolist() == [120, 118]


def test_ids_beside_an_empty_cell_are_whole_numbers(tmp_path):
    """In Parquet they are floats then: 7.0."""
    labels = pd.DataFrame({"subject": [7, np.nan], "record": [1, np.nan], "sbp": [120.0, 118]})
    labels.to_parquet(tmp_path / "labels.parquet")
    assert read_labels(tmp_path / "labels.parquet")["subject"].tolist() == ["7", ""]
    assert read_labels(tmp_path / "labels.parquet")["record"].tolist() == ["1", ""]
    assert read_relabel(tmp_path / "labels.parquet").index[0] == ("7", "1")
    people = labels[:1].assign(split="test")
    people.to_parquet(tmp_path / "people.parquet")
    assert read_subjects(tmp_path / "people.parquet") == {"1": {"subject": "7"}}
    assert read_splits(tmp_path / "people.parquet") == {"7": "test"}
    (tmp_path / "blank.csv").write_text("record,subject\na, \n")
    with pytest.raises(UserError, match="without empty cells"):
        read_subjects(tmp_path / "blank.csv")
