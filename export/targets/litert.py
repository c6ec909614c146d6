"""LiteRT: `.tflite` for phones, and int8 throughout (input and output too) for microcontrollers and
NPUs.
"""

import re
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from xmae.errors import UserError
from xmae.export.targets.base import Target, register
from xmae.export.targets.biases import at_the_end, least_steps
from xmae.export.targets.c.layers import inline_buffers
from xmae.export.targets.conversions import remembered
from xmae.export.targets.light import litert_runner
from xmae.export.targets.session import Session, from_int8, to_int8
from xmae.export.targets.trace import naming_layers, traced
from xmae.files import atomic_file
from xmae.native import one_thread, quietly
from xmae.quantize.graph import as_input, input_shape
from xmae.quantize.layers import error_rows
from xmae.quantize.observers import MINMAX, ranges

RECIPES = {  # of ai-edge-quantizer, by precision
    "int8": "static_wi8_ai8",
    "int16x8": "static_wi8_ai16",
    "dynamic-int8": "dynamic_wi8_afp32",
    "weight-int8": "weight_only_wi8_afp32",
    "weight-int4": "weight_only_wi4_afp32",
}
PRECISIONS = ("fp32", *RECIPES)
LAYERS = {3: 0, 4: 3, 9: 0}  # Conv2D, DepthwiseConv2D, FullyConnected: the axis of their channels


@quietly()
@one_thread()
def export(module, path, precision, calibration=None, observer=None, keep=()):
    """Write a graph as a `.tflite` flatbuffer; see `Target.convert`.

    "int8": weights per channel, activations per tensor, int8 input and output. "int16x8":
    activations, input and output in 16 bits, which have codes for all values, so that no observer
    is asked. "dynamic-int8": activations get their range when it runs. "weight-int8",
    "weight-int4": per channel; arithmetic stays float. A shape or a branch that depends on the
    signal is refused.
    """
    with naming_layers(module, "litert"):
        model = (
            convert(module)
            if precision == "fp32"
            else quantize(module, precision, calibration, observer, keep)
        )
    with atomic_file(path) as temporary:
        temporary.write_bytes(inlined(model))


