"""One writer a store: `xmae prepare` and `xmae data relabel` refuse to work on it at the same time."""

from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from xmae.errors import UserError


@contextmanager
def locked(out, shown=None):
    """Hold the store `out`, which the user knows as `shown`, for this process.

    Raises
    ------
    UserError
        If another process writes the store, or its place cannot be written.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(out.parent / f".{out.name}.lock", timeout=0) as lock:
            try:
                yield
            finally:
                Path(lock.lock_file).unlink(missing_ok=True)
    except Timeout:
        raise UserError(
            f"{shown or out}: another xmae prepare or relabel is writing this store; wait a bit"
        ) from None
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror or error}") from error
