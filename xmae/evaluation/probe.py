"""What a frozen embedding knows: linear probes, subjects apart, with intervals by resampling
subjects.

The subjects that are scored are those that the encoder never saw (split "test"). They are cut into
folds; for every fold a linear model is fitted on the training subjects and on the scored subjects
of the other folds, so every scored window is predicted by a model that never saw its subject. All
embeddings share folds and resamples, so their differences are paired.
"""

from itertools import chain
from pathlib import Path

import numpy as np
from tqdm import tqdm

from xmae.errors import UserError, require_choice
from xmae.evaluation.heads.linear import fit_linear
from xmae.evaluation.protocol.bootstrap import with_interval
from xmae.evaluation.protocol.pooled import score_task
from xmae.evaluation.protocol.tasks import TASKS
from xmae.files import atomic_file, write_json
from xmae.tables import markdown_table

PROTOCOLS = ("test", "all", "loso")


def probe_embeddings(
    embeddings,
    windows,
    tasks=None,
    score=None,
    fit=None,
    n_folds=5,
    n_resamples=1000,
    seed=77,
    progress=False,
):
    """Probe several embeddings of the same windows, on the same folds.

    Parameters
    ----------
    embeddings : dict of str to array, shape (n, D)
        Rows follow `windows`; the first one is the one that the others are compared with.
    windows : Windows
        Only `subject`, `split` and `labels` are used.
    tasks : iterable of str, optional
        Names in `TASKS`; all of them by default.
    score, fit : bool array, shape (n,), optional
        Windows of the subjects to score (default: split "test", or everything where there is no
        such split), and further windows to fit on (default: split "train", less the subjects of
        `score`).
    n_folds : int
        Folds over the scored subjects (fewer if there are fewer subjects).
    n_resamples : int
        Resamples of the scored subjects.
    seed : int
        Seed of the resamples.
    progress : bool
        Show a bar on standard error.

    Returns
    -------
    dict
        `scored_subjects`, `fit_subjects` (numbers of subjects) and `tasks`: per task its
        description and either `reason` (why it cannot be evaluated) or `n_windows`, `n_subjects`,
        `baseline` (predicting the mean of the fitted windows; 0.5 for AUROC) and `encoders`: per
        embedding `value`, `interval`, and `minus_first` with its interval.
    """
    score, fit = _masks(windows, score, fit)
    result = {
        "scored_subjects": int(np.unique(windows.subject[score]).size),
        "fit_subjects": int(np.unique(windows.subject[fit]).size),
        "tasks": {},
    }
    for name in tqdm(list(tasks or TASKS), desc="probe", disable=not progress, leave=False):
        task = TASKS[name]
        described = {
            key: getattr(task, key) for key in ("label", "kind", "metric", "units", "source")
        }
        result["tasks"][name] = described | _probe_task(
            task, embeddings, windows, score, fit, n_folds, n_resamples, seed
        )
    return result


def _masks(windows, score, fit):
    """Return the default masks of the rows to score and to fit on."""
    if score is None:
        score = windows.split == "test"
        if not score.any():
            score = np.ones(len(windows.subject), dtype=bool)
    if fit is None:
        fit = windows.split == "train"
    return score, fit & ~np.isin(windows.subject, windows.subject[score])


def _probe_task(task, embeddings, windows, score, fit, n_folds, n_resamples, seed):
    def predict(truth, fitted, held):
        return {
            name: fit_linear(x[fitted], truth[fitted], windows.subject[fitted], task.kind).predict(
                x[held]
            )
            for name, x in embeddings.items()
        }

    found = score_task(task, windows, score, fit, predict, n_folds, n_resamples, seed)
    return found if "reason" in found else found | {"encoders": found.pop("ways")}


