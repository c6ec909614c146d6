"""The C files of a model for libxmae: one header and one file of constants.

Initialisers are in the order of the structs of `xmae_internal.h` and `xmae_kernels.h`, so that
C++17 takes them too.
"""

from xmae.export.targets.c.library import CONSTANTS
from xmae.export.targets.c.literals import comment, identifier, integer, real, table_block

VERSION = 3  # of the model's struct, XMAE_MODEL_VERSION
SPDX = """/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: the xMAE authors */
"""
CONV = (
    "in_h", "in_w", "in_c", "out_h", "out_w", "out_c", "k_h", "k_w", "stride_h", "stride_w",
    "pad_h", "pad_w", "in_zero", "out_zero", "out_min", "out_max",
)  # fmt: skip
STRUCTS = {  # by kernel: kind of step, struct, its numbers in order
    "xmae_conv": ("CONV", "xmae_conv_t", CONV),
    "xmae_depthwise": ("DEPTHWISE", "xmae_conv_t", CONV),
    "xmae_add": (
        "ADD",
        "xmae_add_t",
        (
            "size",
            "multiplier1",
            "multiplier2",
            "multiplier_out",
            "shift1",
            "shift2",
            "shift_out",
            "zero1",
            "zero2",
            "out_zero",
            "out_min",
            "out_max",
        ),
    ),
    "xmae_mean": (
        "MEAN",
        "xmae_mean_t",
        ("positions", "channels", "multiplier", "shift", "in_zero", "out_zero"),
    ),
    "xmae_average_pool": (
        "AVERAGE_POOL",
        "xmae_pool_t",
        (
            "in_h",
            "in_w",
            "channels",
            "out_h",
            "out_w",
            "k_h",
            "k_w",
            "stride_h",
            "stride_w",
            "pad_h",
            "pad_w",
            "out_min",
            "out_max",
        ),
    ),
    "xmae_pad": (
        "PAD",
        "xmae_pad_t",
        (
            "in_h",
            "in_w",
            "in_c",
            "out_h",
            "out_w",
            "out_c",
            "top",
            "left",
            "front",
            "value",
        ),
    ),
    "xmae_concatenate": ("CONCATENATE", "xmae_concatenate_t", ("size1", "size2")),
    "xmae_requantize": (
        "REQUANTIZE",
        "xmae_requantize_t",
        ("size", "multiplier", "shift", "in_zero", "out_zero"),
    ),
}


def model_texts(model):
    """Return the files of a model: {path in the package: text}."""
    return {
        f"include/xmae/xmae_model_{model.name}.h": model_header(model),
        f"models/xmae_model_{model.name}.c": model_source(model),
    }


def model_header(model):
    """Return the text of `xmae_model_NAME.h`."""
    name, prefix = model.name, f"XMAE_MODEL_{model.name.upper()}"
    output = model.window.tensors[model.window.embedding]
    size = integer(model.constant_bytes)
    reads = "beats, heart rate and rhythm, and gives" if model.beats else "no beats; it gives"
    return f"""{SPDX}/**
 * @file xmae_model_{name}.h
 * @brief The model {comment(name)} for libxmae.
 *
 * It reads {reads} embeddings.
 * Written by `xmae export --targets c`.
 */
#ifndef {prefix}_H
#define {prefix}_H

#include "xmae/xmae.h"

#ifdef __cplusplus
extern "C" {{
#endif

/** @brief Working memory of an instance with this model, bytes. */
#define {prefix}_BYTES {integer(model.memory_bytes, "u")}
/** @brief Products of weights with inputs, a second of signal. */
#define {prefix}_MACS {integer(model.macs, "u")}
/** @brief Working memory of xmae_embed(), bytes. */
#define {prefix}_EMBED_BYTES {integer(model.window.arena_bytes, "u")}
/** @brief Products of weights with inputs, an embedding. */
#define {prefix}_EMBED_MACS {integer(model.embed_macs, "u")}
/** @brief Codes of an embedding. */
#define {prefix}_EMBEDDING_SIZE {integer(output.size, "u")}
/** @brief An embedding's value is this scale times (code - zero point). */
#define {prefix}_EMBEDDING_SCALE {real(output.scale)}
/** @brief Zero point of an embedding's codes. */
#define {prefix}_EMBEDDING_ZERO ({integer(output.zero)})
{head_numbers(model, prefix)}/** @brief The model: {size} bytes of weights and tables. */
extern const xmae_model_t xmae_model_{name};

#ifdef __cplusplus
}}
#endif
#endif
"""


def head_numbers(model, prefix):
    """Return the C text that defines the number of each head."""
    return "".join(
        f"/** @brief Number of the head {comment(head_name(head))}, for xmae_head(). */\n"
        f"#define {prefix}_HEAD_{identifier(head.name).upper()} {i}u\n"
        for i, head in enumerate(model.heads)
    )


def head_name(head):
    """Return the C name of a head."""
    return f"{head.name} ({head.units or 'log-odds'})"


