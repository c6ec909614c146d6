"""One Lightning fit for everything that is trained here: checkpoints, exact resume, early stopping,
logs, progress.
"""

import copy
import io
import logging
import math
import os
import shutil
import sys
import time
import warnings
from contextlib import nullcontext
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import (
    EarlyStopping,
    LearningRateMonitor,
    ModelCheckpoint,
    TQDMProgressBar,
)
from lightning.pytorch.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from xmae.errors import UserError, require_at_least
from xmae.files import atomic_file, read_json, write_json
from xmae.launch import is_torchrun, own_environment, rank
from xmae.ownership import LEAST_SPACE, check_output, owned
from xmae.training.begin import same_tensors
from xmae.training.loggers import make_loggers
from xmae.training.module import parameter_groups
from xmae.training.processes import layout

for library in ("lightning.pytorch", "lightning.fabric"):  # no lines about devices, no tips
    logging.getLogger(library).setLevel(logging.WARNING)
PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed"}
STRATEGIES = ("ddp", "fsdp")
COPIES = 4  # of a checkpoint, at the same time
LAST, PREVIOUS = "last.ckpt", "previous.ckpt"
PARTS = {"state_dict", "optimizer_states", "lr_schedulers", "loops", "callbacks", "global_step"}


@own_environment()
def fit(
    module, train, val, out, settings, last=None, keep="best", devices=1, callbacks=(),
    strategy="ddp", max_minutes=None, logger=None,
):  # fmt: skip
    """Train `module`, leave it with the weights to keep, and return how the training went.

    Parameters
    ----------
    module : Pretraining
        Module to train.
    train : SteppedBatches
        Training batches; their place is part of each checkpoint.
    val : iterable of batches
        Validation batches.
    out : str or Path
        Run folder: gets config.json and checkpoints/ (last, the one before it and best, written
        atomically).
    settings : dict
        All settings of the run; `epochs`, `batch_size`, `patience` (None: no early stopping) and
        `precision` ("fp32" or "bf16", mixed) among them.
    last : str, optional
        Checkpoint to go on from; what `check_start` gave.
    keep : str
        Weights to leave in `module`: "best" (lowest validation loss) or "last".
    devices : int
        GPUs, or CPU processes; under torchrun, it says how many.
    callbacks : sequence of lightning.Callback
        Further callbacks.
    strategy : str
        How several processes share the work: "ddp" (each holds all weights) or "fsdp" (each holds a
        part).
    max_minutes : float, optional
        Stop after this many minutes, with a checkpoint to resume from.
    logger : str, optional
        Loggers, separated by commas; see `xmae.training.loggers`.

    Returns
    -------
    dict
        val_loss (best), epochs, windows_seen, windows_per_s, seconds (of all legs of a resumed
        run), device (of all legs), precision, settings, history, finished. If
        time ran out, `finished` is false and the weights in `module` are of no use.

    Raises
    ------
    UserError
        If training diverged, or the disk has no space for its checkpoints.
    """
    out = Path(out)
    check_output(out, least_space=space_for(module))
    rank_zero_only.rank = rank()  # as Lightning was imported with, it may be of a batch system
    checkpoints = out / "checkpoints"
    best = Checkpoint(checkpoints, "best", monitor="val_loss", enable_version_counter=False)
    watch = Watch(checkpoints, steps_between(train, settings["epochs"]), max_minutes)
    more = list(callbacks)
    if settings["patience"]:
        more.insert(0, Patience(settings["patience"], is_extended(out, settings, last)))
    here, machines = layout(devices)
    world_size = here * machines
    how, plain = "auto" if world_size == 1 else "ddp", None
    if strategy == "fsdp":
        how = ModelParallelStrategy(world_size, 1, save_distributed_checkpoint=False)
        plain = copy.deepcopy(module.objective)  # for the whole weights at the end
    trainer = make_trainer(
        train, settings, (here, machines), how, [best, watch, *more], out, logger
    )
    if trainer.is_global_zero and last is None:
        write_json(out / "config.json", settings)
    if last is not None:
        refuse_other_groups(last, module)
    finished = run(trainer, module, train, val, out, last)
    # not before: other processes, which start in between, compare with what it was
    if trainer.is_global_zero and last is not None:
        write_json(out / "config.json", settings)
    result = result_of(trainer, module, settings, world_size, finished)
    if not finished:
        return result
    state = module.full_state
    if keep == "best":
        state = torch.load(best.best_model_path, map_location="cpu", weights_only=True)[
            "state_dict"
        ]
    if strategy == "fsdp":
        module.objective = plain
    if state and (strategy != "fsdp" or trainer.is_global_zero):
        module.load_state_dict(state)
    module.eval()
    val_loss = best.best_model_score.item() if keep == "best" else module.history["val_loss"][-1]
    return {"val_loss": val_loss} | result


