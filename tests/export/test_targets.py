"""Targets for devices, each against PyTorch; and what a network that a target cannot take is
answered with.
"""

import os
import re
import sys
import time
from multiprocessing import active_children
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from torch import nn

from xmae.benchmarks.release.support_matrix import COMPILED, TESTED, WRONG
from xmae.data.bidmc import bidmc_files
from xmae.data.prepare.prepare import prepare_recording
from xmae.data.recording.readers import read_recording
from xmae.errors import UserError
from xmae.export.bundle.provenance import tool_versions
from xmae.export.export import export, two_processes
from xmae.export.targets import cortex_m, executorch, litert, tflite_runtime, vela
from xmae.export.targets import environments as apart
from xmae.export.targets.registry import TARGETS, chosen_precisions, chosen_targets, takes
from xmae.firmware_sim.emulators import tflm
from xmae.models import PPGEncoder, load_encoder
from xmae.models.checkpoint import SHIPPED
from xmae.quantize import exportable
from xmae.quantize.layers import centred_cosine, run_graph
from xmae.signals.scale import minmax_scale

STUDENTS = [name for name in SHIPPED if not name.startswith("base")]
# tested as the others are; docs/targets.md was made before them
NOT_ON_THE_PAGE = ("beats-mcu-s", "beats-mcu", "beats-app")
# what a bundle calls a shipped encoder, if not by its name
IN_BUNDLES = {"base": "teacher", "student-mcu": "student"}
DEVICE_CELLS = [(name, target) for target, models in COMPILED.items() for name in STUDENTS
                if IN_BUNDLES.get(name, name) in models]  # fmt: skip


@pytest.fixture(scope="module")
def ppg():
    """Return scaled real windows of different subjects: (calibration, comparison)."""
    first, second = (
        minmax_scale(prepare_recording(read_recording(bidmc_files()[i]))[0].ppg)[0] for i in (0, 5)
    )
    return first[:32], second[:6]


@pytest.fixture(scope="module")
def graphs():
    return {name: exportable(load_encoder(name)) for name in STUDENTS}


@pytest.fixture(scope="module")
def graph(graphs):
    return graphs["student-mcu"]


@pytest.fixture(scope="module")
def front(graph):
    """Return the first layers of the trained student alone: quick to compile."""
    encoder = graph.encoder
    return nn.Sequential(
        encoder.stem, *encoder.blocks[:2], nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ).eval()


@pytest.fixture(scope="module")
def tflite(graphs, ppg, tmp_path_factory):
    """Return a function of a precision and a student: its `.tflite`, made once."""
    folder, done = tmp_path_factory.mktemp("tflite"), {}

    def get(precision, name="student-mcu"):
        if (name, precision) not in done:
            done[name, precision] = folder / f"{name}_{precision}.tflite"
            litert.export(graphs[name], done[name, precision], precision, ppg[0])
        return done[name, precision]

    return get


def agreement(actual, graph, ppg):
    """Return the smallest centred cosine to PyTorch."""
    reference, mean = run_graph(graph, ppg[1]), run_graph(graph, ppg[0]).mean(0)
    assert actual.shape == reference.shape
    return centred_cosine(actual, reference, mean).min()


# centred cosine by precision; 0.995 of others
LEAST = {"int8": 0.98, "dynamic-int8": 0.98, "weight-int4": 0.85}


@pytest.mark.parametrize(
    "precision",
    [
        name if name in ("int8", "int16x8") else pytest.param(name, marks=pytest.mark.extended)
        for name in litert.PRECISIONS
    ],
)
def test_interpreters_of_a_tflite(tflite, graph, ppg, precision):
    path, least = tflite(precision), LEAST.get(precision, 0.995)
    found, dtype = (
        litert.inspect_model(path),
        {"int8": "int8", "int16x8": "int16"}.get(precision, "float32"),
    )
    assert found["input"]["dtype"] == found["output"]["dtype"] == dtype
    assert found["undelegated"] == (None if dtype == "float32" else [])
    xnnpack = litert.open_model(path)(ppg[1])
    assert agreement(xnnpack, graph, ppg) >= least
    assert (
        agreement(litert.open_model(path, reference=True)(ppg[1][:2]), graph, (ppg[0], ppg[1][:2]))
        >= least
    )


