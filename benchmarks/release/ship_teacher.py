"""Ship a teacher: its encoder, and the whole model that a pretraining can go on from.

    python -m xmae.benchmarks.release.ship_teacher RUN base-timing

RUN is the folder of a finished `xmae pretrain`.
"""

import sys
from pathlib import Path

from xmae.benchmarks.release.ship_beats import WEIGHTS
from xmae.benchmarks.studies.runner import run_script
from xmae.errors import UserError
from xmae.export.bundle.provenance import without_folders
from xmae.files import atomic_file
from xmae.models.checkpoint import SHIPPED, load_encoder, save_encoder
from xmae.training.begin import ENCODER, WHOLE


def ship(run: str, name: str) -> dict:
    """Write both files of one teacher.

    Raises
    ------
    UserError
        If the name is not a shipped one, or the run is not finished.
    """
    if name not in SHIPPED:
        raise UserError(f"{name} is not a name of {', '.join(SHIPPED)}")
    folder = Path(run)
    if not (folder / WHOLE).is_file():
        raise UserError(f"{run}: no {WHOLE}; the training is not finished")
    encoder = load_encoder(folder / ENCODER)
    save_encoder(encoder, WEIGHTS / SHIPPED[name], without_folders(encoder.provenance))
    with atomic_file(WEIGHTS / f"{name}-whole.safetensors") as temporary:
        temporary.write_bytes((folder / WHOLE).read_bytes())
    kept = ("method", "val_ratio", "windows_seen", "seconds", "device")
    return {key: encoder.provenance[key] for key in kept if key in encoder.provenance}


if __name__ == "__main__":
    print(run_script(ship, *sys.argv[1:3]))
