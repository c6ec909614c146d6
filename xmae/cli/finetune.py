"""`xmae finetune`: an encoder is trained further, on labels or on more windows, and stays one that
distils and exports.
"""

from inspect import signature
from pathlib import Path

import numpy as np
import torch

from xmae.data.store.store import WindowStore
from xmae.errors import UserError, require_at_least
from xmae.evaluation.heads.embedding import embed_windows
from xmae.evaluation.heads.finetune import finetune as train_further
from xmae.evaluation.heads.heads import HEADS, head_of, written
from xmae.evaluation.heads.linear import balanced_log_loss, fit_linear
from xmae.evaluation.protocol.datasets import load_dataset
from xmae.evaluation.protocol.tasks import declared_tasks
from xmae.files import write_json
from xmae.models.beat_student import BeatStudent
from xmae.models.checkpoint import SHIPPED, load_encoder, save_encoder
from xmae.models.student import McuStudent

FEWEST = 2  # subjects with labels to fit on
LESS_LR = 3  # times lower than from random weights


def finetune(
    model: str,
    data: str,
    out: str = "runs/finetune",
    task: str | None = None,
    labels: str | None = None,
    epochs: int = 5,
    batch_size: int | None = None,
    lr: float | None = None,
    teacher: str | None = None,
    seed: int = 77,
) -> dict:
    """Train an encoder further on the training subjects of a store.

    With a task, encoder and head learn its labels together. Without one, the encoder goes on as it
    was made: by its method of pretraining, or as a student, from its teacher.

    Parameters
    ----------
    model : str
        Encoder: a name ("base", "student-mcu"), a safetensors file, or the folder of a training.
    data : str
        Store written by `xmae prepare`.
    out : str
        Run folder: encoder.safetensors (or student.safetensors), metrics.json, and with a task
        heads.json, which `xmae embed` and `xmae export` read.
    task : str or None
        What to learn: "hr" or another name of docs/tasks.md, or a column of your own with its kind,
        as "stress:binary" or "load:number:W". Default: nothing but more windows.
    labels : str or None
        Label table (.csv or .parquet) that has the task, where the store does not.
    epochs : int
        Passes over the training windows.
    batch_size : int or None
        Windows per step; default 32 with a task, else what the encoder was made with.
    lr : float or None
        Peak learning rate; default 1e-4 with a task, else a third of that from random weights.
    teacher : str or None
        Encoder that a student without a task learns from. Default: the shipped one that
        it learnt from before.
    seed : int
        Seed of everything random.

    Returns
    -------
    dict
        With a task, over the windows of the val split: `before` (linear probe of the encoder as it
        was), `after` and `constant`, in `units` of `metric`; else as `xmae pretrain` or
        `xmae distill`. "encoder" and "out".

    Raises
    ------
    UserError
        If model, store or labels cannot be read, too few subjects have labels, the encoder's
        method or teacher is not known, or the encoder cannot be trained.
    """
    require_at_least(1, epochs=epochs)
    encoder = load_encoder(model)
    if isinstance(encoder, BeatStudent):
        raise UserError(
            f"{model} reads beats, which training on something else would spoil; finetune"
            " student-mcu, or pretrain --method timing"
        )
    if task is None:
        return on_windows(encoder, model, data, out, epochs, batch_size, lr, teacher, seed)
    if not any(True for _ in encoder.parameters()):
        raise UserError(f"{model}: a program without weights that can be trained")
    return on_labels(
        encoder, model, data, out, task, labels, epochs, batch_size or 32, lr or 1e-4, seed
    )


def on_windows(encoder, model, data, out, epochs, batch_size, lr, teacher, seed):
    """Continue the training by which the encoder was made; the result of `pretrain` or
    `distill`.
    """
    from xmae.distill.distill import distill
    from xmae.objectives import OBJECTIVES
    from xmae.training.pretrain import pretrain

    origin = encoder.provenance if isinstance(encoder.provenance, dict) else {}
    settings = origin.get("settings", {})
    if isinstance(encoder, McuStudent):
        teacher = teacher or settings.get("teacher")
        if not teacher or not (teacher in SHIPPED or Path(teacher).exists()):
            raise UserError(
                f"{model}: which teacher is it to learn from? Give --teacher, as in base"
            )
        given = {"tier": encoder.config["tier"], "lr": lr or 3e-3 / LESS_LR}
        given |= {"batch_size": batch_size} if batch_size else {}
        return distill(teacher, data, out, epochs=epochs, seed=seed, init=model, **given)
    method = OBJECTIVES.get(origin.get("method"))
    if method is None:
        raise UserError(
            f"{model}: was made by no method of pretraining that is known here; give --task, to"
            " learn labels"
        )
    own = set(signature(method).parameters) - {"n_epochs", "size", "mask", "curriculum"}
    named = {key: settings[key] for key in ("size", "mask", "curriculum") if key in settings}
    return pretrain(
        data,
        out,
        method.name,
        epochs=epochs,
        batch_size=batch_size,
        lr=lr or method.defaults.lr_at(batch_size or method.defaults.batch_size) / LESS_LR,
        options={key: settings[key] for key in own if key in settings},
        init=model,
        seed=seed,
        **named,
    )


