"""Training over processes, in parts, in legs: DDP, FSDP, accumulation, bf16, torch.compile, time
limits, divergence.
"""

import csv
import json
import os
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import nn

from xmae.data.batches.batches import TrainingBatches
from xmae.data.store.store import WindowStore
from xmae.errors import UserError
from xmae.launch import rank
from xmae.objectives import OBJECTIVES
from xmae.training.pretrain import pretrain
from xmae.training.processes import layout
from xmae.training.speed import count_flops, peak_flops

CONTRASTIVE = ("simclr", "papagei-p", "apple", "apple-m", "dino", "msn")
SLIM = {"dino": {"prototypes": 32, "n_short": 1}, "msn": {"prototypes": 32, "n_focal": 1}}
QUICK = {"size": "small", "epochs": 1, "batch_size": 48}


def frozen_objective(name):
    """Return an objective whose batch norms use fixed statistics, the same in every process."""
    torch.manual_seed(0)
    objective = OBJECTIVES[name](size="small", **SLIM.get(name, {})).train()
    for module in objective.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    return objective


def one_process(rank, world, store, folder):
    """Write losses and gradients of each method's first batch of 8, as process `rank` of `world`
    sees them.
    """
    if world > 1:
        torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet{world}", rank=rank, world_size=world
    )
    windows, seen = WindowStore(store).windows("train"), {}
    for name in CONTRASTIVE:
        objective = frozen_objective(name)
        batches = TrainingBatches(
            windows, 8, 1, 3, rank=rank, world_size=world, pairs=objective.pairs
        )
        # gradients are averaged as long as it lives
        whole = nn.parallel.DistributedDataParallel(objective)
        loss = whole(next(iter(batches)))
        loss.backward()
        seen[name] = (
            loss.detach(),
            {k: p.grad.clone() for k, p in objective.named_parameters() if p.requires_grad},
        )
        seen[name] += (dict(objective.named_buffers()).get("centre"),)
    torch.save(seen, f"{folder}/{world}-{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.extended
def test_two_processes_contrast_the_global_batch_as_one_does(small_store, tmp_path):
    one_process(0, 1, small_store, str(tmp_path))
    torch.multiprocessing.spawn(one_process, (2, small_store, str(tmp_path)), nprocs=2)
    whole, *parts = (torch.load(tmp_path / f"{name}.pt") for name in ("1-0", "2-0", "2-1"))
    for name in CONTRASTIVE:
        loss, gradients, centre = whole[name]
        torch.testing.assert_close(sum(part[name][0] for part in parts) / 2, loss, msg=name)
        for key, gradient in gradients.items():
            error, size = (parts[0][name][1][key] - gradient).abs().max(), gradient.abs().max()
            assert error <= 2e-3 * size + 2e-6, f"{name} {key}: {error} of {size}"
        if centre is not None:
            torch.testing.assert_close(parts[1][name][2], centre)


def test_accumulated_parts_are_the_batch_and_give_its_gradient(small_store):
    windows = WindowStore(small_store).windows("train")
    objective = OBJECTIVES["mae"](size="small")
    gradients = []
    for parts in (1, 3):
        batches = TrainingBatches(windows, 24, 1, seed=3, accumulate=parts)
        assert len(batches) == 6 * parts
        objective.zero_grad()
        first = [batch for _, batch in zip(range(parts), batches, strict=False)]
        for batch in first:
            (objective(batch) / parts).backward()
        gradients.append([p.grad.clone() for p in objective.parameters()])
        assert (
            len({batch.seed for batch in first}) == 1
            and sum(len(batch.ppg) for batch in first) == 24
        )
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-3)


def run(store, out, method, *extra, torchrun=0):
    """Return `xmae pretrain` in a process of its own, or in `torchrun` many."""
    start = (
        ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={torchrun}"]
        if torchrun
        else []
    )
    options = [f"--{name.replace('_', '-')}={value}" for name, value in QUICK.items()]
    command = [
        sys.executable,
        *start,
        "-m",
        "xmae",
        "pretrain",
        store,
        "--out",
        str(out),
        "--method",
        method,
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, *options, "--json", *extra],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done


