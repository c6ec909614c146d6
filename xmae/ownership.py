"""One owner per folder: a verb checks and locks its output before work begins."""

import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

from xmae.errors import UserError

LEAST_SPACE = 64 << 20  # bytes: the smallest result with its logs and tables


@contextmanager
def owned(path, shown=None):
    """Hold the lock of a folder or file (known to the user as `shown`); raises a `UserError` while
    another process works on it.

    A process may own a path several times over; only its last leaving gives it back. A lock is a
    hidden file beside the path, or in the folder where nothing can be written beside it. The system
    lifts the lock of a killed process.

    Raises
    ------
    UserError
        If another process, or another thread, owns the path, or nothing can be written there.
    """
    from filelock import FileLock, Timeout  # a quarter of the time that `xmae --help` took

    path = Path(path).resolve()  # a link may lead to another disk
    missing = [folder for folder in path.parents if not folder.exists()]
    try:
        lock = FileLock(lock_file(path), timeout=0, is_singleton=True)
        with lock:
            try:
                yield
            finally:
                if lock.lock_counter == 1:
                    Path(lock.lock_file).unlink(missing_ok=True)
                    remove_empty(missing)
    except Timeout:
        raise UserError(
            f"{shown or path}: another xmae process is writing there; wait for it, or name another"
            " place"
        ) from None


def remove_empty(folders):
    """Remove empty folders, the innermost first, up to the first that is not empty."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:  # something was written there
            return


def lock_file(path):
    """Return the lock file of a path, and make the folder that it lies in."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    beside = os.access(path.parent, os.W_OK) or not path.is_dir()
    return path.parent / f".{path.name}.lock" if beside else path / ".lock"


def check_output(path, a_file=False, least_space=LEAST_SPACE):
    """Raise a `UserError` before any work if a result cannot be written to a path.

    Parameters
    ----------
    path : str or Path
        Place of the result: a folder, or with `a_file` a file. It need not exist yet.
    a_file : bool
        Whether it is one file.
    least_space : int
        Bytes that must be free there.

    Raises
    ------
    UserError
        If the name is empty, something else is there, nothing can be written, or the disk is full.
    """
    if not str(path).strip():
        raise UserError("--out: the name is empty; name a folder")
    path = Path(path)
    try:
        if path.exists() and not (path.is_file() if a_file else path.is_dir()):
            kind = "a folder; expected a file" if path.is_dir() else "no folder; expected one"
            raise UserError(f"{path}: is {kind} for the result")
        place = path.parent if a_file else path
        while not place.exists():
            place = place.parent
        with tempfile.TemporaryFile(dir=place) as probe:
            probe.write(b"is there space?")
            probe.flush()
        free = shutil.disk_usage(place).free
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    if free < least_space:
        raise UserError(
            f"cannot write {path}: {free / 1e6:.0f} MB are free there, {least_space / 1e6:.0f} MB"
            " are needed"
        )
