"""Nothing phones home: the verbs run under a resolver and sockets that are recorded and blocked."""

import os
import subprocess
import sys

import numpy as np
import pytest

from xmae.data.bidmc import bidmc_files
from xmae.privacy import OFF

SESSION = """
import time
import xmae
import onnxruntime
from onnx import TensorProto, helper
value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "ab"]
graph = helper.make_graph([helper.make_node("Abs", ["a"], ["b"])], "g", value[:1], value[1:])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
model.ir_version = 8
session = onnxruntime.InferenceSession(model.SerializeToString())
time.sleep(2)
"""
VERBS = """
import importlib, sys
from xmae.cli import VERBS, main
for module, _ in VERBS.values():
    importlib.import_module(module)
assert main(["prepare", sys.argv[1], "--out", sys.argv[2], "--split", "1,0,0"]) == 0
"""


def recorded(recorder, folder, code, *arguments, **variables):
    """Return what a Python program, without variables of its own against telemetry, asked of the
    net.
    """
    log, home = folder / "net.log", folder / "home"
    home.mkdir(exist_ok=True)
    plain = {name: value for name, value in os.environ.items() if name not in OFF}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=plain
        | {"LD_PRELOAD": str(recorder), "NET_LOG": str(log), "HOME": str(home)}
        | variables,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    left = sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file())
    return (log.read_text().splitlines() if log.is_file() else []), left


ASKING = """
import contextlib, socket
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for ask in (
    lambda: socket.create_connection(("example.org", 80)),
    lambda: socket.gethostbyname_ex("example.net"),
    lambda: socket.socket().connect(("192.0.2.1", 80)),
    lambda: socket.socket(socket.AF_INET6).connect(("::ffff:192.0.2.2", 80)),
    lambda: udp.sendto(b"x", ("192.0.2.3", 9)),
    lambda: udp.sendmsg([b"x"], [], 0, ("192.0.2.4", 9)),
):
    with contextlib.suppress(OSError):
        ask()
"""


def test_the_recorder_sees_each_way_to_ask(recorder, tmp_path):
    asked, _ = recorded(recorder, tmp_path, ASKING)
    assert asked == [
        "look-up example.org", "look-up example.net", "connect 192.0.2.1",
        "connect ::ffff:192.0.2.2", "send 192.0.2.3", "send 192.0.2.4",
    ]  # fmt: skip


def test_a_session_of_onnx_runtime_asks_nobody_and_leaves_nothing(recorder, tmp_path):
    pytest.importorskip("onnxruntime")
    assert recorded(recorder, tmp_path, SESSION) == ([], [])


def test_importing_every_verb_and_preparing_asks_nobody(recorder, tmp_path):
    with np.load(bidmc_files()[0]) as data:
        keys = ("ppg", "ppg_scale", "ppg_offset", "ecg", "ecg_scale", "ecg_offset", "fs")
        part = {
            key: data[key][:3750] if data[key].ndim else data[key] for key in keys if key in data
        }
    np.savez(tmp_path / "a.npz", **part)
    asked, _ = recorded(recorder, tmp_path, VERBS, tmp_path / "a.npz", tmp_path / "store")
    assert asked == []


@pytest.mark.extended
def test_the_whole_way_asks_nobody(recorder, tmp_path):
    # 1: the gate, after so little training
    code = "import sys\nfrom xmae.cli import main\nassert main(sys.argv[1:]) in (0, 1)"
    out = tmp_path / "demo"
    asked, _ = recorded(recorder, tmp_path, code, "demo", "--quick", "--out", out)
    assert asked == [] and (out / "report.html").is_file()


def test_statistics_of_ray_are_off():
    code = (
        "import xmae\nfrom ray._common.usage import "
        "usage_lib\nprint(usage_lib.usage_stats_enabled())"
    )
    pytest.importorskip("ray")
    plain = {name: value for name, value in os.environ.items() if name not in OFF}
    done = subprocess.run([sys.executable, "-c", code], env=plain, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


def test_who_wants_them_keeps_them(monkeypatch):
    from xmae.privacy import stay_home

    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    monkeypatch.delenv("DO_NOT_TRACK", raising=False)
    stay_home()
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "0" and os.environ["DO_NOT_TRACK"] == "1"
