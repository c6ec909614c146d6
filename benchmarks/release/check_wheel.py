"""The wheel in a bare environment: built, installed with one extra, timed and used.

    python -m xmae.benchmarks.release.check_wheel lite BUNDLE

prints what docs/lite.md has: packages, MB on disk, seconds to import, to say its help and to run
what the extra is for. Extras: plain (none), lite, train, edge, firmware. A bundle is for lite
(embed, verify) and firmware (an emulated watch).
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

from xmae.benchmarks.studies.runner import run_tool
from xmae.data.bidmc import bidmc_files

ROOT = Path(__file__).parents[2]
MODULES = {  # what must import with an extra
    "plain": ("numpy", "xmae.cli"),
    "lite": ("ai_edge_litert",),
    "train": ("torch", "lightning", "xmae.training.pretrain"),
    "edge": ("executorch", "litert_torch", "onnxruntime", "xmae.export.export"),
    "firmware": ("unicorn", "ziglang", "xmae.firmware_sim"),
}
PREPARE = [
    "prepare", *map(str, bidmc_files()[:3]), "--split", "0.34,0.33,0.33", "--min-quality", "-1",
    "--out", "OUT/store",
]  # fmt: skip
PRETRAIN = ["pretrain", "OUT/store", "--out", "OUT/run", "--size", "small", "--epochs", "1"]
EXPORT = [
    "export", "base", "--student", "beats-mcu", "--data", "OUT/store", "--precisions", "int8",
    "--targets", "litert,c", "--n-calibration", "16", "--out", "OUT/bundle",
]  # fmt: skip
SIMULATE = [
    "simulate", "BUNDLE", "--signal", str(bidmc_files()[1]), "--device", "stm32u5",
    "--out", "OUT/watch",
]  # fmt: skip
VERBS = {  # what an extra is for; OUT and BUNDLE are places
    "plain": {"example": ["data", "example", "--out", "OUT/example.csv"]},
    "lite": {"verify": ["bundle", "verify", "BUNDLE"]},
    "train": {"prepare": PREPARE, "pretrain": PRETRAIN},
    "edge": {"prepare": PREPARE, "export": EXPORT},
    "firmware": {"simulate": SIMULATE},
}
READ = """
import json, sys, time
begun = time.perf_counter()
import xmae
recording = xmae.read(sys.argv[1])
opened = time.perf_counter()
stream = xmae.Stream(sfreq=recording.sfreq)
results = stream.read(recording.ppg)
rates = sorted(result.rate for result in results if result.rate)
print(json.dumps({
    "stream_open_s": opened - begun,
    "stream_read_s": time.perf_counter() - opened,
    "stream_seconds": len(results),
    "stream_beats": sum(len(result.beats) for result in results),
    "stream_rate": rates[len(rates) // 2] / 100,
}))
"""
BEST_OF = 10  # of short times


def build_wheel(folder):
    """Build the wheel of this checkout into a folder; return its path."""
    shutil.rmtree(ROOT / "build", ignore_errors=True)  # modules of an earlier one would come along
    command = ["wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    run([sys.executable, "-m", "pip", *command])
    (wheel,) = Path(folder).glob("xmae-*.whl")
    return wheel


def bare_environment(folder, wheel, extra):
    """Make an environment with nothing but the wheel and one extra; return the path of its Python.

    The pip of this interpreter installs into it. One of its own would bring setuptools on 3.11.
    """
    venv.create(folder)
    python = Path(folder) / "bin" / "python"
    wanted = str(wheel) if extra == "plain" else f"{wheel}[{extra}]"
    known = ROOT / "constraints.txt"  # else the newest PyTorch comes, with CUDA: 3 GB more
    run([*pip_for(python), "install", "--quiet", "--constraint", known, wanted])
    return python


def pip_for(python):
    """Return the command of our pip on the environment of another Python."""
    return [sys.executable, "-m", "pip", "--python", python]


def measure(python, extra, bundle=None, out=None):
    """Measure the size and speed of an environment, and run what it is for.

    Parameters
    ----------
    python : Path
        Its Python.
    extra : str
        A key of `MODULES`.
    bundle : str, optional
        Bundle with a LiteRT file, for lite and firmware.
    out : Path
        Folder for what the verbs write.

    Returns
    -------
    dict
        `packages` (number), `megabytes` (of site-packages, with bytecode), `import_s` and `help_s`
        (processor time, best of ten, interpreter included), seconds on the clock for each verb;
        with lite also `windows` and `median` of the heads, and what `READ` prints of a stream.
    """
    code = "import site; print(site.getsitepackages()[0])"
    site = Path(run([python, "-c", code]).strip())
    listed = json.loads(run([*pip_for(python), "list", "--format", "json"]))
    for module in MODULES[extra]:
        run([python, "-c", f"import {module}"])
    xmae = [str(python.with_name("xmae"))]
    found = {
        "packages": len(listed),
        "megabytes": round(bytes_of(site) / 1e6),
        "import_s": best([python, "-c", "import xmae"]),
        "help_s": best([*xmae, "--help"]),
    }
    for name, words in VERBS[extra].items():
        placed = [word.replace("OUT", str(out)).replace("BUNDLE", str(bundle)) for word in words]
        begun = time.perf_counter()
        run([*xmae, *placed])
        found[f"{name}_s"] = time.perf_counter() - begun
    if extra == "lite":
        words = ["embed", bidmc_files()[1], "--model", bundle, "--out", out, "--json"]
        begun = time.perf_counter()
        said = json.loads(run([*xmae, *words]))
        found["embed_s"] = time.perf_counter() - begun
        found |= {key: said[key] for key in ("windows", "median")}
        found |= json.loads(run([python, "-c", READ, bidmc_files()[1]]))
    return found


def bytes_of(site):
    """Return the size of an environment's packages on disk, bytes."""
    return sum(path.stat().st_size for path in site.rglob("*") if path.is_file())


def best(command):
    """Return the smallest processor time of a command over several runs, s, which other work hardly
    disturbs.
    """
    times = []
    for _ in range(BEST_OF):
        begun = processor_time()
        run(command)
        times.append(processor_time() - begun)
    return min(times)


def processor_time():
    """Return the processor time of all finished children of this process, s."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(command):
    """Return the standard output of a command that must succeed, outside this checkout and its
    packages.
    """
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        env=clean,
        cwd=tempfile.gettempdir(),
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr[-2000:]}")
    return done.stdout


def check(extra, bundle=None):
    """Build, install and measure in a temporary folder; see `measure`."""
    with tempfile.TemporaryDirectory() as folder:
        wheel = build_wheel(folder)
        python = bare_environment(Path(folder) / "bare", wheel, extra)
        bundle = Path(bundle).resolve() if bundle else None
        out = Path(folder) / "out"
        out.mkdir()
        found = measure(python, extra, bundle, out)
        return found | {"wheel_megabytes": round(wheel.stat().st_size / 1e6, 1)}


def check_wheel(extra: str, bundle: str | None = None, /) -> str:
    """Build, install and measure the wheel with one extra; return JSON.

    Parameters
    ----------
    extra : str
        "plain" (none), "lite", "train", "edge" or "firmware".
    bundle : str or None
        Folder of a bundle, for lite and firmware.
    """
    return json.dumps(check(extra, bundle), indent=2)


if __name__ == "__main__":
    run_tool(check_wheel)
