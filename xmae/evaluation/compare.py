"""`xmae compare`: pretrain every method on the same windows, probe all on every task, one table
like the paper's.
"""

import hashlib
from itertools import chain
from pathlib import Path

import numpy as np

from xmae.data.recording.sizes import read_arrays
from xmae.data.store.store import WindowStore
from xmae.errors import UserError, refusing, require_at_least, require_choices
from xmae.evaluation.evaluate import (
    make_trials,
    predict,
    predict_baselines,
    refuse_scored,
    summarise,
)
from xmae.files import atomic_file, read_json, sha256, write_json
from xmae.models import load_encoder
from xmae.tables import write_tables
from xmae.training.device import default_precision, device_name
from xmae.training.pretrain import pretrain

METHODS = ("xmae", "mae", "lsm", "simclr", "papagei-p", "apple", "apple-m", "dino", "msn")
TRAINED = (  # what the table says of a training
    "windows_seen", "epochs", "windows_per_s", "seconds", "device", "precision", "settings",
)  # fmt: skip


def compare(
    data: str,
    methods: str = "all",
    budget: int = 1_000_000,
    others: str = "ppg_bp",
    tasks: str = "all",
    labels: str | None = None,
    size: str = "base",
    batch_size: int = 256,
    recipe: str = "small-data",
    finetune: bool = False,
    folds: int | None = None,
    max_minutes: float | None = None,
    out: str = "runs/compare",
    seed: int = 77,
) -> dict:
    """Pretrain methods on the training subjects of a store, with the same number of windows each,
    and evaluate them.

    Can be stopped at any time and called again: a method that is done is not repeated, a half-done
    one goes on from its last checkpoint. Each method has its own published learning rate and
    settings; windows seen, batch size, size, recipe, seed and splits are the same, and all keep
    their last weights.

    Parameters
    ----------
    data : str
        Store written by `xmae prepare`, with ECG and a test split.
    methods : str
        Separated by commas, or "all" nine; the first (xmae) is the one that the others are tested
        against.
    budget : int
        Windows (10 s) that each method sees, rounded up to whole epochs of the store. All nine at
        size base take about 0.15 s of one CPU core for each: 20,000 take 50 minutes, the default 42
        hours.
    others : str
        Further data to evaluate on (stores, or "ppg_bp"), separated by commas; "" for none.
    tasks : str
        As in `xmae evaluate`: names separated by commas, or "all" that have labels.
    labels : str or None
        Label table of the store; see `xmae evaluate`.
    size : str
        "base" (as published) or "small".
    batch_size : int
        Windows per step.
    recipe : str
        Augmentations of `xmae pretrain`: "published" or "small-data".
    finetune : bool
        Also fine-tune the encoders on each task, into finetune/.
    folds : int or None
        Folds by subject; default 5, or as many as there are subjects of the rarer class.
    max_minutes : float or None
        Stop a method after this many minutes, with a checkpoint; call again to go on.
    out : str
        Folder: a run folder per method, table.md, table.csv, table.html and metrics.json.
    seed : int
        Seed of everything random.

    Returns
    -------
    dict
        As `xmae evaluate`, with `training` (windows seen, seconds, device per method), `finished`
        and "out": the Markdown table; if time ran out, just `finished` false, `stopped_in` (the
        method) and "out", the folder.

    Raises
    ------
    UserError
        If a method is unknown, the store has no test split, its test subjects were trained on,
        settings differ from those of what is in `out`, or methods saw different numbers of windows.
    """
    names = known_methods(methods)
    require_at_least(1, budget=budget, batch_size=batch_size)
    out, store = Path(out), WindowStore(data)
    refuse_without_splits(store, data)
    protocol = {
        "budget": budget, "size": size, "batch_size": batch_size, "recipe": recipe, "seed": seed,
        "store_sha256": store.contents, "precision": default_precision(),
    }  # fmt: skip
    check_same(out / "protocol.json", protocol)
    stores = [data, *filter(None, others.split(","))]
    trials, reasons = make_trials(stores, tasks, labels, "test", folds, seed)
    epochs = epochs_of(store, budget, batch_size)
    training, predictions, tuned = {}, {}, {}
    for name in names:
        run = train_method(
            name, data, out / name, epochs, size, batch_size, recipe, seed, max_minutes
        )
        if not run["finished"]:
            return {"finished": False, "stopped_in": name, "out": str(out)}
        training[name] = {key: run[key] for key in TRAINED}
        encoder = out / name / "encoder.safetensors"
        refuse_scored(load_encoder(encoder), trials)
        predictions[name] = cached(out / name, "probe", encoder, trials, seed)
        if finetune:
            tuned[name] = cached(out / name, "finetune", encoder, trials, seed)
    refuse_unequal(training, out)
    known = {"protocol": protocol, "training": training, "finished": True}
    known |= {"evaluated_on": device_name()}
    if finetune:
        record(summarise(trials, reasons, tuned, seed).as_json() | known, out / "finetune")
    first = load_encoder(out / names[0] / "encoder.safetensors")
    predictions |= predict_baselines(first, trials, seed=seed)
    return record(summarise(trials, reasons, predictions, seed).as_json() | known, out)