def inlined(image):
    """Return a flatbuffer with all constants inside it, where TensorFlow Lite Micro looks for them;
    see `inline_buffers`.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(image, 0)
    if not inline_buffers(model, image):
        return image
    builder = flatbuffers.Builder(len(image))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


@remembered
def convert(module):
    """Convert a graph to a float flatbuffer, bytes."""
    import litert_torch

    traced(module, "litert")  # in plain words why not, if it cannot be
    with tempfile.TemporaryDirectory() as folder, naming_layers(module, "litert"):
        path = Path(folder) / "float.tflite"
        litert_torch.convert(module, (torch.zeros(input_shape(module)),)).export(str(path))
        return path.read_bytes()


def quantize(module, precision, calibration, observer=None, keep=()):
    """Convert a graph to a flatbuffer of another precision than float, bytes."""
    from ai_edge_quantizer import quantizer, recipe, recipe_manager

    model, rules = convert(module), recipe_manager.RecipeManager()
    rules.load_quantization_recipe(getattr(recipe, RECIPES[precision])())
    if not RECIPES[precision].startswith("static"):
        return bytes(
            quantizer.Quantizer(model, rules.get_quantization_recipe()).quantize().quantized_model
        )
    # 16 bits have codes for all
    observer = observer if observer and precision == "int8" else MINMAX
    found = activation_ranges(model, observer, calibration)
    if precision == "int8":  # 16-bit activations have biases of 64 bits
        found = found | weight_ranges(model, found)
    for name in [name for name, layer in layers_of(model, module).items() if layer in keep]:
        rules.add_quantization_config(f"^{re.escape(name)};?$", "*", algorithm_key="no_quantize")
    tool = quantizer.Quantizer(model, rules.get_quantization_recipe())
    return bytes(tool.quantize(found).quantized_model)


def weight_ranges(model, found):
    """Return {weight: {"min", "max"}}, wide enough for the bias, for layers of a float flatbuffer
    whose bias would overflow 32 bits; `found` are the ranges of its activations.
    """
    from ai_edge_litert import schema_py_generated as schema

    flat = schema.ModelT.InitFromPackedBuf(model, 0)
    tensors, ranges = flat.subgraphs[0].tensors, {}
    for operator in flat.subgraphs[0].operators:
        kind = flat.operatorCodes[operator.opcodeIndex].builtinCode
        if kind not in LAYERS or len(operator.inputs) < 3 or operator.inputs[2] < 0:
            continue
        source, weight, bias = (tensors[i] for i in operator.inputs[:3])
        values, biases = (constant(flat, tensor, model) for tensor in (weight, bias))
        ends = found.get(source.name.decode())
        if values is None or biases is None or ends is None:
            continue
        axis = LAYERS[kind]
        others = tuple(k for k in range(values.ndim) if k != axis)
        peaks = np.abs(values).max(others, keepdims=True)
        low, high = (float(np.min(ends[end])) for end in ("min", "max"))
        least = 127 * least_steps(biases, (max(high, 0) - min(low, 0)) / 255)
        least = least.reshape(peaks.shape).astype(np.float32)
        if (least > peaks).any():
            peaks = np.maximum(peaks, least)
            ranges[weight.name.decode()] = {"min": -peaks, "max": peaks}
    return ranges


def constant(flat, tensor, image):
    """Return the values of a constant float tensor in a flatbuffer; None for a computed one."""
    buffer = flat.buffers[tensor.buffer]
    if buffer.data is not None and len(buffer.data):
        raw = np.asarray(buffer.data, np.uint8).tobytes()
    elif buffer.offset > 1:
        raw = bytes(image[buffer.offset : buffer.offset + buffer.size])
    else:
        return None
    return np.frombuffer(raw, np.float32).reshape(tensor.shape)


def saturated(path):
    """Return the names of the biases in an int8 model that are clipped at the end of 32 bits."""
    from ai_edge_litert import schema_py_generated as schema

    image = Path(path).read_bytes()
    flat = schema.ModelT.InitFromPackedBuf(image, 0)
    inline_buffers(flat, image)
    found = []
    for tensor in flat.subgraphs[0].tensors:
        data = flat.buffers[tensor.buffer].data
        if tensor.type == schema.TensorType.INT32 and data is not None and len(data):
            codes = np.frombuffer(np.asarray(data, np.uint8).tobytes(), np.int32)
            found += [tensor.name.decode()] if at_the_end(codes) else []
    return found


@remembered
def activation_ranges(model, observer, windows):
    """Return {activation: {"min", "max"}} of a float flatbuffer on windows (n, 1000).

    The quantizer's own `calibrate` follows a moving average of each range and clips what is rare;
    so plain minima and maxima are collected, by the runtime's built-in profiler. Ranges of other
    observers take their place, except at the input.
    """
    from ai_edge_quantizer import calibrator, recipe_manager
    from ai_edge_quantizer.utils import qsv_utils

    profiler = calibrator.Calibrator(
        model,
        num_threads=1,
        mode=calibrator.CalibrationMode.CALIBRATION_PROFILER_BASED,
        qsv_update_func=qsv_utils.min_max_update,
    )
    inputs = [{"args_0": as_input(row)} for row in windows]
    profiler.calibrate({"serving_default": inputs}, recipe_manager.RecipeManager())
    found = dict(profiler.get_model_qsvs())
    if observer != MINMAX:
        for name, (low, high) in ranges(values_of(model, windows), observer).items():
            if name in found:
                found[name] = {"min": np.array([low]), "max": np.array([high])}
    return found


def values_of(model, ppg):
    """Yield the activations of a flatbuffer for each window, as real numbers: {name: array}."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_content=model,
        num_threads=1,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    source, names = (
        interpreter.get_input_details()[0],
        {output for _, output in operators_of(model)},
    )
    for window in ppg:
        x = as_input(window)
        interpreter.set_tensor(
            source["index"], x if is_float(source) else to_int8(x, *source["quantization"])
        )
        interpreter.invoke()
        found = {}
        for tensor in interpreter.get_tensor_details():
            if tensor["name"] in names and (is_float(tensor) or tensor["quantization"][0]):
                x = interpreter.get_tensor(tensor["index"])
                x = x if is_float(tensor) else from_int8(x, *tensor["quantization"])
                found[tensor["name"]] = x
        yield found


def is_float(details):
    """Tell whether a tensor of an interpreter holds real numbers."""
    return details["dtype"] is np.float32


def operators_of(model):
    """Return (names of the inputs, name of the output) of each operator in a flatbuffer."""
    from ai_edge_litert import schema_py_generated as schema

    graph = schema.ModelT.InitFromPackedBuf(model, 0).subgraphs[0]
    names = [tensor.name.decode() for tensor in graph.tensors]
    return [
        ([names[i] for i in op.inputs if i >= 0], names[op.outputs[0]]) for op in graph.operators
    ]


