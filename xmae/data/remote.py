"""Stores at fsspec URLs: prepared on this machine, then copied file by file, `store.json` last."""

import hashlib
import json
import shutil
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


def prepare_remote(url, run):
    """Prepare into a local folder by `run(folder)`, and copy the result to a URL.

    Unfinished work is found again in the temporary folder, which belongs to the URL.
    """
    url = url.rstrip("/")
    local = Path(tempfile.gettempdir()) / f"xmae-{hashlib.sha256(url.encode()).hexdigest()[:12]}"
    result = run(local / "store")
    publish_remote(url, local / "store", json.loads((local / "store" / "store.json").read_text()))
    shutil.rmtree(local)
    return result | {"out": url}


def publish_remote(url, folder, meta):
    """Copy those files of a store that lie in a local folder to a URL, `store.json` last, and clear away old ones.

    Files are named by their content, so none is overwritten, and a reader sees the old store or the new one.
    """
    fs, root = filesystem(url)
    try:
        fs.makedirs(root, exist_ok=True)
        old = json.loads(fs.cat_file(f"{root}/store.json")) if fs.exists(f"{root}/store.json") else meta
        for path in folder.glob("*.parquet"):
            fs.put_file(str(path), f"{root}/{path.name}")
        fs.pipe_file(f"{root}/store.json", json.dumps(meta, indent=2).encode())
        for name in named_files(old) - named_files(meta):
            fs.rm_file(f"{root}/{name}")
    except OSError as error:
        raise UserError(f"cannot write {url}: {error}") from error
