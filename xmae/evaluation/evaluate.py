"""`xmae evaluate`: encoders against each other on many tasks, in one table like the paper's."""

from collections import Counter
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from xmae.errors import UserError, names_of, require_choice
from xmae.evaluation.heads.embedding import embed_windows
from xmae.evaluation.heads.features import ppg_features
from xmae.evaluation.heads.finetune import finetune_trial
from xmae.evaluation.loso import LOSO, add_notes, as_stores, notes, use_reference, words_and_data
from xmae.evaluation.moving import followed_predictions
from xmae.evaluation.probe import PROTOCOLS, refuse_seen, untrained_like
from xmae.evaluation.protocol.datasets import load_datasets
from xmae.evaluation.protocol.folds import constant_trial, make_trial, probe_trial, score_trial
from xmae.evaluation.protocol.paired import holm, power_note, stars, swap_test
from xmae.evaluation.protocol.result import (
    Evaluation,
    MethodResult,
    NotEvaluated,
    TrialResult,
)
from xmae.evaluation.protocol.tasks import PAPER, REGISTRY, declared_tasks
from xmae.files import write_json
from xmae.models import load_encoder
from xmae.progress import stage
from xmae.tables import BASELINES, best_methods, write_tables


def evaluate(
    models: list[str],
    data: str | None = None,
    tasks: str = "all",
    labels: str | None = None,
    protocol: str = "test",
    finetune: bool = False,
    folds: int | None = None,
    baselines: bool = True,
    out: str = "runs/evaluate",
    seed: int = 77,
) -> dict:
    """Probe frozen encoders on tasks: mean and spread over folds by subject, 95 % intervals, paired
    tests.

    Parameters
    ----------
    models : list of str
        Shipped encoders ("base", "student-mcu") or encoder files; the others are tested against the
        first.
    data : str or None
        Stores of windows, or "ppg_bp" for the shipped excerpt, separated by commas; with the
        protocol "loso" also folders of recordings, which are prepared as they are. Default: those
        of the words that are folders.
    tasks : str
        Names separated by commas (see docs/tasks.md), or "all" that have labels; a column of your
        own in the label table with its kind, as "stress:binary" or "load:number:W". One named here
        that cannot be evaluated on any of the data is an error; otherwise the table says why not.
    labels : str or None
        Label table (.csv or .parquet: subject, record, time in s, and a column per label) of the
        first data.
    protocol : str
        "test": score the subjects of the test split, fit on those of the training split and the
        other folds; "all": cross-validate over all subjects; "loso": leave one subject out at a
        time (one probe per subject; the encoder stays as it is), all windows, the data set's own
        heart rate where it has one, published numbers beside. Data without a test split are always
        cross-validated whole.
    finetune : bool
        Train encoder and head together in each fold instead of probing the frozen embedding.
    folds : int or None
        Folds by subject; default 5, or as many as there are subjects of the rarer class.
    baselines : bool
        Also score an untrained encoder of the first's design, and hand-made features. A constant
        is always scored.
    out : str
        Folder for metrics.json and table.md, table.csv, table.html.
    seed : int
        Seed of folds, resamples and of the untrained encoder.

    Returns
    -------
    dict
        `trials`: per dataset and task its numbers and per method metrics with mean, sd, interval,
        and p-value, or a `reason`; `best`: on how many tasks each method is best; "out": the
        Markdown table.

    Raises
    ------
    UserError
        If something cannot be read, a task is unknown, labels do not fit, subjects or classes are
        too few for the folds, sampling rates differ, or an encoder saw a subject to be scored.
    """
    models, stores = words_and_data(models, data)
    stores = as_stores(stores, out) if protocol == LOSO else stores
    names = method_names(models)
    encoders = {name: load_encoder(model) for name, model in zip(names, models, strict=True)}
    trials, reasons = make_trials(stores, tasks, labels, protocol, folds, seed)
    predictions = {}
    for name, encoder in encoders.items():
        refuse_scored(encoder, trials)
        predictions[name] = predict(encoder, trials, finetune, seed, name)
    followed, lines = followed_predictions(encoders, trials) if protocol == LOSO else ({}, [])
    predictions |= followed
    if baselines:
        predictions |= predict_baselines(next(iter(encoders.values())), trials, finetune, seed)
    else:  # no number is bold that is not better
        predictions["constant"] = {trial.name: constant_trial(trial) for trial in trials}
    result = summarise(trials, reasons, predictions, seed).as_json()
    result |= {"protocol": protocol, "finetune": finetune, "seed": seed, "models": models}
    write_json(Path(out) / "metrics.json", result)
    table = write_tables(result, out)
    if protocol == LOSO:
        add_notes(table, notes(stores, finetune) + lines)
    return result | {"out": table}


def method_names(models):
    """Return a short name for each model: the stem of its path, with as many parent folders as are
    needed to tell them apart.
    """
    if not models:
        raise UserError("no model given")
    stems = [Path(model).stem for model in models]
    if len(set(stems)) < len(stems):
        stems = [Path(model).parent.name or Path(model).stem for model in models]
    names = stems if len(set(stems)) == len(stems) else list(models)
    if taken := [name for name in names if name in BASELINES]:
        raise UserError(
            f"a model is called {taken[0]}, as is a baseline of the table; rename its file"
        )
    return names


