"""Make the weights that the package ships: copy trained encoders, fit the heads of all, write their
model card.

    python -m xmae.benchmarks.release.ship_weights STORE xmae/models/weights
    base=TEACHER.safetensors student-app=STUDENT.safetensors

Encoders that are not given stay as they are. Heads are fitted on the training subjects of the
store, the card's numbers are measured on its test subjects.
"""

import json
from pathlib import Path

import torch

from xmae.benchmarks.studies.runner import run_tool
from xmae.data.store.store import WindowStore
from xmae.errors import UserError
from xmae.evaluation.heads.embedding import embed_windows
from xmae.evaluation.heads.features import ppg_features
from xmae.evaluation.heads.heads import HEADS, fit_heads, worth_shipping, written
from xmae.evaluation.probe import probe_embeddings, probe_table, refuse_seen, untrained_like
from xmae.evaluation.protocol.tasks import TASKS
from xmae.export.bundle.provenance import COSINE_TO, without_folders
from xmae.files import atomic_file, write_json
from xmae.models.checkpoint import SHIPPED, load_encoder, save_encoder
from xmae.models.student import McuStudent, count_macs, int8_bytes

SEED = 77
CARD = """# Shipped encoders

Real, measured, and small: trained on {n_train} ICU patients of BIDMC at rest. Good for trying the
tools and as a start for fine-tuning; not wearable data, not a medical device. The ECG-to-PPG delay
in BIDMC includes the monitor's own processing: nothing here may be read as an absolute pulse
arrival time.

{encoders}
## Linear probes on subjects that no training saw

Frozen embedding, ridge or logistic regression; folds by subject over the {n_test} test subjects,
the training subjects always fitted on. 95 % intervals by resampling subjects. `untrained` is the
same design with random weights, `features` are hand-made PPG features (rate, amplitude, shape,
spectrum) in the same probe, `constant` the mean of the fitted subjects. The truth is the ECG's
heart rate. At chance, so not shipped as heads: {at_chance}.

{tables}
## Data and licence

BIDMC PPG and Respiration Dataset 1.0.0 (Pimentel et al., IEEE TBME 2017,
doi:10.1109/TBME.2016.2613124; PhysioNet, Goldberger et al. 2000), Open Data Commons Attribution
License 1.0. Weights: Apache-2.0. Method: Zhou et al., ICML 2026, arXiv 2605.00973.
"""


def describe(name, encoder):
    """Return the section of the model card on one encoder."""
    origin = encoder.provenance
    parameters, macs = sum(p.numel() for p in encoder.parameters()), count_macs(encoder) / 1e6
    int8 = (
        f", {int8_bytes(encoder) / 1e3:.1f} kB as int8" if isinstance(encoder, McuStudent) else ""
    )
    lines = [
        f"## `{name}`",
        "",
        f"- {parameters:,} parameters, {macs:.2f} M MAC/window{int8}",
        (
            f"- trained on {origin['windows_seen']:,} windows in {origin['seconds'] / 3600:.2f} h "
            f"on {origin['device']}"
        ),
    ]
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
    settings = {
        key: value for key, value in origin["settings"].items() if key not in ("data", "teacher")
    }
    if "note" in origin:
        lines.append(f"- {origin['note']}")
    return "\n".join([*lines, f"- settings: `{json.dumps(settings)}`", "", ""])


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
    for name, path in (pair.split("=", 1) for pair in given):
        encoder = load_encoder(path)
        save_encoder(encoder, out / SHIPPED[name], without_folders(encoder.provenance))
    training, features = windows.split == "train", ppg_features(windows.ppg)[0]
    heads, sections, tables, at_chance = {}, [], [], {}
    for name, file in SHIPPED.items():
        encoder = load_encoder(out / file)
        refuse_seen(encoder, windows.subject[windows.split == "test"])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            untrained = untrained_like(encoder)
        embeddings = {
            key: embed_windows(x, windows) for key, x in ((name, encoder), ("untrained", untrained))
        }
        fitted = fit_heads(embeddings[name][training], windows.select(training), TASKS.values())
        heads[name], left = worth_shipping(fitted)
        at_chance |= dict.fromkeys(left)
        sections.append(describe(name, encoder))
        result = probe_embeddings(
            embeddings | {"features": features}, windows, ["hr"], seed=SEED, progress=True
        )
        tables.append(f"### `{name}`\n\n{probe_table(result)}\n")
    write_json(out / HEADS, written(heads))
    subjects = [len(set(windows.subject[windows.split == split])) for split in ("train", "test")]
    with atomic_file(out / "MODEL_CARD.md") as temporary:
        temporary.write_text(
            CARD.format(
                n_train=subjects[0],
                n_test=subjects[1],
                encoders="".join(sections),
                tables="\n".join(tables),
                at_chance=", ".join(at_chance) or "nothing",
            )
        )


if __name__ == "__main__":
    run_tool(main)
