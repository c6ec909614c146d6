"""Stores at fsspec URLs: prepared on this machine, then copied file by file, `store.json` last."""

import hashlib
import json

import fsspec

from xmae.data.store.schema import OURS, STORE, checked_store, named_files
from xmae.errors import UserError, refusing
from xmae.files import cache_folder, parse_json


def filesystem(url):
    """Return the fsspec file system of a URL and the path in it."""
    try:
        return fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise UserError(f"{url}: no access to such paths ({error})") from error


def read_remote_store(url):
    """Read the `store.json` at a URL and check it against its schema; None if there is none."""
    url = str(url).rstrip("/")
    fs, path = filesystem(f"{url}/{STORE}")
    with refusing(f"{url}/{STORE}", "JSON"):
        try:
            content = fs.cat_file(path)
        except FileNotFoundError:
            return None
        return checked_store(parse_json(content, f"{url}/{STORE}"), url)


def stage_of(url):
    """Return this machine's folder for work on the store at a URL; the next try finds it again."""
    return cache_folder() / "prepare" / hashlib.sha256(url.rstrip("/").encode()).hexdigest()[:12]


def publish_remote(url, folder, meta, found):
    """Copy the files of a store from a local folder to a URL, `store.json` last, and remove old
    ones.

    Files are named by their content, so none is overwritten, and a reader sees the old store or the
    new one.

    Parameters
    ----------
    url : str
        URL of the store.
    folder : Path
        Has the files that `meta` names and the store does not have yet.
    meta : dict
        The new `store.json`.
    found : dict or None
        `store.json` as this work began from it; None if there was none.

    Raises
    ------
    UserError
        If `store.json` is not as found, because somebody else changed the store meanwhile, or
        nothing can be written.
    """
    fs, root = filesystem(url)
    root = root.rstrip("/")
    try:
        fs.makedirs(root, exist_ok=True)
        refuse_changed(url, found)
        for name in sorted(named_files(meta)):
            if (folder / name).is_file():
                fs.put_file(str(folder / name), f"{root}/{name}")
        refuse_changed(url, found)
        fs.pipe_file(f"{root}/{STORE}", json.dumps(meta, indent=2).encode())
        for name in named_files(found or meta) - named_files(meta):
            if OURS.fullmatch(name):
                fs.rm_file(f"{root}/{name}")
    except OSError as error:
        raise UserError(f"cannot write {url}: {error}") from error


def refuse_changed(url, found):
    """Raise a `UserError` if the `store.json` at a URL has changed since it was read."""
    if read_remote_store(url) != found:
        raise UserError(
            f"{url}: the store was changed by somebody else meanwhile, and is left as it is now; "
            "try again"
        )
