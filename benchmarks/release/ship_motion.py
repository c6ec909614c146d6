"""Ship the student for PPG and acceleration: its weights and its int8 file.

    python -m xmae.benchmarks.release.ship_motion RUN/encoder.safetensors CINC_STORE

Int8 ranges come from generated people in motion. What the certainty of beats promises comes from
the validation recordings of the store, people at rest without an accelerometer, read in floating
point. The tracker's tables are made after that by `choose_tracker`.
"""

from xmae.benchmarks.release.ship_beats import WEIGHTS, ship_certainty
from xmae.benchmarks.studies.runner import run_tool
from xmae.data.store.store import WindowStore
from xmae.errors import UserError
from xmae.export.bundle.provenance import without_folders
from xmae.export.motion import OBSERVER, motion_ranges
from xmae.export.targets import litert
from xmae.models.beat_student import takes_acceleration
from xmae.models.checkpoint import MOVING, load_encoder, save_encoder
from xmae.quantize.graph import exportable


def ship(encoder: str, store: str, name: str = "student-motion", /) -> dict:
    """Write weights, int8 file and certainty table.

    Parameters
    ----------
    encoder : str
        Encoder of PPG and acceleration that reads beats.
    store : str
        Store of windows with ECG.
    name : str
        Under which it is shipped.

    Raises
    ------
    UserError
        If the encoder takes no acceleration.
    """
    student = load_encoder(encoder)
    if not takes_acceleration(student):
        raise UserError(f"{encoder}: takes no acceleration")
    save_encoder(student, WEIGHTS / MOVING[name], without_folders(student.provenance))
    int8 = WEIGHTS / f"{name}_int8.tflite"
    litert.export(exportable(student), int8, "int8", motion_ranges(), OBSERVER)
    return ship_certainty(student, WindowStore(store).windows("val"), name)


if __name__ == "__main__":
    run_tool(ship)
