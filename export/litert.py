"""LiteRT: `.tflite` for phones, and int8 throughout (input and output too) for microcontrollers and NPUs."""

import tempfile
from collections import Counter
from functools import lru_cache
from pathlib import Path

import torch

from xmae.errors import UserError
from xmae.export.session import Session, from_int8, to_int8
from xmae.files import atomic_file
from xmae.quantize.graph import as_input, input_shape
from xmae.quantize.native import one_thread, quietly

SUFFIX = ".tflite"


@quietly()
@one_thread()
def export(module, path, precision, calibration=None):
    """Write a graph as a `.tflite` flatbuffer.

    Parameters
    ----------
    module : torch.nn.Module
        From `exportable`.
    path : str or Path
        File to write, atomically.
    precision : str
        "fp32", or "int8" (weights per channel, activations per tensor, int8 input and output).
    calibration : float32 array, shape (n, 1000), optional
        Scaled training windows, for int8: the smallest and largest values on them set the ranges.

    Raises
    ------
    UserError
        If litert-torch or ai-edge-quantizer is not installed or the file cannot be written.
    """
    model = convert(module)
    if precision == "int8":
        model = quantize(model, calibration)
    with atomic_file(path) as temporary:
        temporary.write_bytes(model)


@lru_cache(maxsize=1)  # fp32 and int8 start from the same conversion, which takes seconds
def convert(module):
    """The float flatbuffer of a graph, as bytes."""
    import litert_torch

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "float.tflite"
        litert_torch.convert(module, (torch.zeros(input_shape(module)),)).export(str(path))
        return path.read_bytes()


def quantize(model, calibration):
    """A float flatbuffer as a full int8 one.

    The quantizer's own `calibrate` follows a moving average of each range and clips what is rare; so the ranges are
    collected here, as plain minimum and maximum, by the runtime's built-in profiler.
    """
    from ai_edge_quantizer import calibrator, quantizer, recipe, recipe_manager
    from ai_edge_quantizer.utils import qsv_utils

    manager = recipe_manager.RecipeManager()
    manager.load_quantization_recipe(recipe.static_wi8_ai8())
    ranges = calibrator.Calibrator(
        model,
        num_threads=1,
        mode=calibrator.CalibrationMode.CALIBRATION_PROFILER_BASED,
        qsv_update_func=qsv_utils.min_max_update,
    )
    ranges.calibrate({"serving_default": [{"args_0": as_input(row)} for row in calibration]}, manager)
    result = quantizer.Quantizer(model, recipe.static_wi8_ai8()).quantize(ranges.get_model_qsvs())
    return bytes(result.quantized_model)


@quietly()
def open_model(path, threads=1, reference=False):
    """Open a `.tflite` model.

    Parameters
    ----------
    path : str or Path
        The file.
    threads : int
        Threads of the interpreter.
    reference : bool
        Use LiteRT's reference kernels instead of XNNPACK's: slow, and what microcontrollers compute.

    Returns
    -------
    Session

    Raises
    ------
    UserError
        If ai-edge-litert is not installed or the file is damaged.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolver = OpResolverType.BUILTIN_REF if reference else OpResolverType.AUTO
    try:
        interpreter = Interpreter(
            model_content=Path(path).read_bytes(), num_threads=threads, experimental_op_resolver_type=resolver
        )
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError, OSError) as error:
        raise UserError(f"{path}: not a readable TFLite model ({error})") from error
    source, sink = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    is_int8 = source["dtype"].__name__ == "int8"

    def run(window):
        interpreter.set_tensor(source["index"], to_int8(window, *source["quantization"]) if is_int8 else window)
        interpreter.invoke()
        embedding = interpreter.get_tensor(sink["index"])
        return from_int8(embedding, *sink["quantization"]) if is_int8 else embedding

    return Session(run)


def inspect_model(path):
    """What is in a `.tflite` model.

    Returns
    -------
    dict
        `ops`: operators by kind; `undelegated`: in an int8 model, kinds of operators that still touch floats (None
        in a float model); `input`, `output`: shape, dtype, scale and zero point (None: float).
    """
    with quietly():
        from ai_edge_litert import schema_py_generated as schema

    def names(enum):
        return {number: name for name, number in vars(enum).items() if isinstance(number, int)}

    model = schema.ModelT.InitFromPackedBuf(Path(path).read_bytes(), 0)
    graph, kinds, dtypes = model.subgraphs[0], names(schema.BuiltinOperator), names(schema.TensorType)
    ops, floats = Counter(), set()
    for operator in graph.operators:
        kind = kinds[model.operatorCodes[operator.opcodeIndex].builtinCode]
        ops[kind] += 1
        if any(dtypes[graph.tensors[i].type] == "FLOAT32" for i in (*operator.inputs, *operator.outputs) if i >= 0):
            floats.add(kind)
    ends = {"input": graph.tensors[graph.inputs[0]], "output": graph.tensors[graph.outputs[0]]}
    described = {side: describe(tensor, dtypes) for side, tensor in ends.items()}
    is_int8 = described["input"]["dtype"] == "int8"
    return {"ops": dict(ops), "undelegated": sorted(floats) if is_int8 else None, **described}


def describe(tensor, dtypes):
    """Shape, dtype, scale and zero point of a tensor of a flatbuffer."""
    dtype = dtypes[tensor.type].lower()
    scale, zero_point = (
        (float(tensor.quantization.scale[0]), int(tensor.quantization.zeroPoint[0]))
        if dtype == "int8"
        else (None, None)
    )
    return {"shape": tensor.shape.tolist(), "dtype": dtype, "scale": scale, "zero_point": zero_point}