def on_labels(encoder, model, data, out, task, labels, epochs, batch_size, lr, seed):
    """Train encoder and head on the labels of a task, and score both on val."""
    (name,), known = declared_tasks([task])
    task, dataset = known[name], load_dataset(data, labels, [name], known)
    truth = task.target(dataset)
    fitted, judged = (
        np.flatnonzero(np.isfinite(truth) & (dataset.split == split)) for split in ("train", "val")
    )
    check_enough(task, truth, dataset.subject, fitted, judged)
    embedding = embed_windows(encoder, dataset.ppg[np.concatenate([fitted, judged])], progress=True)
    probe = fit_linear(embedding[: len(fitted)], truth[fitted], dataset.subject[fitted], task.kind)
    torch.manual_seed(seed)
    network = train_further(
        encoder, probe, dataset.ppg[fitted], truth[fitted], task.kind, epochs, seed, batch_size, lr,
        progress=True,
    )  # fmt: skip
    said = embed_windows(network, dataset.ppg[judged])[:, 0].astype(np.float64)
    constant = truth[fitted].mean() if task.kind == "regression" else 0.0
    errors = {
        name: error_of(task.kind, truth[judged], value)
        for name, value in {
            "before": probe.predict(embedding[len(fitted) :]),
            "after": said,
            "constant": np.full(len(judged), constant),
        }.items()
    }
    settings = {"model": str(model), "data": str(data), "labels": labels, "task": task.name}
    settings |= {"epochs": epochs, "batch_size": batch_size, "lr": lr, "seed": seed}
    result = errors | {
        "task": task.name,
        "label": task.label,
        "metric": "MAE" if task.kind == "regression" else "log loss",
        "units": task.units,
        "windows": len(fitted),
        "subjects": len(set(dataset.subject[fitted])),
        "val_windows": len(judged),
        "val_subjects": len(set(dataset.subject[judged])),
        "settings": settings,
    }
    return keep(network, encoder, task, result, WindowStore(data).splits, Path(out))


def check_enough(task, truth, subject, fitted, judged):
    """Raise a `UserError` before any work if too few subjects have labels."""
    who = {name: len(set(subject[rows])) for name, rows in (("train", fitted), ("val", judged))}
    if who["train"] < FEWEST or who["val"] < 1:
        raise UserError(
            f"{task.name}: {who['train']} subjects of the train split and {who['val']} of val have"
            f" labels; {FEWEST} and 1 are needed: give --labels, or prepare with another --split"
        )
    if task.kind == "binary" and min(np.ptp(truth[fitted]), np.ptp(truth[judged])) == 0:
        raise UserError(
            f"{task.name}: only one class among the labels of the train or the val split"
        )


def error_of(kind, truth, said):
    """Return the error of predictions: mean absolute error, or log loss with equal weights of both
    classes.
    """
    error = np.abs(said - truth).mean() if kind == "regression" else balanced_log_loss(truth, said)
    return float(error)


def keep(network, before, task, result, splits, out):
    """Write the trained encoder with its provenance, its head, and metrics.json."""
    trained, linear = network
    path = out / "encoder.safetensors"
    origin = {
        "method": "finetuned",
        "settings": result["settings"],
        "splits": splits,
        "begun_from": before.provenance,
    }
    save_encoder(trained, path, origin)
    skill = 1 - result["after"] / max(result["constant"], 1e-12)
    head = head_of(task, linear.weight.detach()[0], linear.bias.detach()[0], skill)
    write_json(out / HEADS, written({path.stem: {task.name: head}}))
    result |= {"summary": summary_of(result, path), "encoder": str(path), "out": str(out)}
    write_json(out / "metrics.json", result)
    return result


def summary_of(result, path):
    """Summarise what came out, and whether it is good."""
    after, before, constant = (result[name] for name in ("after", "before", "constant"))
    unit = f"{result['metric']} {result['units']}".strip()
    lines = [
        f"{result['label']}: learnt from {result['windows']} windows of"
        f" {result['subjects']} subjects",
        f"{unit} {after:.3g} on {result['val_windows']} windows of {result['val_subjects']} others"
        f" (val); with the encoder as it was {before:.3g}, a constant {constant:.3g}",
    ]
    if after >= constant:
        lines.append("warning: no better than a constant: more subjects, or another task")
    elif after >= before:
        lines.append(
            "warning: training did not help; a linear head on the encoder as it was is better"
        )
    return [*lines, f"it distils and exports: xmae export base --student {path} --data STORE"]
