"""Data: readers, the store of windows, its preparation, augmentation, and the shipped excerpt of BIDMC."""

from xmae.data.recording import Recording
from xmae.data.store import WindowStore
from xmae.data.windows import Windows

__all__ = ["Recording", "WindowStore", "Windows"]
