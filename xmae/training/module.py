"""The Lightning module that trains any objective: loss, optimiser, schedule, logging."""

import math

import lightning as L
import torch


class Pretraining(L.LightningModule):
    """Train an objective: `forward(batch)` and `validate(batch)` give a loss, `end_epoch(val_loss)` what to log.

    AdamW, linear warm-up over the first tenth of the true number of steps, then cosine to 0 (arXiv 2605.00973).

    Parameters
    ----------
    objective : nn.Module
        See `xmae.objectives`.
    n_steps : int
        Steps of the whole training.
    lr : float
        Peak learning rate.
    seed : int
        Dropout of each step is drawn from seed, step and process, so that a resumed run repeats an unbroken one.
    variance : float
        Variance of the scaled validation ECG; the logged `val_ratio` is validation loss / variance.
    weight_decay : float
        Of AdamW.
    """

    def __init__(self, objective, n_steps, lr=3e-4, seed=77, variance=1.0, weight_decay=0.01):
        super().__init__()
        self.objective = objective
        self.register_buffer("smooth_loss", torch.tensor(float("nan")))
        self.n_steps, self.lr, self.seed = n_steps, lr, seed
        self.variance, self.weight_decay = variance, weight_decay
        self.history = {"epoch": [], "train_loss": [], "val_loss": []}

    def on_train_batch_start(self, batch, batch_idx):
        """Seed dropout."""
        torch.manual_seed((batch.seed * 1_000_003 + self.global_rank) % 2**63)

    def training_step(self, batch, batch_idx):
        """Loss of one batch."""
        loss = self.objective(batch)
        before = torch.where(self.smooth_loss.isnan(), loss.detach(), self.smooth_loss)
        self.smooth_loss = before.lerp(loss.detach(), 0.05)
        self.log("train_loss", self.smooth_loss, prog_bar=True)
        return loss

    def on_train_epoch_end(self):
        """Note the losses; let the batches see the smoothed training loss, as a ramp of augmentations needs."""
        train_loss = self.trainer.strategy.broadcast(self.smooth_loss.item())
        val_loss = self.trainer.callback_metrics["val_loss"].item()
        for name, value in {"epoch": self.current_epoch, "train_loss": train_loss, "val_loss": val_loss}.items():
            self.history[name].append(value)
        self.trainer.train_dataloader.end_epoch(train_loss)

    def validation_step(self, batch, batch_idx):
        """Loss on windows as they are."""
        loss = self.objective.validate(batch)
        self.log("val_loss", loss, batch_size=len(batch.ppg), sync_dist=True)
        self.log("val_ratio", loss / self.variance, prog_bar=True, batch_size=len(batch.ppg), sync_dist=True)

    def on_validation_epoch_end(self):
        """Let the objective see the validation loss, as a curriculum needs."""
        self.log_dict(self.objective.end_epoch(self.trainer.callback_metrics["val_loss"].item()))

    def on_save_checkpoint(self, checkpoint):
        """Keep the history of losses."""
        checkpoint["history"] = self.history

    def on_load_checkpoint(self, checkpoint):
        """Go on with the history of losses."""
        self.history = checkpoint["history"]

    def configure_optimizers(self):
        """AdamW with warm-up and cosine over the true number of steps."""
        optimizer = torch.optim.AdamW(
            self.parameters(), self.lr, betas=(0.9, 0.95), weight_decay=self.weight_decay, fused=True
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warmup_cosine(step, self.n_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def warmup_cosine(step, n_steps, warmup=0.1):
    """Share of the peak learning rate: linear to 1 over the first tenth of the steps, cosine to 0 at the last."""
    n_warm = max(1, round(warmup * n_steps))
    if step < n_warm:
        return (step + 1) / n_warm
    return 0.5 * (1 + math.cos(math.pi * min(1, (step - n_warm) / max(1, n_steps - n_warm))))
