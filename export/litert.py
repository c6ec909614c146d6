"""LiteRT: `.tflite` for phones, and int8 throughout (input and output too) for microcontrollers and NPUs."""

import tempfile
from collections import Counter
from functools import lru_cache
from pathlib import Path

import torch

from xmae.errors import UserError
from xmae.export.session import Session, from_int8, to_int8
from xmae.export.trace import naming_layers, traced
from xmae.files import atomic_file
from xmae.quantize.graph import as_input, input_shape
from xmae.quantize.native import one_thread, quietly

SUFFIX = ".tflite"
RECIPES = {  # of ai-edge-quantizer, by precision
    "int8": "static_wi8_ai8",
    "int16x8": "static_wi8_ai16",
    "dynamic-int8": "dynamic_wi8_afp32",
    "weight-int8": "weight_only_wi8_afp32",
    "weight-int4": "weight_only_wi4_afp32",
}
PRECISIONS = ("fp32", *RECIPES)


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
        "fp32"; "int8" (weights per channel, activations per tensor, int8 input and output); "int16x8" (activations,
        input and output in 16 bits); "dynamic-int8" (activations get their range when it runs); "weight-int8",
        "weight-int4" (per channel; arithmetic stays float).
    calibration : float32 array, shape (n, 1000), optional
        Scaled training windows, for int8 and int16x8: the smallest and largest values on them set the ranges.

    Raises
    ------
    UserError
        If litert-torch or ai-edge-quantizer is not installed, an operator cannot be converted (it and its layer are
        named), a shape or a branch depends on the signal, or the file cannot be written.
    """
    model = convert(module)
    if precision != "fp32":
        model = quantize(model, precision, calibration)
    with atomic_file(path) as temporary:
        temporary.write_bytes(model)


@lru_cache(maxsize=1)  # fp32 and int8 start from the same conversion, which takes seconds
def convert(module):
    """The float flatbuffer of a graph, as bytes."""
    import litert_torch

    with tempfile.TemporaryDirectory() as folder, naming_layers(traced(module, "litert"), "litert"):
        path = Path(folder) / "float.tflite"
        litert_torch.convert(module, (torch.zeros(input_shape(module)),)).export(str(path))
        return path.read_bytes()


def quantize(model, precision, calibration):
    """A float flatbuffer as one of another precision.

    The quantizer's own `calibrate` follows a moving average of each range and clips what is rare; so the ranges are
    collected here, as plain minimum and maximum, by the runtime's built-in profiler.
    """
    from ai_edge_quantizer import calibrator, quantizer, recipe, recipe_manager
    from ai_edge_quantizer.utils import qsv_utils

    rules = getattr(recipe, RECIPES[precision])()
    if not RECIPES[precision].startswith("static"):
        return bytes(quantizer.Quantizer(model, rules).quantize().quantized_model)
    manager = recipe_manager.RecipeManager()
    manager.load_quantization_recipe(rules)
    ranges = calibrator.Calibrator(
        model,
        num_threads=1,
        mode=calibrator.CalibrationMode.CALIBRATION_PROFILER_BASED,
        qsv_update_func=qsv_utils.min_max_update,
    )
    ranges.calibrate({"serving_default": [{"args_0": as_input(row)} for row in calibration]}, manager)
    result = quantizer.Quantizer(model, rules).quantize(ranges.get_model_qsvs())
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
    is_integer = source["dtype"].__name__ != "float32"

    def run(window):
        codes = to_int8(window, *source["quantization"], source["dtype"]) if is_integer else window
        interpreter.set_tensor(source["index"], codes)
        interpreter.invoke()
        embedding = interpreter.get_tensor(sink["index"])
        return from_int8(embedding, *sink["quantization"]) if is_integer else embedding

    return Session(run)


def inspect_model(path):
    """What is in a `.tflite` model.

    Returns
    -------
    dict
        `ops`: operators by kind; `undelegated`: in an int8 or int16x8 model, kinds of operators that still touch
        floats (None in others); `input`, `output`: shape, dtype, scale and zero point (None: float).
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
    is_float = described["input"]["dtype"] == "float32"
    return {"ops": dict(ops), "undelegated": None if is_float else sorted(floats), **described}


def describe(tensor, dtypes):
    """Shape, dtype, scale and zero point of a tensor of a flatbuffer."""
    dtype = dtypes[tensor.type].lower()
    scale, zero_point = (
        (float(tensor.quantization.scale[0]), int(tensor.quantization.zeroPoint[0]))
        if dtype in ("int8", "int16")
        else (None, None)
    )
    return {"shape": tensor.shape.tolist(), "dtype": dtype, "scale": scale, "zero_point": zero_point}
