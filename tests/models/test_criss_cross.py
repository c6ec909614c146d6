"""The criss-cross encoder against the reference's own numbers and a second implementation; its
masks and its loss.
"""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from bad_checkpoints import BAD_CHECKPOINTS, bad_checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from xmae.errors import UserError
from xmae.models.criss_cross import CRISS_CROSS_SIZES, CrissCross, load_criss_cross
from xmae.objectives.criss_cross import CrissCrossObjective, LeadBatches, dual_mask

FIXTURE = Path(__file__).parents[1] / "fixtures" / "criss_cross_small.npz"
TINY = CRISS_CROSS_SIZES["tiny"]


@pytest.fixture(scope="module")
def fixture():
    with np.load(FIXTURE) as z:
        return {name: z[name] for name in z.files}


def reference_state(fixture):
    return {
        k.removeprefix("state/"): torch.from_numpy(v)
        for k, v in fixture.items()
        if k.startswith("state/")
    }


@torch.no_grad()
def test_features_and_reconstructions_equal_the_reference(fixture):
    model = load_criss_cross(FIXTURE)
    x, mask = torch.from_numpy(fixture["in/x"]), torch.from_numpy(fixture["in/mask"])
    for name, actual in (
        ("features", model.encoder.tokens(x)),
        ("y", model(x)),
        ("y_masked", model(x, mask)),
    ):
        assert_near(actual, fixture[f"out/{name}"])


def assert_near(actual, wanted):
    """Hold outputs to a millionth of the largest: 8 steps of float32.

    Bit for bit where it is summed as the reference's AVX2 does. Without vectors the largest error
    was 0.7 of a millionth, of outputs up to 16.
    """
    np.testing.assert_allclose(actual, wanted, atol=1e-6 * np.abs(wanted).max(), rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("how", ["plain", "module", "nested", "safetensors"])
def test_released_names_load_from_every_container(fixture, tmp_path, how):
    state = reference_state(fixture)
    path = tmp_path / ("released.safetensors" if how == "safetensors" else "released.pth")
    if how == "safetensors":
        save_file(state, path)
    else:
        prefixed = {
            ("module." if how == "module" else "") + name: tensor for name, tensor in state.items()
        }
        torch.save({"state_dict": prefixed} if how == "nested" else prefixed, path)
    actual = load_criss_cross(path)(torch.from_numpy(fixture["in/x"]))
    assert_near(actual, fixture["out/y"])


def test_the_full_encoder_has_the_released_tensors():
    lines = (FIXTURE.parent / "criss_cross_state_keys.txt").read_text().splitlines()
    released = dict(line.split("\t") for line in lines if not line.startswith("#"))
    state = CrissCross().state_dict()
    ours = {
        name.removeprefix("encoder."): str(tuple(tensor.shape)) for name, tensor in state.items()
    }
    assert {name.removeprefix("encoder."): shape for name, shape in released.items()} == {
        name.removeprefix("encoder."): shape for name, shape in ours.items()
    }


def test_a_trained_mask_vector_is_taken_over(fixture, tmp_path):
    state = reference_state(fixture) | {"patch_embedding.mask_encoding": torch.linspace(-1, 1, 200)}
    torch.save(state, tmp_path / "x.pth")
    model, x = load_criss_cross(tmp_path / "x.pth"), torch.from_numpy(fixture["in/x"])
    mask = torch.from_numpy(fixture["in/mask"])
    shown = torch.where(mask.bool()[..., None], torch.linspace(-1, 1, 200), x)
    with torch.no_grad():
        assert torch.equal(model(x, mask), model(shown))


@torch.no_grad()
def test_braindecode_gives_the_same_numbers():
    models = pytest.importorskip(
        "braindecode.models", reason="braindecode (a development aid) is not installed"
    )
    torch.manual_seed(0)
    other = models.CBraMod(n_chans=3, n_times=800, n_outputs=2, return_encoder_output=True).eval()
    model = CrissCross().eval()
    state = {
        k if k.startswith("proj_out.") else f"encoder.{k}": v for k, v in other.state_dict().items()
    }
    model.load_state_dict(state)
    x, mask = torch.randn(2, 3, 4, 200), torch.rand(2, 3, 4) < 0.5
    for hidden in (None, mask):
        torch.testing.assert_close(
            model(x, hidden), other(x.flatten(2), hidden), atol=1e-4, rtol=1e-5
        )


@pytest.mark.parametrize("how", BAD_CHECKPOINTS)
def test_bad_checkpoints_are_one_clear_line(tmp_path, how):
    path = bad_checkpoint(tmp_path / "x.pth", how, "encoder.layers.0.weight")
    with pytest.raises(UserError, match=r"x\.pth"):
        load_criss_cross(path)


def test_more_electrodes_than_the_kernel_reaches_over_and_odd_lengths_are_refused():
    encoder = CrissCross(**TINY).encoder
    with pytest.raises(UserError, match="20 channels, but the positional kernel reaches over 19"):
        encoder(torch.zeros(1, 20, 400))
    with pytest.raises(UserError, match="multiple of 200"):
        encoder(torch.zeros(1, 2, 399))
    with pytest.raises(UserError, match=r"\(B, C, L\)"):
        encoder(torch.zeros(2, 400))


def test_each_half_of_the_width_looks_its_own_way():
    """A change at one channel and moment reaches, by attention alone, that channel's row and that
    moment's column.
    """
    block = CrissCross(**TINY).encoder.encoder["layers"][0].eval()
    x = torch.randn(1, 4, 5, 200)
    other = x.clone()
    other[0, 1, 2] += torch.randn(200)
    with torch.no_grad():
        changed = (block.attend(x) - block.attend(other)).abs().amax((0, -1)) > 0
    expected = torch.zeros(4, 5, dtype=torch.bool)
    expected[1], expected[:, 2] = True, True
    assert torch.equal(changed, expected)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 12),
    st.integers(2, 12),
    st.integers(0, 2**31),
    st.sampled_from(["both", "intra", "inter"]),
)
def test_masks_hide_what_they_say(n_leads, n_patches, seed, masking):
    if masking == "inter" and n_leads == 1:
        with pytest.raises(UserError, match="1 leads"):
            dual_mask(4, 1, n_patches, torch.Generator().manual_seed(seed), masking)
        return
    mask = dual_mask(32, n_leads, n_patches, torch.Generator().manual_seed(seed), masking)
    whole = mask.all(-1).sum(-1)
    assert mask.shape == (32, n_leads, n_patches)
    if masking == "inter":
        assert torch.equal(mask.any(-1).sum(-1), whole)
        assert whole.min() >= 1 and whole.max() <= n_leads - 1
    else:
        assert mask.sum(-1).min() >= round(0.5 * n_patches)
        assert whole.max() <= n_leads - 1 if masking == "both" else whole.max() == 0
    assert torch.equal(
        mask, dual_mask(32, n_leads, n_patches, torch.Generator().manual_seed(seed), masking)
    )


