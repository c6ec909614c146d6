"""Training with int8 rounding: the rounding itself, that it learns, and that a student comes
out.
"""

from itertools import chain

import numpy as np
import pytest
import torch

from xmae.data.store.store import WindowStore
from xmae.distill.objective import TaughtCrops
from xmae.errors import UserError
from xmae.export import TARGETS
from xmae.models import McuStudent, load_encoder
from xmae.quantize import exportable, held_out, quantize_graph, training_windows
from xmae.quantize.layers import centred_cosine, run_graph
from xmae.quantize.qat import QuantizationAware, RoundedActivation, RoundedWeight, folded, qat


@pytest.fixture(scope="module")
def taught(small_store):
    return TaughtCrops(
        load_encoder("student-mcu"), WindowStore(small_store).windows("train"), 64, 32, seed=3
    )


def test_folded_student_computes_the_same_and_rounds_the_weights_of_the_file(taught):
    student = load_encoder("student-mcu")
    again = folded(student)
    with torch.no_grad():
        torch.testing.assert_close(again(taught.ppg), student(taught.ppg), atol=1e-4, rtol=1e-4)
    exported = exportable(student).encoder.blocks[3].pointwise[0].weight
    torch.testing.assert_close(again.blocks[3].pointwise[0].weight, exported)


def test_rounded_weights_are_127_steps_a_channel_and_pass_gradients():
    weight = torch.tensor([[0.5, -1.0, 0.2501], [20, 10.04, -5]], requires_grad=True)
    rounded = RoundedWeight()(weight)
    expected = np.array([[64 / 127, -1, 32 / 127], [20, 64 * 20 / 127, -32 * 20 / 127]])
    np.testing.assert_allclose(rounded.detach(), expected, atol=1e-6)
    rounded.sum().backward()
    assert torch.equal(weight.grad, torch.ones(2, 3))


def test_rounded_activations_follow_the_batches_in_training_only():
    around, x = RoundedActivation(), torch.tensor([-1.0, 0.004, 1.55])
    y = around(x)
    np.testing.assert_allclose(y, [-1, 0, 1.55], atol=1e-6)  # steps of 0.01
    around(10 * x)
    assert around.high.item() == pytest.approx(1.55 + 0.05 * 13.95)
    around.eval()(100 * x)
    assert around.high.item() == pytest.approx(1.55 + 0.05 * 13.95)
    clipped = torch.tensor([50.0, 1.0], requires_grad=True)
    around(clipped).sum().backward()
    assert clipped.grad.tolist() == [0, 1]


@pytest.mark.extended
def test_rounding_is_that_of_the_exported_graph(taught, small_store):
    """The rounded student agrees with the int8 graph better than either does with float."""
    student = load_encoder("student-mcu")
    objective, store = QuantizationAware(folded(student), taught), WindowStore(small_store)
    ppg, calibration = held_out(store, 16, 0), training_windows(store.windows("train"), 64).ppg
    objective.train().student(torch.from_numpy(calibration)[:, None])
    with torch.no_grad():
        rounded = objective.eval().student(torch.from_numpy(ppg)[:, None]).numpy()
    graph = exportable(student)
    int8, exact = run_graph(quantize_graph(graph, calibration), ppg), run_graph(graph, ppg)
    assert np.square(rounded - int8).mean() < 0.75 * min(
        np.square(rounded - exact).mean(), np.square(int8 - exact).mean()
    )


def unequal(student, factor=30):
    """Return a student that computes the same with one channel of each block in another scale,
    which int8 bears badly (Nagel et al., ICCV 2019).
    """
    for block in student.blocks:
        norm, after = block.depthwise[1], block.pointwise[0]
        with torch.no_grad():
            norm.weight[0] *= factor
            norm.bias[0] *= factor
            after.weight[:, 0] /= factor
    return student


def test_loss_falls_and_a_plain_student_comes_out(taught):
    student = unequal(load_encoder("student-mcu"))
    batch = taught.batch(1, 0)
    with torch.no_grad():
        same = load_encoder("student-mcu")(batch.ppg)
        assert torch.allclose(student(batch.ppg), same, atol=1e-3)
    objective = QuantizationAware(folded(student), taught)
    before = objective.first_look(batch, taught.batch(2, 0))
    assert 0.9 < before < 1
    assert all(around.high.isfinite() and around.low <= 0 for around in objective.ranges)
    optimiser = torch.optim.AdamW([p for p in objective.parameters() if p.requires_grad], lr=5e-5)
    losses = []
    for _ in range(15):
        loss = objective.train()(batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    assert all(p.grad is not None for p in objective.parameters() if p.requires_grad)
    plain = objective.plain()
    assert plain.state_dict().keys() == McuStudent().state_dict().keys()
    before = list(chain.from_iterable(module._forward_hooks.values() for module in plain.modules()))
    assert not before


def test_verb_gives_a_student_that_quantizes_as_well(small_store, tmp_path):
    result = qat(
        "student-mcu",
        small_store,
        str(tmp_path / "run"),
        crops=64,
        epochs=2,
        batch_size=32,
        lr=1e-4,
    )
    assert result["cosine_to_float"] >= result["cosine_to_float_before"] > 0.99
    assert result["precision"] == "32-true"
    student, store = load_encoder(result["student"]), WindowStore(small_store)
    assert student.provenance["method"] == "qat" and student.provenance["teacher"]["method"]
    assert student.provenance["cosine_to_float"] == result["cosine_to_float"]
    assert "cosine" not in student.provenance  # which is that to a teacher
    graph, ppg = exportable(student), held_out(store, 16, 0)
    calibration = training_windows(store.windows("train"), 32).ppg
    TARGETS["onnx"].convert(graph, tmp_path / "int8.onnx", "int8", calibration)
    int8, mean = (
        TARGETS["onnx"].open(tmp_path / "int8.onnx")(ppg),
        run_graph(graph, calibration).mean(0),
    )
    assert np.percentile(centred_cosine(int8, run_graph(graph, ppg), mean), 5) > 0.98


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        ("base", {}, "only conv-only students"),
        ("student-mcu", {"crops": 0}, "at least 1"),
        ("student-mcu", {"resume": True, "crops": 64, "batch_size": 32}, "nothing to resume"),
    ],
)
def test_verb_refuses(small_store, tmp_path, model, settings, message):
    with pytest.raises(UserError, match=message):
        qat(model, small_store, str(tmp_path / "run"), **settings)
