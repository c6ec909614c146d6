"""Where a model's time goes: the runtime's own profiler, operator by operator, on this machine.

- PyTorch: `torch.profiler`.
- ExecuTorch: an ETDump, read by `executorch.devtools.Inspector`; XNNPACK's operators are in it.
- LiteRT: the profiler of the C library in its Python package (`litert/c/litert_profiler.h`), called
  through `ctypes`; XNNPACK's operators are in it.
- ONNX Runtime: the trace of `SessionOptions.enable_profiling`.

Profiling costs time, most where operators are small, and ExecuTorch and LiteRT cut each time down
to whole microseconds: shares say where to look, the latency without a profiler says how long it
takes.
"""

import ctypes
import json
import tempfile
from collections import defaultdict
from importlib.resources import files
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from scipy.stats import trim_mean

from xmae.benchmarks.harness.sessions import weight_files
from xmae.models import load_encoder
from xmae.native import quietly
from xmae.quantize.graph import INPUT_SHAPE

WARM_UP, RUNS = 10, 50
# kinds of event of LiteRT's profiler (tflite/core/api/profiler.h)
OPERATOR, OPERATOR_INSIDE_DELEGATE = 2, 8


@quietly()
def per_layer(bundle, entry, ppg):
    """Return the mean time of each operator of a model on one thread, in running order.

    Parameters
    ----------
    bundle : Bundle
    entry : Entry
        One of `find_entries`.
    ppg : float32 array, shape (1000,)
        A window in [-1, 1].

    Returns
    -------
    list of dict
        `name`, `op` (what the runtime calls its kind) and `us` (microseconds, mean of the middle
        half of 50 runs).
    """
    window = np.ascontiguousarray(ppg, np.float32).reshape(INPUT_SHAPE)
    if entry.format == "pytorch":
        return pytorch(load_encoder(weight_files(bundle)[entry.model]).eval(), window)
    return {"executorch": executorch, "litert": litert, "onnx": onnx}[entry.format](
        bundle.path / entry.file, window
    )


@torch.no_grad()
def pytorch(encoder, window):
    """Return the operators of an encoder in eager PyTorch: self time by kind, in order of first
    use.
    """
    x = torch.from_numpy(window[0])
    for _ in range(WARM_UP):
        encoder(x)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        for _ in range(RUNS):
            encoder(x)
    first = {}
    for event in sorted(profiler.events(), key=lambda event: event.time_range.start):
        first.setdefault(event.name, len(first))
    rows = sorted(profiler.key_averages(), key=lambda row: first.get(row.key, len(first)))
    return [
        {"name": row.key, "op": row.key, "us": row.self_cpu_time_total / RUNS}
        for row in rows
        if row.self_cpu_time_total > 0 and not row.key.startswith("[")
    ]


def executorch(path, window):
    """Return the operators of a `.pte` from an ETDump, those inside XNNPACK under XNNPACK's
    names.
    """
    from executorch.devtools import Inspector
    from executorch.extension.pybindings.portable_lib import _load_for_executorch

    module = _load_for_executorch(str(path), enable_etdump=True)
    for _ in range(WARM_UP + RUNS):
        module.run_method("forward", [torch.from_numpy(window)])
    with tempfile.TemporaryDirectory() as folder:
        dump = Path(folder) / "dump.etdp"
        module.write_etdump_result_to_file(str(dump))
        blocks = Inspector(etdump_path=str(dump)).event_blocks
    events = list(chain.from_iterable(block.events for block in blocks if block.name == "Execute"))
    whole = ("DELEGATE_CALL", "Method::execute", "OPERATOR_CALL")  # spans that hold other events
    return [
        {
            "name": event.name,
            "op": event.name.split(" #")[0],
            "us": 1e3 * middle(event.perf_data.raw[WARM_UP:]),
        }
        for event in events
        if event.perf_data and event.name not in whole
    ]


