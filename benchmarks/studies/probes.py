"""What frozen encoders tell of the pulse, by a pooled and by a dense probe, on people whom nobody
trained on.

    xmae prepare bidmc --min-quality -1 --out runs/all
    python -m xmae.benchmarks.studies.probes runs/all RUN/encoder.safetensors ...

The page says how each encoder was pretrained. The pooled probe is a ridge on the embedding, which
reads the heart rate, as it does on hand-made features. The dense probe is a ridge on the tokens,
which reads the timing map, and so the beats. Both are fitted across folds by subject. Every method
is tested against the first. Definitions: docs/scores.md.
"""

from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from xmae.beats.reader import read_maps
from xmae.beats.rivals import METHODS
from xmae.benchmarks.studies.readings import (
    FEATURES,
    QUALITY,
    against_first,
    percent,
    read_embedding,
    remembered,
)
from xmae.benchmarks.studies.runner import run_study
from xmae.errors import UserError
from xmae.evaluation.evaluate import method_names
from xmae.evaluation.heads.dense import dense_maps, tokens_of
from xmae.evaluation.heads.embedding import embed_windows
from xmae.evaluation.heads.features import ppg_features
from xmae.evaluation.probe import seen_subjects, untrained_like
from xmae.evaluation.protocol.beat_scores import (
    detection_auroc,
    interval_scores,
    match_scores,
    rate_scores,
    value_scores,
)
from xmae.evaluation.protocol.bootstrap import COVERAGE_NOTE, mean_with_interval
from xmae.evaluation.protocol.cohort import load_cohort
from xmae.evaluation.protocol.paired import power_note
from xmae.models import load_encoder
from xmae.tables import sections

UNTRAINED, SEED = "untrained, as the first", 77
TRAINED = ("method", "parameters", "windows seen", "minutes", "command")
POOLED = ("method", "error, bpm", "within 5 bpm, %", "p (Holm)")
DENSE = (*POOLED, "F1", "interval error, ms", "RMSSD, Spearman", "SDNN, Spearman",
         "premature beats, AUROC")  # fmt: skip


def read_tokens(cohort, encoder, pulses):
    """Read beats by a ridge regression on the tokens of an encoder, fitted on the other folds:
    `Reading`; `pulses` as of `Cohort.pulses`.
    """
    tokens = tokens_of(encoder, cohort.windows.ppg)
    return read_maps(dense_maps(tokens, pulses, cohort.trial.folds))


def open_all(cohort, models):
    """Open encoders by name, and make an untrained one of the design of the first: {name: encoder}.

    Raises
    ------
    UserError
        If one has no tokens.
    """
    encoders = {}
    for path, name in zip(models, method_names(models), strict=True):
        encoder = load_encoder(path)
        if not hasattr(encoder, "tokens"):
            raise UserError(f"{path}: an encoder without tokens")
        if seen := seen_subjects(encoder) & set(cohort.windows.subject):
            name += f" (trained or chosen on {len(seen)} of these subjects)"
        encoders[name] = encoder
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        encoders[UNTRAINED] = untrained_like(next(iter(encoders.values()))).eval()
    return encoders


def training_cells(name, encoder):
    """Return the cells of how an encoder was pretrained: its minutes by the clock, and its command
    but for the store and the folder.
    """
    origin, settings = encoder.provenance, encoder.provenance["settings"]
    data = Path(settings["data"]).name
    words = [f"xmae pretrain {data}"]
    if "method" not in settings:
        words = [f"xmae distill {settings['teacher']} --data {data}"]
    for key in ("method", "size", "tier", "epochs", "batch_size", "seed"):
        words += [f"--{key.replace('_', '-')} {settings[key]}"] if key in settings else []
    for key in ("real", "steps"):
        words += [f"--options.{key}={settings[key]:g}"] if key in settings else []
    return [
        name, f"{sum(p.numel() for p in encoder.parameters()):,}", f"{origin['windows_seen']:,}",
        f"{origin['seconds'] / 60:.1f}", f"`{' '.join(words)}`",
    ]  # fmt: skip


