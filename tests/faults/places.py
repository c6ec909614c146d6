"""Two file systems to write to, a full one, and one that is read-only."""

import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")  # a file system of its own on every Linux


@contextmanager
def memory_disk(size="16m"):
    """Yield a folder on a file system in memory: one mounted for this, where that is allowed.

    Elsewhere it lies in `/dev/shm`, or is None where that is no other file system either.
    """
    with tempfile.TemporaryDirectory() as name:
        options = ["-t", "tmpfs", "-o", f"size={size}", "xmae-faults", name]
        done = subprocess.run(["mount", *options], capture_output=True)
        if done.returncode == 0:
            try:
                yield Path(name)
            finally:
                subprocess.run(["umount", "--lazy", name], check=True)
            return
        here = Path(name).stat().st_dev
        if not SHARED_MEMORY.is_dir() or SHARED_MEMORY.stat().st_dev == here:
            yield None
            return
        with tempfile.TemporaryDirectory(dir=SHARED_MEMORY) as shared:
            yield Path(shared)


def is_mounted(folder):
    """Tell whether a folder is a file system of its own, which can be filled or made read-only."""
    return folder is not None and folder.is_mount()


@contextmanager
def read_only(folder):
    """Let nothing be written to a mounted file system for a while."""
    remount = ["mount", "-o"]
    subprocess.run([*remount, "remount,ro", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run([*remount, "remount,rw", str(folder)], check=True)
