"""Encoders as others save them; the id is the folder in which the situations were collected."""

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import xmae.models.weights as weights
from xmae.errors import UserError
from xmae.models import load_encoder

PATH = next(iter(weights.__path__)) + "/student-mcu-s.safetensors"


def copy(folder, change):
    """Return the shipped small student with its tensors changed."""
    with safe_open(PATH, "pt") as file:
        header = file.metadata()
    path = folder / "copy.safetensors"
    save_file(dict(change(k, v.clone()) for k, v in load_file(PATH).items()), path, metadata=header)
    return path


def cast(dtype):
    return lambda k, v: (k, v.to(dtype) if v.is_floating_point() else v)


@pytest.mark.parametrize(
    "dtype", [torch.half, torch.bfloat16, torch.double], ids="42_checkpoint_dtypes-{}".format
)
def test_other_precisions_are_loaded(tmp_path, dtype):
    encoder, whole = load_encoder(copy(tmp_path, cast(dtype))), load_encoder(PATH)
    assert all(p.dtype == torch.float32 for p in encoder.parameters())
    x = torch.sin(torch.arange(1000) / 9)[None, None]
    with torch.no_grad():
        assert torch.cosine_similarity(encoder(x), whole(x)).item() > 0.999


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda k, v: ("_orig_mod." + k, v), "not readable as an encoder that xmae saved"),
        (lambda k, v: ("module." + k, v), "not readable as an encoder that xmae saved"),
        (lambda k, v: (k, v * float("nan") if k == "head.bias" else v), "head.bias holds NaN"),
        (lambda k, v: (k, v / 0 if k == "head.weight" else v), "head.weight holds NaN or infinite"),
    ],
    ids=[f"42_checkpoint_dtypes-{what}" for what in ("compiled", "module", "nan", "infinite")],
)
def test_what_is_no_sound_encoder_is_refused(tmp_path, change, complaint):
    with pytest.raises(UserError, match=complaint):
        load_encoder(copy(tmp_path, change))
