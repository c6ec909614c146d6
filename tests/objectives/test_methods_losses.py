"""Losses, views and pairs against cases worked by hand and against their definitions."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xmae.data.batches.batches import Batch, TrainingBatches, ValidationBatches, in_pairs
from xmae.data.store.store import WindowStore
from xmae.errors import UserError
from xmae.models.transformer import attend
from xmae.objectives import OBJECTIVES, views
from xmae.objectives.contrast import info_nce, koleo, nt_xent, same_subject
from xmae.objectives.dino import dino_loss
from xmae.objectives.mae import masked_error
from xmae.objectives.msn import msn_loss
from xmae.objectives.objective import follow

AXES = torch.eye(2)


def test_info_nce_by_hand():
    # cosines 1 and 0 at T = 0.5: each row is -log(e^2 / (e^2 + e^0)); lengths do not matter
    expected = -math.log(math.exp(2) / (math.exp(2) + 1))
    assert info_nce(3 * AXES, 7 * AXES, 0.5).item() == pytest.approx(expected)
    everyone = torch.ones(2, 2, dtype=torch.bool)
    assert info_nce(AXES, AXES, 0.5, everyone).item() == pytest.approx(0)  # no negatives are left


def test_nt_xent_by_hand():
    # each of four vectors has its partner (cosine 1) and two others (cosine 0): -log(e^2 / (e^2 +
    # 2))
    expected = -math.log(math.exp(2) / (math.exp(2) + 2))
    assert nt_xent(AXES, 5 * AXES, 0.5).item() == pytest.approx(expected)
    subject = same_subject(torch.tensor([4, 4]))
    assert nt_xent(AXES, AXES, 0.5, subject).item() == pytest.approx(0)


def test_nt_xent_of_three_patients_leaves_out_only_their_own():
    torch.manual_seed(0)
    a, b, subject = torch.randn(3, 4), torch.randn(3, 4), torch.tensor([0, 1, 0])
    z = torch.nn.functional.normalize(torch.cat([a, b]), dim=1)
    who, loss = subject.repeat(2), 0
    for i in range(6):
        partner = (i + 3) % 6
        others = [j for j in range(6) if who[j] != who[i] or j == partner]
        loss += (
            torch.logsumexp(torch.stack([z[i] @ z[j] / 0.1 for j in others]), 0)
            - z[i] @ z[partner] / 0.1
        )
    torch.testing.assert_close(nt_xent(a, b, 0.1, same_subject(subject)), loss / 6)


def test_losses_are_in_float32_even_under_autocast():
    """Cosines of 0.99 to 1 at temperatures down to 0.015 drown in bfloat16's 8 bits."""
    torch.manual_seed(0)
    a = torch.randn(1, 64) + 0.1 * torch.randn(16, 64)
    b = a + 0.05 * torch.randn(16, 64)
    prototypes = torch.randn(32, 64)
    losses = [
        lambda: info_nce(a, b, 0.04), lambda: nt_xent(a, b, 0.04), lambda: koleo(a),
        lambda: msn_loss(a, b, prototypes),
    ]  # fmt: skip
    for loss in losses:
        with torch.autocast("cpu", torch.bfloat16):
            mixed = loss()
        assert mixed.dtype == torch.float32
        torch.testing.assert_close(mixed, loss(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("n_keys", [7, 25])
def test_attention_written_out_is_the_fused_one(n_keys):
    torch.manual_seed(0)
    inputs = [torch.randn(3, 4, n, 16, requires_grad=True) for n in (25, n_keys, n_keys)]
    found = []
    for dropout in (None, 0.0):  # without: the fused kernel
        answer = attend(*inputs, dropout)
        found.append((answer, *torch.autograd.grad(answer.square().sum(), inputs)))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    # values of one: the mean share that is kept
    kept = attend(*inputs[:2], torch.ones(3, 4, n_keys, 16), 0.25)
    assert kept.std() > 0.02 and kept.mean().item() == pytest.approx(1, abs=0.05)


def test_koleo_by_hand_and_its_direction():
    # a square on the circle: each vector's nearest is sqrt(2) away
    square = torch.tensor([[1.0, 0], [0, 2], [-3, 0], [0, -1]])
    assert koleo(square).item() == pytest.approx(-math.log(math.sqrt(2)))
    close = torch.tensor([[1.0, 0], [1, 0.1], [-1, 0], [-1, 0.1]], requires_grad=True)
    koleo(close).backward()
    # a step against the gradient drives the two apart
    assert close.grad[0, 1] > 0 > close.grad[1, 1]


@pytest.mark.parametrize("name", ["apple", "apple-m"])
def test_apples_loss_is_info_nce_both_ways_and_a_tenth_of_koleo(name):
    objective = OBJECTIVES[name](size="small", temperature=0.5)
    # two pairs; of apple, with the momentum encoder's answers to the same
    both = torch.cat([AXES, AXES])
    arguments = (
        (both, 3 * both, same_subject(torch.tensor([0, 1])))
        if name == "apple"
        else (AXES, 3 * AXES)
    )
    contrast = -math.log(math.exp(2) / (math.exp(2) + 1))  # the same way and back
    spread = -math.log(math.sqrt(2))  # each axis is sqrt(2) from the other
    assert objective.loss(*arguments).item() == pytest.approx(contrast + 0.1 * spread, rel=1e-5)


def test_dino_loss_by_hand_stops_at_the_teacher_and_centres_it():
    teacher = [torch.tensor([[1.0, 0.0]], requires_grad=True)]
    student = [torch.tensor([[9.0, 0.0]]), torch.tensor([[0.0, 0.1]], requires_grad=True)]
    # the pair of the same crop is left out; teacher softmax((1, 0) / 0.5), student softmax((0, 1))
    p, q = 1 / (1 + math.exp(-2)), 1 / (1 + math.exp(1))
    loss = dino_loss(student, teacher, torch.zeros(2), 0.5)
    assert loss.item() == pytest.approx(-(p * math.log(q) + (1 - p) * math.log(1 - q)), rel=1e-5)
    loss.backward()
    assert teacher[0].grad is None and student[1].grad.abs().sum() > 0
    # a teacher that says nothing
    centred = dino_loss(student, teacher, torch.tensor([1.0, 0.0]), 0.5)
    assert centred.item() == pytest.approx(-0.5 * (math.log(q) + math.log(1 - q)), rel=1e-5)


def test_dino_centre_follows_the_teachers_mean(small_store):
    torch.manual_seed(0)
    objective = OBJECTIVES["dino"](size="small", prototypes=8, n_short=0)
    batch = objective.batches(WindowStore(small_store), batch_size=8, n_epochs=1, seed=0)[0].batch(
        1, 1
    )
    said = []
    objective.teacher_head.register_forward_hook(lambda layer, x, y: said.append(y))
    objective(batch)
    torch.testing.assert_close(objective.centre, said[0].mean(0))  # the first batch's
    objective(batch._replace(ppg=batch.ppg.flip(-1)))
    expected = 0.9 * said[0].mean(0) + 0.1 * said[1].mean(0)
    torch.testing.assert_close(objective.centre, expected)
    objective.eval()(batch)
    torch.testing.assert_close(objective.centre, expected)  # validation leaves it alone


def test_msn_loss_by_hand():
    def softmax(a, b):
        return math.exp(a) / (math.exp(a) + math.exp(b))

    p = softmax(2, 0)  # cosines 1 and 0 at T = 0.5
    t = p**4 / (p**4 + (1 - p) ** 4)  # sharpened at 0.25
    cross = -(t * math.log(p) + (1 - t) * math.log(1 - p))
    # two windows on two prototypes: the mean is even, so its entropy log 2 is all there is to have
    assert msn_loss(AXES, AXES, AXES, temperature=0.5).item() == pytest.approx(cross, rel=1e-5)
    # both on one prototype: targets are spread evenly, and the mean's entropy is missing from log 2
    same, entropy = AXES[:1].repeat(2, 1), -(p * math.log(p) + (1 - p) * math.log(1 - p))
    expected = -(math.log(p) + math.log(1 - p)) / 2 + math.log(2) - entropy
    assert msn_loss(same, same, AXES, temperature=0.5).item() == pytest.approx(expected, rel=1e-5)


def test_msn_targets_carry_no_gradient():
    anchors, targets, prototypes = (torch.randn(4, 8, requires_grad=True) for _ in range(3))
    msn_loss(anchors, targets, prototypes).backward()
    assert targets.grad is None and anchors.grad.abs().sum() > 0 and prototypes.grad.abs().sum() > 0


def test_masked_error_by_hand_and_mae_targets():
    rebuilt, mask = torch.zeros(1, 2, 2), torch.tensor([[True, False]])
    targets = torch.tensor([[[1.0, 3.0], [100.0, 100.0]]])
    assert masked_error(rebuilt, targets, mask).item() == pytest.approx((1 + 9) / 2)
    patches = torch.randn(2, 25, 40) * 3 + 7
    normalised = OBJECTIVES["mae"](size="small").targets(patches)
    torch.testing.assert_close(normalised.mean(-1), torch.zeros(2, 25), atol=1e-5, rtol=0)
    torch.testing.assert_close(normalised.std(-1), torch.ones(2, 25), atol=1e-3, rtol=0)
    assert torch.equal(OBJECTIVES["lsm"](size="small").targets(patches), patches)


def test_hidden_patches_do_not_reach_the_mae_encoder():
    torch.manual_seed(0)
    objective = OBJECTIVES["mae"](size="small").eval()
    mask = torch.arange(25).expand(2, 25) >= 6
    ppg = torch.rand(2, 1, 1000)
    other = torch.cat([ppg[..., :240], torch.rand(2, 1, 760)], -1)
    assert torch.equal(objective.rebuild(ppg, mask, 6), objective.rebuild(other, mask, 6))
    moved = objective.rebuild(ppg.flip(-1), mask, 6)
    assert not torch.equal(objective.rebuild(ppg, mask, 6), moved)


def test_follow_is_an_exponential_moving_average():
    teacher, student = (torch.nn.BatchNorm1d(2) for _ in range(2))
    with torch.no_grad():
        student.weight.fill_(3.0)
        student.running_mean.fill_(5.0)
    for _ in range(2):
        follow(teacher, student, 0.9)
    torch.testing.assert_close(teacher.weight.detach(), torch.full((2,), 3 - 2 * 0.9**2))
    assert torch.equal(teacher.running_mean, student.running_mean)


def batch_of(ppg, seed=3, rows=slice(None)):
    return Batch(
        ppg[rows], ppg[rows], torch.zeros(len(ppg[rows]), dtype=torch.long), rows, len(ppg), seed
    )


CHANGES = ("noise", "crop", "cutout", "magnitude_warp", "time_warp", "negate", "reverse")


@pytest.mark.parametrize("name", CHANGES)
def test_views_change_the_signal_stay_in_range_and_split_over_processes(name):
    torch.manual_seed(0)
    ppg, changes = torch.rand(6, 1, 1000) * 2 - 1, ((getattr(views, name), 1.0),)
    batch = batch_of(ppg)
    whole = views.view(batch.ppg, views.Draws(batch), changes)
    assert whole.shape == ppg.shape and whole.amin() == -1 and whole.amax() == 1
    assert (whole - ppg).abs().amax(-1).min() > 1e-3  # in every row
    for rank in range(2):
        part = batch_of(ppg, rows=slice(rank, None, 2))
        assert torch.equal(views.view(part.ppg, views.Draws(part), changes), whole[rank::2])


def test_a_change_of_probability_zero_leaves_all_and_of_one_half_about_half():
    ppg = torch.rand(400, 1, 80)
    batch = batch_of(ppg)
    scaled = views.view(ppg, views.Draws(batch), ())
    assert torch.equal(views.view(ppg, views.Draws(batch), ((views.negate, 0.0),)), scaled)
    changed = (
        (views.view(ppg, views.Draws(batch), ((views.negate, 0.5),)) != scaled)
        .any(-1)
        .float()
        .mean()
    )
    assert 0.4 < changed < 0.6


def test_time_warp_and_crop_by_hand():
    ramp = torch.linspace(-1, 1, 101).repeat(3, 1, 1)
    draws = views.Draws(batch_of(ramp))
    warped = views.time_warp(ramp, draws)
    torch.testing.assert_close(warped[..., [0, -1]], ramp[..., [0, -1]])  # start and end stay
    assert (warped.diff() > 0).all()  # time goes on
    above = ramp + 2  # nowhere zero
    cropped = views.crop(above, draws)
    kept = cropped != 0
    assert torch.equal(cropped[kept], above[kept])  # what is left lies where it was
    assert (kept.sum(-1) >= 49).all() and (kept.diff().sum(-1) <= 2).all()
    piece, _ = views.time_crop(ramp, draws, 40)
    assert piece.shape == (3, 1, 40) and (piece.diff() > 0).all()


def test_crops_know_their_place_and_dino_trains_every_position():
    ppg = torch.rand(64, 1, 1000)
    objective = OBJECTIVES["dino"](size="small", prototypes=8, n_short=0)
    seen = []
    objective.encoder.register_forward_hook(lambda layer, given, y: seen.append(given[1]))
    for n_times in (320, 800):
        piece, first = views.time_crop(ppg, views.Draws(batch_of(ppg)), n_times)
        begin = (views.Draws(batch_of(ppg)).rand(1, 1) * (1000 - n_times + 1)).long().flatten()
        assert piece.shape == (64, 1, n_times) and len(first.unique()) > 4
        assert (40 * first - begin).abs().max() <= 20  # samples: half a patch
    objective(batch_of(ppg)).backward()
    assert len(seen[0]) == 128 and (objective.encoder.positions.grad[0].norm(dim=1) > 0).all()


def test_a_piece_at_its_place_is_embedded_as_its_patches_of_the_whole_window():
    encoder = OBJECTIVES["mae"](size="small").encoder.eval()
    ppg, first = torch.rand(3, 1, 1000), torch.tensor([0, 4, 17])
    pieces = torch.stack([x[:, 40 * k : 40 * (k + 8)] for x, k in zip(ppg, first, strict=True)])
    seen = first[:, None] + torch.arange(8)
    torch.testing.assert_close(encoder.tokens(pieces, first=first), encoder.tokens(ppg, seen))
    assert not torch.allclose(encoder(pieces), encoder(pieces, first))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=2, max_size=60), st.sampled_from([2, 4, 16, 256]))
