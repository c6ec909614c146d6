"""libxmae for a bundle: C99 sources, and models as constants that `xmae_init` takes.

The sources are in the folder `library`, the kernels in `kernels`. What depends on a student is one
file of numbers; several may be in one image. `xmae.export.stream.Stream` gives the same bits.
"""

import shutil
import zlib
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np

from xmae.beats.reader import MapCode
from xmae.errors import UserError
from xmae.export.targets.c.layers import read_layers
from xmae.export.targets.c.literals import comment, identifier, integer
from xmae.export.targets.c.network import CHUNK, MAP_CHANNELS, OUTPUTS, StreamNetwork
from xmae.files import atomic_file

ALIGN = 8  # bytes: of every place in an instance's memory
VERSION = 1  # of the model's struct, XMAE_MODEL_VERSION
CONSTANTS = ("weights", "bias", "multiplier", "shift")


@dataclass(frozen=True)
class ChunkLayer:
    """A convolution over a chunk of a second.

    Parameters
    ----------
    fields : dict
        Numbers in the kernel's struct.
    constants : dict
        Arrays for flash.
    keep : int
        Columns that its kernel needs again.
    depthwise : bool
    macs, scratch : int
        Products a chunk; bytes of working memory of the kernel.
    """

    fields: dict
    constants: dict
    keep: int
    depthwise: bool
    macs: int
    scratch: int


@dataclass(frozen=True)
class LibraryModel:
    """A student as libxmae takes it.

    Parameters
    ----------
    name : str
        C identifier: the model is `xmae_model_NAME`.
    layers : tuple of ChunkLayer
    inputs, outputs : tuple of int
        Places of each layer's input and output in an instance's memory.
    memory_bytes, scratch : int
        Size of this memory; place of the kernels' working memory.
    interval, half_width : uint16 array
        Ticks by code of the log interval; 1 / 100 bpm by step of certainty.
    map_zero, unit, least : int
        Zero point of the map, codes for a length of 1, certainty that a heart rate needs.
    look_ahead : int
        Samples at 100 Hz after an output's four that the network sees.
    """

    name: str
    layers: tuple
    inputs: tuple
    outputs: tuple
    memory_bytes: int
    scratch: int
    interval: np.ndarray
    half_width: np.ndarray
    map_zero: int
    unit: int
    least: int
    look_ahead: int

    @property
    def constant_bytes(self):
        """Bytes of flash for weights and tables."""
        arrays = [array for layer in self.layers for array in layer.constants.values()]
        return sum(array.nbytes for array in (*arrays, self.interval, self.half_width))

    @property
    def macs(self):
        """Products a second of signal."""
        return sum(layer.macs for layer in self.layers)

    @property
    def crc32(self):
        """CRC-32 that `xmae_check_model` compares."""
        crc = zlib.crc32(self.half_width.tobytes(), zlib.crc32(self.interval.tobytes()))
        for layer in self.layers:
            for key in CONSTANTS:
                array = layer.constants[key]
                size = len(array) if key == "weights" else layer.fields["out_c"]
                crc = zlib.crc32(array[:size].tobytes(), crc)
        return crc


def library_model(path, certainty, name):
    """Read a student for libxmae.

    Parameters
    ----------
    path : str or Path
        Int8 `.tflite` of a `BeatStudent` with one input channel.
    certainty : Certainty
        Its table.
    name : str
        For the model; characters that C does not know become underscores.

    Returns
    -------
    LibraryModel

    Raises
    ------
    UserError
        If the file is no such student, or a number does not fit the library's structs.
    """
    network = StreamNetwork(path)
    _, every, _, _ = read_layers(path)
    layers, columns = [], CHUNK
    for number in network.numbers:
        layers.append(chunk_layer(path, every[number], columns))
        columns = layers[-1].fields["out_w"]
    if layers[0].fields["in_c"] != 1 or columns != OUTPUTS:
        raise UserError(f"{path}: libxmae takes students of one channel, 100 Hz in and 25 Hz out")
    code, half_width = MapCode.of_scale(network.scale), np.asarray(certainty.half_width)
    if code.unit >= 1 << 16 or half_width.min() < 0 or half_width.max() >= 1 << 16:
        raise UserError(f"{path}: scale of the map or certainty table out of range")
    inputs, outputs, scratch, memory_bytes = plan_memory(layers)
    return LibraryModel(
        identifier(name), tuple(layers), inputs, outputs, memory_bytes, scratch,
        code.interval.astype("<u2"), half_width.astype("<u2"), network.zero, code.unit, int(certainty.least),
        network.look_ahead,
    )  # fmt: skip


