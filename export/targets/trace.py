"""A network as the graph that converters read, and their complaints as one line: layer, target,
what to do.
"""

import re
from contextlib import contextmanager

import torch
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from xmae.errors import UserError
from xmae.quantize.graph import input_shape
from xmae.quantize.pt2e import layer_of


def traced(module, target, memory_format=torch.contiguous_format):
    """Trace an exportable graph with its fixed input shape.

    Parameters
    ----------
    module : torch.nn.Module
        From `exportable`, input (1, 1, 1, 1000).
    target : str
        For messages.
    memory_format : torch.memory_format
        Memory format of the input.

    Returns
    -------
    torch.export.ExportedProgram

    Raises
    ------
    UserError
        If a shape is not fixed, or a branch depends on the signal.
    """
    shape = tuple(input_shape(module))
    if not all(isinstance(n, int) and n > 0 for n in shape):
        raise UserError(
            f"{target}: input shape {shape} is not fixed; every target takes one window of one "
            "length"
        )
    try:
        program = torch.export.export(module, (torch.zeros(shape).to(memory_format=memory_format),))
    except GuardOnDataDependentSymNode as error:
        why = str(error).splitlines()[0]
        raise UserError(
            f"{target}: the network has a branch or a shape that depends on the signal ({why}); "
            "every target runs one fixed graph, so compute both sides and choose with torch.where"
        ) from error
    for node in program.graph.nodes:
        values = node.meta.get("val")
        if isinstance(values, torch.Tensor) and not all(isinstance(n, int) for n in values.shape):
            raise UserError(
                f"{target}: {node.target} of layer {place_of(node)} gives a shape that depends on "
                "the signal; every target runs fixed shapes, so mask values instead of picking "
                "them"
            )
    return program


@contextmanager
def naming_layers(module, target):
    """Turn anything that a converter or quantizer raises in the body into a `UserError` that names
    layer and target.

    They raise what they like (assertions among it), with the operator's name somewhere in the text;
    `module` is traced to find its layer.
    """
    try:
        yield
    except (UserError, ModuleNotFoundError):
        raise
    except Exception as error:
        text = f"{error} {error.__cause__ or ''}"
        named = {plain(name) for name in re.findall(r"(?:aten|prims)(?:\.|::)(\w+)", text)}
        for node in traced(module, target).graph.nodes if named else ():
            name = operator_of(node)
            if plain(name.split("::")[-1].split(".")[0]) in named:
                raise unsupported(target, {name: place_of(node)}) from error
        first = next(iter(str(error).strip().splitlines()), "")
        raise UserError(
            f"{target}: cannot convert the network ({type(error).__name__}: {first[:200]})"
        ) from error


def unsupported(target, operators):
    """Return the `UserError` for operators, {name: layer}, that a target does not support."""
    found = ", ".join(f"{name} of layer {layer}" for name, layer in list(operators.items())[:3])
    more = f" and {len(operators) - 3} more" if len(operators) > 3 else ""
    return UserError(
        f"{target} has no {found}{more}; replace it in the encoder, take a convolutional student "
        "(`xmae distill`), "
        "or leave this target out (--targets)"
    )


def operator_of(node):
    """Return the operator of a node, with its overload if it has one ("aten::add.Tensor"); "" for a
    node that is not an operator.
    """
    schema = getattr(node.target, "_schema", None)
    return ".".join(filter(None, (schema.name, schema.overload_name))) if schema else ""


def place_of(node):
    """Return the place of a node for messages: its layer, or its own name outside any layer."""
    return layer_of(node) or node.name


def plain(name):
    """Return an operator's name without underscores, so that erf_inv and erfinv are equal."""
    return name.replace("_", "")
