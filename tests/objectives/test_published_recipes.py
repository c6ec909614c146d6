"""What the papers say of optimisation, teachers and views, by the papers' own formulas."""

import json
import math

import numpy as np
import pytest
import torch

from xmae.data.batches.batches import Batch
from xmae.errors import UserError
from xmae.objectives import OBJECTIVES, views
from xmae.objectives.msn import sinkhorn
from xmae.training.module import parameter_groups
from xmae.training.pretrain import pretrain

SLIM = {"prototypes": 16, "size": "small"}


def batch_of(n=4, seed=3):
    ppg = torch.rand(n, 1, 1000, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return Batch(ppg, ppg, torch.zeros(n, dtype=torch.long), slice(None), n, seed)


def test_a_crop_keeps_the_pulse_rate_and_pads_with_zeros():
    """It was drawn out to the whole window, which changed the rate by up to two."""
    time = torch.arange(1000) / 100
    ppg = torch.sin(2 * torch.pi * 1.3 * time).repeat(200, 1, 1)
    batch = Batch(ppg, ppg, torch.zeros(200, dtype=torch.long), slice(None), 200, 5)
    cropped = views.crop(ppg, views.Draws(batch))
    kept = cropped != 0
    assert torch.equal(cropped[kept], ppg[kept])
    share = (kept.sum(-1) / 1000)[:, 0]
    assert 0.48 < share.min() < 0.55 and 0.95 < share.max() <= 1
    strength = torch.fft.rfft(cropped).abs()[:, 0]
    assert ((strength.argmax(-1) - 13).abs() <= 1).all()  # bins of 0.1 Hz


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("dino", lambda share: 1 - 0.004 * (math.cos(math.pi * share) + 1) / 2),
        ("msn", lambda share: 0.996 + 0.004 * share / 1.25),
    ],
)
def test_a_short_run_forgets_the_random_teacher_and_a_long_one_is_the_papers(name, published):
    """After 300 steps at the published momentum half of the teacher was still random."""
    objective = OBJECTIVES[name](**SLIM)
    objective.begin(300)
    with torch.no_grad():
        objective.teacher.positions.fill_(1.0)
        objective.encoder.positions.zero_()
    for step in range(300):
        objective.after_step((step + 1) / 300)
    assert objective.teacher.positions.max() < 0.01
    objective = OBJECTIVES[name](**SLIM)
    objective.begin(100_000)
    for share in (0.0, 0.4, 1.0):
        with torch.no_grad():
            objective.teacher.positions.fill_(1.0)
            objective.encoder.positions.zero_()
        objective.after_step(share)
        found = objective.teacher.positions.mean().item()
        assert found == pytest.approx(published(share), abs=1e-6)


def test_sinkhorn_is_the_published_one():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.full(8, 0.3), 24).astype("float32") + 1e-6
    q = p.T / p.sum()  # as released with the paper
    for _ in range(3):
        q = q / q.sum(1, keepdims=True) / 8
        q = q / q.sum(0, keepdims=True) / 24
    found = sinkhorn(torch.from_numpy(p).log())
    np.testing.assert_allclose(found, (q * 24).T, rtol=1e-4)
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-5)
    before, after = (np.abs(x.sum(0) - 3).max() for x in (p, found.numpy()))
    assert after < 0.5 * before