def chunk_layer(path, layer, columns):
    """Cut a layer of a whole window down to `columns` new columns."""
    taps, stride = layer.fields["k_w"], layer.fields["stride_w"]
    keep = taps - stride
    if keep < 0 or columns % stride or layer.fields["k_h"] != 1:
        raise UserError(f"{path}: a stream cannot have {taps} taps at a stride of {stride}")
    fields = layer.fields | {
        "in_h": 1, "in_w": keep + columns, "out_h": 1, "out_w": columns // stride, "pad_h": 0, "pad_w": 0,
    }  # fmt: skip
    depthwise = layer.kernel == "xmae_depthwise"
    products = taps * fields["out_c"] * (1 if depthwise else fields["in_c"])
    macs = products * fields["out_w"]
    return ChunkLayer(fields, layer.constants, keep, depthwise, macs, layer.scratch)


def plan_memory(layers):
    """Place the inputs of all layers: what is kept for the next chunk for good, the rest in turn.

    Returns
    -------
    inputs, outputs : tuple of int
        Bytes from the start.
    scratch, total : int
        Place of the kernels' working memory; bytes in all.
    """

    def aligned(size):
        return -(-size // ALIGN) * ALIGN

    sizes = [layer.fields["in_w"] * layer.fields["in_c"] for layer in layers]
    sizes.append(OUTPUTS * MAP_CHANNELS)
    keeps = [layer.keep for layer in layers] + [0]
    places, total = {}, 0
    for i, size in enumerate(sizes):
        if keeps[i]:
            places[i], total = total, total + aligned(size)
    for turn in (0, 1):  # what lives only from one layer to the next
        passing = [i for i in range(len(sizes)) if not keeps[i] and i % 2 == turn]
        places |= dict.fromkeys(passing, total)
        total += aligned(max((sizes[i] for i in passing), default=0))
    inputs = tuple(places[i] for i in range(len(layers)))
    following = [
        places[i] + layers[i].keep * layers[i].fields["in_c"] for i in range(1, len(layers))
    ]
    outputs = (*following, places[len(layers)])
    scratch = max(layer.scratch for layer in layers)
    return inputs, outputs, total, total + aligned(scratch)


def write_library(folder, models):
    """Write libxmae and models: sources, headers, kernels.

    Parameters
    ----------
    folder : str or Path
        Made if it is missing.
    models : sequence of LibraryModel

    Returns
    -------
    list of str
        Names of all files, relative to `folder`.

    Raises
    ------
    UserError
        If two models have one name as C spells it, or the folder cannot be written.
    """
    folder = Path(folder)
    if len({model.name for model in models}) < len(models):
        raise UserError(
            f"two students have the same name in C: {', '.join(m.name for m in models)}"
        )
    names = copy_sources(folder)
    for model in models:
        for name, text in model_texts(model).items():
            names.append(f"models/{name}")
            (folder / "models").mkdir(exist_ok=True)
            with atomic_file(folder / "models" / name) as temporary:
                temporary.write_text(text)
    return sorted(names)


def copy_sources(folder):
    """Copy the library's own files and the kernels; return their names."""
    names = []
    for source in ("library", "kernels"):
        with as_file(files("xmae.export.targets.c") / source) as origin:
            for file in sorted(origin.glob("*.[ch]")):
                if file.name == "xmae_cmsis_nn.h":
                    continue
                place = "include" if file.name == "xmae.h" else "src"
                (folder / place).mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, folder / place / file.name)
                names.append(f"{place}/{file.name}")
    return names


