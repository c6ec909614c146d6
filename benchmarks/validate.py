"""The gate: how far each exported model is from its fp32 original, on subjects that no training
saw.

Cosines say whether the vectors still point the same way, plain and after the mean embedding of the
training windows is taken off both (embeddings share a large mean, so the plain cosine flatters).
The heads say whether it matters: what the watch would show, from the exported model and from the
original, each against the bedside monitor.
"""

from pathlib import Path

import numpy as np

from xmae.benchmarks.harness.baseline import (
    load_reference,
    make_reference,
    median_p5,
    other_weights,
    reference_windows,
    refuse_lacking,
)
from xmae.benchmarks.harness.beat_drift import (
    FP32_BEATS,
    INT8_BEATS,
    beat_violations,
    compare_beats,
)
from xmae.benchmarks.harness.hardware import hardware
from xmae.benchmarks.harness.isolated import run_all_apart
from xmae.benchmarks.harness.sessions import describe, entry_name, find_entries, not_checked
from xmae.benchmarks.harness.stopwatch import add_latency
from xmae.data.store.store import WindowStore
from xmae.errors import UserError
from xmae.evaluation.heads.heads import apply_head
from xmae.evaluation.protocol.bootstrap import METRICS, draw_weights, interval
from xmae.evaluation.protocol.tasks import REGISTRY
from xmae.export.bundle.bundle import Bundle
from xmae.files import write_json
from xmae.quantize.calibration import evenly
from xmae.quantize.layers import centred_cosine
from xmae.signals.scale import minmax_scale

LATENCY_WINDOWS = 10  # windows per round of the latency measurement

# of 1 - centred cosine; what lies outside counts at the ends
HISTOGRAM_EDGES = np.logspace(-7, 0, 15)

NO_MAP = "the timing map holds values that are not finite"
UNUSABLE = "the embedding has another width, or values that are not finite"

FP32_LIMITS = {  # an fp32 export computes the same function: only rounding may differ
    "min_cosine": 0.9999,  # centred, median
    "min_cosine_p5": 0.999,  # centred, 5th percentile
    "max_hr_change": 0.05,  # bpm
    "max_auroc_change": 0.002,
}


