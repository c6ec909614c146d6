"""Tools that cannot live in one environment with the rest: each gets its own, made on demand and kept in the cache.

An environment is a folder of pinned packages that a process of its own sees before (or instead of) all others; the
first use installs it with pip (seconds, from the package index), later ones find it.
"""

import hashlib
import os
import pickle
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path

from filelock import FileLock

from xmae.errors import UserError
from xmae.files import atomic_folder

ENVIRONMENTS = {  # name: packages, pinned
    "arm": ("tosa-tools==2026.5.0", "ml_dtypes==0.5.1"),  # tosa-tools pins ml_dtypes below what the rest wants
    "tflite-runtime": ("tflite-runtime==2.14.0", "numpy==1.26.4"),  # built against numpy 1, for Python 3.9 to 3.11
}


def environment(name):
    """Folder with the packages of one of `ENVIRONMENTS`, installed if it is not there yet.

    It lies under `$XDG_CACHE_HOME/xmae/environments` (`~/.cache` by default), a folder for each Python version and
    set of packages; removing it only costs the next use the installation.

    Raises
    ------
    UserError
        If pip cannot install the packages: no package index in reach, or none for this Python.
    """
    packages = ENVIRONMENTS[name]
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "xmae" / "environments"
    digest = hashlib.sha256(" ".join(packages).encode()).hexdigest()[:8]
    path = cache / f"{name}-py{sys.version_info.major}.{sys.version_info.minor}-{digest}"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if not path.is_dir():
            with atomic_folder(path) as folder:
                install(packages, folder)
    return path


def install(packages, folder):
    """Install pinned packages, without what they depend on, into a folder."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:"]
    done = subprocess.run([*command, "--target", str(folder), *packages], capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "ERROR" in line] or done.stderr.splitlines() or ["?"]
        raise UserError(
            f"cannot install {', '.join(packages)} for Python {sys.version.split()[0]} ({lines[-1].strip()})"
        )


def call_apart(name, function, *arguments):
    """Call a function of this package in a process whose first packages are those of an environment.

    Parameters
    ----------
    name : str
        One of `ENVIRONMENTS`.
    function : str
        Where it is: "xmae.export.cortex_m:lower".
    *arguments
        What it takes, and it may give back, whatever can be pickled.

    Raises
    ------
    UserError
        If the environment cannot be made, the function raises one, or its process dies.
    """
    overlay = environment(name)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "arguments.pickle", Path(folder) / "result.pickle"
        source.write_bytes(pickle.dumps(arguments))
        paths = [str(overlay), *filter(None, [os.environ.get("PYTHONPATH")])]
        done = subprocess.run(
            [sys.executable, "-m", "xmae.export.apart", function, str(source), str(target)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)}, capture_output=True, text=True,
        )  # fmt: skip
        if not target.exists():
            last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise UserError(f"{function.partition(':')[0]} failed in its own process ({last[:300]})")
        mistake, result = pickle.loads(target.read_bytes())
    if mistake:
        raise UserError(mistake)
    return result


def main(function, source, target):
    """The other process: call the function, and leave what it gives, or the user's mistake it found, in `target`."""
    module, name = function.split(":")
    arguments = pickle.loads(Path(source).read_bytes())
    try:
        outcome = None, getattr(import_module(module), name)(*arguments)
    except UserError as error:
        outcome = str(error), None
    Path(target).write_bytes(pickle.dumps(outcome))


if __name__ == "__main__":
    main(*sys.argv[1:])