def test_in_pairs_pairs_every_window_but_a_subjects_odd_one(subject, batch_size):
    subject = np.array(subject)
    if len(set(subject)) == len(subject):
        with pytest.raises(UserError, match="no subject has two"):
            in_pairs(subject, batch_size)
        return
    order = in_pairs(subject, batch_size)
    counts = np.unique(subject, return_counts=True)[1]
    assert len(order) == len(set(order)) == sum(counts - counts % 2)
    for start in range(0, len(order), batch_size):
        first, second = np.split(subject[order[start : start + batch_size]], 2)
        assert (first == second).all()


def test_training_and_validation_pairs_are_of_one_subject(small_store):
    windows = WindowStore(small_store).windows("train")
    batch = TrainingBatches(windows, 64, 1, seed=5, pairs=True).batch(1, 7)
    first, second = batch.subject.chunk(2)
    assert torch.equal(first, second) and len(first.unique()) == 3
    assert not torch.equal(*batch.ppg.chunk(2))
    parts = [
        TrainingBatches(windows, 64, 1, seed=5, pairs=True, rank=r, world_size=2).batch(1, 7)
        for r in range(2)
    ]
    for part in parts:
        assert torch.equal(*part.subject.chunk(2))
    assert torch.equal(torch.stack([part.ppg for part in parts], 1).flatten(0, 1), batch.ppg)
    for part in ValidationBatches(windows, 64, pairs=True):
        first, second = part.subject.chunk(2)
        assert torch.equal(first, second) and len(first.unique()) == 3
    # the crops that are not partners are where they were without pairs
    plain = TrainingBatches(windows, 64, 1, seed=5).batch(1, 7)
    assert torch.equal(plain.subject[:32], batch.subject[:32])


def test_subject_ids_are_those_of_the_windows(small_store):
    windows = WindowStore(small_store).windows("train")
    alone = windows.select(windows.subject == np.unique(windows.subject)[1])
    assert set(TrainingBatches(alone, 24, 1, seed=1).batch(1, 2).subject.tolist()) == {0}
    counts = torch.bincount(TrainingBatches(windows, 144, 1, seed=1).batch(1, 2).subject)
    assert len(counts) == 3 and counts.min() > 20
