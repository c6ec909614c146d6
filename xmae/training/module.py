"""The Lightning module that trains any objective: loss, optimiser, schedule, logging."""

import math
import time

import lightning as L
import torch
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

from xmae.training.device import device_name
from xmae.training.processes import shard, units
from xmae.training.speed import peak_flops


class Pretraining(L.LightningModule):
    """Lightning module that trains an objective (`xmae.objectives.objective`).

    AdamW, linear warm-up over the first tenth of the true number of steps, then cosine to 0 (arXiv
    2605.00973).

    Parameters
    ----------
    objective : nn.Module
        `forward(batch)` and `validate(batch)` give a loss, `end_epoch(val_loss)` what to log;
        `before_step` and `after_step` are told of each step; `defaults.betas`, `weight_decay` and
        `decays` say how AdamW is set.
    n_steps : int
        Steps of the optimiser in the whole training.
    lr : float
        Peak learning rate.
    seed : int
        Dropout of each step is drawn from seed, step and process, so that a resumed run repeats an
        unbroken one.
    variance : float, optional
        Variance of the scaled validation ECG; the logged `val_ratio` is validation loss / variance.
    flops_per_window : float, optional
        Forward and backward, to log the model FLOP utilisation as `mfu`.
    compiled : bool
        Compile the network's blocks with torch.compile.
    """

    def __init__(
        self, objective, n_steps, lr=3e-4, seed=77, variance=None, flops_per_window=None,
        compiled=False,
    ):  # fmt: skip
        super().__init__()
        self.objective = objective
        objective.begin(n_steps)
        self.register_buffer("smooth_loss", torch.tensor(float("nan")))
        self.n_steps, self.lr, self.seed = n_steps, lr, seed
        self.variance, self.flops_per_window, self.compiled = variance, flops_per_window, compiled
        self.history = {"epoch": [], "train_loss": [], "val_loss": []}
        self.seconds_before, self.started, self.prepared, self.full_state = (
            0.0,
            time.monotonic(),
            False,
            None,
        )
        self.devices = [device_name()]

    @property
    def seconds(self):
        """Return the time spent in training, s, including earlier processes that led to its
        checkpoint.
        """
        return self.seconds_before + time.monotonic() - self.started

    def configure_model(self):
        """Compile and shard the networks, where asked for."""
        if not self.prepared:
            for unit in units(self.objective) if self.compiled else ():
                unit.compile()
            if self.device_mesh is not None:
                shard(self.objective, self.device_mesh["data_parallel"])
        self.prepared = True

    def on_fit_start(self):
        """Start the clock of the training."""
        self.started = time.monotonic()
        self.peak = (
            peak_flops(self.device, self.trainer.precision) if self.flops_per_window else None
        )

    def on_train_batch_start(self, batch, batch_idx):
        """Seed dropout, with a new seed for each accumulated part."""
        part = batch_idx % self.trainer.accumulate_grad_batches
        torch.manual_seed(
            (batch.seed * 1_000_003 + part * self.trainer.world_size + self.global_rank) % 2**63
        )
        if batch_idx == 0 or not hasattr(self, "clock"):
            self.clock, self.batch_s = time.monotonic(), None

    def training_step(self, batch, batch_idx):
        """Return the training loss of one batch."""
        loss = self.objective(batch)
        now = loss.detach().float()
        self.smooth_loss = torch.where(self.smooth_loss.isnan(), now, self.smooth_loss).lerp(
            now, 0.05
        )
        self.log("train_loss", self.smooth_loss, prog_bar=True)
        return loss

    def configure_gradient_clipping(self, optimizer, *limits, **named):
        """Let the objective clip the gradients, and set the weight decay of this step."""
        progress = self.trainer.global_step / self.n_steps
        self.objective.before_step(progress)
        optimizer.param_groups[0]["weight_decay"] = self.objective.weight_decay(progress)

    def optimizer_step(self, *arguments, **settings):
        """Take a step, and let the objective act after it."""
        super().optimizer_step(*arguments, **settings)
        self.objective.after_step(min(1.0, (self.trainer.global_step + 1) / self.n_steps))

    def on_train_batch_end(self, outputs, batch, batch_idx):
        """Log windows per second over all processes, smoothed, and the share of the hardware's peak
        that they use.
        """
        now = time.monotonic()
        elapsed, self.clock = now - self.clock, now
        self.batch_s = 0.9 * self.batch_s + 0.1 * elapsed if self.batch_s else elapsed
        rate = len(batch.ppg) * self.trainer.world_size / self.batch_s
        self.log("windows_per_s", rate)
        if self.peak:
            self.log("mfu", rate * self.flops_per_window / (self.peak * self.trainer.world_size))

    def on_train_epoch_end(self):
        """Record the losses, and give the smoothed training loss to the batches, as a ramp of
        augmentations needs.
        """
        train_loss = self.trainer.strategy.broadcast(self.smooth_loss.item())
        val_loss = self.trainer.callback_metrics["val_loss"].item()
        for name, value in {
            "epoch": self.current_epoch,
            "train_loss": train_loss,
            "val_loss": val_loss,
        }.items():
            self.history[name].append(value)
        self.trainer.train_dataloader.end_epoch(train_loss)

    def validation_step(self, batch, batch_idx):
        """Compute the loss on unchanged windows."""
        loss = self.objective.validate(batch)
        self.log(
            "val_loss",
            loss,
            prog_bar=self.variance is None,
            batch_size=len(batch.ppg),
            sync_dist=True,
        )
        if self.variance:
            self.log(
                "val_ratio",
                loss / self.variance,
                prog_bar=True,
                batch_size=len(batch.ppg),
                sync_dist=True,
            )

    def on_validation_epoch_end(self):
        """Give the validation loss to the objective, as a curriculum needs."""
        self.log_dict(self.objective.end_epoch(self.trainer.callback_metrics["val_loss"].item()))

    def on_train_end(self):
        """Gather sharded weights on the first process."""
        if self.device_mesh is not None:
            whole = StateDictOptions(full_state_dict=True, cpu_offload=True)
            self.full_state = get_model_state_dict(self, options=whole)

    def on_save_checkpoint(self, checkpoint):
        """Save the history of losses, the time used, and the devices."""
        checkpoint |= {"history": self.history, "seconds": self.seconds, "devices": self.devices}

    def on_load_checkpoint(self, checkpoint):
        """Restore the history of losses, the time and the devices."""
        self.history, self.seconds_before = checkpoint["history"], checkpoint.get("seconds", 0.0)
        self.devices = list(dict.fromkeys([*checkpoint.get("devices", []), *self.devices]))

    def configure_optimizers(self):
        """Return AdamW with warm-up and cosine decay over the true number of steps."""
        groups = parameter_groups(self.objective)
        betas = self.objective.defaults.betas
        optimizer = torch.optim.AdamW(groups, self.lr, betas=betas, fused=True)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: warmup_cosine(step, self.n_steps)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def parameter_groups(objective):
    """Group the trained parameters for AdamW: those with weight decay, then any others."""
    decaying, others = [], []
    for name, parameter in objective.named_parameters():
        if parameter.requires_grad:
            (decaying if objective.decays(name, parameter) else others).append(parameter)
    groups = [{"params": decaying, "weight_decay": objective.weight_decay(0.0)}]
    return groups + ([{"params": others, "weight_decay": 0.0}] if others else [])


def warmup_cosine(step, n_steps, warmup=0.1):
    """Return the share of the peak learning rate: linear to 1 over the first tenth of the steps,
    then cosine to 0.
    """
    n_warm = max(1, round(warmup * n_steps))
    if step < n_warm:
        return (step + 1) / n_warm
    return 0.5 * (1 + math.cos(math.pi * min(1, (step - n_warm) / max(1, n_steps - n_warm))))
