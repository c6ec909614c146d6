"""`xmae dreamer`: emotion from EEG and ECG on DREAMER, by the usual protocol with the splits named
for what they are.

Each rating (valence, arousal, dominance; 1 to 5) is cut in two: high is above 3. The last 60 s of a
clip are six windows of 10 s; frozen encoders embed them, the mean embedding of the rest before the
clip is taken away, a linear head says high or low, and the windows of a clip are averaged. Two
splits: "leave-subjects-out" scores people whom the head never saw; "subject-dependent" scores clips
that it never saw, of people whom it knows, and says nothing of others.
"""

from pathlib import Path

import numpy as np
import torch
from scipy import signal
from sklearn.model_selection import GroupKFold
from tqdm import tqdm

from xmae.data.recording.leads import standardise
from xmae.data.recording.readers.dreamer import ECG_SFREQ, EEG_SFREQ, RATINGS, read_dreamer
from xmae.errors import (
    UserError,
    names_of,
    require_at_least,
    require_choice,
    require_choices,
)
from xmae.evaluation.fusion.fuse import embed_signals, ways_of
from xmae.evaluation.fusion.fusion_heads import fit_head
from xmae.evaluation.protocol.bootstrap import auroc, interval, resamples, with_interval
from xmae.files import atomic_file, write_json
from xmae.models.checkpoint import load_encoder
from xmae.models.criss_cross import PATCH, SFREQ, CrissCrossEncoder, load_criss_cross
from xmae.models.fusion import FUSIONS
from xmae.signals.filters import ecg_clean
from xmae.signals.resample import resample
from xmae.tables import markdown_table

PROTOCOLS = ("leave-subjects-out", "subject-dependent")
BASELINES = ("subtract", "none")
EEG_BAND = (0.3, 45.0)  # Hz: from the release's high-pass to the headset's own limit
EEG_SCALE = 100  # microvolts: the release's unit
LAST_S, WINDOW_S = 60, 10  # of a clip; of a window


def dreamer(
    mat: str,
    out: str = "runs/dreamer",
    eeg: str | None = None,
    ecg: str | None = None,
    protocol: str = "leave-subjects-out",
    fusion: str = "concatenate",
    baseline: str = "subtract",
    threshold: float = 3.0,
    electrodes: str = "all",
    folds: int = 5,
    seed: int = 77,
) -> dict:
    """Score emotion recognition on DREAMER from frozen EEG and ECG encoders.

    Parameters
    ----------
    mat : str
        `DREAMER.mat`, from its authors.
    out : str
        Folder for dreamer.json and dreamer.md.
    eeg : str or None
        EEG encoder: a released CBraMod checkpoint (.pth, .safetensors), or a file of `xmae
        pretrain`.
    ecg : str or None
        ECG encoder for two leads: a file of `xmae pretrain --method criss-cross`.
    protocol : str
        "leave-subjects-out": folds over people. "subject-dependent": for each person alone, folds
        over clips.
    fusion : str
        "concatenate", "late" or "gated"; several separated by commas to compare.
    baseline : str
        "subtract" the mean embedding of the rest before each clip, or "none".
    threshold : float
        A rating (1 to 5) above it is high.
    electrodes : str
        Names separated by commas, such as "AF3,F7", or "all".
    folds : int
        Folds, over people or over the clips of each.
    seed : int
        Seed of the resamples and of gated fusion.

    Returns
    -------
    dict
        As dreamer.json: per rating and way (modalities, fusion) `auc`, `f1` and `accuracy`, each
        with an interval over people; "out".

    Raises
    ------
    UserError
        If the file cannot be used, no encoder is given, or a setting or electrode is unknown.
    """
    require_choice("protocol", protocol, PROTOCOLS)
    require_choice("baseline", baseline, BASELINES)
    require_at_least(2, folds=folds)
    fusions = require_choices("fusion", fusion, FUSIONS)
    files = {name: file for name, file in {"eeg": eeg, "ecg": ecg}.items() if file}
    if not files:
        raise UserError("give an encoder with --eeg, --ecg or both")
    encoders = {name: load_any(file) for name, file in files.items()}
    trials, names = read_dreamer(mat)
    rows = electrode_rows(electrodes, names)
    embeddings, trial = embed_trials(encoders, trials, rows, baseline)
    result = {
        "protocol": protocol, "baseline": baseline, "threshold": threshold, "fusion": fusions,
        "encoders": files, "electrodes": [names[row] for row in rows], "folds": folds, "seed": seed,
        "subjects": len({t.subject for t in trials}),
        "ratings": {},
    }  # fmt: skip
    for rating in tqdm(RATINGS, "dreamer"):
        torch.manual_seed(seed)
        high = np.array([t.ratings[rating] > threshold for t in trials], float)
        subject = np.unique([t.subject for t in trials], return_inverse=True)[1]
        result["ratings"][rating] = score_ways(
            embeddings, trial, high, subject, fusions, protocol, folds, seed
        )
    write_json(Path(out) / "dreamer.json", result)
    with atomic_file(Path(out) / "dreamer.md") as temporary:
        temporary.write_text(dreamer_table(result))
    summary = [
        f"{len(trials)} clips of {result['subjects']} people",
        *dreamer_table(result).splitlines(),
    ]
    return result | {"summary": summary[:6], "out": str(out)}


