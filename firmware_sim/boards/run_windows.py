"""A model on Arm Linux: RUNTIME MODEL IN OUT, windows of 1000 in, embeddings out, marks around each
inference.

Runs inside the small Arm system, with nothing of xmae; the marks are for `boards/count_user.c`.
"""

import ctypes
import os
import sys

import numpy as np

mark = ctypes.CDLL(None).syscall


def litert(path):
    """Open a model in LiteRT or tflite-runtime: the type of a window, and functions that set it,
    run, and get the int8 embedding.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        from tflite_runtime.interpreter import Interpreter

    interpreter = Interpreter(model_path=path, num_threads=1)
    interpreter.allocate_tensors()
    source, sink = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def put(window):
        interpreter.set_tensor(source["index"], window.reshape(source["shape"]))

    return np.int8, put, interpreter.invoke, lambda _: interpreter.get_tensor(sink["index"])


def onnx(path):
    """Open a model in ONNX Runtime, which takes and gives float32; see `litert`."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before the import
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed, name = {}, session.get_inputs()[0].name

    def put(window):
        feed[name] = window.reshape(1, 1, 1, -1)

    return np.float32, put, lambda: session.run(None, feed), lambda result: result[0]


runtime, model, source, sink = sys.argv[1:]
dtype, put, invoke, get = {"litert": litert, "onnx": onnx}[runtime](model)
windows = np.fromfile(source, dtype).reshape(-1, 1000)
put(windows[0])
invoke()  # the first one also makes buffers and the like
with open(sink, "wb") as file:
    for window in windows:
        put(window)
        mark(5050, 0x5050, 1, 0, 0, 0, 0)
        result = invoke()
        mark(5050, 0x5050, 2, 0, 0, 0, 0)
        file.write(get(result).tobytes())
