"""The walk through MATLAB 5 files takes the steps that SciPy takes, and stops where they go too
deep.
"""

import faulthandler
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.sparse

from tests.faults.crafted import mat_deep
from tests.faults.run import in_a_process
from xmae.data.recording.matlab import DEEPEST, check_matlab
from xmae.data.recording.readers import read_recording
from xmae.errors import UserError

OF_SCIPY = Path(scipy.io.matlab.__file__).parent / "tests" / "data"
ARRAYS = {
    "real": np.arange(9.0), "complex": np.arange(4) + 1j, "none": np.zeros((0, 3)),
    "text": "a text", "texts": np.array(["one", "three"]), "truth": np.array([True, False]),
    "sparse": scipy.sparse.csc_matrix(np.eye(5)),
    "sparse_j": scipy.sparse.csc_matrix(1j * np.eye(3)),
    "struct": {"a": 1.0, "b": {"c": np.ones(3), "d": "x"}},
    "cells": np.array([np.ones(2), "x", np.array([[1, "y"]], object)], object),
    "structs": np.array([(1.0, "a"), (2.0, "b")], [("n", "O"), ("s", "O")]),
}  # fmt: skip


def cells(depth):
    """Return an array in so many cells."""
    inner = np.ones(3)
    for _ in range(depth):
        outer = np.empty((1, 1), object)
        outer[0, 0] = inner
        inner = outer
    return inner


@pytest.mark.parametrize("packed", [False, True])
def test_what_scipy_writes_is_walked_to_its_end(tmp_path, packed):
    scipy.io.savemat(tmp_path / "a.mat", ARRAYS, do_compression=packed)
    check_matlab(tmp_path / "a.mat")
    whole = (tmp_path / "a.mat").read_bytes()
    (tmp_path / "b.mat").write_bytes(whole + b"\x0f\0\0\0\x02\0\0\0xx")  # one more, which is none
    with pytest.raises(Exception, match="incorrect|ends within"):
        check_matlab(tmp_path / "b.mat")


def test_files_that_scipy_reads_are_walked_too():
    files = sorted(OF_SCIPY.glob("*.mat"))
    if not files:
        pytest.skip("SciPy is installed without its tests")
    for path in files:
        try:
            scipy.io.loadmat(path)
        except Exception:  # those are damaged on purpose
            continue
        check_matlab(path)


def test_cells_are_nested_so_deep_and_no_deeper(tmp_path):
    for depth, sound in ((DEEPEST - 1, True), (DEEPEST, False)):
        scipy.io.savemat(tmp_path / "a.mat", {"x": cells(depth)}, do_compression=True)
        if sound:
            check_matlab(tmp_path / "a.mat")
            continue
        with pytest.raises(UserError, match="nested more than"):
            check_matlab(tmp_path / "a.mat")


def test_the_deep_file_ends_a_process_without_the_walk(tmp_path):
    path = mat_deep(tmp_path)
    with pytest.raises(UserError, match="nested more than"):
        check_matlab(path)

    def load():
        faulthandler.disable()
        scipy.io.loadmat(path)

    assert os.waitstatus_to_exitcode(in_a_process(load)) == -signal.SIGSEGV


def test_the_file_with_the_heart_rates_is_walked_too(tmp_path):
    """The one beside a recording of the IEEE SPC."""
    signals = np.random.default_rng(0).normal(size=(6, 2500))
    scipy.io.savemat(tmp_path / "DATA_01_TYPE01.mat", {"sig": signals})
    scipy.io.savemat(tmp_path / "REF_01_TYPE01.mat", {"BPM0": cells(DEEPEST)})
    with pytest.raises(UserError, match="REF_01_TYPE01.mat: .*nested more than"):
        read_recording(tmp_path / "DATA_01_TYPE01.mat")
