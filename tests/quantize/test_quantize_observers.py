"""Ranges of activations against plain statistics of the same values, and in the files of all
formats.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from xmae.data.store.store import WindowStore
from xmae.errors import UserError
from xmae.export import TARGETS
from xmae.models import load_encoder
from xmae.quantize import exportable, quantize_graph, training_windows
from xmae.quantize.observers import OBSERVERS, SHARES, Observer, ranges
from xmae.quantize.pt2e import observe


def range_of(name, *parts):
    observer = Observer(name)
    for part in parts:
        observer.add(part.astype(np.float32))
    return observer.range()


def rounded(x, low, high):
    """Return int8 with a zero point, written anew."""
    scale = (high - low) / 255
    zero = round(-low / scale)
    return (np.clip(np.round(x / scale) + zero, 0, 255) - zero) * scale


@pytest.fixture(scope="module")
def values():
    """Return 100,000 of a normal distribution, the largest a long way from the others."""
    x = np.random.default_rng(5).normal(0.3, 1, 100_000)
    x[7] = 40
    return x


def test_minmax_is_the_extremes(values):
    assert range_of("minmax", values[:10], values[10:]) == pytest.approx(
        (values.min(), 40), rel=1e-6
    )


def test_percentile_is_that_of_numpy(values):
    def expected(x, share):
        return np.quantile(x, share, method="inverted_cdf")

    bin_width = 2**-7  # the first power of two of which 8192 reach 40
    both = expected(values, [0.00005, 0.99995])
    np.testing.assert_allclose(range_of("percentile", values), both, atol=2 * bin_width)
    upper = expected(values[values > 0], 0.99995)  # what a ReLU makes 0 has no say
    np.testing.assert_allclose(
        range_of("percentile", np.maximum(values, 0)), (0, upper), atol=2 * bin_width
    )


def test_mse_beats_every_other_narrowing_on_the_values_themselves(values):
    def loss(low, high):
        return np.mean((rounded(values, low, high) - values) ** 2)

    chosen = loss(*range_of("mse", values))
    assert chosen < loss(values.min(), 40)
    uppers = [loss(values.min(), 40 * share) for share in SHARES]
    assert chosen <= min(uppers) * 1.001


def test_entropy_gives_up_the_outlier_and_nothing_of_an_even_spread(values):
    low, high = range_of("entropy", values)
    assert values.min() <= low < -1.5
    assert 4 < high < 15
    even = np.random.default_rng(1).uniform(-2, 3, 200_000)
    np.testing.assert_allclose(range_of("entropy", even), (-2, 3), atol=0.2)


@pytest.mark.parametrize("name", OBSERVERS)
@settings(max_examples=10, deadline=None)
@given(
    x=arrays(np.float32, st.integers(1, 50), elements=st.floats(-1e4, 1e4, width=32)),
    cut=st.integers(0, 50),
)
def test_order_does_not_matter_and_nothing_outside_the_values_is_chosen(name, x, cut):
    parts = [part for part in (x[:cut], x[cut:]) if len(part)]
    whole, low_high = range_of(name, x), range_of(name, *parts)
    assert low_high == range_of(name, *reversed(parts)) == whole
    assert min(x.min(), 0) - 1e-3 <= low_high[0] <= low_high[1] <= max(x.max(), 0) + 1e-3


@pytest.mark.parametrize(
    "use", [Observer, lambda name: ranges([], name)], ids=["Observer", "ranges"]
)
def test_unknown_observer(use):
    with pytest.raises(
        UserError, match="unknown observer 'best'; expected one of minmax, percentile, mse, entropy"
    ):
        use("best")


@pytest.fixture(scope="module")
def watched(small_store):
    """Return a student, calibration windows, and all that its first ReLU gives on them."""
    encoder, seen = load_encoder("student-mcu"), []
    ppg = training_windows(WindowStore(small_store).windows("train"), 16).ppg
    hook = encoder.stem.register_forward_hook(
        lambda module, inputs, output: seen.append(output.numpy())
    )
    with torch.no_grad():
        encoder(torch.from_numpy(ppg)[:, None])
    hook.remove()
    return exportable(encoder), ppg, seen[0]


def scales(format, path):
    """Return the scales of all activations in a file."""
    if format == "onnx":
        import onnx

        graph = onnx.load(path).graph
        named = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
        return [
            float(named[node.input[1]]) for node in graph.node if node.op_type == "QuantizeLinear"
        ]
    from ai_edge_litert.interpreter import Interpreter

    details = Interpreter(str(path)).get_tensor_details()
    return [d["quantization"][0] for d in details if d["dtype"] is np.int8 and d["quantization"][0]]


@pytest.mark.parametrize(
    ("format", "name"),
    [
        pytest.param("onnx", "minmax", marks=pytest.mark.extended),
        ("onnx", "percentile"),
        pytest.param("litert", "minmax", marks=pytest.mark.extended),
        pytest.param("litert", "percentile", marks=pytest.mark.extended),
        ("executorch", "mse"),
    ],
)
def test_files_have_the_range_of_the_observer(watched, tmp_path, format, name):
    graph, ppg, relu = watched
    low, high = range_of(name, relu)
    if format == "executorch":  # what is lowered; the delegate's own weights cannot be read
        nodes = quantize_graph(graph, ppg, name).graph.nodes
        found = [
            n.args[1]
            for n in nodes
            if "quantize_per_tensor" in str(n.target) and isinstance(n.args[1], float)
        ]
    else:
        path = tmp_path / f"student{TARGETS[format].suffix}"
        TARGETS[format].convert(graph, path, "int8", ppg, name)
        found = scales(format, path)
    # the stem's, among them
    assert min(abs(scale / ((high - low) / 255) - 1) for scale in found) < 2e-3
    # the input, which no observer narrows
    assert min(abs(scale - 2 / 255) for scale in found) < 1e-5


@pytest.mark.parametrize("name", [None, "percentile"])
def test_histogram_observers_of_a_quantizer_are_replaced_only_if_another_is_asked_for(values, name):
    """The quantizers for cortex-m and ethos-u come with the observers that XNNPACK's has here."""
    pytest.importorskip("executorch")
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e import HistogramObserver
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    torch.manual_seed(4)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 1, 1), torch.nn.ReLU(), torch.nn.Conv2d(1, 2, 1)
    ).eval()
    windows = torch.from_numpy(values.astype(np.float32)).view(50, 1, 1, 1, -1)
    quantizer = XNNPACKQuantizer().set_global(
        get_symmetric_quantization_config(is_per_channel=True)
    )
    observed = prepare_pt2e(
        torch.export.export(net, (windows[0],)).module(check_guards=False), quantizer
    )
    observe(observed, windows, name)
    nodes = [
        n
        for n in convert_pt2e(observed).graph.nodes
        if "quantize_per_tensor.default" in str(n.target)
    ]
    scales = [
        node.args[1]
        for node in nodes
        if str(node.target).startswith("quantized_decomposed.quantize_per")
    ]
    with torch.no_grad():
        relu = [net[:2](window) for window in windows]
    if name is None:
        histogram = HistogramObserver(dtype=torch.int8, quant_min=-128, quant_max=127, eps=2**-12)
        for x in relu:
            histogram(x)
        expected = histogram.calculate_qparams()[0].item()
    else:
        low, high = range_of(name, *(x.numpy() for x in relu))
        expected = (max(high, 0) - min(low, 0)) / 255
    assert scales[1] == pytest.approx(expected, rel=1e-5)
