"""`xmae distill`: a student small enough for a microcontroller learns the teacher's embedding from unlabelled PPG."""

from pathlib import Path

import lightning as L

from xmae.data.store import WindowStore
from xmae.distill.objective import Distillation, TaughtCrops, TaughtWindows
from xmae.errors import UserError
from xmae.files import write_json
from xmae.models.checkpoint import load_encoder, save_encoder
from xmae.models.student import McuStudent
from xmae.training.fit import fit
from xmae.training.module import Pretraining


def distill(
    teacher: str,
    data: str,
    out: str = "runs/distill",
    crops: int = 20000,
    epochs: int = 30,
    batch_size: int = 128,
    lr: float = 3e-3,
    token_weight: float = 0.5,
    rate_weight: float = 1.0,
    patience: int = 10,
    seed: int = 77,
    resume: bool = False,
) -> dict:
    """Distil a teacher's PPG encoder into the conv-only `mcu` student on the training subjects of a store.

    Parameters
    ----------
    teacher : str
        Encoder to learn from: a name ("base") or a safetensors file.
    data : str
        Store written by `xmae prepare`; its labels are not used.
    out : str
        Run folder: student.safetensors, metrics.json, logs and checkpoints.
    crops : int
        Random 10 s crops of PPG that the teacher answers once.
    epochs : int
        Passes over the crops.
    batch_size : int
        Crops a step.
    lr : float
        Peak learning rate of AdamW.
    token_weight : float
        Weight of the loss on the teacher's tokens beside that on its embedding; 0 leaves them out.
    rate_weight : float
        Weight of the heart rate, counted in the ECG of the store where it has one; 0 leaves it out.
    patience : int
        Epochs without a better validation cosine before stopping early.
    seed : int
        Seed of everything random.
    resume : bool
        Go on from the last checkpoint in `out`.

    Returns
    -------
    dict
        `cosine`: mean cosine of the centred embeddings of student and teacher on the validation subjects; epochs, crops
        seen, device, history, "student" and "out".

    Raises
    ------
    UserError
        If teacher or store cannot be read, a count is below 1, or there is nothing to resume.
    """
    if min(crops, epochs, batch_size) < 1:
        raise UserError("crops, epochs and batch_size must be at least 1")
    out = Path(out)
    settings = {
        "teacher": str(teacher), "data": str(data), "crops": crops, "epochs": epochs, "batch_size": batch_size,
        "lr": lr, "token_weight": token_weight, "rate_weight": rate_weight, "patience": patience, "seed": seed,
    }  # fmt: skip
    encoder, store = load_encoder(teacher), WindowStore(data)
    train, val = store.windows("train"), store.windows("val")
    L.seed_everything(seed, verbose=False)
    train, val = TaughtCrops(encoder, train, crops, batch_size, seed), TaughtWindows(encoder, val, seed)
    objective = Distillation(McuStudent(encoder.embed_dim), train, token_weight, rate_weight)
    module = Pretraining(objective, len(train) * epochs, lr, seed)
    result = fit(module, train, val, out, settings, resume=resume)
    result |= {
        "cosine": 1 - result["val_loss"],
        "student": str(out / "student.safetensors"),
        "out": str(out),
    }
    provenance = {key: result[key] for key in ("cosine", "windows_seen", "seconds", "device", "settings")}
    provenance |= {"method": "distilled", "teacher": encoder.provenance, "splits": store.splits}
    save_encoder(objective.student, result["student"], provenance)
    write_json(out / "metrics.json", result)
    return result
