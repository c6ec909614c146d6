"""`xmae distill`: a student small enough for a watch or a phone learns the teacher's embedding from
unlabelled PPG.
"""

from pathlib import Path

import lightning as L

from xmae.data.store.store import WindowStore
from xmae.distill.beats import BEATS, beat_student, centre, timing_of, with_splits_of
from xmae.distill.losses import LOSSES
from xmae.distill.objective import Distillation, TaughtCrops, TaughtWindows
from xmae.errors import UserError, require_at_least, require_choice
from xmae.files import write_json
from xmae.models.checkpoint import load_encoder, save_encoder
from xmae.models.student import TIERS, McuStudent
from xmae.ownership import check_output
from xmae.training.device import default_precision
from xmae.training.fit import check_start, fit, space_for
from xmae.training.loggers import check_loggers
from xmae.training.module import Pretraining

STUDENTS = (*TIERS, *BEATS)
CROPS = 20_000  # the default budget: 600,000 windows
EPOCHS = 30
TOKEN_WEIGHT = 0.5


def distill(
    teacher: str,
    data: str,
    out: str = "runs/distill",
    tier: str = "mcu",
    loss: str = "mse",
    crops: int = CROPS,
    epochs: int = EPOCHS,
    batch_size: int = 128,
    lr: float = 3e-3,
    token_weight: float = TOKEN_WEIGHT,
    rate_weight: float = 1.0,
    patience: int = 10,
    init: str | None = None,
    seed: int = 77,
    logger: str | None = None,
    resume: bool = False,
) -> dict:
    """Distil a teacher's PPG encoder into a conv-only student on the training subjects of a store.

    Parameters
    ----------
    teacher : str
        Encoder to learn from: a name ("base") or a safetensors file.
    data : str
        Store written by `xmae prepare`; its labels are not used.
    out : str
        Run folder: student.safetensors, metrics.json and checkpoints.
    tier : str
        Size of the student: "mcu-s" (64 KiB of int8 weights, 1 M multiply-accumulates for a
        window), "mcu" (192 KiB, 4 M) or "app" (phones: 1 M parameters, 25 M). Or "beats-mcu-s",
        "beats-mcu" or "beats-app": a shipped student that reads beats. Its timing stays as it is, a
        new embedding is learnt.
    loss : str
        Loss of the embedding: "mse" (squared error, dimensions standardised), "cosine", or
        "relational" (distances and angles among the embeddings of a batch; their place is then the
        student's own).
    crops : int
        Random 10 s crops of PPG that the teacher answers once.
    epochs : int
        Passes over the crops.
    batch_size : int
        Crops per step.
    lr : float
        Peak learning rate of AdamW.
    token_weight : float
        Weight of the loss on the teacher's tokens beside that on its embedding; 0 leaves them out,
        and so does a student that reads beats.
    rate_weight : float
        Weight of the heart rate, counted in the ECG of the store where it has one; 0 leaves it out,
        and so does a student that reads beats.
    patience : int
        Epochs without better agreement on the validation subjects before stopping early.
    init : str
        Student of the same tier to begin from, in the place of random weights: a name
        ("student-mcu") or a safetensors file.
    seed : int
        Seed of everything random.
    logger : str
        Also write curves to these, separated by commas: csv, tensorboard, wandb, mlflow. Default:
        none; metrics.json has the history.
    resume : bool
        Go on from the last checkpoint in `out`.

    Returns
    -------
    dict
        `cosine`: mean cosine of the centred embeddings of student and teacher on the validation
        subjects (`distances` with the relational loss: correlation of the distances of all pairs);
        epochs, crops seen, device, history, "student" and "out".

    Raises
    ------
    UserError
        If teacher or store cannot be read, tier or loss is unknown, a count is below 1, or there is
        nothing to resume.
    """
    require_choice("tier", tier, STUDENTS)
    require_choice("loss", loss, LOSSES)
    require_at_least(1, crops=crops)
    check_loggers(logger)
    if tier in BEATS:  # its features stay, and its rate is read off its beats
        token_weight = rate_weight = 0.0
    out, store = Path(out), WindowStore(data)
    settings = {
        "teacher": str(teacher), "data": str(data), "store_sha256": store.contents, "tier": tier,
        "loss": loss, "crops": crops, "epochs": epochs, "batch_size": batch_size, "lr": lr,
        "token_weight": token_weight, "rate_weight": rate_weight, "patience": patience,
        "seed": seed, "precision": default_precision(), "init": None if init is None else str(init),
    }  # fmt: skip
    last = check_start(out, settings, resume)  # before the teacher answers, which takes minutes
    encoder = load_encoder(teacher)
    check_output(out, least_space=space_for(untrained(tier, encoder.embed_dim)))
    before = None if init is None else begun_from(init, encoder.embed_dim, tier)
    train, val = store.windows("train"), store.windows("val")
    train, val = (
        TaughtCrops(encoder, train, crops, batch_size, seed),
        TaughtWindows(encoder, val, seed),
    )
    return learn(encoder, store.splits, train, val, out, settings, last, logger, before)


