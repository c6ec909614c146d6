"""A recipe for TensorFlow Lite Micro: for each model the operators that it needs, and an arena.

The windows come from libxmae (`xmae_copy_window`), so that the front end is the exact one.
"""

from xmae.export.targets.c.layers import read_layers
from xmae.export.targets.c.literals import comment, integer
from xmae.export.targets.c.model_source import SPDX
from xmae.export.targets.c.source import plan

RECORD = 256  # bytes of the interpreter a tensor or an operator; 168 measured with 64-bit pointers
ADDERS = {  # by operator: the method of MicroMutableOpResolver
    "CONV_2D": "AddConv2D",
    "DEPTHWISE_CONV_2D": "AddDepthwiseConv2D",
    "FULLY_CONNECTED": "AddFullyConnected",
    "ADD": "AddAdd",
    "MEAN": "AddMean",
    "AVERAGE_POOL_2D": "AddAveragePool2D",
    "PAD": "AddPad",
    "RESHAPE": "AddReshape",
    "CONCATENATION": "AddConcatenation",
    "QUANTIZE": "AddQuantize",
}


def recipe_text(path, name):
    """Return `tflm/xmae_tflm_NAME.h`, C++, for an int8 `.tflite`.

    Parameters
    ----------
    path : Path
    name : str
        Name of the model in C.
    """
    tensors, layers, source, sink = read_layers(path)
    operators = sorted({layer.op for layer in layers})
    arena = arena_bytes(tensors, layers)
    calls = "".join(
        f"  if (resolver->{ADDERS[op]}() != kTfLiteOk) return kTfLiteError;\n" for op in operators
    )
    upper = name.upper()
    return f"""{SPDX}/* {comment(name)} in TensorFlow Lite Micro: its operators and its memory.
 *
 * Written by `xmae export --targets c`. */
#ifndef XMAE_TFLM_{upper}_H
#define XMAE_TFLM_{upper}_H

#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"

/* Of the arena, with a margin: activations and the interpreter's records. */
#define XMAE_TFLM_{upper}_ARENA_BYTES {integer(arena, "u")}
#define XMAE_TFLM_{upper}_INPUT_BYTES {integer(tensors[source].size, "u")}
#define XMAE_TFLM_{upper}_OUTPUT_BYTES {integer(tensors[sink].size, "u")}

typedef tflite::MicroMutableOpResolver<{integer(len(operators))}> xmae_tflm_{name}_resolver_t;

static inline TfLiteStatus xmae_tflm_{name}_operators(xmae_tflm_{name}_resolver_t *resolver) {{
{calls}  return kTfLiteOk;
}}

#endif
"""


def arena_bytes(tensors, layers):
    """Return the bytes of an arena: all activations, and a record for each tensor and operator."""
    activations, _ = plan(tensors, layers, None, None)
    return activations + RECORD * (len(tensors) + len(layers))