def onnx(path, window):
    """Return the operators of an `.onnx` model from ONNX Runtime's trace."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "trace")
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        name = session.get_inputs()[0].name
        for _ in range(WARM_UP + RUNS):
            session.run(None, {name: window})
        trace = json.loads(Path(session.end_profiling()).read_text())
    durations, ops = defaultdict(list), {}
    for event in trace:
        if event["cat"] == "Node" and event["name"].endswith("_kernel_time"):
            name = event["name"].removesuffix("_kernel_time")
            durations[name].append(event["dur"])
            ops[name] = event["args"]["op_name"]
    return [
        {"name": name, "op": ops[name], "us": middle(us[-RUNS:])} for name, us in durations.items()
    ]


def litert(path, window):
    """Return the operators of a `.tflite` from LiteRT's profiler, those inside XNNPACK under
    XNNPACK's names.
    """
    from xmae.export.targets.litert import inspect_model
    from xmae.export.targets.session import to_int8

    ends = inspect_model(path)
    source = ends["input"]
    dtype = np.dtype(source["dtype"])
    data = (
        window
        if dtype.kind == "f"
        else to_int8(window, source["scale"], source["zero_point"], dtype)
    )
    durations = defaultdict(list)
    for event in LiteRT().profile(Path(path).read_bytes(), data, ends["output"]):
        if event.kind in (OPERATOR, OPERATOR_INSIDE_DELEGATE):
            durations[event.kind, event.index, event.tag.decode()].append(event.us)
    return [
        {"name": f"{op} #{index}", "op": op, "us": middle(us)}
        for (_, index, op), us in durations.items()
    ]


def middle(us):
    """Return the mean of the middle half of the times, which other processes hardly disturb."""
    return float(trim_mean(us, 0.25))


class Layout(ctypes.Structure):
    """`LiteRtLayout`: rank and sizes of a tensor."""

    _fields_ = [
        ("rank", ctypes.c_uint32, 7),
        ("has_strides", ctypes.c_uint32, 1),
        ("dimensions", ctypes.c_int32 * 8),
        ("strides", ctypes.c_uint32 * 8),
    ]


class TensorType(ctypes.Structure):
    """`LiteRtRankedTensorType`: element type (TFLite's numbers) and layout."""

    _fields_ = [("element", ctypes.c_int), ("layout", Layout)]

    def __init__(self, dtype, shape):
        super().__init__({"float32": 1, "int8": 9, "int16": 7}[dtype])
        self.layout.rank = len(shape)
        self.layout.dimensions[: len(shape)] = shape


class Event(ctypes.Structure):
    """`ProfiledEventData` of `litert/c/litert_profiler_event.h`: an operator's name, number and
    microseconds.
    """

    _fields_ = [
        ("tag", ctypes.c_char_p),
        ("kind", ctypes.c_int),
        ("start_us", ctypes.c_uint64),
        ("us", ctypes.c_uint64),
        ("memory", ctypes.c_size_t * 6),
        ("index", ctypes.c_int64),
        ("subgraph", ctypes.c_int64),
        ("source", ctypes.c_int),
    ]


class LiteRT:
    """The few functions of LiteRT's C library that profiling needs; each must return status 0."""

    def __init__(self):
        self.library = ctypes.CDLL(str(files("ai_edge_litert") / "libLiteRt.so"))

    def call(self, name, *arguments):
        """Call a function that returns a status."""
        if status := getattr(self.library, name)(*arguments):
            raise RuntimeError(f"{name} failed with status {status}")

    def make(self, name, *arguments):
        """Call a function whose last parameter is a pointer for the object it creates; return that
        object.
        """
        made = ctypes.c_void_p()
        self.call(name, *arguments, ctypes.byref(made))
        return made

    def profile(self, model, data, sink):
        """Run a flatbuffer `RUNS` times on one thread and return the profiler's events: an array of
        `Event`.

        Parameters
        ----------
        model : bytes
        data : array
            The input.
        sink : dict
            `shape` and `dtype` of the output.
        """
        size, zero = ctypes.c_size_t, ctypes.c_size_t(0)
        content = ctypes.create_string_buffer(model, len(model))  # must outlive the model
        environment, compiled = self.compile(content, len(model))
        profiler = self.make("LiteRtCompiledModelGetProfiler", compiled)
        source = self.buffer(environment, compiled, "Input", data.shape, str(data.dtype))
        target = self.buffer(environment, compiled, "Output", sink["shape"], sink["dtype"])
        address = ctypes.c_void_p()
        self.call("LiteRtLockTensorBuffer", source, ctypes.byref(address), 1)  # to write
        ctypes.memmove(address, data.tobytes(), data.nbytes)
        self.call("LiteRtUnlockTensorBuffer", source)
        ends = [(ctypes.c_void_p * 1)(buffer) for buffer in (source, target)]

        def run(times):
            for _ in range(times):
                self.call(
                    "LiteRtRunCompiledModel", compiled, zero, size(1), ends[0], size(1), ends[1]
                )

        run(WARM_UP)
        self.call("LiteRtStartProfiler", profiler)
        run(RUNS)
        self.call("LiteRtStopProfiler", profiler)
        count = ctypes.c_int()
        self.call("LiteRtGetNumProfilerEvents", profiler, ctypes.byref(count))
        events = (Event * count.value)()
        self.call("LiteRtGetProfilerEvents", profiler, count, ctypes.byref(events))
        return events

    def compile(self, content, n_bytes):
        """Compile a flatbuffer for the CPU with the profiler on: environment and compiled model."""
        libc = ctypes.CDLL(None)
        libc.strdup.restype = ctypes.c_void_p
        free = ctypes.cast(libc.free, ctypes.c_void_p)
        environment = self.make("LiteRtCreateEnvironment", 0, None)
        size = ctypes.c_size_t(n_bytes)
        loaded = self.make("LiteRtCreateModelFromBuffer", environment, content, size)
        options = self.make("LiteRtCreateOptions")
        self.call("LiteRtSetOptionsHardwareAccelerators", options, 1)  # the CPU
        payload = ctypes.c_void_p(libc.strdup(b"enable_profiling = true\n"))
        opaque = self.make("LiteRtCreateOpaqueOptions", b"runtime_options_string", payload, free)
        self.call("LiteRtAddOpaqueOptions", options, opaque)
        return environment, self.make("LiteRtCreateCompiledModel", environment, loaded, options)

    def buffer(self, environment, compiled, side, shape, dtype):
        """Make a buffer for the "Input" or the "Output" of a compiled model."""
        zero, kind = ctypes.c_size_t(0), TensorType(dtype, shape)
        needs = self.make(f"LiteRtGetCompiledModel{side}BufferRequirements", compiled, zero, zero)
        how = "LiteRtCreateManagedTensorBufferFromRequirements"
        return self.make(how, environment, ctypes.byref(kind), needs)
