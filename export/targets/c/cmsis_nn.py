"""Layers as Arm's CMSIS-NN wants them, for users who bring it: see `kernels/xmae_cmsis_nn.h`."""

from dataclasses import replace

import numpy as np


def for_cmsis_nn(layer):
    """Convert a convolution to CMSIS-NN's layout: weights and bias in the model's order, int32
    shifts, and its scratch size.

    Other layers stay as they are.
    """
    if layer.kernel not in ("xmae_conv", "xmae_depthwise"):
        return layer
    taps, channels, out = (
        layer.fields["k_h"] * layer.fields["k_w"],
        layer.fields["in_c"],
        layer.fields["out_c"],
    )
    packed = layer.constants["weights"]
    if layer.kernel == "xmae_depthwise":
        rows = packed.reshape(-1, taps, 4).transpose(0, 2, 1).reshape(-1, taps)[:out]
        # with SMLAD; with Helium: CH_IN_BLOCK_MVE = 124
        weights, scratch = rows.T, max(2 * channels, 4 * 124) * taps
    else:
        k = taps * channels
        pairs = packed.reshape(-(-out // 2), -1, 2).transpose(0, 2, 1)
        weights = rows = pairs.reshape(2 * len(pairs), -1)[:out, :k]
        scratch = 4 * (-(-k // 8) * 8)
    constants = {
        "bias": (
            layer.constants["bias"][:out] + layer.fields["in_zero"] * rows.astype(np.int64).sum(1)
        ).astype("<i4"),
        "multiplier": layer.constants["multiplier"][:out],
        "shift": layer.constants["shift"][:out].astype("<i4"),
        "weights": weights.ravel(),
    }
    return replace(
        layer, kernel=layer.kernel.replace("xmae_", "xmae_cmsis_"), constants=constants,
        scratch=scratch, fields=layer.fields | {"scratch": scratch},
    )  # fmt: skip
