"""The int8 network of a student over a window of 10 s, in whole numbers: codes in, embedding out.

The arithmetic is that of the C kernels (TensorFlow Lite's), so `embed` gives the bits of
`xmae_embed`.
"""

import math

import numpy as np

from xmae.errors import UserError
from xmae.export.targets.c.layers import read_layers
from xmae.export.targets.c.network import rescale
from xmae.export.targets.c.source import plan
from xmae.signals.front_end import FrontEnd
from xmae.signals.window import N_TIMES

FINEST = 1 << 16  # a window's range is at most so large before it is scaled


class WindowNetwork:
    """Part of an int8 `.tflite` from a window to the embedding.

    Parameters
    ----------
    path : str or Path
        A student for windows of one channel. What it gives beside an embedding, such as a timing
        map, is left out.

    Attributes
    ----------
    layers : dict
        `Layer` by its number in the file, in running order.
    offsets, arena_bytes : dict, int
        Places of tensors in the working memory, by number; ("scratch", step) too. Its size.
    source, embedding : int
        Numbers of the first and of the last tensor.
    steps_per_one : int
        256 steps of int8 for 1 of the window's [-1, 1].

    Raises
    ------
    UserError
        If the file is no such network.
    """

    def __init__(self, path):
        self.tensors, layers, self.source, sink = read_layers(path)
        made_by = {layer.output: layer for layer in layers}
        last = made_by[sink]
        self.embedding = last.inputs[0] if last.op == "CONCATENATION" else sink
        wanted, used = {self.embedding}, []
        for number, layer in reversed(list(enumerate(layers))):
            if layer.output in wanted:
                wanted |= set(layer.inputs)
                used.insert(0, (number, layer))
        self.layers = dict(used)
        self.arena_bytes, self.offsets = plan(self.tensors, list(self.layers.values()), None, None)
        entrance, exit = self.tensors[self.source], self.tensors[self.embedding]
        self.steps_per_one = round(256 / entrance.scale)
        if entrance.size != N_TIMES or math.prod(exit.shape[:3]) != 1:
            raise UserError(f"{path}: libxmae takes windows of {N_TIMES} samples of one channel")
        if self.steps_per_one >= FINEST:
            raise UserError(f"{path}: a step of the input is less than 1 / 256 of the window")

    @property
    def input_zero(self):
        """Return the zero point of the input."""
        return self.tensors[self.source].zero

    def embed(self, window):
        """Compute the codes of the embedding, int8 (D,), from the codes of a window, int8
        (1000,).
        """
        known = {self.source: np.asarray(window, np.int8).reshape(self.tensors[self.source].shape)}
        for layer in self.layers.values():
            inputs = [known[number] for number in layer.inputs if number in known]
            shape = self.tensors[layer.output].shape
            known[layer.output] = KERNELS[layer.kernel](layer, *inputs).reshape(shape)
        return known[self.embedding].ravel()


