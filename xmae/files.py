"""Writing without losing: everything goes to a temporary name beside its target and is renamed at
the end.
"""

import ctypes
import errno
import hashlib
import json
import os
import platform
import re
import shutil
import tempfile
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import yaml

from xmae.errors import UserError
from xmae.ownership import owned

HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:6]
OLD = ".old"
LONGEST_YAML = 1 << 17  # characters
DEEPEST = 100  # levels of a YAML file
OPENING = (
    yaml.BlockMappingStartToken,
    yaml.BlockSequenceStartToken,
    yaml.FlowMappingStartToken,
    yaml.FlowSequenceStartToken,
)
CLOSING = (yaml.BlockEndToken, yaml.FlowMappingEndToken, yaml.FlowSequenceEndToken)
LONGEST_JSON = 32 << 20  # bytes: of empty lists, these take a gigabyte
LEFTOVER = re.compile(r"\.(?P<name>.+)\.x(?P<host>[0-9a-f]{6})-(?P<process>\d+)-\w+(\..+)?")


def cache_folder():
    """Return the folder for files that can be made again: `$XDG_CACHE_HOME/xmae`, by default
    `~/.cache/xmae`.
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "xmae"


@contextmanager
def atomic_file(path):
    """Yield a temporary path in the folder of `path`; on success it replaces `path`, on failure
    nothing changes.

    What was written is on the disk before it gets its name, so a power cut leaves the old file or
    the new one.

    Raises
    ------
    UserError
        If the folder cannot be written or the disk is full.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent.absolute())
        handle, temporary = tempfile.mkstemp(path.suffix, prefix_of(path.stem), path.parent)
        os.close(handle)
        yield Path(temporary)
        os.chmod(temporary, 0o644)
        flush(temporary)
        os.replace(temporary, path)
        flush(path.parent)
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
    not replaced. Nobody else can write `path` until this is done.

    Raises
    ------
    UserError
        If `path` holds something else, another process writes it, the parent folder cannot be
        written or the disk is full.
    """
    if (
        marker
        and Path(path).exists()
        and not (Path(path) / marker).is_file()
        and not (Path(path).is_dir() and not any(Path(path).iterdir()))
    ):
        raise UserError(
            f"{path}: exists and holds no {marker}; it would be replaced, so name another folder"
        )
    shown, path = path, Path(path).resolve()  # a link may lead to another disk
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent)
        with owned(path):
            temporary = Path(tempfile.mkdtemp("", prefix_of(path.name), path.parent))
            os.chmod(temporary, 0o755)
            yield temporary
            flush_tree(temporary)
            put_in_place(temporary, path)
            flush(path.parent)
    except OSError as error:
        raise UserError(f"cannot write {shown}: {error.strerror or error}") from error
    finally:
        if temporary:
            shutil.rmtree(temporary, ignore_errors=True)


def put_in_place(new, path):
    """Rename the folder `new` to `path`; what was there before is then called `new`, or removed.

    Where the system can exchange two names, that is one step. Else the old folder is out of the way
    for a moment, under a name from which `sweep` brings it back if the process is killed then.
    """
    if not path.exists():
        os.rename(new, path)
    elif not exchange(new, path):
        old = new.with_name(f"{new.name}{OLD}")
        os.rename(path, old)
        try:
            os.rename(new, path)
        except BaseException:  # an interrupt too
            os.rename(old, path)
            raise
        shutil.rmtree(old, ignore_errors=True)


def exchange(one, other):
    """Exchange the names of two paths in one step; return False where the system or the disk
    cannot.

    Raises
    ------
    OSError
        If it can, and it went wrong.
    """
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    here, exchanging = -100, 2  # AT_FDCWD, RENAME_EXCHANGE of Linux
    if renameat2(here, os.fsencode(one), here, os.fsencode(other), exchanging) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), str(other))


def prefix_of(name):
    """Return the start of a temporary name, which tells the final name and the process."""
    return f".{name}.x{HOST}-{os.getpid()}-"


@cache
def sweep(folder):
    """Remove what killed processes of this machine left in a folder, once per process.

    A folder that was moved aside for a successor that never came gets its name back.
    """
    for path in folder.glob(".*"):
        match = LEFTOVER.fullmatch(path.name)
        if not match or match["host"] != HOST or is_running(int(match["process"])):
            continue
        home = path.with_name(match["name"])
        if path.name.endswith(OLD) and not home.exists():
            path.rename(home)
        elif path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def is_running(process):
    """Tell whether a process of this machine, given by its number, is running."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # another user's; a number that none can have
        return True
    return True


def flush(path):
    """Wait until a file, or the names in a folder, are written to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:  # some network disks cannot, for folders
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(handle)


def flush_tree(folder):
    """Wait until a folder and everything in it are written to the disk."""
    for path in (*folder.rglob("*"), folder):
        if not path.is_symlink() and (path.is_file() or path.is_dir()):
            flush(path)


def write_json(path, value):
    """Write `value` as indented JSON, atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path):
    """Read a JSON file; raises a `UserError` if it is missing, damaged or nested too deeply."""
    try:
        return parse_json(Path(path).read_bytes(), path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: not readable ({error.strerror or error})") from error


def parse_json(content, where):
    """Parse bytes or text as JSON; a `UserError` for anything else names `where` it is from."""
    if len(content) > LONGEST_JSON:
        raise UserError(f"{where}: longer than {LONGEST_JSON >> 20} MB; no manifest is")
    try:
        return json.loads(content, object_pairs_hook=without_twins)
    except (ValueError, RecursionError) as error:  # bytes that are no text are a ValueError too
        raise UserError(f"{where}: not readable as JSON ({error})") from error


def without_twins(pairs):
    """Return the fields of a JSON object; raises a `ValueError` for a repeated field, which other
    programs would read differently.
    """
    fields = {}
    for name, value in pairs:
        if name in fields:
            raise ValueError(f"has the field {name[:60]!a} twice")
        fields[name] = value
    return fields


def read_yaml(path, kind):
    """Read a YAML file of settings.

    References ("*name") are refused: a few lines of them can stand for more than any memory holds.

    Parameters
    ----------
    path : str or Path
    kind : str
        Expected content, for the message.

    Raises
    ------
    UserError
        If it is missing, damaged, too long or nested too deep.
    """
    try:
        text = Path(path).read_text()
        if len(text) > LONGEST_YAML:
            raise UserError(f"{path}: {len(text)} characters are too many for {kind}")
        depth = 0
        for token in yaml.scan(text):  # each further level costs it more: not beyond DEEPEST
            if isinstance(token, yaml.AliasToken):
                raise UserError(f"{path}: holds a reference ('*name'); write the value out")
            depth += isinstance(token, OPENING) - isinstance(token, CLOSING)
            if depth > DEEPEST:
                raise UserError(f"{path}: not readable as {kind} in YAML (nested too deep)")
        return yaml.safe_load(text)
    except UserError:
        raise
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:  # ValueError: dates
        why = "nested too deep" if isinstance(error, RecursionError) else error
        raise UserError(f"{path}: not readable as {kind} in YAML ({why})") from error


def sha256(path):
    """Return the SHA-256 of a file, as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
