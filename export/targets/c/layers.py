"""The layers of an int8 `.tflite` as calls of the C kernels: constants in the order that they want,
numbers worked out.

The arithmetic is that of TensorFlow Lite's `Prepare` functions: fixed-point multipliers (frexp, 31
bits), padding, output ranges of fused activations. Biases carry the input's zero point, so that
kernels multiply raw codes.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from xmae.errors import UserError, refusing
from xmae.native import quietly

# none, RELU, RELU_N1_TO_1, RELU6: real limits
FUSED = {0: (None, None), 1: (0, None), 2: (-1, 1), 3: (0, 6)}


@dataclass
class Layer:
    """One call of a kernel.

    Attributes
    ----------
    op : str
        Name of the TFLite operator.
    inputs, output : list of int, int
        Numbers of activation tensors.
    kernel : str
        C function; empty where nothing is to be done.
    fields : dict
        Numbers in the kernel's struct, by field.
    constants : dict
        Arrays for flash, by field of the kernel's struct.
    macs : int
        Products of weights with inputs.
    scratch : int
        Bytes of working memory.
    """

    op: str
    inputs: list
    output: int
    kernel: str
    fields: dict
    constants: dict = field(default_factory=dict)
    macs: int = 0
    scratch: int = 0


@dataclass
class Tensor:
    """A tensor of the flatbuffer: shape (4-D, NHWC), per-channel scales, zero point, constant data
    or None.
    """

    shape: tuple
    scales: np.ndarray
    zero: int
    data: np.ndarray | None

    @property
    def scale(self):
        """Return the scale of an activation."""
        return float(self.scales[0])

    @property
    def size(self):
        """Return the number of elements."""
        return math.prod(self.shape)


def read_layers(path):
    """Read a flatbuffer: tensors by number, layers in order, numbers of the input and the output
    tensor.
    """
    with quietly():
        from ai_edge_litert import schema_py_generated as schema
    with refusing(path, "a TFLite model"):
        image = Path(path).read_bytes()
        model = schema.ModelT.InitFromPackedBuf(image, 0)
        inline_buffers(model, image)
        return layers_of(model, schema, path)


def layers_of(model, schema, path):
    """Read layers as `read_layers`, from the parsed flatbuffer; a forged one may raise any
    exception.
    """
    graph = model.subgraphs[0]
    tensors = {i: tensor(model, entry, schema) for i, entry in enumerate(graph.tensors)}
    kinds = {
        number: name
        for name, number in vars(schema.BuiltinOperator).items()
        if isinstance(number, int)
    }
    layers = []
    for operator in graph.operators:
        kind = kinds[model.operatorCodes[operator.opcodeIndex].builtinCode]
        if kind not in READERS:
            raise UserError(f"{path}: C code has no operator {kind}; known: {', '.join(READERS)}")
        used = [*operator.inputs, *operator.outputs]
        if any(graph.tensors[i].type == schema.TensorType.FLOAT32 for i in used if i >= 0):
            raise UserError(
                f"{path}: {kind} computes in float; C code needs a model that is int8 throughout"
            )
        inputs = [int(i) for i in operator.inputs]
        try:
            layers.append(
                READERS[kind](tensors, inputs, int(operator.outputs[0]), operator.builtinOptions)
            )
        except UserError as error:
            raise UserError(f"{path}: {kind}: {error}") from error
    return tensors, layers, int(graph.inputs[0]), int(graph.outputs[0])


def inline_buffers(model, image):
    """Move constants that ai-edge-quantizer puts behind the flatbuffer (those of 256 KiB and more)
    into it.

    Returns whether there were any. TensorFlow Lite Micro does not find them behind the flatbuffer,
    and would compute without them.
    """
    # 0 and 1 say that it has none
    outside = [buffer for buffer in model.buffers if buffer.offset > 1]
    for buffer in outside:
        buffer.data = np.frombuffer(image, np.uint8, buffer.size, buffer.offset)
        buffer.offset = buffer.size = 0
    return bool(outside)


def tensor(model, entry, schema):
    """Return a `Tensor` from its flatbuffer entry."""
    shape = tuple(entry.shape.tolist()) if entry.shape is not None else ()
    quantization = entry.quantization
    known = quantization is not None and quantization.scale is not None
    data = model.buffers[entry.buffer].data
    if data is not None:
        dtype = {schema.TensorType.INT8: np.int8, schema.TensorType.INT32: "<i4"}.get(
            entry.type, np.uint8
        )
        data = np.asarray(data, np.uint8).view(dtype).reshape(shape if dtype != np.uint8 else -1)
    return Tensor(
        (1,) * (4 - len(shape)) + shape,
        np.asarray(quantization.scale, np.float64) if known else np.ones(1),
        int(quantization.zeroPoint[0]) if known else 0,
        data,
    )


def quantize_multiplier(real):
    """Return (multiplier, shift) with real = multiplier * 2^(shift - 31), as TFLite's
    `QuantizeMultiplier`.

    >>> quantize_multiplier(0.75)
    (1610612736, 0)
    """
    if real == 0:
        return 0, 0
    fraction, shift = math.frexp(real)
    multiplier = int(math.floor(fraction * 2**31 + 0.5))
    if multiplier == 2**31:
        multiplier, shift = multiplier // 2, shift + 1
    return (0, 0) if shift < -31 else (multiplier, shift)


def output_range(result, activation):
    """Return the smallest and largest code after a fused activation."""
    if activation not in FUSED:
        raise UserError("fused activation is none of NONE, RELU, RELU_N1_TO_1, RELU6")

    def code(real, default):
        if real is None:
            return default
        step = np.float32(real) / np.float32(result.scale)
        # TfLiteRound: half away
        return result.zero + int(math.floor(abs(step) + 0.5) * (1 if step >= 0 else -1))

    low, high = FUSED[activation]
    return max(-128, code(low, -128)), min(127, code(high, 127))


def rescaling(x, y, weights_scales, bounds):
    """Return the multipliers and shifts per channel of a layer whose accumulators stay within
    +-`bounds`.
    """
    pairs = []
    for scale, bound in zip(weights_scales, bounds, strict=True):
        real = float(x.scale) * float(scale) / float(y.scale)
        multiplier, shift = quantize_multiplier(real)
        if bound * 2.0 ** max(shift, 0) >= 2**30:
            raise UserError("a sum may exceed 30 bits")
        if shift < -22:
            if bound * real >= 0.25:
                raise UserError(f"ratio of scales {real:.1e} is too small")
            multiplier, shift = 0, 0  # the result is the zero point whatever the input
        pairs.append((multiplier, shift))
    return np.array(pairs, np.int64).T


def matrix(kind, tensors, inputs, output, rows, geometry, activation):
    """Return a layer of `xmae_conv` with weights `rows` (out, K), whose columns are in the order of
    the window's bytes.
    """
    x, y = tensors[inputs[0]], tensors[output]
    out, k = rows.shape
    bias = (
        tensors[inputs[2]].data if len(inputs) > 2 and inputs[2] >= 0 else np.zeros(out, np.int32)
    )
    biases, bounds = with_zero_point(rows, bias, x.zero)
    multiplier, shift = rescaling(x, y, np.broadcast_to(tensors[inputs[1]].scales, out), bounds)
    packed = np.zeros((-(-out // 2) * 2, -(-k // 8) * 8), np.int8)
    packed[:out, :k] = rows
    packed = packed.reshape(len(packed) // 2, 2, -1).transpose(0, 2, 1)
    low, high = output_range(y, activation)
    fields = geometry | {"in_zero": x.zero, "out_zero": y.zero, "out_min": low, "out_max": high}
    even = np.zeros(out % 2, np.int64)
    arrays = {
        "bias": np.append(biases, even).astype("<i4"),
        "multiplier": multiplier.astype("<i4"),
        "shift": shift.astype(np.int8),
        "weights": packed.ravel(),
    }
    positions = geometry["out_h"] * geometry["out_w"]
    scratch = 12 * (-(-k // 16) * 16)  # XMAE_CONV_SCRATCH
    return Layer(
        kind, inputs[:1], output, "xmae_conv", fields, arrays, positions * out * k, scratch
    )


def with_zero_point(rows, bias, zero):
    """Return the bias with -zero * sum(weights) added, and the largest possible sum: (out,),
    (out,).
    """
    wide = rows.astype(np.int64)
    biases = bias.astype(np.int64) - zero * wide.sum(1)
    return biases, np.abs(biases) + 128 * np.abs(wide).sum(1)


def window_geometry(x, y, kernel, options):
    """Return the fields of a sliding window: sizes, strides, and padding above and left of the
    input.
    """
    if getattr(options, "dilationHFactor", 1) != 1 or getattr(options, "dilationWFactor", 1) != 1:
        raise UserError("dilation is not supported")
    (_, in_h, in_w, in_c), (_, out_h, out_w, out_c) = x.shape, y.shape
    strides = options.strideH, options.strideW
    pad = [0, 0]
    if options.padding == 0:  # SAME
        pad = [
            max((out - 1) * stride + k - size, 0) // 2
            for out, stride, k, size in zip(
                (out_h, out_w), strides, kernel, (in_h, in_w), strict=True
            )
        ]
    return {
        "in_h": in_h, "in_w": in_w, "in_c": in_c, "out_h": out_h, "out_w": out_w, "out_c": out_c,
        "k_h": kernel[0], "k_w": kernel[1], "stride_h": strides[0], "stride_w": strides[1],
        "pad_h": pad[0], "pad_w": pad[1],
    }  # fmt: skip


def conv(tensors, inputs, output, options):
    """Read a CONV_2D."""
    x, y, w = tensors[inputs[0]], tensors[output], tensors[inputs[1]].data
    if w.shape[3] != x.shape[3]:
        raise UserError("grouped convolution is not supported")
    geometry = window_geometry(x, y, w.shape[1:3], options)
    rows = w.reshape(len(w), -1)
    return matrix(
        "CONV_2D", tensors, inputs, output, rows, geometry, options.fusedActivationFunction
    )


def depthwise(tensors, inputs, output, options):
    """Read a DEPTHWISE_CONV_2D; with a single input channel it becomes a convolution."""
    x, y, w = tensors[inputs[0]], tensors[output], tensors[inputs[1]].data
    geometry = window_geometry(x, y, w.shape[1:3], options)
    rows = w.reshape(-1, w.shape[3]).T  # (channels, taps)
    activation = options.fusedActivationFunction
    if x.shape[3] == 1:
        return matrix("DEPTHWISE_CONV_2D", tensors, inputs, output, rows, geometry, activation)
    if options.depthMultiplier != 1:
        raise UserError("a depth multiplier needs a single input channel")
    channels, taps = rows.shape
    bias = (
        tensors[inputs[2]].data
        if len(inputs) > 2 and inputs[2] >= 0
        else np.zeros(channels, np.int32)
    )
    biases, bounds = with_zero_point(rows, bias, x.zero)
    multiplier, shift = rescaling(
        x, y, np.broadcast_to(tensors[inputs[1]].scales, channels), bounds
    )
    padded = -(-channels // 4) * 4
    packed = np.zeros((padded, taps), np.int8)
    packed[:channels] = rows
    low, high = output_range(y, activation)
    fields = geometry | {"in_zero": x.zero, "out_zero": y.zero, "out_min": low, "out_max": high}
    arrays = {
        "bias": biases.astype("<i4"),
        "multiplier": multiplier.astype("<i4"),
        "shift": shift.astype(np.int8),
        "weights": packed.reshape(-1, 4, taps).transpose(0, 2, 1).ravel(),
    }
    macs = geometry["out_h"] * geometry["out_w"] * channels * taps
    scratch = taps * (channels + 12) // 4 * 4 + 84  # XMAE_DEPTHWISE_SCRATCH
    return Layer(
        "DEPTHWISE_CONV_2D", inputs[:1], output, "xmae_depthwise", fields, arrays, macs, scratch
    )


def fully_connected(tensors, inputs, output, options):
    """Read a FULLY_CONNECTED as a 1 x 1 convolution with as many positions as the input has
    rows.
    """
    rows = tensors[inputs[1]].data
    positions = tensors[inputs[0]].size // rows.shape[1]
    geometry = dict.fromkeys(("in_h", "out_h", "k_h", "k_w", "stride_h", "stride_w"), 1)
    geometry |= {"in_w": positions, "out_w": positions, "in_c": rows.shape[1], "out_c": len(rows)}
    geometry |= {"pad_h": 0, "pad_w": 0}
    return matrix(
        "FULLY_CONNECTED", tensors, inputs, output, rows, geometry, options.fusedActivationFunction
    )


def add(tensors, inputs, output, options):
    """Read an ADD of two activations of one shape."""
    a, b, y = tensors[inputs[0]], tensors[inputs[1]], tensors[output]
    if a.shape != b.shape or a.data is not None or b.data is not None:
        raise UserError("only activations of one shape can be added")
    largest = 2 * max(a.scale, b.scale)
    (m1, s1), (m2, s2), (m, s) = (
        quantize_multiplier(real)
        for real in (a.scale / largest, b.scale / largest, largest / (2**20 * y.scale))
    )
    if max(s1, s2, s) > 0 or min(s1, s2, s) < -30:
        raise UserError("scales are too far apart")
    low, high = output_range(y, options.fusedActivationFunction)
    fields = {
        "size": y.size, "multiplier1": m1, "multiplier2": m2, "multiplier_out": m, "shift1": s1,
        "shift2": s2, "shift_out": s, "zero1": a.zero, "zero2": b.zero, "out_zero": y.zero,
        "out_min": low, "out_max": high,
    }  # fmt: skip
    return Layer("ADD", inputs, output, "xmae_add", fields)


def mean(tensors, inputs, output, options):
    """Read a MEAN over height and width."""
    x, y = tensors[inputs[0]], tensors[output]
    if sorted(axis % 4 for axis in tensors[inputs[1]].data.ravel().tolist()) != [1, 2]:
        raise UserError("only the mean over height and width is supported")
    positions = x.shape[1] * x.shape[2]
    multiplier, shift = quantize_multiplier(float(x.scale) / float(y.scale))
    halvings = min(positions.bit_length() - 1, 32, 31 + shift)
    fields = {
        "positions": positions, "channels": x.shape[3],
        "multiplier": (multiplier << halvings) // positions, "shift": shift - halvings,
        "in_zero": x.zero, "out_zero": y.zero,
    }  # fmt: skip
    return Layer("MEAN", inputs[:1], output, "xmae_mean", fields)


def average_pool(tensors, inputs, output, options):
    """Read an AVERAGE_POOL_2D."""
    x, y = tensors[inputs[0]], tensors[output]
    geometry = window_geometry(x, y, (options.filterHeight, options.filterWidth), options)
    low, high = output_range(y, options.fusedActivationFunction)
    fields = {key: value for key, value in geometry.items() if key not in ("in_c", "out_c")}
    fields |= {"channels": x.shape[3], "out_min": low, "out_max": high}
    return Layer("AVERAGE_POOL_2D", inputs[:1], output, "xmae_average_pool", fields)


def pad(tensors, inputs, output, options):
    """Read a PAD with the zero point."""
    x, y = tensors[inputs[0]], tensors[output]
    before = tensors[inputs[1]].data.reshape(-1, 2)[:, 0].tolist()
    batch, top, left, front = [0] * (4 - len(before)) + before
    if batch or y.shape[0] != 1:
        raise UserError("the batch cannot be padded")
    (_, in_h, in_w, in_c), (_, out_h, out_w, out_c) = x.shape, y.shape
    fields = {
        "in_h": in_h, "in_w": in_w, "in_c": in_c, "out_h": out_h, "out_w": out_w, "out_c": out_c,
        "top": top, "left": left, "front": front, "value": y.zero,
    }  # fmt: skip
    return Layer("PAD", inputs[:1], output, "xmae_pad", fields)


def concatenation(tensors, inputs, output, options):
    """Read a CONCATENATION of two rows of one scale along their last axis."""
    y, parts = tensors[output], [tensors[number] for number in inputs]
    if len(parts) != 2 or any(part.shape[:3] != (1, 1, 1) for part in parts):
        raise UserError("only two rows can be joined")
    if any((part.scale, part.zero) != (y.scale, y.zero) for part in parts):
        raise UserError("what is joined must have one scale")
    fields = {"size1": parts[0].size, "size2": parts[1].size}
    return Layer("CONCATENATION", inputs, output, "xmae_concatenate", fields)


def requantize(tensors, inputs, output, options):
    """Read a QUANTIZE from one int8 scale to another."""
    x, y = tensors[inputs[0]], tensors[output]
    multiplier, shift = quantize_multiplier(x.scale / y.scale)
    if not -30 <= shift <= 20:
        raise UserError("scales are too far apart")
    fields = {
        "size": y.size, "multiplier": multiplier, "shift": shift, "in_zero": x.zero,
        "out_zero": y.zero,
    }  # fmt: skip
    return Layer("QUANTIZE", inputs[:1], output, "xmae_requantize", fields)


def reshape(tensors, inputs, output, options):
    """Read a RESHAPE, which leaves the bytes as they are."""
    return Layer("RESHAPE", inputs[:1], output, "", {})


READERS = {
    "CONV_2D": conv, "DEPTHWISE_CONV_2D": depthwise, "FULLY_CONNECTED": fully_connected, "ADD": add,
    "MEAN": mean, "AVERAGE_POOL_2D": average_pool, "PAD": pad, "RESHAPE": reshape,
    "CONCATENATION": concatenation, "QUANTIZE": requantize,
}  # fmt: skip
