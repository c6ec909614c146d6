"""The bundle: complete, checked on opening, and refused when anything in it is not what was
written.
"""

import json
import os
import shutil
import sys
import tempfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from test_drift import change_scale

from xmae.benchmarks.harness.rows import HeadDrift
from xmae.benchmarks.studies.students import gain_table, teacher_table
from xmae.data.bidmc import bidmc_files
from xmae.errors import UserError
from xmae.evaluation.heads.embedding import embed_windows
from xmae.export import Bundle, seal
from xmae.export import export as building
from xmae.export.bundle.card import brief
from xmae.export.bundle.inspect import inspect
from xmae.export.bundle.migrate import SCHEMA_VERSION
from xmae.export.bundle.verify import verify
from xmae.export.export import export
from xmae.models import load_encoder, save_encoder
from xmae.models.student import count_macs
from xmae.quantize import exportable, training_windows
from xmae.quantize.calibration import Calibration
from xmae.quantize.graph import INPUT_SHAPE
from xmae.signals.filters import ppg_sos


@pytest.fixture(scope="module")
def store(nine_subjects):
    return nine_subjects


@pytest.fixture(scope="module")
def built(store, tmp_path_factory):
    """Return a bundle of two students, whose "teacher" is the smaller one too, so that it is quick
    to build.
    """
    path = tmp_path_factory.mktemp("bundle") / "bundle"
    return path, build(store, path)