def model_texts(model):
    """Return the files of a model: name to text."""
    return {
        f"xmae_model_{model.name}.h": model_header(model),
        f"xmae_model_{model.name}.c": model_source(model),
    }


SPDX = """/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: the xMAE authors */
"""


def model_header(model):
    """Return the text of `xmae_model_NAME.h`."""
    name, upper = model.name, model.name.upper()
    return f"""{SPDX}/* {comment(name)}: a model for libxmae. Written by `xmae export --targets c`. */
#ifndef XMAE_MODEL_{upper}_H
#define XMAE_MODEL_{upper}_H

#include "xmae.h"

#ifdef __cplusplus
extern "C" {{
#endif

/** @brief Working memory of an instance with this model, bytes. */
#define XMAE_MODEL_{upper}_BYTES {integer(model.memory_bytes, "u")}
/** @brief Products of weights with inputs, a second of signal. */
#define XMAE_MODEL_{upper}_MACS {integer(model.macs, "u")}
/** @brief The model: {integer(model.constant_bytes)} bytes of weights and tables in flash. */
extern const xmae_model_t xmae_model_{name};

#ifdef __cplusplus
}}
#endif
#endif
"""


def numbers(array):
    """Return the elements of an array as lines of C."""
    items = [integer(value) for value in array.tolist()]
    per_line = 24 if array.itemsize == 1 else 12
    rows = [", ".join(items[i : i + per_line]) for i in range(0, len(items), per_line)]
    return ",\n  ".join(rows)


def model_source(model):
    """Return the text of `xmae_model_NAME.c`."""
    arrays, layers = [], []
    for i, layer in enumerate(model.layers):
        for key in CONSTANTS:
            array = layer.constants[key]
            ctype = "int32_t" if array.itemsize == 4 else "int8_t"
            arrays.append(constant(f"{key}_{i:02d}", ctype, array))
        layers.append(layer_literal(i, layer, model.inputs[i], model.outputs[i]))
    arrays.append(constant("interval", "uint16_t", model.interval))
    arrays.append(constant("half_width", "uint16_t", model.half_width))
    fields = {
        "magic": "XMAE_MODEL_MAGIC",
        "version": integer(VERSION, "u"),
        "n_layers": integer(len(model.layers), "u"),
        "layers": "layers",
        "interval": "interval",
        "half_width": "half_width",
        "memory_bytes": integer(model.memory_bytes, "u"),
        "map": integer(model.outputs[-1], "u"),
        "scratch": integer(model.scratch, "u"),
        "crc32": integer(model.crc32, "u"),
        "map_zero": integer(model.map_zero),
        "unit": integer(model.unit, "u"),
        "look_ahead": integer(model.look_ahead, "u"),
        "least": integer(model.least, "u"),
    }
    lines = ",\n  ".join(f".{key} = {value}" for key, value in fields.items())
    return f"""{SPDX}/* {comment(model.name)}: a model for libxmae. Written by `xmae export --targets c`. */
#include "xmae_model_{model.name}.h"
#include "xmae_internal.h"

{"".join(arrays)}
static const xmae_layer_t layers[{len(layers)}] = {{
{"".join(layers)}}};

const xmae_model_t xmae_model_{model.name} = {{
  {lines}
}};
"""


def constant(name, ctype, array):
    """Return an array as C."""
    return f"static const {ctype} {name}[{integer(array.size)}] = {{\n  {numbers(array)}\n}};\n"


def layer_literal(i, layer, place, output):
    """Return a layer as an element of the table."""
    fields = [f".{key} = {key}_{i:02d}" for key in CONSTANTS]
    fields += [f".{key} = {integer(value)}" for key, value in layer.fields.items()]
    rows = ",\n    ".join(", ".join(fields[k : k + 6]) for k in range(0, len(fields), 6))
    return (
        f"  {{.conv = {{\n    {rows}}},\n"
        f"   .input = {integer(place, 'u')}, .output = {integer(output, 'u')},"
        f" .keep = {integer(layer.keep, 'u')}, .depthwise = {integer(layer.depthwise)}}},\n"
    )