def validate(
    bundle: str,
    data: str,
    out: str = "runs/validate",
    baseline: str | None = None,
    min_cosine: float = 0.98,
    min_cosine_p5: float = 0.95,
    max_hr_change: float = 0.5,
    max_auroc_change: float = 0.01,
    max_beat_ms: float = 2.0,
    max_beat_ms_p99: float = 20.0,
    max_rate_change: float = 0.1,
    max_refusal_flips: float = 0.005,
    windows: int = 0,
    rounds: int = 5,
    public_key: str | None = None,
) -> dict:
    """Judge every model of a bundle, in every runtime installed, against its fp32 original. The
    limits are for int8.

    fp32 exports must keep a centred cosine of 0.9999 (5th percentile 0.999), the heart-rate error
    within 0.05 bpm and the AUROC within 0.002. Exit code 1 beyond the limits, or if a file could
    not be judged because its runtime is not installed: what was not checked has not passed.

    Parameters
    ----------
    bundle : str
        Folder of the bundle.
    data : str
        Store of windows with test subjects; labels, where it has them, are used for the heads.
    out : str
        Folder for drift.json.
    baseline : str or None
        Folder or npz file that `xmae bench --record-baseline` wrote. Default: the bundle's fp32
        weights are run in PyTorch here.
    min_cosine : float
        Lowest median of the centred cosine between int8 and fp32 embeddings.
    min_cosine_p5 : float
        Lowest 5th percentile of the centred cosine.
    max_hr_change : float
        Largest change of the mean absolute error of the heart rate, bpm.
    max_auroc_change : float
        Largest change of the AUROC of any yes-or-no head.
    max_beat_ms : float
        Largest median of the time between a beat in int8 and the same in fp32, ms. This and the
        next three are for students that read beats.
    max_beat_ms_p99 : float
        Largest 99th percentile of this time, ms.
    max_rate_change : float
        Largest change of the mean absolute error of the beats' heart rate, bpm.
    max_refusal_flips : float
        Largest share of windows in which one of the two gives a heart rate and the other does not.
    windows : int
        Test windows to use, evenly spaced; 0 = all.
    rounds : int
        Rounds of the latency measurement; 0 = none.
    public_key : str or None
        PEM file of the Ed25519 key that must have signed the bundle; see docs/bundle.md.

    Returns
    -------
    dict
        `passed`; `signature` of the bundle ("verified", "unverified" or "unsigned");
        `violations`, a sentence each; `checked`, how many exported files were judged, and
        `not_checked`, why the others were not; `limits`; `models`, a row per model, runtime and
        precision with `cosine` and `centred` (`median`, `p5`), `heads` (per task `value`,
        `reference` and `change` of its metric), `latency_ms`, `bytes`, `peak_memory_bytes`,
        `violations`, or `missing`; `reference`; `hardware`; `summary`, lines for the terminal;
        `out`.

    Raises
    ------
    UserError
        If bundle, store or baseline cannot be read or do not belong together, or none of the
        runtimes is installed.
    """
    opened = Bundle.open(bundle, public_key)
    store = WindowStore(data).windows()
    recorded = load_reference(baseline) if baseline else make_reference(opened, store, "cpu")
    refuse_lacking(recorded, opened)
    chosen = evenly(np.arange(len(recorded.record)), windows)
    used = reference_windows(recorded, store).select(chosen)
    ppg, _ = minmax_scale(used.ppg)

    int8 = dict(
        zip(FP32_LIMITS, (min_cosine, min_cosine_p5, max_hr_change, max_auroc_change), strict=True)
    )
    beats = (max_beat_ms, max_beat_ms_p99, max_rate_change, max_refusal_flips)
    limits = {
        "int8": int8 | dict(zip(INT8_BEATS, beats, strict=True)),
        "fp32": FP32_LIMITS | FP32_BEATS,
    }
    entries, rows = find_entries(opened), []
    for entry, (given, report) in zip(entries, run_all_apart(opened, entries, ppg), strict=True):
        row = describe(entry) | report
        if given is not None:
            embedding = given[:, : entry.get("embedding")]
            original = recorded.embeddings[entry["model"]][chosen]
            row |= compare_embeddings(embedding, original, recorded.train_mean[entry["model"]])
            row["heads"] = compare_heads(
                opened.heads.get(entry["model"], {}), embedding, original, used
            )
            row |= beats_of(opened, entry, given, recorded, used, chosen)
        row["violations"] = find_violations(
            row, limits["fp32" if entry["precision"] == "fp32" else "int8"]
        )
        rows.append(row)
    exports = [row for row in rows if row["format"] != "pytorch"]
    checked = sum("missing" not in row for row in exports)
    if not checked:
        raise UserError(
            "none of the runtimes of this bundle is installed; try pip install 'xmae[edge]'"
        )
    if rounds:
        rows = add_latency(opened, entries, rows, ppg[:LATENCY_WINDOWS], rounds)

    violations = [
        f"{model}: the weights in the bundle are not those that the reference was made from"
        for model in other_weights(recorded, opened)
    ]
    violations += [
        f"{entry_name(row)}: {violation}" for row in rows for violation in row["violations"]
    ]
    unchecked = not_checked(exports)
    result = {
        "passed": not violations and not unchecked,
        "violations": violations,
        "checked": checked,
        "not_checked": unchecked,
        "limits": limits,
        "bundle": str(bundle),
        "signature": opened.verdict.state,
        "windows": len(ppg),
        "subjects": int(np.unique(used.subject).size),
        "models": rows,
        "reference": recorded.info,
        "hardware": hardware(),
    }
    write_json(Path(out) / "drift.json", result)
    verdict = (
        f"beyond the limits: {len(violations)} times" if violations else "all within the limits"
    )
    judged = (
        f"{checked} of {len(exports)} files checked on {len(ppg)} windows of "
        f"{result['subjects']} subjects"
    )
    lines = [f"{judged}: {verdict}", *violations, *unchecked, str(opened.verdict)]
    return result | {"summary": lines, "out": str(out)}