def rate_cells(scored):
    """Return the cells of the heart rate of each method: {name: [error, within 5 bpm, p]}."""
    scores = {name: rate_scores(one) for name, one in scored.items()}
    p = against_first(scores)
    return {
        name: [
            mean_with_interval(score["error"]), percent(score["within"]),
            f"{p[name]:.4f}" if name in p else None,
        ]
        for name, score in scores.items()
    }  # fmt: skip


def beat_cells(cohort, scored):
    """Return the cells of the beats of each method, {name: [F1, ...]}, and the share of the ECG's
    intervals that all have.
    """
    windows, cells = cohort.windows, {}
    found = {name: one for name, one in scored.items() if one.matched}
    clean = windows.ppg_quality >= QUALITY
    intervals = interval_scores(windows, cohort.recording, found, clean)
    for name, one in found.items():
        spearman = [value_scores(cohort.truth[x], one, x)["spearman"] for x in ("rmssd", "sdnn")]
        premature = detection_auroc(cohort.truth["premature"], one.values["premature"])
        cells[name] = [
            f"{np.nanmean(match_scores(one)['f1']):.3f}",
            f"{np.nanmean(intervals[name]['median']):.1f}",
            *(f"{x:.2f}" for x in spearman), f"{premature:.3f}",
        ]  # fmt: skip
    return cells, float(next(iter(intervals.values()))["share"])


def probes(store: str, models: list, /) -> str:
    """Score encoders by a pooled and a dense probe, beside features and classical detectors.

    Parameters
    ----------
    store : str
        Store of `xmae prepare --min-quality -1`, with ECG.
    models : list of str
        Encoders with tokens: shipped ones, or files.
    """
    cohort = load_cohort(store)
    ppg, pulses = cohort.windows.ppg, cohort.pulses()
    pooled, dense, trained = {}, {}, []
    for name, encoder in tqdm(open_all(cohort, models).items(), "encoders"):
        if "settings" in (getattr(encoder, "provenance", None) or {}):
            trained.append(training_cells(name, encoder))
        pooled[name] = cohort.score(read_embedding(cohort, embed_windows(encoder, ppg)))
        dense[name] = cohort.score(read_tokens(cohort, encoder, pulses))
    pooled[FEATURES] = cohort.score(read_embedding(cohort, ppg_features(ppg)[0]))
    for method in METHODS:
        dense[f"{method}, read directly"] = cohort.score(remembered(ppg, method))
    beats, share = beat_cells(cohort, dense)
    tables = {
        "Pretraining": (TRAINED, trained),
        "Pooled probe": (POOLED, [[name, *row] for name, row in rate_cells(pooled).items()]),
        "Dense probe": (
            DENSE,
            [[name, *row, *beats.get(name, [None] * 5)] for name, row in rate_cells(dense).items()],
        ),
    }
    return head(cohort, max(len(pooled), len(dense)) - 1, share) + sections(tables)


def head(cohort, n_rivals, share):
    """Return the text above the tables."""
    known = np.isfinite(cohort.truth["hr"])
    n_subjects = len(np.unique(cohort.subject[known]))
    return (
        f"# What frozen encoders tell of the pulse, on {n_subjects} subjects\n\n"
        f"{known.sum():,} of {len(known):,} windows of 10 s have truth. The pooled probe is a "
        "ridge on the embedding and reads the heart rate. The dense probe is a ridge on the tokens "
        "and reads the timing map, and so the beats. Both are fitted on other subjects. A score is "
        f"the mean over subjects of their means over windows. {COVERAGE_NOTE} Tests are sign flips "
        "on the subjects' errors against the first row of the same table, Holm over its rows. "
        f"{power_note(n_subjects, n_rivals)}Interval errors are of the intervals that all rows "
        f"have ({100 * share:.1f} %). The other scores are in docs/scores.md.\n"
    )


if __name__ == "__main__":
    run_study(probes, "probes.md")
