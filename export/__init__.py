"""From trained encoders to files that run elsewhere: one module a format, and the bundle that holds them all.

The verb is `xmae.export.build.export`; what is imported here opens a bundle without what building one needs.
"""

from xmae.export.bundle import Bundle, seal
from xmae.export.targets import TARGETS

__all__ = ["TARGETS", "Bundle", "seal"]
