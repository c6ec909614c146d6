"""Stores at fsspec URLs: prepared on this machine, then copied file by file, `store.json` last."""

import hashlib
import json
import tempfile
from pathlib import Path

import fsspec

from xmae.data.store import named_files
from xmae.errors import UserError


def filesystem(url):
    """The fsspec file system of a URL and the path in it."""
    try:
        return fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise UserError(f"{url}: no access to such paths ({error})") from error


def read_remote_json(url, nothing):
    """A JSON file at a URL; `nothing` is what to say if it is not there."""
    fs, path = filesystem(url)
    try:
        return json.loads(fs.cat_file(path))
    except FileNotFoundError:
        raise UserError(nothing) from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{url}: not readable as JSON ({error})") from error


def prepare_remote(url, append, run):
    """Prepare into a local folder by `run(folder)` and copy the result to a URL.

    A reader sees the old store or the new one: store.json is copied last. Unfinished work is found again in the
    temporary folder, which belongs to the URL.
    """
    if append:
        raise UserError(f"{url}: stores can be appended to in a local folder only")
    url = url.rstrip("/")
    fs, root = filesystem(url)
    local = Path(tempfile.gettempdir()) / f"xmae-{hashlib.sha256(url.encode()).hexdigest()[:12]}"
    folder = local / "store"
    result = run(folder)
    meta = json.loads((folder / "store.json").read_text())
    try:
        fs.makedirs(root, exist_ok=True)
        old = json.loads(fs.cat_file(f"{root}/store.json")) if fs.exists(f"{root}/store.json") else meta
        for name in named_files(meta) - {"store.json"}:  # named by content: nothing is overwritten
            fs.put_file(str(folder / name), f"{root}/{name}")
        fs.pipe_file(f"{root}/store.json", json.dumps(meta, indent=2).encode())
        for name in named_files(old) - named_files(meta):
            fs.rm_file(f"{root}/{name}")
    except OSError as error:
        raise UserError(f"cannot write {url}: {error}") from error
    for path in sorted(local.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    local.rmdir()
    return result | {"out": url}
