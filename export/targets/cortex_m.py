"""ExecuTorch on Cortex-M: `.pte` whose operators are CMSIS-NN's, without a delegate.

The pip runtime has no `cortex_m::` kernels. So a file is checked by reading it back and running its
instructions one by one, in the memory that it plans, with the integer arithmetic that ExecuTorch
defines for each operator.
"""

import os

import torch

from xmae.export.targets.base import Target, register
from xmae.export.targets.environments import call_apart
from xmae.export.targets.executorch import inspect_model as inspect_pte
from xmae.export.targets.session import ApartSession
from xmae.export.targets.trace import naming_layers, operator_of, place_of, traced, unsupported
from xmae.files import atomic_file
from xmae.native import one_thread, quietly
from xmae.quantize.pt2e import observe

CORE = "M55"
# move bytes only
GLUE = ("aten::view_copy", "dim_order_ops::_clone_dim_order", "dim_order_ops::_to_dim_order_copy")


def export(module, path, precision, calibration=None, observer=None):
    """Write a graph as a `.pte` program of CMSIS-NN operators for Cortex-M55 (they also run on M4,
    M7, M33 and M85); see `Target.convert`.

    Int8 alone: weights per channel, activations per tensor; input and output stay float. Without an
    observer, its quantizer's (histogram) sets the ranges.
    """
    program = call_apart("arm", "xmae.export.targets.cortex_m:lower", module, calibration, observer)
    with atomic_file(path) as temporary:
        temporary.write_bytes(program)


@quietly()
@one_thread()
def lower(module, calibration, observer=None):
    """Return the program as bytes; runs in the environment "arm", whose serializer ExecuTorch's
    quantizer imports.
    """
    # isort: skip  (registers operators)
    from executorch.backends.cortex_m.edge_compile_config import cortex_m_edge_compile_config
    from executorch.backends.cortex_m.passes.cortex_m_pass_manager import CortexMPassManager
    from executorch.backends.cortex_m.quantizer.quantizer import CortexMQuantizer
    from executorch.backends.cortex_m.target_config import CortexM, CortexMTargetConfig
    from executorch.exir import to_edge
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    layout = torch.channels_last
    traced_module = traced(module.to(memory_format=layout), "cortex-m", layout)
    with naming_layers(module, "cortex-m"), torch.no_grad():
        observed = prepare_pt2e(traced_module.module(check_guards=False), CortexMQuantizer())
        windows = torch.from_numpy(calibration).view(-1, 1, 1, 1, calibration.shape[1])
        observe(observed, (window.to(memory_format=layout) for window in windows), observer)
        quantized = torch.export.export(convert_pt2e(observed), traced_module.example_inputs[0])
        edge = to_edge(quantized, compile_config=cortex_m_edge_compile_config())
        target = CortexMTargetConfig(cpu=CortexM[CORE])
        program = CortexMPassManager(edge.exported_program(), target_config=target).transform()
    refuse_foreign(program.graph)
    edge._edge_programs["forward"] = without_unused(program)
    return edge.to_executorch().buffer


def refuse_foreign(graph):
    """Raise a `UserError` that names the layers with operators other than CMSIS-NN's."""
    foreign = {}
    for node in graph.nodes:
        name = operator_of(node)
        if name and not name.startswith("cortex_m::") and name.partition(".")[0] not in GLUE:
            foreign.setdefault(name, place_of(node))
    if foreign:
        raise unsupported("cortex-m (CMSIS-NN)", foreign)


def without_unused(program):
    """Return a program without unused constants: the weights from before they were packed."""
    graph, signature = program.graph_module.graph, program.graph_signature
    for node in [node for node in graph.nodes if node.op == "placeholder" and not node.users]:
        for spec in [
            spec for spec in signature.input_specs if spec.target and spec.arg.name == node.name
        ]:
            signature.input_specs.remove(spec)
            program._state_dict.pop(spec.target, None)
            program._constants.pop(spec.target, None)
            graph.erase_node(node)
    program.graph_module.recompile()
    return program


def open_model(path, threads=1):
    """Open a `.pte` program for checking: its instructions are run one by one here, slowly.

    Parameters
    ----------
    path : str or Path
        The file.
    threads : int
        Not used.

    Returns
    -------
    Session
    """
    return ApartSession(
        lambda ppg: call_apart("arm", "xmae.export.targets.cortex_m:run", os.fspath(path), ppg)
    )


@quietly()
@one_thread()
@torch.no_grad()
def run(path, ppg):
    """Return the embeddings (n, D) of windows (n, 1000); runs in the environment "arm"."""
    import executorch.backends.cortex_m.quantizer.quantizer  # noqa: F401  (registers the operators)

    from xmae.export.targets.pte import Program

    program = Program(path)
    return torch.cat(
        [program(torch.from_numpy(window).view(1, 1, 1, -1)) for window in ppg]
    ).numpy()


def inspect_model(path):
    """Describe a `.pte` program; `undelegated` are operators other than CMSIS-NN's, `arena_bytes`
    is its memory plan.

    See `xmae.export.targets.executorch.inspect_model`.
    """
    from executorch.exir._serialize._program import deserialize_pte_binary

    found = inspect_pte(path)
    with open(path, "rb") as file:
        plan = deserialize_pte_binary(file.read()).program.execution_plan[0]
    foreign = sorted(name for name in found["ops"] if not name.startswith("cortex_m::"))
    return found | {"undelegated": foreign, "arena_bytes": sum(plan.non_const_buffer_sizes)}


@register
class CortexM(Target):
    """ExecuTorch with CMSIS-NN operators, for a microcontroller."""

    name = "cortex-m"
    suffix = "_cortex-m.pte"
    precisions = ("int8",)
    tools = ("executorch", "torchao")
    environment = "arm"
    runs_here = False
    convolutions_only = True  # attention has operators that CMSIS-NN does not
    convert = staticmethod(export)
    open = staticmethod(open_model)
    inspect = staticmethod(inspect_model)
