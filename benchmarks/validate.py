"""The gate: how far each exported model is from its fp32 original, on subjects that no training
saw.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from xmae.benchmarks.harness.baseline import (
    load_reference,
    make_reference,
    other_weights,
    reference_windows,
    refuse_lacking,
)
from xmae.benchmarks.harness.beat_drift import FP32_BEATS, beat_violations
from xmae.benchmarks.harness.drift import compare
from xmae.benchmarks.harness.hardware import hardware
from xmae.benchmarks.harness.isolated import run_all_apart
from xmae.benchmarks.harness.moving import moving_rows
from xmae.benchmarks.harness.rows import DriftRow
from xmae.benchmarks.harness.sessions import describe, find_entries, not_checked
from xmae.benchmarks.harness.stopwatch import add_latency
from xmae.data.store.store import WindowStore
from xmae.errors import UserError
from xmae.export.bundle.bundle import Bundle
from xmae.files import write_json
from xmae.quantize.calibration import evenly
from xmae.signals.scale import minmax_scale

LATENCY_WINDOWS = 10  # windows per round of the latency measurement

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
    """Compare every model of a bundle, in every installed runtime, with its fp32 original. The
    limits are for int8.

    Students for PPG and acceleration are judged by their beats on generated people in motion.
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
    limits = {
        "int8": {
            "min_cosine": min_cosine,
            "min_cosine_p5": min_cosine_p5,
            "max_hr_change": max_hr_change,
            "max_auroc_change": max_auroc_change,
            "max_beat_ms": max_beat_ms,
            "max_beat_ms_p99": max_beat_ms_p99,
            "max_rate_change": max_rate_change,
            "max_refusal_flips": max_refusal_flips,
        },
        "fp32": FP32_LIMITS | FP32_BEATS,
    }
    rows = judge(opened, recorded, used, chosen, limits, rounds)
    rows += judge_moving(opened, limits["int8"])
    result = verdict(rows, other_weights(recorded, opened), opened.verdict, used) | {
        "limits": limits,
        "bundle": str(bundle),
        "reference": recorded.info,
        "hardware": hardware(),
    }
    summary = result.pop("summary")
    write_json(Path(out) / "drift.json", result)
    return result | {"summary": summary, "out": str(out)}


def judge(opened, recorded, windows, chosen, limits, rounds):
    """Run every model of a bundle, and compare it with its limits.

    Parameters
    ----------
    opened : Bundle
    recorded : Reference
    windows : Windows
        Those to run, n.
    chosen : int array, shape (n,)
        Numbers of these windows among the recorded ones.
    limits : dict
        Limits of "int8" and "fp32", by name.
    rounds : int
        Rounds of the latency measurement; 0 = none.

    Returns
    -------
    list of DriftRow

    Raises
    ------
    UserError
        If none of the runtimes is installed.
    """
    ppg, _ = minmax_scale(windows.ppg)
    entries, rows = find_entries(opened), []
    for entry, (given, report) in zip(entries, run_all_apart(opened, entries, ppg), strict=True):
        row = DriftRow(**describe(entry), **report)
        row = replace(row, **compare(opened, entry, given, recorded, windows, chosen))
        held_to = limits["fp32" if entry.precision == "fp32" else "int8"]
        rows.append(replace(row, violations=find_violations(row, held_to)))
    if not any(row.missing is None for row in exports(rows)):
        raise UserError(
            "none of the runtimes of this bundle is installed; try pip install 'xmae[edge]'"
        )
    return add_latency(opened, entries, rows, ppg[:LATENCY_WINDOWS], rounds) if rounds else rows


def judge_moving(opened, limits):
    """Compare students for PPG and acceleration with the limits of beats: a list of `DriftRow`."""
    rows = moving_rows(opened, DriftRow)
    return [replace(row, violations=find_violations(row, limits)) for row in rows]


def exports(rows):
    """Return the rows of the exported files."""
    return [row for row in rows if row.format != "pytorch"]


def verdict(rows, other, signature, windows):
    """Sum up the rows: what `drift.json` says of the whole, and `summary`, the lines for the
    terminal.

    Parameters
    ----------
    rows : list of DriftRow
    other : list of str
        Models of which the bundle has other weights than the reference.
    signature : Verdict
        Verdict on the bundle's signature.
    windows : Windows
        Those that were run.
    """
    violations = [
        f"{model}: the weights in the bundle are not those that the reference was made from"
        for model in other
    ]
    for row in rows:
        violations += [f"{row.name}: {violation}" for violation in row.violations]
    files = exports(rows)
    unchecked = not_checked(files)
    checked = sum(row.missing is None for row in files)
    n_subjects = int(np.unique(windows.subject).size)
    words = "all within the limits"
    if violations:
        words = f"beyond the limits: {len(violations)} times"
    judged = f"{checked} of {len(files)} files checked on {len(windows)} windows"
    elsewhere = [f"{row.name}: judged on {row.people}" for row in rows if row.people]
    return {
        "passed": not violations and not unchecked,
        "violations": violations,
        "checked": checked,
        "not_checked": unchecked,
        "signature": signature.state,
        "windows": len(windows),
        "subjects": n_subjects,
        "models": [row.as_json() for row in rows],
        "summary": [
            f"{judged} of {n_subjects} subjects: {words}",
            *elsewhere,
            *violations,
            *unchecked,
            str(signature),
        ],
    }


def find_violations(row, limits):
    """List what in a row is beyond the limits: a list of sentences, empty if nothing is."""
    if row.missing is not None:
        return []
    if row.failure is not None:
        return [f"fails: {row.failure}"]
    found = too_far(row.centred, limits) if row.centred else []
    for name, head in (row.heads or {}).items():
        limit = limits["max_auroc_change" if head.metric == "auroc" else "max_hr_change"]
        if (name == "hr" or head.metric == "auroc") and abs(head.change) > limit:
            found.append(
                f"{name} {head.metric.upper()} changes by {head.change:+.3f}, more than {limit:g}"
            )
    return found + (beat_violations(row.beats, limits) if row.beats else [])


def too_far(centred, limits):
    """List how far the centred cosines of a row are beyond the limits: a list of sentences."""
    found = []
    for key, limit, words in (
        ("median", "min_cosine", "median"),
        ("p5", "min_cosine_p5", "5th percentile"),
    ):
        value = getattr(centred, key)
        if value < limits[limit]:
            found.append(f"centred cosine, {words}: {value:.4f} is below {limits[limit]:g}")
    return found
