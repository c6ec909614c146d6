"""Data: readers, the store of windows, its preparation, augmentation, and the shipped excerpt of
BIDMC.
"""

from importlib import import_module

PUBLIC = {  # imported when asked for: a store needs Arrow, which the light runtime does not have
    "Recording": "xmae.data.recording.recording",
    "WindowStore": "xmae.data.store.store",
    "Windows": "xmae.data.store.windows",
}
__all__ = ["Recording", "WindowStore", "Windows"]


def __getattr__(name):
    if name not in PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(PUBLIC[name]), name)
