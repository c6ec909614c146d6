"""The encoders of the rival methods, small, in every format: float as in PyTorch, int8 close to
it.
"""

from functools import cache
from importlib.metadata import version

import numpy as np
import pytest
import torch

from xmae.benchmarks.harness.saved_results import digest, kept, made_of
from xmae.data.store.store import WindowStore
from xmae.export import TARGETS
from xmae.models import load_encoder, resnet, vit
from xmae.models.resnet import ResNetEncoder
from xmae.models.vit import ViTEncoder
from xmae.quantize import exportable, held_out, training_windows
from xmae.quantize.layers import centred_cosine, run_graph

KINDS = {"resnet": (ResNetEncoder, resnet), "vit": (ViTEncoder, vit)}


@pytest.fixture(scope="module")
def encoders(small_store):
    """Return a function of a kind: graph, calibration and comparison windows.

    Weights as they start, but batch norms that have seen real windows: with their first statistics
    activations vanish in depth, and int8 would have nothing to keep.
    """
    store = WindowStore(small_store)
    calibration, ppg = training_windows(store.windows("train"), 64).ppg, held_out(store, 24, 0)

    @cache
    def make(kind):
        torch.manual_seed(2)
        encoder, module = KINDS[kind]
        encoder = encoder(**module.SIZES["small"]).train()
        with torch.no_grad():
            for _ in range(60):
                encoder(torch.from_numpy(calibration)[:, None])
        return exportable(encoder.eval()), calibration, ppg

    return make


@pytest.mark.parametrize(
    ("kind", "format"),
    [
        ("resnet", "onnx"),
        pytest.param("vit", "litert", marks=pytest.mark.extended),
        pytest.param("resnet", "litert", marks=pytest.mark.extended),
        pytest.param("vit", "onnx", marks=pytest.mark.extended),
    ],
)
def test_float_and_int8_files(encoders, tmp_path, kind, format):
    (graph, calibration, ppg), target = encoders(kind), TARGETS[format]
    reference, mean = run_graph(graph, ppg), run_graph(graph, calibration).mean(0)
    found = {}
    for precision in ("fp32", "int8"):
        path = tmp_path / f"{precision}{target.suffix}"
        target.convert(graph, path, precision, calibration)
        found[precision] = target.open(path)(ppg)
    scale = np.abs(reference).max()
    assert np.abs(found["fp32"] - reference).max() <= 1e-4 * scale
    assert np.median(centred_cosine(found["int8"], reference, mean)) >= 0.95
    assert (tmp_path / f"int8{target.suffix}").stat().st_size < (
        tmp_path / f"fp32{target.suffix}"
    ).stat().st_size


def test_rows_of_tables_are_measured_again_when_weights_store_or_tools_changed(
    small_store, tmp_path
):
    student, store, times = load_encoder("student-mcu"), WindowStore(small_store), []

    def row():
        return kept(
            tmp_path / "row.json",
            made_of(student, store, ["onnx"], seed=1),
            lambda: times.append(1) or len(times),
        )

    assert made_of(student, store, ["onnx"])["tools"]["onnxruntime"] == version("onnxruntime")
    assert (row(), row()) == (1, 1)
    before = digest(made_of(student, store, []))
    student.head.bias.data[0] += 1e-4
    assert (row(), row()) == (2, 2)
    assert digest(made_of(student, store, [])) != before
    store.splits = dict.fromkeys(store.splits, "train")
    assert (row(), row()) == (3, 3)
