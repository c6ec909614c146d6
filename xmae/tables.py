"""The table of an evaluation: Markdown to read, CSV to compute with, HTML with every interval."""

from html import escape
from itertools import chain
from pathlib import Path

from xmae.files import atomic_file
from xmae.text import cell

NOTE = (
    "AUROC in %, higher is better; MAE in the unit given, lower is better. Mean over subjects of "
    "predictions by models that never saw them, in brackets the 95 % interval by resampling "
    "subjects (of an MAE it covers 91.5 to 95 % at 8 to 34 subjects, simulated). Stars: differs "
    "from {reference} (two-sided permutation test that swaps methods for whole subjects, "
    "Holm-adjusted for the number of other rows; * p < 0.05, ** p < 0.01, *** p < 0.001). Bold: "
    "best method, baselines aside, if it is better than the constant."
)
TRAINING = ("method", "windows seen", "minutes", "windows/s", "precision", "hardware")
COLUMNS = ("dataset", "task", "label", "units", "n_windows", "n_subjects", "n_folds")
# set apart, never bold
BASELINES = ("untrained", "features", "constant", "pulse intervals", "both signals")
STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem;color:#222}"
    "table{border-collapse:collapse;margin:1rem 0}"
    "th,td{padding:.35rem .6rem;border-bottom:1px solid #ddd;text-align:right;"
    "vertical-align:top;white-space:nowrap}"
    "th:first-child,td:first-child{text-align:left}"
    "small{color:#666;display:block}.best{font-weight:600}"
    ".baseline td{color:#666}.scroll{overflow-x:auto}"
)


def markdown_table(columns, rows, right=True):
    """Return a Markdown table whose first column is aligned left.

    Parameters
    ----------
    columns : sequence of str
        Heads.
    rows : iterable of sequences
        Cells, shown as text; None = empty.
    right : bool
        Align the other columns right, as numbers are.

    >>> print(markdown_table(("method", "bpm"), [("ours", 0.9)]))
    | method | bpm |
    |---|--:|
    | ours | 0.9 |
    """
    rule = "|--:" if right else "|---"
    lines = ["| " + " | ".join(columns) + " |", "|---" + rule * (len(columns) - 1) + "|"]
    for row in rows:
        lines.append("| " + " | ".join("" if cell is None else str(cell) for cell in row) + " |")
    return "\n".join(lines)


def sections(tables):
    """Return Markdown tables below one another: {title: (columns, rows)} -> text."""
    return "".join(
        f"\n## {title}\n\n{markdown_table(columns, rows)}\n"
        for title, (columns, rows) in tables.items()
    )


def write_tables(result, out):
    """Write table.md, table.csv and table.html of an evaluation's result into `out`; return the
    path of the first.
    """
    out = Path(out)
    for name, text in (
        ("csv", csv_text(result)),
        ("html", html_text(result)),
        ("md", markdown_text(result)),
    ):
        with atomic_file(out / f"table.{name}") as temporary:
            temporary.write_text(text)
    return str(out / "table.md")


def csv_text(result):
    """Return the result as CSV: one row per dataset, task, metric and method."""
    import pandas as pd  # the light core has none

    rows = []
    for trial in result["trials"]:
        for method, metrics in trial.get("methods", {"": {}}).items():
            for metric in [name for name in ("auroc", "f1", "mae") if name in metrics] or [""]:
                found = metrics.get(metric, {})
                low, high = found.get("interval") or (None, None)
                rows.append(
                    {key: trial.get(key) for key in COLUMNS}
                    | {
                        "method": method,
                        "metric": metric,
                        "value": found.get("value"),
                    }
                    | {
                        "low": low,
                        "high": high,
                        "p": metrics.get("p") if metric == trial.get("metric") else None,
                    }
                    | {"reason": trial.get("reason")}
                )
    return pd.DataFrame(rows).map(cell).to_csv(index=False)


def markdown_text(result):
    """Return the result as Markdown: one table per dataset, with a row per method and a column per
    task; and what each method was trained with.
    """
    lines = []
    for dataset, trials, methods in _by_dataset(result):
        columns = ("method", *map(_heading, trials))
        rows = (
            (method, *(_cell(trial, method, bold="**") for trial in trials)) for method in methods
        )
        lines += [f"**{dataset}**", "", *_powers(trials)]
        lines += [markdown_table(columns, rows, right=False), ""]
    lines += [f"- {trial['reason']}" for trial in result["trials"] if "reason" in trial]
    for trial in result["trials"]:
        for why, names in trial.get("not_scored", {}).items():
            said = f"{len(names)} subjects are not scored, {why}: {', '.join(names)}"
            lines.append(f"- {trial['label']}: {said}")
    lines += ["", NOTE.format(reference=result["reference"]), ""]
    if "training" in result:
        lines += [markdown_table(TRAINING, _training(result), right=False), ""]
    return "\n".join(lines)


