"""Pictures for the report: inline SVG whose ink is the page's text colour, so that they work in the
dark.
"""

import io

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from xmae.benchmarks.harness.sessions import TITLES

# INK becomes the page's text colour
INK, ACCENT, SECOND, MUTED = "#123456", "#0f9d8a", "#d9775f", "#8a94a3"
COLOURS = {
    "pytorch": MUTED,
    "executorch": "#3b7dd8",
    "litert": ACCENT,
    "onnx": SECOND,
    "c": "#b07cc6",
}
# around an estimate
RING = {"marker": "o", "ms": 13, "mfc": "none", "mec": INK, "mew": 0.8, "ls": ""}
COSTS = (  # of the Pareto plots: field, words, factor
    ("latency_ms", "latency of a window, ms", 1),
    ("bytes", "file or weights, kB", 1e-3),
    ("macs", "multiply-accumulates a window, million", 1e-6),
)


def draw_loss(pretrain):
    """Draw the training and validation loss by epoch, with a line at the variance of the ECG:
    SVG.
    """
    history = pretrain["history"]
    with rc_context(_style()):
        figure = Figure(figsize=(5, 2.9), layout="constrained")
        axes = figure.subplots()
        axes.axhline(1, color=MUTED, lw=1, ls="--")
        axes.text(
            0.99,
            1,
            "drawing the mean",
            color=MUTED,
            ha="right",
            va="bottom",
            transform=axes.get_yaxis_transform(),
        )
        for key, label, color in (
            ("train_loss", "training", MUTED),
            ("val_loss", "held-out subjects", ACCENT),
        ):
            axes.plot(
                history["epoch"],
                [loss / pretrain["variance"] for loss in history[key]],
                color=color,
                lw=1.8,
                label=label,
            )
        axes.set_xlabel("epoch")
        axes.set_ylabel("masked MSE / variance")
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False, loc="lower left")
        return _svg(figure)


def draw_probe(task):
    """Draw the value and 95 % interval of each encoder in one task: SVG."""
    encoders = task["encoders"]
    with rc_context(_style()):
        figure = Figure(figsize=(5, 0.75 + 0.36 * len(encoders)), layout="constrained")
        axes = figure.subplots()
        for y, entry in enumerate(encoders.values()):
            color = ACCENT if y == 0 else SECOND
            if entry["interval"]:
                axes.plot(entry["interval"], [y, y], color=color, lw=2.2, solid_capstyle="round")
            axes.plot(entry["value"], y, "o", color=color, ms=7)
        axes.set_yticks(range(len(encoders)), list(encoders))
        axes.set_ylim(len(encoders) - 0.5, -0.5)
        axes.set_xlim(left=0)
        axes.set_xlabel(f"{task['label'].lower()}, mean absolute error ({task['units']})")
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        return _svg(figure)


def draw_pareto(rows):
    """Draw heart-rate error and drift from fp32 against latency, size and MAC, one picture for each
    pair.

    Rows without both are left out, and fp32 from the drift. Colour is the runtime, the mark's shape
    the model, a filled mark is quantised, a ring around it says that it is estimated; the line
    joins what nothing else beats in both, of the rows scored on all windows: others are shown, but
    an error on fewer windows is another quantity.

    Returns
    -------
    list of str
        SVG.
    """
    marks = dict(
        zip(sorted({row["model"] for row in rows}, reverse=True), "so^Dv<>P", strict=False)
    )
    quantised = [row for row in rows if row["precision"] not in ("fp32", "bf16")]
    pictures = []
    for of, words, logarithmic, chosen in (
        (heart_rate_error, "heart-rate error, bpm", False, rows),
        (drift, "1 − centred cosine to own fp32", True, quantised),
    ):
        known = [(row, of(row)) for row in chosen if of(row) is not None]
        for field, cost, factor in COSTS:
            points = [(row[field] * factor, error, row) for row, error in known if row.get(field)]
            if len(points) > 1:
                pictures.append(_pareto(points, marks, cost, words, logarithmic))
    return pictures


def heart_rate_error(row):
    """Return the mean absolute error of the bundle's heart-rate head on this row's embeddings, bpm;
    None if not measured.
    """
    return (row.get("heads") or {}).get("hr", {}).get("value")


def drift(row):
    """Return one minus the median centred cosine of a row's embeddings to fp32; at least 1e-7
    (rounding).
    """
    return max(1e-7, 1 - row["centred"]["median"]) if row.get("centred") else None


def front(points):
    """Return the Pareto front: those of (cost, error, row) that no other point beats in both,
    cheapest first.
    """
    best, kept = float("inf"), []
    for point in sorted(points, key=lambda point: point[:2]):
        if point[1] < best:
            best = point[1]
            kept.append(point)
    return kept


def _pareto(points, marks, cost, error, logarithmic):
    with rc_context(_style()):
        figure = Figure(figsize=(5, 3.6), layout="constrained")
        axes = figure.subplots()
        logarithmic_axis(axes, "x", [x for x, _, _ in points])
        if logarithmic:
            logarithmic_axis(axes, "y", [y for _, y, _ in points])
        most = max(row.get("windows") or 0 for _, _, row in points)
        kept = front([point for point in points if (point[2].get("windows") or 0) == most])
        axes.plot(
            [x for x, _, _ in kept], [y for _, y, _ in kept], color=MUTED, lw=1, ls="--", zorder=1
        )
        for x, y, row in points:
            colour = COLOURS.get(row["format"], INK)
            face = "none" if row["precision"] in ("fp32", "bf16") else colour
            axes.plot(x, y, marks.get(row["model"], "o"), color=colour, mfc=face, ms=7)
            if row.get("kind") == "estimated":
                axes.plot(x, y, **RING)
        for format in dict.fromkeys(row["format"] for _, _, row in points):
            axes.plot([], [], "o", color=COLOURS.get(format, INK), label=TITLES.get(format, format))
        for model, mark in marks.items():
            axes.plot([], [], mark, color=INK, mfc="none", label=model)
        if any(row.get("kind") == "estimated" for _, _, row in points):
            axes.plot([], [], **RING, label="estimated")
        axes.set_xlabel(cost)
        axes.set_ylabel(error)
        figure.legend(frameon=False, fontsize=8.5, ncols=3, loc="outside upper left")
        return _svg(figure)


def logarithmic_axis(axes, which, values):
    """Set a logarithmic axis with a margin around the values, and labelled ticks at 1, 2 and 5."""
    axis = getattr(axes, f"{which}axis")
    axes.set(**{f"{which}scale": "log", f"{which}lim": (min(values) / 1.6, max(values) * 1.6)})
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if max(values) < 100 * min(values) else (1,)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def _style():
    return {
        # letters stay letters: they take the page's font and can be searched
        "svg.fonttype": "none",
        "font.size": 10.5,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }


def _svg(figure):
    """Return a figure as inline SVG, with its black drawn in the text colour of the page."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :].replace(INK, "currentColor")
