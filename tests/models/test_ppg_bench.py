"""The port to PPG-Bench: what that package calls, and what it gets."""

import pytest
import torch

from xmae.errors import UserError
from xmae.models import load_encoder
from xmae.models.ppg_bench import Port


def test_windows_of_any_length_become_ours():
    port = Port({"model": "student-mcu-s", "target_fs": 100})
    ramp = torch.arange(3000.0).repeat(2, 1)
    longer = port.prepare_batch({"x": ramp}, {}, "cpu")
    torch.testing.assert_close(longer[0, 0], torch.linspace(-1, 1, 1000), rtol=0, atol=1e-6)
    shorter = port.prepare_batch({"x": ramp[:, :400]}, {}, "cpu")
    assert shorter.shape == (2, 1, 1000)
    torch.testing.assert_close(shorter[..., 400:799], shorter[..., :399].flip(-1))
    with torch.no_grad():
        embedding = port.load_encoder()(longer)
        torch.testing.assert_close(embedding, load_encoder("student-mcu-s")(longer))


def test_another_rate_is_refused():
    with pytest.raises(UserError, match="must be 100"):
        Port({"target_fs": 125})
