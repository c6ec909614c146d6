"""Writing without losing: everything goes to a temporary name beside its target and is renamed at
the end.
"""

import hashlib
import json
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

from xmae.errors import UserError


def cache_folder():
    """Where things that can be made again are kept: `$XDG_CACHE_HOME/xmae`, by default
    `~/.cache/xmae`.
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "xmae"


@contextmanager
def atomic_file(path):
    """Yield a temporary path in the folder of `path`; on success it replaces `path`, on failure
    nothing changes.

    Raises
    ------
    UserError
        If the folder cannot be written or the disk is full.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix
        )
        os.close(handle)
        yield Path(temporary)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)


@contextmanager
def atomic_folder(path, marker=None):
    """Yield a temporary folder beside `path`; on success it replaces `path` and all in it, on
    failure nothing changes.

    A folder that holds something else than an older result, which is known by its file `marker`, is
    not replaced.

    Raises
    ------
    UserError
        If `path` holds something else, the parent folder cannot be written or the disk is full.
    """
    path = Path(path)
    if (
        marker
        and path.exists()
        and not (path / marker).is_file()
        and not (path.is_dir() and not any(path.iterdir()))
    ):
        raise UserError(
            f"{path}: exists and holds no {marker}; it would be replaced, so name another folder"
        )
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        os.chmod(temporary, 0o755)
        yield temporary
        if path.exists():
            old = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old."))
            os.rename(path, old / path.name)
            try:
                os.rename(temporary, path)
            except BaseException:  # an interrupt too
                os.rename(old / path.name, path)
                old.rmdir()
                raise
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.rename(temporary, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if temporary:
            shutil.rmtree(temporary, ignore_errors=True)


def write_json(path, value):
    """Write `value` as indented JSON, atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path):
    """Read a JSON file; a missing, damaged or endlessly nested one is a `UserError`."""
    try:
        return parse_json(Path(path).read_bytes(), path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: not readable ({error.strerror or error})") from error


def parse_json(content, where):
    """Return the JSON value in bytes or text; what is none is a `UserError` that says `where`."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:  # bytes that are no text are a ValueError too
        raise UserError(f"{where}: not readable as JSON ({error})") from error


def sha256(path):
    """SHA-256 of a file, as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
