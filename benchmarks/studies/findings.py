"""The findings of the paper on real recordings, by the commands a user has, gathered into one page
with pictures.

Variability of the heart rate, timing, transfer to other people and devices, data efficiency.
Commands that already left their result in the folder of the runs are not repeated. Run: python -m
xmae.benchmarks.studies.findings STORE --out benchmarks/results; give further encoders, such as
those of `xmae compare`, with --models.
"""

import argparse
import shlex
import time
from pathlib import Path

from PIL import Image

from xmae.cli import main as xmae
from xmae.data.store.store import WindowStore
from xmae.errors import UserError
from xmae.evaluation.evaluate import method_names
from xmae.files import atomic_file, read_json, write_json
from xmae.tables import NOTE
from xmae.training.device import device_name

SHIPPED = ("base", "student-mcu")
COST = "cost.json"
SECTIONS = (  # verb, question, its table, its picture
    ("hrv", "Heart-rate variability of 10 s, against the ECG", "table.md", "predictions.png"),
    ("timing", "Delay from R peak to pulse, from the PPG alone", "table.md", "predictions.png"),
    (
        "transfer",
        "Probes fitted on BIDMC, tested on PPG-BP (2 s, other device, other people)",
        "table.md",
        None,
    ),
    (
        "curve",
        "Data efficiency: probe against the share of labelled subjects",
        "curve.md",
        "curve.png",
    ),
)


def main(store, models=SHIPPED, out="benchmarks/results", runs="runs/findings", seed=77):
    """Run what is missing, write findings.md and its pictures.

    Parameters
    ----------
    store : str
        Store of windows with ECG and a test split (`xmae prepare`).
    models : sequence of str
        Shipped encoders or encoder files; the first is the one that the others are tested against.
    out : str
        Folder of findings.md and findings-*.png.
    runs : str
        Folder of the results of the commands.
    seed : int
        Of everything random.

    Returns
    -------
    str
        The page.
    """
    meta = WindowStore(store).meta
    lines, costs = [], []
    made = ", ".join(f"{key} {value}" for key, value in meta["settings"].items())
    lines += [
        (
            "    python -m xmae.benchmarks.studies.findings "
            f"{shlex.join([store, '--models', *models])}"
        ),
        "",
    ]
    lines += [
        f"Store: {meta['recordings']} recordings, {meta['windows']} windows of 10 s ({made}).",
        "",
    ]
    for name, question, table, picture in SECTIONS:
        folder = Path(runs) / name
        options = [*data_of(name, store), "--seed", str(seed), "--out", str(folder)]
        if not (folder / "metrics.json").is_file():
            started = time.process_time()
            if xmae([name, *models, *options]):
                raise UserError(f"xmae {name} did not succeed")
            write_json(folder / COST, {"processor_s": time.process_time() - started})
        if (folder / COST).is_file():  # not where the command was called by hand
            costs.append(read_json(folder / COST)["processor_s"])
        if (before := read_json(folder / "metrics.json")["models"]) != list(models):
            raise UserError(
                f"{folder}: is of other models ({', '.join(before)}); name another folder for the "
                "runs"
            )
        text = (
            (folder / table)
            .read_text()
            .replace(NOTE.format(reference=method_names(models)[0], intervals=""), "")
        )
        lines += [
            f"## {question}",
            "",
            f"    xmae {name} MODELS {shlex.join(options)}",
            "",
            text.strip(),
            "",
        ]
        if picture:
            shrink(folder / picture, Path(out) / f"findings-{name}.png")
            lines += [f"![{question}](findings-{name}.png)", ""]
    cost = f", {sum(costs) / 60:.0f} min of processor time" if len(costs) == len(SECTIONS) else ""
    facts = f"Hardware: {device_name()}{cost}. Seed: {seed}."
    lines = ["# Findings of the paper, on open recordings", "", facts, "", *lines]
    lines += [NOTE.format(reference=method_names(models)[0], intervals=""), ""]
    with atomic_file(Path(out) / "findings.md") as temporary:
        temporary.write_text("\n".join(lines))
    return str(Path(out) / "findings.md")


def data_of(name, store):
    """Arguments of a command that name its data."""
    if name == "transfer":
        return ["--fit", store, "--test", "ppg_bp"]
    return [
        "--data",
        store,
        *(["--tasks", "hr,age_over_65", "--repeats", "3"] if name == "curve" else []),
    ]


def shrink(source, target, width=1200):
    """Copy a picture at most `width` pixels wide, in 64 colours: a third of its size."""
    image = Image.open(source).convert("RGB")
    image.thumbnail((width, 10 * width))
    with atomic_file(target) as temporary:
        image.quantize(64, dither=Image.Dither.NONE).save(temporary, optimize=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("store")
    parser.add_argument("--models", nargs="+", default=list(SHIPPED))
    parser.add_argument("--out", default="benchmarks/results")
    parser.add_argument("--runs", default="runs/findings")
    print(main(**vars(parser.parse_args())))
