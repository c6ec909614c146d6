"""The formats that a bundle can hold: each is one module with `export`, `open_model`, `inspect_model` and `SUFFIX`."""

from xmae.errors import UserError
from xmae.export import executorch, litert, onnx

TARGETS = {"executorch": executorch, "litert": litert, "onnx": onnx}
SOURCE = "c"  # C99 written from the int8 student for LiteRT, not a format of its own; so it brings that along


def chosen_targets(names):
    """Names of formats from "all" or a list such as "litert,onnx"; "c" is had by name only.

    Raises
    ------
    UserError
        If one is unknown.
    """
    chosen = list(TARGETS) if names == "all" else [name.strip() for name in names.split(",")]
    if unknown := [name for name in chosen if name not in (*TARGETS, SOURCE)]:
        raise UserError(f"unknown target {', '.join(map(repr, unknown))}; known: {', '.join(TARGETS)}, {SOURCE} or all")
    return [*chosen, "litert"] if SOURCE in chosen and "litert" not in chosen else chosen
