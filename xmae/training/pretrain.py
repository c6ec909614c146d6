"""`xmae pretrain`: from a store of windows to a PPG encoder."""

from dataclasses import replace
from inspect import Parameter, signature
from pathlib import Path

import lightning as L
import safetensors.torch

from xmae.data.batches.batches import RECIPES
from xmae.data.store.store import WindowStore
from xmae.errors import UserError, require_at_least, require_choice
from xmae.files import atomic_file, write_json
from xmae.launch import rank
from xmae.models.checkpoint import save_encoder
from xmae.objectives import OBJECTIVES
from xmae.training.begin import ORIGINS, begin_from, known_to
from xmae.training.device import default_precision
from xmae.training.fit import PRECISIONS, STRATEGIES, check_start, fit
from xmae.training.loggers import check_loggers
from xmae.training.module import Pretraining
from xmae.training.picture import ReconstructionPicture, draw_reconstruction, sample
from xmae.training.processes import n_processes
from xmae.training.speed import count_flops


def pretrain(
    data: str,
    out: str = "runs/pretrain",
    method: str = "xmae",
    size: str = "base",
    mask: str | None = None,
    curriculum: str | None = None,
    options: dict[str, float | str] | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    accumulate: int = 1,
    lr: float | None = None,
    patience: int | None = None,
    recipe: str = "small-data",
    init: str | None = None,
    keep: str | None = None,
    seed: int = 77,
    devices: int = 1,
    strategy: str = "ddp",
    precision: str | None = None,
    compile: bool = False,
    max_minutes: float | None = None,
    logger: str | None = None,
    resume: bool = False,
) -> dict:
    """Pretrain a PPG encoder on the training subjects of a store.

    An epoch is as many random 10 s crops as the store has training windows. Trains on a GPU if
    there is one, in bfloat16 where the hardware multiplies it.

    Parameters
    ----------
    data : str
        Store written by `xmae prepare`, with ECG.
    out : str
        Run folder: encoder.safetensors, metrics.json, pictures and checkpoints.
    method : str
        Method of pretraining; see docs/methods.md.
    size : str
        "base" (as published; the PPG encoder of xmae has 2.2 M parameters) or "small" (half the
        widths, or less).
    mask : str
        Shape of the ECG mask of xmae, "anchor" (published), "block", "scatter" or "mixed".
    curriculum : str
        Curriculum of xmae: mask ratio 0.80, 0.85, 0.90, "ladder" (by validation loss, the default),
        "schedule" (over epochs) or "none" (0.80).
    options : dict
        Further settings of the method, by name, as in `--options.temperature=0.1`.
    epochs : int
        Passes over the training windows. Default here, and of batch_size, lr, patience and keep:
        the method's own (xmae: 37, 512, 3e-4, 17, "best").
    batch_size : int
        Windows per step, over all devices.
    accumulate : int
        Parts into which a step's batch is cut to save memory; their gradients add up. Contrastive
        methods compare within a part.
    lr : float
        Peak learning rate of AdamW. The method's own is scaled to the batch size where its paper
        has a rule for that.
    patience : int
        Epochs without a better validation loss before stopping early; with papagei-p, apple, dino
        and msn, by default, never.
    recipe : str
        "published", or "small-data" for less than some hundred thousand windows: joint time
        stretch, polarity flips and noise; with xmae, the bridge starts aligned in time and they set
        in once it predicts.
    init : str
        Weights to begin from, in the place of random ones: a shipped encoder ("base"), an encoder's
        file, the folder of another training, or one of its checkpoints. Of a run of the same method
        and size all weights are taken, else those of the PPG encoder. A lower `lr` than for random
        weights keeps more of what they know.
    keep : str
        Weights to keep: "best" (lowest validation loss) or "last". With few validation
        subjects, whose ECG can be mispredicted while the PPG embedding still gets better, the last
        may serve better.
    seed : int
        Seed of everything random.
    devices : int
        GPUs, or CPU processes, that share each batch; under torchrun, its own number.
    strategy : str
        How they share it: "ddp" (all weights on each) or "fsdp" (weights, gradients and optimiser
        states in shards).
    precision : str
        "fp32" or "bf16" (mixed). Default: bf16 where the hardware multiplies it.
    compile : bool
        Compile the networks' blocks (torch.compile): a slower start, then faster steps.
    max_minutes : float
        Stop after this many minutes, with a checkpoint; `--resume` goes on. Default: never.
    logger : str
        Also write curves to these, separated by commas: csv, tensorboard, wandb, mlflow. Default:
        none; metrics.json has the history.
    resume : bool
        Go on from the last checkpoint in `out`; with more `epochs` than before, past the end.

    Returns
    -------
    dict
        Best validation loss (with xmae also its ratio to the variance of the ECG, and "picture"),
        epochs, windows seen, windows per second, seconds, device, loss history, "finished",
        `known_before` (subjects not to be trained on that the weights of `init`, or a teacher, were
        trained or chosen on: they cannot be scored), "encoder" and "out"; with methods that learn
        timing `stretches` of recordings and those `without_delay`, which were left out; `waited`,
        the share of the time (since the last resumption) that passed in waiting for batches. If
        time ran out, `finished` is false and there is no encoder yet.

    Raises
    ------
    UserError
        If the store has no ECG that the method needs or no validation windows, a setting is
        unknown, the weights to begin from are of another encoder, there is nothing to resume, or
        training diverged.
    """
    check_choices(method, recipe, strategy, precision, logger)
    chosen = OBJECTIVES[method]
    asked = asked_or_own(
        chosen.defaults,
        {"epochs": epochs, "batch_size": batch_size, "lr": lr, "patience": patience, "keep": keep},
    )
    epochs, batch_size, lr, patience, keep = asked.values()
    require_choice("keep", keep, ("best", "last"))
    require_at_least(1, devices=devices, accumulate=accumulate)
    own = own_settings(
        method, {"size": size, "mask": mask, "curriculum": curriculum} | (options or {})
    )
    out = Path(out)
    store = WindowStore(data)
    settings = {
        "data": str(data), "store_sha256": store.contents, "method": method, **own, **asked,
        "recipe": recipe, "seed": seed, "accumulate": accumulate,
        "precision": precision or default_precision(), "init": None if init is None else str(init),
    }  # fmt: skip
    last = check_start(out, settings, resume)
    L.seed_everything(seed, verbose=False)
    takes = {"n_epochs": epochs} if "n_epochs" in signature(chosen).parameters else {}
    objective = chosen(**own, **takes)
    train, val = objective.batches(
        store, batch_size=batch_size, n_epochs=epochs, seed=seed,
        recipe=applied(RECIPES[recipe], objective), rank=rank(), world_size=n_processes(devices),
        accumulate=accumulate,
    )  # fmt: skip
    origin = begin_from(objective, init) if init else None
    before = objective.learnt_from | ({} if origin is None else {"begun_from": origin})
    if before and rank() == 0:
        write_json(out / ORIGINS, before)
    n_steps = len(train) * epochs // accumulate
    module = module_of(objective, train, val, n_steps, lr, seed, compile)
    pictures = [ReconstructionPicture(out)] if objective.rebuilds_ecg else []
    result = fit(
        module, train, val, out, settings, last, keep, devices, pictures, strategy, max_minutes,
        logger,
    )  # fmt: skip
    result |= {"method": method, "known_before": known_to(before, store.splits)}
    result |= train.facts() | {"waited": train.waited_s / max(train.passed_s, 1e-9)}
    if not result["finished"]:
        return result | {"out": str(out / "checkpoints" / "last.ckpt")}
    return record(module.objective, result, before, store.splits, val, out)


