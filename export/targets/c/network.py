"""The int8 network of a student that reads beats, as a stream: columns in, columns of the map out.

Every layer keeps the columns that its kernel still needs, so a second of signal costs a second's
worth. No layer pads, so an output is the same number as in a whole window wherever its receptive
field lies inside. The arithmetic is that of the C kernels (TensorFlow Lite's, in whole numbers).
"""

from dataclasses import dataclass, field

import numpy as np

from xmae.errors import UserError
from xmae.export.targets.c.layers import read_layers

# samples of zero that set the state before the first one: more than any net looks back
SILENCE = 500
MAP_CHANNELS = 3
CHUNK = 100  # samples at 100 Hz that are computed at once: a second
OUTPUTS = CHUNK // 4


@dataclass
class StreamLayer:
    """One convolution, and the input columns that it still needs.

    Parameters
    ----------
    weights : int32 array, shape (out, taps * in) or, depthwise, (channels, taps)
    bias, multiplier, shift : int64 arrays, shape (out,)
    taps, stride : int
    depthwise : bool
    limits : (int, int, int)
        Zero point, least and largest code of the output.
    in_zero : int
        Zero point of the input.
    columns : int8 array, shape (n, in)
        Input columns that are still needed.
    """

    weights: np.ndarray
    bias: np.ndarray
    multiplier: np.ndarray
    shift: np.ndarray
    taps: int
    stride: int
    depthwise: bool
    limits: tuple
    in_zero: int
    columns: np.ndarray = field(default=None)

    def push(self, new):
        """Take columns (n, in) and return the output columns that they complete (m, out)."""
        x = np.concatenate([self.columns, new])
        m = max(0, (len(x) - self.taps) // self.stride + 1)
        self.columns = x[m * self.stride :]
        if not m:
            return np.zeros((0, len(self.bias)), np.int8)
        seen = np.lib.stride_tricks.sliding_window_view(x, self.taps, 0)[:: self.stride][
            :m
        ]  # (m, in, taps)
        if self.depthwise:
            total = np.einsum("mct,ct->mc", seen.astype(np.int32), self.weights)
        else:
            total = seen.transpose(0, 2, 1).reshape(m, -1).astype(np.int32) @ self.weights.T
        zero, low, high = self.limits
        scaled = rescale(total + self.bias, self.multiplier, self.shift) + zero
        return np.clip(scaled, low, high).astype(np.int8)


def rescale(x, multiplier, shift):
    """Multiply by multiplier * 2^(shift - 31), rounded like `xmae_rescale` of the C kernels."""
    left, right = np.maximum(shift, 0), np.maximum(-shift, 0)
    high = ((x.astype(np.int64) << left) * multiplier + (1 << 30)) >> 31
    half = np.left_shift(1, right, dtype=np.int64) >> 1
    return np.where(right > 0, (high + half - (high < 0)) >> right, high)


class StreamNetwork:
    """Part of an int8 `.tflite` from samples to the timing map, run as a stream.

    Parameters
    ----------
    path : str or Path
        File of a `BeatStudent`.

    Attributes
    ----------
    scale, zero : float, int
        A code of the map stands for scale * (code - zero).
    input_scale, input_zero : float, int
        A code of the input stands for so much of a window's [-1, 1], less its zero point.
    look_ahead : int
        Samples after an output's four that it sees.
    layers : list of StreamLayer
    channels : int
        Channels of the input: 1 = PPG, 4 = PPG and three axes of acceleration.
    numbers : list of int
        Places of these layers in the file.

    Raises
    ------
    UserError
        If the file is no int8 student that reads beats.
    """

    def __init__(self, path):
        tensors, layers, source, _ = read_layers(path)
        made_by = {layer.output: (number, layer) for number, layer in enumerate(layers)}
        end = timing_maps(tensors, layers)
        if len(end) != 1:
            raise UserError(f"{path}: not an int8 student that reads beats")
        chain, place, look_ahead = [], end[0], 0
        while place != source:
            number, layer = made_by[place]
            if layer.kernel in ("xmae_conv", "xmae_depthwise"):
                chain.insert(0, (number, layer))
            elif layer.op == "PAD":
                x, y = (tensors[i].shape for i in (layer.inputs[0], layer.output))
                before = layer.fields["top"] + layer.fields["left"] + layer.fields["front"]
                look_ahead += sum(y) - sum(x) - before
            elif layer.op != "RESHAPE":
                raise UserError(
                    f"{path}: {layer.op} before the map; a stream knows convolutions only"
                )
            place = layer.inputs[0]
        self.numbers = [number for number, _ in chain]
        self.look_ahead = look_ahead
        self.layers = [stream_layer(layer) for _, layer in chain]
        self.scale, self.zero = tensors[end[0]].scale, tensors[end[0]].zero
        self.input_scale, self.input_zero = tensors[source].scale, tensors[source].zero
        first = self.layers[0]
        self.channels = first.weights.shape[1] // first.taps
        self.reset()

    def reset(self):
        """Set the state as after a long silence."""
        for layer in self.layers:
            n_in = (
                layer.weights.shape[0] if layer.depthwise else layer.weights.shape[1] // layer.taps
            )
            layer.columns = np.full((layer.taps - layer.stride, n_in), layer.in_zero, np.int8)
        self.push(np.zeros((SILENCE, self.channels), np.int8))

    def push(self, samples):
        """Take int8 samples (n,) or (n, channels) and return the map's codes less their zero point,
        int64 (m, 3).
        """
        x = np.asarray(samples, np.int64).reshape(len(samples), self.channels) + self.input_zero
        x = np.clip(x, -128, 127).astype(np.int8)
        for layer in self.layers:
            x = layer.push(x)
        return x.astype(np.int64) - self.zero


def timing_maps(tensors, layers):
    """Return the tensors that may be a timing map; a student that reads beats has exactly one."""
    return [
        layer.output
        for layer in layers
        if layer.kernel == "xmae_conv" and tensors[layer.output].shape[3] == MAP_CHANNELS
    ]


def reads_beats(path):
    """Tell whether an int8 `.tflite` is that of a student that reads beats."""
    tensors, layers, _, _ = read_layers(path)
    return len(timing_maps(tensors, layers)) == 1


def stream_layer(layer):
    """Turn a layer of the C source back into a `StreamLayer`."""
    fields, constants = layer.fields, layer.constants
    taps, out = fields["k_h"] * fields["k_w"], fields["out_c"]
    depthwise = layer.kernel == "xmae_depthwise"
    packed = constants["weights"]
    if depthwise:
        weights = packed.reshape(-1, taps, 4).transpose(0, 2, 1).reshape(-1, taps)[:out]
    else:
        size = taps * fields["in_c"]
        weights = packed.reshape(-1, -(-size // 8) * 8, 2).transpose(0, 2, 1)
        weights = weights.reshape(-1, weights.shape[2])[:out, :size]
    return StreamLayer(
        weights.astype(np.int32),
        constants["bias"][:out].astype(np.int64),
        constants["multiplier"][:out].astype(np.int64),
        constants["shift"][:out].astype(np.int64),
        taps,
        fields["stride_w"],
        depthwise,
        (fields["out_zero"], fields["out_min"], fields["out_max"]),
        fields["in_zero"],
    )