@pytest.mark.extended
@pytest.mark.parametrize("precision", litert.PRECISIONS)
def test_an_old_interpreter_of_a_tflite(tflite, graph, ppg, precision):
    """In an environment of its own, which pip makes on first use."""
    try:
        apart.environment("tflite-runtime")
    except UserError as error:
        pytest.skip(f"the environment of tflite-runtime 2.14 cannot be made here: {error}")
    path = tflite(precision)
    found, xnnpack = litert.inspect_model(path), litert.open_model(path)(ppg[1])
    if precision == "weight-int4":
        with pytest.raises(UserError, match="does not run in tflite-runtime 2.14"):
            tflite_runtime.open_model(path)(ppg[1])
        return
    before_litert = tflite_runtime.open_model(path)(ppg[1])
    # it says nothing, and takes one scale for all channels: docs/targets.md warns
    if precision == "dynamic-int8":
        assert agreement(before_litert, graph, ppg) < WRONG
    elif precision == "int8":
        assert np.abs(before_litert - xnnpack).max() <= 4 * found["output"]["scale"]
    else:
        np.testing.assert_allclose(
            before_litert, xnnpack, atol={"int16x8": 0.02, "weight-int8": 1e-3}.get(precision, 1e-4)
        )


def test_tflm_runs_int16x8(tflite, ppg):
    actual, expected = (
        tflm.run_tflm(tflite("int16x8"), ppg[1]),
        litert.open_model(tflite("int16x8"))(ppg[1]),
    )
    assert np.abs(actual - expected).max() <= 1e-2 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("name", "target"),
    [
        cell if cell[0] == "student-mcu" else pytest.param(*cell, marks=pytest.mark.extended)
        for cell in DEVICE_CELLS
        if cell[1].startswith("vela")
    ],
)
def test_vela_takes_the_whole_tflite(tflite, tmp_path, name, target):
    path = tflite("int8", name)
    compiled, layers, summary = vela.compile_model(path, TARGETS[target].accelerator, tmp_path)
    (tmp_path / "compiled.tflite").write_bytes(compiled)
    assert set(litert.inspect_model(tmp_path / "compiled.tflite")["ops"]) <= {"CUSTOM", "RESHAPE"}
    assert {row["Target"] for row in layers} == {"NPU"}
    depthwise = [
        row
        for row in layers
        if row["Original Operator"] == "DepthwiseConv2D" and int(row["MAC Count"])
    ]
    assert len(depthwise) == litert.inspect_model(path)["ops"]["DEPTHWISE_CONV_2D"]
    assert summary["cycles"] > summary["macs"] / 1024  # no faster than the largest of them could be
    assert 0 < summary["sram_kib"] < (128 if name == "student-app" else 64)


def test_vela_target_writes_a_row_for_each_layer(front, ppg, tmp_path):
    target = TARGETS["vela-u55"]
    path = tmp_path / f"student_int8{target.suffix}"
    target.convert(front, path, "int8", ppg[0])
    assert path.with_suffix(".csv").read_text().startswith("Original Operator,")
    assert target.inspect(path)["estimated"]["cycles"] > 0
    assert not target.can_open


