"""Nothing phones home: prepare, pretrain, export and bench open no connection."""

import json
import subprocess
import sys

import numpy as np
import pytest

from xmae.data.bidmc import bidmc_files
from xmae.data.recording.readers import read_recording

SCRIPT = """
import json, socket, sys

asked = []
local = socket.AF_UNIX  # between own processes

def refused(self, address, *rest):
    if self.family != local:
        asked.append(str(address))
        raise OSError(f"a connection to {address}")
    return original(self, address, *rest)

original, lookup = socket.socket.connect, socket.getaddrinfo
socket.socket.connect = refused
socket.socket.connect_ex = refused
socket.getaddrinfo = lambda *words, **more: asked.append(str(words)) or lookup("127.0.0.1", None)

import xmae
from xmae.cli import main

if __name__ == "__main__":
    for words in json.loads(sys.argv[1]):
        code = main(words)
        assert code in (0, 1), (words, code)  # 1: a gate, after so little training
    assert not asked, asked
"""


@pytest.mark.slow
def test_no_verb_opens_a_connection(tmp_path):
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
        ["prepare", str(tmp_path / "in"), "--out", store, "--split", "0.34,0.33,0.33", "--min-quality", "-1"],
        ["pretrain", store, "--out", run, "--size", "small", "--epochs", "1", "--batch-size", "6"],
        ["export", f"{run}/encoder.safetensors", "--student", "student-mcu-s", "--data", store,
         "--targets", "onnx", "--n-calibration", "16", "--out", bundle],
        ["bench", bundle, "--data", store, "--out", str(tmp_path / "bench"), "--rounds", "1"],
    ]  # fmt: skip
    script = tmp_path / "verbs.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), json.dumps(verbs)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
