"""Which teacher is better on a watch: one table, the same subjects and folds for all."""

import json

import pytest

from xmae.cli import main, teachers
from xmae.cli.adopt import token_weight
from xmae.errors import UserError
from xmae.models import load_encoder, save_encoder
from xmae.models.adopted.adopt import open_foreign
from xmae.models.adopted.encoder import ProgramEncoder


@pytest.fixture
def taken(monkeypatch, watch_bundle):
    """Replace every teacher's student by the shipped one, exported before: what is tested is the
    table.
    """
    row = {"model": "student", "format": "litert", "precision": "int8", "bytes": 270_000}
    row["violations"] = []
    row["centred"] = {"median": 0.99, "p5": 0.98}
    calls = []

    def take(encoder, teacher, data, out, targets, n_calibration, settings, precisions):
        calls.append((teacher, settings))
        return {
            "agreement": 0.8, "student": "student-mcu", "bundle": str(watch_bundle.path),
            "validate": {"passed": False, "models": [row]},  # a teacher of ours may fail
        }  # fmt: skip

    monkeypatch.setattr(teachers, "take_to_watch", take)
    return calls


def test_teachers_are_compared_on_the_same_terms(taken, eight_patients, small_store, tmp_path):
    random = open_foreign("random", "papagei-p")
    save_encoder(random, tmp_path / "papagei" / "teacher.safetensors", random.provenance)
    adopted = str(tmp_path / "papagei" / "teacher.safetensors")
    words = ["compare", "teachers", "student-mcu-s", adopted, "--data"]
    store = str(eight_patients / "store")
    assert main([*words, store, "--epochs", "3", "--out", str(tmp_path / "out")]) == 0
    found = json.loads((tmp_path / "out" / "teachers.json").read_text())
    assert [row["teacher"] for row in found["teachers"]] == ["student-mcu-s", "papagei"]
    assert found["teachers"][1]["licence"] == "none: random weights"
    assert all(row["int8_gate"] for row in found["teachers"])
    rest = {"tasks": "hr", "n_calibration": 256}
    assert [settings | rest for _, settings in taken] == [found["settings"]] * 2
    for row in found["teachers"]:
        (probes,) = row["probes"].values()
        assert probes.keys() == {"teacher", "student", "int8"}
        assert all(x["interval"][0] <= x["value"] <= x["interval"][1] for x in probes.values())
    # one student and one file: the same numbers, whoever the teacher is
    a, b = (next(iter(row["probes"].values())) for row in found["teachers"])
    assert a["student"] == b["student"] and a["teacher"] != b["teacher"]
    page = (tmp_path / "out" / "teachers.md").read_text()
    table = [line for line in page.splitlines() if line.startswith("|")]
    assert len(table) == 4 and table[0].count("|") == table[2].count("|") == 10
    # 20,000 crops by 3 epochs of 30
    assert "10 % of the default budget" in page and "no verdict" in page
    assert f"xmae compare teachers student-mcu-s {adopted} --data {store} --tier" in page
    # the same again: both rows are kept; with another budget it is no row of this table
    assert main([*words, store, "--epochs", "3", "--out", str(tmp_path / "out")]) == 0
    again = json.loads((tmp_path / "out" / "teachers.json").read_text())
    assert len(taken) == 2 and again["teachers"] == found["teachers"]
    assert main([*words, store, "--epochs", "4", "--out", str(tmp_path / "out")]) == 2
    main([*words, small_store, "--out", str(tmp_path / "few")])  # two to score are too few
    assert "not evaluable: 2 scored subjects" in (tmp_path / "few" / "teachers.md").read_text()


def test_a_stopped_comparison_goes_on(taken, eight_patients, tmp_path, monkeypatch):
    go, stopped = teachers.take_to_watch, []

    def stop(encoder, teacher, *more):
        if teacher == "student-mcu" and not stopped:
            stopped.append(teacher)
            raise KeyboardInterrupt
        return go(encoder, teacher, *more)

    monkeypatch.setattr(teachers, "take_to_watch", stop)
    both, store = ["student-mcu-s", "student-mcu"], str(eight_patients / "store")
    with pytest.raises(KeyboardInterrupt):
        teachers.teachers(both, store, str(tmp_path))
    assert [teacher for teacher, _ in taken] == ["student-mcu-s"]
    found = teachers.teachers(both, store, str(tmp_path))
    assert [teacher for teacher, _ in taken] == both
    assert [row["teacher"] for row in found["teachers"]] == both


def test_parameters_of_a_program_are_not_said_to_be_none():
    program = ProgramEncoder("onnx", {"sfreq": 50}, 8, 4)
    program.provenance = {"licence": "CC0-1.0"}
    file = {"model": "student", "format": "litert", "precision": "int8", "bytes": 1}
    file |= {"violations": [], "centred": {"median": 1.0, "p5": 1.0}}
    took = {"agreement": 0.5, "validate": {"models": [file]}}
    row = teachers.row_of("toy", program, took)
    assert teachers.parameters_of(row) == "a program"
    row = teachers.row_of("base", load_encoder("base"), took)
    assert teachers.parameters_of(row) == "566,912"


def test_only_programs_teach_without_tokens():
    program = ProgramEncoder("onnx", {"sfreq": 50}, 8, 4)
    teachers = [load_encoder("base"), open_foreign("random", "papagei-p"), program]
    assert [token_weight(teacher) for teacher in teachers] == [0.5, 0.5, 0.0]


def test_what_cannot_be_compared_is_one_line(small_store, tmp_path):
    with pytest.raises(UserError, match="at least two teachers"):
        teachers.teachers(["base"], small_store, str(tmp_path))
    with pytest.raises(UserError, match="unknown task 'pulse'"):
        teachers.teachers(["base", "student-mcu"], small_store, str(tmp_path), tasks="pulse")
