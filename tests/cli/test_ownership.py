"""One owner a folder, and places that cannot be written to are refused before any work."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from inspect import Parameter, signature
from itertools import chain

import pytest

from xmae import ownership
from xmae.cli import INTO_A_FILE, VERBS, function_of, main
from xmae.cli.options import option
from xmae.errors import UserError
from xmae.files import atomic_folder
from xmae.ownership import owned

HOLD = """
import sys, time
from xmae.ownership import owned
with owned(sys.argv[1]):
    print("mine", flush=True)
    time.sleep(600)
"""
SETTINGS = {verb: signature(function_of(verb)).parameters for verb in VERBS}
WITH_OUT = [verb for verb in VERBS if "out" in SETTINGS[verb]]


def line_of(verb, out):
    """Return a line of the verb whose inputs are not there."""
    needed = [name for name, p in SETTINGS[verb].items() if p.default is Parameter.empty]
    words = list(chain.from_iterable((option(name), "absent") for name in needed))
    return [*verb.split(), *words, "--out", str(out)]


def refused(capsys, verb, out):
    """Return what the verb says, in one line, before it looks at its inputs."""
    assert main(line_of(verb, out)) == 2
    (said,) = capsys.readouterr().err.splitlines()
    return said


@pytest.fixture(scope="module")
def other_process(tmp_path_factory):
    """Yield a folder that another process owns."""
    folder = tmp_path_factory.mktemp("owned") / "run"
    process = subprocess.Popen([sys.executable, "-c", HOLD, folder], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"mine\n"
    yield folder
    process.kill()
    process.wait()


@pytest.mark.parametrize("verb", WITH_OUT)
def test_every_verb_refuses_a_place_that_another_process_writes(other_process, capsys, verb):
    said = refused(capsys, verb, other_process)
    assert said == (
        f"xmae: {other_process}: another xmae process is writing there; wait for it, or name"
        " another place"
    )
    assert not other_process.exists()


@pytest.mark.parametrize("verb", WITH_OUT)
def test_every_verb_checks_its_place_before_it_works(tmp_path, capsys, monkeypatch, verb):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    other = tmp_path / ("folder" if verb in INTO_A_FILE else "file")
    assert "expected" in refused(capsys, verb, other)
    assert "expected" in refused(capsys, verb, "/dev/null")
    assert "Not a directory" in refused(capsys, verb, tmp_path / "file" / "below" / "it")
    if verb != "data verify":
        assert "the name is empty" in refused(capsys, verb, "")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(9, 8, 10**6))
        assert "1 MB are free there, 67 MB are needed" in refused(capsys, verb, tmp_path / "run")

    def read_only(**settings):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(tempfile, "TemporaryFile", read_only)
    assert "cannot write " in (said := refused(capsys, verb, tmp_path / "run"))
    assert said.endswith("run: Read-only file system")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_an_owner_may_own_again_and_leaves_nothing(tmp_path):
    with owned(tmp_path / "run"):
        with owned(tmp_path / "run"), atomic_folder(tmp_path / "run") as folder:
            (folder / "a").write_text("a")
        assert (tmp_path / ".run.lock").is_file(), "the outer one still owns it"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_killed_owner_owns_nothing(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "a"], stdout=subprocess.PIPE)
    process.stdout.readline()
    with pytest.raises(UserError, match="another xmae process is writing"), owned(tmp_path / "a"):
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    with owned(tmp_path / "a"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_link_and_its_folder_are_one_place(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "run")
    assert ownership.lock_file((tmp_path / "link").resolve()) == tmp_path / ".run.lock"
