"""How well beats and heart rate are read, by models and by their rivals, on people whom nobody
trained on.

    xmae prepare bidmc --min-quality -1 --out runs/all
    python -m xmae.benchmarks.studies.readings runs/all MODEL ... --out benchmarks/results

A model that reads windows (`read_windows(ppg) -> Reading`) is read directly. Of other encoders the
heart rate is read by a ridge on the frozen embedding, fitted across folds by subject, as it is on
hand-made features. The first model is tested against every other row. Definitions: docs/scores.md.
"""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from xmae.beats.reading import Reading
from xmae.beats.rivals import METHODS, SETTINGS, read_classical
from xmae.benchmarks.studies.runner import run_study
from xmae.evaluation.findings.delay_change import read_changes, true_changes
from xmae.evaluation.heads.embedding import embed_windows
from xmae.evaluation.heads.features import ppg_features
from xmae.evaluation.probe import seen_subjects
from xmae.evaluation.protocol.beat_scores import (
    IRREGULAR,
    detection_auroc,
    interval_scores,
    match_scores,
    rate_scores,
    subject_means,
    surest,
    value_scores,
)
from xmae.evaluation.protocol.bootstrap import (
    COVERAGE_NOTE,
    auroc,
    interval,
    mean_with_interval,
    resamples,
)
from xmae.evaluation.protocol.cohort import load_cohort
from xmae.evaluation.protocol.folds import probe_trial
from xmae.evaluation.protocol.paired import holm, power_note, sign_flip_test
from xmae.export.int8_reader import Int8Reader
from xmae.files import atomic_file, cache_folder
from xmae.models import load_encoder
from xmae.tables import sections

QUALITY = 0.9  # of PPG and ECG: a clean window
FEATURES = "hand-made features, ridge"


def read_embedding(cohort, embedding):
    """Read the heart rate by a ridge regression on an embedding, fitted on the other folds:
    `Reading`.
    """
    rate = np.full(len(cohort.subject), np.nan)
    rate[cohort.trial.rows] = probe_trial(cohort.trial, embedding)
    nothing = np.zeros(0)
    unsaid = np.full(len(rate), np.nan)
    return Reading(nothing.astype(int), nothing, nothing, rate, unsaid)


def open_model(path):
    """Open an encoder by name or path, or the int8 `.tflite` of a student that reads beats."""
    return Int8Reader(path) if str(path).endswith(".tflite") else load_encoder(path)


def read_all(cohort, models):
    """Read all windows by every method: {name: reading}, the models in their order, then the
    rivals.
    """
    ppg, readings = cohort.windows.ppg, {}
    for path in models:
        model, name = open_model(path), Path(path).stem
        if seen := seen_subjects(model) & set(cohort.windows.subject):
            name += f" (trained or chosen on {len(seen)} of these subjects)"
        if hasattr(model, "read_windows"):
            readings[name] = model.read_windows(ppg)
            if hasattr(model, "read_streamed"):
                readings[f"{name}, as a stream"] = model.read_streamed(cohort.windows)
        else:
            readings[f"{name}, ridge"] = read_embedding(cohort, embed_windows(model, ppg))
    for method in tqdm(METHODS, "rivals"):
        readings[method] = remembered(ppg, method)
    return readings | {FEATURES: read_embedding(cohort, ppg_features(ppg)[0])}


def remembered(ppg, method):
    """Return a rival's reading of these windows, cached because it takes minutes to compute."""
    content = hashlib.sha256(np.ascontiguousarray(ppg).tobytes())
    content.update(json.dumps([method, SETTINGS], sort_keys=True).encode())
    path = cache_folder() / "readings" / f"{content.hexdigest()[:24]}.npz"
    if path.is_file():
        with np.load(path) as archive:
            return Reading(**archive)
    reading = read_classical(ppg, method)
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **vars(reading))
    return reading


def against_first(scores):
    """Test the heart-rate error of each method against the first: {name: p}, by sign flips over
    subjects, Holm-adjusted; `scores` are `rate_scores` by name.
    """
    first, *rest = scores
    tests = [sign_flip_test(scores[first]["error"], scores[name]["error"]) for name in rest]
    return dict(zip(rest, holm(tests), strict=True))


