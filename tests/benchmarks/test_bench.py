"""The stop-watch, the reference and the machine's description."""

import csv
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from xmae.benchmarks.bench import COLUMNS, accuracy, bench, reference_rows, write_csv
from xmae.benchmarks.harness.baseline import (
    fingerprint,
    load_reference,
    make_reference,
    measure_precisions,
    reference_windows,
    refuse_lacking,
    save_reference,
)
from xmae.benchmarks.harness.emulated import emulate
from xmae.benchmarks.harness.hardware import hardware
from xmae.benchmarks.harness.isolated import run_apart
from xmae.benchmarks.harness.regressions import find_regressions, other_windows, read_result
from xmae.benchmarks.harness.sessions import find_entries, import_runtime, weight_files
from xmae.benchmarks.harness.stopwatch import resample, resampled_medians, summarise, time_sessions
from xmae.data.bidmc import bidmc_files
from xmae.data.prepare.prepare import prepare_recording
from xmae.data.recording.readers import read_recording
from xmae.data.store.store import Windows
from xmae.errors import UserError
from xmae.evaluation.heads.embedding import embed_windows
from xmae.export.bundle.schema import Entry
from xmae.export.targets.registry import TARGETS
from xmae.files import read_json
from xmae.models import McuStudent, load_encoder, save_encoder
from xmae.models.student import count_macs
from xmae.quantize.calibration import evenly
from xmae.signals.scale import minmax_scale

ROOT = Path(__file__).parents[2]
PROFILER = "sys.modules['xmae.benchmarks.harness.per_layer']"


@pytest.fixture(scope="module")
def windows():
    """Return a minute of two subjects, one to train on and one to test on."""
    parts = [
        prepare_recording(read_recording(path), min_quality=-1)[0].select(slice(6))
        for path in bidmc_files()[:2]
    ]
    for part, split in zip(parts, ("train", "test"), strict=True):
        part.split = np.full(len(part), split)
    return Windows.concatenate(parts)


@pytest.fixture
def weights(tmp_path):
    """Return a folder with a student's fp32 weights, as a bundle has it."""
    torch.manual_seed(0)
    save_encoder(McuStudent(), tmp_path / "student.safetensors", {})
    return SimpleNamespace(path=tmp_path)


def test_times_are_of_single_windows_in_every_round():
    calls = []

    def session(seconds):
        return lambda ppg: (calls.append(len(ppg)), time.sleep(seconds))

    times = time_sessions(
        {"fast": session(0.001), "slow": session(0.01)}, np.zeros((4, 1000)), rounds=3
    )
    assert set(calls) == {1} and len(calls) == 2 * 3 * (4 + 1)  # one to warm up in each round
    assert times["fast"].shape == (2, 3, 4)
    (wall, cpu), (fast, _) = times["slow"], times["fast"]
    assert (wall >= 0.01).all() and np.median(fast) < 0.01 and np.median(cpu) < 0.005  # it sleeps


def test_the_interval_comes_from_whole_rounds():
    steady = np.tile(np.random.default_rng(0).normal(1, 0.01, 20), (10, 1))
    assert np.ptp(resampled_medians(steady, resample(10))) == 0
    drifting = steady + np.linspace(0, 1, 10)[:, None]
    assert np.ptp(resampled_medians(drifting, resample(10))) > 0.2


def test_times_in_yardsticks_do_not_follow_the_machine():
    rng = np.random.default_rng(0)
    times, yardstick = rng.normal(3, 0.1, (2, 10, 20)), rng.normal(1, 0.03, (2, 10, 20))
    slowness = rng.uniform(1, 3, (10, 1))
    calm, busy = summarise(times, yardstick), summarise(times * slowness, yardstick * slowness)
    assert calm["relative"] == pytest.approx(3, rel=0.02) and busy["relative"] == pytest.approx(
        3, rel=0.1
    )
    low, high = calm["relative_interval"]
    assert low < calm["relative"] < high < 1.05 * low
    assert busy["latency_ms"] > 1.3 * calm["latency_ms"]


