"""Training: what a run leaves, several processes, order of data, schedule, what it refuses."""

import itertools
import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import nn

from xmae.data.batches.batches import RECIPES, TrainingBatches, ValidationBatches
from xmae.data.store.store import WindowStore
from xmae.errors import UserError
from xmae.objectives import OBJECTIVES
from xmae.training.fit import check_resume
from xmae.training.module import warmup_cosine
from xmae.training.pretrain import pretrain

TINY = {"size": "small", "epochs": 2, "batch_size": 24, "lr": 1e-3}


def run_pretrain(store, out, *extra):
    options = [f"--{name.replace('_', '-')}={value}" for name, value in TINY.items()]
    command = [sys.executable, "-m", "xmae", "pretrain", store, "--out", str(out), *options, *extra]
    return subprocess.Popen(
        command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE
    )


@pytest.mark.slow
def test_a_run_leaves_encoder_metrics_logs_and_picture(small_store, tmp_path):
    out = tmp_path / "run"
    result = json.loads(run_pretrain(small_store, out, "--json").communicate(timeout=300)[0])
    assert (
        result["windows_seen"] == 2 * (144 // 24) * 24 and len(result["history"]["val_loss"]) == 2
    )
    for name in (
        "encoder.safetensors",
        "model.safetensors",
        "metrics.json",
        "config.json",
        "reconstruction.png",
    ):
        assert (out / name).stat().st_size > 0
    assert (out / "checkpoints" / "last.ckpt").is_file() and not (out / "logs").exists()
    before = (out / "encoder.safetensors").read_bytes()
    with pytest.raises(UserError, match="holds a training already: --resume goes on"):
        pretrain(small_store, str(out), **TINY)
    assert (out / "encoder.safetensors").read_bytes() == before


def test_there_is_a_checkpoint_however_steps_and_epochs_divide(small_store, tmp_path):
    # every 5th of 5 steps
    pretrain(small_store, str(tmp_path), method="mae", size="small", batch_size=28, epochs=20)
    assert check_resume(tmp_path, {})


def test_a_moved_run_knows_its_best_weights(small_store, tmp_path, monkeypatch):
    """Validation gets worse from call to call, so the first epoch's weights stay the best, also
    after the last leg.
    """
    rising = itertools.count(1.0)
    monkeypatch.setattr(
        OBJECTIVES["mae"], "validate", lambda self, batch: torch.tensor(next(rising))
    )
    settings = {"method": "mae", "size": "small", "batch_size": 24, "epochs": 2}
    first = pretrain(small_store, str(tmp_path / "run"), **settings)
    weights = load_file(first["encoder"])
    (tmp_path / "run").rename(tmp_path / "moved")
    again = pretrain(small_store, str(tmp_path / "moved"), **settings, resume=True)
    assert again["val_loss"] == first["val_loss"] == min(first["history"]["val_loss"])
    assert all(
        torch.equal(tensor, weights[name]) for name, tensor in load_file(again["encoder"]).items()
    )


def test_another_store_at_the_same_path_is_not_resumed(small_store, tmp_path):
    store, run = tmp_path / "store", tmp_path / "run"
    shutil.copytree(small_store, store)
    settings = {"method": "mae", "size": "small", "batch_size": 72, "epochs": 2}
    pretrain(str(store), str(run), **settings)
    meta = json.loads((store / "store.json").read_text())
    meta["splits"] |= {next(iter(meta["splits"])): "test"}
    (store / "store.json").write_text(json.dumps(meta))
    with pytest.raises(UserError, match="store_sha256 changed"):
        pretrain(str(store), str(run), **settings, resume=True)


def test_nothing_to_resume_other_settings_or_a_damaged_checkpoint(tmp_path):
    with pytest.raises(UserError, match="nothing to resume"):
        check_resume(tmp_path, {})
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").write_bytes(b"PK truncated")
    (tmp_path / "config.json").write_text('{"lr": 1}')
    with pytest.raises(UserError, match="lr changed"):
        check_resume(tmp_path, {"lr": 2})
    with pytest.raises(UserError, match="damaged checkpoint"):
        check_resume(tmp_path, {"lr": 1})


@pytest.mark.extended
def test_two_processes_train_through_the_command_line(small_store, tmp_path):
    assert (
        run_pretrain(small_store, tmp_path / "run", "--devices=2", "--epochs=1").wait(timeout=300)
        == 0
    )
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["val_loss"] > 0


def frozen_objective():
    """Return an objective without dropout and with BatchNorm statistics frozen, the same in every
    process.
    """
    torch.manual_seed(0)
    objective = OBJECTIVES["xmae"](size="small").train()
    for module in objective.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm | nn.Dropout):
            module.eval()
        if hasattr(module, "dropout") and isinstance(module.dropout, float):
            module.dropout = 0.0
    return objective


