"""Kills, full disks, read-only disks and crowds, for each atomic writer.

A writer puts a generation, a number, into a folder. Whatever happens to it, the folder holds a
whole generation afterwards, none that was finished is lost, and the next run leaves nothing else.
"""

import errno
import os
import random
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from xmae import files, ownership
from xmae.errors import UserError
from xmae.files import atomic_file, atomic_folder, sweep
from xmae.training.fit import LAST, PREVIOUS, AtomicCheckpoints

from .places import is_mounted, memory_disk, read_only

SIZE = 40_000  # numbers of a generation
STEPS = (
    (tempfile, "mkstemp"), (tempfile, "mkdtemp"), (os, "fsync"), (os, "replace"), (os, "rename"),
    (os, "link"), (os, "chmod"), (shutil, "rmtree"), (files, "exchange"), (Path, "unlink"),
    (Path, "write_bytes"), (shutil, "copyfile"), (os, "sendfile"),
)  # fmt: skip
PATIENCE = 60  # s that an owner waits for the others to be refused
ENDED = 7  # exit code of a process that came to its end


@dataclass(frozen=True)
class Writer:
    """One way to write.

    Parameters
    ----------
    name : str
        As the table shows it.
    write : callable
        ``write(folder, generation)``.
    read : callable
        ``read(folder)``: the generation that is there; an exception if it is not whole.
    names : set of str
        All that may be in the folder afterwards.
    """

    name: str
    write: Callable
    read: Callable
    names: set


@dataclass
class Row:
    """What was tried and what failed; a line for each failure."""

    name: str
    tried: int = 0
    failures: list = field(default_factory=list)

    def add(self, failure=""):
        """Count one more, failed if it says how."""
        self.tried += 1
        self.failures += [failure] if failure else []


