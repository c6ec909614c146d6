"""Files that compute by themselves, opened with as little trust as each format allows.

ONNX is data: a graph of known operators, read from memory, so that it can name no other file.
TorchScript and torch.export are programs in restricted languages. What in them could run Python is
refused before they are opened; what is left is said in docs/adopt.md.
"""

import io
import json
import os
import re
import zipfile
from contextlib import contextmanager

import numpy as np
import torch

from xmae.errors import UserError

SUFFIXES = {".onnx": "onnx", ".pt2": "torch-export", ".ts": "torchscript", ".pt": "torchscript"}
# sizes of a graph, which PyTorch evaluates: Max(Integer(1), Symbol('s31', integer=True)); names of
# SymPy's classes begin with a capital, those of Python's functions do not
SIZE = re.compile(
    r"(?:'[su]\d+'|[A-Z][A-Za-z]*(?![A-Za-z_.])|[a-z]+=(?=True|False)|\d+|[ +*/(),-])*"
)
FILE_OPERATORS = ("aten::save", "aten::from_file", "aten::load", "prim::PythonOp")


def open_program(kind, content):
    """Open a program: a function from inputs (B, 1, n_times) to its output or outputs.

    Parameters
    ----------
    kind : str
        "onnx", "torchscript" or "torch-export".
    content : bytes
        The file.

    Raises
    ------
    UserError
        If it is damaged, holds what could run Python, or its runtime is not installed.
    """
    try:
        return {"onnx": open_onnx, "torchscript": open_script, "torch-export": open_export}[kind](
            content
        )
    except UserError:
        raise
    except ImportError as error:
        raise UserError(f"{error.name} is not installed; pip install 'xmae[edge]'") from error
    except Exception as error:  # each of the three libraries raises its own dozen of types
        raise UserError(f"damaged or no {kind} file ({type(error).__name__})") from error


def open_onnx(content):
    """Open an `.onnx` file in ONNX Runtime; it runs window by window if its batch is fixed."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    (source,) = session.get_inputs()
    fixed = isinstance(source.shape[0], int)

    def run(x):
        inputs = x.detach().cpu().numpy().astype(np.float32)
        parts = np.split(inputs, len(inputs)) if fixed else [inputs]
        rows = [session.run(None, {source.name: part}) for part in parts]
        return [
            torch.from_numpy(np.concatenate(outputs)).to(x.device)
            for outputs in zip(*rows, strict=True)
        ]

    return run


def open_script(content):
    """Open a TorchScript file, unless it reaches for files or Python."""
    module = torch.jit.load(io.BytesIO(content), map_location="cpu").eval()
    if found := [name for name in FILE_OPERATORS if name in str(module.inlined_graph)]:
        raise UserError(f"the TorchScript file uses {', '.join(found)}, which is refused")
    return lambda x: module(x)  # no module: its weights are in the file's bytes already


def open_export(content):
    """Open a `.pt2` file of torch.export, which must have no pickled objects and plain sizes
    only.
    """
    refuse_code(content)
    with weights_only():
        program = torch.export.load(io.BytesIO(content))
    module = program.module(check_guards=False)  # guards are lines of Python
    (name,) = program.graph_signature.user_inputs
    node = next(node for node in program.graph.nodes if node.name == name)
    if not isinstance(node.meta["val"].shape[0], int):
        return lambda x: module(x)
    size = node.meta["val"].shape[0]

    def run(x):
        if len(x) % size:
            raise UserError(f"the program was exported for batches of {size}; export it with 1")
        rows = [module(part) for part in x.split(size)]
        if isinstance(rows[0], torch.Tensor):
            return torch.cat(rows)
        return [torch.cat(outputs) for outputs in zip(*rows, strict=True)]

    return run


def refuse_code(content):
    """Raise a `UserError` if a `.pt2` file has pickled objects, or sizes that are not plain
    sums.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = archive.namelist()
        if custom := [name for name in names if re.search("custom_obj|opaque", name)]:
            raise UserError(f"the .pt2 file holds objects of its own ({custom[0]}); refused")
        graphs = [archive.read(name) for name in names if re.search(r"models/[^/]*\.json$", name)]
    for text in sizes_in([json.loads(graph) for graph in graphs]):
        if not SIZE.fullmatch(text):
            raise UserError(f"the .pt2 file has a size that is no plain sum: {text[:60]!r}")


def sizes_in(value):
    """Return all size expressions in the JSON of a graph."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "expr_str" and isinstance(inner, str):
                yield inner
            else:
                yield from sizes_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from sizes_in(inner)


@contextmanager
def weights_only():
    """Turn on PyTorch's own switch inside a `with` block: whatever is loaded makes tensors and
    plain values only.
    """
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
