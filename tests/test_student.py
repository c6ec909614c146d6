"""The student's budget and protocol."""

import pytest
import torch
from torch import nn

from xmae.models.student import McuStudent, count_macs


@pytest.fixture(scope="module")
def student():
    torch.manual_seed(0)
    return McuStudent().eval()


def test_int8_weights_and_work_stay_within_the_microcontroller_budget(student):
    layers = [m for m in student.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    weights = sum(layer.weight.numel() for layer in layers)  # one byte each
    biases = sum(4 * layer.weight.shape[0] for layer in layers)  # int32, batch norm folded in
    assert weights + biases <= 256 * 1024
    assert count_macs(student) <= 4_000_000


def test_count_macs_is_the_sum_over_layers(student):
    counted, hooks = [], []

    def count(layer, _, output):
        positions = output.shape[-1] if isinstance(layer, nn.Conv2d) else 1
        counted.append(layer.weight.numel() * positions)  # each weight is used once at each output position

    for layer in student.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            hooks.append(layer.register_forward_hook(count))
    macs = count_macs(student)
    for hook in hooks:
        hook.remove()
    assert macs == sum(counted)


def test_embedding_is_the_head_of_the_mean_token(student):
    ppg = torch.randn(3, 1, 1000)
    tokens = student.tokens(ppg)
    assert tokens.shape == (3, 16, 160)
    torch.testing.assert_close(student(ppg), student.head(tokens.mean(1)))
    assert student(ppg).shape == (3, student.embed_dim)


def test_config_rebuilds_the_model():
    student = McuStudent(embed_dim=24)
    twin = McuStudent(**student.config)
    twin.load_state_dict(student.state_dict())
    assert twin.embed_dim == 24


def test_every_parameter_gets_a_gradient():
    student = McuStudent()
    student(torch.randn(4, 1, 1000)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in student.parameters())


def test_padding_needs_no_pad_operator(student):
    """TFLite pads "same" by max((ceil(L / s) - 1) s + k - L, 0) samples, the smaller half first: ours must be that."""
    seen = []
    hooks = [
        m.register_forward_hook(lambda layer, x, y: seen.append((layer, x[0].shape[-1], y.shape[-1])))
        for m in student.modules()
        if isinstance(m, nn.Conv2d)
    ]
    student(torch.zeros(1, 1, 1000))
    for hook in hooks:
        hook.remove()
    for layer, length, out in seen:
        (_, k), (_, stride), (_, padding) = layer.kernel_size, layer.stride, layer.padding
        total = max((-(-length // stride) - 1) * stride + k - length, 0)
        assert out == -(-length // stride)
        assert total == 2 * padding
