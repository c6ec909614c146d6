"""Watches with a Cortex-A: the aarch64 wheel of LiteRT under qemu-user, in a small arm64 system made for it.

`setup_root` fetches a Python 3.11 for arm64 (Debian packages, unpacked, nothing installed) and the wheels, some 200 MB,
into the user's cache. Windows come from the same streaming pre-processing as on a microcontroller. A plugin counts the
instructions between two marks that the program in there sets by a system call nobody else uses.

QEMU 7.2 has no Cortex-A55; a Cortex-A76 whose `/proc/cpuinfo` names the A55 makes XNNPACK choose the A55's kernels.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import numpy as np

from xmae.errors import UserError
from xmae.export.session import from_int8, to_int8
from xmae.files import atomic_folder
from xmae.firmware_sim.compile import BOARDS, compile_host
from xmae.firmware_sim.cost import compute_cycles, estimates, millijoules, milliseconds, spread
from xmae.firmware_sim.frame import Status
from xmae.firmware_sim.play import timeline_row
from xmae.signals.stream import BUFFER_S, bridge_lost, stream_windows

MARKER = "ready.json"
DEBIAN = (
    "python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib", "libc6", "libgcc-s1", "libstdc++6", "zlib1g",
    "libexpat1", "libssl3", "libffi8", "libbz2-1.0", "liblzma5", "libcrypt1", "libuuid1",
)  # fmt: skip
WHEELS = ("numpy", "ai-edge-litert")  # at the versions that are installed here
PURE = ("flatbuffers", "typing-extensions", "tqdm", "backports.strenum")
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64")
CPUS = {"a53": ("cortex-a53", "0xd03"), "a55": ("cortex-a76", "0xd05")}  # QEMU's name, part number in cpuinfo
FEATURES = {"a53": "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"}
FEATURES["a55"] = FEATURES["a53"] + " atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp"
PROGRAM = """
import ctypes, json, sys
import numpy as np
from ai_edge_litert.interpreter import Interpreter
mark = ctypes.CDLL(None).syscall
model, source, sink = sys.argv[1:]
interpreter = Interpreter(model_path=model, num_threads=1)
interpreter.allocate_tensors()
first, last = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
rows = []
for codes in np.load(source):
    interpreter.set_tensor(first["index"], codes.reshape(first["shape"]))
    mark(5050, 0x5050, 1, 0, 0, 0, 0)
    interpreter.invoke()
    mark(5050, 0x5050, 2, 0, 0, 0, 0)
    rows.append(interpreter.get_tensor(last["index"]).ravel().copy())
np.save(sink, np.array(rows, np.int8))
"""


def root_path():
    """Where the arm64 system is kept."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "xmae" / "arm64"


def is_set_up():
    """Whether qemu-user and the arm64 system are there."""
    return shutil.which("qemu-aarch64") is not None and (root_path() / MARKER).is_file()


def setup_root():
    """Build the arm64 system, unless it is there; returns its folder.

    Raises
    ------
    UserError
        If qemu-user, apt or dpkg is missing, or a package cannot be fetched.
    """
    for tool, package in (("qemu-aarch64", "qemu-user"), ("apt-get", "apt"), ("dpkg", "dpkg")):
        if shutil.which(tool) is None:
            raise UserError(f"{tool} is not installed; apt-get install {package}")
    root = root_path()
    if (root / MARKER).is_file():
        return root
    with atomic_folder(root, MARKER) as folder, tempfile.TemporaryDirectory() as scratch:
        for package in fetch_debian(Path(scratch)):
            command(["dpkg", "-x", package, folder])
        wheels = [f"{name}=={version(name)}" for name in WHEELS] + list(PURE)
        platforms = [word for name in PLATFORMS for word in ("--platform", name)]
        command(
            [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:", *platforms,
             "--python-version", "3.11", "--target", folder / "site", *wheels]
        )  # fmt: skip
        (folder / "proc").mkdir()
        (folder / "run.py").write_text(PROGRAM)
        (folder / MARKER).write_text(json.dumps({"wheels": wheels}))
    return root


def fetch_debian(folder):
    """Download `DEBIAN` for arm64 with an apt of its own: the system's package lists stay as they are."""
    for name in ("lists/partial", "cache/archives/partial", "debs"):
        (folder / name).mkdir(parents=True)
    (folder / "status").touch()
    options = {
        "APT::Architecture": "arm64", "APT::Architectures": "arm64", "Dir::State::status": folder / "status",
        "Dir::State::lists": folder / "lists", "Dir::Cache": folder / "cache", "APT::Sandbox::User": "root",
    }  # fmt: skip
    apt = ["apt-get", "-qq", *(word for key, value in options.items() for word in ("-o", f"{key}={value}"))]
    command([*apt, "update"])
    command([*apt, "download", *DEBIAN], cwd=folder / "debs")
    return sorted((folder / "debs").glob("*.deb"))