def beats_of(bundle, entry, rows, recorded, windows, chosen):
    """What a row says of beats: `beats`, see `compare_beats`, None where numbers are not finite;
    nothing for what reads none.
    """
    if "embedding" not in entry:
        return {}
    if not np.isfinite(rows).all():
        return {"beats": None}
    model = entry["model"]
    least, truth = bundle.certainty(model).least, windows.labels.get("hr_ecg")
    original = recorded.rows[model][chosen]
    return {"beats": compare_beats(rows, entry, original, least, truth, windows.subject)}


def compare_embeddings(embedding, original, mean):
    """Cosine of rows of two embeddings (n, D), as they are and with `mean` (D,) taken off both, and
    the largest error.

    Returns
    -------
    dict
        `cosine` and `centred`, each with `median` and `p5` (5th percentile), `max_error` and
        `histogram` (windows by 1 - centred cosine, between `HISTOGRAM_EDGES`); None where
        `embedding` has values that are not finite or another shape.
    """
    if embedding.shape != original.shape or not np.isfinite(embedding).all():
        return {"cosine": None, "centred": None, "max_error": None, "histogram": None}
    centred = centred_cosine(embedding, original, mean)
    return {
        "cosine": median_p5(centred_cosine(embedding, original, 0)),
        "centred": median_p5(centred),
        "max_error": float(np.abs(embedding - original).max()),
        "histogram": np.histogram(np.clip(1 - centred, *HISTOGRAM_EDGES[[0, -1]]), HISTOGRAM_EDGES)[
            0
        ].tolist(),
    }


def compare_heads(heads, embedding, original, windows):
    """The metric of every head on exported and original embeddings (n, D).

    Returns
    -------
    dict
        Per task `metric`, `units`, `value` (exported) with its 95 % `interval` (by resampling
        subjects), `reference` (original), and `change`. A task without labels or with a single
        class among these windows is left out.
    """
    result = {}
    subjects, subject = np.unique(windows.subject, return_inverse=True)
    once, resampled = np.ones((1, len(subjects))), draw_weights(len(subjects))
    for name, head in heads.items():
        if name not in REGISTRY:  # a user's own, whose truth is in no store
            continue
        task = REGISTRY[name]
        truth = task.target(windows)
        known = ~np.isnan(truth)
        if not known.any() or (task.kind == "binary" and np.ptp(truth[known]) == 0):
            continue
        metric = METRICS[task.metric]
        said, meant = (apply_head(head, x[known]) for x in (np.nan_to_num(embedding), original))
        value, reference = (
            float(metric(truth[known], x, subject[known], once)[0]) for x in (said, meant)
        )
        result[name] = {
            "metric": task.metric,
            "units": task.units,
            "value": value,
            "reference": reference,
        }
        result[name]["interval"] = interval(metric(truth[known], said, subject[known], resampled))
        result[name]["change"] = value - reference
    return result


def find_violations(row, limits):
    """What in a row of the result is beyond the limits: a list of sentences, empty if nothing
    is.
    """
    if "missing" in row:
        return []
    if "failure" in row:
        return [f"does not run: {row['failure']}"]
    if row["centred"] is None:
        return [UNUSABLE]
    found = []
    for key, limit, words in (
        ("median", "min_cosine", "median"),
        ("p5", "min_cosine_p5", "5th percentile"),
    ):
        if row["centred"][key] < limits[limit]:
            found.append(
                f"centred cosine, {words}: {row['centred'][key]:.4f} is below {limits[limit]:g}"
            )
    for name, head in row["heads"].items():
        limit = limits["max_auroc_change"] if head["metric"] == "auroc" else limits["max_hr_change"]
        if (name == "hr" or head["metric"] == "auroc") and abs(head["change"]) > limit:
            found.append(
                f"{name} {head['metric'].upper()} changes by {head['change']:+.3f}, more than "
                f"{limit:g}"
            )
    if "beats" in row:
        found += beat_violations(row["beats"], limits) if row["beats"] else [NO_MAP]
    return found
