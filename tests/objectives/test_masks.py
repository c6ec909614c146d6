"""Mask shapes and curriculum: what each promises, for any ratio."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xmae.objectives.curriculum import EpochSchedule, LossLadder
from xmae.objectives.masks import SHAPES, forecast, n_hidden, sensor_mix

ratios = st.floats(0.05, 0.95)
quick = settings(max_examples=30, deadline=None)


def runs_of(row):
    """Return the number of runs of True in a row."""
    padded = torch.cat([torch.zeros(1), row.float()])
    return int((padded.diff() > 0).sum())


@pytest.mark.parametrize(
    ("ratio", "hidden"), [(0.8, 20), (0.85, 21), (0.9, 22), (0.28, 7), (0.5, 12)]
)
def test_hidden_patches_round_half_to_even(ratio, hidden):
    assert n_hidden(25, ratio) == hidden


@pytest.mark.parametrize("ratio", [0.0, 0.01, 0.99, 1.0])
def test_ratios_that_hide_nothing_or_all_are_refused(ratio):
    with pytest.raises(ValueError, match="hides"):
        n_hidden(25, ratio)


@pytest.mark.parametrize("shape", SHAPES)
@quick
@given(ratio=ratios, seed=st.integers(0, 2**31))
def test_every_row_hides_as_many_and_the_seed_decides(shape, ratio, seed):
    masks = [SHAPES[shape](16, 25, ratio, torch.Generator().manual_seed(seed)) for _ in range(2)]
    assert torch.equal(*masks)
    assert masks[0].shape == (16, 25) and masks[0].dtype == torch.bool
    assert (masks[0].sum(1) == n_hidden(25, ratio)).all()


@quick
@given(ratio=ratios, seed=st.integers(0, 2**31))
def test_anchor_shows_one_run_and_block_hides_one(ratio, seed):
    generator = torch.Generator().manual_seed(seed)
    assert all(runs_of(~row) == 1 for row in SHAPES["anchor"](8, 25, ratio, generator))
    assert all(runs_of(row) == 1 for row in SHAPES["block"](8, 25, ratio, generator))


@pytest.mark.parametrize(
    ("shape", "ratio"), [("anchor", 0.8), ("block", 0.2), ("scatter", 0.5), ("mixed", 0.5)]
)
def test_every_patch_is_hidden_in_some_row_and_seen_in_another(shape, ratio):
    masks = SHAPES[shape](4000, 25, ratio, torch.Generator().manual_seed(1))
    share = masks.float().mean(0)
    assert (share > 0.02).all() and (share < 0.98).all()


def test_mixed_has_both_kinds_about_equally():
    masks = SHAPES["mixed"](2000, 25, 0.5, torch.Generator().manual_seed(1))
    blocks = sum(runs_of(row) == 1 for row in masks)
    assert 900 < blocks < 1100


def test_the_ladder_climbs_as_defined():
    ladder = LossLadder()
    seen = []
    for loss in (1.0, 0.5, 0.5, 0.6, 0.6, 0.6, 0.3, 0.3, 0.3, 0.3):
        ladder.update(loss)
        seen.append(ladder.ratio)
    # level 0: ema 1, .9, .82 <= .9 after 3 epochs; level 1: .6, .6, .6, .54 <= .54; level 2 is the
    # last
    assert seen == [0.80, 0.80, 0.85, 0.85, 0.85, 0.85, 0.90, 0.90, 0.90, 0.90]


def test_the_ladder_waits_three_epochs_and_stays_without_progress():
    ladder = LossLadder()
    for loss in (1.0, 0.1):
        ladder.update(loss)
    assert ladder.ratio == 0.80
    flat = LossLadder()
    for _ in range(50):
        flat.update(1.0)
    assert flat.ratio == 0.80


def test_the_schedule_spreads_the_ratios():
    schedule = EpochSchedule(9)
    seen = []
    for _ in range(9):
        seen.append(schedule.ratio)
        schedule.update(0.0)
    assert seen == [0.80] * 3 + [0.85] * 3 + [0.90] * 3


def test_lsm_masks_are_random_blocks_or_forecasts_with_as_many_hidden():
    masks = sensor_mix(3000, 25, 0.8, torch.Generator().manual_seed(1))
    assert (masks.sum(1) == 20).all()
    forecasts = (masks == forecast(1, 25, 0.8)).all(1)
    blocks = torch.tensor([runs_of(row) == 1 for row in masks]) & ~forecasts
    # a third each; a block ends the window in one start of six, and is then a forecast too
    assert forecasts.float().mean().item() == pytest.approx(1 / 3 + 1 / 18, abs=0.03)
    assert blocks.float().mean().item() == pytest.approx(5 / 18, abs=0.03)
