"""One self-contained HTML page of what a run did: readable on a phone, in the dark, offline and in ten years."""

import base64
import io
import math
from datetime import date
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from matplotlib import rc_context
from matplotlib.figure import Figure

from xmae.files import atomic_file

INK, ACCENT, SECOND, MUTED = "#123456", "#0f9d8a", "#d9775f", "#8a94a3"  # INK becomes the page's text colour
RUNTIMES = {"pytorch": "PyTorch", "executorch": "ExecuTorch", "litert": "LiteRT", "onnx": "ONNX Runtime"}


def write_report(results, out, title="xMAE: from recordings to a watch"):
    """Write `report.html` into the folder `out`.

    Parameters
    ----------
    results : dict
        What the verbs returned, under their names; a verb that did not run is left out, and so is its section:

        - ``prepare``: `recordings`, `windows`, `dropped` (by reason), `windows_by_split`, `subjects_by_split`
        - ``pretrain``: `val_loss`, `variance`, `val_ratio`, `history` (lists under `epoch`, `train_loss`, `val_loss`),
          `picture` (path of a PNG), and if known `epochs`, `windows_seen`, `seconds`, `device`
        - ``probe``: what `xmae probe` returned, or a list of such (teacher, student)
        - ``distill``: any plain numbers and words; listed as they are (so are those of ``quantize``)
        - ``export``: what `xmae export` returned; its operators outside the delegate are listed
        - ``bench``, ``validate``: what `xmae bench` and `xmae validate` returned
        - ``provenance``: dict from a heading to a sentence (data, its licence and attribution, weights)
    out : str or Path
        Folder, made if it is missing.
    title : str
        Heading of the page.

    Returns
    -------
    Path
        Of the page.

    Raises
    ------
    UserError
        If `out` cannot be written.
    """
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    environment.filters |= {
        "number": number,
        "size": size,
        "span": span,
        "runtime": lambda name: RUNTIMES.get(name, name),
    }
    template = environment.from_string((files("xmae.benchmarks") / "report.html").read_text())
    pretrain, probe = results.get("pretrain"), merge_probes(results.get("probe"))
    picture = pretrain and pretrain.get("picture")
    page = template.render(
        title=title,
        date=date.today().isoformat(),
        summary=summary_lines(results),
        prepare=results.get("prepare"),
        pretrain=pretrain,
        picture=_png(picture) if picture and Path(picture).is_file() else None,
        loss_curve=draw_loss(pretrain) if pretrain and pretrain.get("history") else None,
        probe=probe,
        probe_chart=draw_probe(probe["tasks"]["hr"]) if probe and "encoders" in probe["tasks"].get("hr", {}) else None,
        lists={name: plain(results[name]) for name in ("distill", "quantize") if name in results},
        export=results.get("export"),
        validate=results.get("validate"),
        costs=cost_rows(results),
        hardware=(results.get("bench") or results.get("validate") or {}).get("hardware"),
        reference=results.get("validate", {}).get("reference") or results.get("bench", {}).get("reference_info"),
        provenance=results.get("provenance", {}),
    )
    path = Path(out) / "report.html"
    with atomic_file(path) as temporary:
        temporary.write_text(page)
    return path


def summary_lines(results):
    """The run in at most five sentences, for the head of the page and the end of the terminal."""
    lines = []
    if prepare := results.get("prepare"):
        subjects = sum(prepare["subjects_by_split"].values())
        total = prepare["windows"] + sum(prepare["dropped"].values())
        lines.append(
            f"Data: {prepare['windows']:,} of {total:,} windows kept, {subjects} subjects"
            f" ({prepare['subjects_by_split'].get('test', 0)} held out for testing)."
        )
    if pretrain := results.get("pretrain"):
        lines.append(
            f"Pretraining: on held-out subjects the rebuilt ECG misses {100 * pretrain['val_ratio']:.0f} % of the"
            f" variance (100 % = drawing the mean)."
        )
    hr = (merge_probes(results.get("probe")) or {"tasks": {}})["tasks"].get("hr", {})
    if "encoders" in hr:
        cells = [f"{name} {entry['value']:.2f}" for name, entry in hr["encoders"].items() if "untrained " not in name]
        lines.append(
            f"Heart rate on {hr['n_subjects']} unseen subjects, mean error in bpm: {', '.join(cells)};"
            f" always the mean {hr['baseline']:.2f}."
        )
    int8 = [
        row
        for row in cost_rows(results)
        if (row["model"], row["precision"]) == ("student", "int8") and "latency_ms" in row
    ]
    if int8:
        best = min(int8, key=lambda row: row["latency_ms"])
        lines.append(
            f"int8 student: {size(best['bytes'])}, {number(best['latency_ms'])} ms a window"
            f" ({runtime(best['format'])}, one core)."
        )
    if validate := results.get("validate"):
        judged = sum("missing" not in row and row["format"] != "pytorch" for row in validate["models"])
        lines.append(
            f"Drift gate: passed, {judged} exports within their limits."
            if validate["passed"]
            else f"Drift gate: FAILED, {len(validate['violations'])} violation(s) over {judged} exports."
        )
    return lines