def module_of(objective, train, val, n_steps, lr, seed, compiled):
    """Make the Lightning module that trains an objective for `n_steps`."""
    variance = val.variance if objective.rebuilds_ecg else None
    flops = count_flops(objective, train.batch(1, 0))
    return Pretraining(objective, n_steps, lr, seed, variance, flops, compiled)


def record(objective, result, before, splits, val, out):
    """Write the results of a finished run: encoder, whole model, picture and metrics.json; of
    several processes the first writes.

    Parameters
    ----------
    objective : Objective
        Trained.
    result : dict
        Result of the run.
    before : dict
        Provenance of what it learnt from, if anything: `begun_from`, `teacher`.
    splits : dict
        Splits of the store's subjects.
    val : object
        Validation batches, for the picture.
    out : Path
        The run's folder.

    Returns
    -------
    dict
        Result of `pretrain`.
    """
    if objective.rebuilds_ecg:
        result |= {"variance": val.variance, "val_ratio": result["val_loss"] / val.variance}
        result |= {"picture": str(out / "reconstruction.png")}
    result |= {"encoder": str(out / "encoder.safetensors"), "out": str(out)}
    if rank() != 0:
        return result
    keys = ("method", "val_ratio", "windows_seen", "seconds", "device", "settings")
    provenance = {key: result[key] for key in keys if key in result} | {"paper": objective.paper}
    save_encoder(objective.encoder, result["encoder"], provenance | before | {"splits": splits})
    with atomic_file(out / "model.safetensors") as temporary:
        whole = objective.model if objective.rebuilds_ecg else objective
        tensors = {name: tensor.contiguous() for name, tensor in whole.state_dict().items()}
        temporary.write_bytes(safetensors.torch.save(tensors))
    if objective.rebuilds_ecg:
        draw_reconstruction(objective.model, *sample(val), out / "reconstruction.png")
    write_json(out / "metrics.json", result)
    return result


