"""A trained encoder as the graph that every exporter maps well: same numbers, friendlier
operations.

`Conv2d` over (1, channels, 1, time) instead of `Conv1d`; batch norms folded into convolutions and
the affine part of layer norms into the Linear that follows; attention as plain matrix products with
the scale folded into the queries; upsampling as 4-D bilinear interpolation. What each of these
avoids: transposes around 1-D convolutions, float islands around `scaled_dot_product_attention`,
layer norms that split the delegated graph.
"""

import copy
import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from xmae.beats.timing_map import LOG_SHARE
from xmae.errors import UserError
from xmae.models.beat_student import BeatStudent
from xmae.models.criss_cross import CrissCrossEncoder
from xmae.models.efficientnet import EfficientNetEncoder
from xmae.models.resnet import ResNetEncoder
from xmae.models.stem import Stem
from xmae.models.student import McuStudent
from xmae.models.vit import ViTEncoder
from xmae.models.xmae import PPGEncoder, TimedPPGEncoder
from xmae.quantize.criss_cross import CrissCrossGraph
from xmae.signals.window import N_TIMES

INPUT_SHAPE = (1, 1, 1, N_TIMES)  # batch, channel, height, time of every exported PPG model


def exportable(encoder, n_chans=2):
    """Return an inference module with input (1, 1, 1, 1000) and output (1, D) that computes the
    same as `encoder`.

    Parameters
    ----------
    encoder : McuStudent, PPGEncoder, ViTEncoder, ResNetEncoder or EfficientNetEncoder
        Trained encoder; left unchanged. A CrissCrossEncoder too: its graph takes (1, 1, n_chans,
        2000).
    n_chans : int
        Channels of the input of a CrissCrossEncoder.

    Returns
    -------
    torch.nn.Module
        In evaluation mode; its outputs differ from the encoder's by float rounding only.

    Raises
    ------
    UserError
        If no graph is known for this kind of encoder.
    """
    if isinstance(encoder, CrissCrossEncoder):
        graph = CrissCrossGraph(copy.deepcopy(encoder).cpu().float().eval(), n_chans)
        return graph.eval().requires_grad_(False)
    graphs = {
        BeatStudent: BeatGraph, McuStudent: ConvGraph, ResNetEncoder: ConvGraph,
        EfficientNetEncoder: ConvGraph, PPGEncoder: TeacherGraph, TimedPPGEncoder: TeacherGraph,
        ViTEncoder: TeacherGraph,
    }  # fmt: skip
    if type(encoder) not in graphs:
        raise UserError(
            f"cannot export a {type(encoder).__name__}; known: "
            f"{', '.join(k.__name__ for k in graphs)}"
        )
    graph = graphs[type(encoder)](copy.deepcopy(encoder).cpu().float().eval())
    return graph.eval().requires_grad_(False)


def input_shape(graph):
    """Return the input shape of an exportable graph."""
    return getattr(graph, "input_shape", INPUT_SHAPE)


def as_input(window):
    """Shape one window as the input of a graph: (1000,) -> (1, 1, 1, 1000), channels (C, n_times)
    -> (1, 1, C, n_times).
    """
    return window.reshape(1, 1, -1, window.shape[-1])


class ConvGraph(nn.Module):
    """`McuStudent` or another encoder of 2-D convolutions, with folded batch norms."""

    def __init__(self, encoder):
        super().__init__()
        for layer in [m for m in encoder.modules() if isinstance(m, nn.Sequential) and len(m) > 1]:
            if isinstance(layer[0], nn.Conv2d) and isinstance(layer[1], nn.BatchNorm2d):
                layer[0] = fuse_conv_bn_eval(layer[0], layer[1])
                del layer[1]
        for layer in [m for m in encoder.modules() if isinstance(m, nn.Sequential)]:
            for i, pool in enumerate(layer):
                if isinstance(pool, nn.MaxPool2d) and pool.padding != 0:
                    layer[i] = zero_padded(pool, encoder.stem[0].out_channels)
        self.encoder = encoder

    def forward(self, ppg):
        """Map (1, 1, 1, 1000) -> (1, D)."""
        return self.encoder.embed(ppg)


