"""`xmae demo --quick` from one end to the other, as a process; and what can be done with its bundle
alone.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from xmae.benchmarks.report.page import number, size
from xmae.data.bidmc import bidmc_files
from xmae.data.store.store import WindowStore
from xmae.export.bundle.bundle import Bundle
from xmae.models.checkpoint import load_encoder

pytestmark = pytest.mark.extended
RUNTIMES = ("executorch", "litert", "onnx")
OF_BEATS = {"hr", "certainty", "n_beats", "rmssd", "sdnn", "irregularity"}
RECORDING = str(bidmc_files()[0])


def xmae(*line, folder):
    return subprocess.run(
        [sys.executable, "-m", "xmae", *map(str, line)],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=1500,
    )


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Return one run: its folder, printed result, and everything on standard error."""
    folder = tmp_path_factory.mktemp("demo")
    done = xmae("demo", "--quick", "--out", "run", "--json", folder=folder)
    assert done.returncode in (0, 1), done.stderr[-3000:]  # so little training need not pass
    result = json.loads(done.stdout)
    assert done.returncode == int(not result["passed"])
    return folder / "run", result, done.stderr


@pytest.fixture(scope="module")
def drift(demo):
    return json.loads((demo[0] / "validate" / "drift.json").read_text())


@pytest.fixture(scope="module")
def page(demo):
    return (demo[0] / "report.html").read_text()


@pytest.fixture(scope="module")
def alone(demo, tmp_path_factory):
    """Return the bundle and nothing else, elsewhere."""
    return Path(shutil.copytree(demo[0] / "bundle", tmp_path_factory.mktemp("alone") / "bundle"))


def test_it_ends_with_a_verdict_and_the_report(demo, drift):
    run, result, err = demo
    assert result["passed"] == drift["passed"]
    assert result["out"] == "run/report.html" and (run / "report.html").is_file()
    assert result == json.loads((run / "metrics.json").read_text())
    n = len(result["summary"])
    assert err.rstrip().splitlines()[-n:] == result["summary"]
    said = [line.split(":")[0] for line in result["summary"]]
    assert said[:5] == ["Data", "What the watch reads", "Beats", "What int8 costs", "Pretraining"]
    assert said[-1] == "Drift gate"
    steps = ["prepare", "pretrain", "distill", "export", "read", "validate"]
    assert list(result["seconds"]) == steps and all(f"demo: {step}" in err for step in steps)


def test_no_patient_is_in_two_splits_and_tests_are_of_unseen_ones(demo, drift):
    store = WindowStore(demo[0] / "store")
    assert len(store.splits) >= 12
    parts = {split: set(store.windows(split).subject) for split in ("train", "val", "test")}
    assert sum(map(len, parts.values())) == len(set.union(*parts.values())) == len(store.splits)
    assert drift["subjects"] == len(parts["test"]) and drift["windows"] == len(
        store.windows("test")
    )
    assert (
        set(Bundle.open(demo[0] / "bundle").manifest.data["calibration"]["subjects"])
        <= parts["train"]
    )


def test_the_page_stands_alone(page):
    links = re.findall(r"""(?:src|href)\s*=\s*["']([^"']*)""", page) + re.findall(
        r"url\(([^)]*)\)", page
    )
    assert links and all(link.startswith(("data:", "#")) for link in links)
    assert (
        page.count("<script") == page.count("<script>") == 1
        and "@import" not in page
        and 'name="viewport"' in page
    )
    # beats, then a reconstruction; loss, 2 by 3 costs
    assert page.count("data:image/png;base64,") == 2 and page.count("<svg") == 7
    assert page.index("Beats and heart rate") < page.index("rebuild masked ECG")


def test_beats_are_read_on_people_that_the_timing_never_saw(demo, page):
    result = json.loads((demo[0] / "read.json").read_text())
    ours, weights, rival = result["methods"]
    assert result["subjects"] == 34 and (demo[0] / "beats.png").is_file()
    assert ours["error_bpm"] < 0.7 * rival["error_bpm"] and ours["f1"] > rival["f1"]
    assert abs(ours["error_bpm"] - weights["error_bpm"]) < 0.1
    assert not {"bidmc01"} & set(load_encoder("beats-mcu").provenance["splits"])
    assert all(f"{one['error_bpm']:.2f}" in page for one in result["methods"])