def test_reference_is_the_encoder_and_survives_the_disk(windows, weights, tmp_path):
    made = make_reference(weights, windows, "cpu", precisions=True)
    encoder = load_encoder(tmp_path / "student.safetensors")
    test = windows.select(windows.split == "test")
    assert made.embeddings["student"] == pytest.approx(embed_windows(encoder, test), abs=1e-6)
    train = embed_windows(encoder, windows.select(windows.split == "train"))
    assert made.train_mean["student"] == pytest.approx(train.mean(axis=0), abs=1e-6)
    assert made.info["latency_ms"]["student"] > 0 and len(made.info["weights"]["student"]) == 64
    save_reference(made, tmp_path / "ref")
    loaded = load_reference(tmp_path / "ref")
    assert (
        loaded.embeddings["student"] == made.embeddings["student"]
    ).all() and loaded.info == made.info
    rows = reference_rows(loaded.info)
    assert [(row.model, row.precision) for row in rows] == [
        ("student", "fp32"),
        ("student", "bf16"),
    ]
    assert all((row.device, row.kind) == (hardware()["cpu"], "recorded") for row in rows)
    shuffled = windows.select(np.random.default_rng(0).permutation(len(windows.ppg)))
    assert (reference_windows(loaded, shuffled).ppg == test.ppg).all()


def test_a_gpu_is_used_where_there_is_one_and_named(windows, weights, monkeypatch):
    moved = []

    def to(module, where):
        moved.append(where)
        return module if where == "cuda" else torch.nn.Module.to(module, where)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    monkeypatch.setattr(McuStudent, "to", to)  # this machine has none to move to
    info = make_reference(weights, windows, precisions=True).info
    assert moved[0] == "cuda" and [row.device for row in reference_rows(info)] == [
        "a GPU",
        "a GPU",
    ]


def entry(model, format="onnx", **numbers):
    """Return an exported int8 file of a model."""
    return Entry(model=model, format=format, precision="int8", file="a", **numbers)


def test_a_reference_without_one_of_the_models_is_refused(windows, weights):
    bundle = SimpleNamespace(models=[entry("student"), entry("student-app")])
    with pytest.raises(UserError, match="has no student-app; record it again"):
        refuse_lacking(make_reference(weights, windows, "cpu"), bundle)


def test_weights_of_every_model_are_found_teacher_first(tmp_path):
    for model in ("student-app", "teacher", "student"):
        (tmp_path / f"{model}.safetensors").touch()
    assert list(weight_files(SimpleNamespace(path=tmp_path))) == [
        "teacher",
        "student",
        "student-app",
    ]


def test_weights_are_counted_as_they_are_in_every_row(windows, weights):
    exported = entry("student", macs=1, bytes=1)
    eager, onnx = find_entries(SimpleNamespace(path=weights.path, models=[exported]))
    recorded = reference_rows(make_reference(weights, windows, "cpu", precisions=True).info)
    assert eager.macs == recorded[0].macs == count_macs(McuStudent()) and onnx.macs == 1


def test_a_broken_runtime_is_not_one_that_is_missing(monkeypatch):
    executorch = entry("student", format="executorch")
    assert import_runtime(entry("student", format="pytorch")) is None
    # the package is there, a part of it is not
    monkeypatch.setitem(sys.modules, "executorch.runtime", None)
    with pytest.raises(ModuleNotFoundError):
        import_runtime(executorch)
    monkeypatch.setitem(sys.modules, "executorch", None)
    assert import_runtime(executorch) == "executorch"


def test_reference_of_other_windows_is_refused(windows, weights):
    made = make_reference(weights, windows, "cpu")
    with pytest.raises(UserError, match="not in the store"):
        reference_windows(made, windows.select(windows.split == "train"))
    with pytest.raises(UserError, match="test and training windows"):
        make_reference(weights, windows.select(windows.split == "train"), "cpu")


def test_damaged_reference_is_refused(windows, weights, tmp_path):
    save_reference(make_reference(weights, windows, "cpu"), tmp_path)
    whole = (tmp_path / "reference.npz").read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", whole[:100] + bytes(200) + whole[300:]):
        (tmp_path / "reference.npz").write_bytes(damaged)
        with pytest.raises(UserError, match="not readable as a reference"):
            load_reference(tmp_path)
    (tmp_path / "reference.json").unlink()
    with pytest.raises(UserError, match="no such file"):
        load_reference(tmp_path)


def test_evenly_keeps_both_ends():
    assert evenly(np.arange(10), 4).tolist() == [0, 3, 6, 9]
    assert evenly(np.arange(3), 4).tolist() == evenly(np.arange(3), 0).tolist() == [0, 1, 2]


def test_hardware_names_the_machine():
    found = hardware()
    assert found["cpu"] and found["cores"] >= 1 and found["memory_gib"] > 0
    assert found["packages"]["torch"] == torch.__version__


