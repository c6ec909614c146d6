"""What the parts of the distillation's loss are worth: the `mcu` student, the same small budget for
each variant.

    python -m xmae.benchmarks.studies.distill_losses STORE --out benchmarks/results

The teacher answers once, all variants start from the same weights and see the same crops in the
same order. Variants that have left their result in the folder of the runs are not repeated, unless
settings, teacher, store or tools have changed since, and one that was interrupted goes on. The
store wants ECG, and a val and a test split. Training and the choice of each variant's epoch see no
test subject; which variant to take is read off the validation columns.
"""

import copy
from itertools import product
from pathlib import Path

import numpy as np
import torch

from xmae.benchmarks.harness.saved_results import digest, made_of
from xmae.benchmarks.studies.runner import run_study
from xmae.data.store.store import WindowStore
from xmae.distill.distill import learn
from xmae.distill.losses import same_cosine, same_distances
from xmae.distill.objective import TaughtCrops, TaughtWindows
from xmae.evaluation.heads.embedding import embed_windows
from xmae.evaluation.probe import probe_embeddings, untrained_like
from xmae.models.checkpoint import load_encoder
from xmae.tables import markdown_table
from xmae.training.device import default_precision, device_name
from xmae.training.fit import check_start

# loss of the embedding, weights of tokens and heart rate; the first is what `xmae distill` does
VARIANTS = {
    "mse + tokens + heart rate": ("mse", 0.5, 1.0),
    "mse": ("mse", 0.0, 0.0),
    "cosine": ("cosine", 0.0, 0.0),
    "relational": ("relational", 0.0, 0.0),
    "mse + tokens": ("mse", 0.5, 0.0),
    "mse + heart rate": ("mse", 0.0, 1.0),
    "relational + tokens + heart rate": ("relational", 0.5, 1.0),
}
COLUMNS = (
    "loss", "cosine, val", "cosine, test", "distances, val", "distances, test",
    "heart rate, val", "heart rate, test", "minus the first, test",
)  # fmt: skip
HEAD = """# What the parts of the distillation's loss are worth

    xmae prepare xmae/data/bidmc/*.npz --split xmae/data/bidmc/splits.csv --min-quality -1 \\
        --out store

Seed {seed}, {device}. Student `mcu`, teacher `{teacher}`; {crops:,} crops that the teacher
answered once, {epochs} epochs of {steps} steps of {batch_size}, peak learning rate {lr:g}: a
fraction of what the shipped students had. Same first weights, same crops, same order.

Embeddings are standardised by the teacher's mean and deviation over the crops and their mean over
the dimensions is taken off (where heart rate is learnt, it lives there). *Cosine*: mean cosine to
the teacher's, window by window. *Distances*: correlation of the distances of all pairs of windows
in student and teacher, which does not ask where and how large. *Heart rate*: mean absolute error,
bpm, of the frozen embedding's linear probe, with the 95 % interval by resampling subjects; *minus
the first* is the paired difference to the first row. Val: {n_val} subjects, on which each variant's
epoch was chosen; test: {n_test} subjects.

"""


def distill_losses(
    store: str,
    /,
    *,
    runs: str = "runs/distill_losses",
    teacher: str = "base",
    crops: int = 8192,
    epochs: int = 8,
    seed: int = 77,
) -> str:
    """Train a student by each variant of the loss, unless it is already there, and compare them.

    Parameters
    ----------
    store : str
        Store of windows with all splits.
    runs : str
        Folder of the trainings.
    teacher : str
        Shipped encoder or encoder file.
    crops : int
        Crops that the teacher answers once.
    epochs : int
        Epochs of each training.
    seed : int
        Seed of everything random.
    """
    opened, encoder, runs = WindowStore(store), load_encoder(teacher), Path(runs)
    windows = opened.windows()
    common = {
        "teacher": teacher,
        "data": Path(store).name,
        "tier": "mcu",
        "crops": crops,
        "epochs": epochs,
        "batch_size": 128,
        "lr": 3e-3,
        "patience": epochs,
        "seed": seed,
        "precision": default_precision(),
    }
    fitted = windows.select(windows.split == "train")
    train = TaughtCrops(encoder, fitted, crops, common["batch_size"], seed)
    val = TaughtWindows(encoder, windows.select(windows.split == "val"), seed)
    embeddings = {}
    for name, student in students(opened, encoder, train, val, common, runs):
        embeddings[name] = embed_windows(student, windows)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        embeddings["untrained student"] = embed_windows(untrained_like(student).eval(), windows)
    embeddings["teacher"] = embed_windows(encoder, windows)
    splits = {name: windows.split == name for name in ("val", "test")}
    subjects = {name: len(np.unique(windows.subject[rows])) for name, rows in splits.items()}
    head = HEAD.format(
        **common,
        device=device_name(),
        steps=len(train),
        n_val=subjects["val"],
        n_test=subjects["test"],
    )
    rows = rows_of(embeddings, windows, splits, train)
    return head + markdown_table(COLUMNS, rows, right=False) + "\n"


def students(opened, encoder, train, val, common, runs):
    """Yield the name and student of each variant, trained unless it is already there."""
    of = made_of(encoder, opened, ())
    for name, (loss, token_weight, rate_weight) in VARIANTS.items():
        settings = common | {"loss": loss, "token_weight": token_weight, "rate_weight": rate_weight}
        folder = runs / f"{name.replace(' + ', '-').replace(' ', '_')}-{digest([settings, of])}"
        if not (folder / "metrics.json").is_file():
            resume = (folder / "checkpoints" / "last.ckpt").is_file()
            last = check_start(folder, settings, resume)
            learn(encoder, opened.splits, copy.copy(train), val, folder, settings, last)
        yield name, load_encoder(folder / "student.safetensors")


def rows_of(embeddings, windows, splits, train):
    """Return the cells of each embedding: its similarity to the teacher's, and its heart-rate
    probe.
    """
    mean, std = train.embedding.mean(0), train.embedding.std(0).clamp(min=1e-6)
    fit, rates = windows.split == "train", {}
    for split, rows in splits.items():
        probed = probe_embeddings(embeddings, windows, ["hr"], rows, fit)
        rates[split] = probed["tasks"]["hr"].get("encoders", {})
    found = []
    for name, embedding in embeddings.items():
        cells = [name]
        for same, rows in product((same_cosine, same_distances), splits.values()):
            parts = (standard(x[rows], mean, std) for x in (embedding, embeddings["teacher"]))
            cells.append(f"{same(*parts).item():.3f}")
        for split, key in (("val", "value"), ("test", "value"), ("test", "minus_first")):
            entry = rates[split].get(name)
            cells.append(number(entry, key) if entry else "too few subjects")
        found.append(cells)
    return found


def standard(embedding, mean, std):
    """Return the teacher's part of embeddings (n, E): standardised, less its mean over the
    dimensions.
    """
    x = (torch.from_numpy(embedding) - mean) / std
    return x - x.mean(1, keepdim=True)


def number(entry, key="value", digits=2):
    """Return a probe's value, or its difference to the first embedding's ("minus_first"), with its
    95 % interval.
    """
    interval, sign = (
        (entry["minus_first_interval"], "+") if key == "minus_first" else (entry["interval"], "")
    )
    span = f" ({interval[0]:.{digits}f} to {interval[1]:.{digits}f})" if interval else ""
    return f"{entry[key]:{sign}.{digits}f}{span}"


if __name__ == "__main__":
    run_study(distill_losses, "distill_losses.md")