def test_the_number_of_hidden_leads_is_drawn_evenly():
    count = (
        dual_mask(6000, 4, 2, torch.Generator().manual_seed(1), "both")
        .all(-1)
        .sum(-1)
        .bincount(minlength=5)
    )
    assert count[4] == 0
    np.testing.assert_allclose(count[:4] / 6000, 0.25, atol=0.03)


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"intra_ratio": 0.0}, "intra_ratio"), ({"intra_ratio": 1.0}, "intra_ratio"),
     ({"masking": "inter", "inter_ratio": 0.0}, "inter_ratio"),
     ({"inter_ratio": 2.0}, "inter_ratio"), ({"n_leads": 13}, "13 leads")],
)  # fmt: skip
def test_masks_that_make_no_sense_are_refused(settings, said):
    with pytest.raises(UserError, match=said):
        dual_mask(
            **{"batch": 2, "n_leads": 3, "n_patches": 10, "generator": torch.Generator()} | settings
        )


def leads_batch(n_total, rows, seed=3):
    leads = torch.randn(n_total, 3, 800, generator=torch.Generator().manual_seed(seed))[rows]
    return SimpleNamespace(ppg=leads, rows=rows, n_total=n_total, seed=seed)


def small_objective(**settings):
    torch.manual_seed(0)
    objective = CrissCrossObjective("small", **settings)
    return objective.eval()


@pytest.mark.parametrize("masking", ["both", "intra", "inter"])
def test_loss_counts_hidden_patches_only(masking):
    objective, batch = small_objective(masking=masking), leads_batch(4, slice(None))
    patches = batch.ppg.unflatten(-1, (4, 200))
    mask = dual_mask(4, 3, 4, torch.Generator().manual_seed(3), masking)
    error = (objective.model(patches, mask) - patches).square()
    torch.testing.assert_close(objective(batch), error[mask].mean())


