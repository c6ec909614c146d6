"""Tools that cannot live in one environment with the rest: each gets its own, made on demand and
kept in the cache.

An environment is a folder of pinned packages that a process of its own sees before (or instead of)
all others; the first use installs it with pip (seconds, from the package index), later ones find
it.
"""

import atexit
import hashlib
import os
import pickle
import subprocess
import sys
import tempfile
from functools import lru_cache
from importlib import import_module

from filelock import FileLock

from xmae.errors import UserError
from xmae.files import atomic_folder, cache_folder

# pinned wheels alone, without what they depend on
PIP_INSTALL = (
    sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:",
)  # fmt: skip
ENVIRONMENTS = {  # name: packages, pinned
    # tosa-tools pins ml_dtypes below what the rest wants
    "arm": ("tosa-tools==2026.5.0", "ml_dtypes==0.5.1"),
    # built against numpy 1, for Python 3.9 to 3.11
    "tflite-runtime": ("tflite-runtime==2.14.0", "numpy==1.26.4"),
}


def environment(name):
    """Return the folder with the packages of one of `ENVIRONMENTS`; install it if it is missing.

    It lies under `$XDG_CACHE_HOME/xmae/environments` (`~/.cache` by default), a folder for each
    Python version and set of packages; removing it only costs the next use the installation.

    Raises
    ------
    UserError
        If pip cannot install the packages (no package index in reach, or none for this Python), or
        the cache cannot be written.
    """
    packages = ENVIRONMENTS[name]
    digest = hashlib.sha256(" ".join(packages).encode()).hexdigest()[:8]
    cache = cache_folder() / "environments"
    path = cache / f"{name}-py{sys.version_info.major}.{sys.version_info.minor}-{digest}"
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {cache}: {error.strerror or error}") from error
    with FileLock(f"{path}.lock"):
        if not path.is_dir():
            with atomic_folder(path) as folder:
                install(packages, folder)
    return path


def install(packages, folder):
    """Install pinned packages into a folder, without their dependencies."""
    done = subprocess.run(
        [*PIP_INSTALL, "--target", str(folder), *packages], capture_output=True, text=True
    )
    if done.returncode:
        lines = (
            [line for line in done.stderr.splitlines() if "ERROR" in line]
            or done.stderr.splitlines()
            or ["?"]
        )
        raise UserError(
            f"cannot install {', '.join(packages)} for Python {sys.version.split()[0]} "
            f"({lines[-1].strip()})"
        )


def call_apart(name, function, *arguments):
    """Call a function of this package in a process that imports the packages of an environment
    first.

    The process stays for later calls of this one, because its imports take longer than most of
    them.

    Parameters
    ----------
    name : str
        One of `ENVIRONMENTS`.
    function : str
        Place of the function: "xmae.export.targets.cortex_m:lower".
    *arguments
        Arguments of the function; they and its result must be picklable.

    Raises
    ------
    UserError
        If the environment cannot be made, the function raises one, or its process dies.
    """
    process, log = process_of(name, os.getpid())
    try:
        pickle.dump((function, arguments), process.stdin)
        process.stdin.flush()
        mistake, result = pickle.load(process.stdout)
    except BaseException as error:  # an interrupt too: a reply still to come is for no later call
        process_of.cache_clear()  # which gets a new process
        process.kill()
        code = process.wait()
        if not isinstance(error, OSError | EOFError | pickle.UnpicklingError):
            raise
        log.seek(0)
        last = (log.read().decode(errors="replace").strip().splitlines() or [f"exit code {code}"])[
            -1
        ]
        raise UserError(
            f"{function.partition(':')[0]} failed in its own process ({last[:300]})"
        ) from error
    if mistake:
        raise UserError(mistake)
    return result


@lru_cache
def process_of(name, pid):
    """Return the environment's process that serves process `pid`, and the file that collects its
    messages.
    """
    log = tempfile.TemporaryFile()  # noqa: SIM115  (lives as long as the process)
    paths = [str(environment(name)), *filter(None, [os.environ.get("PYTHONPATH")])]
    process = subprocess.Popen(
        [sys.executable, "-m", "xmae.export.targets.environments"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)}, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=log,
    )  # fmt: skip
    atexit.register(process.kill)
    return process, log


def main():
    """Serve calls in the other process: return each function's result, or the user's mistake that
    it found.
    """
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what functions print is no reply
    while True:
        try:
            function, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:  # who asked has ended
            return
        module, name = function.split(":")
        try:
            outcome = None, getattr(import_module(module), name)(*arguments)
        except UserError as error:
            outcome = str(error), None
        pickle.dump(outcome, replies)
        replies.flush()


if __name__ == "__main__":
    main()