def rate_rows(scored):
    """Return the cells of the heart-rate table, and the rows as numbers."""
    first = next(iter(scored.values()))
    scores = {name: rate_scores(one) for name, one in scored.items()}
    p_values = against_first(scores)
    our_surest = surest(first.certainty, first.error)
    cells = []
    for name, one in scored.items():
        score = scores[name]
        own = surest(one.certainty, one.error)
        kept = [
            None if rows is None else subject_means(one.error, one.subject, rows)
            for rows in (own, our_surest)
        ]
        cells.append([
            name, mean_with_interval(score["error"]), percent(score["within"]),
            percent(score["answered"]), *(shown(x) for x in kept),
            percent(score["wrong_but_sure"]),
            f"{p_values[name]:.4f}" if name in p_values else None,
        ])  # fmt: skip
    return cells


def percent(x):
    """Return the mean of the subjects' shares as text, %; NaN left out."""
    return f"{100 * np.nanmean(x):.1f}"


def shown(x):
    """Return the mean of the subjects' scores as text, with the number of subjects that have
    one.
    """
    return None if x is None else f"{np.nanmean(x):.2f} ({np.isfinite(x).sum()})"


RATE = ("method", "error, bpm", "within 5 bpm, %", "answered, %", "own surest 80 %, bpm",
        "the first's surest 80 %, bpm", "wrong but sure, %", "p (Holm)")  # fmt: skip
BEATS = ("method", "F1", "recall", "precision", "interval error, median, ms", "mean",
         "clean windows, median", "mean")  # fmt: skip
HRV = ("method", "error, ms", "Pearson", "Spearman", "Pearson within", "Spearman within")
PREMATURE = ("method", "error, points", "Spearman", "AUROC")
IRREGULAR_COLUMNS = ("method", "AUROC", "the first's lead", "Spearman")
DELAY = "delay_change"


def beat_rows(cohort, scored):
    """Return the cells of the table of beats, and the share of intervals that all methods found."""
    found = {name: one for name, one in scored.items() if one.matched}
    windows = cohort.windows
    clean = (windows.ppg_quality >= QUALITY) & (windows.ecg_quality >= QUALITY)
    intervals = interval_scores(windows, cohort.recording, found, clean)
    cells = []
    for name, one in found.items():
        match, error = match_scores(one), intervals[name]
        cells.append(
            [
                name,
                mean_with_interval(match["f1"], 3),
                *(f"{np.nanmean(match[key]):.3f}" for key in ("recall", "precision")),
                *(
                    f"{np.nanmean(error[key]):.1f}"
                    for key in ("median", "mean", "clean_median", "clean_mean")
                ),
            ]
        )
    return cells, float(next(iter(intervals.values()))["share"])


def variability_rows(cohort, scored, name):
    """Return the cells of the table of RMSSD, SDNN or another value in ms."""
    keys = ("pearson", "spearman", "pearson_within", "spearman_within")
    rows = []
    for method, one in scored.items():
        if one.matched:
            score = value_scores(cohort.truth[name], one, name)
            error = mean_with_interval(score["error"], 1)
            rows.append([method, error, *(f"{score[key]:.2f}" for key in keys)])
    return rows


def delay_rows(cohort, scored):
    """Return the cells of the table on changes of the delay within a recording: the methods, then
    "no change".
    """
    windows, recording = cohort.windows, cohort.recording
    changes = {
        name: read_changes(windows, recording, one.matched)
        for name, one in scored.items()
        if one.matched
    }
    changes["no change"] = np.zeros(len(recording))
    own = {
        name: replace(next(iter(scored.values())), values={DELAY: change}, matched=True)
        for name, change in changes.items()
    }
    truth = {DELAY: true_changes(windows, recording)}
    return variability_rows(replace(cohort, truth=truth), own, DELAY)


