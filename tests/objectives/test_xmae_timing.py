"""xMAE with timing: its loss forgives what it should, and a short training makes an encoder that
reads.
"""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from xmae.data.batches.timing import TimedRecordings, TimedWindows, TimingBatches
from xmae.data.store.store import WindowStore
from xmae.errors import UserError
from xmae.models.checkpoint import load_encoder, save_encoder, subjects_of
from xmae.models.transformer import CrossBlock
from xmae.models.xmae import TimedPPGEncoder, masked_mse
from xmae.objectives import OBJECTIVES
from xmae.objectives.timing import timing_loss
from xmae.objectives.xmae_timing import tolerant_mse
from xmae.training.begin import begin_from
from xmae.training.pretrain import pretrain


@pytest.fixture(scope="module")
def windows():
    generator = torch.Generator().manual_seed(3)
    ecg = torch.randn(4, 1, 1000, generator=generator)
    return ecg, torch.rand(4, 25, generator=generator) < 0.8


def test_early_and_late_cost_nothing_upside_down_does(windows):
    ecg, mask = windows
    mask[:, 0] = mask[:, -1] = False  # where rolling wraps
    for rebuilt in (ecg, ecg.roll(3, -1), ecg.roll(-2, -1)):
        assert tolerant_mse(rebuilt, ecg, mask) == 0
    assert tolerant_mse(ecg.roll(4, -1), ecg, mask) > 0.5 < tolerant_mse(-ecg, ecg, mask)


def test_without_tolerance_it_is_the_plain_masked_error(windows):
    ecg, mask = windows
    rebuilt = ecg + 0.3 * torch.randn(ecg.shape, generator=torch.Generator().manual_seed(1))
    plain = masked_mse(rebuilt, ecg, mask)
    torch.testing.assert_close(tolerant_mse(rebuilt, ecg, mask, 0), plain)
    late = tolerant_mse(rebuilt.roll(2, -1), ecg, mask)
    assert late < 0.2 < tolerant_mse(rebuilt.roll(2, -1), ecg, mask, 0)


def test_map_follows_the_tokens_in_time():
    encoder = TimedPPGEncoder().eval()
    tokens = torch.zeros(1, 25, 128)
    tokens[0, 7] = 1
    changed = (encoder.map_of(tokens) - encoder.map_of(torch.zeros(1, 25, 128))).abs().sum((0, 1))
    assert (changed[70:80] > 0).all() and changed[:70].sum() == changed[80:].sum() == 0


def test_embedding_keeps_how_much_tokens_vary():
    encoder = TimedPPGEncoder()
    still, moving = torch.ones(1, 25, 128), torch.ones(1, 25, 128)
    moving[0, ::2], moving[0, 1::2] = 2, -0.0833333  # of the same mean
    difference = (encoder.pool(still) - encoder.pool(moving)).abs()[0]
    assert encoder.embed_dim == 256 and difference[128:].mean() > 0.5


def test_file_of_the_encoder(tmp_path):
    encoder = TimedPPGEncoder().eval()
    save_encoder(encoder, tmp_path / "e.safetensors", {})
    ppg = torch.randn(2, 1, 1000)
    again = load_encoder(tmp_path / "e.safetensors")
    with torch.no_grad():
        assert torch.equal(again(ppg), encoder(ppg)) and torch.equal(
            again.timing(ppg), encoder.timing(ppg)
        )


def test_the_delay_is_taken_off_the_ecg(small_store):
    """R peaks stand where the pulse rises: the real windows' mean ECG there is high."""
    recordings = TimedRecordings(WindowStore(small_store).windows("train"))
    at_pulse, everywhere = [], []
    for batch in TimedWindows(recordings):
        phase = torch.atan2(batch.target[:, 1], batch.target[:, 0])
        ecg = batch.ecg - batch.ecg.median(2, keepdim=True).values
        ecg = ecg.abs().unflatten(2, (-1, 4)).amax(3)[:, 0]
        near = (phase.abs() < 0.35) & (batch.weight[:, 0] > 0)
        at_pulse.append(ecg[near])
        everywhere.append(ecg.flatten())
    assert torch.cat(at_pulse).mean() > 1.5 * torch.cat(everywhere).mean()


def test_a_short_training(small_store, tmp_path):
    out = tmp_path / "run"
    result = pretrain(
        small_store, str(out), method="xmae-timing", epochs=2, batch_size=8, options={"steps": 3}
    )
    assert (
        result["finished"]
        and result["windows_seen"] == 48
        and (out / "reconstruction.png").is_file()
    )
    assert (
        result["val_ratio"] > 0 and json.loads((out / "metrics.json").read_text())["variance"] > 0
    )
    reading = load_encoder(result["encoder"]).read_windows(
        np.random.default_rng(0).normal(size=(3, 1000))
    )
    assert reading.certainty.shape == (3,)


@pytest.mark.extended
def test_loss_falls_on_generated_windows():
    torch.manual_seed(0)
    objective = OBJECTIVES["xmae-timing"]()
    batches = TimingBatches(None, 16, 8, 5, ecg=True)
    optimizer, losses = torch.optim.AdamW(objective.parameters(), 2e-3), []
    for step in range(16):
        loss = objective(batches.batch(0, step % 2))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-4:]) < 0.85 * np.mean(losses[:2])
    assert all(p.grad is not None for p in objective.parameters())


def counted(draw):
    """Wrap a method that draws `n` windows, and keep the numbers asked for in `counts`."""

    def drawing(n, generator):
        drawing.counts.append(n)
        return draw(n, generator)

    drawing.counts = []
    return drawing


