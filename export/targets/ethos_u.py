"""ExecuTorch on Ethos-U: `.pte` with the whole network as one stream of NPU commands, compiled by
Vela.

No open model of the NPU runs those commands. What can be run is what Vela was given: the network in
TOSA, Arm's specification of each operator to the bit, in Arm's reference model. It is kept beside
the program, as are Vela's estimates layer by layer.
"""

import csv
import os
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from xmae.errors import UserError
from xmae.export.targets.base import Target, register
from xmae.export.targets.environments import call_apart
from xmae.export.targets.executorch import inspect_model as inspect_pte
from xmae.export.targets.session import ApartSession, from_int8, to_int8
from xmae.export.targets.trace import naming_layers, operator_of, place_of, traced, unsupported
from xmae.export.targets.vela import summary
from xmae.files import atomic_file
from xmae.native import one_thread, quietly
from xmae.quantize.graph import INPUT_SHAPE
from xmae.quantize.pt2e import observe

BOUNDARY = (
    "quantized_decomposed::quantize_per_tensor",
    "quantized_decomposed::dequantize_per_tensor",
)  # float ends


class EthosU(Target):
    """ExecuTorch for an Ethos-U.

    Attributes
    ----------
    accelerator : str
        As Vela calls it: family and MAC units a cycle, "ethos-u55-128".
    """

    accelerator: str
    precisions = ("int8",)
    tools = ("executorch", "torchao", "ethos-u-vela")
    environment = "arm"
    runs_here = False
    convolutions_only = True

    def convert(self, module, path, precision, calibration=None, observer=None):
        """Write a graph as a `.pte` program; beside it `.tosa` (Vela's input) and `.csv` (its
        estimates); see `Target.convert`.

        Int8 alone: weights per channel, activations per tensor; input and output stay float.
        Without an observer, Arm's quantizer's (histogram) sets the ranges.
        """
        parts = call_apart(
            "arm",
            "xmae.export.targets.ethos_u:lower",
            module,
            calibration,
            self.accelerator,
            observer,
        )
        for suffix, content in parts.items():
            with atomic_file(Path(path).with_suffix(suffix)) as temporary:
                temporary.write_bytes(content)

    def open(self, path, threads=1):
        """Open a program for checking: Arm's reference model runs its TOSA graph, slowly."""
        return ApartSession(
            lambda ppg: call_apart("arm", "xmae.export.targets.ethos_u:run", os.fspath(path), ppg)
        )

    def inspect(self, path):
        """Describe a program as `xmae.export.targets.executorch.inspect_model`, with `estimated` by
        Vela.
        """
        with open(Path(path).with_suffix(".csv"), newline="") as file:
            total = list(csv.DictReader(file))[-1]
        found = inspect_pte(path)
        left = [name for name in found["undelegated"] if name not in BOUNDARY]
        return found | {"undelegated": left, "estimated": summary(total)}


@register
class EthosU55(EthosU):
    """Ethos-U55 with 128 MAC units."""

    name = "ethos-u55"
    suffix = "_ethos-u55.pte"
    accelerator = "ethos-u55-128"


@register
class EthosU65(EthosU):
    """Ethos-U65 with 256 MAC units."""

    name = "ethos-u65"
    suffix = "_ethos-u65.pte"
    accelerator = "ethos-u65-256"


@register
class EthosU85(EthosU):
    """Ethos-U85 with 256 MAC units."""

    name = "ethos-u85"
    suffix = "_ethos-u85.pte"
    accelerator = "ethos-u85-256"


@quietly()
@one_thread()
def lower(module, calibration, accelerator, observer=None):
    """Return the files' bytes by suffix: the program, its TOSA graph, Vela's summary; runs in the
    environment "arm".
    """
    import ethosu.vela  # noqa: F401  (a plain word if it is missing)
    from executorch.backends.arm.ethosu import EthosUCompileSpec, EthosUPartitioner
    from executorch.backends.arm.quantizer import EthosUQuantizer, get_symmetric_quantization_config
    from executorch.exir import to_edge_transform_and_lower
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    program = traced(module, accelerator)
    with TemporaryDirectory() as folder, chdir(folder):
        compiler = EthosUCompileSpec(accelerator)
        # the program names it, and must be the same wherever it is made
        compiler.dump_intermediate_artifacts_to(".")
        quantizer = EthosUQuantizer(compiler)
        quantizer.set_global(get_symmetric_quantization_config(is_per_channel=True))
        with naming_layers(module, accelerator), torch.no_grad():
            observed = prepare_pt2e(program.module(check_guards=False), quantizer)
            observe(observed, torch.from_numpy(calibration).view(-1, *INPUT_SHAPE), observer)
            quantized = torch.export.export(convert_pt2e(observed), program.example_inputs[0])
            lowered = to_edge_transform_and_lower(
                quantized, partitioner=[EthosUPartitioner(compiler)]
            )
        refuse_leftovers(lowered.exported_program().graph, accelerator)
        return {
            ".pte": lowered.to_executorch().buffer,
            ".tosa": Path("out.tosa").read_bytes(),
            ".csv": next(Path("output").glob("*_summary_*.csv")).read_bytes(),
        }


def refuse_leftovers(graph, accelerator):
    """Raise a `UserError` that names the operators, with their layers, that would be left to the
    CPU.
    """
    left = {}
    for node in graph.nodes:
        name = operator_of(node)
        if name and not name.startswith(BOUNDARY):
            left.setdefault(name, place_of(node))
    if left:
        raise unsupported(accelerator, left)


@quietly()
def run(path, ppg):
    """Return the embeddings (n, D) of windows (n, 1000) by the TOSA graph beside a program; runs in
    the environment "arm".
    """
    import tosa_reference_model
    from executorch.exir._serialize._program import deserialize_pte_binary

    try:
        plan = deserialize_pte_binary(Path(path).read_bytes()).program.execution_plan[0]
        graph = Path(path).with_suffix(".tosa").read_bytes()
    except Exception as error:  # the parser fails on whatever the damage makes it meet
        raise UserError(
            f"{path}: not a readable ExecuTorch program ({type(error).__name__})"
        ) from error
    ends = [  # scale and zero point of the float ends: the arguments of the first and last call
        [next(iter(vars(plan.values[i].val).values())) for i in step.instr_args.args[1:3]]
        for step in (plan.chains[0].instructions[0], plan.chains[0].instructions[-1])
    ]
    rows = []
    for window in ppg:
        codes = to_int8(window.reshape(INPUT_SHAPE), *ends[0])
        (out,), status = tosa_reference_model.run(graph, [codes], verbosity="NONE")
        if status != tosa_reference_model.GraphStatus.TOSA_VALID:
            raise UserError(f"{path}: its TOSA graph is not valid ({status})")
        rows.append(from_int8(out, *ends[1]))
    return np.concatenate(rows)
