"""The criss-cross encoder on its way to the edge: the graph, and the files in their runtimes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from xmae.data.bidmc import bidmc_files
from xmae.data.prepare.prepare import prepare_recording
from xmae.data.recording.leads import choose_leads
from xmae.data.recording.readers import read_recording
from xmae.export.targets.registry import TARGETS
from xmae.models.criss_cross import CRISS_CROSS_SIZES, CrissCrossEncoder, load_criss_cross
from xmae.quantize.criss_cross import SpectrumNormalise
from xmae.quantize.graph import exportable
from xmae.quantize.layers import centred_cosine, run_graph

FIXTURE = Path(__file__).parents[1] / "fixtures" / "criss_cross_small.npz"


@pytest.fixture(scope="module")
def leads():
    """Return two real leads, standardised: (n, 2, 2000)."""
    windows, _ = prepare_recording(read_recording(bidmc_files()[0]), min_quality=-1, leads=True)
    return choose_leads(windows, "II,V")


def test_fixed_product_is_the_magnitude_of_the_real_fft():
    x = torch.randn(1, 6, 200)
    torch.testing.assert_close(
        SpectrumNormalise()(x), torch.fft.rfft(x, norm="forward").abs(), atol=1e-6, rtol=1e-5
    )


@pytest.mark.parametrize(("n_chans", "size"), [(1, "tiny"), (2, "small"), (12, "tiny")])
def test_graph_computes_what_the_encoder_does(n_chans, size):
    torch.manual_seed(0)
    encoder = CrissCrossEncoder(**CRISS_CROSS_SIZES[size]).eval()
    for norm in (
        m for m in encoder.modules() if isinstance(m, torch.nn.LayerNorm | torch.nn.GroupNorm)
    ):
        torch.nn.init.normal_(norm.weight, 1, 0.3)
        torch.nn.init.normal_(norm.bias, 0, 0.3)
    x = np.random.default_rng(0).standard_normal((2, n_chans, 2000)).astype(np.float32)
    with torch.no_grad():
        expected = encoder(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(run_graph(exportable(encoder, n_chans), x), expected, atol=2e-5)


@pytest.fixture(scope="module")
def exported(leads, tmp_path_factory):
    """Return a one-block encoder with the reference's weights, exported once a format and
    precision.
    """
    whole = load_criss_cross(FIXTURE).encoder
    encoder = CrissCrossEncoder(depth=1, mlp=400).eval()
    encoder.load_state_dict(
        {name: x for name, x in whole.state_dict().items() if ".layers.1." not in name}
    )
    graph, folder = exportable(encoder), tmp_path_factory.mktemp("edge")
    reference, mean = run_graph(graph, leads[::4]), run_graph(graph, leads[1::4]).mean(0)

    def get(format, precision):
        target = TARGETS[format]
        path = folder / f"{precision}{target.suffix}"
        target.convert(graph, path, precision, leads[1::4])
        session = target.open(path)
        actual = np.concatenate([session.run(window[None, None]) for window in leads[::4]])
        return actual, reference, mean, target.inspect(path)

    return get


@pytest.mark.parametrize(
    "format",
    ["onnx", *(pytest.param(f, marks=pytest.mark.extended) for f in ("litert", "executorch"))],
)
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_file_computes_what_pytorch_does(exported, format, precision):
    actual, reference, mean, found = exported(format, precision)
    assert found["input"]["shape"] == [1, 1, 2, 2000] and found["output"]["shape"] == [1, 200]
    if precision == "fp32":
        np.testing.assert_allclose(actual, reference, atol=1e-4)
    else:
        assert np.median(centred_cosine(actual, reference, mean)) > 0.9
