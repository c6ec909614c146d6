"""`xmae simulate student-motion`: a walk on an emulated watch, with the bits of MotionStream."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from xmae.benchmarks.simulate_motion import moving_student
from xmae.cli import main
from xmae.export.bundle.bundle import Bundle
from xmae.twin.people import RHYTHMS, draw_person


def recording(folder, moves):
    """Return a generated person who rests and walks, as a file."""
    plan = {"plan": [("rest", 10.0), ("walk", 14.0)]} if moves else {}
    generator = torch.Generator().manual_seed(3)
    person = draw_person(24.0, generator, RHYTHMS["sinus"], moves, 0.0, **plan)
    path = folder / "walk.npz"
    np.savez(path, patient="twin", record="walk", **person)
    return path


@pytest.mark.extended
def test_a_walk_on_an_emulated_watch(tmp_path):
    out = tmp_path / "out"
    line = ["simulate", "student-motion", "--signal", str(recording(tmp_path, True))]
    assert main([*line, "--sfreq", "64", "--out", str(out)]) == 0
    (played,) = json.loads((out / "simulate.json").read_text())["devices"].values()
    assert played["bit_exact"]["equal"] == played["bit_exact"]["results"] > 15
    assert all(limit["met"] for limit in played["limits"].values())
    assert max(row["activity_g"] for row in played["results"]) > 0.1
    assert any(row["heart_rate_bpm"] for row in played["results"])


def test_a_bundle_names_its_student_for_acceleration(tmp_path):
    models = [
        SimpleNamespace(model="student", takes_acceleration=False),
        SimpleNamespace(model="moving", name="own", int8="m.tflite", takes_acceleration=True),
    ]
    manifest = SimpleNamespace(c=SimpleNamespace(models=models), certainty={})
    found = moving_student(Bundle(tmp_path, manifest, {}), "moving")
    assert (found.name, found.path) == ("own", tmp_path / "m.tflite")
    assert moving_student(Bundle(tmp_path, manifest, {}), "student") is None
    without = SimpleNamespace(c=None)
    assert moving_student(Bundle(tmp_path, without, {}), "moving") is None


def test_a_recording_without_acceleration_is_refused(tmp_path, capsys):
    line = ["simulate", "student-motion", "--signal", str(recording(tmp_path, False))]
    assert main([*line, "--out", str(tmp_path / "out")]) == 2
    assert "no acceleration" in capsys.readouterr().err
