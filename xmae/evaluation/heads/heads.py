"""Linear heads that travel in the bundle, so that a watch gets numbers and not only vectors."""

import numpy as np

MIN_SKILL = 0.05  # our choice: with some twenty subjects, chance alone reaches a few hundredths


def fit_heads(embeddings, windows, tasks):
    """Fit one linear head per task on raw embeddings, with standardisation folded into the weights.

    Parameters
    ----------
    embeddings : array, shape (n, D)
        Embeddings of `windows`, as the encoder gives them.
    windows : Windows
        Training windows only: everything given is fitted. `subject` and `labels` are used.
    tasks : iterable of Task
        What the heads shall say, such as `TASKS.values()`.

    Returns
    -------
    dict
        Per task `kind`, `label`, `units`, `weight` (list of D numbers), `bias` and `skill`: the
        share of a constant's loss that the head explains on training subjects left out, see
        `LinearModel`. A head without skill (`has_skill`) says no more than a constant. A task
        without labels, with fewer than two subjects or with one class has no head.
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
        heads[task.name] = {
            "kind": task.kind,
            "label": task.label,
            "units": task.units,
            "weight": [float(w) for w in model.weight],
            "bias": model.bias,
            "skill": model.skill,
        }
    return heads


def worth_shipping(heads):
    """Split heads of `fit_heads` into those that ship and the labels of those at chance."""
    kept = {task: head for task, head in heads.items() if has_skill(head)}
    return kept, [head["label"] for task, head in heads.items() if task not in kept]


def has_skill(head):
    """Tell whether a head explains enough of a constant's loss on subjects left out; a head of
    unknown skill is believed.
    """
    return head.get("skill", 1) >= MIN_SKILL


def apply_head(head, embedding):
    """Say what a head says about embeddings (n, D): the number, or the probability of the positive
    class; shape (n,).
    """
    value = np.asarray(embedding, dtype=np.float64) @ np.asarray(head["weight"]) + head["bias"]
    return 1 / (1 + np.exp(-value)) if head["kind"] == "binary" else value