def known_methods(methods):
    """Return the named methods, or all; raises a `UserError` if one is unknown or comes twice."""
    names = list(METHODS) if methods == "all" else require_choices("method", methods, METHODS)
    if len(set(names)) < len(names):
        raise UserError(f"a method comes twice: {methods}")
    return names


def refuse_without_splits(store, data):
    """Raise a `UserError` if a store lacks one of the three splits."""
    if absent := {"train", "val", "test"} - set(store.splits.values()):
        raise UserError(
            f"{data}: has no subjects in the split {', '.join(sorted(absent))}; compare needs all "
            "three"
        )


def refuse_unequal(training, out):
    """Raise a `UserError` if methods saw different numbers of windows."""
    if len({run["windows_seen"] for run in training.values()}) > 1:
        seen = ", ".join(f"{name} {run['windows_seen']}" for name, run in training.items())
        raise UserError(f"{out}: methods saw different numbers of windows: {seen}")


def record(result, out):
    """Write metrics.json and the tables; return the result with the path of the Markdown table."""
    write_json(out / "metrics.json", result)
    return result | {"out": write_tables(result, out)}


def epochs_of(store, budget, batch_size):
    """Return the number of epochs of the training split in which at least `budget` windows are
    seen.
    """
    n_windows = sum(
        shard.windows for shard in store.entries if store.splits[shard.subject] == "train"
    )
    return -(-budget // (max(2, n_windows // batch_size) * batch_size))


def check_same(path, settings):
    """Write the settings of a comparison; raises a `UserError` if an earlier one in the same folder
    had others.
    """
    if path.is_file():
        before = read_json(path)
        # older: fewer
        if changed := [key for key in settings if key in before and before[key] != settings[key]]:
            raise UserError(
                f"{path.parent}: was begun with other settings ({', '.join(changed)}); name "
                "another folder"
            )
    else:
        write_json(path, settings)


def train_method(name, data, folder, epochs, size, batch_size, recipe, seed, max_minutes):
    """Train a method, resume it, or skip it if it is done; return the content of its
    `metrics.json`.
    """
    if (folder / "metrics.json").is_file() and (folder / "encoder.safetensors").is_file():
        return read_json(folder / "metrics.json") | {"finished": True}
    return pretrain(
        data, str(folder), name, size, epochs=epochs, batch_size=batch_size, patience=epochs,
        recipe=recipe, keep="last", seed=seed, max_minutes=max_minutes,
        resume=(folder / "checkpoints" / "last.ckpt").is_file(),
    )  # fmt: skip


def cached(folder, protocol, encoder, trials, seed):
    """Return out-of-fold predictions of an encoder file, from `folder` if they belong to this
    encoder and these folds.

    Parameters
    ----------
    folder : Path
        Run folder of the method.
    protocol : str
        "probe" or "finetune".
    encoder : Path
    trials : list of Trial
    seed : int
        Seed of fine-tuning.
    """
    path = folder / f"{protocol}.npz"
    digest = sha256(encoder)
    known = kept_predictions(path) if path.is_file() else {}
    if str(known.get("encoder")) != digest:
        known = {}
    found, missing = {}, []
    prints = {trial.name: fingerprint(trial, seed) for trial in trials}
    for trial in trials:
        same = str(known.get(f"{trial.name}/print")) == prints[trial.name]
        found[trial.name] = known[trial.name] if same else None
        missing += [] if same else [trial]
    if missing:
        found |= predict(load_encoder(encoder), missing, protocol == "finetune", seed, folder.name)
        kept = {trial.name: found[trial.name] for trial in trials}
        kept |= {f"{name}/print": digits for name, digits in prints.items()}
        with atomic_file(path) as temporary:
            np.savez_compressed(temporary, encoder=digest, **kept)
    return found


def kept_predictions(path):
    """Read the arrays of an earlier run, by name.

    Raises
    ------
    UserError
        If the file is damaged.
    """
    with refusing(path, "kept predictions (remove it, and they are made anew)"):
        return read_arrays(path, lambda name: True)


def fingerprint(trial, seed):
    """Return a digest of all that predictions depend on besides the encoder: signals, labels,
    folds, seed.
    """
    content = hashlib.sha256(str(seed).encode())
    for part in (
        trial.dataset.ppg,
        trial.truth,
        *chain.from_iterable(trial.folds),
    ):
        content.update(np.ascontiguousarray(part).tobytes())
    return content.hexdigest()
