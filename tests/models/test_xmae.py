"""The model against the reference's own numbers, and what its design promises."""

from pathlib import Path

import numpy as np
import pytest
import torch
from bad_checkpoints import BAD_CHECKPOINTS, bad_checkpoint

from xmae.errors import UserError
from xmae.models import (
    SIZES,
    XMAE,
    XMAEConfig,
    load_encoder,
    load_reference_checkpoint,
    save_encoder,
)
from xmae.models.reference import UNUSED

FIXTURE = Path(__file__).parents[1] / "fixtures" / "xmae_small.npz"


@pytest.fixture(scope="module")
def fixture():
    with np.load(FIXTURE) as z:
        return {name: z[name] for name in z.files}


@pytest.fixture(scope="module")
def inputs(fixture):
    ppg, ecg = (torch.from_numpy(fixture[f"in/{name}"])[:, None] for name in ("ppg", "ecg"))
    return ppg, ecg, torch.from_numpy(fixture["in/patch_mask"]).bool()


def reference_state(fixture):
    return {
        k.removeprefix("state/"): torch.from_numpy(v)
        for k, v in fixture.items()
        if k.startswith("state/")
    }


def test_every_output_equals_the_reference(fixture, inputs):
    model = load_reference_checkpoint(FIXTURE)
    with torch.no_grad():
        out, alone = model(*inputs), model.encoder(inputs[0])
    np.testing.assert_allclose(out.embedding, fixture["out/ppg_embedding"], atol=1e-5)
    np.testing.assert_allclose(alone, fixture["out/ppg_embedding_alone"], atol=1e-5)
    np.testing.assert_allclose(
        out.reconstruction[:, 0], fixture["out/ecg_reconstructed"], atol=1e-5
    )
    np.testing.assert_allclose(out.loss, fixture["out/masked_mse"], atol=1e-5)


@pytest.mark.parametrize("prefix", ["", "model."])
def test_torch_checkpoints_plain_and_lightning(fixture, inputs, tmp_path, prefix):
    state = {prefix + name: tensor for name, tensor in reference_state(fixture).items()}
    torch.save({"state_dict": state, "epoch": 3} if prefix else state, tmp_path / "reference.ckpt")
    model = load_reference_checkpoint(tmp_path / "reference.ckpt")
    with torch.no_grad():
        np.testing.assert_allclose(
            model.encoder(inputs[0]), fixture["out/ppg_embedding_alone"], atol=1e-5
        )


def test_full_size_reference_names_and_published_parameter_counts():
    names = [
        line.split("\t")
        for line in (FIXTURE.parent / "xmae_state_keys.txt").read_text().splitlines()[1:]
    ]
    shapes = {name: eval(shape) for name, shape in names}  # noqa: S307 (our own file of tuples)
    from xmae.models.reference import to_ours

    state = {name: torch.zeros(shape) for name, shape in shapes.items()}
    model = XMAE(XMAEConfig(projection=256))
    model.load_state_dict(to_ours(state))  # strict: every tensor has its place, none is left over
    n_reference = sum(
        t.numel()
        for name, t in state.items()
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))
    )
    n_unused = sum(t.numel() for name, t in state.items() if UNUSED.match(name))
    assert (n_reference, n_unused) == (6_481_930, 1_400_577)
    assert sum(p.numel() for p in model.parameters()) == 6_481_930 - 1_400_577
    assert sum(p.numel() for p in model.encoder.parameters()) == 2_301_700


def test_every_parameter_gets_a_gradient():
    torch.manual_seed(0)
    model = XMAE(SIZES["small"])
    ppg, ecg = torch.rand(2, 4, 1, 1000)
    mask = torch.stack([torch.arange(25).roll(k) >= 5 for k in (0, 5, 12, 20)])
    model(ppg, ecg, mask).loss.backward()
    without = [
        name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0
    ]
    assert without == []


def test_hidden_ecg_does_not_reach_the_reconstruction_and_ppg_never_hears_ecg(inputs):
    model = load_reference_checkpoint(FIXTURE)
    ppg, ecg, mask = inputs
    hidden = mask.repeat_interleave(40, 1)[:, None]
    with torch.no_grad():
        a, b = (
            model(ppg, ecg, mask),
            model(ppg, torch.where(hidden, torch.randn_like(ecg), ecg), mask),
        )
        seen_changed = model(ppg, torch.where(hidden, ecg, -ecg), mask)
    assert torch.equal(a.reconstruction, b.reconstruction)
    assert torch.equal(a.embedding, seen_changed.embedding)
    assert not torch.allclose(a.reconstruction, seen_changed.reconstruction)


def test_loss_counts_masked_samples_only(inputs):
    out = load_reference_checkpoint(FIXTURE)(*inputs)
    error = (out.reconstruction - inputs[1]).square()
    assert torch.allclose(out.loss, error[inputs[2].repeat_interleave(40, 1)[:, None]].mean())


def test_shorter_windows_of_whole_patches(inputs):
    encoder = load_reference_checkpoint(FIXTURE).encoder
    assert encoder(inputs[0][..., :200]).shape == (3, 24)
    with pytest.raises(ValueError, match="multiple of 40"):
        encoder(inputs[0][..., :210])


@pytest.mark.parametrize(
    "mask", [torch.ones(3, 25), torch.zeros(3, 25), torch.eye(3, 25).cumsum(1), torch.ones(3, 24)]
)
def test_masks_that_make_no_sense_are_refused(inputs, mask):
    with pytest.raises(ValueError, match=r"mask|shapes"):
        load_reference_checkpoint(FIXTURE)(*inputs[:2], mask.bool())


@pytest.mark.parametrize("how", BAD_CHECKPOINTS)
def test_bad_reference_checkpoints(tmp_path, how):
    with pytest.raises(UserError, match=r"x\.ckpt"):
        load_reference_checkpoint(bad_checkpoint(tmp_path / "x.ckpt", how))


@pytest.mark.parametrize("how", ["truncated", "foreign", "missing"])
def test_bad_encoders(tmp_path, how):
    with pytest.raises(UserError, match=r"x\.ckpt"):
        load_encoder(bad_checkpoint(tmp_path / "x.ckpt", how))


def test_encoder_survives_saving(tmp_path):
    encoder = XMAE(SIZES["small"]).encoder.eval()
    save_encoder(encoder, tmp_path / "e.safetensors", {"method": "xmae"})
    again, ppg = load_encoder(tmp_path / "e.safetensors"), torch.rand(2, 1, 1000)
    assert again.provenance == {"method": "xmae"}
    assert torch.equal(again(ppg), encoder(ppg))