def bench_row(**changes):
    row = {
        "model": "student",
        "precision": "int8",
        "format": "litert",
        "device": "host",
        "bytes": 1000,
    }
    row |= {
        "latency_ms": 1.0,
        "relative": 2.0,
        "relative_interval": [1.9, 2.1],
        "peak_memory_bytes": 10**8,
    }
    row |= {
        "centred": {"median": 0.999, "p5": 0.99},
        "heads": {"hr": {"value": 4.0, "change": 0.0, "interval": None}},
    }
    return row | changes


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, None),
        ({"latency_ms": 9.0}, None),  # a slower machine: as many yardsticks as before
        ({"relative": 2.3, "relative_interval": [2.05, 2.6]}, None),  # within the noise
        ({"relative": 2.3, "relative_interval": [2.2, 2.4]}, "1.15 times the processor"),
        ({"relative": 2.15, "relative_interval": [2.14, 2.16]}, None),  # sure, but small
        ({"relative": 1.0, "relative_interval": [0.9, 1.1]}, None),  # faster
        ({"bytes": 1100}, "bytes: 1,100 after 1,000"),
        ({"peak_memory_bytes": 2 * 10**8}, "peak memory"),
        ({"centred": {"median": 0.99, "p5": 0.98}}, "centred cosine"),
        ({"heads": {"hr": {"value": 4.2}}}, "heart-rate error"),
        ({"failure": "crash"}, "fails now: crash"),
        (
            {"missing": "onnxruntime is not installed"},
            "fails now: onnxruntime is not installed",
        ),
        ({"format": "onnx"}, "student int8 litert host: is no longer there"),
        ({"centred": None}, "accuracy was measured and no longer is"),
        ({"windows": 16, "centred": {"median": 0.99, "p5": 0.98}}, None),  # on other windows
    ],
)
def test_only_what_is_worse_beyond_the_noise_is_a_regression(changes, said):
    old = {
        "windows_sha256": "a",
        "models": [bench_row(), bench_row(device="apollo4", kind="estimated")],
    }
    new = [bench_row() | changes, bench_row(device="stm32u5", kind="estimated")]
    found = find_regressions({"windows_sha256": "a", "models": new}, old)
    assert [said in sentence for sentence in found] == ([True] if said else []), found


def test_accuracy_is_compared_on_the_same_windows_only(windows):
    less = bench_row(centred={"median": 0.9, "p5": 0.8}, heads={"hr": {"value": 9.0}})
    relabelled = replace(windows, labels=windows.labels | {"hr_ecg": windows.labels["hr_ecg"] + 1})
    new = {"windows_sha256": fingerprint(windows), "models": [less]}
    for old, said in (
        (windows.select(slice(None)), None),
        (windows.select(slice(6)), "other windows"),
        (relabelled, "other windows"),
        (None, "does not say"),
    ):  # None: of a version that did not
        old = {"models": [bench_row()]} | ({"windows_sha256": fingerprint(old)} if old else {})
        assert len(find_regressions(new, old)) == (0 if said else 2)
        assert said in other_windows(new, old) if said else other_windows(new, old) is None


def test_of_three_real_runs_the_one_with_a_float_file_has_two_regressions():
    """On a busy machine: the same bundle twice, then with its fp32 file in the place of the int8
    one for LiteRT.
    """
    runs = read_json(ROOT / "tests" / "fixtures" / "bench_runs.json")
    runs = {
        name: run | {"windows_sha256": "of one store"}
        for name, run in runs.items()
        if name != "note"
    }
    assert (
        find_regressions(runs["again"], runs["first"])
        == find_regressions(runs["first"], runs["again"])
        == []
    )
    slower, larger = find_regressions(runs["worse"], runs["first"])
    assert slower.startswith("student int8 litert host: 1.38 times the processor time")
    assert larger == "student int8 litert host: bytes: 724,412 after 273,448"
    assert find_regressions(runs["first"], runs["worse"]) == []


@pytest.mark.parametrize(
    ("content", "said"),
    [("[]", "not a result"), ('{"models": []}', "not a result"), ("{", "not readable"),
     ('{"schema": "xmae.bench", "schema_version": 1}', "version 1, expected 2")],
)  # fmt: skip
def test_other_files_are_not_compared_with(tmp_path, content, said):
    (tmp_path / "bench.json").write_text(content)
    for path in (tmp_path, tmp_path / "bench.json"):
        with pytest.raises(UserError, match=said):
            read_result(str(path))


def test_an_embedding_that_is_none_is_a_failure():
    recorded = SimpleNamespace(
        embeddings={"student": np.ones((3, 4))}, train_mean={"student": np.zeros(4)}
    )
    entry = SimpleNamespace(model="student", embedding=None)
    for embedding in (np.full((3, 4), np.nan), np.ones((3, 5))):
        row = accuracy(None, entry, embedding, recorded, None, slice(None))
        assert "not finite" in row["failure"] and row["windows"] == 3
    assert accuracy(None, entry, None, recorded, None, slice(None)) == {}


