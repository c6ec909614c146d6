"""The scripts that write the committed tables: which command, of what, and what they say to a
mistake.
"""

import re
import sys
from importlib.util import find_spec
from pathlib import Path
from runpy import run_module
from types import SimpleNamespace

import numpy as np
import pytest

from xmae.benchmarks.release.ship_weights import describe
from xmae.benchmarks.studies import int8_methods
from xmae.benchmarks.studies.students import tiers_table
from xmae.cli import VERBS
from xmae.data.bidmc import bidmc_files
from xmae.data.prepare.prepare import prepare_recording
from xmae.data.recording.readers import read_recording
from xmae.models import McuStudent

ROOT = Path(__file__).parents[2]
TABLES = [*(ROOT / "benchmarks" / "results").glob("*.md"), ROOT / "docs" / "targets.md"]


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.name)
def test_a_committed_table_names_the_command_that_makes_it(path):
    text = path.read_text()
    modules = re.findall(r"python -m ((?:xmae|tests)[\w.]+)", text)
    verbs = re.findall(r"^ *xmae (\w+)", text, re.MULTILINE)
    first_words = {verb.split()[0] for verb in VERBS}
    assert (modules or verbs) and all(map(find_spec, modules)) and first_words >= set(verbs)


@pytest.mark.parametrize(
    ("script", "arguments", "said"),
    [
        (
            "studies.int8_methods",
            ["nothing", "store", "--out", "kept.md"],
            "holds no encoder.safetensors of any method",
        ),
        (
            "studies.int8_methods",
            ["compared", "store", "--out", "kept.md", "--methods", "xmae,xmea"],
            "of xmea; make it",
        ),
        (
            "studies.ptq_qat",
            ["--out", "kept.md", "--work", "kept.md"],
            "kept.md/store: File exists",
        ),
        (
            "studies.side_by_side",
            ["--bundle", "nothing", "--store", "nothing", "--out", "kept.md"],
            "nothing: no bundle",
        ),
        ("studies.students", ["nothing", "nothing"], "nothing: no bundle"),
        ("studies.distill_losses", ["nothing"], "nothing: no store of windows"),
        ("release.support_matrix", ["nothing", "nothing", "kept.md"], "nothing: no bundle"),
        (
            "release.ship_weights",
            ["nothing", "weights", "bsae=x"],
            "'bsae=x' is not NAME=FILE with a name of base",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and re.fullmatch(r"[\w.]+", value) else "",
)
def test_a_mistake_in_what_a_table_is_made_of_is_one_line(
    script, arguments, said, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "compared" / "xmae").mkdir(parents=True)
    (tmp_path / "compared" / "xmae" / "encoder.safetensors").touch()
    (tmp_path / "kept.md").write_text("the committed result")
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    monkeypatch.delitem(sys.modules, f"xmae.benchmarks.{script}", raising=False)
    with pytest.raises(SystemExit) as ended:
        run_module(f"xmae.benchmarks.{script}", run_name="__main__")
    err = capsys.readouterr().err
    assert ended.value.code == 2 and said in err and len(err.strip().splitlines()) == 1, err
    assert (tmp_path / "kept.md").read_text() == "the committed result"


def test_int8_is_not_compared_on_the_windows_that_set_its_ranges(monkeypatch, tmp_path):
    """In a store without validation subjects both are of training subjects."""
    windows = prepare_recording(read_recording(bidmc_files()[0]), min_quality=-1)[0]
    windows.split = np.full(len(windows), "train")
    store, seen = (
        SimpleNamespace(splits={"a": "train"}, windows=lambda split: windows, path="store"),
        [],
    )

    def convert(graph, file, precision, calibration):
        seen.append(calibration)
        file.touch()

    def open_model(file):
        return lambda ppg: seen.append(ppg) or np.ones((len(ppg), 256))

    target = SimpleNamespace(
        suffix=".x",
        convert=convert,
        open=open_model,
        inspect=lambda file: {"undelegated": None},
    )
    monkeypatch.setattr(int8_methods, "FORMATS", {"onnx": target})
    monkeypatch.setattr(int8_methods, "N_CALIBRATION", 20)
    int8_methods.measure(McuStudent().eval(), store, tmp_path)
    calibration, compared = ({x.tobytes() for x in ppg} for ppg in seen[:2])
    assert (
        len(calibration) == 20 and len(compared) == len(windows) - 20 and not calibration & compared
    )


@pytest.mark.parametrize(
    ("key", "whom"), [("cosine", "its teacher"), ("cosine_to_float", "itself in float")]
)
def test_tables_say_to_whom_a_student_is_close(key, whom):
    encoder = McuStudent().eval()
    encoder.provenance = {
        "windows_seen": 1,
        "seconds": 1,
        "device": "a CPU",
        "settings": {},
        key: 0.9,
    }
    assert f"- centred cosine to {whom}" in describe("student", encoder)
    tasks = {"hr": {"encoders": {("student", "pytorch"): {"value": 4.0, "interval": None}}}}
    assert f"| 0.900 to {whom}" in tiers_table({"student": encoder}, tasks, [])
