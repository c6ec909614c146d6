"""Pickles are read by a machine that can do no harm: nothing in a file is run, or believed."""

import os
import pickle
import struct
import time
from collections import OrderedDict

import numpy as np
import pytest

from xmae.data.recording.readers import plain_pickle, read_recording
from xmae.errors import UserError

VALUES = {
    "text": "S1", "number": 64, "float": 0.5, "none": None, "list": [1, "a"], "tuple": (1, 2),
    "nested": {"a": {"b": True}}, "ordered": OrderedDict(), "long": 2**40,
}  # fmt: skip
ARRAYS = {
    "float": np.arange(6.0).reshape(2, 3), "int": np.arange(4, dtype=np.int16),
    "text": np.array(["a", "bc"]), "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big": np.arange(3, dtype=">f4"), "bool": np.array([True, False]), "empty": np.zeros((0, 3)),
}  # fmt: skip


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_what_numpy_writes_is_read_as_pickle_reads_it(tmp_path, protocol):
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(VALUES | {"scalar": np.float64(1.5), "arrays": ARRAYS}, protocol))
    read = plain_pickle.load(path)
    arrays = read.pop("arrays")
    assert read == VALUES | {"scalar": 1.5}
    for name, expected in ARRAYS.items():
        got = np.asarray(arrays[name])
        np.testing.assert_array_equal(got, expected)
        assert got.dtype == expected.dtype


class Calls:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def array_of(dtype, shape, data):
    """Return a pickle of an array with any type, shape and bytes."""
    blank = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tC\x01btR"
    made = b"(K\x01" + shape + b"cnumpy\ndtype\n(X" + struct.pack("<I", len(dtype)) + dtype.encode()
    made += b"\x89\x88tR(K\x03X\x01\x00\x00\x00<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
    return b"\x80\x03" + blank + made + b"C" + bytes([len(data)]) + data + b"tb."


HOSTILE = {
    "a command": pickle.dumps(Calls(os.system, "touch harm")),
    "ndarray over bytes of objects": pickle.dumps(Calls(np.ndarray, (1,), "O", b"AAAAAAAA")),
    "ndarray over bytes": pickle.dumps(Calls(np.ndarray, (1,), "f8", b"AAAAAAAA")),
    "objects": array_of("O8", b"(K\x01t", b"AAAAAAAA"),
    "records of objects": array_of("V8", b"(K\x01t", b"AAAAAAAA"),
    "more shape than bytes": array_of("f8", b"(J\xff\xff\xff\x7ft", b"AAAAAAAA"),
    "negative shape": array_of("f8", b"(J\xff\xff\xff\xfft", b"AAAAAAAA"),
    "dtype with a memory of its own": pickle.dumps(Calls(np.dtype, "f8,O")),
    "dtype that is changed": b"\x80\x03cnumpy\ndtype\n}X\x01\x00\x00\x00aK\x01sb.",
    "new object": b"\x80\x03cnumpy\nndarray\n(K\x01t\x81.",
    "old style object": b"(cnumpy\nndarray\nK\x01o.",
    "long bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"abc.",
    "long frame": b"\x80\x04\x95" + struct.pack("<Q", 2**40) + b"abc.",
    "far memo": b"\x80\x03K\x01r\xff\xff\xff\xff.",
    "keys that take for ever": b"\x80\x03}(K\x01" + b"2\x86" * 60 + b"K\x01u.",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_nothing_in_a_file_is_run_or_believed(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    path, start = tmp_path / "S1.pkl", time.process_time()
    path.write_bytes(HOSTILE[kind])
    with pytest.raises(UserError, match="S1.pkl: "):
        read_recording(path)
    assert [item.name for item in tmp_path.iterdir()] == ["S1.pkl"]
    assert time.process_time() - start < 5


def test_lists_that_hold_themselves_are_no_samples(tmp_path):
    endless = []
    endless += [endless, endless]
    content = {
        "subject": "S1",
        "signal": {"chest": {"ECG": endless}, "wrist": {"BVP": endless, "ACC": endless}},
    }
    (tmp_path / "S1.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match="S1.pkl: holds something else where an array is expected"):
        read_recording(tmp_path / "S1.pkl")
