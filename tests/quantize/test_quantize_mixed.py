"""Which layers bear int8 and which do not: sensitivity, files with layers in float, the verb."""

from itertools import chain

import numpy as np
import onnx
import pytest
import torch

from xmae.data.store.store import WindowStore
from xmae.errors import UserError
from xmae.export import TARGETS, mixed
from xmae.export.export import export
from xmae.export.int8 import quantize
from xmae.export.mixed import export_within
from xmae.files import read_json
from xmae.models import load_encoder
from xmae.quantize import exportable, held_out, quantize_graph, read_calibration, training_windows
from xmae.quantize.layers import centred_cosine, drift_of_embeddings, run_graph
from xmae.quantize.sensitivity import sensitivity, units


@pytest.fixture(scope="module")
def student(small_store):
    """Return graph, calibration and held-out windows of the shipped student."""
    store = WindowStore(small_store)
    return (
        exportable(load_encoder("student-mcu")),
        training_windows(store.windows("train"), 64).ppg,
        held_out(store, 32, 0),
    )


@pytest.fixture(scope="module")
def rows(student):
    return sensitivity(*student[:2])


@pytest.mark.extended
def test_layers_alone_add_up_to_what_all_lose_together(student, rows):
    graph, calibration, ppg = student
    assert [row["noise"] for row in rows] == sorted((row["noise"] for row in rows), reverse=True)
    int8, exact = (run_graph(g, ppg) for g in (quantize_graph(graph, calibration), graph))
    together = (
        1
        - drift_of_embeddings(int8, exact, run_graph(graph, calibration).mean(0))[
            "centred_cosine_median"
        ]
    )
    assert together / 3 < sum(row["noise"] for row in rows) / 2 < 3 * together
    modules = list(chain.from_iterable(row["modules"] for row in rows))
    assert len(modules) == len(set(modules))


@pytest.mark.extended
@pytest.mark.parametrize("format", ["onnx", "litert"])
def test_a_layer_that_was_spoilt_is_found_and_left_in_float(student, tmp_path, format):
    """A channel that nothing reads, but for which all others of its layer must share a huge
    range.
    """
    encoder, (_, calibration, ppg) = load_encoder("student-mcu"), student
    with torch.no_grad():
        encoder.blocks[2].depthwise[1].bias[3] = 2000
        encoder.blocks[2].pointwise[0].weight[:, 3] = 0
    graph = exportable(encoder)
    first = sensitivity(graph, calibration)[0]
    assert first["layer"] == "encoder.blocks.2.depthwise"
    assert set(first["modules"]) >= {f"encoder.blocks.2.depthwise.{i}" for i in (0, 1)}
    reference, mean = run_graph(graph, ppg), run_graph(graph, calibration).mean(0)
    path, target = tmp_path / f"int8{TARGETS[format].suffix}", TARGETS[format]
    target.convert(graph, path, "int8", calibration)
    assert np.median(centred_cosine(target.open(path)(ppg), reference, mean)) < 0.95
    kept = export_within(target, graph, path, calibration, ppg, 0.97)
    assert {"encoder.blocks.2.depthwise", "encoder.blocks.2.pointwise"} <= set(kept["float_layers"])
    assert len(kept["float_layers"]) <= 4
    assert np.percentile(centred_cosine(target.open(path)(ppg), reference, mean), 5) >= 0.97


@pytest.mark.extended
def test_layers_in_float_are_float_in_the_file(student, tmp_path):
    graph, calibration, _ = student
    head = ["encoder.head"]
    TARGETS["onnx"].convert(graph, tmp_path / "s.onnx", "int8", calibration, keep=head)
    weights = {
        t.name: t.data_type
        for t in onnx.load(tmp_path / "s.onnx").graph.initializer
        if len(t.dims) > 1
    }
    assert [name for name, kind in weights.items() if kind == onnx.TensorProto.FLOAT] == [
        "encoder.head.weight"
    ]
    TARGETS["litert"].convert(graph, tmp_path / "s.tflite", "int8", calibration, keep=head)
    assert TARGETS["litert"].inspect(tmp_path / "s.tflite")["output"]["dtype"] == "float32"
    assert TARGETS["litert"].inspect(tmp_path / "s.tflite")["input"]["dtype"] == "int8"
    targets = [
        str(node.target) for node in quantize_graph(graph, calibration[:16], keep=head).graph.nodes
    ]
    assert sum("dequantize_per_channel" in target for target in targets) == 23  # convolutions


