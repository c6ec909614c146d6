"""What each part of xMAE with timing brings: runs of one budget, scored on people whom nobody
trained on.

Each run differs from the one before in one part: the published method; the delay taken off;
timing; the twin; a tolerance and a bridge that starts near in time.

    SIZE="--size small --batch-size 64"
    xmae pretrain cinc --method xmae $SIZE --epochs 28 --out runs/published
    TIMED="cinc --method xmae-timing $SIZE --epochs 13 --options.near=0 --options.tolerance=0"
    xmae pretrain $TIMED --options.real=1 --options.timing=0 --out runs/delay
    xmae pretrain $TIMED --options.real=1 --out runs/timing
    xmae pretrain $TIMED --seed 77 --out runs/twin-77
    xmae pretrain cinc --method xmae-timing $SIZE --epochs 13 --seed 77 --out runs/all-77
    python -m xmae.benchmarks.studies.ablation runs/all runs/published runs/delay ...

The last two once for each seed. An epoch of `xmae-timing` has 16,000 windows, one of `xmae` as many
as the store. Each run's own settings say what it is; its row is named after its folder.
"""

from pathlib import Path

import numpy as np

from xmae.benchmarks.studies.probes import read_tokens
from xmae.benchmarks.studies.readings import read_embedding
from xmae.benchmarks.studies.rebuilt_peaks import load_windows, open_run, peaks_of, rebuild, score
from xmae.benchmarks.studies.runner import run_study
from xmae.errors import UserError
from xmae.evaluation.heads.embedding import embed_windows
from xmae.evaluation.probe import refuse_seen
from xmae.evaluation.protocol.beat_scores import match_scores, rate_scores
from xmae.evaluation.protocol.bootstrap import COVERAGE_NOTE, mean_with_interval
from xmae.evaluation.protocol.cohort import load_cohort
from xmae.files import read_json
from xmae.models import load_encoder
from xmae.tables import markdown_table
from xmae.training.begin import ENCODER

COLUMNS = (
    "run", "windows seen", "method", "real, tolerance, timing, near", "seed", "pooled probe, bpm",
    "dense probe, bpm", "its F1", "own beats, bpm", "their F1", "R peaks, recall",
    "their error, ms",
)  # fmt: skip
NAMED = ("real", "tolerance", "timing", "near")


def row_of(run, cohort, pulses, windows):
    """Return the cells of one run.

    Parameters
    ----------
    run : str
        Folder of a pretraining that rebuilds ECG.
    cohort : Cohort
    pulses : array, shape (n, K)
        See `Cohort.pulses`.
    windows : xmae.benchmarks.studies.rebuilt_peaks.Windows
    """
    encoder, settings = load_encoder(Path(run) / ENCODER), read_json(Path(run) / "config.json")
    model, ppg = open_run(run), cohort.windows.ppg
    parts = [f"{settings[name]:g}" for name in NAMED if name in settings]
    pooled = cohort.score(read_embedding(cohort, embed_windows(encoder, ppg)))
    dense = cohort.score(read_tokens(cohort, encoder, pulses))
    cells = [
        Path(run).name, f"{read_json(Path(run) / 'metrics.json')['windows_seen']:,}",
        settings["method"], ", ".join(parts), settings["seed"], rate_of(pooled), *beats_of(dense),
    ]  # fmt: skip
    own = [None, None]
    if settings.get("timing", 0) > 0:
        own = beats_of(cohort.score(encoder.read_windows(ppg)))
    recall, _, error = score(windows, peaks_of(rebuild(model, windows), windows.hidden))
    return [*cells, *own, mean_with_interval(recall, 3), mean_with_interval(error, 1)]


def rate_of(scored):
    """Return the heart rate's error as text, bpm."""
    return mean_with_interval(rate_scores(scored)["error"])


def beats_of(scored):
    """Return the heart rate's error, bpm, and the F1 of the beats, as text."""
    f1 = None if scored.matched is None else f"{np.nanmean(match_scores(scored)['f1']):.3f}"
    return rate_of(scored), f1


def ablation(store: str, runs: list, /) -> str:
    """Score pretrainings that differ in one part each.

    Parameters
    ----------
    store : str
        Store of `xmae prepare --min-quality -1`, with ECG.
    runs : list of str
        Folders of finished pretrainings with `xmae` or `xmae-timing`.

    Raises
    ------
    UserError
        If runs saw different numbers of windows by more than 2 %, or a subject of the store.
    """
    seen = [read_json(Path(run) / "metrics.json")["windows_seen"] for run in runs]
    if max(seen) > 1.02 * min(seen):
        raise UserError(
            f"the runs saw different numbers of windows: {min(seen):,} to {max(seen):,}"
        )
    cohort = load_cohort(store)
    for run in runs:
        refuse_seen(load_encoder(Path(run) / ENCODER), set(cohort.windows.subject))
    windows, pulses = load_windows(cohort), cohort.pulses()
    rows = [row_of(run, cohort, pulses, windows) for run in runs]
    known = np.isfinite(cohort.truth["hr"])
    return (
        f"# What each part of xMAE with timing brings, on {len(np.unique(cohort.subject[known]))} "
        f"subjects\n\n{known.sum():,} windows of 10 s with truth; nothing was trained or chosen on "
        "these subjects. The pooled probe, a ridge, reads the heart rate from the embedding. The "
        "dense one reads the timing map from the tokens, and so the beats. Both are fitted across "
        "folds by subject. Own beats are those of the tokens' own map. R peaks are those of the "
        "rebuilt ECG in hidden patches, within 100 ms. Real is the share of windows that are not "
        "generated, tolerance in samples of 10 ms, timing the weight of its loss; near = 1: the "
        "bridge starts near in time. Means over subjects. "
        f"{COVERAGE_NOTE}\n\n{markdown_table(COLUMNS, rows)}\n"
    )


if __name__ == "__main__":
    run_study(ablation, "ablation.md")
