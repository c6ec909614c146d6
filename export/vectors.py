"""Test vectors of libxmae: its expected results on a shipped recording, stage by stage, computed in
Python.

For each student: codes -> windows in int8 -> embeddings -> heads, and codes -> beats -> results.
They are in the folder `c` of a bundle as a C header for `tests/test_vectors.c`, and in binary.
"""

from dataclasses import dataclass
from itertools import chain

import numpy as np

from xmae.beats.certainty import SILENT
from xmae.data.bidmc import FOLDER
from xmae.export.stream import SCALARS, UNSURE, Stream
from xmae.export.targets.c.library import library_model
from xmae.export.targets.c.literals import integer, table_block
from xmae.export.targets.c.model_source import SPDX, constant
from xmae.export.targets.c.window import WindowStream
from xmae.files import atomic_file
from xmae.signals.front_end import HISTORY

RECORDING, HZ, BITS, SECONDS = "bidmc26", 125, 16, 60
ABOUT = f"""/* SPDX-License-Identifier: ODC-By-1.0
 * SPDX-FileCopyrightText: BIDMC PPG and Respiration Dataset, Pimentel et al. 2017, PhysioNet */
/* {SECONDS} s of {RECORDING}, an intensive-care patient: PPG as codes of {BITS} bits at {HZ} Hz. */
"""
WINDOW_EVERY = 10  # results


@dataclass(frozen=True)
class Vectors:
    """The expected results of a model.

    Parameters
    ----------
    results : int64 array, shape (n, 10)
        Time, rate, low, high, certainty, irregularity, rhythm, lost, saturated, reasons.
    beats : int64 array, shape (n, 2)
        Ticks and confidence.
    windows, embeddings : int8 arrays, shapes (n, 1000) and (n, D)
        After every tenth result.
    heads : int32 array, shape (n, heads)
        Values in 1/1000.
    """

    results: np.ndarray
    beats: np.ndarray
    windows: np.ndarray
    embeddings: np.ndarray
    heads: np.ndarray


def recording_codes():
    """Return the codes of the shipped recording, int64 (n,)."""
    with np.load(FOLDER / f"{RECORDING}.npz") as archive:
        return archive["ppg"].ravel()[: SECONDS * HZ].astype(np.int64) + (1 << BITS >> 1)