def probe(
    model: str,
    data: str,
    out: str = "runs/probe",
    baselines: bool = True,
    protocol: str = "test",
    seed: int = 77,
) -> dict:
    """Probe a frozen encoder: heart rate, respiration rate, SpO2 (mean absolute error), sex and age
    over 65 (AUROC).

    Parameters
    ----------
    model : str
        Name of a shipped encoder ("base", "student-mcu") or path of an encoder file.
    data : str
        Store of windows, as `xmae prepare` writes it.
    out : str
        Folder for probe.json and probe.md.
    baselines : bool
        Also probe an untrained encoder of the same design and hand-made PPG features.
    protocol : str
        "test": score the subjects of the test split and fit on the training subjects and the other
        folds; "all": cross-validate over all subjects, for an encoder that saw none of them;
        "loso": leave one subject out at a time.
    seed : int
        Seed of the untrained encoder and of the resamples.

    Returns
    -------
    dict
        As `probe_embeddings`, with `model`, `summary` (the table, a line each) and `out`.

    Raises
    ------
    UserError
        If the model or store cannot be read, `protocol` is unknown, or the encoder saw a subject to
        be scored.
    """
    import torch

    from xmae.data.store.store import WindowStore
    from xmae.evaluation.heads.embedding import embed_windows
    from xmae.evaluation.heads.features import ppg_features
    from xmae.models import load_encoder

    require_choice("protocol", protocol, PROTOCOLS)
    windows = WindowStore(data).windows()
    encoder = load_encoder(model)
    score, fit = _masks(
        windows, None if protocol == "test" else np.ones(len(windows.subject), dtype=bool), None
    )
    refuse_seen(encoder, windows.subject[score])
    name = Path(model).stem
    embeddings = {name: embed_windows(encoder, windows, progress=True)}
    if baselines:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            embeddings["untrained"] = embed_windows(untrained_like(encoder), windows, progress=True)
        embeddings["features"] = ppg_features(windows.ppg)[0]
    result = {"model": name, "protocol": protocol, "seed": seed}
    n_folds = len(np.unique(windows.subject)) if protocol == "loso" else 5
    result |= probe_embeddings(
        embeddings, windows, score=score, fit=fit, n_folds=n_folds, seed=seed, progress=True
    )
    write_json(Path(out) / "probe.json", result)
    with atomic_file(Path(out) / "probe.md") as temporary:
        temporary.write_text(probe_table(result))
    return result | {"summary": probe_table(result).splitlines(), "out": str(out)}


def seen_subjects(encoder):
    """Return the subjects that an encoder, its teacher, or the weights it began from were trained
    or chosen on: a set of names.
    """
    from xmae.models.checkpoint import subjects_of

    return subjects_of(getattr(encoder, "provenance", None))


def refuse_seen(encoder, subjects):
    """Raise a `UserError` if the encoder, or its teacher, was trained or chosen on any of these
    subjects.
    """
    if both := sorted(seen_subjects(encoder) & set(subjects)):
        raise UserError(
            f"the encoder was trained or chosen on {', '.join(both)}, so they cannot be scored; "
            "prepare the store with the split that the encoder was trained with"
        )


def untrained_like(encoder):
    """Make a new encoder of the same design as `encoder`, with random weights."""
    config = encoder.config
    return type(encoder)(**config) if isinstance(config, dict) else type(encoder)(config)


def probe_table(result):
    """Return a probe's result as a Markdown table: a row per task, a column per encoder, each value
    with its 95 % interval.
    """
    names = list(
        dict.fromkeys(
            chain.from_iterable(task.get("encoders", ()) for task in result["tasks"].values())
        )
    )
    rows = []
    for task in result["tasks"].values():
        head = f"{task['label']}, {task['metric'].upper()} {task['units']}".rstrip()
        if "reason" in task:
            rows.append((head, f"not evaluable: {task['reason']}", *[None] * (len(names) + 1)))
            continue
        cells = [
            with_interval(task["encoders"][name]["value"], task["encoders"][name]["interval"])
            for name in names
        ]
        rows.append((head, task["n_subjects"], *cells, f"{task['baseline']:.2f}"))
    return markdown_table(("task", "subjects", *names, "constant"), rows, right=False) + "\n"