def html_text(result):
    """Return the result as an HTML page, with intervals, F1 and numbers of subjects."""
    parts = [
        (
            "<!doctype html><meta "
            f"charset='utf-8'><title>Evaluation</title><style>{STYLE}</style><h1>Evaluation</h1>"
        )
    ]
    for dataset, trials, methods in _by_dataset(result):
        parts += [f"<p>{escape(note)}</p>" for note in _powers(trials) if note]
        parts.append(f"<h2>{escape(dataset)}</h2><div class='scroll'><table><tr><th>method</th>")
        parts += [
            f"<th>{escape(_heading(trial))}<small>{trial['n_subjects']} subjects, "
            f"{trial['n_windows']} windows, "
            f"{trial['n_folds']} folds</small></th>"
            for trial in trials
        ]
        for method in methods:
            baseline = " class='baseline'" if method in BASELINES else ""
            parts.append(f"</tr><tr{baseline}><td>{escape(method)}</td>")
            for trial in trials:
                found = trial["methods"][method]
                small = f"F1 {100 * found['f1']['value']:.1f}" if "f1" in found else ""
                best = " class='best'" if method in best_methods(trial) else ""
                parts.append(f"<td{best}>{_cell(trial, method)}<small>{small}</small></td>")
        parts.append("</tr></table></div>")
    missing = "".join(
        f"<li>{escape(trial['reason'])}</li>" for trial in result["trials"] if "reason" in trial
    )
    parts.append(f"<ul>{missing}</ul><p>{escape(NOTE.format(reference=result['reference']))}</p>")
    if "training" in result:
        rows = (TRAINING, *_training(result))
        cells = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows)
        parts.append("<table><tr>" + "</tr><tr>".join(cells) + "</tr></table>")
    return "\n".join(parts) + "\n"


def _by_dataset(result):
    """Yield each dataset with its evaluated trials and the methods."""
    done = [trial for trial in result["trials"] if "methods" in trial]
    for dataset in dict.fromkeys(trial["dataset"] for trial in done):
        trials = [trial for trial in done if trial["dataset"] == dataset]
        yield dataset, trials, list(trials[0]["methods"])


def _powers(trials):
    """Return lines on what the designs of these trials are too small to show; none if they are
    large enough.
    """
    notes = dict.fromkeys(trial["power"].strip() for trial in trials if trial.get("power"))
    return list(chain.from_iterable((note, "") for note in notes))


def _training(result):
    """Return rows on what each method was trained with, as text, in the columns of `TRAINING`."""
    return [
        (
            name,
            f"{run['windows_seen']:,}",
            f"{run['seconds'] / 60:.1f}",
            f"{run['windows_per_s']:.0f}",
            run["precision"],
            run["device"],
        )
        for name, run in result["training"].items()
    ]


def _heading(trial):
    return f"{trial['label']}, {trial['metric'].upper()} {trial['units'] or '%'}"


def _number(trial, value):
    return f"{100 * value:.1f}" if trial["metric"] == "auroc" else f"{value:.2f}"


def best_methods(trial):
    """Return the names of the methods with the best mean, baselines aside; several if equal, none
    if the constant is as good.
    """
    sign = -1 if trial["metric"] == "mae" else 1
    means = {name: sign * x[trial["metric"]]["value"] for name, x in trial["methods"].items()}
    constant = means.get("constant", float("-inf"))
    values = {name: x for name, x in means.items() if name not in BASELINES}
    best = max(values.values())
    return [name for name, value in values.items() if value == best and value > constant]


def _cell(trial, method, bold=""):
    found = trial["methods"][method]
    value, low_high = (found[trial["metric"]][key] for key in ("value", "interval"))
    value = _number(trial, value)
    mark = bold if method in best_methods(trial) else ""
    between = f" ({' to '.join(_number(trial, x) for x in low_high)})" if low_high else ""
    star = found.get("stars", "").replace("*", "\\*" if bold else "*")
    return f"{mark}{value}{mark}{between} {star}".rstrip()
