"""`xmae demo` with its real steps on less: six recordings, a few crops, one runtime.

The demo as it is runs in test_demo.py.
"""

import importlib
import json
from pathlib import Path

import pytest

from xmae.cli.demo import demo
from xmae.data.bidmc import bidmc_files

RECORDS = ("bidmc01", "bidmc02", "bidmc05", "bidmc06", "bidmc34", "bidmc43")  # of `small_store`
LESS = {  # module, verb, and what it is given instead
    "xmae.data.prepare.prepare": ("prepare", {}),
    "xmae.training.pretrain": ("pretrain", {"epochs": 1, "batch_size": 8, "options": {"steps": 2}}),
    "xmae.distill.distill": ("distill", {"crops": 64, "epochs": 1}),
    "xmae.export.export": ("export", {"targets": "litert", "precisions": "int8"}),
    "xmae.benchmarks.validate": ("validate", {"windows": 8, "rounds": 0}),
}


def with_less(verb, given, settings):
    """The verb with these settings, whatever its caller chose by name."""

    def run(*words, **chosen):
        return verb(*(given or words[:1]), *words[1:], **chosen | settings)

    return run


@pytest.mark.extended
def test_every_step_takes_up_what_the_one_before_left(small_store, tmp_path, monkeypatch):
    split = Path(small_store).parent / "split.csv"
    files = [str(path) for path in bidmc_files() if path.stem in RECORDS]
    for module, (name, settings) in LESS.items():
        home = importlib.import_module(module)
        given = [files] if name == "prepare" else None
        settings = settings | ({"split": str(split)} if name == "prepare" else {})
        monkeypatch.setattr(home, name, with_less(getattr(home, name), given, settings))

    result = demo(str(tmp_path), quick=True)

    steps = ["prepare", "pretrain", "distill", "export", "read", "validate"]
    assert list(result["seconds"]) == steps and result["out"].endswith("report.html")
    said = [line.split(":")[0] for line in result["summary"]]
    assert said[:2] == ["Data", "What the watch reads"] and said[-1] == "Drift gate"
    drift = json.loads((tmp_path / "validate" / "drift.json").read_text())
    assert result["gate_passed"] == drift["passed"]
    assert {row["model"] for row in drift["models"]} == {"teacher", "student"}
    page = (tmp_path / "report.html").read_text()
    assert all(part in page for part in result["summary"][0].split(": "))
