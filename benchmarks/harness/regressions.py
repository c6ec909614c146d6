"""What got worse between two benchmark runs, beyond the noise of both.

Processor time on one thread is compared, in yardsticks (a fixed computation timed in the same
rounds), so that a busier or slower machine is no regression, and only flagged where the 95 %
intervals of both runs lie apart and the medians by more than a tenth. Accuracy is compared where
both runs scored the same windows. Estimates of emulated devices repeat exactly, sizes and cosines
nearly: small fixed allowances are enough for them.
"""

from pathlib import Path

from xmae.errors import UserError, refusing
from xmae.files import read_json

SCHEMA, SCHEMA_VERSION = "xmae.bench", 2  # of bench.json

MIN_SLOWDOWN = 1.10
ALLOWED = {"bytes": 1.02, "peak_memory_bytes": 1.15, "instructions": 1.005}  # new / old
COSINE_LOSS = 0.002  # of the median centred cosine
HR_LOSS = 0.1  # bpm of the mean absolute error


def read_result(path):
    """Read a `bench.json`.

    Raises
    ------
    UserError
        If it is missing, not from `xmae bench`, or of another schema version.
    """
    path = Path(path)
    result = read_json(path / "bench.json" if path.is_dir() else path)
    if not isinstance(result, dict) or result.get("schema") != SCHEMA:
        raise UserError(f"{path}: not a result of xmae bench")
    version = result.get("schema_version")
    if version != SCHEMA_VERSION or not isinstance(result.get("models"), list):
        raise UserError(
            f"{path}: result of version {str(version)[:20]}, expected {SCHEMA_VERSION}; measure it "
            "again"
        )
    with refusing(path, "a result of xmae bench"):
        find_regressions(result, result)  # whatever a comparison looks at is there
    return result


def find_regressions(new, old):
    """List what is worse in `new` than in `old`: a list of sentences, empty if nothing is.

    Parameters
    ----------
    new, old : dict
        Results of `xmae bench`. Rows are matched by model, format, precision and device. What ran
        before and fails now, or is not there, is worse; but emulated devices and a recorded
        reference are there when asked for.
    """
    now, alike, found = {key(row): row for row in new["models"]}, not other_windows(new, old), []
    for was in old["models"]:
        if "latency_ms" in was:
            found += [
                f"{' '.join(key(was))}: {sentence}"
                for sentence in worse(now.get(key(was)), was, alike)
            ]
    return found


def other_windows(new, old):
    """Return a sentence that says why the accuracies of two results cannot be compared; None if
    they can.
    """
    if "windows_sha256" not in old:
        return "Accuracy was not compared: the earlier run does not say which windows it scored"
    if new["windows_sha256"] != old["windows_sha256"]:
        return "Accuracy was not compared: the earlier run scored other windows"
    return None


def key(row):
    """Return the key that identifies a row: model, precision, format, device."""
    return row["model"], row["precision"], row["format"], row["device"]


def worse(row, was, alike):
    """List what is worse in a row than before (None: it is gone): a list of sentences. `alike` says
    whether both were measured on the same windows.
    """
    if row is None:
        return ["is no longer there"] if was.get("kind", "measured") == "measured" else []
    if why := row.get("failure") or row.get("missing"):
        return [f"fails now: {why}"]
    found = []
    if "relative" in row and "relative" in was:
        ratio = row["relative"] / was["relative"]
        apart = row["relative_interval"][0] > was["relative_interval"][1]
        if apart and ratio > MIN_SLOWDOWN:
            found.append(
                f"{ratio:.2f} times the processor time, in yardsticks; the intervals lie apart"
            )
    for field, limit in ALLOWED.items():
        if row.get(field) and was.get(field) and row[field] > limit * was[field]:
            found.append(f"{field.replace('_', ' ')}: {row[field]:,} after {was[field]:,}")
    if was.get("centred") and not row.get("centred"):
        found.append("its accuracy was measured and no longer is")
    if alike and row.get("windows") == was.get("windows"):
        found += less_accurate(row, was)
    return found


def less_accurate(row, was):
    """List what is less accurate in a row than before, on the same windows: a list of sentences."""
    found = []
    if row.get("centred") and was.get("centred"):
        loss = was["centred"]["median"] - row["centred"]["median"]
        if loss > COSINE_LOSS:
            found.append(
                f"centred cosine, median: {row['centred']['median']:.4f}, {loss:.4f} lower"
            )
    hr, hr_was = (x.get("heads", {}).get("hr") for x in (row, was))
    if hr and hr_was and hr["value"] - hr_was["value"] > HR_LOSS:
        found.append(f"heart-rate error: {hr['value']:.2f} bpm after {hr_was['value']:.2f}")
    return found
