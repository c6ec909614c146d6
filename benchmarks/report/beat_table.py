"""What `xmae simulate` measured of a student that reads beats: for the terminal, Markdown and the
HTML report.
"""

from xmae.benchmarks.report.watch_table import failed
from xmae.tables import markdown_table

COLUMNS = (
    "device", "instructions a second", "longest burst, estimated ms", "estimated busy ms a second",
    "estimated mJ a second", "flash, bytes", "RAM of an instance", "stack used",
    "estimated mAh a day", "same bits as xmae.Stream", "limits",
)  # fmt: skip


def table_rows(result):
    """Return the cells of each device under `COLUMNS`: a list of dicts of str."""
    rows = []
    for name, played in result["devices"].items():
        counts, estimated, memory = played["counts"], played["estimated"], played["memory"]
        cells = (
            f"{name} ({played['core']}, {played['emulator']})",
            f"{counts['instructions_a_second']:,}",
            span(estimated["longest_ms"]),
            span(estimated["busy_ms_a_second"]),
            span(estimated["energy_mj_a_second"]),
            f"{memory['flash']:,}",
            f"{memory['instance']:,}",
            f"{memory['stack_used']:,}",
            span(estimated["mah_per_day"]),
            equality(played["bit_exact"]),
            ", ".join(broken_limits(played)) or "kept",
        )
        rows.append(dict(zip(COLUMNS, cells, strict=True)))
    return rows


def span(number):
    """Format an estimate with its range: "1.2 (0.9 to 2)"."""
    return f"{number['estimated']:.3g} ({number['low']:.3g} to {number['high']:.3g})"


def equality(same):
    """Say how many results agree in every field, and where the first difference is."""
    text = f"{same['equal']} of {same['results']} results the same bits as {same['with']}"
    return text + (f" ({same['first_difference']})" if "first_difference" in same else "")


def broken_limits(played):
    """List the limits of a device that are not kept."""
    return [
        f"over: {limit['used']:,} of {limit['limit']:,} {name} ({limit['unit']})"
        for name, limit in played["limits"].items()
        if not limit["met"]
    ]


def markdown(result):
    """Return the table as Markdown, with a sentence that explains it, and the result lines of the
    first device.
    """
    rows, front = table_rows(result), result["front_end"]
    text = (
        f"Recording {result['signal']}: {front['sfreq']:g} Hz, {front['adc_bits']} bits, a result "
        f"every {front['hop_s']} s, read by libxmae. {result['note']}\n\n"
    )
    text += markdown_table(COLUMNS, [row.values() for row in rows])
    text += "".join(f"\n\n**Not passed**: {sentence}." for sentence in failed(result))
    lines = next(iter(result["devices"].values()))["lines"]
    return text + "\n\n```\n" + "\n".join(lines) + "\n```"


def terminal(result):
    """Return the terminal's lines, one per device."""
    lines = []
    for row in table_rows(result):
        lines.append(
            f"{row['device']}: {row['instructions a second']} instructions a second, "
            f"{row['RAM of an instance']} bytes of RAM, {row['estimated mAh a day']} mAh a day; "
            f"{row['same bits as xmae.Stream']}"
        )
    lines += [f"NOT PASSED: {sentence}" for sentence in failed(result)]
    return "\n".join([*lines, "Estimates have wide ranges: see the report."])


def summary(result):
    """Return the sentence for the head of the report."""
    same = [one["bit_exact"] for one in result["devices"].values()]
    equal, results = (sum(one[key] for one in same) for key in ("equal", "results"))
    verdict = "limits kept" if result["passed"] else "NOT passed: " + "; ".join(failed(result))
    return (
        f"Emulated watches: {len(same)} device(s), {equal} of {results} results the same bits as"
        f" xmae.Stream; {verdict}."
    )
