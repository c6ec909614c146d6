"""Packages that are called like the verb they are named after.

`xmae.export` is a package, whose modules are imported as `xmae.export.bundle`, and a verb of the
public face, called as `xmae.export(...)`. Both must work whichever comes first.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class CallablePackage(ModuleType):
    """A package with a module and a function of its own name: `xmae.export.export.export`."""

    def __call__(self, *arguments: Any, **settings: Any) -> Any:
        """Call the verb."""
        verb = self.__name__.rpartition(".")[2]
        return getattr(import_module(f"{self.__name__}.{verb}"), verb)(*arguments, **settings)


def make_callable(package: str) -> None:
    """Let a package, which is being imported, be called like its verb."""
    sys.modules[package].__class__ = CallablePackage
