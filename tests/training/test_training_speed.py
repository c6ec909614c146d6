"""The plainly written model of the benchmark: an independent reference for ours in training, at
full size.
"""

from pathlib import Path

import pytest
import torch

from xmae.benchmarks.studies.published_model import PlainXMAE
from xmae.benchmarks.studies.training_speed import TITLES, measure, page, real_batch
from xmae.models import load_reference_checkpoint
from xmae.models.reference import UNUSED, to_ours

KEYS = Path(__file__).parents[1] / "fixtures" / "xmae_state_keys.txt"


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Use one thread, so that a busy machine does not make small steps wait for each other's
    threads.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def trained_alike(tmp_path_factory):
    """Return plain model and ours after two SGD steps from the same weights on the same real
    windows; their losses.
    """
    torch.manual_seed(0)
    plain = PlainXMAE(dropout=0.0)
    for name, tensor in plain.state_dict().items():
        if (
            tensor.is_floating_point()
            and ("norm" in name or "_bn" in name or ".1." in name)
            and tensor.dim() == 1
        ):
            tensor.add_(0.2 * torch.rand_like(tensor))  # norms that are not trivial
    path = tmp_path_factory.mktemp("plain") / "plain.pt"
    torch.save(plain.state_dict(), path)
    ours = load_reference_checkpoint(path)
    for module in ours.modules():
        if isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0
        elif isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    ppg, ecg, mask = real_batch(6)
    losses = []
    for model, loss in (
        (plain, lambda: plain(ppg, ecg, mask)[-1]),
        (ours.train(), lambda: ours(ppg, ecg, mask).loss),
    ):
        optimizer = torch.optim.SGD(model.parameters(), 0.01)
        for _ in range(2):  # the second pass sees weights and statistics that the first one changed
            optimizer.zero_grad()
            value = loss()
            value.backward()
            optimizer.step()
            losses.append(value.item())
    return plain, ours, losses


def test_plain_model_has_the_published_tensors():
    lines = [line.split("\t") for line in KEYS.read_text().splitlines()[1:]]
    published = {name: shape for name, shape in lines if not UNUSED.match(name)}
    assert {
        name: str(tuple(tensor.shape)) for name, tensor in PlainXMAE().state_dict().items()
    } == published


def test_same_losses(trained_alike):
    _, _, (plain_first, plain_second, first, second) = trained_alike
    assert first == pytest.approx(plain_first, rel=1e-5)
    assert second == pytest.approx(plain_second, rel=1e-5)
    assert second != pytest.approx(first, rel=1e-3)


def test_same_gradients(trained_alike):
    plain, ours, _ = trained_alike
    gradients = to_ours(
        {name: p.grad for name, p in plain.named_parameters() if p.grad is not None}
    )
    for name, p in ours.named_parameters():
        if p.grad is None:
            # the loss does not reach it
            assert name.startswith("encoder.projection") and name not in gradients
        else:
            expected = gradients[name]
            assert (p.grad - expected).norm() <= 1e-3 * expected.norm() + 1e-6, name


def test_same_weights_and_running_statistics(trained_alike):
    plain, ours, _ = trained_alike
    expected = to_ours(plain.state_dict())
    for name, tensor in ours.state_dict().items():
        torch.testing.assert_close(
            tensor, expected[name], rtol=1e-4, atol=1e-5, msg=lambda text, name=name: name + text
        )


@pytest.mark.extended  # three processes start
def test_benchmark_reports_speed_and_equal_losses():
    result = measure(batch_size=4, rounds=1)
    assert result["losses"]["float32"] == pytest.approx(result["losses"]["reference"], rel=1e-3)
    for name, ratio in result["ratio"].items():
        assert ratio["lowest"] <= ratio["median"] <= ratio["highest"]
        assert result["losses"][name] == pytest.approx(result["losses"]["reference"], rel=0.1)
        assert result["windows_per_s"][name] > 0
        assert (
            f"| {TITLES[name]} | {result['windows_per_s'][name]} | **{ratio['median']}** ("
            in page(result)
        )