def test_processes_that_share_a_batch_average_to_its_loss_and_gradients():
    objective = small_objective()
    whole, (a, b) = (
        leads_batch(6, slice(None)),
        (leads_batch(6, slice(rank, None, 2)) for rank in range(2)),
    )
    gradients = []
    for loss in (objective(whole), (objective(a) + objective(b)) / 2):
        objective.zero_grad()
        loss.backward()
        gradients.append(
            {name: p.grad.clone() for name, p in objective.named_parameters() if p.grad is not None}
        )
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-3, atol=1e-6)


def test_hidden_patches_do_not_reach_the_reconstruction():
    model = CrissCross(**TINY).eval()
    x, mask = torch.randn(2, 3, 4, 200), torch.rand(2, 3, 4) < 0.5
    with torch.no_grad():
        assert torch.equal(model(x, mask), model(torch.where(mask[..., None], 99 * x, x), mask))


def test_every_trained_parameter_gets_a_gradient():
    objective = CrissCrossObjective("small").train()
    objective(leads_batch(2, slice(None))).backward()
    without = [
        name for name, p in objective.named_parameters() if p.requires_grad and p.grad is None
    ]
    assert without == []
    assert not objective.encoder.patch_embedding.mask_encoding.requires_grad


def test_sizes_and_one_to_twelve_leads():
    assert sum(p.numel() for p in CrissCross().parameters()) == 4_924_000
    encoder = CrissCross(**TINY).encoder.eval()
    for n_leads in (1, 12):
        assert encoder(torch.randn(2, n_leads, 2000)).shape == (2, 200)


def counting_batches(follows, **settings):
    """Return batches over leads whose samples count from 0 on, two channels: the second is the
    first plus 0.25.
    """
    n = len(follows)
    ramp = torch.arange(n * 2000, dtype=torch.float32).view(n, 1, 2000)
    return LeadBatches(
        torch.cat([ramp, ramp + 0.25], 1), torch.tensor(follows), 8, seed=1, **settings
    )


def test_crops_go_on_into_the_next_window_only_where_it_follows():
    crops = torch.cat([counting_batches([1, 0, 0]).batch(step, step).ppg for step in range(1, 30)])
    assert torch.equal(crops[:, 0].diff(dim=-1), torch.ones(len(crops), 1999))
    first = crops[:, 0, 0]
    inside = first < 2000  # of the window that the next one follows
    assert set(first[~inside].tolist()) == {2000.0, 4000.0} and first[inside].unique().numel() > 50
    assert torch.equal(crops[:, 1], crops[:, 0] + 0.25)


def test_speeds_stretch_all_channels_alike_and_stay_inside_the_recording():
    batches = counting_batches([1, 0, 0], speed=(0.6, 1.7))
    crops = torch.cat([batches.batch(step, step).ppg for step in range(1, 60)])
    factor = crops[:, 0].diff(dim=-1)
    assert 0.6 <= factor.mean(-1).min() < 0.7 and 1.5 < factor.mean(-1).max() < 1.701
    torch.testing.assert_close(
        factor, factor.mean(-1, keepdim=True).expand_as(factor), atol=2e-3, rtol=0
    )
    torch.testing.assert_close(crops[:, 1], crops[:, 0] + 0.25)
    last = crops[:, 0, -1]
    alone = crops[:, 0, 0] >= 2000  # a window without a next one: no faster than 1, and inside it
    assert factor[alone].max() < 1.002 and last.max() <= 5999
    assert (last[alone] <= torch.where(last[alone] < 4000, 3999, 5999)).all()


def test_processes_draw_the_rows_of_one_global_batch():
    whole = counting_batches([1, 1, 0], speed=(0.6, 1.7)).batch(1, 5).ppg
    for rank in range(2):
        part = counting_batches([1, 1, 0], speed=(0.6, 1.7), rank=rank, world_size=2).batch(1, 5)
        assert torch.equal(part.ppg, whole[rank::2]) and torch.equal(whole[part.rows], part.ppg)


def test_the_calm_start_draws_the_mean_and_learns_within_few_steps():
    torch.manual_seed(0)
    plain, calm = CrissCrossObjective("tiny"), CrissCrossObjective("tiny")
    calm.align()
    batch = leads_batch(4, slice(None))
    x = batch.ppg.unflatten(-1, (4, 200))
    mask = dual_mask(4, 3, 4, torch.Generator().manual_seed(3))
    torch.testing.assert_close(calm(batch), x[mask].square().mean())
    assert plain(batch) > 3 * calm(batch)
    optimizer, before = torch.optim.AdamW(calm.parameters(), 2e-3), calm(batch).item()
    for _ in range(10):
        optimizer.zero_grad()
        calm(batch).backward()
        optimizer.step()
    assert calm(batch) < 0.9 * before
