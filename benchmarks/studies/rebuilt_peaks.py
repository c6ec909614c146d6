"""Where the R peaks are in hidden patches of the ECG, as a teacher rebuilds them or its tokens
tell.

    xmae prepare bidmc --min-quality -1 --out runs/all
    python -m xmae.benchmarks.studies.rebuilt_peaks runs/all base RUN ... --out benchmarks/results

RUN is the folder of a pretraining with `xmae` or `xmae-timing`: its decoder rebuilds the ECG from
the PPG and the visible patches. A shipped encoder has no decoder; its PPG tokens are read by a
ridge, fitted across folds by subject, and so are tokens of an untrained encoder of its kind and
the PPG's own patches. All are scored on the same hidden patches.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.signal import find_peaks

from xmae.beats.intervals import beats_by_window
from xmae.beats.r_peaks import fraction_of_peak
from xmae.benchmarks.studies.runner import run_study
from xmae.errors import UserError
from xmae.evaluation.evaluate import method_names
from xmae.evaluation.heads.dense import ridge, tokens_of, with_neighbours
from xmae.evaluation.probe import seen_subjects, untrained_like
from xmae.evaluation.protocol.beat_matching import pair
from xmae.evaluation.protocol.bootstrap import COVERAGE_NOTE, mean_with_interval
from xmae.evaluation.protocol.cohort import load_cohort
from xmae.files import read_json
from xmae.models import load_encoder
from xmae.models.xmae import SIZES, XMAE
from xmae.objectives.curriculum import RATIOS
from xmae.objectives.masks import anchor, n_hidden
from xmae.signals.scale import minmax_scale
from xmae.signals.window import N_TIMES, PATCH, SFREQ
from xmae.tables import markdown_table
from xmae.training.begin import WHOLE, read_weights, same_tensors

TOLERANCE_S = 0.1
WIDTH = 2.0  # samples: deviation of the bell at each R peak that a ridge learns
APART = 25  # samples between two peaks
LEAST = 0.35  # height of a peak over the highest of its window
SEED = 77
COLUMNS = ("method", "recall within 100 ms", "precision", "error, median, ms")


@dataclass(frozen=True)
class Windows:
    """Windows whose ECG is shifted by the recording's delay, so that R peaks lie where the pulse
    rises.

    ppg, ecg : (n, 1, 1000) tensors in [-1, 1]; the ECG's R peaks lie where the pulse rises.
    peaks : list of arrays, samples, of each window.
    hidden : (n, 25) bool tensor, True = hidden.
    subject : (n,) int array.
    folds : list of (fitted, scored) row numbers.
    names : set of the subjects' names.
    """

    ppg: torch.Tensor
    ecg: torch.Tensor
    peaks: list
    hidden: torch.Tensor
    subject: np.ndarray
    folds: list
    names: set


def load_windows(cohort):
    """Select the windows with truth of a cohort, and remove each recording's delay from its ECG:
    `Windows`.
    """
    windows, late = cohort.windows, cohort.delays()
    late = np.where(np.isfinite(late), np.rint(late), -1).astype(int)
    window, time = beats_by_window(windows.beats)
    ecg = windows.ecg.copy()
    for number in np.unique(cohort.recording[late >= 0]):
        rows = np.flatnonzero(cohort.recording == number)
        ecg[rows] = np.roll(ecg[rows].ravel(), late[rows[0]]).reshape(-1, N_TIMES)
    known = (late >= 0) & np.isfinite(cohort.truth["hr"])
    if not known.any():
        raise UserError("no recording whose delay can be found")
    at = np.rint(SFREQ * time).astype(int) + late[window]
    beyond = at >= N_TIMES  # in the next window, if there is one
    whole = ~beyond | windows.follows[window]
    window, at = (window + beyond)[whole], (at - N_TIMES * beyond)[whole]
    peaks = [at[window == row] for row in np.flatnonzero(known)]
    place = np.cumsum(known) - 1
    folds = [tuple(place[rows[known[rows]]] for rows in fold) for fold in cohort.trial.folds]
    generator = torch.Generator().manual_seed(SEED)
    scaled = [
        torch.as_tensor(minmax_scale(x[known].astype(np.float32))[0])[:, None]
        for x in (windows.ppg, ecg)
    ]
    hidden = anchor(len(peaks), N_TIMES // PATCH, RATIOS[0], generator)
    subject, names = cohort.subject[known], set(windows.subject[known])
    return Windows(*scaled, peaks, hidden, subject, folds, names)


def read_linearly(windows, x):
    """Score R peaks by a ridge regression on patches, fitted on other folds: (n, 25, D) -> (n,
    1000).
    """
    t = np.arange(N_TIMES)
    bells = np.zeros((len(x), N_TIMES), np.float32)
    for row, peaks in enumerate(windows.peaks):
        bells[row] = np.exp(-0.5 * ((t - peaks[:, None]) / WIDTH) ** 2).sum(0)
    target = bells.reshape(len(x), -1, PATCH)
    found = np.zeros_like(target)
    for fitted, scored in windows.folds:
        known = [part[fitted].reshape(-1, part.shape[2]) for part in (x, target)]
        new = ridge(*known, x[scored].reshape(-1, x.shape[2]))
        found[scored] = new.reshape(len(scored), -1, PATCH)
    return found.reshape(len(x), -1)


def open_run(folder):
    """Open the whole model of a pretraining run that reconstructs ECG."""
    settings = read_json(Path(folder) / "config.json")
    if settings.get("method") not in ("xmae", "xmae-timing"):
        raise UserError(f"{folder}: was made by {settings.get('method')}, which rebuilds no ECG")
    timed = settings["method"] == "xmae-timing"
    model = XMAE(SIZES[settings["size"]], timed, near=timed and settings.get("near", 1) > 0)
    state = read_weights(Path(folder) / WHOLE)
    if not same_tensors(model.state_dict(), state):
        raise UserError(f"{folder}: of an older version of {settings['method']}; train it again")
    model.load_state_dict(state)
    return model.eval()


@torch.no_grad()
def rebuild(model, windows, batch_size=64):
    """Reconstruct the ECG and return its distance from its median, (n, 1000): largest at R peaks of
    either sign.
    """
    n_visible = N_TIMES // PATCH - n_hidden(N_TIMES // PATCH, RATIOS[0])
    parts = zip(
        *(x.split(batch_size) for x in (windows.ppg, windows.ecg, windows.hidden)), strict=True
    )
    rebuilt = torch.cat([model(*part, n_visible).reconstruction[:, 0] for part in parts]).numpy()
    return np.abs(rebuilt - np.median(rebuilt, axis=1, keepdims=True))


def peaks_of(strength, hidden):
    """Find peaks in the hidden samples of each window: list of arrays, in samples, interpolated
    between them.
    """
    found = []
    for row, seen in zip(strength, ~hidden.repeat_interleave(PATCH, 1).numpy(), strict=True):
        row = np.where(seen, 0.0, row)
        peaks, _ = find_peaks(row, height=LEAST * row.max(), distance=APART)
        found.append(fraction_of_peak(row, peaks))
    return found


def score(windows, found):
    """Return the recall, precision and median error (ms) of each subject, after one lag per subject
    is subtracted.
    """
    hidden = windows.hidden.repeat_interleave(PATCH, 1).numpy()
    true = [peaks[hidden[row, peaks]] for row, peaks in enumerate(windows.peaks)]
    rows = []
    for number in np.unique(windows.subject):
        mine = np.flatnonzero(windows.subject == number)
        # windows far apart in time, so that no peak has a partner in another one
        truth, said = (
            np.concatenate([peaks[k] / SFREQ + 100.0 * k for k in mine]) for peaks in (true, found)
        )
        rows.append(score_subject(truth, said))
    return np.array(rows).T


def score_subject(truth, found):
    """Return the recall, precision and median error (ms) of times (s), after the median error is
    subtracted.
    """
    tolerance = np.full(len(truth), TOLERANCE_S)
    partner = pair(truth, found, tolerance)
    errors = found[partner[partner >= 0]] - truth[partner >= 0]
    if len(errors):
        found = found - np.median(errors)
        partner = pair(truth, found, tolerance)
    matched = partner >= 0
    errors = np.abs(found[partner[matched]] - truth[matched])
    return (
        matched.mean() if len(truth) else np.nan,
        len(np.unique(partner[matched])) / len(found) if len(found) else np.nan,
        1000 * np.median(errors) if len(errors) else np.nan,
    )


def strengths(windows, models):
    """Yield each method's strength of R peaks at every sample: (name, (n, 1000))."""
    for model, name in zip(models, method_names(models), strict=True):
        if Path(model).is_dir():
            yield f"{name}, rebuilt ECG", rebuild(open_run(model), windows)
            encoder = open_run(model).encoder
        else:
            encoder = load_encoder(model)
        if not hasattr(encoder, "tokens"):
            raise UserError(f"{model}: an encoder without tokens")
        known = seen_subjects(encoder) & windows.names if hasattr(encoder, "provenance") else ()
        note = f" (trained or chosen on {len(known)} of these subjects)" if known else ""
        yield (
            f"{name}{note}, tokens, linear",
            read_linearly(windows, tokens_of(encoder, windows.ppg[:, 0])),
        )
        torch.manual_seed(SEED)
        untrained = untrained_like(encoder).eval()
        yield (
            f"untrained, as {name}, tokens, linear",
            read_linearly(windows, tokens_of(untrained, windows.ppg[:, 0])),
        )
    patches = windows.ppg.numpy().reshape(len(windows.peaks), -1, PATCH)
    yield "PPG as it is, linear", read_linearly(windows, with_neighbours(patches))


