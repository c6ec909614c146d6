"""What `xmae simulate` measured, a row for each device: for the terminal, for Markdown and for the
HTML report.
"""

COLUMNS = {  # full heading: short one, for a terminal
    "device": "device",
    "instructions a window": "instructions",
    "network, per MAC": "per MAC",
    "estimated ms": "est. ms",
    "estimated mJ": "est. mJ",
    "flash: weights + constants + code": "flash, bytes",
    "RAM (stack used)": "RAM",
    "estimated mAh a day: a window every 10 s": "mAh/day at 10 s",
    "every 60 s": "at 60 s",
    "equal to the reference": "equal",
    "most a window differs": "differ",
    "start, with the check of the flash: instructions (estimated ms)": "start",
    "limits": "limits",
}
WITHOUT_SAMPLES = (
    "Energy and charge include the work on samples between windows on Cortex-M only; on Cortex-A "
    "(qemu-user) a sensor "
    "hub is taken to do it, and it is in no number."
)


def table_rows(result):
    """Return the cells of each device, its accelerator and its other runtimes, under `COLUMNS`: a
    list of dicts of str.
    """
    rows = []
    for name, played in result["devices"].items():
        counts, memory, same = played["counts"], played.get("memory"), played["bit_exact"]
        broken = broken_limits(played)
        cells = [
            f"{name} ({played['core']}, {played['emulator']})",
            f"{counts['instructions_a_window']:,}",
            f"{counts['instructions_per_mac']:.2f}" if counts.get("instructions_per_mac") else "–",
            *estimated_cells(played["estimated"]),
            f"{memory['weights']:,} + {memory['constants']:,} + {memory['code']:,}"
            if memory
            else "–",
            f"{memory['ram']:,} ({memory['stack_used']:,})" if memory else "–",
            *(span(entry["mah_per_day"]) for entry in played["estimated"]["battery"]),
            equality(same),
            f"{100 * counts['spread']:.2f} %" if counts["spread"] is not None else "–",
            f"{counts['start_instructions']:,} ({played['estimated']['start_ms']['estimated']:.3g})"
            if memory
            else "–",
            "–" if "limits" not in played else ", ".join(broken) or "kept",
        ]
        rows.append(dict(zip(COLUMNS, cells, strict=True)))
        if npu := played.get("npu"):
            cells = [
                f"{name} + {npu['accelerator']} (Vela's estimate)",
                *["–"] * 2,
                *estimated_cells(npu["estimated"]),
            ]
            cells += [
                "–",
                "–",
                *(span(entry["mah_per_day"]) for entry in npu["estimated"]["battery"]),
                *["–"] * 4,
            ]
            rows.append(dict(zip(COLUMNS, cells, strict=True)))
        for runtime, other in played.get("runtimes", {}).items():
            rows += table_rows(
                {"devices": {f"{name}, {runtime}": played | other | {"runtimes": {}}}}
            )
    return rows


def broken_limits(played):
    """List the limits of a device that are not kept."""
    return [
        f"over: {name} {limit['used']:,} of {limit['limit']:,} {limit['unit']}"
        for name, limit in played.get("limits", {}).items()
        if not limit["met"]
    ]


def equality(same):
    """Say how many embeddings equal the reference's and how far the others are off, or why they
    were not compared.
    """
    if "not_compared" in same:
        return f"not compared: {same['not_compared']}"
    missed = same["equal"] < same["windows"] and "largest_step" in same
    off = f", off by {same['largest_step']:.3g} steps at most" if missed else ""
    return f"{same['equal']} of {same['windows']} ({same['with']}{off})"


def estimated_cells(estimated):
    """Return the latency and energy, each with its range."""
    return [span(estimated["latency_ms"]), span(estimated["energy_mj"])]


def span(number):
    """Format an estimate with its range: "1.2 (0.9 to 2)"."""
    return f"{number['estimated']:.3g} ({number['low']:.3g} to {number['high']:.3g})"


def markdown(result):
    """Return the table as Markdown, with a sentence that explains it."""
    rows, front = table_rows(result), result["front_end"]
    no_samples = any(
        played["emulator"].startswith("qemu-user") for played in result["devices"].values()
    )
    lines = [
        f"Recording {result['signal']}: front end at {front['sfreq']} Hz, {front['adc_bits']} "
        "bits, a window every "
        f"{front['hop_s']} s; kernels: {result['kernels']}. {result['note']}"
        + (f" {WITHOUT_SAMPLES}" if no_samples else ""),
        "",
        *(
            f"| {' | '.join(cells)} |"
            for cells in (COLUMNS, ["---"] * len(COLUMNS), *(row.values() for row in rows))
        ),
    ]
    lines += ["", frame_contents(result)]
    lines += [f"\n**Not passed**: {sentence}." for sentence in failed(result)]
    if result["not_run"]:
        lines += [
            "",
            "Not run: "
            + "; ".join(f"{name} needs {what}" for name, what in result["not_run"].items())
            + ".",
        ]
    return "\n".join(lines)


def frame_contents(result):
    """Describe the numbers in a result frame in a sentence or two; they are the same on all
    devices.
    """
    played = next(iter(result["devices"].values()))
    names = (
        ", ".join(f"{head['name']} ({head['units']})" for head in played["heads"])
        or "none, the embedding alone"
    )
    left = ", ".join(played["without_skill"])
    return f"Heads of a result frame, in order: {names}." + (
        f" Left out, no better than a constant on other subjects: {left}." if left else ""
    )


def failed(result):
    """List what did not pass, one sentence each."""
    lines = []
    for name, found in result["failures"].items():
        lines += [f"{name}: {what}" for what in found]
    return lines


def terminal(result):
    """Return the table without ranges, in columns for a terminal."""
    cells = [
        list(COLUMNS.values()),
        *(
            [row["device"], *(row[name].split(" (")[0] for name in list(COLUMNS)[1:])]
            for row in table_rows(result)
        ),
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
    lines += [frame_contents(result), "Estimates have wide ranges: see the report."]
    return "\n".join([*lines, *(f"NOT PASSED: {sentence}" for sentence in failed(result))])


def summary(result):
    """Return the sentence for the head of the report."""
    compared = [one["bit_exact"] for one in result["devices"].values()]
    equal, windows = (sum(same[key] for same in compared) for key in ("equal", "windows"))
    not_passed = "NOT passed: " + "; ".join(failed(result))
    return (
        f"Emulated watches: {len(result['devices'])} device(s), {equal} of {windows} embeddings "
        "equal to the reference"
        " interpreter's; "
        f"{'limits of flash, RAM and FIFO kept' if result['passed'] else not_passed}."
    )