def test_msn_sees_views_of_the_published_shares_at_their_places():
    objective, seen = OBJECTIVES["msn"](n_focal=3, **SLIM), []
    tokens = objective.encoder.tokens
    objective.encoder.tokens = lambda x, seen_=None, first=None: (
        seen.append((len(x), x.shape[-1] // 40, None if seen_ is None else seen_.shape[1], first)),
        tokens(x, seen_, first),
    )[1]
    for seed in range(24):
        objective(batch_of(seed=seed)).backward()
    anchors, focal = seen[::2], seen[1::2]
    assert {n for n, *_ in anchors} == {4} and {n for n, *_ in focal} == {12}
    lengths = [length for _, length, *_ in anchors]
    assert min(lengths) >= 8 and max(lengths) <= 25 and len(set(lengths)) > 6
    assert all(kept == length - round(0.15 * length) for _, length, kept, _ in anchors)
    assert {length for _, length, *_ in focal} == set(range(2, 8))
    assert torch.cat([first for *_, first in focal]).max() > 15
    assert (objective.encoder.positions.grad[0].norm(dim=1) > 0).all()


@pytest.mark.parametrize("ratio", [0.05, 0.97])
def test_msn_refuses_masks_that_leave_or_hide_nothing(ratio):
    with pytest.raises(UserError, match="mask ratio"):
        OBJECTIVES["msn"](mask_ratio=ratio)


@pytest.mark.parametrize("name", ["mae", "lsm", "dino", "msn", "simclr"])
def test_norms_biases_positions_and_prototypes_do_not_decay(name):
    objective = OBJECTIVES[name](size="small")
    decaying, others = parameter_groups(objective)
    assert decaying["weight_decay"] == objective.defaults.weight_decay > others["weight_decay"] == 0
    names = {id(p): name for name, p in objective.named_parameters()}
    groups = [{names[id(p)] for p in group["params"]} for group in (decaying, others)]
    trained = {name for name, p in objective.named_parameters() if p.requires_grad}
    assert groups[0] | groups[1] == trained and not groups[0] & groups[1]
    for name, parameter in objective.named_parameters():
        if parameter.requires_grad:
            still = parameter.ndim == 1 or name.endswith(("positions", "prototypes"))
            assert (name in groups[1]) == still, name


def test_xmae_and_the_others_decay_everywhere():
    for name in ("xmae", "papagei-p", "apple", "apple-m"):
        assert len(parameter_groups(OBJECTIVES[name](size="small"))) == 1


def test_dino_bounds_each_gradient_and_rests_its_prototypes():
    objective = OBJECTIVES["dino"](**SLIM)
    trained = {name: p for name, p in objective.named_parameters() if p.requires_grad}
    for p in trained.values():
        p.grad = torch.full_like(p, 50.0)
    trained["encoder.positions"].grad.fill_(1e-3)
    objective.before_step(0.5)
    norms = {name: p.grad.norm().item() for name, p in trained.items()}
    assert norms.pop("encoder.positions") == pytest.approx(1e-3 * math.sqrt(25 * 64), rel=1e-4)
    assert all(norm == pytest.approx(3, rel=1e-4) for norm in norms.values())
    objective.before_step(0.005)
    assert trained["head.prototypes"].grad is None
    assert trained["encoder.positions"].grad is not None


def test_msn_bounds_the_gradient_of_its_networks_together():
    objective = OBJECTIVES["msn"](**SLIM)
    for p in objective.parameters():
        p.grad = torch.ones_like(p) if p.requires_grad else None
    objective.before_step(0.5)
    networks = [*objective.encoder.parameters(), *objective.head.parameters()]
    whole = torch.stack([p.grad.norm() for p in networks]).norm()
    assert whole.item() == pytest.approx(3, rel=1e-3)
    assert torch.equal(objective.prototypes.grad, torch.ones(16, 256))


def test_prototypes_start_as_short_as_the_papers():
    """They were 28 times as long, and AdamW turned them as many times more slowly."""
    for prototypes in (
        OBJECTIVES["msn"](**SLIM).prototypes,
        OBJECTIVES["dino"](**SLIM).head.prototypes,
    ):
        assert prototypes.abs().max() <= 1 / 16
        assert prototypes.norm(dim=1).mean().item() == pytest.approx(3**-0.5, rel=0.05)


@pytest.mark.parametrize(
    ("name", "batch_size", "lr"),
    [
        ("mae", 4096, 1.5e-4 * 16), ("lsm", 256, 1.5e-4), ("dino", 1024, 5e-4 * 4),
        ("msn", 1024, 1e-3), ("simclr", 256, 5e-4), ("xmae", 64, 3e-4), ("apple", 64, 1e-3),
    ],
)  # fmt: skip
def test_learning_rates_follow_the_batch_where_the_paper_says_so(name, batch_size, lr):
    assert OBJECTIVES[name].defaults.lr_at(batch_size) == pytest.approx(lr)


def test_a_run_takes_the_schedules_to_the_optimiser(small_store, tmp_path, monkeypatch):
    method, told = OBJECTIVES["msn"], []
    before_step = method.before_step
    monkeypatch.setattr(
        method, "before_step", lambda self, share: (told.append(share), before_step(self, share))
    )
    slim = {"prototypes": 16, "n_focal": 1}
    pretrain(small_store, str(tmp_path), "msn", "small", options=slim, epochs=1, batch_size=24)
    assert told == pytest.approx([step / 6 for step in range(6)])
    assert json.loads((tmp_path / "config.json").read_text())["lr"] == pytest.approx(
        1e-3 * 24 / 1024
    )
    saved = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    first, second = saved["optimizer_states"][0]["param_groups"]
    wanted = 0.4 - 0.36 * (1 + math.cos(math.pi * told[saved["global_step"] - 1] / 1.25)) / 2
    assert first["weight_decay"] == pytest.approx(wanted) and second["weight_decay"] == 0