def test_the_page_shows_what_was_measured(demo, drift, page):
    run, bundle = demo[0], demo[0] / "bundle"
    files = {(e.model, e.format, e.precision): e.file for e in Bundle.open(bundle).models}
    assert len(files) == 2 * len(RUNTIMES) * 2
    files |= {
        (model, "pytorch", "fp32"): f"{model}.safetensors" for model in ("teacher", "student")
    }
    rows = {(row["model"], row["format"], row["precision"]): row for row in drift["models"]}
    assert rows.keys() == files.keys()
    for key, row in rows.items():
        assert "missing" not in row and "failure" not in row
        for measured in (row["centred"]["median"], row["centred"]["p5"], row["cosine"]["median"]):
            assert f"<td>{measured:.5f}</td>" in page
        assert (
            f">{number(row['latency_ms'])}<small>" in page and f">{size(row['bytes'])}</td>" in page
        )
        assert row["bytes"] == (bundle / files[key]).stat().st_size
    pretrained = json.loads((run / "pretrain" / "metrics.json").read_text())
    assert number(pretrained["val_ratio"]) in page and pretrained["device"] in page
    assert number(json.loads((run / "distill" / "metrics.json").read_text())["cosine"]) in page
    assert drift["hardware"]["cpu"] in page
    assert (">failed<" in page) != drift["passed"] and all(
        text in page for text in demo[1]["summary"][0].split(": ")
    )


def test_fp32_exports_keep_what_the_weights_say(drift):
    for row in drift["models"]:
        if row["precision"] == "fp32":
            assert row["violations"] == [] and row["centred"]["p5"] > 0.999


def test_the_gate_runs_from_the_bundle_alone(demo, drift, alone, tmp_path):
    done = xmae(
        "validate",
        alone,
        "--data",
        demo[0] / "store",
        "--windows",
        40,
        "--rounds",
        0,
        "--json",
        folder=tmp_path,
    )
    result = json.loads(done.stdout)
    assert done.returncode == (0 if result["passed"] else 1) and result["windows"] == 40
    assert {row["format"] for row in result["models"] if row.get("centred")} == {
        "pytorch",
        *RUNTIMES,
    }
    assert (tmp_path / result["out"] / "drift.json").is_file()
    # fewer windows, the same models
    for row, before in zip(result["models"], drift["models"], strict=True):
        assert row["centred"]["median"] == pytest.approx(before["centred"]["median"], abs=0.02)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_it_embeds_from_the_bundle_alone(alone, tmp_path, runtime):
    tables, trusted = {}, Bundle.open(alone).trusted_heads("student").keys()
    for part, precision in (("student", "int8"), ("student", "fp32")):
        done = xmae(
            "embed", RECORDING, "--model", alone, "--target", runtime, "--part", part,
            "--precision", precision, "--out", precision, "--json", folder=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        result = json.loads(done.stdout)
        tables[precision] = pd.read_csv(tmp_path / result["out"])
        assert result["windows"] == len(tables[precision]) == 48
        # what beats say, and heads with skill; the heart rate is that of the beats
        assert result["median"].keys() == trusted | OF_BEATS
        assert 20 < result["median"]["hr"] < 220
    plain = xmae(
        "embed",
        RECORDING,
        "--model",
        alone / "student.safetensors",
        "--out",
        "plain",
        "--json",
        folder=tmp_path,
    )
    tables["pytorch"] = pd.read_csv(tmp_path / json.loads(plain.stdout)["out"])
    embeddings = {name: table.filter(regex=r"^e\d").to_numpy() for name, table in tables.items()}
    assert embeddings["int8"].shape == (48, load_encoder(alone / "student.safetensors").embed_dim)
    np.testing.assert_allclose(embeddings["fp32"], embeddings["pytorch"], atol=1e-3)
    assert (tables["int8"]["start_s"] == np.arange(48) * 10).all()
    assert all((name in table) for name in trusted for table in (tables["int8"], tables["fp32"]))
    assert np.corrcoef(embeddings["int8"].ravel(), embeddings["fp32"].ravel())[0, 1] > 0.9
