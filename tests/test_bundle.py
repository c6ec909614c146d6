"""The bundle: complete, checked on opening, and refused when anything in it is not what was written."""

import json
import shutil
import sys

import numpy as np
import pytest

from xmae.data.bidmc import bidmc_files
from xmae.data.prepare import prepare
from xmae.data.store import WindowStore
from xmae.errors import UserError
from xmae.evaluation.embedding import embed_windows
from xmae.evaluation.heads import apply_head
from xmae.export import Bundle, seal
from xmae.export.build import export
from xmae.models import load_encoder
from xmae.quantize import training_windows
from xmae.signals.filters import ppg_sos


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "store"
    prepare([str(p) for p in bidmc_files()[:9]], str(path), split="0.6,0.2,0.2")
    return WindowStore(path)


@pytest.fixture(scope="module")
def built(store, tmp_path_factory):
    """A bundle whose "teacher" is the student too, so that it is quick to build."""
    path = tmp_path_factory.mktemp("bundle") / "bundle"
    result = export("student-mcu", "student-mcu", str(store.path), str(path), targets="onnx", n_calibration=64)
    return path, result


@pytest.fixture
def copy(built, tmp_path):
    """A copy to harm."""
    return shutil.copytree(built[0], tmp_path / "copy")


def edit(folder, change):
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_manifest_says_what_is_there(built, store):
    path, result = built
    bundle = Bundle.open(path)
    assert {(e["model"], e["format"], e["precision"]) for e in bundle.models} == {
        (model, "onnx", precision) for model in ("teacher", "student") for precision in ("fp32", "int8")
    }
    for entry in bundle.models:
        assert entry["bytes"] == (path / entry["file"]).stat().st_size
        assert entry["macs"] < 4_000_000
        assert entry["input"]["shape"] == [1, 1, 1, 1000]
    manifest = bundle.manifest
    assert manifest["window"] == {"sfreq": 100, "n_times": 1000, "range": [-1, 1]}
    assert np.array_equal(manifest["preprocessing"]["cleaning"]["sos"]["125"], ppg_sos(125))
    assert {store.splits[s] for s in manifest["calibration"]["subjects"]} == {"train"}
    assert set(manifest["files"]) == {p.name for p in path.iterdir()} - {"manifest.json"}
    assert {"torch", "onnxruntime"} <= manifest["created_with"].keys()
    assert list(result)[-1] == "out"


def test_embedding_and_head_from_the_bundle_alone(built, store):
    bundle, val = Bundle.open(built[0]), store.windows("val")
    expected = embed_windows(load_encoder("student-mcu"), val)
    np.testing.assert_allclose(bundle.embed(val.ppg, "student", "onnx", "fp32"), expected, atol=1e-4)
    rate = apply_head(bundle.heads["student"]["hr"], bundle.embed(val.ppg, "student", "onnx", "int8"))
    assert np.abs(rate - val.labels["hr"]).mean() == pytest.approx(
        bundle.manifest["metrics"]["heads_on_val"]["student"]["hr"]["mae"], abs=1
    )


def test_model_card_shows_the_measured_numbers(built):
    card, bundle = (built[0] / "model_card.md").read_text(), Bundle.open(built[0])
    for entry in bundle.models:
        assert f"{entry['drift']['centred_cosine_median']:.4f}" in card
        assert f"{entry['bytes'] / 1000:.0f}" in card


@pytest.mark.parametrize("name", ["student_int8.onnx", "teacher.safetensors", "heads.json", "model_card.md"])
@pytest.mark.parametrize("harm", ["flipped", "truncated", "missing"])
def test_a_damaged_file_is_refused(copy, name, harm):
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    {
        "flipped": lambda: (copy / name).write_bytes(data),
        "truncated": lambda: (copy / name).write_bytes(data[: len(data) // 2]),
        "missing": (copy / name).unlink,
    }[harm]()
    with pytest.raises(UserError, match=name):
        Bundle.open(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(schema_version=2), "version 2, expected 1"),
        (lambda m: m.pop("models"), "lacks models"),
        (lambda m: m["window"].update(sfreq=125), "made for windows"),
        (lambda m: m["files"].pop("student_int8.onnx"), "no hash of student_int8.onnx"),
        (lambda m: m["files"].update({"../escape": "0"}), "lacks the file"),
    ],
)
def test_a_wrong_manifest_is_refused(copy, change, message):
    (copy.parent / "escape").write_text("")
    edit(copy, change)
    with pytest.raises(UserError, match=message):
        Bundle.open(copy)


def test_what_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(UserError, match="no bundle"):
        Bundle.open(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(UserError, match="not readable as JSON"):
        Bundle.open(tmp_path)
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(UserError, match="version None"):
        Bundle.open(tmp_path)


def test_seal_hashes_anew(copy):
    (copy / "model_card.md").write_text("changed")
    with pytest.raises(UserError):
        Bundle.open(copy)
    seal(copy, json.loads((copy / "manifest.json").read_text()))
    assert Bundle.open(copy).path == copy


def test_a_bundle_opens_and_runs_without_the_other_runtimes(built, store, monkeypatch):
    for library in ("executorch", "ai_edge_litert", "litert_torch", "ai_edge_quantizer", "torchao"):
        monkeypatch.setitem(sys.modules, library, None)
    assert Bundle.open(built[0]).embed(store.windows("val").ppg[:2], "student", "onnx", "int8").shape == (2, 256)


def test_unknown_entry(built):
    with pytest.raises(UserError, match="holds no int8 student for litert"):
        Bundle.open(built[0]).entry("student", "litert", "int8")


@pytest.mark.parametrize("mistake", ["target", "leak", "encoder"])
def test_a_mistake_leaves_the_old_bundle_as_it_was(copy, store, tmp_path, mistake):
    calibration = training_windows(store.windows("train"), 32)
    calibration.subject[0] = next(s for s, split in store.splits.items() if split == "test")
    calibration.save(tmp_path / "leak.npz")
    settings = {"teacher": "student-mcu", "student": "student-mcu", "data": str(store.path), "out": str(copy)}
    settings |= {
        "target": {"targets": "tensorrt"},
        "leak": {"calibration": str(tmp_path / "leak.npz")},
        "encoder": {"student": str(copy / "model_card.md")},
    }[mistake]
    with pytest.raises(UserError):
        export(**settings)
    assert Bundle.open(copy).path == copy
