"""From trained encoders to files that run elsewhere: one module per format, and the bundle that
holds them all.

The verb is `xmae.export.export.export`; what is imported here opens a bundle without what building
one needs.
"""

from xmae.callable_package import make_callable, when_asked_for

PUBLIC = {  # imported when asked for: targets need PyTorch, which the light runtime does not have
    "TARGETS": "xmae.export.targets.registry",
    "Bundle": "xmae.export.bundle.bundle",
    "seal": "xmae.export.bundle.bundle",
}
__all__ = ["TARGETS", "Bundle", "seal"]

__getattr__ = when_asked_for(__name__, PUBLIC)


make_callable(__name__)  # `xmae.export(...)` is `xmae.export.export.export(...)`
