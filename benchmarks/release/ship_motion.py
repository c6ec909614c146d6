"""Ship the student for PPG and acceleration: its weights and its int8 file.

    python -m xmae.benchmarks.release.ship_motion RUN/encoder.safetensors

Int8 ranges come from generated people in motion. The tracker's tables are made after that by
`learn_tracker`, and the certainty of beats at rest is that of `beats-mcu`.
"""

import sys
from pathlib import Path

import numpy as np

from xmae.benchmarks.studies.runner import run_script
from xmae.errors import UserError
from xmae.evaluation.moving_people import moving_people
from xmae.export.bundle.provenance import without_folders
from xmae.export.targets import litert
from xmae.models.checkpoint import MOVING, load_encoder, save_encoder
from xmae.quantize.graph import exportable

WEIGHTS = Path("xmae/models/weights")
PEOPLE, SEED = 40, 5_010_000


def ship(encoder: str, name: str = "student-motion") -> dict:
    """Write weights and int8 file.

    Raises
    ------
    UserError
        If the encoder takes no acceleration.
    """
    student = load_encoder(encoder)
    if getattr(getattr(student, "sizes", None), "n_inputs", 1) == 1:
        raise UserError(f"{encoder}: takes no acceleration")
    save_encoder(student, WEIGHTS / MOVING[name], without_folders(student.provenance))
    samples = moving_people(PEOPLE, SEED).samples
    windows = samples[::2, :, 5000:6000].transpose(0, 2, 1).astype(np.float32) / 127
    litert.export(exportable(student), WEIGHTS / f"{name}_int8.tflite", "int8", windows)
    return {"windows": len(windows)}


if __name__ == "__main__":
    print(run_script(ship, *sys.argv[1:3]))
