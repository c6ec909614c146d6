"""Signatures and docstrings of the verbs, read from their source, so that help need not wait for
PyTorch.

`xmae pretrain --help` wants a signature, a docstring and the names of a few choices. Importing the
module brings PyTorch and more, which takes seconds. Its source says the same.
"""

import ast
from functools import cache
from importlib.util import find_spec
from inspect import Parameter, Signature
from pathlib import Path

TYPES = {"str": str, "int": int, "float": float, "bool": bool, "list": list, "dict": dict}


class NotWritten(LookupError):
    """The value is computed when its module is imported, so it cannot be read from the source."""


def file_of(module: str) -> Path:
    """Return the source file of a module of this package, without importing anything below `xmae`.

    Examples
    --------
    >>> file_of("xmae.objectives.mae").name
    'mae.py'
    """
    first, *rest = module.split(".")[1:]
    spec = find_spec(f"xmae.{first}")
    if spec is None or spec.origin is None:
        raise NotWritten(module)
    path = Path(spec.origin)
    place = path.parent.joinpath(*rest) if path.name == "__init__.py" else path.with_suffix("")
    file = place.with_suffix(".py")
    return file if file.is_file() else place / "__init__.py"


@cache
def tree_of(file: Path) -> ast.Module:
    """Return the syntax tree of a source file."""
    try:
        return ast.parse(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise NotWritten(str(file)) from error


def function_in(module: str, name: str):
    """Read a function from its source: a stand-in with its docstring and signature.

    Raises
    ------
    NotWritten
        If it is not there, or a default or type is worked out.
    """
    for node in tree_of(file_of(module)).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return stand_in(module, node)
    raise NotWritten(f"{module}.{name}")


def stand_in(module, node):
    """Make a function without a body, with the docstring and signature of a syntax node."""

    def function():
        raise NotImplementedError

    words = node.args.posonlyargs + node.args.args
    defaults = [Parameter.empty] * (len(words) - len(node.args.defaults))
    defaults += [value_of(module, default) for default in node.args.defaults]
    function.__doc__ = ast.get_docstring(node, clean=False)
    function.__signature__ = Signature(
        [
            Parameter(
                word.arg,
                Parameter.POSITIONAL_OR_KEYWORD,
                default=default,
                annotation=type_of(word.annotation),
            )
            for word, default in zip(words, defaults, strict=True)
        ],
        return_annotation=type_of(node.returns) if node.returns else Signature.empty,
    )
    return function


def type_of(node):
    """Return the type that an annotation names, such as `list[str] | None`."""
    if isinstance(node, ast.Constant) and node.value is None:
        return None
    if isinstance(node, ast.Name) and node.id in TYPES:
        return TYPES[node.id]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return type_of(node.left) | type_of(node.right)
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Tuple):
        return type_of(node.value)[tuple(map(type_of, node.slice.elts))]
    if isinstance(node, ast.Subscript):
        return type_of(node.value)[type_of(node.slice)]
    raise NotWritten(ast.dump(node) if node else "no annotation")


def value_of(module, node):
    """Return the value of a literal, of a module's name for one, or of an entry of such a value."""
    if isinstance(node, ast.Name):
        return value_of(*definition(module, node.id))
    if isinstance(node, ast.Subscript):
        return value_of(module, node.value)[value_of(module, node.slice)]
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError) as error:
        raise NotWritten(ast.unparse(node)) from error


def definition(module, name):
    """Find where a name gets its value: (module, syntax node), through imports of this package."""
    for node in tree_of(file_of(module)).body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return module, node.value
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("xmae."):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return definition(node.module, alias.name)
    raise NotWritten(f"{module}.{name}")


def constant_in(module: str, name: str):
    """Return the value of a module's constant."""
    return value_of(*definition(module, name))


def names_in(module: str, name: str) -> tuple[str, ...]:
    """Return the names in a literal collection: elements of a tuple, keys of a dict.

    Examples
    --------
    >>> names_in("xmae.training.fit", "PRECISIONS")
    ('fp32', 'bf16')
    """
    return tuple(elements(*definition(module, name)))


def elements(module, node):
    """Return the strings in a tuple or list, or the keys of a dict, with those of an unpacked
    collection.
    """
    if isinstance(node, ast.Name):
        return elements(*definition(module, node.id))
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):  # of a module
        return elements(*definition(imported(module, node.value.id), node.attr))
    if isinstance(node, ast.Dict):
        items = [key or value for key, value in zip(node.keys, node.values, strict=True)]
    elif isinstance(node, ast.Tuple | ast.List | ast.Set):
        items = [item.value if isinstance(item, ast.Starred) else item for item in node.elts]
    else:
        raise NotWritten(ast.unparse(node))
    found = []
    for item in items:
        single = isinstance(item, ast.Constant) and isinstance(item.value, str)
        found += [item.value] if single else elements(module, item)
    return found


def imported(module, name):
    """Return the full name of the module that a module imports under a name."""
    for node in tree_of(file_of(module)).body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return f"{node.module}.{alias.name}"
    raise NotWritten(f"{module}.{name}")


def attributes_in(package: str, attribute: str, having: str | None = None) -> tuple[str, ...]:
    """Return the strings that classes of a package's modules have as an attribute, each once.

    With `having`, of classes that have this attribute too.

    Examples
    --------
    >>> "papagei-p" in attributes_in("xmae.objectives", "name")
    True
    """
    found = []
    for file in sorted(file_of(package).parent.glob("*.py")):
        module = f"{package}.{file.stem}"
        for node in (node for node in tree_of(file).body if isinstance(node, ast.ClassDef)):
            lines = [line for line in node.body if isinstance(line, ast.Assign)]
            own = {ast.unparse(line.targets[0]): line.value for line in lines}
            if attribute in own and (having is None or having in own):
                value = own[attribute]
                text = isinstance(value, ast.Constant)
                found += [value.value] if text else elements(module, value)
    return tuple(dict.fromkeys(found))