def check_choices(method, recipe, strategy, precision, logger):
    """Raise a `UserError` if one of these settings of `pretrain` is unknown."""
    require_choice("method", method, OBJECTIVES)
    require_choice("recipe", recipe, RECIPES)
    require_choice("strategy", strategy, STRATEGIES)
    require_choice("precision", precision or "fp32", PRECISIONS)
    check_loggers(logger)


def asked_or_own(defaults, asked):
    """Return the settings that were asked for, else the method's own, with its learning rate at
    this batch size.
    """
    whole = {
        key: getattr(defaults, key) if value is None else value for key, value in asked.items()
    }
    if asked["lr"] is None:
        whole["lr"] = defaults.lr_at(whole["batch_size"])
    return whole


def own_settings(method, given):
    """Return all settings of a method's constructor but `n_epochs`: the given ones (None: not
    given), else its defaults.
    """
    parameters = signature(OBJECTIVES[method]).parameters.values()
    defaults = {
        p.name: p.default
        for p in parameters
        if p.name != "n_epochs" and p.default is not Parameter.empty
    }
    given = {name: value for name, value in given.items() if value is not None}
    for name, value in given.items():
        if name not in defaults:
            raise UserError(
                f"method {method} has no setting '{name}'; it has {', '.join(defaults)}"
            )
        number, text = isinstance(defaults[name], int | float), str(value)
        if number != isinstance(value, int | float):
            raise UserError(
                f"{name} of method {method} is '{text}'; expected "
                f"{'a number' if number else 'text'}"
            )
        if isinstance(defaults[name], int):
            if not float(value).is_integer():
                raise UserError(f"{name} of method {method} is {text}; expected a whole number")
            given[name] = int(value)
    return defaults | given


def applied(recipe, objective):
    """Return a recipe as it applies to a method: aligned start if requested; no ramp where no ECG
    is reconstructed.
    """
    if recipe.aligned:
        objective.align()
    return recipe if objective.rebuilds_ecg else replace(recipe, ramp=0.0)