def layers_of(model, module):
    """Return {activation: the layer of `module` that it comes from} for the float flatbuffer of
    `module`.

    Activations are named by paths of modules and their classes,
    "a.Outer/torch.nn.modules.linear.Linear_head;2", parts of a fused operator with ";;" between
    them; the last one, which has a name of its own, by its weights.
    """
    known, found = [name for name, _ in module.named_modules()], {}
    for inputs, output in operators_of(model):
        path = (
            (inputs[-1] if output.startswith("serving_default") else output)
            .split(";")[0]
            .split("/")[1:]
        )
        name = ".".join(part.rpartition(".")[2].partition("_")[2] for part in path)
        # paths leave out what is not called itself
        inner = (longer for longer in known if longer.endswith(f".{name}"))
        found[output] = name if name in known else next(inner, "")
    return found


def compare_layers(module, path, calibration, observer, keep, ppg):
    """Compare every activation of an int8 flatbuffer with the float one; see
    `xmae.quantize.layers.error_rows`.

    Both run in LiteRT's own kernels, those of microcontrollers.
    """
    model = convert(module)
    return error_rows(
        values_of(model, ppg), values_of(Path(path).read_bytes(), ppg), layers_of(model, module)
    )


@quietly()
def open_model(path, threads=1, reference=False):
    """Open a `.tflite` model.

    Parameters
    ----------
    path, threads
        As `Target.open`.
    reference : bool
        Use LiteRT's reference kernels instead of XNNPACK's: slow, and what microcontrollers
        compute.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolver = OpResolverType.BUILTIN_REF if reference else OpResolverType.AUTO
    try:
        interpreter = Interpreter(
            model_content=Path(path).read_bytes(),
            num_threads=threads,
            experimental_op_resolver_type=resolver,
        )
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError, OSError) as error:
        raise UserError(f"{path}: not a readable TFLite model ({error})") from error
    return Session(litert_runner(interpreter))


def inspect_model(path):
    """Describe a `.tflite` model.

    Returns
    -------
    dict
        `ops`: operators by kind; `undelegated`: in an int8 or int16x8 model, kinds of operators
        that still touch floats (None in others); `input`, `output`: shape, dtype, scale and zero
        point (None: float).
    """
    with quietly():
        from ai_edge_litert import schema_py_generated as schema

    def names(enum):
        return {number: name for name, number in vars(enum).items() if isinstance(number, int)}

    model = schema.ModelT.InitFromPackedBuf(Path(path).read_bytes(), 0)
    graph, kinds, dtypes = (
        model.subgraphs[0],
        names(schema.BuiltinOperator),
        names(schema.TensorType),
    )
    ops, floats = Counter(), set()
    for operator in graph.operators:
        kind = kinds[model.operatorCodes[operator.opcodeIndex].builtinCode]
        ops[kind] += 1
        if any(
            dtypes[graph.tensors[i].type] == "FLOAT32"
            for i in (*operator.inputs, *operator.outputs)
            if i >= 0
        ):
            floats.add(kind)
    ends = {"input": graph.tensors[graph.inputs[0]], "output": graph.tensors[graph.outputs[0]]}
    described = {side: describe(tensor, dtypes) for side, tensor in ends.items()}
    float_input = described["input"]["dtype"] == "float32"
    return {"ops": dict(ops), "undelegated": None if float_input else sorted(floats), **described}


def describe(tensor, dtypes):
    """Describe a tensor of a flatbuffer: shape, dtype, scale and zero point."""
    dtype = dtypes[tensor.type].lower()
    scale, zero_point = (
        (float(tensor.quantization.scale[0]), int(tensor.quantization.zeroPoint[0]))
        if dtype in ("int8", "int16")
        else (None, None)
    )
    return {
        "shape": tensor.shape.tolist(),
        "dtype": dtype,
        "scale": scale,
        "zero_point": zero_point,
    }


@register
class LiteRT(Target):
    """TFLite, run by LiteRT."""

    name = "litert"
    suffix = ".tflite"
    precisions = PRECISIONS
    tools = (
        "litert-torch",
        "litert-converter",
        "ai-edge-litert",
        "ai-edge-quantizer",
        "flatbuffers",
    )
    convert = staticmethod(export)
    open = staticmethod(open_model)
    inspect = staticmethod(inspect_model)
    saturated = staticmethod(saturated)
    compare_layers = staticmethod(compare_layers)
