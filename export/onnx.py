"""ONNX: `.onnx` for ONNX Runtime on servers, desktops and phones; int8 as QDQ (quantize-dequantize) pairs."""

import tempfile
from collections import Counter
from functools import lru_cache
from pathlib import Path

import torch

from xmae.errors import UserError
from xmae.export.session import Session
from xmae.export.trace import naming_layers, traced
from xmae.files import atomic_file
from xmae.quantize.graph import as_input
from xmae.quantize.native import one_thread, quietly

SUFFIX = ".onnx"
PRECISIONS = ("fp32", "int8", "dynamic-int8")


@quietly()
@one_thread()
def export(module, path, precision, calibration=None):
    """Write a graph as an `.onnx` model.

    Int8 means u8 activations and u8 weights: x86 processors without VNNI add pairs of u8 x s8 products in 16 bits,
    where 8-bit weights would saturate (and the embedding collapse); of u8 x u8 they widen first. So one file is right
    on every machine, without giving up a bit of the weights.

    Parameters
    ----------
    module : torch.nn.Module
        From `exportable`.
    path : str or Path
        File to write, atomically.
    precision : str
        "fp32"; "int8" (weights per channel, activations per tensor; input and output stay float); "dynamic-int8" (the
        Linear layers only, which are nearly all of a transformer: their input gets its range when it runs).
    calibration : float32 array, shape (n, 1000), optional
        Scaled training windows, for int8: the smallest and largest values on them set the ranges.

    Raises
    ------
    UserError
        If onnx or onnxruntime is not installed, an operator cannot be converted (it and its layer are named), a shape
        or a branch depends on the signal, or the file cannot be written.
    """
    model = convert(module)
    if precision == "int8":
        model = quantize(model, calibration)
    elif precision == "dynamic-int8":
        model = quantize_linear(model)
    with atomic_file(path) as temporary:
        temporary.write_bytes(model)


@lru_cache(maxsize=1)  # fp32 and int8 start from the same conversion, which takes seconds
def convert(module):
    """The float model of a graph, as bytes."""
    traced_module = traced(module, "onnx")
    with naming_layers(traced_module, "onnx"):
        program = torch.onnx.export(traced_module, input_names=["ppg"], output_names=["embedding"])
    return program.model_proto.SerializeToString()


def quantize(model, calibration):
    """A float model as QDQ int8; the layer norms stay float (their variance spans too wide a range for 8 bits)."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Windows(CalibrationDataReader):
        def __init__(self):
            self.rows = iter(calibration)

        def get_next(self):
            row = next(self.rows, None)
            return None if row is None else {"ppg": as_input(row)}

    proto = onnx.load_from_string(model)
    norms = [node.name for node in proto.graph.node if any("Normalise" in p.value for p in node.metadata_props)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        quantize_static(
            proto,
            path,
            Windows(),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QUInt8,
            nodes_to_exclude=norms,
        )
        return path.read_bytes()


def quantize_linear(model):
    """A float model with int8 Linear layers whose activations get their range anew for each window."""
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
    path : str or Path
        The file.
    threads : int
        Threads within an operator.

    Returns
    -------
    Session

    Raises
    ------
    UserError
        If onnxruntime is not installed or the file is damaged.
    """
    import onnxruntime
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, InvalidGraph, InvalidProtobuf

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3  # errors only
    try:
        session = onnxruntime.InferenceSession(Path(path).read_bytes(), options, providers=["CPUExecutionProvider"])
    except (OSError, Fail, InvalidArgument, InvalidGraph, InvalidProtobuf) as error:
        raise UserError(f"{path}: not a readable ONNX model ({error})") from error
    name = session.get_inputs()[0].name
    return Session(lambda window: session.run(None, {name: window})[0])


def inspect_model(path):
    """What is in an `.onnx` model.

    Returns
    -------
    dict
        `ops`: operators by kind; `undelegated`: None, there is no delegate (ONNX Runtime's CPU provider runs them
        all); `input`, `output`: shape, dtype, scale and zero point (None: float).
    """
    with quietly():
        import onnx

    graph = onnx.load(path).graph
    ends = {"input": graph.input[0], "output": graph.output[0]}
    shapes = {side: [d.dim_value for d in value.type.tensor_type.shape.dim] for side, value in ends.items()}
    return {
        "ops": dict(Counter(node.op_type for node in graph.node)),
        "undelegated": None,
        **{side: {"shape": s, "dtype": "float32", "scale": None, "zero_point": None} for side, s in shapes.items()},
    }
