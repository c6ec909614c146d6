"""The model card: a bundle's manifest for people, with nothing in it that was not measured."""

import json

from xmae.tables import markdown_table

MODEL_COLUMNS = (
    "model", "format", "precision", "file", "kB", "parameters", "M MAC", "windows", "cosine",
    "5th percentile", "max error", "outside the delegate", "memory",
)  # fmt: skip
HEAD_COLUMNS = ("model", "task", "mean absolute error", "of the constant", "windows", "subjects")
TEMPLATE = """# {name}: PPG encoders, float and int8

From {seconds:g} s of PPG ({sfreq} Hz, {n_times} samples, scaled to [{low}, {high}]) to an
embedding, and from there by linear heads to numbers. Not a medical device; the provenance below
says whom it has seen.

## Models

Parameters are those of the encoder; multiply-accumulates (MAC) are what the file computes for a
window. Centred cosine: embeddings of the file in its own runtime against float PyTorch on so many
held-out windows, after the mean training embedding is taken away (median, and 5th percentile).

{models}

Int8 ranges come from {n_calibration} windows of {n_subjects} training subjects.
{estimates}
## Heads

Fitted on the train split, judged on the val split (float PyTorch); the constant is the training
mean.

{heads}
{at_chance}
## Data

{data}

## Provenance

```json
{provenance}
```

Made with {made_with}.

Licence of the models: {licence}. Licence of the data: {data_licence}.
"""
MOST_NUMBERS = 16  # of a list that is shown


def model_card(manifest):
    """Return the model card as Markdown, from a `Draft` of a manifest whose entries hold all
    measurements.
    """
    window, data = manifest.window, manifest.data
    calibration = data["calibration"]
    models = [
        (
            entry.model,
            entry.format,
            entry.precision,
            entry.file,
            f"{entry.bytes / 1000:.0f}",
            f"{entry.params:,}",
            f"{entry.macs / 1e6:.1f}",
            *measured(entry.drift),
            "n/a" if entry.undelegated is None else ", ".join(entry.undelegated) or "none",
            "" if entry.arena_bytes is None else f"{entry.arena_bytes:,} B",
        )
        for entry in manifest.models
    ]
    heads = []
    for model, tasks in manifest.metrics.heads_on_val.items():
        heads += [(model, task, *head_cells(row)) for task, row in tasks.items()]
    return TEMPLATE.format(
        name=manifest.name,
        seconds=window.n_times / window.sfreq,
        sfreq=window.sfreq,
        n_times=window.n_times,
        low=window.range[0],
        high=window.range[1],
        models=markdown_table(MODEL_COLUMNS, models, right=False),
        n_calibration=calibration["n"],
        n_subjects=len(calibration["subjects"]),
        heads=markdown_table(HEAD_COLUMNS, heads, right=False),
        at_chance=at_chance(manifest.metrics.heads_at_chance),
        provenance=json.dumps(brief(manifest.provenance), indent=2),
        made_with=", ".join(f"{package} {number}" for package, number in manifest.tools.items()),
        estimates=estimates(manifest.models),
        data=sources(data),
        licence=manifest.licences.models,
        data_licence=manifest.licences.data,
    )


def head_cells(row):
    """Return the cells of a `HeadError`."""
    return (
        f"{row.mae:.2f} {row.units}",
        f"{row.mae_constant:.2f} {row.units}",
        row.windows,
        row.subjects,
    )


def brief(value):
    """Shorten a JSON value for people: a long list of numbers becomes their count.

    Examples
    --------
    >>> brief({"mean": [0.0] * 512, "unit": 2})
    {'mean': '512 numbers', 'unit': 2}
    """
    if isinstance(value, dict):
        return {key: brief(part) for key, part in value.items()}
    if not isinstance(value, list):
        return value
    numbers = all(isinstance(part, int | float) for part in value)
    if numbers and len(value) > MOST_NUMBERS:
        return f"{len(value)} numbers"
    return [brief(part) for part in value]


def at_chance(tasks):
    """Say in one sentence which tasks no model predicts better than a constant; `tasks` by
    model.
    """
    known = [set(labels) for labels in tasks.values()]
    every = [label for label in next(iter(tasks.values()), []) if all(label in x for x in known)]
    if not every:
        return ""
    return f"\nAt chance in every model, so without a head: {', '.join(every)}.\n"


def measured(drift):
    """Return the cells of a `Drift`, the comparison with PyTorch."""
    if drift is None:
        return ("", "runs on its device only", "", "")
    median, p5 = f"{drift.centred_cosine_median:.4f}", f"{drift.centred_cosine_p5:.4f}"
    return drift.windows, median, p5, f"{drift.max_error:.2g}"


def estimates(models):
    """Return the table of Vela's estimates for the files compiled for an NPU, if there are any."""
    rows = [
        (
            entry.file,
            f"{entry.estimated.cycles:,}",
            "" if entry.estimated.inference_ms is None else f"{entry.estimated.inference_ms:.3f}",
            entry.estimated.source,
        )
        for entry in models
        if entry.estimated
    ]
    if not rows:
        return ""
    shown = markdown_table(("file", "cycles", "ms", "source"), rows, right=False)
    return f"\nEstimated by Arm's compiler, not measured:\n\n{shown}\n"


def sources(data):
    """Say which recordings and subjects the windows come from."""
    names, splits = data["sources"], data["subjects_by_split"]
    some = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    counts = ", ".join(f"{n} {split}" for split, n in sorted(splits.items()))
    return (
        f"Recordings: {some}. Subjects: {counts}. SHA-256 over all shards: "
        f"`{data['shards_sha256']}`."
    )
