"""ExecuTorch: `.pte` for phones and application processors, through the XNNPACK backend."""

import itertools
from collections import Counter
from pathlib import Path

import torch

from xmae.errors import UserError
from xmae.export.targets.base import Target, float_tensor, register
from xmae.export.targets.conversions import remembered
from xmae.export.targets.session import Session
from xmae.export.targets.trace import naming_layers, traced
from xmae.files import atomic_file
from xmae.native import one_thread, quietly
from xmae.quantize.layers import compare_graphs
from xmae.quantize.observers import MINMAX
from xmae.quantize.pt2e import quantize_graph


@quietly()
@one_thread()
def export(module, path, precision, calibration=None, observer=None, keep=()):
    """Write a graph as a `.pte` program; see `Target.convert`.

    Int8: weights per channel, activations per tensor; input and output stay float. A shape or a
    branch that depends on the signal is refused.
    """
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    program = traced(module, "executorch")
    with naming_layers(module, "executorch"):
        if precision == "int8":
            graph = int8_graph(module, calibration, observer, keep)
            program = torch.export.export(graph, program.example_inputs[0])
        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
        buffer = lowered.to_executorch().buffer
    with atomic_file(path) as temporary:
        temporary.write_bytes(buffer)


@remembered
def int8_graph(module, calibration, observer=None, keep=()):
    """Return the int8 graph of a graph; it is made once, for the file and for the comparison of its
    layers.
    """
    return quantize_graph(module, calibration, observer or MINMAX, keep)


def compare_layers(module, path, calibration, observer, keep, ppg):
    """Compare every operation of the int8 graph behind a program with float; see
    `xmae.quantize.layers`.

    The delegate that runs them on the device computes them all at once and shows none of them.
    """
    graph = int8_graph(module, calibration, observer, keep)
    return compare_graphs(module, graph, ppg)


@quietly()
def open_model(path, threads=1):
    """Open a `.pte` program.

    Parameters
    ----------
    path, threads
        As `Target.open`; the pool of threads is that of all sessions in this process.
    """
    from executorch.extension.pybindings.portable_lib import (
        _threadpool_get_thread_count,
        _unsafe_reset_threadpool,
    )
    from executorch.runtime import Runtime, Verification

    if _threadpool_get_thread_count() != threads:
        _unsafe_reset_threadpool(threads)
    try:
        program = Runtime.get().load_program(
            Path(path), verification=Verification.InternalConsistency
        )
        method = program.load_method("forward")
    except (RuntimeError, OSError) as error:
        raise UserError(f"{path}: not a readable ExecuTorch program ({error})") from error
    return Session(lambda window: method.execute([torch.from_numpy(window)])[0].numpy().copy())


@quietly()
def inspect_model(path):
    """Describe a `.pte` program.

    Returns
    -------
    dict
        `ops`: calls by kind ("XnnpackBackend" for a delegated subgraph); `undelegated`: operators
        left to the CPU's portable kernels; `input`, `output`: shape, dtype, scale and zero point
        (None: float).
    """
    from executorch.exir._serialize._program import deserialize_pte_binary

    plan = deserialize_pte_binary(Path(path).read_bytes()).program.execution_plan[0]
    steps = itertools.chain.from_iterable(part.instructions for part in plan.chains)
    calls = [step.instr_args for step in steps]
    names = [
        plan.delegates[call.delegate_index].id
        if hasattr(call, "delegate_index")
        else plan.operators[call.op_index].name
        for call in calls
        if hasattr(call, "delegate_index") or hasattr(call, "op_index")
    ]
    ops = Counter(names)
    tensors = {"input": plan.values[plan.inputs[0]].val, "output": plan.values[plan.outputs[0]].val}
    return {
        "ops": dict(ops),
        "undelegated": sorted(ops.keys() - {delegate.id for delegate in plan.delegates}),
        **{side: float_tensor(tensor.sizes) for side, tensor in tensors.items()},
    }


@register
class ExecuTorch(Target):
    """ExecuTorch with its XNNPACK backend."""

    name = "executorch"
    suffix = ".pte"
    precisions = ("fp32", "int8")
    tools = ("executorch", "torchao", "flatbuffers")
    convert = staticmethod(export)
    open = staticmethod(open_model)
    inspect = staticmethod(inspect_model)
    compare_layers = staticmethod(compare_layers)
