"""`xmae data report`: what is in a store, as a page: counts by reason, repairs, labels, pictures of
windows.
"""

import base64
import io
from collections import Counter
from html import escape
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from xmae.data.store.store import WindowStore
from xmae.data.store.windows import Windows
from xmae.files import atomic_file, write_json
from xmae.signals.window import SFREQ

SHOWN = 3  # windows of each kind in the picture
FEW = 0.5  # share of windows kept, below which to warn
STYLE = (
    "body{font:15px/1.5 sans-serif;max-width:62em;margin:2em auto;padding:0 1em}"
    "table{border-collapse:collapse}"
    "td,th{border:1px solid #ccc;padding:.2em .7em;text-align:right}"
    "td:first-child,th:first-child{text-align:left}"
    "img{max-width:100%}"
)


def report(store: str, out: str = "runs/data_report") -> dict:
    """Write a report on a store: windows kept and dropped by reason, repairs, recordings left out,
    pictures.

    Parameters
    ----------
    store : str
        Folder of the store, or an fsspec URL.
    out : str
        Folder for report.html and report.json.

    Returns
    -------
    dict
        Windows, dropped by reason, repairs, recordings left out, offsets of clocks, percentiles of
        each quality, windows that have each label; "out".

    Raises
    ------
    UserError
        If the store cannot be read, or `out` cannot be written.
    """
    opened = WindowStore(store)
    columns, labels, extremes, with_acc = gathered(opened)
    meta = opened.meta
    result = {
        "windows": meta["windows"],
        "hours": round(meta["windows"] / 360, 2),
        "windows_by_split": meta["windows_by_split"],
        "subjects_by_split": meta["subjects_by_split"],
        "dropped": meta["dropped"],
        "repairs": meta.get("repairs", {}),
        "left_out": meta.get("left_out", []),
        "passed_over": meta.get("passed_over", {}),
        "settings": meta["settings"] | {"limits": meta.get("limits", {})},
        "clocks": [clock_of(row) for row in opened.index() if row.get("clock_state")],
        "out_of_step": [row for row in meta.get("left_out", []) if row.get("out_of_step")],
        "quality": {
            name: [round(float(q), 3) for q in np.nanpercentile(values, [0, 5, 50, 95, 100])]
            for name, values in columns.items()
            if np.isfinite(values).any()
        },
        "labels": {name: n for name, n in labels.items() if n},
        "windows_with_acceleration": with_acc,
    }
    path = Path(out) / "report.html"
    with atomic_file(path) as temporary:
        temporary.write_text(page(store, result, picture(Windows.concatenate(extremes))))
    write_json(Path(out) / "report.json", result)
    return result | {"summary": summary_of(result), "out": str(path)}


def gathered(opened):
    """Collect the numbers of the report in one pass through a store.

    Returns
    -------
    columns : dict of str to array, shape (n,)
        Quality and measures of all windows.
    labels : Counter
        Windows that have each label.
    extremes : list of Windows
        Candidates for the picture.
    with_acc : int
        Windows with acceleration.
    """
    tables, labels, extremes, with_acc = {}, Counter(), [], 0
    for windows in opened.shards():
        ecg = {} if windows.ecg is None else {"ecg_quality": windows.ecg_quality}
        for name, values in {"ppg_quality": windows.ppg_quality, **ecg, **windows.measures}.items():
            tables.setdefault(name, []).append(values)
        labels.update({name: int(np.isfinite(x).sum()) for name, x in windows.labels.items()})
        extremes.append(candidates(windows))
        if windows.acc is not None:
            with_acc += int(np.isfinite(windows.acc).all(axis=(1, 2)).sum())
    columns = {name: np.concatenate(parts) for name, parts in tables.items()}
    return columns, labels, extremes, with_acc


def clock_of(row):
    """Return the index's columns on a recording's clocks."""
    return {key: value for key, value in row.items() if key == "record" or key.startswith("clock")}


def summary_of(result):
    """Summarise in a few lines what is in a store, and whether it is good."""
    windows, dropped = result["windows"], sum(result["dropped"].values())
    share = windows / max(windows + dropped, 1)
    subjects = sum(result["subjects_by_split"].values())
    most = max(result["dropped"], key=result["dropped"].get, default="")
    why = f", most for {most}" if most else ""
    lines = [
        f"{windows:,} windows ({result['hours']} h) of {subjects} subjects; {share:.0%} of all were"
        f" kept{why}"
    ]
    if share < FEW:
        lines.append("warning: most windows were dropped; see the pictures of the worst")
    if gone := len(result["out_of_step"]):
        lines.append(f"warning: NOT IN STEP: {gone} recordings were left out")
    elif clocks := result["clocks"]:
        lines.append(f"ECG and PPG are in step in all {len(clocks)} recordings of several clocks")
    mended = ", ".join(f"{n} {rule}" for rule, n in result["repairs"].items())
    lines += [f"mended: {mended}"] if mended else []
    return lines


def lowest(windows):
    """Return the lower of the qualities of PPG and ECG for each window."""
    return np.fmin(windows.ppg_quality, windows.ecg_quality)


def candidates(windows):
    """Return the few windows of a shard that may be among the best, the worst or, near the shard's
    median, the typical ones.
    """
    order = np.argsort(lowest(windows), kind="stable")
    middle = len(order) // 2
    chosen = np.concatenate([order[:SHOWN], order[middle : middle + SHOWN], order[-SHOWN:]])
    return windows.select(np.unique(chosen))


