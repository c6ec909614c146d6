"""Students for PPG and acceleration in a bundle: an int8 file, and vectors for its C.

No store has to hold acceleration, so the int8 ranges are those of generated people in motion. The
vectors are of a generated person too.
"""

import shutil

import numpy as np
import torch

from xmae.beats.certainty import SILENT
from xmae.beats.codes import as_codes
from xmae.beats.tracker import shipped_tracker
from xmae.evaluation.moving_people import acceleration_of, moving_people
from xmae.export.motion_stream import MotionStream
from xmae.export.stream import int8_file
from xmae.export.targets import litert
from xmae.export.targets.c.literals import identifier, integer, table_block
from xmae.export.targets.c.model_source import SPDX, constant
from xmae.export.targets.c.motion_source import motion_model
from xmae.export.vectors import beat_rows, put, rows_of
from xmae.models.checkpoint import MOVING
from xmae.quantize.graph import exportable
from xmae.signals.window import N_TIMES, SFREQ
from xmae.twin.people import RHYTHMS, draw_person

PEOPLE, RANGES_SEED = 40, 5_010_000  # every second one sets the ranges
OBSERVER = "percentile"  # how: a few values in motion are far off, and cost the others their steps
BURSTS = 5  # a second, of the vectors
SECONDS, PERSON_SEED, ACC_HZ, ONE_G, BITS = 40, 5_020_000, 25, 2048, 16
PLAN = (("rest", 15.0), ("walk", SECONDS))  # of that person
WEIGHTS = "motion"  # folder of a bundle with their float weights, which the drift gate asks for
CODE_RANGE = 127  # int8 samples of the front ends stand for [-1, 1]


def motion_ranges():
    """Return the windows from which int8 ranges are set, float32 (n, 1000, 4) in [-1, 1]."""
    samples = moving_people(PEOPLE, RANGES_SEED).samples[::2, :, N_TIMES:]
    n = samples.shape[2] // N_TIMES
    windows = samples[:, :, : n * N_TIMES].reshape(len(samples), -1, n, N_TIMES)
    return windows.transpose(0, 2, 3, 1).reshape(-1, N_TIMES, 4).astype(np.float32) / CODE_RANGE


def write_int8(encoder, source, path):
    """Write the int8 `.tflite` of a student for PPG and acceleration.

    Parameters
    ----------
    encoder : BeatStudent
    source : str
        File it was loaded from. A shipped one has its file already, for which its tables were made.
    path : Path
    """
    if source in MOVING:
        shutil.copyfile(int8_file(source), path)
        return
    litert.export(exportable(encoder), path, "int8", motion_ranges(), OBSERVER)


def person_codes():
    """Generate a moving person: PPG codes (n,) at 100 Hz and acceleration codes (3, m)."""
    generator = torch.Generator().manual_seed(PERSON_SEED)
    person = draw_person(SECONDS, generator, RHYTHMS["sinus"], True, 0.0, "wrist", plan=PLAN)
    axes = np.rint(acceleration_of(person) * ONE_G).astype(np.int64)
    return as_codes(person["ppg"], BITS)[: SECONDS * SFREQ], axes[:, : SECONDS * ACC_HZ]


def motion_rows(student, codes, axes):
    """Read codes by `MotionStream`: rows of results (n, 13) and of beats (m, 2)."""
    stream = MotionStream(
        student.path, SFREQ, BITS, certainty=student.certainty or SILENT, acc_sfreq=ACC_HZ,
        one_g=ONE_G,
    )  # fmt: skip
    results, n, n_acc = [], SFREQ // BURSTS, ACC_HZ // BURSTS
    for k in range(SECONDS * BURSTS):
        stream.accelerate(axes[:, n_acc * k : n_acc * (k + 1)])
        results += stream.push(codes[n * k : n * (k + 1)])
    rows, beats = beat_rows(results)
    more = [(result.activity, result.followed, result.belief) for result in results]
    return np.concatenate([rows, np.array(more, np.int64)], 1), beats


def write_motion_vectors(folder, students):
    """Write the vectors of `tests/test_motion.c`, from the first student for acceleration.

    Parameters
    ----------
    folder : Path
        The folder `c` of a bundle.
    students : sequence of PackagedStudent
        Those that take acceleration; at least one.
    """
    student = students[0]
    model = motion_model(student.path, student.certainty or SILENT, shipped_tracker(), student.name)
    codes, axes = person_codes()
    results, beats = motion_rows(student, codes, axes)
    name = identifier(student.name)
    sizes = {
        "HZ": SFREQ, "ACC_HZ": ACC_HZ, "ONE_G": ONE_G, "BITS": BITS, "BURSTS": BURSTS,
        "CODES": len(codes), "MEMORY": model.memory_bytes, "RESULTS": len(results),
        "BEATS": len(beats),
    }  # fmt: skip
    defines = "".join(f"#define MOTION_{key} {integer(size, 'u')}\n" for key, size in sizes.items())
    arrays = [
        constant("motion_codes", codes.astype("<i4")),
        constant("motion_axes", axes.T.ravel().astype("<i4")),
        rows_of("motion_results", results),
        rows_of("motion_beats", beats),
    ]
    text = f"""{SPDX}/* A generated person in motion, and what a model makes of it; by Python. */
#ifndef VECTORS_MOTION_H
#define VECTORS_MOTION_H

#include "xmae/xmae_model_{name}.h"

#define MOTION_MODEL xmae_model_{name}
#define MOTION_TRACKER xmae_model_{name}_tracker
{defines}
{table_block("".join(arrays))}
#endif
"""
    put(folder / "tests" / "vectors_motion.h", text.encode())
