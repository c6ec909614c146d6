"""`xmae transfer`: a linear probe fitted on one dataset, tested on another: other device, place,
people.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from xmae.errors import UserError, names_of
from xmae.evaluation.evaluate import (
    method_names,
    predict,
    predict_baselines,
    refuse_nothing,
    refuse_scored,
    summarise,
)
from xmae.evaluation.protocol.datasets import Dataset, load_datasets
from xmae.evaluation.protocol.folds import Trial, make_trial
from xmae.evaluation.protocol.result import NotEvaluated
from xmae.evaluation.protocol.tasks import REGISTRY
from xmae.files import write_json
from xmae.models import load_encoder
from xmae.tables import write_tables


def transfer(
    models: list[str],
    fit: str,
    test: str,
    tasks: str = "all",
    labels: str | None = None,
    protocol: str = "test",
    out: str = "runs/transfer",
    seed: int = 77,
) -> dict:
    """Fit linear probes on one dataset and test them on another, beside probes cross-validated
    within the target.

    Where the windows of one are shorter, those of the other are cut to the same length, so that
    length is no part of the difference.

    Parameters
    ----------
    models : list of str
        Shipped encoders ("base", "student-mcu") or encoder files; the others are tested against the
        first.
    fit : str
        Store of windows, or "ppg_bp": all its labelled windows are fitted.
    test : str
        Store of windows, or "ppg_bp", of other people: its subjects are scored.
    tasks : str
        Separated by commas, or "all" that both have labels for.
    labels : str or None
        Label table of `fit`.
    protocol : str
        "test": score the test split of `test`; "all": all its subjects.
    out : str
        Folder for metrics.json, table.md, table.csv and table.html.
    seed : int
        Seed of folds, resamples and of the untrained encoder.

    Returns
    -------
    dict
        As `xmae evaluate`; the datasets are "FIT -> TEST" and "TEST -> TEST". "out" is the Markdown
        table.

    Raises
    ------
    UserError
        If the two have no task or some subject in common, rates differ, or an encoder saw a subject
        to be scored.
    """
    source, target = load_datasets([fit, test], labels, None if tasks == "all" else names_of(tasks))
    if both := sorted(set(source.subject) & set(target.subject)):
        raise UserError(
            f"{fit} and {test} have subjects in common: {', '.join(both[:3])}; transfer needs "
            "other people"
        )
    asked = common_tasks(source, target, tasks, f"{fit} and {test}")
    trials, reasons = all_trials(source, target, asked, protocol, seed, named=tasks != "all")
    names = method_names(models)
    encoders = [load_encoder(model) for model in models]
    for encoder in encoders:
        refuse_scored(encoder, trials)
    found = {
        name: predict(encoder, trials, name=name)
        for name, encoder in zip(names, encoders, strict=True)
    }
    found |= predict_baselines(encoders[0], trials, seed=seed)
    result = summarise(trials, reasons, found, seed).as_json()
    seconds = trials[0].dataset.seconds
    result |= {"protocol": protocol, "seed": seed, "models": models, "seconds": seconds}
    write_json(Path(out) / "metrics.json", result)
    return result | {"out": write_tables(result, out)}


def common_tasks(source, target, tasks, both):
    """Return the names of the tasks that are asked for; `both` names the two datasets in an error.

    Raises
    ------
    UserError
        If the two do not both have labels for one of them, or for any.
    """
    shared = [name for name in source.tasks() if name in target.tasks()]
    asked = shared if tasks == "all" else names_of(tasks)
    if absent := [name for name in asked if name not in shared] or (not shared and ["any task"]):
        raise UserError(
            f"{both} do not both have labels for {absent[0]}; both have {', '.join(shared)}"
        )
    return asked


def all_trials(source, target, tasks, protocol, seed, named):
    """Make the trials of all tasks.

    Parameters
    ----------
    source, target : Dataset
    tasks : list of str
        Names of tasks that both have labels for.
    protocol, seed
        As in `transfer`.
    named : bool
        Whether the user named them: then each must be evaluable.

    Returns
    -------
    trials : list of Trial
    reasons : list of NotEvaluated

    Raises
    ------
    UserError
        If a named task cannot be evaluated, or nothing at all can.
    """
    joined, trials, reasons = join(source, target), [], []
    for name in tasks:
        try:
            trials += transfer_trials(joined, source, target, REGISTRY[name], protocol, seed)
        except UserError as error:
            if named:
                raise
            both = f"{source.name} -> {target.name}"
            reasons.append(NotEvaluated(both, name, str(error)))
    refuse_nothing(trials, reasons)
    return trials, reasons


def join(source, target):
    """Join two datasets, one after the other, in windows of the shorter length, with the labels
    that both have.
    """
    seconds = min(source.seconds, target.seconds)
    parts = [dataset.shortened(seconds) for dataset in (source, target)]
    names = ("ppg", "subject", "record", "split", "start_s")
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    shared = [name for name in source.labels if name in target.labels]
    labels = {name: np.concatenate([part.labels[name] for part in parts]) for name in shared}
    return Dataset(name="", ecg=None, labels=labels, **joined)


def transfer_trials(joined, source, target, task, protocol, seed):
    """Make two trials on the joined windows that score the same folds: one fitted on the source,
    one within the target.

    Raises
    ------
    UserError
        If the target cannot be evaluated, or the source has too few subjects or a single class.
    """
    within = make_trial(target, task, protocol, None, seed)
    offset = len(source.subject)
    truth = task.target(joined)
    fitted = np.flatnonzero(np.isfinite(truth[:offset]))
    if len(np.unique(source.subject[fitted])) < 2:
        raise UserError(f"{source.name}, {task.name}: fewer than 2 subjects to fit on have a label")
    if task.kind == "binary" and np.ptp(truth[fitted]) == 0:
        raise UserError(f"{source.name}, {task.name}: the subjects to fit on are of a single class")
    across = [(fitted, offset + scored) for _, scored in within.folds]
    inside = [(offset + fit, offset + scored) for fit, scored in within.folds]
    return [
        Trial(replace(joined, name=f"{name} -> {target.name}"), task, truth, folds)
        for name, folds in ((source.name, across), (target.name, inside))
    ]
