"""Data: readers, the store of windows, its preparation, augmentation, and the shipped excerpt of
BIDMC.
"""

from xmae.callable_package import when_asked_for

PUBLIC = {  # imported when asked for: a store needs Arrow, which the light runtime does not have
    "Recording": "xmae.data.recording.recording",
    "WindowStore": "xmae.data.store.store",
    "Windows": "xmae.data.store.windows",
}
__all__ = ["Recording", "WindowStore", "Windows"]

__getattr__ = when_asked_for(__name__, PUBLIC)
