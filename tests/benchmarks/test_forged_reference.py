"""Recorded references and earlier results: whatever is wrong with them is one line."""

import json

import numpy as np
import pytest

from xmae.benchmarks.harness.baseline import Reference, load_reference, save_reference
from xmae.benchmarks.harness.regressions import SCHEMA, SCHEMA_VERSION, read_result
from xmae.errors import UserError


@pytest.fixture
def folder(tmp_path):
    names = np.array(["a", "b"])
    info = {"device": "a CPU", "torch": "2", "latency_ms": {"student": 1.0}}
    info["weights"] = {"student": "0" * 64}
    embeddings, mean = {"student": np.ones((2, 4))}, {"student": np.ones(4)}
    save_reference(Reference(embeddings, mean, names, names, np.zeros(2), info), tmp_path)
    return tmp_path


def test_a_sound_reference_is_read(folder):
    assert load_reference(folder).embeddings["student"].shape == (2, 4)


INFOS = {
    "a list": lambda _: [1],
    "weights that are none": lambda i: i | {"weights": ["student"]},
    "a hash that is none": lambda i: i | {"weights": {"student": "x"}},
    "no device": lambda i: {key: i[key] for key in i if key != "device"},
    "device with an escape": lambda i: i | {"device": "\x1b[2J"},
    "latency of text": lambda i: i | {"latency_ms": {"student": "1"}},
    "precisions that are none": lambda i: i | {"precisions": [3]},
}


@pytest.mark.parametrize("forgery", INFOS)
def test_a_forged_description_is_one_line(folder, forgery):
    path = folder / "reference.json"
    path.write_text(json.dumps(INFOS[forgery](json.loads(path.read_text()))))
    with pytest.raises(UserError, match="reference.json") as refused:
        load_reference(folder)
    assert "\x1b" not in str(refused.value) and "\n" not in str(refused.value)


ARRAYS = {
    "no names": lambda a: {key: a[key] for key in a if key != "record"},
    "a model above": lambda a: a | {"embedding/../x": np.ones((2, 4))},
    "another array": lambda a: a | {"other": np.ones(2)},
    "fewer windows": lambda a: a | {"embedding/student": np.ones((1, 4))},
    "a model without a mean": lambda a: a | {"embedding/second": np.ones((2, 4))},
    "a number": lambda a: a | {"subject": np.array(3)},
    "objects": lambda a: a | {"subject": np.array([{}, {}])},
}


@pytest.mark.parametrize("forgery", ARRAYS)
def test_forged_arrays_are_one_line(folder, forgery):
    with np.load(folder / "reference.npz") as file:
        arrays = ARRAYS[forgery](dict(file))
    np.savez(folder / "reference.npz", **arrays)
    with pytest.raises(UserError, match="reference.npz") as refused:
        load_reference(folder)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("change", [{"schema_version": 1}, {"models": 3}, {"schema": "x"}])
def test_forged_results_are_one_line(tmp_path, change):
    result = {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, "models": []}
    (tmp_path / "bench.json").write_text(json.dumps(result))
    assert read_result(tmp_path) == result
    (tmp_path / "bench.json").write_text(json.dumps(result | change))
    with pytest.raises(UserError):
        read_result(tmp_path)
    (tmp_path / "bench.json").write_text(json.dumps({"schema": SCHEMA}))
    with pytest.raises(UserError):
        read_result(tmp_path)
