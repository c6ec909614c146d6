"""`xmae fuse`: what several modalities know together, and what fusion adds over each of them alone.

Folds, metrics and resamples are those of `xmae probe`: subjects apart, intervals by resampling
subjects, and all ways of looking at a window scored on the same windows, so that their differences
are paired.
"""

from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from xmae.data.recording.leads import choose_leads
from xmae.data.store.store import WindowStore
from xmae.errors import UserError, require_choice, require_choices
from xmae.evaluation.fusion.fusion_heads import Tuning, fit_head, with_encoders
from xmae.evaluation.probe import refuse_seen
from xmae.evaluation.protocol.bootstrap import with_interval
from xmae.evaluation.protocol.pooled import score_task
from xmae.evaluation.protocol.tasks import TASKS
from xmae.files import atomic_file, write_json
from xmae.models.checkpoint import load_encoder
from xmae.models.criss_cross import CrissCrossEncoder
from xmae.models.fusion import FUSIONS, FusionHead, save_fusion
from xmae.signals.scale import minmax_scale
from xmae.tables import markdown_table

TUNES = ("probe", "finetune")


def fuse(
    data: str,
    out: str = "runs/fuse",
    ppg: str | None = "base",
    ecg: str | None = None,
    resp: str | None = None,
    ecg_channels: str = "II,V/MCL",
    resp_channels: str = "RESP",
    fusion: str = "concatenate",
    tune: str = "probe",
    tasks: str = "hr,rr,spo2,sex,age_over_65",
    epochs: int = 3,
    batch_size: int = 32,
    lr: float = 1e-4,
    seed: int = 77,
) -> dict:
    """Fuse encoders of several modalities, and compare the fusion with each of them alone and with
    missing modalities.

    Parameters
    ----------
    data : str
        Store written by `xmae prepare --leads`.
    out : str
        Folder for fuse.json, fuse.md and a folder with the fused model of each task.
    ppg : str or None
        PPG encoder: a shipped name or a file; null for none.
    ecg : str or None
        Criss-cross encoder of `xmae pretrain --method criss-cross`.
    resp : str or None
        Criss-cross encoder of respiration.
    ecg_channels : str
        Channels of the store (200 Hz) that the ECG encoder takes, separated by commas; "V/MCL" is
        V, or MCL where V was not recorded.
    resp_channels : str
        Channels of the store (200 Hz) that the respiration encoder takes.
    fusion : str
        "concatenate", "late" (a head each, outputs averaged) or "gated" (weights that depend on the
        input); several separated by commas to compare, the first is saved.
    tune : str
        "probe": heads on frozen encoders, cross-validated over the test subjects and the training
        subjects. "finetune": heads of that kind as a start, then all weights, on the training
        subjects only.
    tasks : str
        Names of tasks, separated by commas.
    epochs : int
        Passes of fine-tuning over the training windows.
    batch_size : int
        Windows per step of fine-tuning.
    lr : float
        Peak learning rate of fine-tuning.
    seed : int
        Seed of everything random.

    Returns
    -------
    dict
        As fuse.json: per task and way (modalities, fusion) the value with interval, and what the
        fused one is better by, with interval; "out".

    Raises
    ------
    UserError
        If fewer than two encoders are given, a setting, channel or task is unknown, or an encoder
        saw a scored subject.
    """
    require_choice("tune", tune, TUNES)
    fusions = require_choices("fusion", fusion, FUSIONS)
    names = require_choices("task", tasks, TASKS)
    files = {name: file for name, file in {"ppg": ppg, "ecg": ecg, "resp": resp}.items() if file}
    if len(files) < 2:
        raise UserError("fusion needs at least two encoders, of --ppg, --ecg, --resp")
    windows = WindowStore(data).windows()
    encoders = {name: load_modality(name, file) for name, file in files.items()}
    for encoder in encoders.values():
        refuse_seen(encoder, windows.subject[windows.split == "test"])
    channels = {"ecg": ecg_channels, "resp": resp_channels}
    signals = {name: modality_signals(windows, name, channels.get(name)) for name in encoders}
    embeddings = {name: embed_signals(encoders[name], x) for name, x in signals.items()}
    everywhere = np.logical_and.reduce([~np.isnan(e).any(1) for e in embeddings.values()])
    rows = np.flatnonzero(everywhere)
    windows = windows.select(rows)
    embeddings = {name: torch.from_numpy(e[rows]) for name, e in embeddings.items()}
    tuned = (
        None
        if tune == "probe"
        else Tuning(encoders, {k: x[rows] for k, x in signals.items()}, epochs, batch_size, lr)
    )
    result = {
        "tune": tune, "fusion": fusions, "modalities": files, "channels": channels, "seed": seed,
        "windows_without_a_modality": int((~everywhere).sum()), "tasks": {},
    }  # fmt: skip
    for name in (bar := tqdm(names, "fuse", unit="task")):
        bar.set_description(f"fuse: {name}")
        torch.manual_seed(seed)
        result["tasks"][name] = compare_ways(TASKS[name], embeddings, windows, fusions, tuned, seed)
        if (model := result["tasks"][name].pop("model", None)) is not None:
            if isinstance(model, FusionHead):
                model = with_encoders(encoders, model)
            save_fusion(model, Path(out) / name, {"task": name, "channels": channels, "tune": tune})
    write_json(Path(out) / "fuse.json", result)
    with atomic_file(Path(out) / "fuse.md") as temporary:
        temporary.write_text(fusion_table(result))
    return result | {"out": str(out)}


