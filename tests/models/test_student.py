"""The budget of each student, and what all have in common."""

import pytest
import torch
from torch import nn

from xmae.models.student import TIERS, McuStudent, count_macs, int8_bytes


@pytest.fixture(scope="module", params=TIERS)
def student(request):
    torch.manual_seed(0)
    return McuStudent(tier=request.param).eval()


LIMITS = {  # bytes of int8 weights with biases and multipliers, parameters, MAC of a window
    "mcu-s": (64 * 1024, None, 1_000_000),
    "mcu": (192 * 1024, None, 4_000_000),
    "app": (None, 1_000_000, 25_000_000),
}


def test_each_tier_stays_within_its_budget(student):
    parameters = sum(p.numel() for p in student.parameters())
    spent = int8_bytes(student), parameters, count_macs(student)
    limits = LIMITS[student.config["tier"]]
    assert all(
        limit is None or value <= limit for value, limit in zip(spent, limits, strict=True)
    ), spent
    kilobytes, macs = f"{spent[0] / 1e3:.1f}", f"{spent[2] / 1e6:.2f}"
    row = next(
        line.split()
        for line in McuStudent.__doc__.splitlines()
        if line.split()[:1] == [student.config["tier"]]
    )
    assert row[1:4] == [f"{parameters:,}", macs, kilobytes]  # the docstring says what is so


def test_int8_bytes_are_weights_and_nine_for_each_output_channel():
    assert int8_bytes(nn.Sequential(nn.Conv2d(2, 3, (1, 5)), nn.Linear(4, 6))) == 3 * (
        10 + 9
    ) + 6 * (4 + 9)


def test_count_macs_is_the_sum_over_layers(student):
    counted, hooks = [], []

    def count(layer, _, output):
        positions = output.shape[-1] if isinstance(layer, nn.Conv2d) else 1
        # each weight is used once at each output position
        counted.append(layer.weight.numel() * positions)

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
    assert tokens.shape == (3, 16, student.head.in_features)  # a token each 0.64 s, in every tier
    torch.testing.assert_close(student(ppg), student.head(tokens.mean(1)))
    assert student(ppg).shape == (3, student.embed_dim)


@pytest.mark.parametrize("tier", TIERS)
def test_config_rebuilds_the_model(tier):
    student = McuStudent(24, tier)
    twin = McuStudent(**student.config)
    twin.load_state_dict(student.state_dict())
    assert twin.embed_dim == 24


def test_a_config_from_before_there_were_tiers_is_of_the_mcu():
    McuStudent(embed_dim=24).load_state_dict(McuStudent(24, "mcu").state_dict())


@pytest.mark.parametrize("tier", TIERS)
def test_every_parameter_gets_a_gradient(tier):
    student = McuStudent(tier=tier)
    student(torch.randn(4, 1, 1000)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in student.parameters())


def test_padding_needs_no_pad_operator(student):
    """TFLite pads "same" by max((ceil(L / s) - 1) s + k - L, 0) samples, the smaller half first:
    ours must be that.
    """
    seen = []
    hooks = [
        m.register_forward_hook(
            lambda layer, x, y: seen.append((layer, x[0].shape[-1], y.shape[-1]))
        )
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