def picture(windows):
    """Draw the best, typical and worst of these windows, PPG above ECG: PNG as base64 text."""
    order = np.argsort(lowest(windows), kind="stable")
    middle = max(0, (len(order) - SHOWN) // 2)
    kinds = {
        "best": order[::-1][:SHOWN],
        "typical": order[middle : middle + SHOWN],
        "worst": order[:SHOWN],
    }
    figure = Figure(figsize=(12, 9), layout="constrained")
    axes = figure.subplots(2 * len(kinds), SHOWN, sharex=True, squeeze=False)
    time = np.arange(windows.ppg.shape[1]) / SFREQ
    for place, (kind, chosen) in enumerate(kinds.items()):
        for column in range(SHOWN):
            upper, lower = axes[2 * place, column], axes[2 * place + 1, column]
            if column >= len(chosen):
                upper.axis("off"), lower.axis("off")
                continue
            k = chosen[column]
            upper.plot(time, windows.ppg[k], lw=0.8, color="tab:red")
            quality = f"{windows.ppg_quality[k]:.2f}"
            if windows.ecg is not None:
                lower.plot(time, windows.ecg[k], lw=0.8, color="tab:blue")
                quality += f" / {windows.ecg_quality[k]:.2f}"
            upper.set_title(
                f"{kind}: {windows.record[k]}, {windows.start_s[k]:.0f} s, quality {quality}",
                fontsize=8,
            )
    for axis in axes.ravel():
        axis.tick_params(labelsize=7)
    axes[0, 0].set_ylabel("PPG"), axes[1, 0].set_ylabel("ECG"), axes[-1, 0].set_xlabel("s")
    return embedded_png(figure)


def embedded_png(figure):
    """Return a figure as a PNG in base64, for a self-contained page."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80)
    return base64.b64encode(buffer.getvalue()).decode()


def page(store, result, image):
    """Return the report as one HTML page."""
    parts = [
        f"<!doctype html><meta charset=utf-8><title>Data report</title><style>{STYLE}</style>",
        f"<h1>Data report</h1><p>{escape(str(store))}: {result['windows']:,} windows "
        f"({result['hours']} h).</p>",
        *clock_parts(result),
        *count_parts(result),
        *quality_parts(result),
        "<h2>Windows kept</h2><img alt='best, typical and worst windows' "
        f"src='data:image/png;base64,{image}'>",
    ]
    return "\n".join(parts)


def count_parts(result):
    """Return the tables of what was kept, repaired, left out and skipped."""
    counts = {"kept": result["windows"], **result["dropped"]}
    total, splits = sum(counts.values()), result["subjects_by_split"]
    kept = [(name, f"{n:,}", f"{n / total:.1%}") for name, n in counts.items()]
    by_split = [
        (name, splits[name], f"{result['windows_by_split'].get(name, 0):,}")
        for name in ("train", "val", "test")
        if name in splits
    ]
    gone = [(row.get("record", row["source"]), row["why"]) for row in result["left_out"]]
    passed = [(name, f"{n:,}") for name, n in result["passed_over"].items()]
    without = "Passed over (without PPG, mapped channels or 10 s)"
    return [
        rows("Windows", ("", "windows", "share"), kept),
        rows("Splits", ("", "subjects", "windows"), by_split),
        rows("Mended (recordings)", ("rule", "recordings"), result["repairs"].items()),
        rows("Left out (recordings)", ("recording", "why"), gone),
        rows(without, ("files or parts of them", ""), passed),
    ]


def quality_parts(result):
    """Return the tables on quality, labels and acceleration."""
    both = dict.fromkeys(("ppg_quality", "ecg_quality"), result["settings"]["min_quality"])
    limits = both | result["settings"]["limits"]
    head = ("", "lowest", "5 %", "median", "95 %", "highest", "limit")
    body = [(name, *values, limits.get(name, "")) for name, values in result["quality"].items()]
    moved = []
    if n := result["windows_with_acceleration"]:
        moved.append(("three axes, g, at 100 Hz", f"{n:,}"))
    return [
        rows("Quality of the kept windows", head, body),
        rows("Labels", ("", "windows"), result["labels"].items()),
        rows("Accelerometer", ("", "windows"), moved),
    ]


def clock_parts(result):
    """Return paragraphs and a table on which recordings are in step."""
    parts = []
    if gone := result["out_of_step"]:
        parts.append(
            f"<p><b>Not in step: {len(gone)} recordings were left out.</b> Their ECG and PPG have "
            "no certain clocks, so nothing that needs both can use them.</p>"
        )
    head = (
        "recording", "clocks", "offset corrected (lag less 0.25 s), s", "drift corrected, ppm",
        "offset left, s",
    )  # fmt: skip
    body = [
        (
            row["record"],
            row["clock_state"],
            with_half(row["clock_offset_s"], row["clock_lag_half_s"], 2),
            with_half(row["clock_drift_ppm"], row["clock_drift_half_ppm"], 0),
            "not certain" if row["clock_left_s"] is None else f"{row['clock_left_s']:+.2f}",
        )
        for row in result["clocks"]
    ]
    return [*parts, rows("Clocks of ECG and PPG", head, body)]


def with_half(value, half, digits):
    """Format a number with half its 95 % interval, if that is known: "1.20 ± 0.15"."""
    return f"{value:+.{digits}f}" + ("" if half is None else f" ± {half:.{digits}f}")


def rows(title, head, body):
    """Return a heading and a table; nothing for an empty table."""
    body = list(body)
    if not body:
        return ""
    lines = [f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in body]
    heads = "".join(f"<th>{cell}</th>" for cell in head)
    return f"<h2>{title}</h2><table><tr>{heads}</tr>{''.join(lines)}</table>"