def content_of(generation):
    """Return the bytes of a generation."""
    return b"%08d" % generation * (SIZE // 8)


def generation_in(path):
    """Return the generation that a file holds as a whole."""
    content = path.read_bytes()
    generation = int(content[:8])
    if content != content_of(generation):
        raise ValueError(f"{path.name} is not whole")
    return generation


def write_file(folder, generation):
    """Write one file."""
    with atomic_file(folder / "result.bin") as temporary:
        temporary.write_bytes(content_of(generation))


def write_folder(folder, generation):
    """Write two files that belong together."""
    with atomic_folder(folder / "result") as inside:
        for name in ("a", "b"):
            (inside / name).write_bytes(content_of(generation))


def read_folder(folder):
    """Read both files, of the same generation."""
    found = {generation_in(folder / "result" / name) for name in ("a", "b")}
    if len(found) > 1:
        raise ValueError(f"generations {found} in one folder")
    return found.pop()


def write_folder_apart(folder, generation):
    """Write two files, where the system cannot exchange two names in one step."""
    real, files.exchange = files.exchange, lambda one, other: False
    try:
        write_folder(folder, generation)
    finally:
        files.exchange = real


def write_checkpoint(folder, generation):
    """Write a checkpoint, and the one before."""
    state = {"weights": torch.full((SIZE // 8,), float(generation)), "generation": generation}
    AtomicCheckpoints().save_checkpoint(state, folder / LAST)


def write_checkpoint_apart(folder, generation):
    """Write checkpoints, where the disk knows no second names of a file."""

    def refused(*names):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    real, os.link = os.link, refused
    try:
        write_checkpoint(folder, generation)
    finally:
        os.link = real


def read_checkpoint(folder):
    """Read the last checkpoint; the one before may not be damaged either."""
    states = [
        torch.load(folder / name, weights_only=True)
        for name in (LAST, PREVIOUS)
        if (folder / name).exists()
    ]
    if not all((state["weights"] == state["generation"]).all() for state in states):
        raise ValueError("weights of two generations")
    return states[0]["generation"]


LOCK = ".result.lock"
WRITERS = (
    Writer("file", write_file, lambda folder: generation_in(folder / "result.bin"), {"result.bin"}),
    Writer("folder", write_folder, read_folder, {"result", LOCK}),
    Writer("folder, in two steps", write_folder_apart, read_folder, {"result", LOCK}),
    Writer("checkpoint", write_checkpoint, read_checkpoint, {LAST, PREVIOUS}),
    Writer("checkpoint, without links", write_checkpoint_apart, read_checkpoint, {LAST, PREVIOUS}),
)


@contextmanager
def fresh(place, other):
    """Yield a folder in a place, with the folder for temporary files in the other."""
    before, tempfile.tempdir = tempfile.tempdir, str(other)
    try:
        with tempfile.TemporaryDirectory(dir=place) as name:
            yield Path(name)
    finally:
        tempfile.tempdir = before


def forked(work):
    """Run a function in a process of its own; its exit status."""
    process = os.fork()
    if process == 0:
        try:
            sweep.cache_clear()
            work()
        finally:
            os._exit(ENDED)
    return os.waitpid(process, 0)[1]


def state_after(writer, folder, least, most):
    """Return what is wrong with a folder that should hold a generation between two; "" if
    nothing.
    """
    sweep.cache_clear()
    sweep(folder)  # as the next run does
    try:
        generation = writer.read(folder)
    except Exception as error:  # of any kind: it is not whole
        return f"{writer.name}: {error!r}"
    if not least <= generation <= most:
        return f"{writer.name}: generation {generation}, expected {least} to {most}"
    others = {path.name for path in folder.iterdir()} - writer.names
    return f"{writer.name}: left {sorted(others)}" if others else ""


def kill_at(count, after):
    """Let this process be killed at its count-th step, before it is taken or after."""
    left = [count]

    def killing(real):
        def step(*arguments, **settings):
            now, left[0] = left[0] == 0, left[0] - 1
            if now and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                return real(*arguments, **settings)
            finally:
                if now:
                    os.kill(os.getpid(), signal.SIGKILL)

        return step

    for place, name in STEPS:
        setattr(place, name, killing(getattr(place, name)))


def killed_at_each_step(writer, place, other, row):
    """Kill a writer at one step after another, until it comes to its end."""
    for after in (False, True):
        count, status = 0, signal.SIGKILL
        while status == signal.SIGKILL:
            with fresh(place, other) as folder:
                writer.write(folder, 1)

                def work(folder=folder, count=count, after=after):
                    kill_at(count, after)
                    writer.write(folder, 2)

                status = forked(work)
                killed = status == signal.SIGKILL
                found = state_after(writer, folder, 1 if killed else 2, 2)
                row.add(f"step {count}: {found}" if found else "")
            count += 1
        if status != ENDED << 8:
            row.add(f"{writer.name}: status {status}")


def killed_at_random(writer, place, other, row, times, seed):
    """Kill a process that writes one generation after another, at random moments."""
    chance = random.Random(seed)
    for _ in range(times):
        with fresh(place, other) as folder:
            writer.write(folder, 1)
            source, sink = os.pipe()
            process = os.fork()
            if process == 0:
                for generation in range(2, 10**6):
                    writer.write(folder, generation)
                    os.write(sink, b"%d\n" % generation)
            os.close(sink)
            with os.fdopen(source) as done:
                first = done.readline()
                time.sleep(chance.uniform(0, 0.03))
                os.kill(process, signal.SIGKILL)
                os.waitpid(process, 0)
                finished = [int(first), *map(int, done.read().split())][-1]
            row.add(state_after(writer, folder, finished, finished + 1))


def refused(writer, folder, generation, why):
    """Return what is wrong with a write that must be refused in one line; "" if nothing."""
    try:
        writer.write(folder, generation)
    except UserError as error:
        line = str(error)
        return "" if why in line and "\n" not in line else f"{writer.name}: says {line!r}"
    return f"{writer.name}: {why} and nothing said"


@contextmanager
def without_space():
    """Let writing fail after some bytes, as on a full disk."""
    real = Path.write_bytes

    def write(path, content):
        real(path, bytes(content)[:1000])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    Path.write_bytes = write
    try:
        yield
    finally:
        Path.write_bytes = real


@contextmanager
def not_writable():
    """Let new files fail, as on a read-only disk."""
    real = tempfile.mkstemp, tempfile.mkdtemp

    def failing(*arguments, **settings):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    tempfile.mkstemp = tempfile.mkdtemp = failing
    try:
        yield
    finally:
        tempfile.mkstemp, tempfile.mkdtemp = real


@contextmanager
def full(disk):
    """Fill a mounted file system to its last byte for a while."""
    filler = disk / "filler"
    try:
        with open(filler, "wb", buffering=0) as file:
            for size in (1 << 16, 4096, 1):
                try:
                    while file.write(bytes(size)) == size:
                        pass
                except OSError:
                    pass
        yield
    finally:
        filler.unlink()


@contextmanager
def refused_by(disk, place, writer, row, state, reason):
    """Write a generation, let the next one be refused in a disk's state, and check that the first
    stands and the refusal is one line; give the folder, with the disk as it was.
    """
    with fresh(disk if is_mounted(disk) else place, place) as folder:
        writer.write(folder, 1)
        with state:
            said = refused(writer, folder, 2, reason)
        row.add(said or state_after(writer, folder, 1, 1))
        yield folder


def on_a_full_disk(writer, place, disk, row):
    """Check a full disk: the old generation stands, the refusal is one line, and with space it goes
    on.
    """
    state = full(disk) if is_mounted(disk) else without_space()
    with refused_by(disk, place, writer, row, state, "No space left on device") as folder:
        writer.write(folder, 3)
        row.add(state_after(writer, folder, 3, 3))


def on_a_read_only_disk(writer, place, disk, row):
    """Check a read-only disk: the old generation stands, and the refusal is one line."""
    state = read_only(disk) if is_mounted(disk) else not_writable()
    with refused_by(disk, place, writer, row, state, "Read-only file system"):
        pass


def in_a_crowd(writer, place, other, row, n=6):
    """Let several processes write at once: each is through or refused in a line, one is what is
    left.
    """
    with fresh(place, other) as folder:
        writer.write(folder, 1)
        start = time.time() + 0.2
        processes = []
        for number in range(n):
            process = os.fork()
            if process == 0:
                code = ENDED
                try:
                    time.sleep(max(0, start - time.time()))
                    for step in range(5):
                        try:
                            writer.write(folder, 10 * number + step + 2)
                        except UserError as error:
                            code = code if "another xmae process" in str(error) else 1
                except BaseException:
                    code = 2
                finally:
                    os._exit(code)
            processes.append(process)
        codes = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]
        for code in codes:
            row.add("" if code == ENDED else f"{writer.name}: exit {code}")
        row.add(state_after(writer, folder, 2, 10 * n))


def one_owner(place, other, row, n=6):
    """Check that one of several processes that want a folder at once gets it, and keeps it until
    the others were refused, however late they come.
    """
    with fresh(place, other) as folder:
        start, processes = time.time() + 0.2, []
        source, sink = os.pipe()
        for _ in range(n):
            process = os.fork()
            if process == 0:
                code = 2
                try:
                    time.sleep(max(0, start - time.time()))
                    with ownership.owned(folder / "run"):
                        for _ in range(n - 1):
                            if select.select([source], [], [], PATIENCE)[0]:
                                os.read(source, 1)
                        code = 0
                except UserError as error:
                    os.write(sink, b"x")
                    code = 3 if "another xmae process is writing" in str(error) else 1
                finally:
                    os._exit(code)
            processes.append(process)
        codes = sorted(
            os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes
        )
        os.close(source)
        os.close(sink)
        row.add("" if codes == [0] + [3] * (n - 1) else f"owners: {codes}")
        left = {path.name for path in folder.iterdir()} - {".run.lock"}
        row.add(f"owners left {left}" if left else "")


FIRST_ROW = f"{WRITERS[0].name}: killed at each step"


def run_writers(kills=40, seed=77):
    """Try all of it on two file systems: yields rows of what was tried and what failed."""
    with ExitStack() as stack:
        disk = stack.enter_context(memory_disk())
        here = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        places = [(here, disk), (disk, here)] if disk else [(here, here)]
        for writer in WRITERS:
            yield from faults_of(writer, here, disk, places, kills, seed)
        for writer in WRITERS[:3]:
            row = Row(f"{writer.name}: six processes at once")
            for place, other in places:
                in_a_crowd(writer, place, other, row)
            yield row
        row = Row("one owner of six")
        for place, other in places:
            one_owner(place, other, row)
        yield row


def faults_of(writer, here, disk, places, kills, seed):
    """Yield the rows of one writer."""
    row = Row(f"{writer.name}: killed at each step")
    for place, other in places:
        killed_at_each_step(writer, place, other, row)
    yield row
    row = Row(f"{writer.name}: killed at random moments")
    for number, (place, other) in enumerate(places):
        killed_at_random(writer, place, other, row, kills, seed + number)
    yield row
    row = Row(f"{writer.name}: disk full")
    on_a_full_disk(writer, here, disk, row)
    yield row
    row = Row(f"{writer.name}: disk read-only")
    on_a_read_only_disk(writer, here, disk, row)
    yield row
