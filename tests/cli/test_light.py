"""The light runtime: what `embed` and `bundle verify` say without PyTorch, SciPy and pandas is what
they say with them.
"""

import json
import shutil
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import xmae
from xmae import extras
from xmae.cli import main
from xmae.data.bidmc import bidmc_files
from xmae.data.recording.channels import ChannelMap
from xmae.data.recording.readers import plain_table, table
from xmae.errors import UserError
from xmae.export.targets.light import open_light
from xmae.reading import load

WITHOUT = (
    "torch", "lightning", "scipy", "pandas", "pyarrow", "sklearn", "neurokit2", "wfdb",
    "matplotlib", "joblib", "safetensors", "h5py", "cryptography", "onnxruntime",
)  # fmt: skip
SCRIPT = """
import sys
sys.modules.update(dict.fromkeys(sys.argv[1].split(",")))  # as if they were not installed
from xmae.cli import main
sys.exit(main(sys.argv[2:]))
"""


def light(*words):
    """Run one verb in a process that has none of `WITHOUT`."""
    command = [sys.executable, "-c", SCRIPT, ",".join(WITHOUT), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture(scope="module")
def csv_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("csv") / "recording.csv"
    done = light("data", "example", "--out", path)  # the core's own: no extra is asked for
    assert done.returncode == 0, done.stderr
    return path


def test_embed_says_the_same(watch_bundle, csv_file, tmp_path):
    for number, file in enumerate((csv_file, bidmc_files()[1])):
        words = ["embed", file, "--model", watch_bundle.path, "--out"]
        done = light(*words, tmp_path / f"light{number}")
        assert done.returncode == 0, done.stderr
        assert "Heart rate" in done.stderr or "heart rate" in done.stderr.lower()
        assert main(list(map(str, [*words, tmp_path / f"full{number}"]))) == 0
        a, b = (
            pd.read_csv(tmp_path / f"{kind}{number}" / "embeddings.csv").drop(columns="ppg_quality")
            for kind in ("light", "full")
        )
        assert list(a) == list(b) and len(a) >= 5
        numbers = [name for name in a if name != "record"]
        # a code of int8 may fall on the other side; embeddings are of the order of 1
        np.testing.assert_allclose(a[numbers], b[numbers], atol=0.15)
        assert (a["hr_ecg"] if "hr_ecg" in a else a.iloc[:, 2]).corr(
            b["hr_ecg"] if "hr_ecg" in b else b.iloc[:, 2]
        ) > 0.999


def test_verify_says_what_is_whole_and_what_is_not(watch_bundle, tmp_path):
    done = light("bundle", "verify", watch_bundle.path, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["models"] == {"student_int8.tflite": "runs"}
    copy = tmp_path / "bundle"
    shutil.copytree(watch_bundle.path, copy)
    with open(copy / "student_int8.tflite", "r+b") as file:
        file.seek(1000)
        file.write(b"\0\1\2\3")
    done = light("bundle", "verify", copy)
    assert done.returncode == 2 and "damaged or changed" in done.stderr


def test_what_needs_more_is_one_line(tmp_path):
    for words in (["embed", bidmc_files()[1]], ["pretrain", tmp_path]):
        done = light(*words)
        assert done.returncode == 2 and "xmae[train]" in done.stderr, done.stderr
        assert done.stderr.count("\n") == 1


def test_a_python_call_says_the_extra_too():
    script = SCRIPT.replace("from xmae.cli import main\n", "import xmae\n").replace(
        "sys.exit(main(sys.argv[2:]))", "xmae.pretrain"
    )
    command = [sys.executable, "-c", script, ",".join(WITHOUT)]
    done = subprocess.run(command, capture_output=True, text=True)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: xmae.pretrain needs ") and "'xmae[train]'" in last


def test_weights_without_pytorch_are_one_line(monkeypatch):
    monkeypatch.setenv("XMAE_LIGHT", "1")
    with pytest.raises(UserError, match=r"base: weights need PyTorch .* xmae.Stream reads beats"):
        load("base")


def test_the_smallest_extra_is_named(monkeypatch):
    metadata = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    lines = [
        f'{line}; extra == "{extra}"'
        for extra, found in metadata["optional-dependencies"].items()
        for line in found
    ]
    monkeypatch.setattr("importlib.metadata.requires", lambda name: ["numpy>=2", *lines])
    for package, extra in (
        ("torch", "train"), ("sklearn", "train"), ("ai_edge_litert", "lite"),
        ("ai_edge_quantizer", "edge"), ("tflite_micro", "firmware"), ("ray", "scale"),
        ("huggingface_hub", "hub"), ("polars", "edge"), ("fsspec", "train"),
    ):  # fmt: skip
        assert extras.extra_of(package) == extra, package


READ = """
import xmae
recording = xmae.read(sys.argv[2])
stream = xmae.Stream(sfreq=recording.sfreq)
results = stream.read(recording.ppg)
beats = [stream.seconds_of(ticks) for result in results for ticks, _ in result.beats]
print([result.rate for result in results], beats, [m for m in sys.modules if m == "scipy.signal"])
"""


def test_a_stream_reads_the_same_beats(csv_file):
    script = SCRIPT.replace("from xmae.cli import main\nsys.exit(main(sys.argv[2:]))\n", READ)
    command = [sys.executable, "-c", script, ",".join(WITHOUT), str(csv_file)]
    done = subprocess.run(command, capture_output=True, text=True)
    recording = xmae.read(csv_file)
    stream = xmae.Stream(sfreq=recording.sfreq)
    results = stream.read(recording.ppg)
    beats = [
        stream.seconds_of(ticks)
        for ticks, _ in chain.from_iterable(result.beats for result in results)
    ]
    assert done.stdout == f"{[result.rate for result in results]} {beats} []\n", done.stderr
    assert len(beats) > 40 and results[-1].rate > 0


def test_formats_are_opened_or_named(watch_bundle):
    entry = watch_bundle.all_models[0]
    windows = np.random.default_rng(0).uniform(-1, 1, (3, 1000)).astype(np.float32)
    got = open_light(watch_bundle.path / entry.file, "litert")(windows)
    np.testing.assert_array_equal(got, watch_bundle.session(entry)(windows))
    with pytest.raises(UserError, match="executorch needs PyTorch"):
        open_light("x.pte", "executorch")
    with pytest.raises(UserError, match="not a readable file for litert"):
        open_light(__file__, "litert")


def test_plain_tables_are_read_as_pandas_reads_them(csv_file, tmp_path):
    semicolons = tmp_path / "s.csv"
    semicolons.write_text(
        "# by hand\nt (ms);PPG\n" + "".join(f"{10 * i};{i % 70}\n" for i in range(2000))
    )
    for path in (csv_file, semicolons):
        (a,), (b,) = (list(reader.read(path, ChannelMap())) for reader in (plain_table, table))
        np.testing.assert_allclose(a.ppg, b.ppg)
        assert a.sfreq == pytest.approx(b.sfreq, rel=1e-4) and a.record == b.record


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("time,ppg\n0,1\n0.01,2\n0.02,3\n9,4\n", "gaps or uneven"),
        ("time,ppg\n0,1\n0,2\n", "do not go forward"),
        ("time,ppg\n2024-01-01,1\n2024-01-02,2\n", "could not convert"),
        ("time,ppg\n0,1,2\n", "another length"),
        ("ppg\n", "line of names"),
        ("ppg\n1\n2\n", "no sampling rate"),
    ],
)
def test_tables_beyond_the_plain_ones_are_named(tmp_path, text, reason):
    path = tmp_path / "x.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=reason):
        list(plain_table.read(path, ChannelMap()))
