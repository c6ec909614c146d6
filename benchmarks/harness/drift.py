"""Distance of an exported file's output from that of its fp32 original: embeddings, heads and
beats.

Cosines say whether the vectors still point the same way, plain and after the mean embedding of the
training windows is taken off both (embeddings share a large mean, so the plain cosine flatters).
The heads say whether it matters: what the watch would show, from the exported model and from the
original, each against the truth.
"""

from dataclasses import fields

import numpy as np

from xmae.benchmarks.harness.baseline import spread
from xmae.benchmarks.harness.beat_drift import compare_beats
from xmae.benchmarks.harness.rows import EmbeddingDrift, HeadDrift
from xmae.evaluation.protocol.bootstrap import METRICS, draw_weights, interval
from xmae.evaluation.protocol.tasks import REGISTRY
from xmae.quantize.layers import centred_cosine

# of 1 - centred cosine; what lies outside counts at the ends
HISTOGRAM_EDGES = np.logspace(-7, 0, 15)

NO_MAP = "the timing map holds values that are not finite"
UNUSABLE = "the embedding has another width, or values that are not finite"


def compare(bundle, entry, given, recorded, windows, chosen):
    """Compare the output of an exported file with that of the fp32 original, on the same windows.

    Parameters
    ----------
    bundle : Bundle
    entry : dict
        Entry of the file.
    given : float array, shape (n, D), or None
        Embeddings, or rows with a timing map; None: it did not run.
    recorded : Reference
    windows : Windows
        The n windows.
    chosen : int array, shape (n,)
        Numbers of these windows among the recorded ones.

    Returns
    -------
    dict
        Fields of a `Row`: `windows`, those of `EmbeddingDrift`, `heads`, `beats`; or `failure`,
        why they cannot be compared.
    """
    if given is None:
        return {}
    model, embedding = entry.model, given[:, : entry.embedding]
    original = recorded.embeddings[model][chosen]
    drift = compare_embeddings(embedding, original, recorded.train_mean[model])
    if drift is None:
        return {"windows": len(embedding), "failure": UNUSABLE}
    found = {field.name: getattr(drift, field.name) for field in fields(drift)}
    return found | {
        "windows": len(embedding),
        "heads": compare_heads(bundle.drift_heads(model), embedding, original, windows),
        **beats_of(bundle, entry, given, recorded, windows, chosen),
    }


def compare_embeddings(embedding, original, mean):
    """Compare the rows of two embeddings (n, D), plain and with `mean` (D,) subtracted from both.

    Returns
    -------
    EmbeddingDrift or None
        None where `embedding` has values that are not finite or another shape.
    """
    if embedding.shape != original.shape or not np.isfinite(embedding).all():
        return None
    centred = centred_cosine(embedding, original, mean)
    inside = np.clip(1 - centred, *HISTOGRAM_EDGES[[0, -1]])
    return EmbeddingDrift(
        cosine=spread(centred_cosine(embedding, original, 0)),
        centred=spread(centred),
        max_error=float(np.abs(embedding - original).max()),
        histogram=np.histogram(inside, HISTOGRAM_EDGES)[0].tolist(),
    )


def compare_heads(heads, embedding, original, windows):
    """Compute the metric of every head on exported and original embeddings (n, D).

    Returns
    -------
    dict of str to HeadDrift
        By task. A task without labels or with a single class among these windows is left out.
    """
    found = {}
    for name, head in heads.items():
        if name not in REGISTRY:  # a user's own, whose truth is in no store
            continue
        task = REGISTRY[name]
        truth = task.target(windows)
        known = ~np.isnan(truth)
        if not known.any() or (task.kind == "binary" and np.ptp(truth[known]) == 0):
            continue
        shown = (head.apply(x[known]) for x in (np.nan_to_num(embedding), original))
        found[name] = head_drift(task, truth[known], *shown, windows.subject, known)
    return found


def head_drift(task, truth, exported, original, subjects, known):
    """Compute a task's metric from a head's answers (k,) on exported and on original embeddings.

    Parameters
    ----------
    task : Task
    truth, exported, original : float arrays, shape (k,)
        Values of the windows with a label.
    subjects : array, shape (n,)
        Subjects of all windows.
    known : bool array, shape (n,)
        Whether each window has a label.
    """
    names, number = np.unique(subjects, return_inverse=True)
    metric, subject = METRICS[task.metric], number[known]
    once = np.ones((1, len(names)))
    value, reference = (
        float(metric(truth, shown, subject, once)[0]) for shown in (exported, original)
    )
    resampled = metric(truth, exported, subject, draw_weights(len(names)))
    return HeadDrift(
        metric=task.metric,
        units=task.units,
        value=value,
        reference=reference,
        change=value - reference,
        interval=interval(resampled),
    )


def beats_of(bundle, entry, rows, recorded, windows, chosen):
    """Compare the beats of a file that reads them.

    Returns
    -------
    dict
        `beats`, or `failure` where the map is not finite; {} for a file that reads none.
    """
    if entry.embedding is None:
        return {}
    if not np.isfinite(rows).all():
        return {"failure": NO_MAP}
    model = entry.model
    least, truth = bundle.certainty(model).least, windows.labels.get("hr_ecg")
    original = recorded.rows[model][chosen]
    return {"beats": compare_beats(rows, entry, original, least, truth, windows.subject)}
