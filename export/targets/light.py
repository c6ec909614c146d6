"""Opening a bundle's files with NumPy and one runtime alone: no PyTorch, no SciPy.

Where PyTorch is installed, the targets themselves open their files; what they give is the same,
which a test holds. XMAE_LIGHT=1 asks for the light way all the same.
"""

import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from xmae.errors import UserError
from xmae.export.targets.session import Session, from_int8, to_int8


def is_light():
    """Tell whether to run without PyTorch: it is not installed or not wanted."""
    return os.environ.get("XMAE_LIGHT") == "1" or find_spec("torch") is None


def open_light(path, format, threads=1):
    """Open a file of a bundle without PyTorch.

    Parameters
    ----------
    path : str or Path
        The file.
    format : str
        "litert" or "onnx".
    threads : int
        Threads of the runtime.

    Returns
    -------
    Session

    Raises
    ------
    UserError
        If the format needs the full package, its runtime is not installed, or the file is damaged.
    """
    if format not in OPENERS:
        known = ", ".join(OPENERS)
        raise UserError(f"{path}: {format} needs PyTorch; the light runtime opens {known}")
    try:
        return Session(OPENERS[format](Path(path).read_bytes(), threads))
    except ImportError as error:
        raise UserError(f"{error.name} is not installed; pip install 'xmae[lite]'") from error
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"{path}: not a readable file for {format} ({error})") from error


def open_litert(content, threads):
    """Open a `.tflite` in LiteRT: a function from one window to one embedding."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content, num_threads=threads)
    interpreter.allocate_tensors()
    return litert_runner(interpreter)


def litert_runner(interpreter):
    """Return a function from one window to one embedding for an interpreter with allocated
    tensors.
    """
    source, sink = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def run(window):
        floats = source["dtype"] is np.float32
        codes = window if floats else to_int8(window, *source["quantization"], source["dtype"])
        interpreter.set_tensor(source["index"], codes)
        interpreter.invoke()
        row = interpreter.get_tensor(sink["index"])
        return row if sink["dtype"] is np.float32 else from_int8(row, *sink["quantization"])

    return run


def open_onnx(content, threads):
    """Open an `.onnx` in ONNX Runtime: a function from one window to one embedding."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3  # errors only
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda window: session.run(None, {name: window})[0]


OPENERS = {"litert": open_litert, "onnx": open_onnx}
