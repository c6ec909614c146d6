"""Nothing phones home: import, prepare, pretrain, export, bench and simulate look up no name and
open no connection: not in Python, where this machine itself counts too, nor in libraries in C.
"""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from xmae.data.bidmc import bidmc_files
from xmae.data.recording.readers import read_recording
from xmae.privacy import OFF

# read by every Python that starts with this folder on its path: those of workers and of bench too
CUSTOMIZE = """
import os, socket

connect, lookup = socket.socket.connect, socket.getaddrinfo

def ask(address):
    with open(os.path.join(os.path.dirname(__file__), "asked.txt"), "a") as file:
        file.write(f"{address}\\n")
    raise OSError(f"a connection to {address}")

def refused(self, address, *rest):
    if self.family == socket.AF_UNIX:  # between own processes
        return connect(self, address, *rest)
    return ask(address)

socket.socket.connect = socket.socket.connect_ex = refused
socket.getaddrinfo = lambda *words, **more: ask(words)
"""
SCRIPT = """
import json, sys
import xmae
from xmae.cli import VERBS, function_of, main

if __name__ == "__main__":
    for name in xmae.__all__:
        getattr(xmae, name)
    for verb in VERBS:
        function_of(verb)
    for words in json.loads(sys.argv[1]):
        assert main(words) in (0, 1), words  # 1: a gate, after so little training
"""


@pytest.mark.extended
def test_no_verb_opens_a_connection(recorder, tmp_path):
    pytest.importorskip("onnxruntime")
    (tmp_path / "in").mkdir()
    for path in bidmc_files()[:3]:
        recording = read_recording(path)
        n_times = int(180 * recording.sfreq)
        np.savez(
            tmp_path / "in" / path.name, ppg=recording.ppg[:n_times], ecg=recording.ecg[:n_times],
            fs=recording.sfreq, patient=path.stem,
        )  # fmt: skip
    store, run, bundle = (str(tmp_path / name) for name in ("store", "run", "bundle"))
    verbs = [
        [
            "prepare",
            str(tmp_path / "in"),
            "--out",
            store,
            "--split",
            "0.34,0.33,0.33",
            "--min-quality",
            "-1",
        ],
        ["pretrain", store, "--out", run, "--size", "small", "--epochs", "1", "--batch-size", "6"],
        [
            "export",
            f"{run}/encoder.safetensors",
            "--student",
            "student-mcu-s",
            "--data",
            store,
            "--targets",
            "onnx",
            "--precisions",
            "fp32",
            "--n-calibration",
            "16",
            "--out",
            bundle,
        ],
        [
            "bench",
            bundle,
            "--data",
            store,
            "--out",
            str(tmp_path / "bench"),
            "--rounds",
            "1",
            "--starts",
            "1",
            "--windows",
            "4",
        ],
    ]
    run_trapped(recorder, verbs, tmp_path)


@pytest.mark.extended
@pytest.mark.slow
def test_an_emulated_watch_opens_no_connection(recorder, watch_bundle, tmp_path):
    pytest.importorskip("unicorn")
    words = ["simulate", str(watch_bundle.path), "--signal", str(bidmc_files()[1])]
    words += ["--device", "stm32u5", "--out", str(tmp_path / "watch")]
    run_trapped(recorder, [words], tmp_path)


def run_trapped(recorder, verbs, folder):
    """Import all, run verbs in turn; fail if one asks for a connection or does not end well."""
    (folder / "verbs.py").write_text(SCRIPT)
    (folder / "sitecustomize.py").write_text(CUSTOMIZE)
    command = [sys.executable, "verbs.py", json.dumps(verbs)]
    plain = {name: value for name, value in os.environ.items() if name not in OFF}
    watched = {"LD_PRELOAD": str(recorder), "NET_LOG": str(folder / "net.log")}
    env = plain | watched | {"PYTHONPATH": str(folder)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=env)
    for asked in (folder / "asked.txt", folder / "net.log"):
        assert not asked.exists(), asked.read_text()
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_trap_works(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(CUSTOMIZE)
    code = "import socket; socket.create_connection(('127.0.0.1', 9), 1)"
    env = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=env)
    assert done.returncode and "127.0.0.1" in (tmp_path / "asked.txt").read_text()
