"""From trained encoders to files that run elsewhere: one module a format, and the bundle that holds
them all.

The verb is `xmae.export.export.export`; what is imported here opens a bundle without what building
one needs.
"""

from xmae.export.bundle.bundle import Bundle, seal
from xmae.export.targets.registry import TARGETS

__all__ = ["TARGETS", "Bundle", "seal"]