def load_any(file):
    """Load a criss-cross encoder, in this package's format or as released."""
    try:
        encoder = load_encoder(file, ppg=False)
    except UserError:
        if not Path(file).is_file():
            raise
        encoder = load_criss_cross(file).encoder
    if not isinstance(encoder, CrissCrossEncoder):
        raise UserError(f"{file}: a {type(encoder).__name__} is no encoder of EEG or ECG leads")
    return encoder


def electrode_rows(wanted, names):
    """Return the rows of electrodes by name; "all" for all."""
    chosen = names if wanted == "all" else names_of(wanted)
    if unknown := [name for name in chosen if name not in names]:
        raise UserError(f"unknown electrode '{unknown[0]}'; the recording has {', '.join(names)}")
    return [names.index(name) for name in chosen]


def eeg_windows(x):
    """Convert EEG (C, n_times) in microvolts at 128 Hz to windows (n, C, 2000) at 200 Hz in units
    of 100 microvolts.
    """
    band = signal.butter(2, EEG_BAND, "bandpass", output="sos", fs=EEG_SFREQ)
    return cut(resample(signal.sosfiltfilt(band, x, axis=-1), EEG_SFREQ, SFREQ) / EEG_SCALE)


def ecg_windows(x):
    """Convert ECG (C, n_times) at 256 Hz to cleaned windows (n, C, 2000) at 200 Hz, not yet
    standardised.
    """
    return cut(resample(ecg_clean(x, ECG_SFREQ), ECG_SFREQ, SFREQ))