def premature_rows(cohort, scored):
    """Return the cells of the table on premature beats."""
    rows, truth = [], cohort.truth["premature"]
    for method, one in scored.items():
        if one.matched:
            score = value_scores(truth, one, "premature")
            auroc = detection_auroc(truth, one.values["premature"])
            error = mean_with_interval(score["error"])
            rows.append([method, error, f"{score['spearman']:.2f}", f"{auroc:.3f}"])
    return rows


def irregular_rows(cohort, scored):
    """Return the cells of the table on irregular rhythm: the AUROC of a method's irregularity for
    windows with irregular ECG, against windows of other subjects.
    """
    truth = cohort.truth["irregularity"]
    known = np.isfinite(truth) & np.isfinite(cohort.truth["hr"])
    subject, positive = cohort.subject[known], (truth[known] >= IRREGULAR).astype(float)
    weights, rows, first = resamples(int(cohort.subject.max()) + 1), [], None
    for method, one in scored.items():
        if one.matched:
            found = auroc(positive, one.values["irregularity"][known], subject, weights)
            spearman = value_scores(truth, one, "irregularity")["spearman"]
            behind = None if first is None else percentiles(first - found)
            rows.append([method, percentiles(found), behind, f"{spearman:.2f}"])
            first = found if first is None else first
    return rows


def percentiles(x):
    """Format a value with its interval over resamples: (1 + n_resamples,), the value first."""
    low, high = interval(x[1:])
    return f"{x[0]:.3f} ({low:.3f} to {high:.3f})"


def readings(store: str, models: list = (), /) -> str:
    """Score models and rivals on all subjects of a store that have truth.

    Parameters
    ----------
    store : str
        Store of `xmae prepare --min-quality -1`, with ECG.
    models : list of str
        Shipped encoders, or files.
    """
    cohort = load_cohort(store)
    found = read_all(cohort, models)
    scored = {name: cohort.score(reading) for name, reading in found.items()}
    beats, share = beat_rows(cohort, scored)
    tables = {
        "Heart rate (primary)": (RATE, rate_rows(scored)),
        "Beats and intervals": (BEATS, beats),
        "RMSSD": (HRV, variability_rows(cohort, scored, "rmssd")),
        "SDNN": (HRV, variability_rows(cohort, scored, "sdnn")),
        "Premature beats": (PREMATURE, premature_rows(cohort, scored)),
        "Irregular rhythm": (IRREGULAR_COLUMNS, irregular_rows(cohort, scored)),
        "Change of the pulse's delay within a recording": (HRV, delay_rows(cohort, scored)),
    }
    return head(cohort, len(scored) - 1, share) + sections(tables)


def head(cohort, n_rivals, share):
    """Return the text above the tables: subjects, protocol, and the power of the tests."""
    known = np.isfinite(cohort.truth["hr"])
    n_subjects = len(np.unique(cohort.subject[known]))
    return (
        f"# Beats and heart rate, on {n_subjects} subjects\n\n"
        f"{known.sum():,} of {len(known):,} windows of 10 s have truth: beats of the ECG on which "
        f"two detectors agree ({100 * known.mean():.1f} %; windows without truth are harder). A "
        f"score is the mean over subjects of their means over windows. {COVERAGE_NOTE} A window "
        "without an answer scores as the constant of the other folds. Tests are sign flips on the "
        "subjects' errors against the first row, Holm over all rows. Heart rate is the primary "
        f"endpoint, the others are secondary. {power_note(n_subjects, n_rivals)}Beats: after one "
        "delay per recording, within 150 ms and a quarter of the interval. Interval errors are of "
        f"the intervals that all methods have ({100 * share:.1f} %); clean windows have a quality "
        "of 0.9. A rhythm is irregular where neighbouring intervals of the ECG change by 10 % or "
        "more on average; windows are held against those of other subjects only, and intervals are "
        "percentiles of 1,000 resamples of subjects. The pulse's delay is from R peak to steepest "
        "rise, median of a window's beats, less the recording's median; a method's is that of its "
        "beats. Numbers in brackets beside "
        "the surest 80 % are subjects. Rivals and their settings were frozen before "
        "(xmae/beats/rivals.json).\n"
    )


if __name__ == "__main__":
    run_study(readings, "readings.md")
