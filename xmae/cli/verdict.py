"""What came out of a verb and whether it is good, in two to five lines, from its result.

Verbs that know best themselves give a `summary` with their result; this is for the others. A number
is good against something: the constant, an untrained encoder, where it began, a limit. What is not
good is a line that begins with "warning".
"""

from pathlib import Path

MOST_LINES = 5
SMALL_FALL = 0.05  # share of the validation loss by which less than this was learnt
LONG_WAIT = 0.05  # share of a training that waits for its batches
GOOD_COSINE, POOR_COSINE = 0.8, 0.5  # of a student to its teacher, centred
OTHERS = ("constant", "untrained")  # what a method is held against
POOR_INT8 = 0.95  # centred cosine to float, below which an int8 file is warned of


def verdict(verb, result):
    """Return the lines to print below the progress of a verb.

    Parameters
    ----------
    verb : str
        "pretrain" and so on.
    result : dict
        Result of the verb's function.

    Returns
    -------
    list of str
        At most five; none for a verb whose result is a place alone.
    """
    if "summary" in result:
        return list(result["summary"])
    for key, lines_of in KINDS.items():
        if key in result:
            return lines_of(result)[:MOST_LINES]
    return []


def of_unfinished(result):
    """Return the lines on a run that ran out of time."""
    done = f" after {result['epochs']} epochs" if "epochs" in result else ""
    return [f"warning: stopped before the end{done}; the same command with --resume goes on"]


def of_training(result):
    """Return the lines on a training: how much was trained, how far the loss fell, and how close to
    the teacher it came.
    """
    if not result.get("finished", True):
        return of_unfinished(result)
    losses = result.get("history", {}).get("val_loss", [])
    lines = [
        f"{result['epochs']} epochs, {result['windows_seen']:,} windows in"
        f" {result['seconds'] / 60:.1f} min on {result['device']}"
    ]
    if len(losses) > 1 and losses[0] > 0:
        fall = 1 - result["val_loss"] / losses[0]
        lines.append(
            f"validation loss {losses[0]:.4g} after the first epoch, {result['val_loss']:.4g} in "
            "the end"
        )
        if fall < SMALL_FALL:
            lines.append("warning: the loss hardly fell: more epochs, more windows or another --lr")
    if result.get("val_ratio", 0) >= 1:
        lines.append("warning: ECG is rebuilt no better than by its mean")
    lines += near_teacher(result)
    if result.get("waited", 0) > LONG_WAIT:
        lines.append(f"the training waited for its batches {result['waited']:.0%} of the time")
    if result.get("without_delay"):
        lines.append(
            f"{result['without_delay']} of {result['stretches']} stretches of recordings left out: "
            "no steady delay from R peak to pulse"
        )
    if known := result.get("known_before"):
        lines.append(
            f"warning: {len(known)} subjects of val or test ({', '.join(known[:3])} ...) had a "
            "part in the weights of --init; they cannot be scored"
        )
    if "encoder" in result:
        lines.append(f"what it knows, against a constant: xmae probe {result['encoder']} STORE")
    return lines


def near_teacher(result):
    """Return the lines on how close a student came to its teacher, or to itself in float."""
    if "cosine_to_float" in result:
        after, before = result["cosine_to_float"], result["cosine_to_float_before"]
        better = "" if after > before else "warning: training did not help: "
        return [f"{better}cosine of int8 to float {after:.4f}, {before:.4f} before"]
    agreements = (name for name in result if name.endswith("cosine") or name == "distances")
    name = next(agreements, None)
    if name is None:
        return []
    value = result[name]
    said = f"{name.replace('_', ' ')} to the teacher {value:.2f}"
    if value >= GOOD_COSINE:
        return [f"{said}: a good student"]
    if value >= POOR_COSINE:
        return [f"{said}: part of the teacher is lost; more epochs or crops, or a larger tier"]
    return [
        f"warning: {said}: this student says next to nothing of what its teacher does; train on"
    ]


def of_tasks(result):
    """Return the lines on an evaluation: the first method beside constant and untrained, task by
    task.
    """
    done = [trial for trial in result["trials"] if "methods" in trial]
    name = result.get("reference") or next(iter(done[0]["methods"]), None) if done else None
    lines, worse = [], []
    for trial in done:
        found = {who: row[trial["metric"]]["value"] for who, row in trial["methods"].items()}
        if name not in found or "constant" not in found:
            continue
        sign = -1 if trial["metric"] == "mae" else 1
        if sign * found[name] <= sign * found["constant"]:
            worse.append(trial["task"])
        others = ", ".join(f"{who} {found[who]:.3g}" for who in OTHERS if who in found)
        unit = trial["units"] or trial["metric"].upper()
        lines.append(f"{trial['label']}: {name} {found[name]:.3g} {unit} ({others})")
    more = [f"and {len(lines) - 3} more tasks"] if len(lines) > 3 else []
    short = [*lines[:3], *more]
    if worse:
        short.append(f"warning: {name} is no better than a constant on {', '.join(worse)}")
    return short


def of_probes(result):
    """Return the lines on a probe: the first encoder of each task beside the constant."""
    lines, worse = [], []
    for task in result["tasks"].values():
        ways = task.get("encoders") or task.get("ways") or {}
        if not ways:
            continue
        name, found = next(iter(ways.items()))
        sign = -1 if task["metric"] == "mae" else 1
        if sign * found["value"] <= sign * task["baseline"]:
            worse.append(task["label"])
        lines.append(
            f"{task['label']}: {name} {found['value']:.3g}, constant {task['baseline']:.3g}"
        )
    short = lines[:4]
    if worse:
        short.append(f"warning: no better than a constant: {', '.join(worse)}")
    return short


def of_int8(result):
    """Return the lines on int8 files: how much of float accuracy each keeps."""
    lines = []
    for row in result["formats"]:
        value = (row.get("drift") or row).get("centred_cosine_median")
        if value is None:
            continue
        poor = "" if value >= POOR_INT8 else "warning: "
        lines.append(f"{poor}{row['format']} int8 keeps a centred cosine of {value:.4f} to float")
    return [f"calibrated on {result['calibration_windows']} windows", *lines]


def of_page(result):
    """Return the lines on a page of Markdown: the head of its first table."""
    page = Path(result["out"])
    if page.suffix != ".md" or not page.is_file():
        return []
    lines = [line for line in page.read_text().splitlines() if line.startswith("|")]
    return [line for line in lines[: MOST_LINES + 1] if set(line) - set("|- :")]


# entry of a result by which its kind is known: what is said of it
KINDS = {
    "stopped_in": of_unfinished,
    "windows_seen": of_training,
    "trials": of_tasks,
    "tasks": of_probes,
    "formats": of_int8,
    "out": of_page,
}
