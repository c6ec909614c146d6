"""Linear heads that travel in the bundle, so that a watch gets numbers and not only vectors."""

from importlib.resources import files

import numpy as np

from xmae.evaluation.heads.head import Head, TaskHeads
from xmae.files import read_json
from xmae.manifest import parsed

HEADS = "heads.json"  # beside weights, and in a bundle


def fit_heads(embeddings, windows, tasks):
    """Fit one linear head per task on raw embeddings, with standardisation folded into the weights.

    Parameters
    ----------
    embeddings : array, shape (n, D)
        Embeddings of `windows`, as the encoder gives them.
    windows : Windows
        Training windows only: everything given is fitted. `subject` and `labels` are used.
    tasks : iterable of Task
        Tasks of the heads, such as `TASKS.values()`.

    Returns
    -------
    dict of str to Head
        By task; of their skill see `LinearModel`. A task without labels, with fewer than two
        subjects or with one class has no head.
    """
    from xmae.evaluation.heads.linear import fit_linear  # brings scikit-learn

    heads = {}
    for task in tasks:
        truth = task.target(windows)
        usable = ~np.isnan(truth)
        if len(np.unique(windows.subject[usable])) < 2:
            continue
        if task.kind == "binary" and np.ptp(truth[usable]) == 0:
            continue
        model = fit_linear(embeddings[usable], truth[usable], windows.subject[usable], task.kind)
        heads[task.name] = head_of(task, model.weight, model.bias, model.skill)
    return heads


def head_of(task, weight, bias, skill):
    """Make the `Head` of a task from weights (D,), bias and skill.

    Raises
    ------
    UserError
        If the task's label or units are no plain text.
    """
    words = {"kind": task.kind, "label": task.label, "units": task.units}
    numbers = {"weight": [float(w) for w in weight], "bias": float(bias), "skill": float(skill)}
    return parsed(words | numbers, Head, f"task {task.name}")


def heads_of(name):
    """Return the linear heads that came with an encoder, by task; {} if there are none.

    Those of shipped encoders are in the package. Those of a file lie beside it in heads.json, under
    the name of the file, as `xmae finetune`, `xmae export` and `xmae publish` write it.

    Parameters
    ----------
    name : str or Path
        As `load_encoder` takes it.

    Returns
    -------
    dict of str to Head

    Raises
    ------
    UserError
        If heads.json is no JSON, or its heads are none.
    """
    from xmae.models.checkpoint import MOVING, SHIPPED, file_of  # brings PyTorch

    if name in SHIPPED | MOVING:
        path, model = files("xmae.models.weights") / HEADS, name
    else:
        weights = file_of(name)
        path, model = weights.with_name(HEADS), weights.stem
        if not path.is_file():
            return {}
    found = read_json(path)
    return parsed(found.get(model, {}) if isinstance(found, dict) else {}, TaskHeads, path)


def written(heads):
    """Return the heads by model and task, in the form of heads.json."""
    return {
        model: {task: head.as_json() for task, head in tasks.items()}
        for model, tasks in heads.items()
    }


def worth_shipping(heads):
    """Split the heads of `fit_heads` into those that are shipped and the labels of those at
    chance.
    """
    kept = {task: head for task, head in heads.items() if head.has_skill}
    return kept, [head.label for task, head in heads.items() if task not in kept]