def command(words, **options):
    """Run a program; what it complains about becomes the message."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, **options)
    if done.returncode:
        raise UserError(f"{words[0]} failed: {(done.stderr or done.stdout).strip()[-300:]}")
    return done.stdout


def run_litert(model, codes, core):
    """Embed int8 windows with LiteRT on an emulated Cortex-A.

    Parameters
    ----------
    model : Path
        Int8 `.tflite`.
    codes : int8 array, shape (n, 1000)
        Inputs.
    core : str
        "a53" or "a55".

    Returns
    -------
    embeddings : int8 array, shape (n, D)
    instructions : list of int
        Of each inference.

    Raises
    ------
    UserError
        If the emulator is not set up or fails.
    """
    if not is_set_up():
        raise UserError("Cortex-A needs apt-get install qemu-user, then xmae simulate --setup")
    root, (cpu, part) = root_path(), CPUS[core]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        plugin = compile_host([BOARDS / "count_user.c"], folder / "count.so", kernels=False)
        (root / "proc" / "cpuinfo").write_text(cpuinfo(part, FEATURES[core]))
        np.save(folder / "in.npy", codes)
        env = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"}
        settings = ["-E", f"PYTHONPATH={root / 'site'}", "-E", f"PYTHONHOME={root / 'usr'}"]
        command(
            ["qemu-aarch64", "-L", root, "-cpu", cpu, *settings, "-plugin", f"{plugin},out={folder / 'counts'}",
             root / "usr/bin/python3.11", root / "run.py", model, folder / "in.npy", folder / "out.npy"],
            env=env,
        )  # fmt: skip
        counts = [int(line) for line in (folder / "counts").read_text().split()]
        return np.load(folder / "out.npy"), counts


def cpuinfo(part, features):
    """An Arm `/proc/cpuinfo`; without one, LiteRT and ONNX Runtime crash under qemu-user."""
    lines = [
        "processor\t: 0", "BogoMIPS\t: 48.00", f"Features\t: {features}", "CPU implementer\t: 0x41",
        "CPU architecture: 8", "CPU variant\t: 0x0", f"CPU part\t: {part}", "CPU revision\t: 4",
    ]  # fmt: skip
    return "\n".join(lines) + "\n\n"


def play_cortex_a(bundle, device, codes, rate, hop_s):
    """A recording through the student on a Cortex-A: result and embeddings as `xmae.firmware_sim.play.play` gives them.

    Parameters
    ----------
    bundle, device : Bundle, Device
        What to run, and on what.
    codes : array, shape (n_times,)
        Converter codes, NaN = lost: bridged by straight lines.
    rate, hop_s : int
        Sampling rate, Hz; seconds between windows.
    """
    known = np.flatnonzero(np.isfinite(codes))
    codes = codes[known[0] : known[-1] + 1]
    lost = np.lib.stride_tricks.sliding_window_view(np.isnan(codes), BUFFER_S * rate)[:: hop_s * rate].sum(axis=1)
    windows, start_s = stream_windows(bridge_lost(codes), rate, hop_s)
    entry, heads = bundle.entry("student", "litert", "int8"), bundle.heads["student"]
    inputs = to_int8(windows, entry["input"]["scale"], entry["input"]["zero_point"])
    embeddings, counts = run_litert((bundle.path / entry["file"]).resolve(), inputs, device.core)
    real = from_int8(embeddings, entry["output"]["scale"], entry["output"]["zero_point"]).astype(np.float64)
    said = np.stack([real @ head["weight"] + head["bias"] for head in heads.values()], axis=1)
    latency = milliseconds(compute_cycles(Counter(alu=float(np.median(counts))), device), device)
    cost = {
        "counts": {
            "instructions_a_window": int(np.median(counts)),
            "network_instructions": int(np.median(counts)),
            **spread(counts),
        },
        "estimated": estimates(latency, latency, millijoules(latency, device.active_mw), device),
        "layers": [],
    }
    offset_s = known[0] / rate
    here = to_int8(bundle.session(entry)(windows), entry["output"]["scale"], entry["output"]["zero_point"])
    same = (here == embeddings).all(axis=1)
    return {
        "results": [
            timeline_row(start + offset_s, cost, Status.LOST if n else Status(0), n, 0, values, heads)
            for start, n, values in zip(start_s, lost, said, strict=True)
        ],
        "skill": {name: head["skill"] for name, head in heads.items()},
        "windows": len(same),
        "valid": len(same),
        "bit_exact": {"windows": len(same), "equal": int(same.sum()), "with": "LiteRT on this machine"},
        **cost,
    }, embeddings