def steps_between(train, epochs):
    """Return the number of steps between two checks of the watch; they must not fall on the ends of
    epochs only, where nothing is saved.
    """
    steps_per_epoch = len(train) // train.accumulate
    every = max(1, min(100, steps_per_epoch * epochs // 20))
    if every > 1 and every % steps_per_epoch == 0:
        every -= 1
    return every


def make_trainer(train, settings, processes, strategy, callbacks, out, logger):
    """Make Lightning's trainer; the arguments are those of `fit`, the processes on this machine,
    and the number of machines.
    """
    here, machines = processes
    cuda, loggers = torch.cuda.is_available(), make_loggers(logger, out)
    best, watch, *more = callbacks
    monitor = [LearningRateMonitor("step")] if loggers else []
    environment = TorchElasticEnvironment() if is_torchrun() else LightningEnvironment()
    return L.Trainer(
        max_epochs=settings["epochs"],
        accelerator="gpu" if cuda else "cpu",
        devices=here,
        num_nodes=machines,
        strategy=strategy,
        sync_batchnorm=cuda and here * machines > 1,
        precision=PRECISIONS[settings["precision"]],
        accumulate_grad_batches=train.accumulate,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        log_every_n_steps=min(10, len(train) // train.accumulate),
        callbacks=[best, watch, *monitor, TQDMProgressBar(refresh_rate=5), *more],
        logger=loggers,
        plugins=[AtomicCheckpoints(), environment],
        enable_model_summary=False,
    )


def run(trainer, module, train, val, out, last):
    """Train to the end; return False if time ran out before it."""
    with warnings.catch_warnings():
        for chatter in (
            "num_workers",
            "lr_scheduler.step",
            "LeafSpec|isinstance.treespec",
            "Checkpoint directory",
            "in eval mode at the start",  # parts that stay as they are
        ):
            warnings.filterwarnings("ignore", message=f".*({chatter}).*")
        try:
            with owned(out) if trainer.is_global_zero else nullcontext():
                trainer.fit(module, train, val, ckpt_path=last, weights_only=True)
        except OutOfTime:
            return False
    return True


def result_of(trainer, module, settings, world_size, finished):
    """Return the result of a training, without its losses."""
    windows_seen = trainer.global_step * settings["batch_size"]
    return {
        "finished": finished,
        "epochs": trainer.current_epoch,
        "windows_seen": windows_seen,
        "windows_per_s": windows_seen / module.seconds,
        "seconds": module.seconds,
        "device": "; ".join(module.devices),
        "processes": world_size,
        "precision": trainer.precision,
        "settings": settings,
        "history": module.history,
    }


def space_for(network):
    """Return the bytes that the training of a network writes: up to four checkpoints, and its
    weights twice.

    A checkpoint has each trained number and the two averages of the optimiser; while one is
    written, the last, the one before and the best are there too.
    """
    tensors = [x for x in network.state_dict().values() if torch.is_tensor(x)]
    weights = sum(x.numel() * x.element_size() for x in tensors)
    trained = sum(p.numel() * p.element_size() for p in network.parameters() if p.requires_grad)
    return LEAST_SPACE + COPIES * (weights + 2 * trained) + 2 * weights


class OutOfTime(Exception):
    """The time of a training is over, and its checkpoint is written."""


class AtomicCheckpoints(TorchCheckpointIO):
    """Checkpoint writer that keeps every file complete at any moment: the old one or the new one.

    Of the last ones, the one before is kept too. Lightning's own way writes into the folder for
    temporary files and copies from there, which a kill can cut in the middle.
    """

    def save_checkpoint(self, checkpoint, path, storage_options=None):
        """Write a checkpoint; a full disk raises a `UserError` and leaves the older checkpoints
        intact.
        """
        content = io.BytesIO()
        torch.save(checkpoint, content)
        path = Path(path)
        with atomic_file(path) as temporary:
            temporary.write_bytes(content.getbuffer())
            if path.name == LAST and path.exists():
                keep_as(path, path.with_name(PREVIOUS))


def keep_as(path, other):
    """Give a file a second name in one step; where the disk has no hard links, copy it."""
    with atomic_file(other) as temporary:
        temporary.unlink()
        try:
            os.link(path, temporary)
        except OSError:
            shutil.copyfile(path, temporary)


class Checkpoint(ModelCheckpoint):
    """Lightning's callback, which also finds its files after the run folder was moved."""

    @property
    def state_key(self):
        """Return the key of Lightning's own callback, so that older runs can be resumed."""
        return super().state_key.replace("Checkpoint{", "ModelCheckpoint{", 1)

    def load_state_dict(self, state):
        """Restore the state, with all paths in the current folder."""

        def here(path):
            return str(Path(self.dirpath, Path(path).name)) if path else path

        paths = {
            key: here(state[key])
            for key in ("best_model_path", "kth_best_model_path", "last_model_path")
        }
        scores = {here(path): score for path, score in state["best_k_models"].items()}
        super().load_state_dict(state | paths | {"dirpath": self.dirpath, "best_k_models": scores})


class Patience(EarlyStopping):
    """Lightning's callback, which counts anew when a run is extended past its end.

    Parameters
    ----------
    patience : int
        Epochs without a better validation loss.
    anew : bool
        Whether the wait before the checkpoint does not count.
    """

    def __init__(self, patience, anew=False):
        super().__init__("val_loss", patience=patience)
        self.anew = anew

    @property
    def state_key(self):
        """Return the key of Lightning's own callback, so that older runs can be resumed."""
        return super().state_key.replace("Patience{", "EarlyStopping{", 1)

    def load_state_dict(self, state):
        """Restore the state; the epoch that is repeated from the checkpoint within it is not
        counted.
        """
        super().load_state_dict(state | ({"wait_count": -1} if self.anew else {}))


class Watch(Checkpoint):
    """Callback that saves at regular steps, stops when time is over, and stops before anything
    non-finite is saved.

    Nothing is saved after an epoch's last step: Lightning, resumed there, would skip its
    validation. So epochs of one step are over before there is anything to resume.

    Parameters
    ----------
    folder : Path
        Folder of the checkpoints.
    every : int
        Steps of the optimiser between checkpoints.
    max_minutes : float, optional
        Time to stop after.
    """

    def __init__(self, folder, every, max_minutes=None):
        super().__init__(folder, "last", every_n_train_steps=every, enable_version_counter=False)
        self.path, self.every, self.max_minutes = folder / LAST, every, max_minutes
        self.begun = time.monotonic()

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        """Check losses and weights, save, and stop in time."""
        whole = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        last = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        due = whole and trainer.global_step % self.every == 0
        if due or last or batch_idx % 10 == 9:
            self.check(trainer, module, weights=due or last)
        if last:
            return
        super().on_train_batch_end(trainer, module, outputs, batch, batch_idx)
        if whole and self.max_minutes is not None:
            over = time.monotonic() - self.begun > 60 * self.max_minutes
            if trainer.strategy.reduce_boolean_decision(over, all=False):
                trainer.save_checkpoint(self.path)
                raise OutOfTime

    def on_validation_end(self, trainer, module):
        """Check the validation loss."""
        self.check(trainer, module, trainer.callback_metrics["val_loss"])

    def check(self, trainer, module, loss=None, weights=False):
        """Stop all processes if the loss or weights of any of them are not finite."""
        loss = module.smooth_loss if loss is None else loss
        bad = not loss.isfinite()
        if weights:
            bad |= not all(
                getattr(p, "to_local", lambda p=p: p)().isfinite().all()
                for p in module.parameters()
            )
        if trainer.strategy.reduce_boolean_decision(bad, all=False):
            good = (
                f"the last good checkpoint is {self.path}"
                if self.path.exists()
                else "before the first checkpoint"
            )
            raise UserError(
                f"training diverged at step {trainer.global_step} (loss {loss.item():.3g}); "
                f"{good}; try a lower lr"
            )


def is_extended(out, settings, last):
    """Tell whether a resumed run gets more epochs than before."""
    if last is None:
        return False
    before = read_json(out / "config.json").get("epochs", settings["epochs"])
    return before < settings["epochs"]


def check_start(out, settings, resume):
    """Return the path of the checkpoint to resume from; None for a new training.

    Raises
    ------
    UserError
        If a setting is out of range; `out` holds a training and this is none to resume it; there is
        nothing to resume, or only a damaged checkpoint or one of other settings.
    """
    counts = {
        name: settings[name]
        for name in ("epochs", "batch_size", "patience")
        if settings[name] is not None
    }
    require_at_least(1, **counts)
    if not 0 < settings["lr"] < math.inf:
        raise UserError(f"lr is {settings['lr']:g}; expected a number above 0")
    check_output(out)
    if resume:
        return check_resume(out, settings)
    finished = (out / "config.json").is_file() and (out / "metrics.json").is_file()
    if rank() == 0 and (finished or (out / "checkpoints" / LAST).is_file()):
        raise UserError(
            f"{out} holds a training already: --resume goes on with it; to start anew, name "
            "another folder"
        )
    return None


def check_resume(out, settings):
    """Return the last checkpoint of a run with these settings, or the one before if it is damaged,
    after checks that it can be resumed. More epochs count as the same settings.
    """
    found = [path for name in (LAST, PREVIOUS) if (path := out / "checkpoints" / name).is_file()]
    if not found:
        raise UserError(
            f"{out}: nothing to resume (no checkpoints/{LAST}); xmae pretrain --init {out} begins"
            " with the weights of a finished run"
        )
    before = read_json(out / "config.json")
    if not isinstance(before, dict):
        raise UserError(f"{out / 'config.json'}: holds no settings; start again without resume")
    # older runs: fewer
    changed = [key for key in settings if key in before and settings[key] != before[key]]
    if "epochs" in changed and settings["epochs"] > before["epochs"]:
        changed.remove("epochs")
    if changed:
        raise UserError(
            f"{out}: cannot resume with other settings than before: {', '.join(changed)} changed"
        )
    damages = [damage_of(path) for path in found]
    if all(damages):
        raise UserError(
            f"{found[0]}: damaged checkpoint ({damages[0]}); start again without resume"
        )
    whole = damages.index("")
    if whole > 0 and rank() == 0:
        print(
            f"xmae: {found[0]}: damaged checkpoint ({damages[0]}); going on from the one before,"
            f" {found[whole].name}",
            file=sys.stderr,
        )
    return str(found[whole])


def refuse_other_groups(path, module):
    """Raise a `UserError` if the optimizer of a checkpoint has other groups of parameters, or the
    network other weights, as in an older version of its method.
    """
    state = torch.load(path, map_location="cpu", weights_only=True)
    before = [len(one["param_groups"]) for one in state["optimizer_states"]]
    now = [len(parameter_groups(module.objective))]
    if before != now or not same_tensors(state["state_dict"], module.state_dict()):
        raise UserError(
            f"{path}: of an older version, which trained this method otherwise; start again, or"
            " begin with its weights by --init"
        )


def damage_of(path):
    """Describe what is wrong with a checkpoint in a few words; "" if nothing is."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file raises any of a dozen types
        return type(error).__name__
    missing = PARTS - set(state) if isinstance(state, dict) else PARTS
    return f"it lacks {', '.join(sorted(missing))}" if missing else ""
