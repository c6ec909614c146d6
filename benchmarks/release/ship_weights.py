"""Make the weights that the package ships: copy trained encoders, fit the heads of those that find
no beats, write the model card of all.

    python -m xmae.benchmarks.release.ship_weights STORE xmae/models/weights student-app=FILE

Encoders that are not given stay as they are. STORE is all of BIDMC, on which none of them was
trained or chosen. Heads are fitted on its training subjects. The card's probes are fitted across
folds by subject over all of them. What is read by beats is copied from the page of
`studies.readings`.
"""

import json
import tempfile
from pathlib import Path

from xmae.benchmarks.studies.runner import run_tool
from xmae.data.store.store import WindowStore
from xmae.errors import UserError
from xmae.evaluation.evaluate import evaluate
from xmae.evaluation.heads.embedding import embed_windows
from xmae.evaluation.heads.heads import HEADS, fit_heads, worth_shipping, written
from xmae.evaluation.probe import refuse_seen
from xmae.evaluation.protocol.tasks import TASKS
from xmae.export.bundle.provenance import COSINE_TO, without_folders
from xmae.files import atomic_file, write_json
from xmae.models.beat_student import BeatStudent
from xmae.models.checkpoint import SHIPPED, load_encoder, save_encoder
from xmae.models.student import McuStudent, count_macs, int8_bytes

SEED = 77
READINGS, SECTION = Path("benchmarks/results/readings.md"), "## Heart rate"
CARD = """# Shipped encoders

All are trained on generated people (`xmae twin`) and on the CinC 2015 ventricular-tachycardia
alarms, intensive-care patients at rest. Settings were chosen on recordings of the same alarms that
were set aside. Nothing was trained or chosen on BIDMC, on which they are scored. They are no
wearable data, and no medical device. Rhythm is a hint, not a diagnosis. In motion, models without
an accelerometer are blind or wrong where the movement is rhythmic (benchmarks/results/torture.md).
The delay from ECG to PPG includes the monitor's own processing: nothing here may be read as an
absolute pulse arrival time. In settings, `base-timing` is the name that `base` had then.

{encoders}
## Heart rate by their own beats

Intensive-care patients of BIDMC, 34 subjects. Mean over subjects of their error over windows of
10 s, with 95 % intervals. All numbers, and those of beats and intervals: [readings]({readings}).

{by_beats}

## Heart rate by a linear probe

Frozen embedding, ridge regression across folds by subject over the {n_subjects} subjects.
`untrained` is the design of the first with random weights, `features` are hand-made PPG features
(rate, amplitude, shape, spectrum) in the same probe, `constant` the mean of the fitted subjects.
Shipped heads are fitted on {n_train} training subjects of BIDMC. At chance, so not shipped:
{at_chance}.

{by_probe}

## Data and licence

Trained on CinC 2015 (Clifford et al., PhysioNet Computing in Cardiology Challenge 2015, Open Data
Commons Attribution License 1.0) and on rhythms of three databases of PhysioNet
(xmae/twin/RHYTHMS.md). Scored on the BIDMC PPG and Respiration Dataset 1.0.0 (Pimentel et al.,
IEEE TBME 2017, doi:10.1109/TBME.2016.2613124), same licence; PhysioNet: Goldberger et al. 2000.
Weights: Apache-2.0. Method: Zhou et al., ICML 2026, arXiv 2605.00973, with
dense timing, which is ours.
"""


def describe(name, encoder):
    """Return the section of the model card on one encoder."""
    origin = encoder.provenance
    parameters, macs = sum(p.numel() for p in encoder.parameters()), count_macs(encoder) / 1e6
    small = isinstance(encoder, McuStudent | BeatStudent)
    int8 = f", {int8_bytes(encoder) / 1e3:.1f} kB as int8" if small else ""
    lines = [
        f"## `{name}`",
        "",
        f"- {parameters:,} parameters, {macs:.2f} M MAC/window{int8}",
        (
            f"- trained on {origin['windows_seen']:,} windows in {origin['seconds'] / 3600:.2f} h "
            f"on {origin['device']}"
        ),
    ]
    if "timing" in origin:  # of a student that learnt to read beats before
        before = origin["begun_from"]
        lines.append(
            f"- before, its timing was trained on {before['windows_seen']:,} windows in "
            f"{before['seconds'] / 3600:.2f} h, with the settings "
            f"`{json.dumps(shown(before['settings']))}`"
        )
    if "val_ratio" in origin:
        lines.append(
            f"- masked ECG error on the validation subjects / variance: {origin['val_ratio']:.2f}"
            " (1 = drawing each window's mean)"
        )
    for key, whom in COSINE_TO.items():
        if key in origin:
            lines.append(
                f"- centred cosine to {whom} on the validation subjects: {origin[key]:.3f}"
            )
    if "note" in origin:
        lines.append(f"- {origin['note']}")
    settings = json.dumps(shown(origin["settings"]))
    return "\n".join([*lines, f"- settings: `{settings}`", "", ""])


def shown(settings):
    """Return the settings of a training without folders and digests."""
    return {key: value for key, value in settings.items() if key not in ("data", "store_sha256")}


def section_of(page, heading):
    """Return the table below a heading of a Markdown page."""
    after = page.split(heading, 1)[1]
    return "\n".join(line for line in after.split("\n## ")[0].splitlines() if line.startswith("|"))


def main(store: str, out: str, given: list = (), /) -> None:
    """Write weights, heads.json and MODEL_CARD.md into a folder.

    Parameters
    ----------
    store : str
        Store of windows, with labels.
    out : str
        The folder.
    given : list of str
        Weights, as "name=file".
    """
    if wrong := [
        pair for pair in given if not pair.startswith(tuple(f"{name}=" for name in SHIPPED))
    ]:
        raise UserError(f"'{wrong[0]}' is not NAME=FILE with a name of {', '.join(SHIPPED)}")
    windows, out = WindowStore(store).windows(), Path(out)
    files = {name: out / file for name, file in SHIPPED.items()}
    files |= dict(pair.split("=", 1) for pair in given)
    encoders = {name: load_encoder(file) for name, file in files.items()}
    for encoder in encoders.values():
        refuse_seen(encoder, windows.subject)
    for name, encoder in encoders.items():
        if files[name] != out / SHIPPED[name]:
            save_encoder(encoder, out / SHIPPED[name], without_folders(encoder.provenance))
    training = windows.split == "train"
    heads, sections, at_chance = {}, [], {}
    for name, encoder in encoders.items():
        sections.append(describe(name, encoder))
        if not hasattr(encoder, "read_windows"):
            embedding = embed_windows(encoder, windows.ppg[training])
            fitted = fit_heads(embedding, windows.select(training), TASKS.values())
            heads[name], left = worth_shipping(fitted)
            at_chance |= dict.fromkeys(left)
    write_json(out / HEADS, written(heads))
    with tempfile.TemporaryDirectory() as folder:
        models = [str(out / file) for file in SHIPPED.values()]
        table = Path(evaluate(models, store, "hr", protocol="all", out=folder, seed=SEED)["out"])
        by_probe = table.read_text().split("\n", 2)[2].strip()
    with atomic_file(out / "MODEL_CARD.md") as temporary:
        temporary.write_text(
            CARD.format(
                n_subjects=len(set(windows.subject)),
                n_train=len(set(windows.subject[training])),
                encoders="".join(sections),
                readings=f"{'../' * 3}{READINGS}",
                by_beats=section_of(READINGS.read_text(), SECTION),
                by_probe=by_probe,
                at_chance=", ".join(at_chance) or "nothing",
            )
        )


if __name__ == "__main__":
    run_tool(main)