def make_trials(data, tasks="all", labels=None, protocol="test", folds=None, seed=77):
    """Make the trials of the named tasks, on every dataset that has labels for them.

    Returns
    -------
    trials : list of Trial
    reasons : list of NotEvaluated
        A task asked for by name must be on some data.
    """
    require_choice("protocol", protocol, PROTOCOLS)
    asked, registry = (None, REGISTRY) if tasks == "all" else declared_tasks(names_of(tasks))
    datasets = load_datasets(data, labels, asked, registry)
    for dataset in datasets if protocol == LOSO else ():
        use_reference(dataset)
    trials, reasons = [], []
    for dataset in datasets:
        known = dataset.tasks(registry)
        if asked is None and "hr" in known:  # the ECG knows better than the device
            known.remove("hr_monitor")
        for task in [name for name in known if asked is None or name in asked]:
            try:
                trials.append(make_trial(dataset, registry[task], protocol, folds, seed))
            except UserError as error:
                reasons.append(NotEvaluated(dataset.name, task, str(error)))
    done = {trial.task.name for trial in trials}
    for task in [task for task in asked or () if task not in done]:
        why = [reason.reason for reason in reasons if reason.task == task]
        raise UserError(
            "; ".join(why) or f"no labels for {task} in {', '.join(data)}; give them with --labels"
        )
    refuse_nothing(trials, reasons)
    return trials, reasons


def refuse_nothing(trials, reasons):
    """Raise a `UserError` with the reasons if there are no trials."""
    if not trials:
        raise UserError(
            "nothing can be evaluated: " + "; ".join(reason.reason for reason in reasons)
        )


def refuse_scored(encoder, trials):
    """Raise a `UserError` if the encoder was trained or chosen on a subject to be scored."""
    refuse_seen(
        encoder, set(chain.from_iterable(trial.dataset.subject[trial.rows] for trial in trials))
    )


def predict(encoder, trials, finetune=False, seed=77, name="evaluate"):
    """Return out-of-fold predictions of an encoder: {trial's name: array}. Uses a GPU if there is
    one.
    """
    encoder = encoder.to("cuda" if torch.cuda.is_available() else "cpu")
    predictions, embeddings = {}, {}
    for trial in tqdm(trials, name, unit="task", leave=False):
        key = id(trial.dataset.ppg)
        if key not in embeddings:
            embeddings[key] = embed_windows(encoder, trial.dataset, progress=True)
        if finetune:
            predictions[trial.name] = finetune_trial(trial, encoder, embeddings[key], seed=seed)
        else:
            predictions[trial.name] = probe_trial(trial, embeddings[key])
    return predictions


def predict_baselines(encoder, trials, finetune=False, seed=77):
    """Return out-of-fold predictions of the baselines, by name.

    "untrained" is an encoder of the same design with random weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        untrained = untrained_like(encoder).eval()
    signals = {id(trial.dataset.ppg): trial.dataset.ppg for trial in trials}
    stage("hand-made features, and an encoder without training, to compare with")
    features = {key: ppg_features(ppg)[0] for key, ppg in signals.items()}
    return {
        "untrained": predict(untrained, trials, finetune, seed, "untrained"),
        "features": {
            trial.name: probe_trial(trial, features[id(trial.dataset.ppg)]) for trial in trials
        },
        "constant": {trial.name: constant_trial(trial) for trial in trials},
    }


def summarise(trials, reasons, predictions, seed=77):
    """Score and test all methods.

    Parameters
    ----------
    trials : list of Trial
    reasons : list of NotEvaluated
    predictions : dict
        Method -> trial's name -> out-of-fold predictions. The first method is the reference of the
        tests; p-values are adjusted for the number of other methods by Holm's procedure.
    seed : int
        Seed of the resamples and the tests.

    Returns
    -------
    Evaluation
    """
    reference = next(iter(predictions))
    done = tqdm(trials, "score", unit="task", leave=False)
    rows = [trial_result(trial, predictions, reference, seed) for trial in done]
    return Evaluation(reference, rows, reasons, count_best(rows, predictions))


def trial_result(trial, predictions, reference, seed):
    """Score and test all methods on one trial."""
    task, subject = trial.task, trial.subject
    truth = trial.truth[trial.rows]
    n_subjects = len(np.unique(subject))
    methods, n_rivals = tested(trial, predictions, reference, seed)
    positive = len(np.unique(subject[truth == 1])) if task.kind == "binary" else None
    return TrialResult(
        dataset=trial.dataset.name,
        task=task.name,
        label=task.label,
        kind=task.kind,
        metric=task.metric,
        units=task.units,
        source=task.source,
        in_paper=task.name in PAPER,
        n_windows=len(truth),
        n_subjects=n_subjects,
        power=power_note(n_subjects, n_rivals) if n_rivals else "",
        n_positive_subjects=positive,
        n_folds=len(trial.folds),
        not_scored=trial.not_scored,
        methods=methods,
    )


def tested(trial, predictions, reference, seed):
    """Return the results of the methods on a trial by name, and the number of methods that the
    reference was compared with.
    """
    rivals = [name for name in predictions if name not in (reference, "constant")]
    truth, subject, kind = trial.truth[trial.rows], trial.subject, trial.task.kind
    first = predictions[reference][trial.name]
    p_values = [
        swap_test(kind, truth, first, predictions[name][trial.name], subject, seed=seed)
        for name in rivals
    ]
    adjusted = dict(zip(rivals, map(float, holm(p_values)), strict=True))
    methods = {}
    for name, found in predictions.items():
        scores = score_trial(trial, found[trial.name], seed=seed)
        p = adjusted.get(name)
        methods[name] = MethodResult(scores, p, "" if p is None else stars(p))
    return methods, len(rivals)


def count_best(trials, methods):
    """Count the tasks on which each method (baselines aside) has the best mean; ties count for
    each.
    """
    count = Counter()
    for trial in trials:
        count.update(best_methods(trial.as_json()))
    return {name: count[name] for name in methods if name not in BASELINES}
