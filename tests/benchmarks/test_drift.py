"""The drift gate: its arithmetic against scikit-learn, and bundles that were broken on purpose."""

import shutil
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from sklearn.metrics import mean_absolute_error, roc_auc_score
from sklearn.metrics.pairwise import cosine_similarity

from xmae.benchmarks import validate as drift
from xmae.benchmarks.bench import bench
from xmae.benchmarks.harness.baseline import make_reference, save_reference
from xmae.benchmarks.harness.drift import compare, compare_embeddings, compare_heads
from xmae.benchmarks.harness.hardware import hardware
from xmae.benchmarks.harness.regressions import find_regressions, other_windows, read_result
from xmae.benchmarks.harness.rows import DriftRow, HeadDrift, Spread
from xmae.benchmarks.harness.sessions import open_session
from xmae.benchmarks.report.page import summary_lines, write_report
from xmae.benchmarks.validate import (
    FP32_LIMITS,
    find_violations,
    validate,
)
from xmae.cli import main
from xmae.data.store.store import WindowStore
from xmae.errors import UserError
from xmae.evaluation.heads.head import Head
from xmae.export import Bundle, seal
from xmae.export.export import export
from xmae.files import read_json
from xmae.models import load_encoder, save_encoder

INT8_LIMITS = {
    "min_cosine": 0.98,
    "min_cosine_p5": 0.95,
    "max_hr_change": 0.5,
    "max_auroc_change": 0.01,
}


def row(**changes):
    good = {"cosine": Spread(1.0, 1.0), "centred": Spread(1.0, 1.0), "heads": {}}
    return DriftRow("student", "onnx", "int8", **good | changes)


def head(metric, change):
    return HeadDrift(metric, "", value=1 + change, reference=1.0, change=change, interval=None)


def test_cosines_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    mean = rng.normal(size=16)
    original = mean + 0.1 * rng.normal(size=(50, 16))
    embedding = original + 0.03 * rng.normal(size=(50, 16))
    found = compare_embeddings(embedding, original, mean)
    for name, shift in (("cosine", 0), ("centred", mean)):
        expected = np.diag(cosine_similarity(embedding - shift, original - shift))
        assert getattr(found, name).median == pytest.approx(np.median(expected))
        assert getattr(found, name).p5 == pytest.approx(np.quantile(expected, 0.05))
    assert found.centred.median < found.cosine.median  # the mean flatters


@pytest.mark.parametrize(
    "embedding", [np.zeros((4, 3)), np.full((4, 2), np.nan), np.full((4, 2), np.inf)]
)
def test_another_width_or_values_that_are_not_finite_are_a_violation(embedding):
    recorded = SimpleNamespace(
        embeddings={"student": np.ones((4, 2))}, train_mean={"student": np.zeros(2)}
    )
    entry = SimpleNamespace(model="student", embedding=None)
    found = compare(None, entry, embedding, recorded, None, slice(None))
    assert "width" in find_violations(row(**found), INT8_LIMITS)[0]


def test_an_embedding_of_zeros_fails():
    found = compare_embeddings(np.zeros((4, 2)), np.ones((4, 2)), np.zeros(2))
    assert found.centred.median == 0
    assert len(find_violations(row(centred=found.centred), INT8_LIMITS)) == 2


def test_heads_give_the_metrics_of_scikit_learn():
    rng = np.random.default_rng(1)
    hr, age = rng.normal(80, 9, 60), rng.integers(30, 90, 60).astype(float)
    hr[:5] = np.nan
    windows = SimpleNamespace(
        subject=np.repeat(np.arange(6), 10), labels={"hr_ecg": hr, "age": age, "sex": np.ones(60)}
    )
    heads = {
        name: Head(kind=kind, label=name, units="", weight=rng.normal(size=4).tolist(), bias=1.0)
        for name, kind in (("hr", "regression"), ("age_over_65", "binary"), ("sex", "binary"))
    }
    original = rng.normal(size=(60, 4))
    embedding = original + 0.1 * rng.normal(size=(60, 4))
    found = compare_heads(heads, embedding, original, windows)
    assert set(found) == {"hr", "age_over_65"}  # one sex only
    shown = embedding @ heads["hr"].weight + 1
    by_subject = [mean_absolute_error(hr[5:10], shown[5:10])]
    by_subject += [
        mean_absolute_error(hr[k : k + 10], shown[k : k + 10]) for k in range(10, 60, 10)
    ]
    assert found["hr"].value == pytest.approx(np.mean(by_subject))
    shown = original @ heads["age_over_65"].weight
    old = (age > 65).astype(int)  # each pair of subjects counts once
    count = np.stack([np.bincount(windows.subject[old == k], minlength=6) for k in (0, 1)])
    one = 1 / count[old, windows.subject]
    expected = roc_auc_score(old, shown, sample_weight=one)
    assert found["age_over_65"].reference == pytest.approx(expected)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, []),
        ({"centred": Spread(0.979, 0.96)}, ["median"]),
        ({"centred": Spread(0.981, 0.94)}, ["5th percentile"]),
        ({"heads": {"hr": head("mae", 0.4), "sex": head("auroc", -0.009)}}, []),
        (
            {"heads": {"hr": head("mae", -0.6), "sex": head("auroc", -0.011)}},
            ["hr MAE", "sex AUROC"],
        ),
        ({"heads": {"rr": head("mae", 0.6), "sex": head("auroc", 0.2)}}, ["sex AUROC"]),
        ({"failure": "the process died of SIGSEGV"}, ["fails"]),
        ({"missing": "not installed"}, []),
    ],
)
def test_limits(changes, said):
    found = find_violations(row(**changes), INT8_LIMITS)
    assert len(found) == len(said) and all(
        words in sentence for words, sentence in zip(said, found, strict=True)
    )


