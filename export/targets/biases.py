"""Biases in 32 bits: their scale is that of the input times that of the weights.

Where the weights of a channel have almost vanished, as of a pruned one, a bias of ordinary size
does not fit: it would saturate, and the channel say next to nothing. So the scale of the weights is
held wide enough; the weights it costs are those that are next to nothing.
"""

import numpy as np

MOST = 2**30  # largest code of a bias: half of 32 bits, the rest is for the sum of the products


def least_steps(bias, input_step):
    """Return the smallest weight scale of each channel with which its bias fits into 32 bits.

    Parameters
    ----------
    bias : float array, shape (channels,)
        Real biases.
    input_step : float
        Scale of the input, real units a code.

    Returns
    -------
    float array, shape (channels,)
        0 for a bias of 0, or an input without range.
    """
    return np.abs(bias.astype(np.float64)) / (input_step * MOST) if input_step > 0 else 0 * bias


def at_the_end(codes):
    """Tell whether any 32-bit code is at the end of its range."""
    return codes.size > 0 and bool((np.abs(codes.astype(np.int64)) >= 2**31 - 1).any())