def make_vectors(student, model, codes):
    """Compute the expected results of a model for codes.

    Parameters
    ----------
    student : PackagedStudent
    model : LibraryModel
        The same for libxmae.
    codes : int array, shape (n,)
    """
    n_results = (len(codes) * 100 // HZ - HISTORY) // 100
    ends = [-(-(HISTORY + 100 * (k + 1)) * HZ // 100) for k in range(n_results)]
    stream = WindowStream(model.window, HZ, model.beats is None)
    windows, done = [], 0
    for end in ends[WINDOW_EVERY - 1 :: WINDOW_EVERY]:
        stream.push(codes[done:end])
        windows.append(stream.window())
        done = end
    embeddings = np.array([model.window.embed(window) for window in windows])
    zero = model.window.tensors[model.window.embedding].zero
    heads = [[head.value(row, zero) for head in model.heads] for row in embeddings]
    if model.beats:
        results, beats = beat_rows(
            Stream(student.path, HZ, BITS, certainty=student.certainty or SILENT).push(codes)
        )
    else:
        results, beats = silent_rows(n_results), np.zeros((0, 2), np.int64)
    return Vectors(results, beats, np.array(windows), embeddings, np.array(heads, np.int32))


def beat_rows(results):
    """Return the results of `Stream` as rows."""
    rows = [[getattr(result, name) for name in SCALARS] for result in results]
    beats = list(chain.from_iterable(result.beats for result in results))
    return np.array(rows, np.int64), np.array(beats, np.int64).reshape(-1, 2)


def silent_rows(n):
    """Return the expected rows of a model that reads no beats, for a signal without faults."""
    rows = np.zeros((n, 10), np.int64)
    rows[:, 5], rows[:, 9] = -1, UNSURE
    rows[: min(n, 9), 9] |= 8
    return rows


def write_vectors(folder, students):
    """Write the recording and the vectors into the folder `c` of a bundle.

    Parameters
    ----------
    folder : Path
    students : sequence of PackagedStudent
        As for `write_package`.

    Raises
    ------
    UserError
        If the folder cannot be written.
    """
    codes = recording_codes()
    recording = (
        f"{ABOUT}#ifndef XMAE_RECORDING_H\n#define XMAE_RECORDING_H\n\n#include <stdint.h>\n\n"
        f"#define XMAE_RECORDING_HZ {HZ}u\n#define XMAE_RECORDING_BITS {BITS}u\n"
        f"#define XMAE_RECORDING_CODES {len(codes)}u\n\n"
        f"{table_block(constant('xmae_recording', codes.astype('<i4')))}\n#endif\n"
    )
    put(folder / "data" / "recording.h", recording.encode())
    put(folder / "data" / "recording.bin", codes.astype("<i4").tobytes())
    parts = []
    for student in students:
        model = library_model(
            student.path, student.certainty or SILENT, student.name, student.heads
        )
        vectors = make_vectors(student, model, codes)
        put(folder / "tests" / f"vectors_{model.name}.bin", as_binary(vectors))
        parts.append((model, vectors))
    put(folder / "tests" / "vectors.h", as_header(parts).encode())


def put(path, content):
    """Write bytes to a file."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)


def as_binary(vectors):
    """Pack blocks as bytes, little-endian: name (16 bytes), bytes per element, rows, columns
    (int32), the numbers.
    """
    blocks = []
    for name, array in vars(vectors).items():
        head = np.array([array.itemsize, *array.shape], "<i4").tobytes()
        blocks += [
            name.encode().ljust(16, b"\0"),
            head,
            array.astype(array.dtype.newbyteorder("<")).tobytes(),
        ]
    return b"".join(blocks)


def as_header(parts):
    """Return `vectors.h` with the models and their vectors."""
    arrays, rows = [], []
    for model, vectors in parts:
        prefix = f"{model.name}_"
        for name in ("windows", "embeddings", "heads"):
            array = getattr(vectors, name).ravel()
            arrays.append(constant(prefix + name, array) if array.size else "")
        arrays += [
            rows_of(prefix + "results", vectors.results),
            rows_of(prefix + "beats", vectors.beats),
        ]
        rows.append(entry_of(prefix, model, vectors))
    includes = "".join(f'#include "xmae/xmae_model_{model.name}.h"\n' for model, _ in parts)
    most = {
        "MOST_MEMORY": max(model.memory_bytes for model, _ in parts),
        "MOST_EMBED": max(model.window.arena_bytes for model, _ in parts),
        "MOST_EMBEDDING": max(vectors.embeddings.shape[1] for _, vectors in parts),
        "WINDOW_EVERY": WINDOW_EVERY,
        "N_VECTORS": len(parts),
    }
    defines = "".join(f"#define {name} {value}u\n" for name, value in most.items())
    text = (
        f"{''.join(arrays)}\nstatic const vectors_t vectors[N_VECTORS] = {{\n{''.join(rows)}}};\n"
    )
    return f"""{SPDX}/* What the models must make of data/recording.h; computed in Python. */
#ifndef VECTORS_H
#define VECTORS_H

{includes}
{defines}
typedef struct {{
  const xmae_model_t *model;
  const int64_t (*results)[10];
  const int64_t (*beats)[2];
  const int8_t *windows, *embeddings; /* after every tenth result */
  const int32_t *heads;
  uint32_t n_results, n_beats, n_windows, embedding_size, n_heads;
}} vectors_t;

{table_block(text)}
#endif
"""


def entry_of(prefix, model, vectors):
    """Return a model's entry in the C table of vectors."""
    sizes = len(vectors.results), len(vectors.beats), len(vectors.windows), *shape_of(vectors)
    heads = prefix + "heads" if vectors.heads.size else "0"
    beats = prefix + "beats" if len(vectors.beats) else "0"
    arrays = (
        f"  {{&xmae_model_{model.name}, {prefix}results, {beats}, {prefix}windows,\n   "
        f"{prefix}embeddings, {heads}, "
    )
    return arrays + ", ".join(integer(size, "u") for size in sizes) + "},\n"


def shape_of(vectors):
    """Return the width of the embedding, and the number of heads."""
    return vectors.embeddings.shape[1], vectors.heads.shape[1]


def rows_of(name, array):
    """Return a table of int64 as C; nothing for an empty one."""
    if not len(array):
        return ""
    rows = "".join("  {" + ", ".join(integer(v) for v in row) + "},\n" for row in array.tolist())
    return f"static const int64_t {name}[{len(array)}][{array.shape[1]}] = {{\n{rows}}};\n"
