"""One self-contained HTML page of what a run did: readable on a phone, in the dark, offline and in
ten years.
"""

import base64
import math
from datetime import date
from importlib.resources import files
from itertools import chain
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from xmae.benchmarks.harness.sessions import TITLES
from xmae.benchmarks.report import beat_table, watch_table
from xmae.benchmarks.report.charts import draw_loss, draw_pareto, draw_probe
from xmae.files import atomic_file

MEASURED = (  # what a row may have; see `xmae bench`
    "device", "windows", "bytes", "code_bytes", "macs", "latency_ms", "latency_interval",
    "all_threads", "mac_per_s", "cold_start_ms", "cycles", "peak_memory_bytes",
    "model_memory_bytes", "energy_mj", "energy_interval", "centred", "heads", "beats", "histogram",
    "layers", "missing", "failure", "profile_failure",
)  # fmt: skip


def write_report(results, out, title="xMAE: from recordings to a watch"):
    """Write `report.html` into the folder `out`.

    Parameters
    ----------
    results : dict
        What the verbs returned, under their names; a verb that did not run is left out, and so is
        its section:

        - ``prepare``: `recordings`, `windows`, `dropped` (by reason), `windows_by_split`,
          `subjects_by_split`
        - ``pretrain``: `val_loss`, `variance`, `val_ratio`, `history` (lists under `epoch`,
          `train_loss`, `val_loss`), `picture` (path of a PNG), and if known `epochs`,
          `windows_seen`, `seconds`, `device`
        - ``read``: what `xmae.evaluation.read_people.read_people` returned
        - ``probe``: what `xmae probe` returned, or a list of such (teacher, student)
        - ``distill``, ``quantize``: any plain numbers and words, listed as they are
        - ``export``: what `xmae export` returned; its operators outside the delegate are listed
        - ``bench``, ``validate``, ``simulate``: what these verbs returned
        - ``provenance``: dict from a heading to a sentence (data, its licence and attribution,
          weights)
    out : str or Path
        Folder, made if it is missing.
    title : str
        Heading of the page.

    Returns
    -------
    Path
        Path of the page.

    Raises
    ------
    UserError
        If `out` cannot be written.
    """
    environment = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters |= {"number": number, "size": size, "span": span, "runtime": runtime}
    text = (files("xmae.benchmarks.report") / "report.html").read_text()
    page = environment.from_string(text).render(
        title=title, date=date.today().isoformat(), **sections(results)
    )
    path = Path(out) / "report.html"
    with atomic_file(path) as temporary:
        temporary.write_text(page)
    return path


def sections(results):
    """Return the variables of the template by name; None for a verb that did not run."""
    pretrain, read = results.get("pretrain"), results.get("read")
    probe, costs = merge_probes(results.get("probe")), cost_rows(results)
    bench, validate = results.get("bench"), results.get("validate")
    simulate, rate = results.get("simulate"), (probe or {"tasks": {}})["tasks"].get("hr", {})
    machine = bench or validate or {}
    return {
        "summary": summary_lines(results),
        "prepare": results.get("prepare"),
        "pretrain": pretrain,
        "picture": embedded_picture(pretrain),
        "read": read,
        "beats_picture": embedded_picture(read),
        "loss_curve": draw_loss(pretrain) if pretrain and pretrain.get("history") else None,
        "probe": probe,
        "probe_chart": draw_probe(rate) if "encoders" in rate else None,
        "lists": {
            name: plain(results[name]) for name in ("distill", "quantize") if name in results
        },
        "export": results.get("export"),
        "validate": validate,
        "costs": costs,
        "pareto": draw_pareto(costs),
        "layers": layer_bars(costs),
        "bench": bench,
        "simulate": simulate,
        "reads_beats": reads_beats(results),
        "watches": table_of(results).table_rows(simulate) if simulate else None,
        "hardware": machine.get("hardware"),
        "reference": (validate or {}).get("reference") or (bench or {}).get("reference_info"),
        "provenance": results.get("provenance", {}),
    }


def reads_beats(results):
    """Tell whether the simulated student reads beats."""
    return results.get("simulate", {}).get("reads") == "beats"


def table_of(results):
    """Return the module that makes the tables of a simulation."""
    return beat_table if reads_beats(results) else watch_table


def summary_lines(results):
    """Sum up the run in at most eight sentences, for the head of the page and the end of the
    terminal.
    """
    lines = []
    if prepare := results.get("prepare"):
        lines.append(data_line(prepare))
    if read := results.get("read"):
        lines += read_lines(read)
    if pretrain := results.get("pretrain"):
        lines.append(
            "Pretraining: on held-out subjects the rebuilt ECG misses "
            f"{100 * pretrain['val_ratio']:.0f} % of the variance (100 % = drawing the mean)."
        )
    lines += rate_lines(results)
    lines += cost_lines(results)
    if simulated := results.get("simulate"):
        lines.append(table_of(results).summary(simulated))
    if validate := results.get("validate"):
        lines.append(gate_line(validate))
    return lines


def data_line(prepare):
    """Say how many windows of how many subjects are in the store."""
    by_split = prepare["subjects_by_split"]
    total = prepare["windows"] + sum(prepare["dropped"].values())
    return (
        f"Data: {prepare['windows']:,} of {total:,} windows kept, {sum(by_split.values())} "
        f"subjects ({by_split.get('test', 0)} held out for testing)."
    )


def rate_lines(results):
    """Say how accurately the encoders tell the heart rate; no lines if they were not probed for
    it.
    """
    probe = merge_probes(results.get("probe")) or {"tasks": {}}
    hr = probe["tasks"].get("hr", {})
    if "encoders" not in hr:
        return []
    cells = [
        f"{name} {entry['value']:.2f}"
        for name, entry in hr["encoders"].items()
        if "untrained " not in name
    ]
    return [
        f"Heart rate on {hr['n_subjects']} unseen subjects, mean error in bpm: "
        f"{', '.join(cells)}; always the mean {hr['baseline']:.2f}."
    ]