class BeatGraph(ConvGraph):
    """`BeatStudent`: the embedding followed by the timing map, in one row of numbers.

    The map is (250, 3) in the order of time. Its log interval is halved, so that all of the row
    lies within about the same range, as int8 has one scale for it.

    A student for PPG and acceleration takes (1, 1, 1000, C): samples one after the other, as they
    come.
    """

    def __init__(self, encoder):
        super().__init__(encoder)
        self.channels = encoder.sizes.n_inputs
        if self.channels > 1:
            self.input_shape = (1, 1, N_TIMES, self.channels)
        with torch.no_grad():
            encoder.to_map.weight[2] *= LOG_SHARE
            encoder.to_map.bias[2] *= LOG_SHARE

    def forward(self, ppg):
        """Map (1, 1, 1, 1000) or (1, 1, 1000, C) -> (1, E + 750)."""
        if self.channels > 1:
            ppg = ppg.permute(0, 3, 1, 2)
        embedding, timing = self.encoder.outputs(ppg)
        return torch.cat([embedding, timing.permute(0, 2, 3, 1).flatten(1)], 1)


def zero_padded(pool, channels):
    """Return a max pool for non-negative values, as after a ReLU, that pads with 0: int8 has no
    code for minus infinity.

    A convolution with a kernel of 1 pads: a padding of its own is what some delegates cannot load.
    """
    pad = nn.Conv2d(channels, channels, 1, padding=pool.padding, groups=channels, bias=False)
    nn.init.ones_(pad.weight)
    return nn.Sequential(pad, nn.MaxPool2d(pool.kernel_size, pool.stride))


class TeacherGraph(nn.Module):
    """`PPGEncoder` or `ViTEncoder`: stem if any, patches, transformer blocks, mean over the tokens
    (and their deviation, of a `TimedPPGEncoder`), layer norm.
    """

    def __init__(self, encoder):
        super().__init__()
        self.stem = StemGraph(encoder.stem) if isinstance(encoder.stem, Stem) else nn.Identity()
        self.patches = conv2d(encoder.patches)
        self.positions = nn.Parameter(encoder.positions)
        self.blocks = nn.Sequential(*(BlockGraph(block) for block in encoder.blocks))
        self.norm, self.projection = Normalise(), nn.Identity()
        self.spread = isinstance(encoder, TimedPPGEncoder)
        if isinstance(encoder.projection, nn.Sequential):  # of a reference checkpoint
            self.projection = after_norm(*encoder.projection)

    def forward(self, ppg):
        """Map (1, 1, 1, 1000) -> (1, D)."""
        x = self.patches(self.stem(ppg)).flatten(2).transpose(1, 2)  # (1, N, D)
        x = self.blocks(x + self.positions)
        # (1, D, 1, 1): delegated everywhere
        x = x.transpose(1, 2).unflatten(2, (1, -1))
        pooled = mean = x.mean((2, 3), keepdim=True)
        if self.spread:
            # deviations add up to 0, so those above count twice: LiteRT has no ABS in int8
            above = torch.relu(x - mean).mean((2, 3), keepdim=True)
            pooled = torch.cat([mean, above + above], 1)
        return self.projection(self.norm(pooled.view(1, 1, -1)).flatten(1))


