"""The wheel in a bare environment: built, installed with one extra, timed and run.

    python -m xmae.benchmarks.release.check_wheel lite BUNDLE

prints what docs/lite.md has: packages, MB on disk, seconds to import, to say its help and to read a
minute of PPG. Other extras: train, edge, firmware; these are installed and imported only.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

from xmae.data.bidmc import bidmc_files

ROOT = Path(__file__).parents[2]
MODULES = {  # what must import with an extra
    "lite": ("ai_edge_litert",),
    "train": ("torch", "lightning", "xmae.training.pretrain"),
    "edge": ("executorch", "litert_torch", "onnxruntime", "xmae.export.export"),
    "firmware": ("unicorn", "ziglang", "xmae.firmware_sim"),
}
BEST_OF = 5  # of short times


def build_wheel(folder):
    """Build the wheel of this checkout into a folder; its path."""
    shutil.rmtree(ROOT / "build", ignore_errors=True)  # modules of an earlier one would come along
    command = ["wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    run([sys.executable, "-m", "pip", *command])
    (wheel,) = Path(folder).glob("xmae-*.whl")
    return wheel


def bare_environment(folder, wheel, extra):
    """Make an environment with nothing but the wheel and one extra; path of its Python."""
    venv.create(folder, with_pip=True)
    python = Path(folder) / "bin" / "python"
    run([python, "-m", "pip", "install", "--quiet", f"{wheel}[{extra}]"])
    return python


def measure(python, extra, bundle=None, out=None):
    """What an environment weighs and how fast it is.

    Parameters
    ----------
    python : Path
        Its Python.
    extra : str
        A key of `MODULES`.
    bundle : str, optional
        Bundle with a LiteRT file, to embed and verify with.
    out : Path, optional
        Folder for the embeddings.

    Returns
    -------
    dict
        `packages` (number), `megabytes` (of site-packages, pip aside), `import_s`, `help_s` (best
        of five), and with a bundle `embed_s`, `verify_s`, `median` (of the heads).
    """
    code = "import site; print(site.getsitepackages()[0])"
    site = Path(run([python, "-c", code]).strip())
    listed = json.loads(run([python, "-m", "pip", "list", "--format", "json"]))
    own = [
        path
        for path in site.rglob("*")
        if path.is_file() and path.relative_to(site).parts[0] != "pip"
    ]
    for module in MODULES[extra]:
        run([python, "-c", f"import {module}"])
    xmae = [str(python.with_name("xmae"))]
    found = {
        "packages": len(listed) - 1,
        "megabytes": round(sum(path.stat().st_size for path in own) / 1e6),
        "import_s": best([python, "-c", "import xmae"]) - best([python, "-c", ""]),
        "help_s": best([*xmae, "--help"]),
    }
    if bundle:
        words = ["embed", bidmc_files()[1], "--model", bundle, "--out", out, "--json"]
        begun = time.perf_counter()
        said = json.loads(run([*xmae, *words]))
        found |= {"embed_s": time.perf_counter() - begun, "windows": said["windows"]}
        begun = time.perf_counter()
        run([*xmae, "bundle", "verify", bundle])
        found |= {"verify_s": time.perf_counter() - begun, "median": said["median"]}
    return found


def best(command):
    """Shortest wall time of a command, s."""
    times = []
    for _ in range(BEST_OF):
        begun = time.perf_counter()
        run(command)
        times.append(time.perf_counter() - begun)
    return min(times)


def run(command):
    """Standard output of a command that must succeed, outside this checkout and its packages."""
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
        found = measure(python, extra, bundle, Path(folder) / "out")
        return found | {"wheel_megabytes": round(wheel.stat().st_size / 1e6, 1)}


if __name__ == "__main__":
    print(json.dumps(check(*sys.argv[1:3]), indent=2))