def cost_lines(results):
    """Say which int8 student is fastest, and which files do not run."""
    int8 = [
        row for row in cost_rows(results) if (row["precision"], row["kind"]) == ("int8", "measured")
    ]
    students = [row for row in int8 if row["model"] != "teacher" and row["latency_ms"]]
    lines = []
    if students:
        best = min(students, key=lambda row: row["latency_ms"])
        lines.append(
            f"int8 {best['model']}: {size(best['bytes'])}, {number(best['latency_ms'])} ms a window"
            f" ({runtime(best['format'])}, one core)."
        )
    benched = results.get("bench", {"models": []})["models"]
    failed = [
        f"{row['model']} {row['precision']} {row['format']}" for row in benched if "failure" in row
    ]
    if failed:
        lines.append(f"Fails: {', '.join(failed)}.")
    return lines


def gate_line(validate):
    """Return the line with the verdict of the drift gate."""
    found, checked = len(validate["violations"]), f"{validate['checked']} exports"
    verdict = f"INCOMPLETE, {checked} within their limits"
    if found:
        verdict = f"FAILED, {found} violation(s) over {checked}"
    elif validate["passed"]:
        verdict = f"passed, {checked} within their limits"
    return f"Drift gate: {'; '.join([verdict, *validate['not_checked']])}."


def read_lines(read):
    """Say what the watch reads, with what error, on how many unseen people, and what int8 costs."""
    first, second, *_, rival = read["methods"]
    return [
        f"What the watch reads: the heart rate of {read['subjects']} people that its timing never "
        f"saw, off by {first['error_bpm']:.2f} bpm on average ({100 * first['within_5_bpm']:.0f} "
        f"% of windows within 5 bpm); the classical detector {rival['name']}: "
        f"{rival['error_bpm']:.2f} bpm.",
        f"Beats: {100 * first['f1']:.1f} % found and right (F1; {rival['name']} "
        f"{100 * rival['f1']:.1f} %), intervals"
        f" off by {first['interval_ms']:.1f} ms (median).",
        (
            f"What int8 costs: {first['error_bpm'] - second['error_bpm']:+.2f} bpm of heart-rate "
            "error."
        ),
    ]


def embedded_picture(result):
    """Return the picture of a result as a data URL; None if it has none."""
    path = result and result.get("picture")
    return _png(path) if path and Path(path).is_file() else None


def merge_probes(probes):
    """Merge one or several probe results into one, with the encoders side by side; None without
    any.

    Baselines of the second and later results are named after their model, and hand-made features
    appear once.
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
                    shown = (
                        f"{encoder} {other['model']}"
                        if encoder in tasks[name]["encoders"]
                        else encoder
                    )
                    tasks[name]["encoders"][shown] = entry
    names = list(
        dict.fromkeys(chain.from_iterable(task.get("encoders", ()) for task in tasks.values()))
    )
    return first | {"tasks": tasks, "encoders": names}


def cost_rows(results):
    """Return the rows of `bench`, or else of `validate`, with latency, size and memory; None for
    what was not measured.
    """
    rows = (results.get("bench") or results.get("validate") or {"models": []})["models"]
    return [dict.fromkeys(MEASURED) | {"kind": "measured"} | row for row in rows]


def layer_bars(rows):
    """List, for each row with a profile, its name, total time (us), and (operator, us, share of the
    largest) in running order.

    Operators below half a percent are summed up at the end.
    """
    found = []
    for row in rows:
        if not row["layers"]:
            continue
        total = sum(layer["us"] for layer in row["layers"])
        shown = [layer for layer in row["layers"] if layer["us"] >= 0.005 * total]
        rest = total - sum(layer["us"] for layer in shown)
        bars = [(layer["name"], layer["us"]) for layer in shown]
        bars += (
            [(f"{len(row['layers']) - len(shown)} smaller", rest)]
            if len(shown) < len(row["layers"])
            else []
        )
        largest = max((us for _, us in bars), default=0)
        found.append(
            (row, total, [(name, us, us / largest if largest else 0) for name, us in bars])
        )
    return found


def plain(value):
    """Return the entries of a verb's result that fit on one line: numbers, words (no paths) and
    short lists.
    """
    shown = {}
    for key, item in value.items():
        if (
            isinstance(item, dict)
            and len(item) <= 6
            and not any(isinstance(x, (dict, list)) for x in item.values())
        ):
            item = ", ".join(f"{name} {number(x)}" for name, x in item.items())
        if isinstance(item, (int, float)) or (
            isinstance(item, str) and key != "out" and "/" not in item
        ):
            shown[key.replace("_", " ")] = number(item)
    return shown


def number(value, digits=3):
    """Format a number with three significant digits and thousands separators; words stay, None is a
    dash.
    """
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
    """Format bytes as kB or MB (powers of ten)."""
    if n_bytes is None:
        return "–"
    return f"{n_bytes / 1e6:.1f} MB" if n_bytes >= 1e6 else f"{n_bytes / 1e3:.0f} kB"


def span(interval, digits=2):
    """Format `[low, high]` as "low to high"; None as ""."""
    return f"{interval[0]:.{digits}f} to {interval[1]:.{digits}f}" if interval else ""


def runtime(format):
    """Return the name of the runtime that runs a format."""
    return TITLES.get(format, format)


def _png(path):
    """Return an image file as a data URL."""
    return "data:image/png;base64," + base64.b64encode(Path(path).read_bytes()).decode()
