"""ONNX: `.onnx` for ONNX Runtime on servers, desktops and phones; int8 as QDQ (quantize-dequantize)
pairs.
"""

import tempfile
from ast import literal_eval
from collections import Counter
from itertools import chain
from pathlib import Path

import numpy as np
import torch

from xmae.errors import UserError
from xmae.export.targets.base import Target, float_tensor, register
from xmae.export.targets.biases import at_the_end, least_steps
from xmae.export.targets.conversions import remembered
from xmae.export.targets.session import Session, from_int8
from xmae.export.targets.trace import naming_layers, traced
from xmae.files import atomic_file
from xmae.native import one_thread, quietly
from xmae.quantize.graph import as_input
from xmae.quantize.layers import error_rows
from xmae.quantize.observers import MINMAX, ranges

INT32 = 6  # onnx.TensorProto.INT32
# modules of a node, their classes
SCOPES, CLASSES = "pkg.torch.onnx.name_scopes", "pkg.torch.onnx.class_hierarchy"


@quietly()
@one_thread()
def export(module, path, precision, calibration=None, observer=None, keep=()):
    """Write a graph as an `.onnx` model; see `Target.convert`.

    Int8: weights per channel, activations per tensor; input and output stay float. It means u8
    activations and u8 weights: x86 processors without VNNI add pairs of u8 x s8 products in 16
    bits, where 8-bit weights would saturate (and the embedding collapse); of u8 x u8 they widen
    first. So one file is right on every machine, without giving up a bit of the weights.

    "dynamic-int8": the Linear layers only, which are nearly all of a transformer; their input gets
    its range when it runs. A shape or a branch that depends on the signal is refused.
    """
    model = convert(module)
    with naming_layers(module, "onnx"):
        if precision == "int8":
            model = quantize(model, activation_ranges(model, observer or MINMAX, calibration), keep)
        elif precision == "dynamic-int8":
            model = quantize_linear(model)
    with atomic_file(path) as temporary:
        temporary.write_bytes(model)


@remembered
def convert(module):
    """Convert a graph to a float ONNX model, bytes.

    Of the exporter's notes on each node, only its modules and their classes are kept: the others
    hold lines of source, and folders of this machine.
    """
    traced_module = traced(module, "onnx")
    with naming_layers(module, "onnx"):
        model = torch.onnx.export(
            traced_module, input_names=["ppg"], output_names=["embedding"]
        ).model_proto
    for node in model.graph.node:
        noted = [note for note in node.metadata_props if note.key in (SCOPES, CLASSES)]
        del node.metadata_props[:]
        node.metadata_props.extend(noted)
    return model.SerializeToString()


def quantize(model, ranges, keep=()):
    """Quantize a float model to QDQ int8 with the given ranges of its activations, {name: (low,
    high)}.

    Layer norms stay float (their variance spans too wide a range for 8 bits), and so do the layers
    in `keep`.
    """
    import onnx
    from onnxruntime.quantization import (
        CalibrationMethod,
        QuantType,
        quantize_static,
        save_tensors_data,
    )
    from onnxruntime.quantization.calibrate import TensorsData

    proto = onnx.load_from_string(model)
    floats = [node.name for node in proto.graph.node if is_norm(node) or layer_of(node) in keep]
    with tempfile.TemporaryDirectory() as folder:
        path, cache = Path(folder) / "int8.onnx", Path(folder) / "ranges.json"
        known = {name: tuple(np.float32(end) for end in ends) for name, ends in ranges.items()}
        save_tensors_data(TensorsData(CalibrationMethod.MinMax, known), cache)
        quantize_static(
            proto,
            path,
            None,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QUInt8,
            nodes_to_exclude=floats,
            calibration_cache_path=cache,
            extra_options={"TensorQuantOverrides": weight_scales(proto.graph, ranges)},
        )
        return path.read_bytes()


def weight_scales(graph, ranges):
    """Return the weight scales, 127 steps from 0 to the largest weight of each output channel, and
    the zero point in the middle; wider where the channel's bias would overflow 32 bits.

    Left alone, the quantizer spreads 255 steps over both signs: the largest weight would lie
    between the last two codes, and each channel would lose half a step where it matters most.

    Parameters
    ----------
    graph : onnx.GraphProto
        Graph of the float model.
    ranges : dict
        (low, high) of its activations by name.
    """
    from onnx import numpy_helper

    constants = {tensor.name: tensor for tensor in graph.initializer}
    found = {}
    for node in graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul") or node.input[1] not in constants:
            continue
        weight = numpy_helper.to_array(constants[node.input[1]])
        axis = 1 if node.op_type == "MatMul" else 0  # Gemm is that of a Linear, (out, in)
        peaks = np.abs(np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)).max(1)
        steps = np.maximum(peaks, 1e-12) / 127
        if len(node.input) > 2 and node.input[2] in constants and node.input[0] in ranges:
            low, high = ranges[node.input[0]]
            bias = numpy_helper.to_array(constants[node.input[2]])
            steps = np.maximum(steps, least_steps(bias, (max(high, 0) - min(low, 0)) / 255))
        zero = np.array(128, np.uint8)
        found[node.input[1]] = [
            {"axis": axis, "scale": step, "zero_point": zero} for step in steps.astype(np.float32)
        ]
    return found