def load_modality(name, file):
    """Load the encoder of a modality, which must be of the right kind."""
    encoder = load_encoder(file, ppg=name == "ppg")
    if name != "ppg" and not isinstance(encoder, CrissCrossEncoder):
        raise UserError(f"{file}: a {type(encoder).__name__} is no encoder of {name}")
    return encoder


def modality_signals(windows, name, channels):
    """Return the input of a modality's encoder for windows: float32 (n, C, n_times), NaN =
    missing.
    """
    if name == "ppg":
        return minmax_scale(windows.ppg)[0][:, None].astype(np.float32)
    return choose_leads(windows, channels)


@torch.no_grad()
def embed_signals(encoder, signals, batch_size=64):
    """Embed signals (n, C, n_times) by an encoder in evaluation mode: (n, D), NaN where a signal
    has NaN.
    """
    whole = np.flatnonzero(~np.isnan(signals).any((1, 2)))
    embeddings = np.full((len(signals), encoder.embed_dim), np.nan, np.float32)
    for start in range(0, len(whole), batch_size):
        rows = whole[start : start + batch_size]
        embeddings[rows] = encoder(torch.from_numpy(signals[rows])).numpy()
    return embeddings


def ways_of(modalities, fusions, pairs=True):
    """Return the ways to look at a window: name -> (modalities to fit on, fusion, modalities
    missing at inference).

    The first is all modalities fused the first way; then the other fusions, the first few
    modalities (`pairs`), each alone, and all of them fitted with one missing afterwards.
    """
    everything = " + ".join(modalities)
    ways = {f"{everything}, {fusion}": (modalities, fusion, ()) for fusion in fusions}
    fewer = [modalities[:size] for size in range(len(modalities) - 1, 1, -1) if pairs]
    for some in [*fewer, *((one,) for one in modalities)]:
        ways[" + ".join(some)] = (some, fusions[0], ())
    for one in modalities:
        ways[f"{everything}, {one} missing"] = (modalities, fusions[0], (one,))
    return ways