def cut(x):
    """Cut the last 60 s, or as many whole windows of 10 s as there are: (C, n_times) at 200 Hz ->
    (n, C, 2000).
    """
    length = WINDOW_S * SFREQ // PATCH * PATCH
    n = min(x.shape[-1] // length, LAST_S // WINDOW_S)
    if not n:
        raise UserError(
            f"a clip or baseline of {x.shape[-1] / SFREQ:.1f} s is shorter than a window of "
            f"{WINDOW_S} s"
        )
    return x[:, -n * length :].reshape(len(x), n, length).transpose(1, 0, 2).astype(np.float32)


def embed_trials(encoders, trials, rows, baseline):
    """Embed all windows of all trials: the embeddings by modality, and the number of each window's
    trial (n,).
    """
    parts, numbers = {name: [] for name in encoders}, []
    for subject in tqdm(dict.fromkeys(t.subject for t in trials), "embed"):
        own = [(i, t) for i, t in enumerate(trials) if t.subject == subject]
        counts = []
        for name, encoder in encoders.items():
            cut_one = eeg_windows if name == "eeg" else ecg_windows
            pick = rows if name == "eeg" else slice(None)
            clips = [cut_one(getattr(t, name)[pick]) for _, t in own]
            rests = [cut_one(getattr(t, f"{name}_baseline")[pick]) for _, t in own]
            joined = np.concatenate(clips + rests)
            embedded = embed_signals(encoder, joined if name == "eeg" else standardise(joined))
            embedded = np.split(embedded, np.cumsum([len(x) for x in clips + rests])[:-1])
            counts.append([len(x) for x in clips])
            for clip, rest in zip(embedded[: len(own)], embedded[len(own) :], strict=True):
                parts[name].append(clip - rest.mean(0) if baseline == "subtract" else clip)
        if any(count != counts[0] for count in counts):
            raise UserError(f"subject {subject}: EEG and ECG give unequal numbers of windows")
        numbers += [np.full(n, i) for n, (i, _) in zip(counts[0], own, strict=True)]
    return {name: torch.from_numpy(np.concatenate(x)) for name, x in parts.items()}, np.concatenate(
        numbers
    )


def split_trials(subject, protocol, folds):
    """Yield (fitted trials, scored trials, groups that inner cross-validation must keep together):
    see the protocols.
    """
    everyone = np.arange(len(subject))
    if protocol == "leave-subjects-out":
        for fit, held in GroupKFold(min(folds, len(np.unique(subject)))).split(
            everyone, groups=subject
        ):
            yield fit, held, subject
        return
    for one in np.unique(subject):
        own = everyone[subject == one]
        for fit, held in GroupKFold(min(folds, len(own))).split(own, groups=own):
            yield own[fit], own[held], everyone


def score_ways(embeddings, trial, high, subject, fusions, protocol, folds, seed, n_resamples=1000):
    """Compute the AUC, F1 and accuracy of all ways to look at a clip.

    Parameters
    ----------
    embeddings : dict of float tensors, shape (n, D)
        Embeddings of windows.
    trial : int array, shape (n,)
        Number of the trial of each window.
    high : float array, shape (n_trials,)
        1 = high.
    subject : int array, shape (n_trials,)
        Number of the person of each trial.
    fusions, protocol, folds, seed, n_resamples
        See `dreamer`.

    Returns
    -------
    dict
        `high_share`; `ways`: name -> `auc`, `f1`, `accuracy`, each (value, interval over people),
        NaN as None.
    """
    ways = (
        ways_of(tuple(embeddings), fusions)
        if len(embeddings) > 1
        else {next(iter(embeddings)): None}
    )
    scores = {name: np.zeros(len(high)) for name in ways}
    for fit, held, group in split_trials(subject, protocol, folds):
        fitted, shown = np.flatnonzero(np.isin(trial, fit)), np.flatnonzero(np.isin(trial, held))
        if np.ptp(high[fit]) == 0:  # one class to fit on: all that can be said is that class
            for name in ways:
                scores[name][held] = 2 * high[fit[0]] - 1
            continue
        heads = {}
        for name, way in ways.items():
            some, fusion, missing = way or (tuple(embeddings), fusions[0], ())
            if (some, fusion) not in heads:
                chosen = {key: embeddings[key][fitted] for key in some}
                heads[some, fusion] = fit_head(
                    chosen, high[trial[fitted]], group[trial[fitted]], "binary", fusion
                )
            said = heads[some, fusion](
                {key: embeddings[key][shown] for key in some if key not in missing}
            )
            said, of = said[:, 0].detach().numpy(), trial[shown]
            scores[name][held] = (
                (np.bincount(of, said)[held] / np.bincount(of)[held]) if len(said) else 0
            )
    weights = resamples(len(np.unique(subject)), n_resamples, seed)
    return {
        "high_share": float(high.mean()),
        "ways": {name: metrics_of(high, score, subject, weights) for name, score in scores.items()},
    }


def metrics_of(high, score, subject, weights):
    """Compute the AUC, F1 of "high" and accuracy at log odds 0, each as (value, interval), with
    resamples of people.
    """
    said, n = score > 0, weights.shape[1]

    def count(which):
        return weights @ np.bincount(subject[which], minlength=n)

    hit, missed, wrong = (
        count(said & (high == 1)),
        count(~said & (high == 1)),
        count(said & (high == 0)),
    )
    correct, everything = count(said == (high == 1)), count(np.ones(len(high), bool))
    values = {
        "auc": auroc(high, score, subject, weights),
        "f1": 2 * hit / np.maximum(2 * hit + missed + wrong, 1e-12),
        "accuracy": correct / everything,
    }
    return {
        name: (None if np.isnan(x[0]) else float(x[0]), interval(x[1:]))
        for name, x in values.items()
    }


def dreamer_table(result):
    """Return the results as Markdown: for each rating a row per way, with AUC, F1 and accuracy."""
    lines = [
        (
            f"Protocol: {result['protocol']}, {result['subjects']} people, baseline: "
            f"{result['baseline']}."
        ),
        "",
    ]
    for rating, found in result["ratings"].items():
        share = f"{100 * found['high_share']:.0f} % high"
        rows = []
        for name, metrics in found["ways"].items():
            cells = (
                None if value is None else with_interval(value, low_high)
                for value, low_high in metrics.values()
            )
            rows.append((name, *cells))
        columns = ("way", "AUC", "F1", "accuracy")
        lines += [f"**{rating.capitalize()}** ({share})", ""]
        lines += [markdown_table(columns, rows, right=False), ""]
    return "\n".join(lines)
