"""Checkpoints are at any moment the old or the new one, in their own folder, and the one before is
there too.
"""

import errno
import itertools
import os
import signal
import tempfile
from pathlib import Path

import pytest
import torch

from xmae.errors import UserError
from xmae.files import sweep
from xmae.training.fit import LAST, PREVIOUS, AtomicCheckpoints, check_resume, check_start
from xmae.training.pretrain import pretrain

STATE = {"state_dict": {"a": torch.arange(999.0)}, "optimizer_states": [], "lr_schedulers": [],
         "loops": {}, "callbacks": {}}  # fmt: skip
STEPS = ("mkstemp", "link", "write_bytes", "chmod", "fsync", "replace", "unlink")


def killed_at(step, count, write):
    """Fork a process that writes and is killed before the step is taken for the count-th time.

    Returns False if it takes that step fewer times.
    """
    process = os.fork()
    if process == 0:
        place = {"mkstemp": tempfile, "write_bytes": Path, "unlink": Path}.get(step, os)
        real, left = getattr(place, step), itertools.count(count, -1)

        def killed(*arguments, **settings):
            if next(left) == 0:
                if step == "write_bytes":
                    real(arguments[0], bytes(arguments[1])[:100])
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **settings)

        setattr(place, step, killed)
        try:
            write()
        finally:
            os._exit(7)
    _, status = os.waitpid(process, 0)
    assert status in (signal.SIGKILL, 7 << 8)
    return status == signal.SIGKILL


def step_of(path):
    return torch.load(path, weights_only=True)["global_step"]


@pytest.fixture
def checkpoints(tmp_path):
    """Return two checkpoints, of the steps 1 and 2."""
    folder = tmp_path / "checkpoints"
    for step in (1, 2):
        AtomicCheckpoints().save_checkpoint(STATE | {"global_step": step}, folder / LAST)
    assert (step_of(folder / PREVIOUS), step_of(folder / LAST)) == (1, 2)
    return folder


@pytest.mark.parametrize("step", STEPS)
def test_a_kill_at_any_step_of_the_writer_loses_nothing(checkpoints, step):
    def write():
        AtomicCheckpoints().save_checkpoint(STATE | {"global_step": 3}, checkpoints / LAST)

    count = 0
    while killed_at(step, count, write):
        count += 1
        assert step_of(checkpoints / LAST) in (2, 3) and step_of(checkpoints / PREVIOUS) in (
            1,
            2,
            3,
        )
    assert count >= 1
    sweep.cache_clear()  # as in a new process
    AtomicCheckpoints().save_checkpoint(STATE | {"global_step": 4}, checkpoints / LAST)
    assert {path.name for path in checkpoints.iterdir()} == {LAST, PREVIOUS}, "leftovers"


def test_nothing_goes_through_the_folder_for_temporary_files(checkpoints, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "absent"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "absent"))
    AtomicCheckpoints().save_checkpoint(STATE | {"global_step": 3}, checkpoints / LAST)
    assert (step_of(checkpoints / PREVIOUS), step_of(checkpoints / LAST)) == (2, 3)


def test_a_full_disk_costs_no_checkpoint(checkpoints, monkeypatch):
    def full(path, content):
        with open(path, "wb") as file:
            file.write(content[:100])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match="cannot write .*last.ckpt: No space left"):
        AtomicCheckpoints().save_checkpoint(STATE | {"global_step": 3}, checkpoints / LAST)
    assert (step_of(checkpoints / PREVIOUS), step_of(checkpoints / LAST)) == (1, 2)
    assert {path.name for path in checkpoints.iterdir()} == {LAST, PREVIOUS}


@pytest.mark.parametrize("content", [b"", b"PK\3\4 cut", b"other"])
def test_resume_falls_back_to_the_one_before_and_says_so(checkpoints, capsys, content):
    (checkpoints.parent / "config.json").write_text("{}")
    assert check_resume(checkpoints.parent, {}) == str(checkpoints / LAST)
    if content == b"other":
        torch.save({"a": 1}, checkpoints / LAST)  # whole, but no checkpoint
    else:
        (checkpoints / LAST).write_bytes(content)
    assert check_resume(checkpoints.parent, {}) == str(checkpoints / PREVIOUS)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and "last.ckpt: damaged checkpoint" in said[0]
    assert said[0].endswith("going on from the one before, previous.ckpt")
    (checkpoints / PREVIOUS).write_bytes(content and b"PK")
    with pytest.raises(UserError, match="last.ckpt: damaged checkpoint .*start again without"):
        check_resume(checkpoints.parent, {})


def test_a_training_resumed_from_the_one_before_ends_where_an_unbroken_one_ends(
    eight_patients, tmp_path
):
    store = str(eight_patients / "store")
    settings = {"method": "simclr", "size": "small", "epochs": 2, "batch_size": 8,
                "precision": "fp32"}  # fmt: skip
    unbroken = pretrain(store, str(tmp_path / "unbroken"), **settings)
    run = tmp_path / "run"
    cut = pretrain(store, str(run), **settings, max_minutes=1e-9)
    assert not cut["finished"]
    again = pretrain(store, str(run), **settings, max_minutes=1e-9, resume=True)
    assert not again["finished"]
    (run / "checkpoints" / LAST).write_bytes(b"")
    resumed = pretrain(store, str(run), **settings, resume=True)
    assert resumed["finished"] and resumed["history"] == unbroken["history"]
    assert not [path for path in run.rglob(".*")], "leftovers"


def test_a_place_that_cannot_be_written_is_refused_before_training(tmp_path):
    (tmp_path / "file").write_text("mine")
    settings = {"epochs": 1, "batch_size": 1, "patience": None, "lr": 1.0}
    with pytest.raises(UserError, match="file: is no folder"):
        check_start(tmp_path / "file", settings, resume=False)
