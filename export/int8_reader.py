"""Windows read by an int8 file: what an exported student makes of them, beat by beat."""

import numpy as np

from xmae.beats.reader import MapCode, read_maps
from xmae.beats.timing_map import LOG_SHARE
from xmae.export.targets import litert
from xmae.export.targets.c.network import MAP_CHANNELS, StreamNetwork
from xmae.models.beat_student import N_OUTPUTS
from xmae.signals.scale import minmax_scale


class Int8Reader:
    """Windows read by an int8 `.tflite` of a student that reads beats, as exported.

    Parameters
    ----------
    path : str or Path

    Raises
    ------
    UserError
        As `StreamNetwork`.
    """

    def __init__(self, path):
        self.path, self.scale = path, StreamNetwork(path).scale

    def read_windows(self, ppg):
        """Read cleaned windows at 100 Hz, (n, 1000) in any unit, each by itself: a `Reading`."""
        scaled = minmax_scale(np.asarray(ppg, np.float32))[0]
        rows = litert.open_model(self.path)(scaled)[:, -N_OUTPUTS * MAP_CHANNELS :]
        codes = np.rint(rows / self.scale).astype(np.int64).reshape(len(rows), -1, MAP_CHANNELS)
        return read_maps(codes.transpose(0, 2, 1), MapCode.of_scale(self.scale, LOG_SHARE))