class BlockGraph(nn.Module):
    """Pre-LN transformer block on (1, N, D): explicit heads, scale folded into the query
    weights.
    """

    def __init__(self, block):
        super().__init__()
        packed = after_norm(block.norm1, block.attention.qkv)
        self.n_heads, width = block.attention.n_heads, packed.in_features
        scale = 1 / math.sqrt(width // self.n_heads)
        weights, biases = packed.weight.chunk(3), packed.bias.chunk(3)
        self.q = linear(weights[0] * scale, biases[0] * scale)
        self.k, self.v = linear(weights[1], biases[1]), linear(weights[2], biases[2])
        self.out = block.attention.out
        self.mlp = nn.Sequential(
            Normalise(), after_norm(block.norm2, block.mlp[0]), *block.mlp[1:3]
        )
        self.norm = Normalise()

    def heads(self, x):
        """Split into heads: (1, N, D) -> (heads, N, D / heads)."""
        return x.view(x.shape[1], self.n_heads, -1).transpose(0, 1)

    def forward(self, x):
        """Map (1, N, D) -> (1, N, D)."""
        y = self.norm(x)
        # (heads, N, N)
        scores = torch.bmm(self.heads(self.q(y)), self.heads(self.k(y)).transpose(1, 2))
        y = torch.bmm(scores.softmax(-1), self.heads(self.v(y)))  # (heads, N, D / heads)
        x = x + self.out(y.transpose(0, 1).reshape(x.shape))
        return x + self.mlp(x)


class StemGraph(nn.Module):
    """`Stem` on (1, channels, 1, time), with folded batch norms."""

    def __init__(self, stem):
        super().__init__()
        self.level1, self.level2, self.level3 = (
            nn.Sequential(*(inception(block) for block in level))
            for level in (stem.level1, stem.level2, stem.level3)
        )
        self.down1, self.down2, self.smooth2, self.smooth1, self.head = (
            nn.Sequential(folded(layer[0], layer[1]), nn.SiLU())
            for layer in (stem.down1, stem.down2, stem.smooth2, stem.smooth1, stem.head)
        )
        self.lateral2, self.lateral1 = conv2d(stem.lateral2), conv2d(stem.lateral1)
        self.reduce3, self.reduce2 = conv2d(stem.reduce3), conv2d(stem.reduce2)
        self.skip = folded(*stem.skip)

    def forward(self, x):
        """Map (1, 1, 1, L) -> (1, C, 1, L)."""
        one = self.level1(x)
        two = self.level2(self.down1(one))
        three = self.level3(self.down2(two))
        two = self.smooth2(self.lateral2(two) + upsample(self.reduce3(three)))
        one = self.smooth1(self.lateral1(one) + upsample(self.reduce2(two)))
        return self.head(one) + self.skip(x)


def inception(block):
    """Convert an inception block to two folded convolutions with SiLU: the joined kernel 7 wide,
    then 1x1.
    """
    kernel = block.joined_kernel()
    joined = nn.Conv1d(
        kernel.shape[1], kernel.shape[0], kernel.shape[2], padding=kernel.shape[2] // 2, bias=False
    )
    joined.weight = nn.Parameter(kernel)
    return nn.Sequential(
        folded(joined, block.norm), nn.SiLU(), folded(block.fuse[0], block.fuse[1]), nn.SiLU()
    )


def folded(conv, norm):
    """Fold a Conv1d and its BatchNorm1d into one Conv2d."""
    return conv2d(fuse_conv_bn_eval(conv.eval(), norm))


def conv2d(conv):
    """Convert a Conv1d to a Conv2d with kernel (1, k)."""
    (kernel,), (stride,), (padding,) = conv.kernel_size, conv.stride, conv.padding
    flat = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        (1, kernel),
        (1, stride),
        (0, padding),
        bias=conv.bias is not None,
    )
    flat.weight = nn.Parameter(conv.weight.unsqueeze(2))
    flat.bias = conv.bias
    return flat


def linear(weight, bias):
    """Return a Linear with the given weight (out, in) and bias (out,)."""
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)
    return layer


def after_norm(norm, layer):
    """Fold the affine part of `norm` into the Linear `layer` behind it: W (g x + b) + c."""
    return linear(layer.weight * norm.weight, layer.bias + layer.weight @ norm.bias)


class Normalise(nn.Module):
    """Layer norm of (1, N, D) over D without affine, from operations that XNNPACK delegates.

    A variance that int8 rounds to zero must not become a division by zero: hence the reciprocal
    square root, which int8 kernels saturate. Quantizers that can leave it in float do so.
    """

    def forward(self, x):
        """Map (1, N, D), D a multiple of 16 -> (1, N, D)."""
        # (1, N, D / 16, 16): means over (2, 3) are delegated
        square = x.view(1, x.shape[1], -1, 16)
        centred = square - square.mean((2, 3), keepdim=True)
        variance = (centred * centred).mean((2, 3), keepdim=True)
        return (centred * (variance + 1e-5).rsqrt()).view(x.shape)


def upsample(x):
    """Interpolate linearly to twice the length: (1, C, 1, L) -> (1, C, 1, 2 L)."""
    return F.interpolate(x, size=(1, 2 * x.shape[-1]), mode="bilinear", align_corners=False)
