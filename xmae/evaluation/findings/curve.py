"""`xmae curve`: data efficiency: probes against the share of labels, and of pretraining
subjects.
"""

import os
import shutil
from itertools import chain
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from xmae.data.store.schema import named_files
from xmae.data.store.store import WindowStore
from xmae.errors import UserError, require_at_least, require_choices
from xmae.evaluation.evaluate import make_trials, method_names, refuse_scored
from xmae.evaluation.heads.embedding import embed_windows
from xmae.evaluation.heads.features import ppg_features
from xmae.evaluation.protocol.folds import Trial, probe_trial, score_trial
from xmae.files import atomic_file, atomic_folder, write_json
from xmae.models import load_encoder
from xmae.tables import markdown_table

KINDS = {"labels": "labelled subjects that are fitted, %", "subjects": "pretraining subjects, %"}


def curve(
    models: list[str],
    data: str,
    tasks: str = "hr",
    labels: str | None = None,
    fractions: str = "0.1,0.25,0.5,1",
    repeats: int = 5,
    protocol: str = "test",
    methods: str = "",
    pretrain: str | None = None,
    budget: int = 100_000,
    size: str = "base",
    batch_size: int = 256,
    out: str = "runs/curve",
    seed: int = 77,
) -> dict:
    """Draw learning curves: accuracy of a probe with few labelled subjects, and with few
    pretraining subjects.

    Parameters
    ----------
    models : list of str
        Shipped encoders or encoder files, probed with a share of the labelled subjects.
    data : str
        Store of windows, or "ppg_bp".
    tasks : str
        Separated by commas.
    labels : str or None
        Label table of the data; see `xmae evaluate`.
    fractions : str
        Shares of the subjects, separated by commas.
    repeats : int
        Random draws of subjects for each share below 1.
    protocol : str
        "test": score the subjects of the test split; "all": cross-validate over all.
    methods : str
        Also pretrain these methods (separated by commas) on shares of training subjects.
    pretrain : str or None
        Store whose training subjects these are (default: `data`).
    budget : int
        Windows (10 s) that each of these trainings sees.
    size : str
        "base" or "small": of these trainings.
    batch_size : int
        Windows per step of these trainings.
    out : str
        Folder for metrics.json, curve.md and curve.png, and the trainings, which are not repeated
        if they are there.
    seed : int
        Seed of draws, folds and trainings.

    Returns
    -------
    dict
        `points`: task, model, kind ("labels" or "subjects"), fraction, n_subjects, metric, mean and
        sd over draws (of labels) or folds (of pretraining subjects); "picture"; "out": the Markdown
        table.

    Raises
    ------
    UserError
        If a setting is out of range, an encoder saw a subject to be scored, or trainings would.
    """
    shares = read_fractions(fractions)
    require_at_least(1, repeats=repeats, budget=budget, batch_size=batch_size)
    pretrained = []
    if methods:
        from xmae.evaluation.compare import METHODS, check_same  # which itself evaluates
        from xmae.training.device import default_precision

        pretrained = require_choices("method", methods, METHODS)
    trials, _ = make_trials([data], tasks, labels, protocol, None, seed)
    if methods:
        store = WindowStore(pretrain or data)
        refuse_trained(store, trials)
        known = {"budget": budget, "size": size, "batch_size": batch_size, "seed": seed}
        known |= {"store_sha256": store.contents, "precision": default_precision()}
        check_same(Path(out) / "protocol.json", known)
    points = []
    for name, model in zip(method_names(models), models, strict=True):
        encoder = load_encoder(model)
        refuse_scored(encoder, trials)
        points += label_points(
            name, embed_windows(encoder, trials[0].dataset), trials, shares, repeats, seed
        )
    features = ppg_features(trials[0].dataset.ppg)[0]
    points += label_points("features", features, trials, shares, repeats, seed)
    for method in pretrained:
        points += subject_points(
            method, store, trials, shares, budget, size, batch_size, Path(out), seed
        )
    picture = draw_curves(points, Path(out) / "curve.png")
    result = {"data": data, "models": models, "seed": seed, "points": points, "picture": picture}
    write_json(Path(out) / "metrics.json", result)
    with atomic_file(Path(out) / "curve.md") as temporary:
        temporary.write_text(curve_table(points))
    return result | {"out": str(Path(out) / "curve.md")}