def test_fp32_is_held_to_rounding():
    assert find_violations(row(centred=Spread(0.9995, 0.9995)), FP32_LIMITS)
    assert not find_violations(row(centred=Spread(0.99999, 0.9999)), FP32_LIMITS)


@pytest.fixture(scope="module")
def exported(small_store, tmp_path_factory):
    """Return the shipped student in ONNX, float and int8; as "teacher" the same with its embedding
    turned around.
    """
    folder = tmp_path_factory.mktemp("bundle")
    encoder = load_encoder("student-mcu")
    save_encoder(encoder, folder / "student.safetensors", {})
    with torch.no_grad():
        encoder.head.weight.copy_(encoder.head.weight.roll(37, 0))
        encoder.head.bias.copy_(encoder.head.bias.roll(37, 0))
    save_encoder(encoder, folder / "teacher.safetensors", {})
    weights = [str(folder / f"{model}.safetensors") for model in ("teacher", "student")]
    export(*weights, small_store, str(folder / "bundle"), targets="onnx", n_calibration=64)
    return folder / "bundle"


@pytest.fixture
def bundle(exported, tmp_path):
    """Return a copy that lists the int8 student alone, to be broken and sealed again: its hashes
    then say that all is well.
    """
    path = shutil.copytree(exported, tmp_path / "bundle")
    manifest = read_json(path / "manifest.json")
    models = [entry for entry in manifest["models"] if entry["model"] == "student"]

    def seal_again(*precisions):
        (path / "teacher.safetensors").unlink()
        listed = [entry for entry in models if entry["precision"] in (precisions or ("int8",))]
        seal(path, manifest | {"models": listed})
        return str(path)

    return SimpleNamespace(path=path, model=path / "student_int8.onnx", seal=seal_again)


def change_scale(path, op_type, pick, factor):
    """Give the first (`pick` 0) or last (-1) node of a kind in an ONNX model a scale `factor` times
    its own.
    """
    model = onnx.load(path)
    node = [node for node in model.graph.node if node.op_type == op_type][pick]
    (scale,) = (
        onnx.numpy_helper.to_array(x) for x in model.graph.initializer if x.name == node.input[1]
    )
    model.graph.initializer.append(
        onnx.numpy_helper.from_array(scale * np.float32(factor), "wrong")
    )
    node.input[1] = "wrong"
    onnx.save(model, path)


def judge(bundle, store, out, **options):
    return validate(str(bundle), store, str(out), windows=40, rounds=0, **options)


@pytest.mark.slow
def test_a_good_bundle_passes(bundle, small_store, tmp_path):
    judged_good(judge(bundle.seal("fp32", "int8"), small_store, tmp_path), tmp_path)


def judged_good(result, folder):
    """Hold what the gate says of a good bundle, and that a stricter limit would find it out."""
    assert result["passed"], result["violations"]
    assert len(result["models"]) == 3 and result["subjects"] == 2
    for row in result["models"]:
        assert row["centred"]["median"] > (0.98 if row["precision"] == "int8" else 0.99999)
        assert "hr" in row["heads"] and row["model_memory_bytes"] > 0
    assert read_json(folder / "drift.json")["passed"]
    (int8,) = (row for row in result["models"] if row["precision"] == "int8")
    stricter = INT8_LIMITS | {"min_cosine": 0.99999}
    assert "centred cosine, median" in find_violations(DriftRow.from_json(int8), stricter)[0]


