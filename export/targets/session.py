"""What every runtime looks like from outside: windows in, embeddings out, one window at a time."""

from dataclasses import dataclass

import numpy as np

from xmae.errors import UserError
from xmae.signals.window import N_TIMES


@dataclass
class Session:
    """An open model, called with windows.

    Parameters
    ----------
    run : callable
        One window, float32 (1, 1, 1, 1000), to one embedding, float32 (1, D); int8 conversion
        happens inside.
    """

    run: object

    def __call__(self, ppg):
        """Embed windows one by one.

        Parameters
        ----------
        ppg : array, shape (n, 1000)
            PPG at 100 Hz, min-max scaled to [-1, 1].

        Returns
        -------
        float32 array, shape (n, D)

        Raises
        ------
        UserError
            If the shape is another, or samples are NaN, infinite or outside [-1, 1].
        """
        return np.concatenate(
            [self.run(window.reshape(1, 1, 1, N_TIMES)) for window in checked(ppg)]
        )


@dataclass
class ApartSession:
    """An open model whose runtime is in a process of its own; it takes all windows at once.

    Parameters
    ----------
    run : callable
        Windows, float32 (n, 1000), to embeddings, float32 (n, D).
    """

    run: object

    def __call__(self, ppg):
        """Embed windows as `Session` does."""
        return self.run(checked(ppg))


def checked(ppg):
    """Return windows (n, 1000) as float32; raises a `UserError` if they are not scaled windows; see
    `Session.__call__`.
    """
    ppg = np.ascontiguousarray(ppg, dtype=np.float32)
    if ppg.ndim != 2 or ppg.shape[1] != N_TIMES or not len(ppg):
        raise UserError(f"expected windows (n, {N_TIMES}), got {ppg.shape}")
    if not (np.abs(ppg) <= 1 + 1e-6).all():  # False for NaN
        raise UserError(
            "expected PPG scaled to [-1, 1] without missing samples; see xmae.signals.scale"
        )
    return ppg


def to_int8(x, scale, zero_point, dtype=np.int8):
    """Quantize real numbers to int8 (or int16) codes, rounded to nearest and clipped: code = x /
    scale + zero_point.
    """
    limits = np.iinfo(dtype)
    return np.clip(np.rint(x / scale) + zero_point, limits.min, limits.max).astype(dtype)


def from_int8(codes, scale, zero_point):
    """Dequantize int8 (or int16) codes to float32: x = (code - zero_point) * scale."""
    return (codes.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)
