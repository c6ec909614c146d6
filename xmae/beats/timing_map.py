"""The timing map: where in its beat the heart is, 25 times a second, and how long the beat lasts.

Three numbers each 0.04 s: cosine and sine of the beat's phase, which runs from 0 to 1 turn from one
pulse to the next, and the logarithm of the interval. A pulse is where the phase passes a whole
turn. The length of (cosine, sine) is the net's confidence: torn between two phases, it answers
between.
"""

STEP = 4  # samples at 100 Hz from one output to the next
MAP_SFREQ = 25  # Hz
FIRST_S = 0.015  # s, the time of output 0: the middle of its four samples
TYPICAL_S, LOG_SCALE = (
    0.75,
    0.5,
)  # interval at which the third number is 0; one unit in natural logarithm
LOG_SHARE = 0.5  # of the third number in exported rows, see `xmae.quantize.graph.BeatGraph`


def map_times(n):
    """Return the times of `n` outputs, s from the first sample of the window: float tensor (n,)."""
    import torch  # a stream needs the numbers above, and no PyTorch

    return FIRST_S + torch.arange(n) * (STEP / 100)


def timing_target(pulses, n):
    """Make the timing map of known pulses.

    Parameters
    ----------
    pulses : tensor, shape (B, K)
        Times of pulses, s, ascending in each row; they must begin before the window and end after
        it for the whole window to be known. NaN at the end of a row stands for no pulse.
    n : int
        Outputs.

    Returns
    -------
    target : tensor, shape (B, 3, n)
        Cosine, sine, log interval (0 where unknown).
    known : bool tensor, shape (B, n)
        True where a pulse lies before and after, no more than 3 s apart.
    """
    import torch

    pulses = torch.nan_to_num(pulses, nan=1e6).contiguous()
    t = map_times(n).to(pulses).expand(len(pulses), n).contiguous()
    after = torch.searchsorted(pulses, t, right=True)
    last = pulses.shape[1] - 1
    start = pulses.gather(1, (after - 1).clamp(0, last))
    end = pulses.gather(1, after.clamp(0, last))
    interval = end - start
    known = (after > 0) & (after <= last) & (interval < 3) & (interval > 0.2)
    interval = torch.where(known, interval, torch.full_like(interval, TYPICAL_S))
    angle = 2 * torch.pi * (t - start) / interval
    length = (interval / TYPICAL_S).log() / LOG_SCALE
    target = torch.stack([angle.cos(), angle.sin(), length], 1)
    return target * known[:, None], known