@pytest.mark.extended
def test_a_good_bundle_passes_against_a_recorded_baseline(bundle, small_store, tmp_path):
    path = bundle.seal("fp32", "int8")
    options = {"record_baseline": True, "windows": 2, "rounds": 2, "starts": 1, "scored": 20}
    recorded = bench(path, small_store, str(tmp_path / "bench"), **options)
    rows = [row for row in recorded["models"] if row["kind"] == "measured"]
    assert [row["format"] for row in rows] == ["pytorch", "onnx", "onnx"]
    kept = [row for row in recorded["models"] if row["kind"] == "recorded"]
    assert [(row["precision"], row["device"]) for row in kept] == [
        (p, hardware()["cpu"]) for p in ("fp32", "bf16")
    ]
    assert all(row["latency_ms"] > 0 and row["peak_memory_bytes"] > 1e7 for row in rows)
    for row in rows:
        assert (
            row["all_threads"]["latency_ms"] > 0
            and row["cold_start_ms"] > 0
            and row["code_bytes"] > 1e6
        )
        assert row["windows"] == sum(row["histogram"]) == 20 and row["centred"]["median"] > 0.98
        assert (
            row["heads"]["hr"]["interval"][0]
            <= row["heads"]["hr"]["value"]
            <= row["heads"]["hr"]["interval"][1]
        )
        assert len(row["layers"]) > 10 and sum(layer["us"] for layer in row["layers"]) > 0
    assert recorded["passed"] and recorded["summary"][0] == "5 of 5 rows measured"
    assert len({row["macs"] for row in (*rows[:1], *kept)}) == 1
    before = read_result(tmp_path / "bench")
    assert find_regressions(before, before) == [] and other_windows(before, before) is None
    assert (tmp_path / "bench" / "bench.csv").read_text().count("\n") == 6
    assert "Where the time goes" in (tmp_path / "bench" / "report.html").read_text()
    result = judge(path, small_store, tmp_path, baseline=recorded["reference"])
    judged_good(result, tmp_path)


@pytest.mark.slow
def test_a_file_that_could_not_run_has_not_passed(
    bundle, small_store, tmp_path, monkeypatch, capsys
):
    def run_some(opened, entries, ppg):
        absent = None, {"missing": "onnxruntime is not installed"}
        return [
            absent if e.precision == "int8" else (open_session(opened, e)(ppg), {}) for e in entries
        ]

    monkeypatch.setattr(drift, "run_all_apart", run_some)
    out, path = tmp_path / "out", bundle.seal("fp32", "int8")
    arguments = [
        "validate",
        path,
        "--data",
        small_store,
        "--out",
        str(out),
        "--windows",
        "40",
        "--rounds",
        "0",
    ]
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert "1 of 2 files checked on 40 windows of 2 subjects: all within the limits" in said
    assert "onnxruntime is not installed: 1 file not checked; try pip install 'xmae[edge]'" in said
    result = read_json(out / "drift.json")
    assert (result["passed"], result["violations"], result["checked"]) == (False, [], 1)
    assert summary_lines({"validate": result})[-1].startswith(
        "Drift gate: INCOMPLETE, 1 exports within their limits; o"
    )
    page = write_report({"validate": result}, out).read_text()
    assert "incomplete" in page and "1 file not checked" in page and "not run" in page


@pytest.mark.extended
def test_swapped_weights_fail(bundle, small_store, tmp_path):
    shutil.copy(bundle.path / "teacher_int8.onnx", bundle.model)
    violations = judge(bundle.seal(), small_store, tmp_path)["violations"]
    assert violations and all(
        violation.startswith("student int8 onnx: ") for violation in violations
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "place",
    [
        pytest.param(("QuantizeLinear", 0), marks=pytest.mark.extended, id="input"),
        pytest.param(("DequantizeLinear", -1), id="output"),
    ],
)
def test_a_wrong_scale_fails(bundle, small_store, tmp_path, place):
    change_scale(bundle.model, *place, factor=1.5)
    violations = judge(bundle.seal(), small_store, tmp_path)["violations"]
    assert violations and all(
        violation.startswith("student int8 onnx: ") for violation in violations
    )


@pytest.mark.extended
def test_scrambled_bytes_fail(bundle, small_store, tmp_path):
    content = bytearray(bundle.model.read_bytes())
    middle = slice(len(content) // 4, len(content) // 2)
    content[middle] = np.random.default_rng(0).bytes(middle.stop - middle.start)
    bundle.model.write_bytes(content)
    violations = judge(bundle.seal(), small_store, tmp_path)["violations"]
    assert violations and all(
        violation.startswith("student int8 onnx: ") for violation in violations
    )


@pytest.mark.extended
def test_other_weights_than_those_of_the_reference_fail(exported, bundle, small_store, tmp_path):
    save_reference(
        make_reference(Bundle.open(exported), WindowStore(small_store).windows(), "cpu"),
        tmp_path / "reference",
    )
    shutil.copy(exported / "teacher.safetensors", bundle.path / "student.safetensors")
    path, reference = bundle.seal(), str(tmp_path / "reference")
    with pytest.raises(UserError, match="made from other weights of student; record it again"):
        bench(path, small_store, str(tmp_path / "bench"), baseline=reference)
    violations = judge(path, small_store, tmp_path, baseline=reference)["violations"]
    assert any("student: the weights" in violation for violation in violations)
    assert any("student fp32 pytorch: centred cosine" in violation for violation in violations)