def test_csv_has_a_column_for_each_number(tmp_path):
    threads = {"threads": 2, "latency_ms": 0.7, "latency_interval": [0.6, 0.8]}
    rows = [
        bench_row(latency_interval=[0.9, 1.1], all_threads=threads),
        {"model": "teacher", "missing": "no runtime"},
    ]
    write_csv(tmp_path / "bench.csv", rows)
    with open(tmp_path / "bench.csv", newline="") as file:
        first, second = csv.DictReader(file)
    assert (
        tuple(first) == COLUMNS and second["missing"] == "no runtime" and second["latency_ms"] == ""
    )
    expected = {
        "latency_low": 0.9,
        "all_threads_high": 0.8,
        "threads": 2,
        "centred_p5": 0.99,
        "hr_mae": 4.0,
    }
    assert {name: float(first[name]) for name in expected} == expected


def test_bf16_is_close_to_fp32_and_half_as_large(windows):
    torch.manual_seed(0)
    rows = measure_precisions(McuStudent().eval(), windows.ppg[:2], np.zeros(256, np.float32))
    assert [row["precision"] for row in rows] == ["fp32", "bf16"] and rows[0]["bytes"] == 2 * rows[
        1
    ]["bytes"]
    assert (
        rows[0]["centred"]["median"] == pytest.approx(1) and 0.9 < rows[1]["centred"]["median"] < 1
    )
    assert all(row["latency_ms"] > 0 and row["macs"] > 1e6 for row in rows)


WENT_WRONG = {  # by what happens as the process starts
    "absent": (
        "sys.modules['ai_edge_litert'] = None",
        {"missing": "ai_edge_litert is not installed"},
    ),
    "broken": (
        "sys.modules['ai_edge_litert.interpreter'] = None",
        {"failure": "ModuleNotFoundError: import of"},
    ),
    "profiler raises": (
        f"{PROFILER} = SimpleNamespace(per_layer=lambda *_: {{}}['moved'])",
        {"profile_failure": "KeyError: 'moved'"},
    ),
    "profiler dies": (
        f"{PROFILER} = SimpleNamespace(per_layer=lambda *_: os.abort())",
        {"profile_failure": "died of SIGABRT"},
    ),
}


@pytest.mark.parametrize(
    ("at_start", "said"),
    [
        pytest.param(
            *case, id=name, marks=[] if name == "profiler dies" else [pytest.mark.extended]
        )
        for name, case in WENT_WRONG.items()
    ],
)
def test_what_went_wrong_in_a_process_of_its_own(
    watch_bundle, tmp_path, monkeypatch, at_start, said
):
    (tmp_path / "sitecustomize.py").write_text(
        f"import os, sys\nfrom types import SimpleNamespace\n{at_start}\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    embedding, report = run_apart(
        watch_bundle, watch_bundle.models[0], np.zeros((2, 1000), np.float32), profile=True
    )
    ((key, words),) = said.items()
    assert words in report[key] and ({"missing", "failure", "profile_failure"} & report.keys()) == {
        key
    }
    if key == "profile_failure":  # the profile alone is lost
        assert embedding.shape == (2, 256) and report["cold_start_ms"] > 0
    else:
        assert embedding is None


@pytest.mark.slow
def test_a_watch_is_estimated_from_what_it_computed(watch_bundle):
    pytest.importorskip("unicorn")
    ppg = minmax_scale(prepare_recording(read_recording(bidmc_files()[2]))[0].ppg[:2])[0]
    embedding, row = emulate(watch_bundle, "apollo4", ppg)
    reference = TARGETS["litert"].open(
        watch_bundle.path / watch_bundle.models[0].file, reference=True
    )(ppg)
    assert np.abs(embedding - reference).max() <= 1.01 * watch_bundle.models[0].output.scale
    assert (
        row.kind == "estimated"
        and row.latency_interval[0] < row.latency_ms < row.latency_interval[1]
    )
    assert sum(layer["us"] for layer in row.layers) == pytest.approx(1e3 * row.latency_ms)
    for name, said in (
        ("snapdragon-a53", "Cortex-M only|needs"),
        ("apolo4", "unknown device 'apolo4'"),
    ):
        with pytest.raises(UserError, match=said):  # before anything else is opened
            bench(str(watch_bundle.path), "no store", devices=f"apollo4,{name}")
    with pytest.raises(UserError, match="either recorded or reused"):
        bench(str(watch_bundle.path), "no store", record_baseline=True, baseline="gpu")