def test_activation_functions_belong_to_their_layer_and_blocks_to_themselves():
    found = units(exportable(load_encoder("base")))
    assert found["blocks.1.mlp.2"] == found["blocks.1.mlp.0"] == "blocks.1.mlp"
    assert found["blocks.1.q"] == "blocks.1.q"
    assert found["blocks.1"] == "blocks.1"
    assert found["stem.down1.1"] == "stem.down1"


def test_budgets_that_cannot_be(student, tmp_path, monkeypatch):
    graph, calibration, ppg = student
    for budget in (0, 1, 98):
        with pytest.raises(UserError, match="between 0 and 1, such as 0.99"):
            export_within(TARGETS["onnx"], graph, tmp_path / "s.onnx", calibration, ppg, budget)
    monkeypatch.setattr(mixed, "low_cosine", lambda *_: 0.5)
    monkeypatch.setattr(
        mixed,
        "worst_first",
        lambda *_: [{"layer": "encoder.head", "modules": [], "readers": [], "noise": 1.0}],
    )
    with pytest.raises(UserError, match="keep a centred cosine of 0.500000 with no layer in int8"):
        export_within(TARGETS["onnx"], graph, tmp_path / "s.onnx", calibration, ppg, 0.99)


@pytest.mark.parametrize("targets", ["onnx", pytest.param("litert", marks=pytest.mark.extended)])
def test_verb_writes_files_layers_and_calibration(small_store, tmp_path, targets):
    result = quantize("student-mcu", small_store, str(tmp_path / "q"), 32, targets=targets)
    written = read_json(tmp_path / "q" / "layers.json")
    assert written["formats"] == result["formats"]
    for row in result["formats"]:
        layers = written["layers"][row["format"]]
        assert row["bytes"] == (tmp_path / "q" / row["file"]).stat().st_size
        assert row["worst_snr_db"] == min(layer["snr_db"] for layer in layers)
        assert row["centred_cosine_median"] >= 0.98 and row["centred_cosine_p5"] >= 0.95
        assert len(layers) > 25
        assert {"encoder.stem.1", "encoder.head"} <= {layer["module"] for layer in layers}
        # errors add up on the way, until the mean over time averages them out
        blocks = [layer for layer in layers if layer["module"].startswith("encoder.blocks")]
        assert layers[0]["snr_db"] > blocks[-1]["snr_db"] + 3
        assert all(
            set(layer) == {"operation", "module", "cosine", "snr_db", "max_error"}
            for layer in layers
        )
    store = WindowStore(small_store)
    assert len(read_calibration(tmp_path / "q" / "calibration.npz", store.splits)) == 32
    assert list(result)[-1] == "out"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"targets": "onnx,tensorrt"},
            "cannot quantize for 'tensorrt'; known: executorch, litert, onnx",
        ),
        ({"observer": "best"}, "unknown observer 'best'"),
        ({"drift_budget": 1.5}, "between 0 and 1"),
        ({"n_calibration": 5}, "at least 16 windows"),
    ],
)
def test_verb_refuses(small_store, tmp_path, wrong, message):
    with pytest.raises(UserError, match=message):
        quantize("student-mcu", small_store, str(tmp_path / "q"), **wrong)
    assert not (tmp_path / "q").exists()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"observer": "best"}, "unknown observer 'best'"),
        ({"drift_budget": 0}, "between 0 and 1"),
        ({"drift_budget": 0.99, "targets": "litert,c"}, "target c has int8 arithmetic only"),
    ],
)
def test_bundle_refuses(small_store, tmp_path, wrong, message):
    with pytest.raises(UserError, match=message):
        export("base", "student-mcu", small_store, str(tmp_path / "b"), **wrong)
    assert not (tmp_path / "b").exists()
