"""One Lightning fit for everything that is trained here: checkpoints, exact resume, early stopping, logs, progress."""

import math
import os
import platform
import time
import warnings
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from xmae.errors import UserError
from xmae.files import read_json, write_json


def fit(module, train, val, out, settings, keep="best", devices=1, callbacks=(), resume=False):
    """Train `module`, leave it with the weights to keep, and say how it went.

    Parameters
    ----------
    module : Pretraining
        What to train.
    train : SteppedBatches
        Training batches; their place is part of each checkpoint.
    val : iterable of batches
        Validation batches.
    out : str or Path
        Run folder: gets config.json, checkpoints/ (last and best, written atomically) and logs/ (CSV and
        TensorBoard, a version each time).
    settings : dict
        All settings of the run; `epochs`, `batch_size`, `patience` among them. Resuming asks for the same ones.
    keep : str
        Which weights to leave in `module`: "best" (lowest validation loss) or "last".
    devices : int
        GPUs, or CPU processes.
    callbacks : sequence of lightning.Callback
        Further callbacks.
    resume : bool
        Go on from the last checkpoint in `out`.

    Returns
    -------
    dict
        val_loss (best), epochs, windows_seen, windows_per_s, seconds, device, precision, settings, history.

    Raises
    ------
    UserError
        If there is nothing to resume, or only a damaged checkpoint or one of other settings; if training diverged.
    """
    out = Path(out)
    last = check_resume(out, settings) if resume else None
    checkpoints, n_steps = out / "checkpoints", len(train) * settings["epochs"]
    best = ModelCheckpoint(checkpoints, "best", monitor="val_loss", enable_version_counter=False)
    every = MidEpochCheckpoint(
        checkpoints, "last", every_n_train_steps=max(1, min(100, n_steps // 20)), enable_version_counter=False
    )
    cuda = torch.cuda.is_available()
    trainer = L.Trainer(
        max_epochs=settings["epochs"],
        accelerator="gpu" if cuda else "cpu",
        devices=devices,
        strategy="auto" if devices == 1 else "ddp",
        sync_batchnorm=cuda and devices > 1,
        precision="bf16-mixed" if has_bf16() else "32-true",
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        log_every_n_steps=min(10, len(train)),
        callbacks=[
            best, every, EarlyStopping("val_loss", patience=settings["patience"]), LearningRateMonitor("step"),
            TQDMProgressBar(refresh_rate=5), *callbacks,
        ],
        logger=[CSVLogger(out, "logs"), TensorBoardLogger(out, "logs")],
        enable_model_summary=False,
    )  # fmt: skip
    if trainer.is_global_zero and not resume:
        for stale in checkpoints.glob("*.ckpt"):  # of an earlier run in this folder
            stale.unlink()
        write_json(out / "config.json", settings)
    first_step = torch.load(last, map_location="cpu", weights_only=True)["global_step"] if last else 0
    started = time.time()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*(num_workers|lr_scheduler.step|LeafSpec|isinstance.treespec).*")
        trainer.fit(module, train, val, ckpt_path=last, weights_only=True)
    seconds = time.time() - started
    if keep == "best":
        module.load_state_dict(torch.load(best.best_model_path, map_location="cpu", weights_only=True)["state_dict"])
    module.eval()
    val_loss = best.best_model_score.item() if keep == "best" else module.history["val_loss"][-1]
    if not math.isfinite(val_loss):
        raise UserError(f"{out}: training diverged (validation loss {val_loss}); try a lower lr")
    return {
        "val_loss": val_loss,
        "epochs": trainer.current_epoch,
        "windows_seen": trainer.global_step * settings["batch_size"],
        "windows_per_s": (trainer.global_step - first_step) * settings["batch_size"] / seconds,
        "seconds": seconds,
        "device": device_name(),
        "precision": trainer.precision,
        "settings": settings,
        "history": module.history,
    }


class MidEpochCheckpoint(ModelCheckpoint):
    """Saves every so many steps, but not after an epoch's last: Lightning, resumed there, would skip its validation."""

    def on_train_batch_end(self, trainer, *arguments):
        """Save, unless the epoch is over."""
        if not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            super().on_train_batch_end(trainer, *arguments)


def check_resume(out, settings):
    """Path of the last checkpoint of a run with these settings, after checks that it can be resumed."""
    last = out / "checkpoints" / "last.ckpt"
    if not last.is_file():
        raise UserError(f"{out}: nothing to resume (no checkpoints/last.ckpt)")
    before = read_json(out / "config.json")
    if changed := [key for key in settings if settings[key] != before.get(key)]:
        raise UserError(f"{out}: cannot resume with other settings than before: {', '.join(changed)} changed")
    try:
        torch.load(last, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file raises any of a dozen types
        raise UserError(f"{last}: damaged checkpoint ({type(error).__name__}); start again without resume") from error
    return str(last)


def local_rank():
    """Number of this process among those of one training run: 0 unless Lightning or torchrun started several."""
    return int(os.environ.get("LOCAL_RANK", 0))


def has_bf16():
    """Whether the hardware multiplies bfloat16 itself (emulation is slower than float32)."""
    return torch.cuda.is_bf16_supported() if torch.cuda.is_available() else torch.cpu._is_avx512_bf16_supported()


def device_name():
    """Name of the GPU, or of the processor with the threads in use."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return f"{name}, {torch.get_num_threads()} threads"
