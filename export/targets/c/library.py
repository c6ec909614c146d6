"""A student as libxmae takes it: its layers a second at a time, and where they lie in memory.

The library's sources are in the folder `library`, its kernels in `kernels`. What depends on a
student is one file of numbers (`model_source`); several may be in one image.
`xmae.export.stream.Stream` gives the same bits.
"""

import zlib
from dataclasses import dataclass

import numpy as np

from xmae.beats.reader import MapCode
from xmae.beats.timing_map import LOG_SHARE
from xmae.errors import UserError
from xmae.export.targets.c.head_codes import head_code
from xmae.export.targets.c.layers import read_layers
from xmae.export.targets.c.literals import identifier
from xmae.export.targets.c.network import CHUNK, MAP_CHANNELS, OUTPUTS, StreamNetwork, reads_beats
from xmae.export.targets.c.window import WindowNetwork
from xmae.signals.window import N_TIMES

ALIGN = 8  # bytes: of every place in an instance's memory
CONSTANTS = ("weights", "bias", "multiplier", "shift")


@dataclass(frozen=True)
class ChunkLayer:
    """A convolution over a chunk of one second.

    Parameters
    ----------
    fields : dict
        Numbers in the kernel's struct.
    constants : dict
        Arrays for flash.
    keep : int
        Columns that its kernel needs again.
    kernel : str
        C function.
    macs, scratch : int
        Products a chunk; bytes of working memory of the kernel.
    """

    fields: dict
    constants: dict
    keep: int
    kernel: str
    macs: int
    scratch: int


@dataclass(frozen=True)
class BeatPart:
    """The part of a model that reads beats.

    Parameters
    ----------
    layers : dict
        `ChunkLayer` by its number in the file, in running order.
    inputs, outputs : tuple of int
        Places of each layer's input and output in an instance's memory.
    scratch, memory_bytes : int
        Place of the kernels' working memory; size of all of it.
    interval, half_width : uint16 array
        Ticks by code of the log interval; 1 / 100 bpm by step of certainty.
    map_zero, unit, least : int
        Zero point of the map, codes for a length of 1, certainty that a heart rate needs.
    look_ahead : int
        Samples at 100 Hz after an output's four that the network sees.
    """

    layers: dict
    inputs: tuple
    outputs: tuple
    scratch: int
    memory_bytes: int
    interval: np.ndarray
    half_width: np.ndarray
    map_zero: int
    unit: int
    least: int
    look_ahead: int


@dataclass(frozen=True)
class LibraryModel:
    """A student as libxmae runs it.

    Parameters
    ----------
    name : str
        C identifier: the model is `xmae_model_NAME`.
    beats : BeatPart or None
        None: it reads no beats.
    window : WindowNetwork
        From a window to the embedding.
    heads : tuple of HeadCode
    """

    name: str
    beats: BeatPart | None
    window: WindowNetwork
    heads: tuple

    @property
    def window_place(self):
        """Return the offset of the last 10 s of samples in an instance's memory."""
        return self.beats.memory_bytes if self.beats else 0

    @property
    def memory_bytes(self):
        """Return the size of an instance's memory, bytes; a sample that is not yet scaled takes
        4.
        """
        return self.window_place + N_TIMES * (1 if self.beats else 4)

    @property
    def constants(self):
        """Return the arrays for flash by their names in C."""
        layers = self.window.layers | (self.beats.layers if self.beats else {})
        arrays = {}
        for number in sorted(layers):
            held = layers[number].constants
            arrays |= {f"{key}_{number:02d}": held[key] for key in CONSTANTS if key in held}
        if self.beats:
            arrays |= {"interval": self.beats.interval, "half_width": self.beats.half_width}
        return arrays | {f"head_{i:02d}": head.weights for i, head in enumerate(self.heads)}

    @property
    def constant_bytes(self):
        """Return the bytes of flash for weights and tables."""
        return sum(array.nbytes for array in self.constants.values())

    @property
    def macs(self):
        """Return the multiply-accumulates per second of signal."""
        return sum(layer.macs for layer in self.beats.layers.values()) if self.beats else 0

    @property
    def embed_macs(self):
        """Return the multiply-accumulates of an embedding."""
        return sum(layer.macs for layer in self.window.layers.values())

    @property
    def crc32(self):
        """Return the CRC-32 that `xmae_check_model` compares."""
        crc = 0
        for array in self.constants.values():
            crc = zlib.crc32(array.tobytes(), crc)
        return crc


def library_model(path, certainty, name, heads=None):
    """Read a student for libxmae.

    Parameters
    ----------
    path : str or Path
        Int8 `.tflite` of a student with one input channel. One without a timing map gives
        embeddings and what heads say, and reads no beats.
    certainty : Certainty
        Its table.
    name : str
        For the model; characters that C does not know become underscores.
    heads : dict of str to Head, optional
        From a bundle's `heads.json`, by task.

    Returns
    -------
    LibraryModel

    Raises
    ------
    UserError
        If the file is no such student, or a number does not fit the library's structs.
    """
    window = WindowNetwork(path)
    output = window.tensors[window.embedding]
    codes = tuple(head_code(task, head, output.scale) for task, head in (heads or {}).items())
    if any(len(code.weights) != output.size for code in codes):
        raise UserError(f"{path}: heads are not as wide as the embedding")
    beats = beat_part(path, certainty) if reads_beats(path) else None
    return LibraryModel(identifier(name), beats, window, codes)


def beat_part(path, certainty, inputs=1):
    """Read the part that reads beats from a student with this many input channels: a `BeatPart`.

    Raises
    ------
    UserError
        If the file is no such student, or a number does not fit the library's structs.
    """
    network = StreamNetwork(path)
    _, every, _, _ = read_layers(path)
    layers, columns = {}, CHUNK
    for number in network.numbers:
        layers[number] = chunk_layer(path, every[number], columns)
        columns = layers[number].fields["out_w"]
    chain = list(layers.values())
    if chain[0].fields["in_c"] != inputs or columns != OUTPUTS:
        raise UserError(
            f"{path}: libxmae takes students of {inputs} channel{'s' * (inputs > 1)} here, "
            "100 Hz in and 25 Hz out"
        )
    code, half_width = MapCode.of_scale(network.scale, LOG_SHARE), np.asarray(certainty.half_width)
    if code.unit >= 1 << 16 or half_width.min() < 0 or half_width.max() >= 1 << 16:
        raise UserError(f"{path}: scale of the map or certainty table out of range")
    return BeatPart(
        layers, *plan_memory(chain), code.interval.astype("<u2"), half_width.astype("<u2"),
        network.zero, code.unit, int(certainty.least), network.look_ahead,
    )  # fmt: skip


def chunk_layer(path, layer, columns):
    """Restrict a layer of a whole window to `columns` new columns."""
    taps, stride = layer.fields["k_w"], layer.fields["stride_w"]
    keep = taps - stride
    if keep < 0 or columns % stride or layer.fields["k_h"] != 1:
        raise UserError(f"{path}: a stream cannot have {taps} taps at a stride of {stride}")
    fields = layer.fields | {
        "in_h": 1, "in_w": keep + columns, "out_h": 1, "out_w": columns // stride, "pad_h": 0,
        "pad_w": 0,
    }  # fmt: skip
    products = taps * fields["out_c"] * (1 if layer.kernel == "xmae_depthwise" else fields["in_c"])
    macs = products * fields["out_w"]
    return ChunkLayer(fields, layer.constants, keep, layer.kernel, macs, layer.scratch)


def plan_memory(layers):
    """Place the inputs of all layers in memory: those kept for the next chunk get a place of their
    own, the others share.

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
