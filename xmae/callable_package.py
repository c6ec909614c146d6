"""Packages that import their names on first use, and packages that are called like the verb of
their name.

`xmae.export` is a package, whose modules are imported as `xmae.export.bundle`, and a verb of the
public face, called as `xmae.export(...)`. Both must work whichever comes first.
"""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any


class CallablePackage(ModuleType):
    """A package that holds a module and a function of its own name, such as
    `xmae.export.export.export`.
    """

    def __call__(self, *arguments: Any, **settings: Any) -> Any:
        """Call the function of the package's name."""
        verb = self.__name__.rpartition(".")[2]
        return getattr(import_module(f"{self.__name__}.{verb}"), verb)(*arguments, **settings)


def when_asked_for(package: str, public: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a package's `__getattr__` that imports a name from its module on first use.

    Parameters
    ----------
    package : str
        Its dotted name.
    public : dict
        Name -> module.
    """

    def getter(name: str) -> Any:
        if name not in public:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(public[name]), name)

    return getter


def make_callable(package: str) -> None:
    """Make a package, while it is imported, callable like its function."""
    sys.modules[package].__class__ = CallablePackage
