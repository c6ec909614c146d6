"""A student as libxmae takes it: its layers a second at a time, and where they lie in memory.

The library's sources are in the folder `library`, its kernels in `kernels`. What depends on a student
is one file of numbers (`model_source`); several may be in one image. `xmae.export.stream.Stream` gives
the same bits.
"""

import zlib
from dataclasses import dataclass

import numpy as np

from xmae.beats.reader import MapCode
from xmae.beats.timing_map import LOG_SHARE
from xmae.errors import UserError
from xmae.export.targets.c.layers import read_layers
from xmae.export.targets.c.literals import identifier
from xmae.export.targets.c.network import CHUNK, MAP_CHANNELS, OUTPUTS, StreamNetwork

ALIGN = 8  # bytes: of every place in an instance's memory
CONSTANTS = ("weights", "bias", "multiplier", "shift")


@dataclass(frozen=True)
class ChunkLayer:
    """A convolution over a chunk of a second.

    Parameters
    ----------
    fields : dict
        Numbers in the kernel's struct.
    constants : dict
        Arrays for flash.
    keep : int
        Columns that its kernel needs again.
    depthwise : bool
    macs, scratch : int
        Products a chunk; bytes of working memory of the kernel.
    """

    fields: dict
    constants: dict
    keep: int
    depthwise: bool
    macs: int
    scratch: int


@dataclass(frozen=True)
class LibraryModel:
    """A student as libxmae takes it.

    Parameters
    ----------
    name : str
        C identifier: the model is `xmae_model_NAME`.
    layers : tuple of ChunkLayer
    inputs, outputs : tuple of int
        Places of each layer's input and output in an instance's memory.
    memory_bytes, scratch : int
        Size of this memory; place of the kernels' working memory.
    interval, half_width : uint16 array
        Ticks by code of the log interval; 1 / 100 bpm by step of certainty.
    map_zero, unit, least : int
        Zero point of the map, codes for a length of 1, certainty that a heart rate needs.
    look_ahead : int
        Samples at 100 Hz after an output's four that the network sees.
    """

    name: str
    layers: tuple
    inputs: tuple
    outputs: tuple
    memory_bytes: int
    scratch: int
    interval: np.ndarray
    half_width: np.ndarray
    map_zero: int
    unit: int
    least: int
    look_ahead: int

    @property
    def constant_bytes(self):
        """Bytes of flash for weights and tables."""
        arrays = [array for layer in self.layers for array in layer.constants.values()]
        return sum(array.nbytes for array in (*arrays, self.interval, self.half_width))

    @property
    def macs(self):
        """Products a second of signal."""
        return sum(layer.macs for layer in self.layers)

    @property
    def crc32(self):
        """CRC-32 that `xmae_check_model` compares."""
        crc = zlib.crc32(self.half_width.tobytes(), zlib.crc32(self.interval.tobytes()))
        for layer in self.layers:
            for key in CONSTANTS:
                array = layer.constants[key]
                size = len(array) if key == "weights" else layer.fields["out_c"]
                crc = zlib.crc32(array[:size].tobytes(), crc)
        return crc


def library_model(path, certainty, name):
    """Read a student for libxmae.

    Parameters
    ----------
    path : str or Path
        Int8 `.tflite` of a `BeatStudent` with one input channel.
    certainty : Certainty
        Its table.
    name : str
        For the model; characters that C does not know become underscores.

    Returns
    -------
    LibraryModel

    Raises
    ------
    UserError
        If the file is no such student, or a number does not fit the library's structs.
    """
    network = StreamNetwork(path)
    _, every, _, _ = read_layers(path)
    layers, columns = [], CHUNK
    for number in network.numbers:
        layers.append(chunk_layer(path, every[number], columns))
        columns = layers[-1].fields["out_w"]
    if layers[0].fields["in_c"] != 1 or columns != OUTPUTS:
        raise UserError(f"{path}: libxmae takes students of one channel, 100 Hz in and 25 Hz out")
    code, half_width = MapCode.of_scale(network.scale, LOG_SHARE), np.asarray(certainty.half_width)
    if code.unit >= 1 << 16 or half_width.min() < 0 or half_width.max() >= 1 << 16:
        raise UserError(f"{path}: scale of the map or certainty table out of range")
    inputs, outputs, scratch, memory_bytes = plan_memory(layers)
    return LibraryModel(
        identifier(name), tuple(layers), inputs, outputs, memory_bytes, scratch,
        code.interval.astype("<u2"), half_width.astype("<u2"), network.zero, code.unit, int(certainty.least),
        network.look_ahead,
    )  # fmt: skip


def chunk_layer(path, layer, columns):
    """Cut a layer of a whole window down to `columns` new columns."""
    taps, stride = layer.fields["k_w"], layer.fields["stride_w"]
    keep = taps - stride
    if keep < 0 or columns % stride or layer.fields["k_h"] != 1:
        raise UserError(f"{path}: a stream cannot have {taps} taps at a stride of {stride}")
    fields = layer.fields | {
        "in_h": 1, "in_w": keep + columns, "out_h": 1, "out_w": columns // stride, "pad_h": 0, "pad_w": 0,
    }  # fmt: skip
    depthwise = layer.kernel == "xmae_depthwise"
    products = taps * fields["out_c"] * (1 if depthwise else fields["in_c"])
    macs = products * fields["out_w"]
    return ChunkLayer(fields, layer.constants, keep, depthwise, macs, layer.scratch)


def plan_memory(layers):
    """Place the inputs of all layers: what is kept for the next chunk for good, the rest in turn.

    Returns
    -------
    inputs, outputs : tuple of int
        Bytes from the start.
    scratch, total : int
        Place of the kernels' working memory; bytes in all.
    """

    def aligned(size):
        return -(-size // ALIGN) * ALIGN

    sizes = [layer.fields["in_w"] * layer.fields["in_c"] for layer in layers]
    sizes.append(OUTPUTS * MAP_CHANNELS)
    keeps = [layer.keep for layer in layers] + [0]
    places, total = {}, 0
    for i, size in enumerate(sizes):
        if keeps[i]:
            places[i], total = total, total + aligned(size)
    for turn in (0, 1):  # what lives only from one layer to the next
        passing = [i for i in range(len(sizes)) if not keeps[i] and i % 2 == turn]
        places |= dict.fromkeys(passing, total)
        total += aligned(max((sizes[i] for i in passing), default=0))
    inputs = tuple(places[i] for i in range(len(layers)))
    following = [
        places[i] + layers[i].keep * layers[i].fields["in_c"] for i in range(1, len(layers))
    ]
    outputs = (*following, places[len(layers)])
    scratch = max(layer.scratch for layer in layers)
    return inputs, outputs, total, total + aligned(scratch)
