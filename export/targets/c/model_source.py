"""The C files of a model for libxmae: one header and one file of constants.

Initialisers are in the order of the structs of `xmae_internal.h`, so that C++17 takes them too.
"""

from xmae.export.targets.c.library import CONSTANTS
from xmae.export.targets.c.literals import comment, integer

VERSION = 1  # of the model's struct, XMAE_MODEL_VERSION
CONV_FIELDS = (
    "in_h", "in_w", "in_c", "out_h", "out_w", "out_c", "k_h", "k_w", "stride_h", "stride_w", "pad_h", "pad_w",
    "in_zero", "out_zero", "out_min", "out_max",
)  # fmt: skip


SPDX = """/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: the xMAE authors */
"""


def model_texts(model):
    """Return the files of a model: place in the package to text."""
    return {
        f"include/xmae/xmae_model_{model.name}.h": model_header(model),
        f"models/xmae_model_{model.name}.c": model_source(model),
    }


def model_header(model):
    """Return the text of `xmae_model_NAME.h`."""
    name, upper = model.name, model.name.upper()
    return f"""{SPDX}/* {comment(name)}: a model for libxmae. Written by `xmae export --targets c`. */
#ifndef XMAE_MODEL_{upper}_H
#define XMAE_MODEL_{upper}_H

#include "xmae/xmae.h"

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
    fields = [
        "XMAE_MODEL_MAGIC", integer(VERSION, "u"), integer(len(model.layers), "u"), "layers", "interval", "half_width",
        integer(model.memory_bytes, "u"), integer(model.outputs[-1], "u"), integer(model.scratch, "u"),
        integer(model.crc32, "u"), integer(model.map_zero), integer(model.unit, "u"),
        integer(model.look_ahead, "u"), integer(model.least, "u"),
    ]  # fmt: skip
    lines = ", ".join(fields)
    return f"""{SPDX}/* {comment(model.name)}: a model for libxmae. Written by `xmae export --targets c`. */
#include "xmae/xmae_model_{model.name}.h"
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
    arrays = ", ".join(f"{key}_{i:02d}" for key in CONSTANTS)
    sizes = ", ".join(integer(layer.fields[key]) for key in CONV_FIELDS)
    places = ", ".join(integer(value, "u") for value in (place, output, layer.keep))
    return f"  {{{{{arrays}, {sizes}}},\n   {places}, {integer(layer.depthwise, 'u')}}},\n"
