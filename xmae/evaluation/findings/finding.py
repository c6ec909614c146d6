"""What the findings of the paper share: encoders probed for something that the ECG beside the PPG
can tell.

Source of the findings: Zhou et al., arXiv 2605.00973. Each has its own verb: `hrv`, `timing`,
`transfer`, `curve`.
"""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from xmae.errors import UserError
from xmae.evaluation.evaluate import (
    method_names,
    predict,
    predict_baselines,
    refuse_scored,
    summarise,
)
from xmae.evaluation.protocol.datasets import load_datasets
from xmae.evaluation.protocol.folds import make_trial, probe_trial
from xmae.files import atomic_file, write_json
from xmae.models import load_encoder
from xmae.tables import markdown_table, write_tables

PANELS = 7  # in a row of a picture


def probe_derived(models, data, derive, tasks, protocol, out, seed, direct):
    """Probe encoders for quantities derived from the signals of a store, and write table and
    picture.

    Parameters
    ----------
    models : list of str
    data : str
        Store with ECG.
    derive : callable
        Dataset -> (labels by column, direct by name): the targets, and arrays (n, k) that a method
        without any training computes from the signals, which are calibrated by the same linear
        probe.
    tasks : sequence of Task
        On the derived columns.
    protocol, out, seed
        As in `xmae evaluate`.
    direct : str
        Name of the row of the direct computation.

    Returns
    -------
    dict
        As `xmae evaluate`; each method also has `r` (correlation of prediction and truth over all
        scored windows) and `r_within` (after taking the mean of its recording off both). "out" is
        the Markdown table, "picture" the plot.
    """
    (dataset,) = load_datasets([data], tasks=[task.name for task in tasks])
    if dataset.ecg is None:
        raise UserError(f"{data}: needs ECG beside the PPG, and some of these recordings have none")
    labels, computed = derive(dataset)
    dataset.labels.update(labels)
    trials = [make_trial(dataset, task, protocol, None, seed) for task in tasks]
    names = method_names(models)
    encoders = [load_encoder(model) for model in models]
    predictions = {}
    for name, encoder in zip(names, encoders, strict=True):
        refuse_scored(encoder, trials)
        predictions[name] = predict(encoder, trials, seed=seed, name=name)
    predictions |= predict_baselines(encoders[0], trials, seed=seed)
    predictions[direct] = {
        trial.name: probe_trial(trial, computed[trial.task.name]) for trial in trials
    }
    result = summarise(trials, [], predictions, seed).as_json() | {
        "protocol": protocol,
        "seed": seed,
        "models": models,
    }
    for trial, row in zip(trials, result["trials"], strict=True):
        for name, found in row["methods"].items():
            found["r"], found["r_within"] = correlations(trial, predictions[name][trial.name])
    result["picture"] = draw_predictions(trials, predictions, Path(out) / "predictions.png")
    write_json(Path(out) / "metrics.json", result)
    return result | {"out": add_correlations(write_tables(result, out), result)}


def correlations(trial, prediction):
    """Return the Pearson correlation with the truth over all scored windows, and within recordings;
    None where undefined.
    """
    truth = trial.truth[trial.rows]
    _, record = np.unique(trial.dataset.recording[trial.rows], return_inverse=True)
    count = np.bincount(record)

    def within(x):
        return x - (np.bincount(record, x) / count)[record]

    return pearson(truth, prediction), pearson(within(truth), within(prediction))


def pearson(a, b):
    """Return the Pearson correlation of two arrays (n,), or None if one is constant."""
    a, b = a - a.mean(), b - b.mean()
    norm = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / norm) if norm > 1e-9 * max(len(a), 1) else None


def add_correlations(path, result):
    """Add a table of correlations to a Markdown table; return its path."""
    rows = []
    for method in result["trials"][0]["methods"]:
        found = [trial["methods"][method] for trial in result["trials"]]
        cells = [
            " / ".join("-" if x[key] is None else f"{x[key]:.2f}" for key in ("r", "r_within"))
            for x in found
        ]
        rows.append((method, *cells))
    columns = ("method", *(trial["label"] for trial in result["trials"]))
    lines = ["", "Correlation with the truth, over all windows / within recordings:", ""]
    lines.append(markdown_table(columns, rows, right=False))
    with atomic_file(path) as temporary:
        temporary.write_text(Path(path).read_text() + "\n".join(lines) + "\n")
    return path


def draw_predictions(trials, predictions, path):
    """Draw prediction over truth, with a block per task, a panel per method and a colour per
    recording; return the path of the picture.
    """
    names = [name for name in predictions if name != "constant"]
    n_rows = -(-len(names) // PANELS)
    figure = Figure(
        figsize=(2.1 * min(PANELS, len(names)), 2.1 * n_rows * len(trials)), layout="constrained"
    )
    blocks = np.atleast_1d(figure.subfigures(len(trials)))
    for block, trial in zip(blocks, trials, strict=True):
        block.suptitle(f"{trial.task.label}, {trial.task.units}: predicted over true", fontsize=10)
        truth, recording = trial.truth[trial.rows], trial.dataset.recording[trial.rows]
        limits = np.percentile(truth, [1, 97])
        panels = block.subplots(
            n_rows, min(PANELS, len(names)), sharex=True, sharey=True, squeeze=False
        ).ravel()
        panels[0].set(xlim=limits, ylim=limits)
        for ax, name in zip(panels, names, strict=False):
            said = predictions[name][trial.name]
            ax.scatter(truth, said, c=recording % 20, cmap="tab20", s=6, alpha=0.6, linewidths=0)
            ax.plot(limits, limits, color="#333", lw=0.8)
            ax.set_title(name, fontsize=9)
            ax.tick_params(labelsize=7)
        for ax in panels[len(names) :]:
            ax.set_axis_off()
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=110)
    return str(path)