def rebuilt_peaks(store: str, models: list = ("base",), /) -> str:
    """Score how well R peaks in hidden patches are found.

    Parameters
    ----------
    store : str
        Store of `xmae prepare --min-quality -1`, with ECG.
    models : list of str
        Encoders with tokens, or folders of runs.
    """
    windows, rows = load_windows(load_cohort(store)), []
    for name, strength in strengths(windows, models):
        recall, precision, error = score(windows, peaks_of(strength, windows.hidden))
        rows.append([
            name, mean_with_interval(recall, 3), f"{np.nanmean(precision):.3f}",
            mean_with_interval(error, 1),
        ])  # fmt: skip
    return (
        f"# R peaks in hidden patches of the ECG, on {len(np.unique(windows.subject))} subjects\n\n"
        f"{len(windows.peaks):,} windows of 10 s with truth. {100 * RATIOS[0]:.0f} % of the ECG's "
        "patches are hidden, all but one run. Each recording's delay from R peak to pulse is taken "
        "off before. A row's own median error for each subject is taken off too. Peaks are looked "
        "for in the hidden patches alone, and found within 100 ms. A ridge learns a bell of 20 ms "
        "at each R peak from three patches, on subjects of other folds; it sees no ECG. Means over "
        f"subjects. {COVERAGE_NOTE} The limit is a recall of 0.95 and a median error of 10 ms, "
        "better than untrained "
        f"tokens.\n\n{markdown_table(COLUMNS, rows)}\n"
    )


if __name__ == "__main__":
    run_study(rebuilt_peaks, "rebuilt_peaks.md")