def convolution(layer, x):
    """Compute `xmae_conv` and `xmae_depthwise`."""
    f, constants = layer.fields, layer.constants
    taps, out = f["k_h"] * f["k_w"], f["out_c"]
    columns = windows_of(f, x.reshape(f["in_h"], f["in_w"], f["in_c"])).astype(np.int32)
    if layer.kernel == "xmae_depthwise":
        weights = constants["weights"].reshape(-1, taps, 4).transpose(0, 2, 1).reshape(-1, taps)
        total = np.einsum("ptc,ct->pc", columns, weights[:out].astype(np.int32))
    else:
        size = taps * f["in_c"]
        weights = constants["weights"].reshape(-1, -(-size // 8) * 8, 2).transpose(0, 2, 1)
        weights = weights.reshape(-1, weights.shape[2])[:out, :size].astype(np.int32)
        total = columns.reshape(len(columns), -1) @ weights.T
    total = total + constants["bias"][:out].astype(np.int64)
    scaled = rescale(
        total,
        constants["multiplier"][:out].astype(np.int64),
        constants["shift"][:out].astype(np.int64),
    )
    return clipped(scaled, f)


def windows_of(f, x):
    """Cut an image (h, w, c) into the windows of a kernel: (positions, taps, c)."""
    down = (f["out_h"] - 1) * f["stride_h"] + f["k_h"] - f["in_h"] - f["pad_h"]
    right = (f["out_w"] - 1) * f["stride_w"] + f["k_w"] - f["in_w"] - f["pad_w"]
    margins = (f["pad_h"], max(0, down)), (f["pad_w"], max(0, right)), (0, 0)
    x = np.pad(x, margins, constant_values=f["in_zero"])
    seen = np.lib.stride_tricks.sliding_window_view(x, (f["k_h"], f["k_w"]), (0, 1))
    seen = seen[:: f["stride_h"], :: f["stride_w"]][: f["out_h"], : f["out_w"]]
    return seen.transpose(0, 1, 3, 4, 2).reshape(f["out_h"] * f["out_w"], f["k_h"] * f["k_w"], -1)


def clipped(scaled, f):
    """Add the output's zero point and clip to its range, int8."""
    return np.clip(scaled + f["out_zero"], f.get("out_min", -128), f.get("out_max", 127)).astype(
        np.int8
    )


def add(layer, a, b):
    """Compute `xmae_add`."""
    f = layer.fields
    first = rescale((a.astype(np.int64) - f["zero1"]) << 20, f["multiplier1"], f["shift1"])
    second = rescale((b.astype(np.int64) - f["zero2"]) << 20, f["multiplier2"], f["shift2"])
    return clipped(rescale(first + second, f["multiplier_out"], f["shift_out"]), f)


def mean(layer, x):
    """Compute `xmae_mean`."""
    f = layer.fields
    total = (
        x.reshape(f["positions"], f["channels"]).sum(0, np.int64) - f["in_zero"] * f["positions"]
    )
    return clipped(rescale(total, f["multiplier"], f["shift"]), f)


def average_pool(layer, x):
    """Compute `xmae_average_pool`."""
    f = layer.fields
    x = x.reshape(f["in_h"], f["in_w"], f["channels"]).astype(np.int64)
    sizes = f | {"in_zero": 0}
    total = windows_of(sizes, x).sum(1)
    count = windows_of(sizes, np.ones_like(x)).sum(1)
    rounded = total + np.where(total > 0, count // 2, -(count // 2))
    return np.clip(np.trunc(rounded / count), f["out_min"], f["out_max"]).astype(np.int8)


def pad(layer, x):
    """Compute `xmae_pad`."""
    f = layer.fields
    y = np.full((f["out_h"], f["out_w"], f["out_c"]), f["value"], np.int8)
    place = (
        slice(f[a], f[a] + f[b]) for a, b in (("top", "in_h"), ("left", "in_w"), ("front", "in_c"))
    )
    y[tuple(place)] = x.reshape(f["in_h"], f["in_w"], f["in_c"])
    return y


def concatenate(layer, a, b):
    """Compute `xmae_concatenate`."""
    return np.concatenate([a.ravel(), b.ravel()])


def requantize(layer, x):
    """Compute `xmae_requantize`."""
    f = layer.fields
    return clipped(rescale(x.astype(np.int64) - f["in_zero"], f["multiplier"], f["shift"]), f)


KERNELS = {
    "xmae_conv": convolution, "xmae_depthwise": convolution, "xmae_add": add, "xmae_mean": mean,
    "xmae_average_pool": average_pool, "xmae_pad": pad, "xmae_concatenate": concatenate,
    "xmae_requantize": requantize, "": lambda layer, x: x,
}  # fmt: skip


def scale_window(deviations, steps_per_one, zero):
    """Scale 10 s of deviations by their range, like `xmae_scale_window`: int8 codes (1000,)."""
    low = int(deviations.min())
    size = int(deviations.max()) - low
    shift = max(0, size.bit_length() - 16)
    size >>= shift
    factor = (steps_per_one << 16) // size if size else 0
    above = (np.asarray(deviations, np.int64) - low) >> shift
    return np.clip((((2 * above - size) * factor + (1 << 23)) >> 24) + zero, -128, 127).astype(
        np.int8
    )


class WindowStream:
    """The last 10 s of codes, as `xmae_copy_window` gives them, and their embedding.

    Parameters
    ----------
    network : WindowNetwork
    sfreq : float
        Rate of the codes, Hz, 25 to 500.
    by_itself : bool
        Whether each window is scaled by its own range, as students want that read no beats; else by
        the running scale of the front end.

    Examples
    --------
    >>> stream = WindowStream(WindowNetwork("student_int8.tflite"), 125, True)      # doctest: +SKIP
    >>> stream.push(codes)                                                          # doctest: +SKIP
    >>> stream.network.embed(stream.window()).shape                                 # doctest: +SKIP
    (256,)
    """

    def __init__(self, network, sfreq, by_itself):
        self.network, self.by_itself = network, by_itself
        self.front_end = FrontEnd(sfreq)
        self.samples = np.zeros(0, np.int64)

    def push(self, codes):
        """Take codes (n,) of whole numbers."""
        front_end = self.front_end
        deviations = front_end.band(front_end.resample(np.asarray(codes, np.int64)))
        new = deviations if self.by_itself else front_end.scale(deviations)
        self.samples = np.concatenate([self.samples, new])[-N_TIMES:]

    def window(self):
        """Return the last 10 s, int8 (1000,); call it only once 10 s have come."""
        network = self.network
        if self.by_itself:
            return scale_window(self.samples, network.steps_per_one, network.input_zero)
        return np.clip(self.samples + network.input_zero, -128, 127).astype(np.int8)