def read_fractions(text):
    """Parse shares from text such as "0.1,0.5,1", ascending."""
    try:
        shares = sorted({float(share) for share in text.split(",")})
    except ValueError:
        shares = []
    if not shares or shares[0] <= 0 or shares[-1] > 1:
        raise UserError(
            f"fractions '{text}': expected shares above 0 and up to 1, such as 0.1,0.5,1"
        )
    return shares


def label_points(name, embedding, trials, shares, repeats, seed):
    """Return the points of one embedding (n, D) for shares of the fitted subjects."""
    points = []
    for trial in trials:
        for share in tqdm(shares, f"{name}, {trial.task.name}", leave=False):
            values, counts = [], []
            for draw in range(repeats if share < 1 else 1):
                rng = np.random.default_rng([seed, draw])
                folds = [
                    (keep_subjects(trial, fitted, share, rng), scored)
                    for fitted, scored in trial.folds
                ]
                fewer = Trial(trial.dataset, trial.task, trial.truth, folds)
                found = score_trial(fewer, probe_trial(fewer, embedding), n_resamples=1)
                values.append(found[trial.task.metric].value)
                counts.append(
                    np.mean([len(np.unique(trial.dataset.subject[fitted])) for fitted, _ in folds])
                )
            points.append(_point(trial, name, "labels", share, float(np.mean(counts)), values))
    return points


def keep_subjects(trial, fitted, share, rng):
    """Return the fitted rows of a random share of their subjects: at least two, with both classes
    of a binary task.
    """
    subjects = rng.permutation(np.unique(trial.dataset.subject[fitted]))
    n_kept = max(2, round(share * len(subjects)))
    for n in range(n_kept, len(subjects) + 1):
        rows = fitted[np.isin(trial.dataset.subject[fitted], subjects[:n])]
        if trial.task.kind == "regression" or np.ptp(trial.truth[rows]) > 0:
            break
    return rows


def refuse_trained(store, trials):
    """Raise a `UserError` if trainings on a store would see a subject to be scored."""
    used = {subject for subject, split in store.splits.items() if split != "test"}
    scored = set(chain.from_iterable(trial.dataset.subject[trial.rows] for trial in trials))
    if both := sorted(used & scored):
        raise UserError(
            f"{store.path}: {', '.join(both[:3])} would be trained or chosen on, and scored; "
            "use protocol test, or name a store of other people to pretrain on"
        )


def subject_points(method, store, trials, shares, budget, size, batch_size, out, seed):
    """Return the points of one method, pretrained on shares of the training subjects with the same
    number of windows seen.
    """
    from xmae.evaluation.compare import epochs_of, train_method

    trained = sorted(subject for subject, split in store.splits.items() if split == "train")
    subjects = np.random.default_rng(seed).permutation(trained)
    points = []
    for share in shares:
        kept = subjects[: max(1, round(share * len(subjects)))]
        fewer = subset_store(store, set(kept), out / f"store-{share:g}")
        folder = out / f"{method}-{share:g}"
        epochs = epochs_of(fewer, budget, batch_size)
        train_method(
            method, str(fewer.path), folder, epochs, size, batch_size, "small-data", seed, None
        )
        # its windows for training, once more
        shutil.rmtree(fewer.path / "cache", ignore_errors=True)
        embedding = embed_windows(load_encoder(folder / "encoder.safetensors"), trials[0].dataset)
        for trial in trials:
            found = score_trial(trial, probe_trial(trial, embedding), n_resamples=1)[
                trial.task.metric
            ]
            points.append(_point(trial, method, "subjects", share, len(kept), [found.value]))
    return points