def one_process(rank, world, store, folder):
    """Write loss and gradients of the first batch, as process `rank` of `world` sees them."""
    if world > 1:
        torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet{world}", rank=rank, world_size=world
    )
    batches = TrainingBatches(
        WindowStore(store).windows("train"), 8, 1, seed=3, rank=rank, world_size=world
    )
    objective = frozen_objective()
    model = nn.parallel.DistributedDataParallel(objective)
    loss = model(next(iter(batches)))
    loss.backward()
    gradients = {name: p.grad for name, p in objective.named_parameters()}
    torch.save((loss.detach(), gradients), f"{folder}/{world}-{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_give_the_loss_and_gradients_of_one(small_store, tmp_path):
    one_process(0, 1, small_store, str(tmp_path))
    torch.multiprocessing.spawn(one_process, (2, small_store, str(tmp_path)), nprocs=2)
    (loss, gradients), *parts = (
        torch.load(tmp_path / f"{name}.pt") for name in ("1-0", "2-0", "2-1")
    )
    torch.testing.assert_close(sum(part[0] for part in parts) / 2, loss)
    for name, gradient in gradients.items():
        torch.testing.assert_close(parts[0][1][name], gradient, rtol=1e-3, atol=1e-6, msg=name)


def test_batches_depend_on_seed_and_step_only(small_store):
    windows = WindowStore(small_store).windows("train")
    first, second = (TrainingBatches(windows, 24, 2, seed=5) for _ in range(2))
    seen = [batch.ppg for batch in first] + [batch.ppg for batch in first]
    for _ in zip(range(4), second, strict=False):  # stopped in the middle of the first epoch
        pass
    third = TrainingBatches(windows, 24, 2, seed=5)
    third.load_state_dict({"step": 4, "ramp_start": None})
    rest = [batch.ppg for batch in third] + [batch.ppg for batch in third]
    assert len(first) == 6 and len(rest) == 8
    assert all(torch.equal(a, b) for a, b in zip(seen[4:], rest, strict=True))
    assert not torch.equal(seen[0], seen[6])


def test_processes_share_one_batch(small_store):
    windows = WindowStore(small_store).windows("train")
    whole = TrainingBatches(windows, 24, 1, seed=5).batch(1, 7).ppg
    parts = [
        TrainingBatches(windows, 24, 1, seed=5, rank=rank, world_size=2).batch(1, 7).ppg
        for rank in range(2)
    ]
    assert torch.equal(torch.stack(parts, 1).flatten(0, 1), whole)
    with pytest.raises(UserError, match="batch_size"):
        TrainingBatches(windows, 25, 1, seed=5, world_size=2)


def test_augmentation_acts_on_training_only(small_store):
    store = WindowStore(small_store)
    batches = ValidationBatches(store.windows("val"), 16)
    once, again = (torch.cat([batch.ppg for batch in batches]) for _ in range(2))
    assert torch.equal(once, again) and once.amin() == -1 and once.amax() == 1
    ppg = store.windows("val").ppg
    low, high = ppg.min(1, keepdims=True), ppg.max(1, keepdims=True)
    scaled = 2 * (ppg - low) / (high - low) - 1
    torch.testing.assert_close(once[:, 0], torch.from_numpy(scaled).float(), atol=1e-5, rtol=0)


def test_the_ramp_starts_when_the_loss_leaves_the_plateau(small_store):
    batches = TrainingBatches(
        WindowStore(small_store).windows("train"), 24, 10, 5, RECIPES["small-data"]
    )
    batches.step = 12
    batches.end_epoch(batches.plateau)
    assert batches.strength(1000) == 0
    batches.end_epoch(0.8 * batches.plateau)
    assert (
        batches.strength(12) == 0
        and 0 < batches.strength(20) < 1
        and batches.strength(12 + 21) == 1
    )
    assert TrainingBatches(WindowStore(small_store).windows("train"), 24, 10, 5).strength(0) == 1


def test_warmup_then_cosine_to_zero():
    shares = [warmup_cosine(step, 100) for step in range(101)]
    assert shares[0] == pytest.approx(0.1) and shares[9] == shares[10] == 1
    assert shares[55] == pytest.approx(0.5) and shares[100] == 0
    assert all(a >= b for a, b in zip(shares[10:], shares[11:], strict=False))


@pytest.mark.parametrize(
    ("setting", "value"), [("method", "magic"), ("size", "huge"), ("mask", "none"), ("recipe", "x")]
)
def test_unknown_settings_are_named(small_store, tmp_path, setting, value):
    with pytest.raises(UserError, match=f"unknown {setting} '{value}'"):
        pretrain(small_store, str(tmp_path), **{setting: value})