def test_vela_names_the_layer_that_it_leaves_to_the_cpu(front, ppg, tmp_path):
    network = nn.Sequential(front[0], Odd("root"), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    with pytest.raises(
        UserError, match=r"^ethos-u55-128 has no Sqrt of layer 1; .*leave this target out"
    ):
        TARGETS["vela-u55"].convert(network, tmp_path / "odd_vela-u55.tflite", "int8", ppg[0][:2])
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def arm():
    """Return Arm's tools, in an environment that pip makes on first use."""
    try:
        return apart.environment("arm")
    except UserError as error:
        pytest.skip(f"Arm's environment cannot be made here: {error}")


@pytest.mark.extended
@pytest.mark.usefixtures("arm")
@pytest.mark.parametrize("name", [name for name, target in DEVICE_CELLS if target == "cortex-m"])
def test_cortex_m_program_in_its_own_memory_plan(tflite, graphs, ppg, tmp_path, name):
    graph = graphs[name]
    path = tmp_path / "student_int8_cortex-m.pte"
    cortex_m.export(graph, path, "int8", ppg[0])
    found = cortex_m.inspect_model(path)
    assert found["undelegated"] == [] and {name.split("::")[0] for name in found["ops"]} == {
        "cortex_m"
    }
    assert found["arena_bytes"] <= 64 * 1024
    assert path.stat().st_size < (800_000 if name == "student-app" else 280_000)
    actual = cortex_m.open_model(path)(ppg[1])
    assert agreement(actual, graph, ppg) >= 0.98
    others = litert.open_model(tflite("int8", name))(ppg[1])
    assert centred_cosine(actual, others, run_graph(graph, ppg[0]).mean(0)).min() >= 0.98


@pytest.mark.extended
@pytest.mark.usefixtures("arm")
@pytest.mark.parametrize(
    ("name", "target"), [cell for cell in DEVICE_CELLS if cell[1].startswith("ethos")]
)
def test_ethos_u_program_is_one_delegate_and_its_tosa_graph_computes_the_same(
    graphs, ppg, tmp_path, name, target
):
    target = TARGETS[target]
    path = tmp_path / f"student_int8{target.suffix}"
    target.convert(graphs[name], path, "int8", ppg[0])
    found = target.inspect(path)
    assert found["undelegated"] == [] and found["ops"]["EthosUBackend"] == 1
    assert found["estimated"]["cycles"] > 0
    assert agreement(target.open(path)(ppg[1]), graphs[name], ppg) >= 0.98


@pytest.mark.extended
@pytest.mark.usefixtures("arm")
@pytest.mark.parametrize("target", ["cortex-m", "ethos-u55"])
def test_unsupported_operator_of_a_device_names_layer_and_target(front, ppg, tmp_path, target):
    network = nn.Sequential(front[0], nn.LogSigmoid(), *front[1:]).eval()
    with pytest.raises(UserError, match=rf"{target}.* of layer 1.*leave this target out"):
        TARGETS[target].convert(network, tmp_path / "odd.pte", "int8", ppg[0][:2])
    assert not list(tmp_path.iterdir())


@pytest.mark.extended
@pytest.mark.usefixtures("arm")
def test_a_process_that_dies_says_so_and_is_not_asked_again():
    with pytest.raises(UserError, match="os failed in its own process"):
        apart.call_apart("arm", "os:abort")
    assert apart.process_of.cache_info().currsize == 0


def test_an_interrupted_call_leaves_its_reply_to_no_other(tmp_path, monkeypatch):
    monkeypatch.setattr(apart, "environment", lambda name: tmp_path)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(apart.pickle, "load", Mock(side_effect=KeyboardInterrupt))
        apart.call_apart("empty", "math:sqrt", 4.0)
    assert apart.call_apart("empty", "math:sqrt", 9.0) == 3.0


def test_an_interrupted_export_ends_its_processes():
    before, start = set(active_children()), time.monotonic()
    with pytest.raises(KeyboardInterrupt), two_processes() as pool:
        assert pool.submit(os.getpid).result() != os.getpid()
        start = time.monotonic()
        pool.submit(time.sleep, 40)
        raise KeyboardInterrupt
    assert time.monotonic() - start < 30 and set(active_children()) <= before


@pytest.mark.parametrize(
    ("student", "wrong", "message"),
    [
        (
            "student-mcu",
            {"targets": "litert,vela-u55,cortex-m", "drift_budget": 0.99},
            "target vela-u55, cortex-m has int8 arithmetic only",
        ),
        (
            "base",
            {"targets": "executorch,c", "n_calibration": 16},
            "target c has no operators for attention",
        ),
    ],
)
def test_what_a_target_would_leave_out_is_refused_before_the_work(
    small_store, tmp_path, student, wrong, message
):
    with pytest.raises(UserError, match=message):
        export("student-mcu-s", student, small_store, str(tmp_path / "bundle"), **wrong)
    assert not list(tmp_path.iterdir())


class Odd(nn.Module):
    """A layer that converters do not like."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def forward(self, x):
        if self.kind == "branch":
            return x if x.sum() > 0 else -x
        if self.kind == "shape":
            return x[x > 0].sum().view(1, 1, 1, 1) + x
        return (x * x).sqrt() if self.kind == "root" else torch.erfinv(x.clamp(-0.9, 0.9))


class Network(nn.Module):
    """A convolution, and an odd layer."""

    def __init__(self, kind):
        super().__init__()
        self.conv, self.odd = nn.Conv2d(1, 2, (1, 5)), Odd(kind)

    def forward(self, x):
        return self.odd(self.conv(x)).mean((2, 3))


@pytest.mark.parametrize("format", ["executorch", "litert", "onnx"])
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("operator", "has no aten::erfinv of layer odd; replace it"),
        ("branch", "depends on the signal"),
        ("shape", "of layer odd gives a shape that depends on the signal"),
    ],
)
def test_what_a_target_cannot_take_is_one_clear_line(tmp_path, format, kind, message):
    with pytest.raises(UserError, match=f"^{format}.*{message}"):
        TARGETS[format].convert(Network(kind).eval(), tmp_path / "odd", "fp32")
    assert not list(tmp_path.iterdir())


def test_an_open_input_shape_is_refused(tmp_path):
    network = Network("operator").eval()
    network.input_shape = (1, 1, 1, None)
    with pytest.raises(UserError, match="is not fixed"):
        executorch.export(network, tmp_path / "open.pte", "fp32")


def test_missing_tools_name_the_extra(tflite, tmp_path, monkeypatch):
    monkeypatch.setattr(vela, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"ethos-u-vela is not installed.*xmae\[firmware\]"):
        vela.compile_model(tflite("int8"), "ethos-u55-128", tmp_path)
    monkeypatch.setitem(sys.modules, "executorch.runtime", None)
    with pytest.raises(UserError, match=r"executorch.* is not installed.*xmae\[edge\]"):
        executorch.open_model(tmp_path / "any.pte")


def test_an_environment_that_cannot_be_made_says_why(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setitem(apart.ENVIRONMENTS, "arm", ("no-such-package-xmae==1",))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(UserError, match="cannot install no-such-package-xmae==1"):
        apart.environment("arm")
    assert not [path for path in (tmp_path / "xmae" / "environments").iterdir() if path.is_dir()]


def test_a_cache_that_cannot_be_written_is_one_clear_line(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UserError, match="cannot write .*file/xmae"):
        apart.environment("arm")


def test_microcontrollers_are_for_conv_only_students(graph):
    attention = exportable(PPGEncoder())
    assert [
        takes("cortex-m", *which)
        for which in (("student", graph), ("teacher", graph), ("app", attention))
    ] == [
        True,
        False,
        False,
    ]
    assert takes("litert", "teacher", attention)
    assert takes("c", "student", graph) and not takes("c", "student-app", attention)


def test_versions_are_those_of_the_environment_that_a_tool_runs_in():
    made = tool_versions(["cortex-m", "litert"])
    assert made["ml_dtypes"] == "0.5.1" and made["tosa-tools"] == "2026.5.0"
    assert "ml_dtypes" not in tool_versions(["litert"])


def test_every_cell_of_the_page_has_a_test():
    import test_export

    page = (Path(__file__).parents[2] / "docs" / "targets.md").read_text()
    files = page.partition("## The files")[2].partition("\n## ")[0]
    cells = [line.split(" | ")[:3] for line in files.splitlines() if line.startswith("| ")]
    cells = [tuple(cell.strip("| ") for cell in row) for row in cells[2:]]
    tested = {*test_export.CELLS, *((*cell, "int8") for cell in DEVICE_CELLS)}
    tested = {
        (IN_BUNDLES.get(name, name), *rest) for name, *rest in tested if name not in NOT_ON_THE_PAGE
    }
    listed = re.search("In no test, but compiled and run for this page: (.*?)\\. Vela", page)[
        1
    ].split("; ")
    named = {(model, device) for device, _, models in (part.partition(" of ") for part in listed)
             for model in models.split(", ")}  # fmt: skip
    for model, format, precision in cells:
        cell = model, format, precision
        assert format == "pytorch" or (cell in tested) != ((model, format) in named), cell
    assert len(cells) > 25 and tested <= set(cells)
    for where in TESTED.values():
        file, *functions = where.replace(", ", "").split("::")
        text = (Path(__file__).parents[2] / file).read_text()
        assert all(f"def {function}(" in text for function in functions), where


def test_precisions():
    assert chosen_precisions("all", ["onnx", "cortex-m"]) == ["fp32", "int8", "dynamic-int8"]
    assert chosen_precisions("int8, int8,fp32", ["onnx"]) == ["int8", "fp32"]
    assert chosen_targets("c,onnx,c") == ["c", "onnx", "litert"]
    with pytest.raises(UserError, match="'int3'; known: fp32, int8"):
        chosen_precisions("fp32,int3", ["executorch"])
