"""Writing without losing: old content stays on failure, new content replaces it on success, nothing
else is left.
"""

import errno
import json
import os
import resource
import shutil
import signal
import stat
import tempfile
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xmae import files
from xmae.errors import UserError
from xmae.files import (
    atomic_file,
    atomic_folder,
    prefix_of,
    read_json,
    read_yaml,
    sha256,
    sweep,
    write_json,
)
from xmae.models.checkpoint import save_encoder
from xmae.models.student import McuStudent

FAILURES = {
    "full": (OSError(errno.ENOSPC, "No space left on device"), UserError),
    "mistake": (UserError("wrong rate"), UserError),
    "bug": (RuntimeError("bug"), RuntimeError),
    "interrupted": (KeyboardInterrupt(), KeyboardInterrupt),
}
contents = st.binary(max_size=40)
folders = st.dictionaries(st.sampled_from(["a", "b.json", "c.npz"]), contents)
failures = st.sampled_from([None, *FAILURES])


def tree(folder):
    """Return all files below a folder with their bytes, and all folders."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def write_and_perhaps_fail(atomic, path, write, failure):
    if failure is None:
        with atomic(path) as temporary:
            write(temporary)
        return
    error, seen = FAILURES[failure]
    with pytest.raises(seen), atomic(path) as temporary:
        write(temporary)
        raise error


@settings(max_examples=50, deadline=None)
@given(old=st.none() | contents, new=contents, failure=failures)
def test_a_file_is_the_old_or_the_new_one_and_alone(old, new, failure):
    with TemporaryDirectory() as folder:
        path = Path(folder) / "deep" / "result.bin"
        if old is not None:
            path.parent.mkdir()
            path.write_bytes(old)
        write_and_perhaps_fail(
            atomic_file, path, lambda temporary: temporary.write_bytes(new), failure
        )
        expected = old if failure else new
        assert tree(path.parent) == ({} if expected is None else {"result.bin": expected})


@settings(max_examples=50, deadline=None)
@given(old=st.none() | folders, new=folders, failure=failures)
def test_a_folder_is_the_old_or_the_new_one_as_a_whole(old, new, failure):
    def fill(folder, files):
        for name, content in files.items():
            (folder / name).write_bytes(content)

    with TemporaryDirectory() as parent:
        path = Path(parent) / "store"
        if old is not None:
            path.mkdir()
            fill(path, old)
        write_and_perhaps_fail(atomic_folder, path, lambda temporary: fill(temporary, new), failure)
        expected = old if failure else new
        assert (tree(path) if path.exists() else None) == expected
        assert [item.name for item in Path(parent).iterdir()] == (
            [] if expected is None else ["store"]
        )


def test_the_old_file_is_whole_until_the_end(tmp_path):
    path = tmp_path / "result.json"
    write_json(path, {"run": 1})
    with atomic_file(path) as temporary:
        temporary.write_text("half")
        assert read_json(path) == {"run": 1}
        # the same disk; savers look at suffixes
        assert temporary.parent == path.parent and temporary.suffix == ".json"
    assert path.read_text() == "half"


def test_weights_that_do_not_fit_leave_the_old_ones(tmp_path):
    path, old = tmp_path / "weights.safetensors", resource.getrlimit(resource.RLIMIT_FSIZE)
    path.write_bytes(b"old")
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, old[1]))
    try:
        with pytest.raises(UserError, match="cannot write .*weights.safetensors: File too large"):
            save_encoder(McuStudent(), path, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert tree(tmp_path) == {"weights.safetensors": b"old"}


def test_others_may_read_what_was_written(tmp_path):
    write_json(tmp_path / "plain.json", {})
    # safetensors puts a file of its own in the place
    save_encoder(McuStudent(), tmp_path / "weights.safetensors", {})
    with atomic_folder(tmp_path / "folder") as folder:
        write_json(folder / "inside.json", {})
    for path in tmp_path.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o644), path


@pytest.mark.parametrize("atomic", [atomic_file, atomic_folder])
def test_below_a_file_nothing_can_be_written(tmp_path, atomic):
    path = tmp_path / "file" / "result"
    path.parent.write_text("mine")
    with (
        pytest.raises(UserError, match="cannot write .*file/result: (File exists|Not a directory)"),
        atomic(path),
    ):
        pass
    assert tree(tmp_path) == {"file": b"mine"}


def test_a_file_does_not_replace_a_folder(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("mine")
    with pytest.raises(UserError, match="cannot write .*out: Is a directory"):
        write_json(tmp_path / "out", {})
    assert tree(tmp_path) == {"out": None, "out/old": b"mine"}


def test_json_is_strict_and_damage_is_one_line(tmp_path):
    path = tmp_path / "metrics.json"
    write_json(path, {"cosine": 0.5, "name": "ä"})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"cosine": float("nan")})
    assert read_json(path) == {"cosine": 0.5, "name": "ä"} == json.loads(path.read_text())
    path.write_bytes(b'{"cosine": \xff')
    with pytest.raises(UserError, match="metrics.json: not readable as JSON"):
        read_json(path)
    with pytest.raises(UserError, match="no such file"):
        read_json(tmp_path / "absent.json")


def test_sha256_of_the_standard(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert (
        sha256(tmp_path / "abc")
        == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


@pytest.mark.parametrize("exchanges", [True, False])
@pytest.mark.parametrize("step", ["mkdtemp", "fsync", "exchange", "rename", "rmtree"])
def test_a_kill_at_any_step_leaves_the_old_folder_or_the_new_one(tmp_path, step, exchanges):
    path = tmp_path / "store"

    def write(content):
        with atomic_folder(path) as folder:
            (folder / "a").write_text(content)
            (folder / "b").write_text(content)

    def kill_at(count):
        place = {"mkdtemp": tempfile, "rmtree": shutil, "exchange": files}.get(step, os)
        if not exchanges:
            files.exchange = lambda new, path: False
        real, left = getattr(place, step), iter(range(count, -1, -1))

        def killed(*arguments, **settings):
            if next(left, None) == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **settings)

        setattr(place, step, killed)
        write("new")

    count, died = 0, True
    while died:
        write("old")
        process = os.fork()
        if process == 0:
            try:
                kill_at(count)
            finally:
                os._exit(0)
        died = os.waitpid(process, 0)[1] == signal.SIGKILL
        count += died
        sweep.cache_clear()
        sweep(tmp_path)  # as the next run does
        found = {file.name: file.read_text() for file in path.iterdir()}
        assert found in ({"a": "old", "b": "old"}, {"a": "new", "b": "new"})
        assert {item.name for item in tmp_path.iterdir()} <= {"store", ".store.lock"}
    assert count or step == ("rename" if exchanges else "")
    write("last")
    assert [item.name for item in tmp_path.iterdir()] == ["store"]


def test_what_other_machines_and_running_processes_write_is_left_alone(tmp_path):
    ours = prefix_of("a")
    for name in (f"{ours}12.json", ours.replace(files.HOST, "0" * 6), ".a.part", ".a", ".a.lock"):
        (tmp_path / name).write_text("theirs")
    before = tree(tmp_path)
    sweep(tmp_path)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("exchanges", [True, False])
@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()])
def test_a_folder_keeps_the_old_one_if_the_last_rename_fails(
    tmp_path, monkeypatch, error, exchanges
):
    path, rename = tmp_path / "store", os.rename
    path.mkdir()
    (path / "old").write_text("mine")

    def failing(source, target):
        # the new one, not the old one back
        if Path(target) == path and not str(source).endswith(files.OLD):
            raise error
        rename(source, target)

    if exchanges:
        monkeypatch.setattr(files, "exchange", failing)
    else:
        monkeypatch.setattr(files, "exchange", lambda new, path: False)
        monkeypatch.setattr(os, "rename", failing)
    with (
        pytest.raises(UserError if isinstance(error, OSError) else KeyboardInterrupt),
        atomic_folder(path) as folder,
    ):
        (folder / "new").write_text("new")
    assert tree(tmp_path) == {"store": None, "store/old": b"mine"}


YAML = {
    "a bomb": ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", "holds a reference"),
    "endless": ("a: " + "[" * 20_000, "nested too deep|not readable as settings in YAML"),
    "a date that is none": ("a: 2024-13-45\n", "not readable as settings in YAML"),
    "a command": ("a: !!python/object/apply:os.system [ls]\n", "not readable as settings in YAML"),
    "too long": ("a: " + "x" * (1 << 20), "characters are too many"),
    "not text": (b"\xff\xfe\x00", "not readable as settings in YAML"),
}


@pytest.mark.parametrize("kind", YAML)
def test_yaml_is_settings_and_no_more(tmp_path, kind):
    content, why = YAML[kind]
    (tmp_path / "a.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=why):
        read_yaml(tmp_path / "a.yaml", "settings")
    (tmp_path / "good.yaml").write_text("a: [1, 2]\nb: x\n")
    assert read_yaml(tmp_path / "good.yaml", "settings") == {"a": [1, 2], "b": "x"}