def compare_ways(task, embeddings, windows, fusions, tuned=None, seed=77, n_resamples=1000):
    """Score all ways to look at windows, on one task.

    Parameters
    ----------
    task : Task
    embeddings : dict of float tensors, shape (n, D)
        Rows follow `windows`.
    windows : Windows
        `subject`, `split` and `labels` are used: the test split is scored, the train split fitted
        on.
    fusions : list of str
        See `FusionHead`; the first is the one that the others are compared with.
    tuned : Tuning, optional
        Fine-tune on the train split alone; else linear probes in folds over the test subjects.
    seed, n_resamples : int
        Seed and number of the resamples.

    Returns
    -------
    dict
        `label`, `metric`, `units`, and either `reason` (why it cannot be evaluated) or `n_windows`,
        `n_subjects`, `baseline` (a constant), `ways`: name -> `value`, `interval`,
        `fused_better_by` with its interval (of the first way over this one; positive is better for
        both metrics); and `model`, the first way fitted on the train split.
    """
    described = {key: getattr(task, key) for key in ("label", "kind", "metric", "units")}
    truth, subject = task.target(windows), windows.subject
    train = np.flatnonzero(~np.isnan(truth) & (windows.split == "train"))
    if reason := too_little(task, truth[train], subject[train]):
        return described | {"reason": reason}
    ways, last = ways_of(tuple(embeddings), fusions, pairs=not tuned), {}

    def head_of(some, fusion, fitted):
        chosen = {name: embeddings[name][fitted] for name in some}
        return fit_head(chosen, truth[fitted], subject[fitted], task.kind, fusion)

    def predict(truth, fitted, held):
        last.clear()
        said = {}
        for name, (some, fusion, missing) in ways.items():
            if (some, fusion) not in last:
                last[some, fusion] = head_of(some, fusion, fitted)
                if tuned:
                    last[some, fusion] = tuned.fit(
                        last[some, fusion], fitted, truth[fitted], task.kind
                    )
            model = last[some, fusion]
            if tuned:
                said[name] = tuned.predict(model, held, missing)
            else:
                shown = {key: embeddings[key][held] for key in some if key not in missing}
                said[name] = model(shown)[:, 0].detach().numpy()
        return said

    score, fit = (windows.split == split for split in ("test", "train"))
    found = score_task(task, windows, score, fit, predict, 1 if tuned else 5, n_resamples, seed)
    if "reason" in found:
        return described | found
    found["ways"] = {name: with_gain(way, task) for name, way in found["ways"].items()}
    everything = next(iter(ways.values()))[:2]
    return described | found | {"model": last[everything] if tuned else head_of(*everything, train)}


def too_little(task, truth, subject):
    """Say why a model cannot be fitted on these training windows; "" if it can be."""
    if (n_subjects := len(np.unique(subject))) < 2:
        return f"{n_subjects} training subjects have the label, 2 are needed for the model"
    if task.kind == "binary" and np.ptp(truth) == 0:
        return "the training subjects are of one class"
    return ""


def with_gain(way, task):
    """Replace a way's difference from the fused one by how much better the fused one is."""
    way = dict(way)
    difference, low_high = way.pop("minus_first"), way.pop("minus_first_interval")
    if task.kind == "binary":  # more is better
        difference, low_high = 0 - difference, low_high and [-low_high[1], -low_high[0]]
    return way | {"fused_better_by": difference, "fused_better_by_interval": low_high}


def fusion_table(result):
    """Return the results as Markdown: for each task a row per way, with its value and the gain of
    the fused one.
    """
    lines = []
    for task in result["tasks"].values():
        unit = f" {task['units']}" if task["units"] else ""
        if "reason" in task:
            lines += [f"**{task['label']}**: not evaluable, {task['reason']}", ""]
            continue
        what = (
            f"{task['n_subjects']} subjects, {task['n_windows']} windows; a constant: "
            f"{task['baseline']:.2f}"
        )
        head = f"{task['metric'].upper()}{unit}"
        rows = []
        for name, way in task["ways"].items():
            gain = with_interval(way["fused_better_by"], way["fused_better_by_interval"])
            value = with_interval(way["value"], way["interval"])
            rows.append((name, value, gain if rows else ""))
        columns = ("way", head, "fused better by")
        lines += [f"**{task['label']}** ({what})", ""]
        lines += [markdown_table(columns, rows, right=False), ""]
    return "\n".join(lines)
