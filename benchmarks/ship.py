"""Make the weights that the package ships: copy two trained encoders, fit their heads, write their model card.

    python -m xmae.benchmarks.ship TEACHER.safetensors STUDENT.safetensors STORE xmae/models/weights

Heads are fitted on the training subjects of the store, the card's numbers are measured on its test subjects.
"""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from xmae.data.store import WindowStore
from xmae.evaluation.embedding import embed_windows
from xmae.evaluation.heads import fit_heads
from xmae.evaluation.probe import probe, probe_table
from xmae.files import atomic_file, write_json
from xmae.models.checkpoint import SHIPPED, load_encoder, save_encoder
from xmae.models.student import count_macs

CARD = """# Shipped encoders

Real, measured, and small: trained on {n_train} ICU patients of BIDMC at rest. Good for trying the tools and as a start
for fine-tuning; not wearable data, not a medical device. The ECG-to-PPG delay in BIDMC includes the monitor's own
processing: nothing here may be read as an absolute pulse arrival time.

{encoders}
## Linear probes on patients that no training saw

Frozen embedding, ridge or logistic regression; folds by patient over the {n_test} test patients, the training patients
always fitted on. 95 % intervals by resampling patients. `untrained` is the same design with random weights, `features`
are hand-made PPG features (rate, amplitude, shape, spectrum) in the same probe, `constant` the mean of the fitted
patients.

{tables}
## Data and licence

BIDMC PPG and Respiration Dataset 1.0.0 (Pimentel et al., IEEE TBME 2017, doi:10.1109/TBME.2016.2613124; PhysioNet,
Goldberger et al. 2000), Open Data Commons Attribution License 1.0. Weights: Apache-2.0. Method: Zhou et al., ICML 2026,
arXiv 2605.00973.
"""


def describe(name, encoder):
    """One encoder's section of the card."""
    origin = encoder.provenance
    lines = [
        f"## `{name}`",
        "",
        f"- {sum(p.numel() for p in encoder.parameters()):,} parameters, {count_macs(encoder) / 1e6:.1f} M MAC/window",
        f"- trained on {origin['windows_seen']:,} windows in {origin['seconds'] / 3600:.2f} h on {origin['device']}",
    ]
    if "val_ratio" in origin:
        lines.append(
            f"- masked ECG error on the validation patients / variance: {origin['val_ratio']:.2f}"
            " (1 = drawing each window's mean)"
        )
    if "cosine" in origin:
        lines.append(f"- centred cosine to its teacher on the validation patients: {origin['cosine']:.3f}")
    settings = {key: value for key, value in origin["settings"].items() if key not in ("data", "teacher")}
    if "note" in origin:
        lines.append(f"- {origin['note']}")
    return "\n".join([*lines, f"- settings: `{json.dumps(settings)}`", "", ""])


def without_folders(origin):
    """Provenance whose paths are names only: where a folder lay on the machine that trained is nobody's business."""
    settings = {
        key: Path(value).name if key in ("data", "teacher") else value for key, value in origin["settings"].items()
    }
    teacher = {"teacher": without_folders(origin["teacher"])} if "teacher" in origin else {}
    return origin | {"settings": settings} | teacher


def main(teacher, student, store, out):
    """Write the weights, heads.json and MODEL_CARD.md into the folder `out`."""
    windows, out = WindowStore(store).windows(), Path(out)
    train, heads, sections, tables = windows.select(windows.split == "train"), {}, [], []
    for name, path in zip(SHIPPED, (teacher, student), strict=True):
        encoder = load_encoder(path)
        encoder.provenance = without_folders(encoder.provenance)
        save_encoder(encoder, out / SHIPPED[name], encoder.provenance)
        heads[name] = fit_heads(embed_windows(encoder, train), train)
        sections.append(describe(name, encoder))
        with TemporaryDirectory() as folder:
            result = probe(str(out / SHIPPED[name]), store, folder)
        tables.append(f"### `{name}`\n\n{probe_table(result)}\n")
    write_json(out / "heads.json", heads)
    subjects = [len(set(windows.subject[windows.split == split])) for split in ("train", "test")]
    with atomic_file(out / "MODEL_CARD.md") as temporary:
        temporary.write_text(
            CARD.format(n_train=subjects[0], n_test=subjects[1], encoders="".join(sections), tables="\n".join(tables))
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