def begun_from(name, embed_dim, tier):
    """Return the student to begin from; raises a `UserError` if its tier or width differs."""
    student, wanted = load_encoder(name), {"embed_dim": embed_dim, "tier": tier}
    if not isinstance(student, McuStudent) or student.config != wanted:
        raise UserError(f"{name}: is no student of the tier {tier} with {embed_dim} outputs")
    return student


def untrained(tier, embed_dim):
    """Make a student of a tier with random weights; one that reads beats gets the timing of a
    shipped student.
    """
    return beat_student(tier, embed_dim) if tier in BEATS else McuStudent(embed_dim, tier)


def learn(teacher, splits, train, val, out, settings, last=None, logger=None, before=None):
    """Train one student on embeddings that its teacher computed.

    Parameters
    ----------
    teacher : nn.Module
        Encoder in evaluation mode.
    splits : dict
        Split of every subject of the store, for the student's provenance.
    train, val : TaughtCrops, TaughtWindows
    out : Path
        Run folder.
    settings : dict
        Those of `distill`.
    last : str, optional
        Checkpoint to go on from.
    logger : str, optional
        Logger as in `distill`.
    before : McuStudent, optional
        Student whose weights to begin with.

    Returns
    -------
    dict
        As `distill`.
    """
    L.seed_everything(settings["seed"], verbose=False)
    tier, more = settings["tier"], {}
    student = untrained(tier, teacher.embed_dim)
    if tier in BEATS:
        more = {"timing": tier, "teacher_embedding": centre(train, val)}
        more |= {"begun_from": load_encoder(tier).provenance}
        splits = with_splits_of(tier, splits)
    objective = Distillation(
        student, train, settings["token_weight"], settings["rate_weight"], settings["loss"],
        kept=timing_of(student),
    )  # fmt: skip
    if before is not None:
        student.load_state_dict(before.state_dict())
        more |= {"begun_from": before.provenance}
    module = Pretraining(
        objective, len(train) * settings["epochs"], settings["lr"], settings["seed"]
    )
    result = fit(module, train, val, out, settings, last, logger=logger)
    result |= {objective.agreement: 1 - result["val_loss"]}
    return keep_student(
        student,
        result,
        out,
        objective.agreement,
        method="distilled",
        teacher=teacher.provenance,
        splits=splits,
        **more,
    )


def keep_student(student, result, out, agreement, **provenance):
    """Write a trained student with its provenance, and metrics.json; return the result with both
    paths.

    `agreement` names the entry of `result` that says how close it came to its teacher.
    """
    result |= {"student": str(out / "student.safetensors"), "out": str(out)}
    measured = {
        key: result[key] for key in (agreement, "windows_seen", "seconds", "device", "settings")
    }
    save_encoder(student, result["student"], measured | provenance)
    write_json(out / "metrics.json", result)
    return result
