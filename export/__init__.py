"""From trained encoders to files that run elsewhere: one module a format, and the bundle that holds
them all.

The verb is `xmae.export.export.export`; what is imported here opens a bundle without what building
one needs.
"""

from importlib import import_module

from xmae.callable_package import make_callable

PUBLIC = {  # imported when asked for: targets need PyTorch, which the light runtime does not have
    "TARGETS": "xmae.export.targets.registry",
    "Bundle": "xmae.export.bundle.bundle",
    "seal": "xmae.export.bundle.bundle",
}
__all__ = ["TARGETS", "Bundle", "seal"]


def __getattr__(name):
    if name not in PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(PUBLIC[name]), name)


make_callable(__name__)  # `xmae.export(...)` is `xmae.export.export.export(...)`
