"""Heads of a bundle: fitted on the store, or brought by an encoder; judged before they ship.

A head ships if it says more than a constant on subjects that it was not fitted on: those left out
in turn within the train split, and those of the val split. The test split judges no head. It is
what the results are scored on, and who chooses by it scores too well (BIDMC's test subjects choose
nothing, by the definitions of this project). So a head may still fail on test subjects, and
`xmae evaluate` shows it beside the constant.
"""

import numpy as np

from xmae.evaluation.heads.embedding import embed_windows
from xmae.evaluation.heads.heads import fit_heads, worth_shipping
from xmae.evaluation.heads.linear import balanced_log_loss
from xmae.evaluation.protocol.tasks import REGISTRY, TASKS
from xmae.export.bundle.schema import HeadError
from xmae.models.beat_student import BeatStudent
from xmae.native import one_thread


@one_thread()
def make_heads(encoder, store, train, brought=None):
    """Fit the heads of one encoder, and measure on val the errors of those that predict numbers.

    Parameters
    ----------
    encoder : nn.Module
    store : WindowStore
    train : Windows
        Its train split.
    brought : dict of str to Head, or None
        Heads that the encoder came with, which are then kept; None: fit new ones on `train`.

    Returns
    -------
    heads : dict of str to Head
        By task, without those at chance.
    metrics : dict of str to HeadError
        By task.
    at_chance : list of str
        Labels of the tasks that have no head, since it would say no more than a constant.
    probes : dict
        The heart rate's head where it is at chance: it measures the drift of int8, and ships as no
        head.
    """
    heads = brought or fit_heads(
        embed_windows(encoder, train, progress=True), train, tasks_of(encoder)
    )
    if "val" not in store.splits.values():
        kept, at_chance = worth_shipping(heads)
        return kept, {}, at_chance, drift_probes(heads, kept)
    val = store.windows("val")
    embeddings = embed_windows(encoder, val, progress=True)
    heads = {name: lower_skill(name, head, embeddings, val, train) for name, head in heads.items()}
    kept, at_chance = worth_shipping(heads)
    metrics = {
        name: row
        for name, head in kept.items()
        if (row := missed(name, head, embeddings, val, train))
    }
    return kept, metrics, at_chance, drift_probes(heads, kept)


def drift_probes(heads, kept):
    """Return the heart-rate head if it is not shipped: the drift gate needs it."""
    return {name: heads[name] for name in ("hr",) if name in heads and name not in kept}


def tasks_of(encoder):
    """Return the tasks that an encoder gets heads for; the heart rate of one that reads beats comes
    from its beats.
    """
    reads_beats = isinstance(encoder, BeatStudent)
    return [task for task in TASKS.values() if not (reads_beats and task.name == "hr")]


def known_truth(name, windows):
    """Return the truth of a task and a mask of where it is known, (n,) each; nothing is known of an
    unregistered task.
    """
    if name not in REGISTRY:
        return np.zeros(len(windows)), np.zeros(len(windows), bool)
    truth = REGISTRY[name].target(windows)
    return truth, np.isfinite(truth)


def missed(name, head, embeddings, val, train):
    """Return the error on val of a head that predicts numbers, beside that of the training
    subjects' mean; None without labels.
    """
    (truth, known), (fitted, is_fitted) = known_truth(name, val), known_truth(name, train)
    if head.kind != "regression" or not known.any() or not is_fitted.any():
        return None
    said, constant = head.apply(embeddings[known]), fitted[is_fitted].mean()
    return HeadError(
        units=head.units,
        mae=float(np.abs(said - truth[known]).mean()),
        mae_constant=float(np.abs(constant - truth[known]).mean()),
        windows=int(known.sum()),
        subjects=len(set(val.subject[known])),
    )


def lower_skill(name, head, embeddings, val, train):
    """Return a head whose skill is lowered to that on val, if it is smaller there."""
    if head.kind == "binary":
        truth, known = known_truth(name, val)
        if np.unique(truth[known]).size < 2:
            return head
        p = np.clip(head.apply(embeddings[known]), 1e-6, 1 - 1e-6)
        lost, least = balanced_log_loss(truth[known], np.log(p / (1 - p))), np.log(2)
    else:
        row = missed(name, head, embeddings, val, train)
        if row is None:
            return head
        lost, least = row.mae, row.mae_constant
    before = 1 if head.skill is None else head.skill
    skill = float(min(before, 1 - lost / max(least, 1e-12)))
    return head.model_copy(update={"skill": skill})
