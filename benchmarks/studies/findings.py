"""The findings of the paper on real recordings, by the commands a user has, gathered into one page
with pictures.

Variability of the heart rate, timing, transfer to other people and devices, data efficiency.
Commands that already left their result in the folder of the runs are not repeated. Give further
encoders with --models. With --pretrain STORE, shares of its training subjects are pretrained on.

    python -m xmae.benchmarks.studies.findings STORE --protocol all --out benchmarks/results
"""

import shlex
import time
from pathlib import Path

from PIL import Image

from xmae.benchmarks.studies.runner import run_study
from xmae.cli import main as xmae
from xmae.data.store.store import WindowStore
from xmae.errors import UserError
from xmae.evaluation.evaluate import method_names
from xmae.files import atomic_file, read_json, write_json
from xmae.tables import NOTE
from xmae.training.device import device_name

SHIPPED = ("base", "student-mcu")
COST = "cost.json"
PRETRAINING = ("--methods", "mae", "--size", "small", "--batch-size", "64", "--budget", "100000")
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
        "Data efficiency: few labelled subjects, and few to pretrain on",
        "curve.md",
        "curve.png",
    ),
)


def findings(
    store: str,
    /,
    *,
    models: list = SHIPPED,
    protocol: str = "test",
    pretrain: str | None = None,
    runs: str = "runs/findings",
    seed: int = 77,
    out: str,
) -> str:
    """Run the findings that are missing, and gather all of them with their pictures.

    Parameters
    ----------
    store : str
        Store of windows with ECG (`xmae prepare`).
    models : list of str
        Shipped encoders or encoder files; the first is the one that the others are tested against.
    protocol : str
        "test": score the test split of the store; "all": cross-validate over all its subjects.
    pretrain : str or None
        Store of other people: `mae` is also pretrained on shares of its training subjects.
    runs : str
        Folder of the results of the commands.
    seed : int
        Seed of everything random.
    out : str
        Folder for findings-*.png.
    """
    meta, parts, costs = WindowStore(store).meta, [], []
    made = ", ".join(f"{key} {value}" for key, value in meta["settings"].items())
    note = NOTE.format(reference=method_names(models)[0], intervals="")
    for name, question, table, picture in SECTIONS:
        folder = Path(runs) / name
        options = [
            *settings_of(name, store, protocol, pretrain),
            "--seed",
            str(seed),
            "--out",
            str(folder),
        ]
        run_verb(name, models, options, folder)
        if (folder / COST).is_file():  # not where the command was called by hand
            costs.append(read_json(folder / COST)["processor_s"])
        text = (folder / table).read_text().replace(note, "").strip()
        parts.append(f"## {question}\n\n    xmae {name} MODELS {shlex.join(options)}\n\n{text}\n")
        if picture:
            shrink(folder / picture, Path(out) / f"findings-{name}.png")
            parts.append(f"![{question}](findings-{name}.png)\n")
    cost = f", {sum(costs) / 60:.0f} min of processor time" if len(costs) == len(SECTIONS) else ""
    sections = "\n".join(parts)
    return f"""# Findings of the paper, on open recordings

The verbs ran on {device_name()}{cost}. Seed: {seed}. Store: {meta["recordings"]} recordings,
{meta["windows"]} windows of 10 s ({made}).

{sections}
{note}
"""


def run_verb(name, models, options, folder):
    """Run a verb whose result is not in the folder yet.

    Raises
    ------
    UserError
        If it does not succeed, or what is there is of other models.
    """
    if not (folder / "metrics.json").is_file():
        started = time.process_time()
        if xmae([name, *models, *options]):
            raise UserError(f"xmae {name} did not succeed")
        write_json(folder / COST, {"processor_s": time.process_time() - started})
    if (before := read_json(folder / "metrics.json")["models"]) != list(models):
        raise UserError(
            f"{folder}: is of other models ({', '.join(before)}); name another folder for the runs"
        )


def settings_of(name, store, protocol, pretrain):
    """Return the arguments of a command that name its data and people."""
    if name == "transfer":
        return ["--fit", store, "--test", "ppg_bp"]
    settings = ["--data", store, "--protocol", protocol]
    if name != "curve":
        return settings
    settings += ["--tasks", "hr,age_over_65", "--fractions", "0.25,0.5,1", "--repeats", "3"]
    if pretrain:
        settings += ["--pretrain", pretrain, *PRETRAINING]
    return settings


def shrink(source, target, width=1200):
    """Copy a picture, at most `width` pixels wide and with 64 colours: a third of its size."""
    image = Image.open(source).convert("RGB")
    image.thumbnail((width, 10 * width))
    with atomic_file(target) as temporary:
        image.quantize(64, dither=Image.Dither.NONE).save(temporary, optimize=True)


if __name__ == "__main__":
    run_study(findings, "findings.md")