def saturated(path):
    """Return the names of the biases in an int8 model that are clipped at the end of 32 bits."""
    import onnx

    tensors = onnx.load(path).graph.initializer
    codes = {t.name: onnx.numpy_helper.to_array(t) for t in tensors if t.data_type == INT32}
    return [name for name, values in codes.items() if at_the_end(values)]


@remembered
def activation_ranges(model, observer, windows):
    """Return {activation: (low, high)} of a float model on windows (n, 1000); the input keeps its
    full range.
    """
    found = ranges(values_of(model, windows), observer)
    return found | {"ppg": (float(windows.min()), float(windows.max()))}


def values_of(model, ppg):
    """Yield the activations of a model for each window: {name in the float model: float32 array}.

    Activations that are kept as codes are read as such, so that the runtime computes as it would
    without being watched.
    """
    import onnx
    import onnxruntime

    proto = onnx.load_from_string(model)
    graph = proto.graph
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    quantized = {node.input[0]: node for node in graph.node if node.op_type == "QuantizeLinear"}
    read = {
        node.output[0]: (name, *(constants[i] for i in node.input[1:3]))
        for name, node in quantized.items()
    }
    inner = {"QuantizeLinear", "DequantizeLinear", "Constant"}
    outside = chain.from_iterable(node.output for node in graph.node if node.op_type not in inner)
    read |= {name: (name,) for name in outside if name not in quantized}
    ends = {value.name for value in graph.output}
    read |= {name: (name,) for name in ends}
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in read if name not in ends)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    for window in ppg:
        values = session.run(list(read), {"ppg": as_input(window)})
        yield {
            name: from_int8(x, *code) if code else x
            for (name, *code), x in zip(read.values(), values, strict=True)
            if code or x.dtype == np.float32
        }


def compare_layers(module, path, calibration, observer, keep, ppg):
    """Compare every activation of an int8 model with the float one; see
    `xmae.quantize.layers.error_rows`.
    """
    import onnx

    model = convert(module)
    layers = {}
    for node in onnx.load_from_string(model).graph.node:
        layers |= dict.fromkeys(node.output, layer_of(node))
    return error_rows(values_of(model, ppg), values_of(Path(path).read_bytes(), ppg), layers)


def layer_of(node):
    """Return the name of the innermost module that a node comes from; "" for the graph itself."""
    return noted(node, SCOPES)[-2]


def is_norm(node):
    """Tell whether a node belongs to a layer norm."""
    return any(kind.endswith("Normalise") for kind in noted(node, CLASSES))


def noted(node, key):
    """Return the exporter's notes on a node, from the outermost module to the operator: a list of
    strings.
    """
    return literal_eval(
        next((note.value for note in node.metadata_props if note.key == key), "['', '']")
    )


def quantize_linear(model):
    """Return a float model with int8 Linear layers whose activation ranges are computed for each
    window.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    proto = onnx.load_from_string(model)
    del proto.graph.value_info[:]  # shapes of weights that are transposed on the way
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "dynamic.onnx"
        quantize_dynamic(
            proto,
            path,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
        )
        return path.read_bytes()


@quietly()
def open_model(path, threads=1):
    """Open an `.onnx` model in ONNX Runtime on the CPU.

    Parameters
    ----------
    path, threads
        As `Target.open`; the threads are those within an operator.
    """
    import onnxruntime
    from onnxruntime.capi.onnxruntime_pybind11_state import (
        Fail,
        InvalidArgument,
        InvalidGraph,
        InvalidProtobuf,
    )

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3  # errors only
    try:
        session = onnxruntime.InferenceSession(
            Path(path).read_bytes(), options, providers=["CPUExecutionProvider"]
        )
    except (OSError, Fail, InvalidArgument, InvalidGraph, InvalidProtobuf) as error:
        raise UserError(f"{path}: not a readable ONNX model ({error})") from error
    name = session.get_inputs()[0].name
    return Session(lambda window: session.run(None, {name: window})[0])


def inspect_model(path):
    """Describe an `.onnx` model.

    Returns
    -------
    dict
        `ops`: operators by kind; `undelegated`: None, there is no delegate (ONNX Runtime's CPU
        provider runs them all); `input`, `output`: shape, dtype, scale and zero point (None:
        float).
    """
    with quietly():
        import onnx

    graph = onnx.load(path).graph
    ends = {"input": graph.input[0], "output": graph.output[0]}
    shapes = {
        side: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for side, value in ends.items()
    }
    return {
        "ops": dict(Counter(node.op_type for node in graph.node)),
        "undelegated": None,
        **{side: float_tensor(shape) for side, shape in shapes.items()},
    }


@register
class ONNX(Target):
    """ONNX, run by ONNX Runtime."""

    name = "onnx"
    suffix = ".onnx"
    precisions = ("fp32", "int8", "dynamic-int8")
    tools = ("onnx", "onnxscript", "onnx-ir", "onnxruntime")
    convert = staticmethod(export)
    open = staticmethod(open_model)
    inspect = staticmethod(inspect_model)
    saturated = staticmethod(saturated)
    compare_layers = staticmethod(compare_layers)