def subset_store(store, subjects, path):
    """Make a store of these training subjects and all others, with links to the files of `store` or
    copies of remote ones.
    """
    shards = [
        shard
        for shard in store.entries
        if store.splits[shard.subject] != "train" or shard.subject in subjects
    ]
    splits = {shard.subject: store.splits[shard.subject] for shard in shards}
    meta = {key: value for key, value in store.meta.items() if key != "index"}
    meta |= {
        "shards": [shard.as_json() for shard in shards],
        "splits": splits,
        "windows": sum(shard.windows for shard in shards),
    }
    with atomic_folder(path, "store.json") as folder:
        for name in named_files(meta) - {"store.json"}:
            source = store.file(name)
            if isinstance(source, Path):
                os.symlink(source.resolve(), folder / name)
            else:
                with source.open() as remote:
                    (folder / name).write_bytes(remote.read())
        write_json(folder / "store.json", meta)
    return WindowStore(path)


def _point(trial, name, kind, fraction, n_subjects, values):
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {
        "dataset": trial.dataset.name, "task": trial.task.name, "label": trial.task.label,
        "metric": trial.task.metric, "units": trial.task.units, "model": name, "kind": kind,
        "fraction": fraction, "n_subjects": n_subjects, "mean": float(np.mean(values)), "sd": sd,
    }  # fmt: skip


def curve_table(points):
    """Return the table as Markdown: a row per task, kind and model, a column per share."""
    lines = []
    for kind, words in KINDS.items():
        chosen = [point for point in points if point["kind"] == kind]
        if not chosen:
            continue
        shares, rows = sorted({point["fraction"] for point in chosen}), []
        for task, model in dict.fromkeys((point["label"], point["model"]) for point in chosen):
            row = {
                point["fraction"]: point
                for point in chosen
                if (point["label"], point["model"]) == (task, model)
            }
            metric = f"{row[shares[0]]['metric'].upper()} {row[shares[0]]['units']}".strip()
            cells = [
                f"{row[s]['mean']:.2f}" + (f" ± {row[s]['sd']:.2f}" if row[s]["sd"] else "")
                for s in shares
            ]
            rows.append((f"{task}, {metric}", model, *cells))
        columns = ("task", "model", *(f"{100 * share:g}" for share in shares))
        lines += [f"**{words}**", "", markdown_table(columns, rows, right=False), ""]
    return "\n".join(lines)


def draw_curves(points, path):
    """Draw one panel per task and kind, with a line per model; return the path of the picture."""
    panels = list(dict.fromkeys((point["task"], point["kind"]) for point in points))
    models = list(dict.fromkeys(point["model"] for point in points))
    figure, lines = Figure(figsize=(4.2 * len(panels) + 1.4, 3.6), layout="constrained"), {}
    for ax, (task, kind) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
    ):
        chosen = [point for point in points if (point["task"], point["kind"]) == (task, kind)]
        for model in dict.fromkeys(point["model"] for point in chosen):
            line = [point for point in chosen if point["model"] == model]
            x, y, sd = zip(
                *((100 * p["fraction"], p["mean"], p["sd"] or 0) for p in line), strict=True
            )
            number = models.index(model)  # its colour in all panels; after ten, dashed
            style = {"color": f"C{number % 10}", "ls": "-" if number < 10 else "--"}
            lines[model] = ax.errorbar(
                x, y, sd, marker="o", ms=4, capsize=3, lw=1.2, elinewidth=0.6, **style
            )
        metric = f"{chosen[0]['metric'].upper()} {chosen[0]['units']}"
        ax.set(title=chosen[0]["label"], xlabel=KINDS[kind], ylabel=metric)
    figure.legend(lines.values(), lines, loc="outside right center", frameon=False, fontsize=8)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=110)
    return str(path)
