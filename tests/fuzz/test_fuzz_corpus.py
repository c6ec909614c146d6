"""Inputs that fuzzing found, replayed under sanitizers; none may end a program.

`python -m tests.fuzz` looks for new ones, with clang's libFuzzer.
"""

import subprocess
from dataclasses import replace

import pytest

from .build import ALL, CORPUS, HARNESSES, SANITIZERS, build, inputs

FLAGS = (SANITIZERS, "-fno-sanitize-recover=all")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@pytest.mark.parametrize("name", ALL)
def test_no_input_that_was_found_ends_a_harness(name, folder):
    files = inputs(name)
    assert len(files) > 4
    program = build(ALL[name], folder, flags=FLAGS)
    done = subprocess.run([program, *files], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) == len(files)


def test_a_harness_ends_where_the_code_is_wrong(folder):
    """A FIFO that takes one sample more than it holds."""
    place = folder / "wrong"
    place.mkdir()
    (source,) = ALL["fifo"].covered
    right = "written - taken == FIFO_DEPTH"
    assert right in source.read_text()
    (place / "fifo.c").write_text(source.read_text().replace(right, right.replace("==", ">")))
    program = build(replace(ALL["fifo"], covered=(place / "fifo.c",)), place, flags=FLAGS)
    done = subprocess.run([program, *inputs("fifo")], capture_output=True, text=True)
    assert done.returncode != 0 and "not so" in done.stderr


def test_every_harness_and_every_folder_of_inputs_is_in_use():
    helpers = {"replay"}
    assert {path.stem for path in HARNESSES.glob("*.c")} - helpers == set(ALL)
    assert {path.name for path in CORPUS.iterdir()} == set(ALL)
    assert sum(len(inputs(name)) for name in ALL) < 400
