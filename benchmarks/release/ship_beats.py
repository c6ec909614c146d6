"""Ship a student that reads beats: its weights, its int8 file and what its certainty promises.

    python -m xmae.benchmarks.release.ship_beats RUN/encoder.safetensors CINC_STORE beats-mcu

Int8 ranges come from training recordings of the store (half of them through the streaming front
end), the certainty table from its validation recordings, read by the int8 file. No other data is
touched.
"""

import json
from pathlib import Path

import numpy as np
import torch

from xmae.beats.certainty import calibrate
from xmae.beats.truth import truth_of_windows
from xmae.benchmarks.studies.runner import run_tool
from xmae.data.batches.timing import TimedRecordings, TimingBatches
from xmae.data.store.store import WindowStore
from xmae.errors import UserError
from xmae.export.bundle.provenance import without_folders
from xmae.export.int8_reader import Int8Reader
from xmae.export.targets import litert
from xmae.files import atomic_file
from xmae.models.beat_student import BeatStudent
from xmae.models.checkpoint import SHIPPED, load_encoder, save_encoder
from xmae.quantize.graph import exportable

WEIGHTS, TABLE = Path("xmae/models/weights"), Path("xmae/beats/certainty.json")
CALIBRATION, SEED = 512, 77


def ship(encoder: str, store: str, name: str, /) -> dict:
    """Write weights, int8 file and certainty table of one student.

    Parameters
    ----------
    encoder : str
        Encoder that reads beats.
    store : str
        Store of windows with ECG.
    name : str
        Name of the shipped model.

    Raises
    ------
    UserError
        If the encoder reads no beats, or the name is not a shipped one.
    """
    if name not in SHIPPED:
        raise UserError(f"{name} is not a name of {', '.join(SHIPPED)}")
    student = load_encoder(encoder)
    if not isinstance(student, BeatStudent):
        raise UserError(f"{encoder}: reads no beats")
    windows = WindowStore(store)
    save_encoder(student, WEIGHTS / SHIPPED[name], without_folders(student.provenance))
    int8 = WEIGHTS / f"{name}_int8.tflite"
    train = TimingBatches(TimedRecordings(windows.windows("train")), CALIBRATION, 1, SEED)
    generator = torch.Generator().manual_seed(SEED)
    ranges = train.real(CALIBRATION, generator)[0][:, 0].numpy()
    litert.export(exportable(student), int8, "int8", ranges)
    return ship_certainty(Int8Reader(int8), windows.windows("val"), name)


def ship_certainty(model, windows, name):
    """Calibrate a model's certainty on windows with ECG, and ship the table under its name.

    Returns
    -------
    dict
        `least`, the certainty from which a heart rate is given; `windows` with truth; their
        `median error`, bpm.
    """
    truth = truth_of_windows(windows).hr_ecg
    known = np.isfinite(truth)
    truth, reading = truth[known], model.read_windows(windows.ppg[known])
    certainty = np.rint(reading.certainty * 255).astype(int)
    table = calibrate(certainty, reading.rate, truth, windows.subject[known])
    write_table(name, table)
    error = float(np.nanmedian(np.abs(reading.rate - truth)))
    return {"least": table.least, "windows": len(truth), "median error": error}


def write_table(name, table):
    """Add the certainty table of a model to the shipped tables."""
    tables = json.loads(TABLE.read_text()) if TABLE.is_file() else {}
    tables[name] = {"half_width": table.half_width.tolist(), "least": table.least}
    with atomic_file(TABLE) as temporary:
        temporary.write_text(json.dumps(tables, indent=1) + "\n")


if __name__ == "__main__":
    run_tool(ship)