def model_source(model):
    """Return the text of `xmae_model_NAME.c`."""
    constants = model.constants
    arrays = "".join(constant(name, array) for name, array in constants.items())
    blobs = "".join(f"  {{{name}, sizeof {name}}},\n" for name in constants)
    steps = beats_tables(model) + window_tables(model) + head_tables(model)
    text = f"""{arrays}
{steps}static const xmae_blob_t blobs[{len(constants)}] = {{
{blobs}}};

const xmae_model_t xmae_model_{model.name} = {{
  {struct_of(model)}
}};
"""
    return f"""{SPDX}/* The model {comment(model.name)} for libxmae. Written by `xmae export`. */
#include "xmae/xmae_model_{model.name}.h"
#include "xmae_internal.h"

{table_block(text)}"""


def constant(name, array):
    """Return an array as C source."""
    items = [integer(value) for value in array.tolist()]
    per_line = {1: 18, 2: 12, 4: 7}[array.itemsize]
    rows = [", ".join(items[i : i + per_line]) for i in range(0, len(items), per_line)]
    kind = f"{'u' if array.dtype.kind == 'u' else ''}int{8 * array.itemsize}_t"
    return f"static const {kind} {name}[{array.size}] = {{\n  " + ",\n  ".join(rows) + "\n};\n"


def literal(layer, number):
    """Return a kernel's struct as a C initialiser without braces."""
    arrays = [f"{key}_{number:02d}" for key in CONSTANTS if key in layer.constants]
    return ", ".join([*arrays, *(integer(layer.fields[key]) for key in STRUCTS[layer.kernel][2])])


def beats_tables(model):
    """Return the C table of the layers that read beats."""
    if not model.beats:
        return ""
    rows = []
    places = zip(model.beats.inputs, model.beats.outputs, strict=True)
    for (number, layer), (place, output) in zip(model.beats.layers.items(), places, strict=True):
        numbers = ", ".join(
            integer(v, "u") for v in (place, output, layer.keep, layer.kernel == "xmae_depthwise")
        )
        rows.append(f"  {{{{{literal(layer, number)}}},\n   {numbers}}},\n")
    return f"static const xmae_layer_t layers[{len(rows)}] = {{\n{''.join(rows)}}};\n\n"


def window_tables(model):
    """Return the kernels' structs and the steps of the network over a window, as C."""
    window, structs, steps = model.window, [], []
    for step, (number, layer) in enumerate(window.layers.items()):
        if not layer.kernel:
            continue
        kind, struct, _ = STRUCTS[layer.kernel]
        structs.append(
            f"static const {struct} step_{number:02d} = {{\n  {literal(layer, number)}}};\n"
        )
        inputs = [window.offsets[i] for i in layer.inputs if i in window.offsets]
        places = (
            inputs[0], inputs[1] if len(inputs) > 1 else 0, window.offsets[layer.output],
            window.offsets.get(("scratch", step), 0),
        )  # fmt: skip
        numbers = ", ".join(integer(place, "u") for place in places)
        steps.append(f"  {{XMAE_STEP_{kind}, &step_{number:02d}, {numbers}}},\n")
    table = f"static const xmae_step_t steps[{len(steps)}] = {{\n{''.join(steps)}}};\n\n"
    return "".join(structs) + table


def head_tables(model):
    """Return the C table of heads."""
    if not model.heads:
        return ""
    rows = [
        (
            f'  {{"{comment(head_name(head))}", head_{i:02d}, INT64_C({integer(head.bias)}), '
            f"{head.shift}u}},\n"
        )
        for i, head in enumerate(model.heads)
    ]
    return f"static const xmae_head_t heads[{len(rows)}] = {{\n{''.join(rows)}}};\n\n"


def struct_of(model):
    """Return the fields of `struct xmae_model` as C."""
    window, beats = model.window, model.beats
    output = window.tensors[window.embedding]
    steps = sum(1 for layer in window.layers.values() if layer.kernel)

    def u(value):
        return integer(value, "u")

    tables = ["layers", "interval", "half_width"] if beats else ["0", "0", "0"]
    rows = [
        ["XMAE_MODEL_MAGIC", u(VERSION), u(len(beats.layers) if beats else 0)],
        [*tables, "steps", "heads" if model.heads else "0", "blobs"],
        [u(steps), u(len(model.heads)), u(len(model.constants)), u(output.size)],
        [
            u(model.memory_bytes),
            *((u(beats.outputs[-1]), u(beats.scratch)) if beats else ("0u", "0u")),
        ],
        [u(model.window_place), u(window.arena_bytes), u(window.offsets[window.source])],
        [
            u(window.offsets[window.embedding]),
            u(model.crc32),
            u(0 if beats else window.steps_per_one),
        ],
        [integer(window.input_zero), integer(beats.map_zero if beats else 0), integer(output.zero)],
        [u(v) for v in ((beats.unit, beats.look_ahead, beats.least) if beats else (0, 0, 0))],
        ["&xmae_network_engine" if beats else "0", "0"],
    ]
    return ",\n  ".join(", ".join(row) for row in rows)
