"""The formats that a bundle can hold: each is one module with `export`, `open_model`, `inspect_model` and `SUFFIX`."""

from xmae.errors import UserError
from xmae.export import executorch, litert, onnx

TARGETS = {"executorch": executorch, "litert": litert, "onnx": onnx}


def chosen_targets(names):
    """Names of formats from "all" or a list such as "litert,onnx".

    Raises
    ------
    UserError
        If one is unknown.
    """
    chosen = list(TARGETS) if names == "all" else [name.strip() for name in names.split(",")]
    if unknown := [name for name in chosen if name not in TARGETS]:
        raise UserError(f"unknown target {', '.join(map(repr, unknown))}; known: {', '.join(TARGETS)} or all")
    return chosen