def test_tolerance_falls_over_the_steps_of_a_run():
    objective = OBJECTIVES["xmae-timing"]()
    objective.begin(100)
    assert [objective.tolerance_at(step) for step in (1, 24, 26, 74, 76, 100)] == [3, 3, 2, 2, 1, 1]
    for constant in (0, 1):
        objective = OBJECTIVES["xmae-timing"](tolerance=constant)
        objective.begin(100)
        assert {objective.tolerance_at(step) for step in range(101)} == {constant}


def test_the_bridge_starts_near_in_time():
    """Each head has its bias by distance, in training (written out) and after it (fused)."""
    torch.manual_seed(0)
    block = CrossBlock(32, 4, 0.0, n_near=25)
    queries, keys = torch.randn(2, 20, 32), torch.randn(2, 25, 32)
    index = torch.arange(25)[None] - torch.arange(20)[:, None]
    bias = -(2.0 / 2.0 ** torch.arange(4))[:, None, None] * index.abs()
    attention = block.attention
    x, y = block.norm_queries(queries), block.norm_keys(keys)
    q, k, v = (
        F.linear(z, *parts).unflatten(-1, (4, 8)).transpose(1, 2)
        for z, parts in zip(
            (x, y, y),
            zip(attention.qkv.weight.chunk(3), attention.qkv.bias.chunk(3), strict=True),
            strict=True,
        )
    )
    shares = (q @ k.mT / 8**0.5 + bias).softmax(-1)
    assert (shares[:, 0].argmax(-1) == torch.arange(20)).float().mean() > 0.8
    middle = queries + attention.out((shares @ v).transpose(1, 2).flatten(2))
    expected = middle + block.mlp(block.norm_mlp(middle))
    assert torch.allclose(block.train()(queries, keys), expected, atol=1e-5)
    assert torch.allclose(block.eval()(queries, keys), expected, atol=1e-5)
    plain = CrossBlock(32, 4, 0.0)
    plain.load_state_dict({k: x for k, x in block.state_dict().items() if k != "nearness"})
    assert not torch.allclose(plain.eval()(queries, keys), expected, atol=1e-3)


def test_processes_and_accumulated_parts_share_a_step(small_store):
    """Each part has windows and masks of its own; a step has the windows asked for, half real."""
    recordings = TimedRecordings(WindowStore(small_store).windows("train"))
    objective = OBJECTIVES["xmae-timing"]()
    for batch_size, world_size in ((16, 2), (12, 2), (8, 4)):
        parts, n_real = [], 0
        for rank in range(world_size):
            batches = TimingBatches(
                recordings, batch_size, 3, 5, rank=rank, world_size=world_size, accumulate=2
            )
            assert len(batches) == 6
            batches.real = counted(batches.real)
            parts += [batches.make(step) for step in (3, 4)]
            n_real += sum(batches.real.counts)
        assert [len(part.ppg) for part in parts] == [batch_size // (2 * world_size)] * len(parts)
        assert n_real == batch_size // 2 and {part.step for part in parts} == {2}
        windows = torch.cat([part.ppg for part in parts]).flatten(1)
        assert len(windows.unique(dim=0)) == batch_size
        masks = torch.cat([objective.hidden(part, 0.8)[0] for part in parts])
        assert len(masks.unique(dim=0)) > len(objective.hidden(parts[0], 0.8)[0].unique(dim=0))
    with pytest.raises(UserError, match="cannot be shared evenly by 3 processes"):
        TimingBatches(recordings, 16, 3, 5, world_size=3)


def test_a_student_follows_a_teachers_map(small_store, tmp_path):
    """The teacher adds its own loss, stays out of the student's files, and its subjects count."""
    alone, taught = (OBJECTIVES["timing"](teacher=name, follow=0.5).eval() for name in ("", "base"))
    taught.load_state_dict(alone.state_dict())
    batch = TimingBatches(None, 8, 1, 5).batch(1, 3)
    answer = load_encoder("base").timing(batch.ppg)
    length = answer[:, :2].norm(dim=1).square().clamp(max=1)  # the interval counts where it is sure
    weight = torch.stack([torch.ones_like(length), length], 1)
    more = timing_loss(alone.model.timing(batch.ppg), answer, weight)
    assert torch.allclose(taught(batch), alone(batch) + 0.5 * more)
    assert torch.equal(taught.validate(batch), alone.validate(batch))
    options = {"steps": 4, "teacher": "base"}
    result = pretrain(
        small_store, str(tmp_path), "timing", "mcu", epochs=1, batch_size=4, options=options
    )
    student = load_encoder(result["encoder"])
    assert student.provenance["teacher"]["method"] == "xmae-timing"
    assert set(load_file(tmp_path / "model.safetensors")) == set(alone.state_dict())
    with pytest.raises(UserError, match="student-mcu: reads no beats"):
        OBJECTIVES["timing"](teacher="student-mcu")
    # one that begins from a checkpoint of this run knows the teacher too
    (tmp_path / "encoder.safetensors").unlink()
    origin = begin_from(OBJECTIVES["timing"](), str(tmp_path / "checkpoints" / "last.ckpt"))
    assert subjects_of(origin) >= subjects_of(load_encoder("base").provenance)


def test_a_store_without_ecg_is_one_line(small_store):
    windows = WindowStore(small_store).windows("train")
    with pytest.raises(UserError, match="the store has none"):
        TimedRecordings(replace(windows, ecg=None))
