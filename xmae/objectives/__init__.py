"""Ways to pretrain an encoder, by name; each is one file, see `xmae.objectives.objective`."""

from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import iter_modules

from xmae.objectives.objective import OBJECTIVES, Objective, register

__all__ = ["OBJECTIVES", "Objective", "register"]

for module in iter_modules(__path__, f"{__name__}."):
    import_module(module.name)
for point in entry_points(group="xmae.methods"):
    point.load()