@pytest.mark.extended
def test_ddp_and_fsdp_stopped_and_resumed_train_the_same_by_torchrun(small_store, tmp_path):
    legs = {"ddp": [()], "fsdp": [("--max-minutes=0",), ("--resume",)]}
    results = {}
    for strategy, extras in legs.items():
        for extra in extras:
            options = (f"--strategy={strategy}", "--precision=fp32", *extra)
            done = run(small_store, tmp_path / strategy, "msn", *options, torchrun=2)
            assert "GPU available" not in done.stderr and "Tip" not in done.stderr
            results[strategy, extra] = json.loads(done.stdout)  # one process prints
            assert results[strategy, extra]["processes"] == 2
    stopped, *ended = (
        results[key]
        for key in (("fsdp", ("--max-minutes=0",)), ("fsdp", ("--resume",)), ("ddp", ()))
    )
    assert (
        not stopped["finished"]
        and stopped["windows_seen"] == 48
        and ended[0]["seconds"] > stopped["seconds"]
    )
    assert all(result["finished"] and result["windows_seen"] == 144 for result in ended)
    fsdp, ddp = (load_file(result["encoder"]) for result in ended)
    for name, tensor in ddp.items():
        torch.testing.assert_close(fsdp[name], tensor, rtol=1e-3, atol=2e-4, msg=name)


def test_stopped_by_its_time_limit_and_resumed_a_run_ends_where_an_unbroken_one_ends(
    small_store, tmp_path
):
    options = QUICK | {"method": "mae", "precision": "fp32"}
    unbroken = pretrain(small_store, str(tmp_path / "unbroken"), **options)
    leg = pretrain(small_store, str(tmp_path / "legs"), **options, max_minutes=0)
    assert leg["finished"] is False and leg["windows_seen"] == 48 and "encoder" not in leg
    assert (
        leg["out"].endswith("last.ckpt")
        and not (tmp_path / "legs" / "encoder.safetensors").exists()
    )
    resumed = pretrain(small_store, str(tmp_path / "legs"), **options, resume=True)
    assert resumed["finished"] and resumed["windows_seen"] == unbroken["windows_seen"] == 144
    assert resumed["seconds"] > leg["seconds"]
    assert resumed["history"]["val_loss"] == unbroken["history"]["val_loss"]
    a, b = (load_file(tmp_path / folder / "model.safetensors") for folder in ("unbroken", "legs"))
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_the_log_has_throughput_and_utilisation(small_store, tmp_path, monkeypatch):
    """Utilisation is operations per second over the peak, on a machine whose peak we say."""
    peak, counted = 1e12, []
    monkeypatch.setattr("xmae.training.module.peak_flops", lambda *_: peak)
    monkeypatch.setattr(
        "xmae.training.pretrain.count_flops",
        lambda *given: counted.append(count_flops(*given)) or counted[0],
    )
    pretrain(
        small_store, str(tmp_path), method="mae", **QUICK | {"accumulate": 2}, precision="bf16",
        logger="csv",
    )  # fmt: skip
    (path,) = tmp_path.glob("logs/**/metrics.csv")
    rows = list(csv.DictReader(path.open()))
    rates, mfu = (
        [float(row[name]) for row in rows if row[name]] for name in ("windows_per_s", "mfu")
    )
    assert rates and min(rates) > 1
    assert mfu == pytest.approx([rate * counted[0] / peak for rate in rates], rel=1e-5)
    assert json.loads((tmp_path / "metrics.json").read_text())["precision"] == "bf16-mixed"


