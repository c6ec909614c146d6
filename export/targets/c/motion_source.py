"""A student for PPG and acceleration as a model for libxmae: a header and a file of constants.

It reads beats and feeds the tracker, and gives no embeddings. `xmae_motion.h` has the calls.
"""

import zlib
from dataclasses import dataclass

import numpy as np

from xmae.errors import UserError
from xmae.export.targets.c.layers import read_layers
from xmae.export.targets.c.library import CONSTANTS, BeatPart, beat_part
from xmae.export.targets.c.literals import comment, identifier, integer
from xmae.export.targets.c.model_source import SPDX, VERSION, beats_tables, constant
from xmae.export.targets.c.network import StreamNetwork
from xmae.signals.window import N_TIMES

INPUTS = 4  # PPG and three axes
BYTES = 4  # of a tracker's table after its arrays
ZEROS = (-1, 0)  # zero points of an input whose codes are not clipped


@dataclass(frozen=True)
class MotionModel:
    """A student for PPG and acceleration as libxmae runs it.

    Parameters
    ----------
    name : str
        C identifier: the model is `xmae_model_NAME`, its tracker `xmae_model_NAME_tracker`.
    beats : BeatPart
    input_zero : int
        Zero point of the input.
    tracker : xmae.beats.tracker.TrackerTable
    """

    name: str
    beats: BeatPart
    input_zero: int
    tracker: object

    @property
    def memory_bytes(self):
        """Return the size of an instance's memory, bytes."""
        return self.beats.memory_bytes

    @property
    def constants(self):
        """Return the arrays for flash by their names in C."""
        arrays = {}
        for number, layer in sorted(self.beats.layers.items()):
            arrays |= {f"{key}_{number:02d}": layer.constants[key] for key in CONSTANTS}
        return arrays | {"interval": self.beats.interval, "half_width": self.beats.half_width}

    @property
    def constant_bytes(self):
        """Return the bytes of flash for weights and tables, those of the tracker included."""
        table = self.tracker
        numbers = table.evidence.size + len(table.transition) + len(table.certainty.half_width)
        return sum(array.nbytes for array in self.constants.values()) + 2 * numbers + BYTES

    @property
    def crc32(self):
        """Return the CRC-32 that `xmae_check_model` compares."""
        return crc_of(self.constants)

    @property
    def macs(self):
        """Return the multiply-accumulates of the network per second of signal."""
        return sum(layer.macs for layer in self.beats.layers.values())


def takes_acceleration(path):
    """Tell whether an int8 `.tflite` takes three axes of acceleration beside PPG."""
    tensors, _, source, _ = read_layers(path)
    return tuple(tensors[source].shape) == (1, 1, N_TIMES, INPUTS)


def motion_model(path, certainty, tracker, name):
    """Read a student for PPG and acceleration.

    Parameters
    ----------
    path : str or Path
        Its int8 `.tflite`.
    certainty : Certainty
        Certainty table of its beats.
    tracker : xmae.beats.tracker.TrackerTable
    name : str
        For the model; characters that C does not know become underscores.

    Returns
    -------
    MotionModel

    Raises
    ------
    UserError
        If the file is no such student.
    """
    zero = StreamNetwork(path).input_zero
    if zero not in ZEROS:
        raise UserError(f"{path}: the input's zero point is {zero}; libxmae takes -1 or 0")
    return MotionModel(identifier(name), beat_part(path, certainty, INPUTS), zero, tracker)


def motion_texts(model):
    """Return the files of a model: {path in the package: text}."""
    name, prefix = model.name, f"XMAE_MODEL_{model.name.upper()}"
    constants, beats = model.constants, model.beats
    sizes = {"memory": model.memory_bytes, "macs": model.macs, "size": model.constant_bytes}
    return {
        f"include/xmae/xmae_model_{name}.h": HEADER.format(
            spdx=SPDX, title=comment(name), name=name, prefix=prefix, **sizes
        ),
        f"models/xmae_model_{name}.c": SOURCE.format(
            spdx=SPDX,
            title=comment(name),
            name=name,
            arrays="".join(constant(key, array) for key, array in constants.items()),
            layers=beats_tables(model),
            blobs="".join(f"  {{{key}, sizeof {key}}},\n" for key in constants),
            version=VERSION,
            n_layers=len(beats.layers),
            n_blobs=len(constants),
            memory=model.memory_bytes,
            map=beats.outputs[-1],
            scratch=beats.scratch,
            crc=model.crc32,
            zeros=f"{integer(model.input_zero)}, {integer(beats.map_zero)}, 0",
            reading=f"{beats.unit}u, {beats.look_ahead}u, {beats.least}u",
            tracker=tracker_literal(model.tracker),
        ),
    }


def crc_of(constants):
    """Return the CRC-32 over arrays, one after the other."""
    crc = 0
    for array in constants.values():
        crc = zlib.crc32(array.tobytes(), crc)
    return crc


def tracker_literal(table):
    """Return a tracker's table as a C initialiser, in the order of `xmae_tracker_table_t`."""
    rows = [f"{{{numbers(row)}}}" for row in table.evidence]
    evidence = "{\n  " + ",\n  ".join(rows) + "}"
    rest = [table.transition, table.certainty.half_width]
    arrays = ",\n  ".join(f"{{{numbers(array)}}}" for array in rest)
    last = [table.removal.lean, table.removal.quarters, table.certainty.least]
    return f"{evidence},\n  {arrays}, {numbers(last)}"


def numbers(array):
    """Format whole numbers as C."""
    return ", ".join(f"{int(value)}u" for value in np.asarray(array))


HEADER = """{spdx}/**
 * @file xmae_model_{name}.h
 * @brief The model {title} for libxmae, for PPG and acceleration (xmae_motion.h). It reads beats
 * and follows the heart rate; it gives no embeddings. Written by xmae.
 */
#ifndef {prefix}_H
#define {prefix}_H

#include "xmae/xmae_motion.h"

#ifdef __cplusplus
extern "C" {{
#endif

/** @brief Working memory of an instance with this model, bytes. */
#define {prefix}_BYTES {memory}u
/** @brief Products of weights with inputs, a second of signal. */
#define {prefix}_MACS {macs}u
/** @brief The model: {size} bytes of weights and tables, its tracker's included. */
extern const xmae_model_t xmae_model_{name};
/** @brief What its tracker knows. */
extern const xmae_tracker_table_t xmae_model_{name}_tracker;

#ifdef __cplusplus
}}
#endif
#endif
"""

SOURCE = """{spdx}/* The model {title} for libxmae. Written by xmae. */
#include "xmae/xmae_model_{name}.h"
#include "xmae_internal.h"

{arrays}
{layers}static const xmae_blob_t blobs[{n_blobs}] = {{
{blobs}}};

const xmae_model_t xmae_model_{name} = {{
  XMAE_MODEL_MAGIC, {version}u, {n_layers}u,
  layers, interval, half_width, 0, 0, blobs,
  0u, 0u, {n_blobs}u, 0u,
  {memory}u, {map}u, {scratch}u, 0u,
  0u, 0u, 0u, {crc}u,
  0u, {zeros},
  {reading},
  &xmae_network_engine, 0
}};

const xmae_tracker_table_t xmae_model_{name}_tracker = {{
  {tracker}
}};
"""