def build(store, path, **settings):
    """Build a bundle whose first student was trained here, in a folder that is another each
    time.
    """
    student, trained = load_encoder("student-mcu"), path.parent / "training" / "student.safetensors"
    places = {"teacher": str(path.parent / "run" / "teacher.safetensors"), "data": str(store.path)}
    origin = {"settings": student.provenance["settings"] | places}
    origin |= {
        "teacher": {"settings": {"model": f"{path.parent}/qat/first.safetensors", "lr": 0.1}}
    }
    save_encoder(student, trained, student.provenance | origin)
    weights = ("student-mcu-s", [str(trained), "student-mcu-s"])
    return export(
        *weights, str(store.path), str(path), targets="onnx", n_calibration=64, **settings
    )


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Return two pairs of Ed25519 keys in PEM: a.pem, a.pub, b.pem, b.pub."""
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    folder = tmp_path_factory.mktemp("keys")
    for name in "ab":
        key = Ed25519PrivateKey.generate()
        pem = key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())
        public = key.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo)
        (folder / f"{name}.pem").write_bytes(pem)
        (folder / f"{name}.pub").write_bytes(public)
    return folder


@pytest.fixture
def copy(built, tmp_path):
    """Return a copy to harm."""
    return shutil.copytree(built[0], tmp_path / "copy")


def edit(folder, change):
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_manifest_says_what_is_there(built, store):
    path, result = built
    bundle = Bundle.open(path)
    assert {(e.model, e.format, e.precision) for e in bundle.models} == {
        (model, "onnx", precision)
        for model in ("teacher", "student", "student-mcu-s")
        for precision in ("fp32", "int8")
    }
    assert bundle.heads.keys() == {"teacher", "student", "student-mcu-s"}
    for entry in bundle.models:
        assert entry.bytes == (path / entry.file).stat().st_size
        assert entry.macs < 4_000_000
        assert entry.input.shape == [1, 1, 1, 1000]
    manifest = bundle.manifest
    assert manifest.window.as_json() == {"sfreq": 100, "n_times": 1000, "range": [-1, 1]}
    assert np.array_equal(manifest.preprocessing["cleaning"]["sos"]["125"], ppg_sos(125))
    assert {store.splits[s] for s in manifest.data["calibration"]["subjects"]} == {"train"}
    assert manifest.data["sources"] == sorted(p.name for p in bidmc_files()[:9])
    assert "Open Data Commons Attribution" in manifest.licences.data
    assert set(manifest.files) == {p.name for p in path.iterdir()} - {"manifest.json"}
    assert {"python", "torch", "onnxruntime"} <= manifest.tools.keys()
    assert "executorch" not in manifest.tools
    assert list(result)[-1] == "out"


def test_parameters_are_those_of_the_encoder_and_mac_those_of_the_file(built):
    for entry in Bundle.open(built[0]).models:
        encoder = load_encoder("student-mcu" if entry.model == "student" else "student-mcu-s")
        assert entry.params == sum(parameter.numel() for parameter in encoder.parameters())
        assert entry.macs == count_macs(exportable(encoder), INPUT_SHAPE)


def test_no_file_says_where_it_was_made_or_trained(built, store):
    """Nor the manifest, the card, and the headers of the weights: of paths only the names are
    left.
    """
    here = [tempfile.gettempdir(), str(Path(__file__).parents[2]), sys.prefix, str(store.path)]
    for path in built[0].iterdir():
        assert not [folder for folder in here if folder.encode() in path.read_bytes()], path.name
    origin = load_encoder(built[0] / "student.safetensors").provenance
    assert origin == Bundle.open(built[0]).manifest.provenance["student"]
    assert (
        origin["settings"]["teacher"] == "teacher.safetensors"
        and origin["settings"]["data"] == store.path.name
    )
    assert origin["teacher"]["settings"] == {"model": "first.safetensors", "lr": 0.1}
    assert origin["splits"] == load_encoder("student-mcu").provenance["splits"]


def test_each_student_is_itself(built, store):
    """The first by the name that a bundle of one has, the other by its tier."""
    bundle, val = Bundle.open(built[0]), store.windows("val")
    for model, name in (("student", "student-mcu"), ("student-mcu-s", "student-mcu-s")):
        expected = embed_windows(load_encoder(name), val.select(slice(8)))
        np.testing.assert_allclose(
            bundle.embed(val.ppg[:8], model, "onnx", "fp32"), expected, atol=1e-4
        )
        assert load_encoder(built[0] / f"{model}.safetensors").config["tier"] == name.removeprefix(
            "student-"
        )


@pytest.mark.parametrize(
    ("students", "message"),
    [
        ([], "at least one student"),
        (["student-mcu", "student-mcu-s", "student-mcu-s"], "has a student-mcu-s already"),
    ],
)
def test_students_that_make_no_bundle(store, tmp_path, students, message):
    with pytest.raises(UserError, match=message):
        export("student-mcu", students, str(store.path), str(tmp_path / "bundle"), targets="onnx")
    assert not (tmp_path / "bundle").exists()


def test_embedding_and_head_from_the_bundle_alone(built, store):
    bundle, val = Bundle.open(built[0]), store.windows("val")
    expected = embed_windows(load_encoder("student-mcu"), val)
    np.testing.assert_allclose(
        bundle.embed(val.ppg, "student", "onnx", "fp32"), expected, atol=1e-4
    )
    head = bundle.drift_heads("student")["hr"]  # six subjects may be too few for a head that ships
    rate, meant = (
        head.apply(x) for x in (bundle.embed(val.ppg, "student", "onnx", "int8"), expected)
    )
    assert np.abs(rate - meant).mean() < 1


def test_the_card_counts_long_lists_of_numbers():
    said = brief({"mean": [0.5] * 512, "files": ["a"] * 20, "few": [[1, 2]], "unit": 2.0})
    assert said == {"mean": "512 numbers", "files": ["a"] * 20, "few": [[1, 2]], "unit": 2.0}


def test_model_card_shows_the_measured_numbers(built):
    card, bundle = (built[0] / "model_card.md").read_text(), Bundle.open(built[0])
    for entry in bundle.models:
        assert f"{entry.drift.centred_cosine_median:.4f}" in card
        assert f"{entry.bytes / 1000:.0f}" in card


@pytest.mark.parametrize(
    "name", ["student_int8.onnx", "teacher.safetensors", "heads.json", "model_card.md"]
)
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
        (lambda m: m.update(schema_version=99), "version 99, newer than .*update xmae"),
        (lambda m: m.update(schema_version="2"), "expected 1 to"),
        (lambda m: m.pop("models"), "lacks models"),
        (lambda m: m["window"].update(sfreq=125), "made for windows"),
        (lambda m: m["files"].pop("student_int8.onnx"), "no hash of student_int8.onnx"),
        (lambda m: m["files"].update({"../escape": "0" * 64}), "no plain path"),
        (lambda m: m["files"].update(escape="0" * 64), "lacks the file"),
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


def as_version_1(manifest):
    """Change a bundle into what the first release wrote."""
    manifest.update(schema_version=1, created_with=manifest.pop("tools"), licence="Apache-2.0")
    manifest["calibration"] = manifest.pop("data")["calibration"]
    del manifest["licences"]
    for entry in manifest["models"]:
        entry["export_s"] = 1.5


def test_a_bundle_of_version_1_is_migrated_as_it_is_read(built, copy):
    now = Bundle.open(built[0]).manifest
    edit(copy, as_version_1)
    then = Bundle.open(copy).manifest
    assert then.schema_version == SCHEMA_VERSION
    assert then.tools == now.tools and then.models == now.models
    assert then.data["calibration"] == now.data["calibration"]
    assert then.licences.as_json() == {"models": "Apache-2.0", "data": "not recorded"}
    assert inspect(str(copy))["schema_version"] == {"written": 1, "read_as": SCHEMA_VERSION}
    assert verify(str(copy))["passed"]


@pytest.mark.extended
def test_made_twice_it_is_the_same_to_the_byte(store, built, keys, tmp_path):
    """Signed or not; and the signature of the same manifest by the same key is the same too."""
    build(store, tmp_path / "again", sign_with=str(keys / "a.pem"))
    once, again = (
        {p.name: p.read_bytes() for p in path.iterdir()} for path in (built[0], tmp_path / "again")
    )
    assert {name for name in again if again[name] != once.get(name)} == {
        "manifest.sig"
    } and once.keys() < again.keys()
    seal(tmp_path / "again", json.loads(again["manifest.json"]), keys / "a.pem")
    assert {p.name: p.read_bytes() for p in (tmp_path / "again").iterdir()} == again


def test_signature(copy, keys):
    manifest = json.loads((copy / "manifest.json").read_text())
    signatures = []
    for _ in range(2):
        seal(copy, manifest, keys / "a.pem")
        signatures.append((copy / "manifest.sig").read_bytes())
    assert signatures[0] == signatures[1]  # the same manifest, the same key
    found = verify(str(copy), run=False)
    assert (found["signature"], found["signed_by"]) == ("unverified", None)
    found = verify(str(copy), str(keys / "a.pub"), run=False)
    assert found["signature"] == "verified" and found["passed"] and len(found["signed_by"]) == 64
    with pytest.raises(UserError, match="signed with another key"):
        verify(str(copy), str(keys / "b.pub"), run=False)
    edit(copy, lambda manifest: manifest.update(name="other"))
    with pytest.raises(UserError, match="not a signature of this manifest"):
        verify(str(copy), run=False)


@pytest.mark.parametrize("harm", ["missing", "no signature", "text", "private"])
def test_a_key_that_cannot_be_used(copy, keys, tmp_path, harm):
    path = {
        "missing": tmp_path / "none",
        "no signature": keys / "a.pub",
        "private": keys / "a.pem",
    }.get(harm)
    if harm == "text":
        path = tmp_path / "text"
        path.write_text("hello")
    with pytest.raises(UserError, match="not signed" if harm == "no signature" else path.name):
        verify(str(copy), str(path), run=False)


def test_missing_cryptography_names_the_extra(copy, keys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(UserError, match=r"cryptography is not installed.*xmae\[edge\]"):
        verify(str(copy), str(keys / "a.pub"))


def test_verify_runs_the_models_and_finds_strangers(built, copy):
    found = verify(str(built[0]))
    assert (
        found["passed"]
        and set(found["models"].values()) == {"runs"}
        and found["other_versions"] == {}
    )
    (copy / "stranger.txt").write_text("")
    (copy / "config.yaml").write_text("")  # the command line adds it
    edit(copy, lambda manifest: manifest["tools"].update(onnxruntime="0.1"))
    found = verify(str(copy))
    assert not found["passed"] and found["unlisted"] == ["stranger.txt"]
    assert found["other_versions"]["onnxruntime"][0] == "0.1"


@pytest.mark.parametrize("harm", ["input", "output", "other weights"])
@pytest.mark.parametrize(
    "student", ["student", pytest.param("student-mcu-s", marks=pytest.mark.extended)]
)
def test_verify_finds_a_model_that_computes_something_else(copy, student, harm):
    """Whose hashes say that all is well; and whichever model is wrong, the others run."""
    path = copy / f"{student}_int8.onnx"
    if harm == "other weights":
        shutil.copy(copy / f"{'student' if student != 'student' else 'teacher'}_int8.onnx", path)
    else:
        change_scale(
            path,
            *{"input": ("QuantizeLinear", 0), "output": ("DequantizeLinear", -1)}[harm],
            factor=1.5,
        )
    seal(copy, json.loads((copy / "manifest.json").read_text()))
    found = verify(str(copy))
    assert not found["passed"] and "differs from its float weights" in found["models"].pop(
        path.name
    )
    assert set(found["models"].values()) == {"runs"}


@pytest.mark.extended
def test_verify_without_float_weights_compares_with_the_first_file(copy):
    for path in copy.glob("*.safetensors"):
        path.unlink()
    change_scale(copy / "student_int8.onnx", "DequantizeLinear", -1, factor=1.5)
    seal(copy, json.loads((copy / "manifest.json").read_text()))
    models = verify(str(copy))["models"]
    assert [file for file, state in models.items() if state != "runs"] == ["student_int8.onnx"]


def test_inspect_says_it_as_text_too(built):
    found = inspect(str(built[0]))
    assert [row["file"] for row in found["models"]] == [
        e.file for e in Bundle.open(built[0]).models
    ]
    assert found["signed_by"] is None and "no signature" in found["out"]
    assert all(f"{row['centred_cosine']:.4f}" in found["out"] for row in found["models"])


def test_seal_hashes_anew(copy):
    (copy / "model_card.md").write_text("changed")
    with pytest.raises(UserError):
        Bundle.open(copy)
    seal(copy, json.loads((copy / "manifest.json").read_text()))
    assert Bundle.open(copy).path == copy


def test_a_bundle_opens_and_runs_without_the_other_runtimes(built, store, monkeypatch):
    for library in ("executorch", "ai_edge_litert", "litert_torch", "ai_edge_quantizer", "torchao"):
        monkeypatch.setitem(sys.modules, library, None)
    assert Bundle.open(built[0]).embed(
        store.windows("val").ppg[:2], "student", "onnx", "int8"
    ).shape == (2, 256)


def test_unknown_entry(built):
    with pytest.raises(UserError, match="holds no int8 student for litert"):
        Bundle.open(built[0]).entry("student", "litert", "int8")


@pytest.mark.parametrize(
    "mistake", ["target", "precision", "leak", "few", "flat", "encoder", "key", "c without int8"]
)
def test_a_mistake_leaves_the_old_bundle_as_it_was(copy, store, tmp_path, mistake):
    calibration = training_windows(store.windows("train"), 32)
    calibration.subject[0] = next(s for s, split in store.splits.items() if split == "test")
    calibration.save(tmp_path / "leak.npz")
    good = training_windows(store.windows("train"), 32)
    Calibration(good.ppg[:4], good.subject[:4], good.record[:4], good.start_s[:4]).save(
        tmp_path / "few.npz"
    )
    Calibration(np.zeros_like(good.ppg), good.subject, good.record, good.start_s).save(
        tmp_path / "flat.npz"
    )
    settings = {
        "teacher": "student-mcu",
        "student": "student-mcu",
        "data": str(store.path),
        "out": str(copy),
    }
    settings |= {
        "target": {"targets": "tensorrt"},
        "precision": {"precisions": "int3"},
        "leak": {"calibration": str(tmp_path / "leak.npz")},
        "few": {"calibration": str(tmp_path / "few.npz")},
        "flat": {"calibration": str(tmp_path / "flat.npz")},
        "key": {"sign_with": str(tmp_path / "none.pem")},
        "c without int8": {"targets": "c", "precisions": "fp32"},
        "encoder": {"student": str(copy / "model_card.md")},
    }[mistake]
    message = {
        "target": "unknown target", "precision": "int3",
        "leak": "outside the train split would leak", "few": "at least 16 windows", "flat": "flat",
        "encoder": "model_card.md", "key": "none.pem", "c without int8": "add int8",
    }[mistake]  # fmt: skip
    with pytest.raises(UserError, match=message):
        export(**settings)
    assert Bundle.open(copy).path == copy


def test_an_export_whose_worker_is_killed_half_way_leaves_the_old_bundle_as_it_was(
    copy, store, monkeypatch
):
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    unfinished = partial(copy.parent.glob, ".copy.*")
    two_processes = building.two_processes

    @contextmanager
    def killed():
        """Yield the pool of the export, which loses a process at once."""
        with two_processes() as pool:

            def work(function, *columns):
                assert list(unfinished())
                return pool.submit(os._exit, 9).result()

            yield SimpleNamespace(map=work)

    monkeypatch.setattr(building, "two_processes", killed)
    with pytest.raises(
        UserError, match="a process of the export was killed, most likely because memory ran out"
    ):
        build(store, copy)
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before
    assert not list(unfinished())


def test_what_is_kept_of_the_teachers_gain():
    """Of a gain of 0.4 bpm the student keeps 0.3; where random weights do better than the teacher
    there is no gain.
    """
    values = {"untrained": (4.4, 0.6), "teacher": (4.0, 0.5), "student": (4.1, 0.7)}
    tasks = {
        name: {"label": name, "metric": metric, "units": "", "baseline": 0.5, "encoders": {
            (model, "litert" if model == "student" else "pytorch"): {
                "value": pair[i], "interval": [0, 9], "minus_first": pair[i] - values["teacher"][i],
                "minus_first_interval": [0.1, 0.3],
            } for model, pair in values.items()
        }} for i, (name, metric) in enumerate((("hr", "mae"), ("sex", "auroc")))
    }  # fmt: skip
    gain, kept = gain_table(tasks, ["litert"]).strip().splitlines()[-2:]
    assert gain == "| teacher's gain | +0.40 (0.10 to 0.30) | -0.10 (-0.30 to -0.10), none |"
    assert "| 75 %; +0.10 (0.10 to 0.30) | no gain to keep; +0.20" in kept


def test_a_task_without_a_head_has_a_cell_that_says_so():
    """The teacher's bundle may have a head for one of the probed tasks only."""
    probe = {"minus_first": 0.1, "minus_first_interval": [0.0, 0.2]}
    tasks = {
        name: {"label": name, "metric": metric, "encoders": {("teacher", "onnx"): probe}}
        for name, metric in (("hr", "mae"), ("sex", "auroc"))
    }
    change = HeadDrift("mae", "bpm", 3.9, 4.0, -0.1, None)
    probed, headed = teacher_table(tasks, {"onnx": {"hr": change}}).strip().splitlines()[-2:]
    assert probed.endswith("| no |")
    assert headed == "| onnx | heads | -0.100 | no head | yes |"
