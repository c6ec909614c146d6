"""Channels that have almost vanished keep their biases in int8: the ids are the folders in which
the situations were collected.
"""

import shutil

import numpy as np
import pytest
import torch

import xmae
from xmae.errors import UserError
from xmae.evaluation.heads.heads import HEADS
from xmae.export.bundle.bundle import preprocessing, seal
from xmae.export.bundle.migrate import SCHEMA_VERSION
from xmae.export.bundle.verify import verify
from xmae.export.export import refuse_saturated
from xmae.export.targets import biases
from xmae.export.targets import litert as litert_target
from xmae.export.targets import onnx as onnx_target
from xmae.export.targets.registry import TARGETS
from xmae.files import write_json
from xmae.quantize import exportable

SAMPLES = np.sin(np.arange(1000) / 9).astype(np.float32).reshape(1, 1, 1, 1000)


def two_layers(kind):
    """Return convolution, ReLU and convolution as an ONNX model; one channel of the first almost
    vanished.
    """
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    w1, b1 = rng.normal(size=(4, 1, 1, 8)), np.array([0.1, -0.1, 0.2, 0.0])
    if kind != "plain":
        w1[1], b1[1] = {"pruned": 0, "tiny": 1e-8}[kind], 0.8
    w2, b2 = rng.normal(size=(4, 4, 1, 1)), np.zeros(4)
    nodes = [
        helper.make_node("Conv", ["ppg", "w1", "b1"], ["a"], name="c1"),
        helper.make_node("Relu", ["a"], ["r"], name="r1"),
        helper.make_node("Conv", ["r", "w2", "b2"], ["embedding"], name="c2"),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("ppg", [1, 1, 1, 1000]), ("embedding", [1, 4, 1, 993]))
    ]
    constants = [
        numpy_helper.from_array(x.astype(np.float32), name)
        for name, x in (("w1", w1), ("b1", b1), ("w2", w2), ("b2", b2))
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
    opsets = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()


@pytest.mark.parametrize(
    "kind", ["plain", "pruned", "tiny"], ids="43_onnx_bias_overflow_small-{}".format
)
def test_error_of_two_layers(kind):
    ort = pytest.importorskip("onnxruntime")
    model = two_layers(kind)
    values = next(iter(onnx_target.values_of(model, SAMPLES.reshape(1, 1000))))
    ranges = {name: (min(x.min(), 0.0), max(x.max(), 0.0)) for name, x in values.items()}
    codes = onnx_target.quantize(model, ranges | {"ppg": (-1.0, 1.0)})
    real, int8 = (
        ort.InferenceSession(m, providers=["CPUExecutionProvider"]).run(None, {"ppg": SAMPLES})[0]
        for m in (model, codes)
    )
    assert np.abs(real - int8).max() < 0.012 * np.ptp(real)


@pytest.fixture(scope="module")
def tiny():
    """Return a student in which a few channels have almost vanished while their bias is of ordinary
    size.
    """
    model = xmae.load("student-mcu")
    with torch.no_grad():
        for block, part, channels in (
            (2, "depthwise", (3, 7)), (3, "pointwise", (0, 10, 20)), (6, "depthwise", (5,)),
            (9, "pointwise", (1, 2)),
        ):  # fmt: skip
            norm = getattr(model.blocks[block], part)[1]
            norm.weight[list(channels)], norm.bias[list(channels)] = 1e-8, 1.0
    return model.eval()


@pytest.mark.parametrize(
    "target",
    [pytest.param("litert", marks=pytest.mark.extended), "onnx"],
    ids="41_tiny_weights_large_bias-{}".format,
)
def test_a_student_with_vanished_channels(tiny, target, recording_windows, tmp_path, monkeypatch):
    from xmae.signals.scale import minmax_scale

    x = minmax_scale(recording_windows("bidmc02", "bidmc05").ppg)[0].astype(np.float32)[::3]
    with torch.no_grad():
        reference = tiny(torch.from_numpy(x)[:, None]).numpy()
    module = TARGETS[target]

    def cosine():
        path = tmp_path / f"int8{module.suffix}"
        module.convert(exportable(tiny), path, "int8", x)
        got = module.open(path)(x)
        a, b = got - reference.mean(0), reference - reference.mean(0)
        length = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        return path, np.median((a * b).sum(1) / length)

    path, kept = cosine()
    assert kept > 0.97 and module.saturated(path) == []
    refuse_saturated(module, path)
    # without room for the biases it is lost, and that is noticed
    monkeypatch.setattr(
        {"litert": litert_target, "onnx": onnx_target}[target],
        "least_steps",
        lambda bias, step: 0 * bias,
    )
    path, lost = cosine()
    assert lost < kept and module.saturated(path)
    with pytest.raises(UserError, match="does not fit into 32 bits"):
        refuse_saturated(module, path)
    verdict = verify(bundle_of(path, module, tmp_path / "bundle"))
    assert not verdict["passed"]
    assert "does not fit into 32 bits; export it anew" in verdict["models"][path.name]


def bundle_of(path, target, folder):
    """Return a bundle of one int8 file, as it may have come from elsewhere."""
    folder.mkdir()
    shutil.copy(path, folder)
    write_json(folder / HEADS, {"student": {}})
    entry = {"model": "student", "format": target.name, "precision": "int8", "file": path.name}
    window = {"sfreq": 100, "n_times": 1000, "range": [-1, 1]}
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "window": window,
        "preprocessing": preprocessing(),
        "models": [entry | target.inspect(path)],
    }
    seal(folder, manifest)
    return str(folder)


def test_least_steps():
    steps = biases.least_steps(np.array([0.0, 1.0, -2.0]), 0.01)
    assert (np.abs([0.0, 1.0, -2.0]) <= steps * 0.01 * 2**31).all() and steps[0] == 0
    assert biases.at_the_end(np.array([0, -(2**31)], np.int32))
    assert not biases.at_the_end(np.array([2**30], np.int32))
    assert (biases.least_steps(np.ones(2), 0.0) == 0).all()
