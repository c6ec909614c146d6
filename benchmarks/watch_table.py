"""What `xmae simulate` measured, a row for each device: for the terminal, for Markdown and for the HTML report."""

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
    "limits": "limits",
}
WITHOUT_SAMPLES = (
    "Energy and charge include the work on samples between windows on Cortex-M only; on Cortex-A (qemu-user) a sensor "
    "hub is taken to do it, and it is in no number."
)


def table_rows(result):
    """Cells of each device, of its accelerator and its other runtimes, under `COLUMNS`: a list of dicts of str."""
    rows = []
    for name, played in result["devices"].items():
        counts, memory, same = played["counts"], played.get("memory"), played["bit_exact"]
        broken = [f"{kind} {limit['bytes']:,} of {limit['limit']:,}" for kind, limit in played.get("limits", {}).items()
                  if not limit["met"]]  # fmt: skip
        cells = [
            f"{name} ({played['core']}, {played['emulator']})",
            f"{counts['instructions_a_window']:,}",
            f"{counts['instructions_per_mac']:.2f}" if counts.get("instructions_per_mac") else "–",
            *estimated_cells(played["estimated"]),
            f"{memory['weights']:,} + {memory['constants']:,} + {memory['code']:,}" if memory else "–",
            f"{memory['ram']:,} ({memory['stack_used']:,})" if memory else "–",
            *(span(entry["mah_per_day"]) for entry in played["estimated"]["battery"]),
            equality(same),
            f"{100 * counts['spread']:.2f} %" if counts["spread"] is not None else "–",
            "–" if "limits" not in played else "over: " + ", ".join(broken) if broken else "kept",
        ]
        rows.append(dict(zip(COLUMNS, cells, strict=True)))
        if npu := played.get("npu"):
            cells = [f"{name} + {npu['accelerator']} (Vela's estimate)", "–", "–", *estimated_cells(npu["estimated"])]
            cells += ["–", "–", *(span(entry["mah_per_day"]) for entry in npu["estimated"]["battery"]), "–", "–", "–"]
            rows.append(dict(zip(COLUMNS, cells, strict=True)))
        for runtime, other in played.get("runtimes", {}).items():
            rows += table_rows({"devices": {f"{name}, {runtime}": played | other | {"runtimes": {}}}})
    return rows


def equality(same):
    """How many embeddings equal the reference's, and how far off the others are."""
    if not same:
        return "not compared"
    missed = same["equal"] < same["windows"] and "largest_step" in same
    off = f", off by {same['largest_step']:.3g} steps at most" if missed else ""
    return f"{same['equal']} of {same['windows']} ({same['with']}{off})"


def estimated_cells(estimated):
    """Latency and energy with their ranges."""
    return [span(estimated["latency_ms"]), span(estimated["energy_mj"])]


def span(number):
    """An estimate with its low and high end: "1.2 (0.9 to 2)"."""
    return f"{number['estimated']:.3g} ({number['low']:.3g} to {number['high']:.3g})"


def markdown(result):
    """The table with a sentence on what it is."""
    rows, front = table_rows(result), result["front_end"]
    no_samples = any(played["emulator"].startswith("qemu-user") for played in result["devices"].values())
    lines = [
        f"Recording {result['signal']}: front end at {front['sfreq']} Hz, {front['adc_bits']} bits, a window every "
        f"{front['hop_s']} s; kernels: {result['kernels']}. {result['note']}"
        + (f" {WITHOUT_SAMPLES}" if no_samples else ""),
        "",
        *(f"| {' | '.join(cells)} |" for cells in (COLUMNS, ["---"] * len(COLUMNS), *(row.values() for row in rows))),
    ]
    if result["not_run"]:
        lines += ["", "Not run: " + "; ".join(f"{name} needs {what}" for name, what in result["not_run"].items()) + "."]
    return "\n".join(lines)


def terminal(result):
    """The table without ranges, in columns."""
    cells = [
        list(COLUMNS.values()),
        *([row["device"], *(row[name].split(" (")[0] for name in list(COLUMNS)[1:])] for row in table_rows(result)),
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join([*lines, "Estimates have wide ranges: see the report."])


def summary(result):
    """One sentence for the head of the report."""
    compared = [one["bit_exact"] for one in result["devices"].values() if one["bit_exact"]]
    equal, windows = (sum(same[key] for same in compared) for key in ("equal", "windows"))
    return (
        f"Emulated watches: {len(result['devices'])} device(s), {equal} of {windows} embeddings equal to the reference"
        f" interpreter's; limits of flash and RAM {'kept' if result['passed'] else 'or equality NOT kept'}."
    )
