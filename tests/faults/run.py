"""Runs cases in processes of their own, with limits of time and memory."""

import contextlib
import os
import resource
import shutil
import signal
import tempfile
import traceback
import warnings
from collections import Counter
from pathlib import Path

import numpy as np

from xmae.errors import UserError

from . import damage
from .kind import Kind, files_of, real_signals

SEED = 77
SECONDS_A_CASE = 20  # of CPU
MEMORY = 1 << 30  # bytes that opening one may take
SPARE = 6 << 30  # bytes after which a crafted file gets no more
FAILURES = ("traceback", "killed", "too long", "too much memory")


def make_case(kind, number, folder, pristine):
    """Write the files of one case; the path to open."""
    rng = np.random.default_rng([SEED, sum(kind.name.encode()), number])
    if kind.signals and number % 4 == 3:
        try:
            return kind.write(folder, damage.forge_signals(real_signals(), rng))
        except Exception:  # of any kind
            pass  # the library of the format refuses to write it: damage a whole one instead
    shutil.copytree(pristine, folder, dirs_exist_ok=True)
    files = files_of(kind, folder)
    path = files[int(rng.integers(0, len(files)))]
    ways = kind.ways or damage.strata_of(path)
    way = ways[int(rng.integers(0, len(ways)))]
    content = path.read_bytes()
    for _ in range(1 if rng.random() < 0.7 else 3):
        try:
            content = way(content, rng)
        except (
            ValueError,
            KeyError,
            IndexError,
            TypeError,
            RecursionError,
        ):  # damaged JSON once more
            content = damage.damage_bytes(content, rng)
    path.write_bytes(content)
    with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
        kind.repair(folder)
    return None


def peak_memory():
    """Return the highest resident memory of this process since `forget_peak`, bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def forget_peak():
    """Begin to look for the peak anew."""
    Path("/proc/self/clear_refs").write_text("5")


def outcome_of(kind, path):
    """Open one file: "read", "refused", or how it failed; and the memory it took, MiB."""
    forget_peak()
    before = peak_memory()
    try:
        kind.open(path)
        said = "read"
    except UserError as error:
        short = "MemoryError" in str(error) or "Unable to allocate" in str(error)
        said = "too much memory: none left" if short else "refused"
    except BaseException as error:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [
            f for f in frames if "/tests/" not in f.filename and "site-packages" not in f.filename
        ]
        place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "?"
        said = f"traceback: {type(error).__name__} at {place}: {str(error)[:120]!a}"
    grown = peak_memory() - before
    return f"too much memory: {grown >> 20} MiB" if grown > MEMORY else said, grown >> 20


def work(kind, numbers, pristine, relative, sink, scratch):
    """Run cases in this process, a line each into `sink`; killed where one takes too long."""
    quiet()
    for number in numbers:
        folder = Path(scratch) / str(number)
        folder.mkdir()
        path = make_case(kind, number, folder, pristine) or folder / relative
        signal.setitimer(signal.ITIMER_PROF, SECONDS_A_CASE)
        said, grown = outcome_of(kind, path)
        signal.setitimer(signal.ITIMER_PROF, 0)
        os.write(sink, f"{number} {grown} {' '.join(said.split())}\n".encode())
        shutil.rmtree(folder, ignore_errors=True)


def run_kind(kind, numbers):
    """Return the outcomes of cases of one kind: number -> text, and the most memory that one took,
    MiB.

    Each is begun in a process that has survived the one before.
    """
    outcomes, left, most = {}, list(numbers), 0
    with tempfile.TemporaryDirectory() as scratch:
        pristine = Path(scratch) / "pristine"
        pristine.mkdir()
        relative = kind.write(pristine, real_signals()).relative_to(pristine)
        kind.open(pristine / relative)
        while left:
            source, sink = os.pipe()
            process = os.fork()
            if process == 0:
                os.close(source)
                try:
                    work(kind, left, pristine, relative, sink, scratch)
                except BaseException:
                    os.write(sink, b"harness " + traceback.format_exc().encode())
                finally:
                    os._exit(0)
            os.close(sink)
            with os.fdopen(source) as lines:
                text = lines.read()
            _, status = os.waitpid(process, 0)
            if "harness " in text:
                raise RuntimeError(text[text.index("harness ") :])
            for line in text.splitlines():
                number, grown, said = line.split(" ", 2)
                outcomes[int(number)], most = said, max(most, int(grown))
            left = [number for number in left if number not in outcomes]
            if left:
                code = os.waitstatus_to_exitcode(status)
                name = signal.Signals(-code).name if code < 0 else f"exit {code}"
                outcomes[left[0]] = "too long" if name == "SIGPROF" else f"killed: {name}"
                shutil.rmtree(Path(scratch) / str(left.pop(0)), ignore_errors=True)
    return outcomes, most


def count(outcomes):
    """Count how many cases were read, refused, or failed in which way."""
    return Counter(said.split(":")[0] for said in outcomes.values())


def run_crafted(write, open_file):
    """Write a file in one process and open it in another: what came of it, and MiB that it took."""
    with tempfile.TemporaryDirectory() as scratch:
        kind, outcome = Kind("crafted", write, open_file), Path(scratch) / "outcome"
        path = Path(scratch) / "path"
        in_a_process(lambda: path.write_text(str(write(Path(scratch)))))
        if not path.exists():
            raise RuntimeError(f"{write.__name__} writes no file")

        def work():
            limit = SPARE + int(Path("/proc/self/statm").read_text().split()[0]) * 4096
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            signal.setitimer(signal.ITIMER_PROF, SECONDS_A_CASE)
            said, grown = outcome_of(kind, Path(path.read_text()))
            outcome.write_text(f"{grown} {' '.join(said.split())}")

        status = in_a_process(work)
        if not outcome.exists():
            code = os.waitstatus_to_exitcode(status)
            return ("too long" if code == -signal.SIGPROF else f"killed: {code}"), 0
        grown, said = outcome.read_text().split(" ", 1)
        return said, int(grown)


def in_a_process(work):
    """Run a function in a process of its own, silent; its status."""
    process = os.fork()
    if process == 0:
        try:
            quiet()
            work()
        finally:
            os._exit(0)
    return os.waitpid(process, 0)[1]


def quiet():
    """Let this process die where it takes too long, leave no core file, and say nothing."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