def test_flops_are_those_of_the_layers():
    class Line(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(1000, 64), nn.Linear(64, 1)

        def forward(self, batch):
            return self.second(self.first(batch.ppg)).mean()

    from xmae.data.batches.batches import Batch

    ppg = torch.rand(16, 1, 1000)
    line = Line()
    state = torch.get_rng_state()
    flops = count_flops(line, Batch(ppg, ppg, torch.zeros(16), slice(None), 16, 0))
    # forward 2 per weight, the same again for the weights' gradient, and for the input's of the
    # second layer
    assert flops == 2 * (2 * 64_000) + 3 * (2 * 64)
    assert torch.equal(torch.get_rng_state(), state)
    assert peak_flops(torch.device("cpu"), "32-true") > 1e8


def test_the_peak_in_mixed_precision_is_of_the_faster_type(monkeypatch):
    """A processor may multiply bfloat16 slower than float32."""
    speeds = {torch.float32: 3e9, torch.bfloat16: 1e9}
    monkeypatch.setattr("xmae.training.speed.measured_flops", lambda _, dtype: speeds[dtype])
    assert peak_flops(torch.device("cpu"), "bf16-mixed") == 3e9
    speeds[torch.bfloat16] = 5e9
    assert peak_flops(torch.device("cpu"), "bf16-mixed") == 5e9
    assert peak_flops(torch.device("cpu"), "32-true") == 3e9


def test_a_diverging_run_stops_and_names_the_last_good_checkpoint(
    small_store, tmp_path, monkeypatch
):
    forward = OBJECTIVES["mae"].forward
    monkeypatch.setattr(
        OBJECTIVES["mae"],
        "forward",
        lambda self, batch: forward(self, batch) * (1 if self.steps < 2 else torch.nan),
    )
    monkeypatch.setattr(OBJECTIVES["mae"], "steps", 0, raising=False)
    monkeypatch.setattr(
        OBJECTIVES["mae"],
        "after_step",
        lambda self, progress: setattr(self, "steps", self.steps + 1),
    )
    with pytest.raises(
        UserError, match=r"diverged at step 3 .*last good checkpoint is .*last.ckpt; try a lower lr"
    ):
        pretrain(small_store, str(tmp_path), method="mae", **QUICK)
    state = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["global_step"] == 2 and all(
        x.isfinite().all() for x in state["state_dict"].values()
    )


@pytest.mark.extended
def test_compiled_training_is_training(small_store, tmp_path):
    plain, compiled = (
        pretrain(
            small_store,
            str(tmp_path / str(compile)),
            method="mae",
            **QUICK,
            precision="fp32",
            compile=compile,
        )
        for compile in (False, True)
    )
    assert compiled["val_loss"] == pytest.approx(plain["val_loss"], rel=1e-3)
    assert load_file(compiled["encoder"]).keys() == load_file(plain["encoder"]).keys()


def test_processes_are_numbered_over_all_machines(monkeypatch):
    assert layout(3) == (3, 1)
    for name, value in {"RANK": 5, "LOCAL_RANK": 1, "WORLD_SIZE": 8, "LOCAL_WORLD_SIZE": 4}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    assert rank() == 5 and layout(1) == layout(4) == (4, 2)
    with pytest.raises(UserError, match="torchrun started 4"):
        layout(2)
    monkeypatch.delenv("TORCHELASTIC_RUN_ID")
    assert rank() == 0 and layout(2) == (2, 1)  # variables of a batch system
    monkeypatch.setenv("XMAE_LAUNCHER", str(os.getppid()))
    assert rank() == 1  # a process that a training started on this machine


@pytest.mark.parametrize(
    ("setting", "value"),
    [("strategy", "zero"), ("precision", "int8"), ("accumulate", 0), ("keep", "worst")],
)
def test_unknown_ways_to_train_are_refused(small_store, tmp_path, setting, value):
    with pytest.raises(UserError, match=f"{setting}"):
        pretrain(small_store, str(tmp_path), method="mae", **QUICK, **{setting: value})
