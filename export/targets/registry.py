"""All targets, and which of them are asked for.

Importing this module imports every module of this folder, and those of other packages that name
theirs as entry points of the group "xmae.targets". Each makes its targets known; see
`xmae.export.targets.base`.
"""

from importlib import import_module
from importlib.metadata import entry_points
from itertools import chain
from pkgutil import iter_modules

from xmae.errors import UserError
from xmae.export import targets
from xmae.export.targets.base import TARGETS, is_conv_student

for module in iter_modules(targets.__path__, f"{targets.__name__}."):
    if module.name != __name__:
        import_module(module.name)
for point in entry_points(group="xmae.targets"):
    point.load()

DEFAULT = "executorch,litert,onnx"  # what runs on this machine
# C99 written from the int8 student for LiteRT, not a format of its own; so it brings that along
SOURCE = "c"


def known_targets():
    """Return the names that `--targets` accepts, without "all"."""
    return (*TARGETS, SOURCE)


def known_precisions():
    """Return the names of the precisions of all targets, each once."""
    return tuple(
        dict.fromkeys(chain.from_iterable(target.precisions for target in TARGETS.values()))
    )


def chosen_targets(names):
    """Return the names of formats from "all" or a list such as "litert,onnx".

    Raises
    ------
    UserError
        If one is unknown.
    """
    known = known_targets()
    chosen = list(known) if names == "all" else as_list(names)
    if unknown := [name for name in chosen if name not in known]:
        raise UserError(
            f"unknown target {', '.join(map(repr, unknown))}; known: {', '.join(known)} or all"
        )
    return [*chosen, "litert"] if SOURCE in chosen and "litert" not in chosen else chosen


def chosen_precisions(names, formats):
    """Return the names of precisions from "all" or a list such as "fp32,int8".

    Raises
    ------
    UserError
        If one is known to none of the formats.
    """
    known = list(
        dict.fromkeys(
            chain.from_iterable(TARGETS[name].precisions for name in formats if name in TARGETS)
        )
    )
    chosen = known if names == "all" else as_list(names)
    if unknown := [name for name in chosen if name not in known]:
        raise UserError(
            f"no target has the precision {', '.join(map(repr, unknown))}; known: "
            f"{', '.join(known)} or all"
        )
    return chosen


def as_list(names):
    """Return the names in a list such as "onnx, litert", each once."""
    return list(dict.fromkeys(name.strip() for name in names.split(",")))


def takes(format, model, graph):
    """Tell whether a target, or the C source, supports a model ("teacher" or a student)."""
    if format == SOURCE:
        return is_conv_student(model, graph)
    return TARGETS[format].takes(model, graph)


def runs_here(format):
    """Tell whether this machine has a runtime for a format."""
    return format in TARGETS and TARGETS[format].runs_here


def keeps_floats(format):
    """Tell whether a format can keep some layers in float, for a drift budget."""
    return format in TARGETS and TARGETS[format].compare_layers is not None
