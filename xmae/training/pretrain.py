"""`xmae pretrain`: from a store of windows to a PPG encoder."""

from pathlib import Path

import lightning as L
import safetensors.torch

from xmae.data.store import WindowStore
from xmae.errors import UserError
from xmae.files import atomic_file, write_json
from xmae.models.checkpoint import save_encoder
from xmae.models.xmae import SIZES
from xmae.objectives import OBJECTIVES
from xmae.objectives.masks import SHAPES
from xmae.training.batches import RECIPES, TrainingBatches, ValidationBatches
from xmae.training.fit import fit, local_rank
from xmae.training.module import Pretraining
from xmae.training.picture import ReconstructionPicture, draw_reconstruction, sample

CURRICULA = ("ladder", "schedule", "none")


def pretrain(
    data: str,
    out: str = "runs/pretrain",
    method: str = "xmae",
    size: str = "base",
    mask: str = "anchor",
    curriculum: str = "ladder",
    epochs: int = 37,
    batch_size: int = 512,
    lr: float = 3e-4,
    patience: int = 17,
    recipe: str = "small-data",
    keep: str = "best",
    seed: int = 77,
    devices: int = 1,
    resume: bool = False,
) -> dict:
    """Pretrain a PPG encoder on the training subjects of a store.

    An epoch is as many random 10 s crops as the store has training windows. Trains on a GPU if there is one, in
    bfloat16 where the hardware multiplies it.

    Parameters
    ----------
    data : str
        Store written by `xmae prepare`, with ECG.
    out : str
        Run folder: encoder.safetensors, metrics.json, pictures, logs and checkpoints.
    method : str
        How to pretrain: "xmae".
    size : str
        "base" (as published; the PPG encoder has 2.2 M parameters) or "small" (half the widths).
    mask : str
        Shape of the ECG mask: "anchor", "block", "scatter" or "mixed".
    curriculum : str
        Mask ratio 0.80, 0.85, 0.90: "ladder" (by validation loss), "schedule" (over epochs) or "none" (0.80).
    epochs : int
        Passes over the training windows.
    batch_size : int
        Windows a step, over all devices.
    lr : float
        Peak learning rate of AdamW.
    patience : int
        Epochs without a better validation loss before stopping early.
    recipe : str
        "published", or "small-data" for less than some hundred thousand windows: the bridge
        starts aligned in time, and joint time stretch and polarity flips set in once it predicts.
    keep : str
        Which weights to keep: "best" (lowest validation loss) or "last". With few validation subjects, whose ECG can be
        mispredicted while the PPG embedding still gets better, the last may serve better.
    seed : int
        Seed of everything random.
    devices : int
        GPUs, or CPU processes, that share each batch.
    resume : bool
        Go on from the last checkpoint in `out`.

    Returns
    -------
    dict
        Best validation loss and its ratio to the variance of the ECG, epochs, windows seen, windows per second, device,
        loss history, "picture", "encoder" and "out".

    Raises
    ------
    UserError
        If the store has no ECG or no validation windows, a setting is unknown, or there is nothing to resume.
    """
    for name, value, known in (
        ("method", method, OBJECTIVES),
        ("size", size, SIZES),
        ("mask", mask, SHAPES),
        ("curriculum", curriculum, CURRICULA),
        ("recipe", recipe, RECIPES),
        ("keep", keep, ("best", "last")),
    ):
        if value not in known:
            raise UserError(f"unknown {name} '{value}'; expected one of {', '.join(known)}")
    if min(epochs, batch_size, devices) < 1:
        raise UserError("epochs, batch_size and devices must be at least 1")
    out = Path(out)
    settings = {
        "data": str(data), "method": method, "size": size, "mask": mask, "curriculum": curriculum, "epochs": epochs,
        "batch_size": batch_size, "lr": lr, "patience": patience, "recipe": recipe, "keep": keep,
        "seed": seed,
    }  # fmt: skip
    store = WindowStore(data)
    L.seed_everything(seed, verbose=False)
    objective = OBJECTIVES[method](size=size, mask=mask, curriculum=curriculum, n_epochs=epochs)
    if RECIPES[recipe].aligned:
        objective.model.align()
    train = TrainingBatches(store.windows("train"), batch_size, epochs, seed, RECIPES[recipe], local_rank(), devices)
    val = ValidationBatches(store.windows("val"), 256)
    module = Pretraining(objective, len(train) * epochs, lr, seed, val.variance)
    result = fit(module, train, val, out, settings, keep, devices, [ReconstructionPicture(out)], resume)
    result |= {
        "method": method,
        "variance": val.variance,
        "val_ratio": result["val_loss"] / val.variance,
        "picture": str(out / "reconstruction.png"),
        "encoder": str(out / "encoder.safetensors"),
        "out": str(out),
    }
    if local_rank() == 0:
        keys = ("method", "val_ratio", "windows_seen", "seconds", "device", "settings")
        provenance = {key: result[key] for key in keys}
        save_encoder(objective.encoder, result["encoder"], provenance | {"splits": store.splits})
        with atomic_file(out / "model.safetensors") as temporary:
            temporary.write_bytes(safetensors.torch.save(objective.model.state_dict()))
        draw_reconstruction(objective.model, *sample(val), out / "reconstruction.png")
        write_json(out / "metrics.json", result)
    return result