def merge_probes(probes):
    """One probe result or a list of them as one, with the encoders side by side; None if there is none.

    Baselines of the second and later results are named after their model, and hand-made features appear once.
    """
    if not probes:
        return None
    first, *others = probes if isinstance(probes, list) else [probes]
    tasks = {name: task | {"encoders": dict(task["encoders"])} if "encoders" in task else task
             for name, task in first["tasks"].items()}  # fmt: skip
    for other in others:
        for name, task in other["tasks"].items():
            for encoder, entry in task.get("encoders", {}).items():
                if encoder != "features" and "encoders" in tasks.get(name, {}):
                    shown = f"{encoder} {other['model']}" if encoder in tasks[name]["encoders"] else encoder
                    tasks[name]["encoders"][shown] = entry
    names = list(dict.fromkeys(name for task in tasks.values() for name in task.get("encoders", ())))
    return first | {"tasks": tasks, "encoders": names}


def cost_rows(results):
    """Rows with latency, size and memory: those of `bench`, else those of `validate`."""
    return (results.get("bench") or results.get("validate") or {"models": []})["models"]


def draw_loss(pretrain):
    """Training and validation loss by epoch with the line at the ECG's variance, as SVG."""
    history = pretrain["history"]
    with rc_context(_style()):
        figure = Figure(figsize=(5, 2.9), layout="constrained")
        axes = figure.subplots()
        axes.axhline(1, color=MUTED, lw=1, ls="--")
        axes.text(
            0.99, 1, "drawing the mean", color=MUTED, ha="right", va="bottom", transform=axes.get_yaxis_transform()
        )
        for key, label, color in (("train_loss", "training", MUTED), ("val_loss", "held-out subjects", ACCENT)):
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
    """Value and 95 % interval of each encoder in one task, as SVG."""
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


def plain(value):
    """The entries of a verb's result that fit on a line: numbers, words (no paths) and short lists."""
    shown = {}
    for key, item in value.items():
        if isinstance(item, dict) and len(item) <= 6 and not any(isinstance(x, (dict, list)) for x in item.values()):
            item = ", ".join(f"{name} {number(x)}" for name, x in item.items())
        if isinstance(item, (int, float)) or (isinstance(item, str) and key != "out" and "/" not in item):
            shown[key.replace("_", " ")] = number(item)
    return shown


def number(value, digits=3):
    """A number with three significant digits and thousands separators; words as they are; None as a dash."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if value == 0 or isinstance(value, int) or abs(value) >= 10**digits:
        return f"{value:,.0f}"
    return f"{value:,.{max(0, digits - 1 - math.floor(math.log10(abs(value))))}f}"


def size(n_bytes):
    """Bytes as kB or MB (powers of ten)."""
    if n_bytes is None:
        return "–"
    return f"{n_bytes / 1e6:.1f} MB" if n_bytes >= 1e6 else f"{n_bytes / 1e3:.0f} kB"


def span(interval, digits=2):
    """`[low, high]` as "low to high"; nothing for None."""
    return f"{interval[0]:.{digits}f} to {interval[1]:.{digits}f}" if interval else ""


def runtime(format):
    """The name of the runtime that runs a format."""
    return RUNTIMES.get(format, format)


def _style():
    return {
        "svg.fonttype": "none",  # letters stay letters: they take the page's font and can be searched
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
    """A figure as inline SVG whose ink is the page's text colour."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :].replace(INK, "currentColor")


def _png(path):
    """An image file as a data URL."""
    return "data:image/png;base64," + base64.b64encode(Path(path).read_bytes()).decode()
