"""The drift gate of students for PPG and acceleration: on generated people, by their beats."""

import shutil
from inspect import signature
from types import SimpleNamespace

import numpy as np
import pytest

from xmae.beats.certainty import shipped_certainty
from xmae.benchmarks.harness import moving
from xmae.benchmarks.harness.beat_drift import FP32_BEATS
from xmae.benchmarks.harness.rows import BenchRow
from xmae.benchmarks.report.page import write_report
from xmae.benchmarks.validate import judge_moving, validate, verdict
from xmae.evaluation.moving_people import moving_people
from xmae.export.stream import int8_file
from xmae.models.checkpoint import load_encoder, save_encoder

LIMITS = {name: signature(validate).parameters[name].default for name in FP32_BEATS}
FEW = {"max_beat_ms_p99": 80.0, "max_rate_change": 5.0, "max_refusal_flips": 0.2}  # on two people
NAME = "student-motion"


class Two:
    """Two windows of a store."""

    subject = np.array(["a", "b"])

    def __len__(self):
        return 2


@pytest.fixture(scope="module")
def people():
    return moving_people(2, 8_700_000, family="skewed", seconds=40)


@pytest.fixture
def bundle(tmp_path, monkeypatch, people):
    """What the gate asks of a bundle: the shipped student in it, judged on two people."""
    monkeypatch.setattr(moving, "moving_people", lambda *_, **__: people)
    shutil.copy(int8_file(NAME), tmp_path / f"{NAME}_int8.tflite")
    encoder = load_encoder(NAME)
    save_encoder(encoder, tmp_path / "motion" / f"{NAME}.safetensors", encoder.provenance)
    student = SimpleNamespace(
        model=NAME, int8=f"{NAME}_int8.tflite", takes_acceleration=True, macs_per_second=540_000
    )
    resting = SimpleNamespace(model="student", takes_acceleration=False)
    manifest = SimpleNamespace(c=SimpleNamespace(models=[resting, student]))
    return SimpleNamespace(
        path=tmp_path, manifest=manifest, certainty=lambda _: shipped_certainty(NAME)
    )


def test_the_shipped_student_is_judged_by_its_beats(bundle):
    (row,) = judge_moving(bundle, LIMITS | FEW)
    assert row.violations == [] and row.name == f"{NAME} int8 litert"
    assert row.people == "48 generated people in motion" and row.windows == 8
    assert row.beats.beats > 60 and 0 < row.beats.median_ms < 2
    (cost,) = moving.moving_rows(bundle, BenchRow)
    assert cost.beats == row.beats and cost.bytes > 10_000


def test_other_weights_are_beyond_the_limits(bundle):
    encoder = load_encoder(NAME)
    encoder.to_map.weight.data[:2] = encoder.to_map.weight.data[:2].flip(0)
    weights = bundle.path / "motion" / f"{NAME}.safetensors"
    save_encoder(encoder, weights, encoder.provenance)
    (row,) = judge_moving(bundle, LIMITS)
    assert any("beat times, median" in violation for violation in row.violations)


def test_without_float_weights_nothing_has_passed(bundle):
    shutil.rmtree(bundle.path / "motion")
    (row,) = judge_moving(bundle, LIMITS)
    assert row.violations == [f"fails: {moving.NO_WEIGHTS}"]


def test_a_bundle_without_such_students_costs_nothing(bundle):
    bundle.manifest.c = None
    assert judge_moving(bundle, LIMITS) == []


def test_the_report_says_on_whom(bundle, tmp_path):
    rows = judge_moving(bundle, LIMITS | FEW)
    said = verdict(rows, [], SimpleNamespace(state="unsigned"), Two())
    assert said["passed"] and said["checked"] == 1
    assert f"{NAME} int8 litert: judged on 48 generated people in motion" in said["summary"]
    result = said | {"limits": {}, "reference": {"torch": "", "device": "", "latency_ms": {}}}
    write_report({"validate": result | {"hardware": None}}, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "48 generated people in motion" in page and "by its beats, below" in page
