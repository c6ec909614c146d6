"""Data: readers, the store of windows, its preparation, augmentation, and the shipped excerpt of
BIDMC.
"""

from xmae.data.recording.recording import Recording
from xmae.data.store.store import WindowStore
from xmae.data.store.windows import Windows

__all__ = ["Recording", "WindowStore", "Windows"]
