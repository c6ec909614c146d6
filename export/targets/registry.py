"""The formats that a bundle can hold: each is one module (or object) with the same names.

`export(module, path, precision, calibration, observer)`, `open_model(path, threads)`,
`inspect_model(path)`, `SUFFIX` of the file's name and `PRECISIONS`. Targets for devices also have
`RUNS_HERE = False` (this machine cannot run the file, or only to check it) and `CONVOLUTIONS_ONLY =
True` if they lack the operators of attention. Those without `RUNS_HERE` can leave layers in float,
for a drift budget, and look into their int8 files, for `xmae quantize`: their `export` also takes
`keep` (names of layers), and they have `compare_layers(module, path, calibration, observer, keep,
ppg)`.
"""

from xmae.errors import UserError
from xmae.export.targets import cortex_m, executorch, litert, onnx
from xmae.export.targets.ethos_u import EthosU
from xmae.export.targets.vela import Vela
from xmae.quantize.graph import ConvGraph

TARGETS = {
    "executorch": executorch,
    "litert": litert,
    "onnx": onnx,
    "cortex-m": cortex_m,
    "ethos-u55": EthosU("ethos-u55-128"),
    "ethos-u65": EthosU("ethos-u65-256"),
    "ethos-u85": EthosU("ethos-u85-256"),
    "vela-u55": Vela("ethos-u55-128"),
    "vela-u65": Vela("ethos-u65-256"),
    "vela-u85": Vela("ethos-u85-256"),
}
DEFAULT = "executorch,litert,onnx"  # what runs on this machine
# C99 written from the int8 student for LiteRT, not a format of its own; so it brings that along
SOURCE = "c"


def chosen_targets(names):
    """Names of formats from "all" or a list such as "litert,onnx".

    Raises
    ------
    UserError
        If one is unknown.
    """
    known = (*TARGETS, SOURCE)
    chosen = list(known) if names == "all" else as_list(names)
    if unknown := [name for name in chosen if name not in known]:
        raise UserError(
            f"unknown target {', '.join(map(repr, unknown))}; known: {', '.join(known)} or all"
        )
    return [*chosen, "litert"] if SOURCE in chosen and "litert" not in chosen else chosen


def chosen_precisions(names, formats):
    """Names of precisions from "all" or a list such as "fp32,int8".

    Raises
    ------
    UserError
        If one is known to none of the formats.
    """
    known = list(
        dict.fromkeys(p for name in formats if name in TARGETS for p in TARGETS[name].PRECISIONS)
    )
    chosen = known if names == "all" else as_list(names)
    if unknown := [name for name in chosen if name not in known]:
        raise UserError(
            f"no target has the precision {', '.join(map(repr, unknown))}; known: {', '.join(known)} or all"
        )
    return chosen


def as_list(names):
    """Names of a list such as "onnx, litert", each once."""
    return list(dict.fromkeys(name.strip() for name in names.split(",")))


def takes(format, model, graph):
    """Whether a target is meant for a model ("teacher" or a student); those for microcontrollers:
    conv-only ones.
    """
    conv_student = model != "teacher" and isinstance(graph, ConvGraph)
    return conv_student or not (
        format == SOURCE or getattr(TARGETS[format], "CONVOLUTIONS_ONLY", False)
    )


def runs_here(format):
    """Whether this machine has a runtime for a format."""
    return format != SOURCE and getattr(TARGETS[format], "RUNS_HERE", True)
