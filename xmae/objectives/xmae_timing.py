"""xMAE with timing: rebuild masked ECG whose delay is taken off, and say when the heart beats.

The published objective (`xmae.objectives.xmae`) asks for samples of an ECG that lies an unknown
time before the pulse, so a right rhythm that is 30 ms off costs as much as drawing nothing. Here
each recording's delay is taken off first, the rebuilt patch may lie up to 30 ms away (10 ms towards
the end of the training), and every PPG token also learns the phase and the interval of its ten
moments (`xmae.beats.timing_map`). Where the ECG asks the PPG, it starts by asking what is near in
time. Windows are generated and real, half and half. The PPG and the ECG of generated people are
upside down at times; which way up an ECG is, its visible patches say. The design is ours; see
docs/twin.md.
"""

import torch

from xmae.data.batches.timing import TimedRecordings, TimedWindows, TimingBatches
from xmae.errors import require_at_least, require_choice
from xmae.models.xmae import SIZES, XMAE
from xmae.objectives.curriculum import RATIOS
from xmae.objectives.masks import anchor, n_hidden
from xmae.objectives.objective import Defaults, Objective, register
from xmae.objectives.timing import STEPS, timing_loss
from xmae.signals.window import PATCH

TOLERANCE = 3  # samples at 100 Hz that a rebuilt patch may lie early or late, at first
LAST_TOLERANCE = 1  # the same at the end: within it, nothing says where a peak should be
TIMING_WEIGHT = 1.0


def tolerant_mse(rebuilt, ecg, mask, tolerance=TOLERANCE):
    """Return the mean squared error over masked patches, each compared at the shift where it fits
    best.

    Parameters
    ----------
    rebuilt, ecg : tensor, shape (B, 1, L)
    mask : bool tensor, shape (B, L / 40)
        True = hidden.
    tolerance : int
        Samples that a patch may lie early or late.

    Returns
    -------
    scalar tensor
    """
    rebuilt, ecg = rebuilt.float(), ecg.float()
    errors = [
        (rebuilt - ecg.roll(shift, -1)).square().unflatten(-1, (-1, PATCH)).mean(-1)
        for shift in range(-tolerance, tolerance + 1)
    ]
    best = torch.stack(errors).amin(0)[:, 0]  # (B, N)
    return (best * mask).sum() / mask.sum()


@register
class XMAETimingObjective(Objective):
    """Masked reconstruction of ECG from PPG, together with timing: model, mask and losses.

    Parameters
    ----------
    size : str
        "base" (widths as published, embedding of 512) or "small" (half of them, embedding of 256).
    real : float
        Share of real windows, 0 to 1.
    tolerance : int
        Samples (10 ms) that a rebuilt patch may lie early or late at first; more than 1 falls to 1
        over the training. 0 with `timing` 0 is plain masked error.
    timing : float
        Weight of the timing map's loss.
    near : int
        1: each head of the bridge has a bias for each distance in time, and starts near; 0: not.
    steps : int
        Batches that make an epoch.
    """

    name = "xmae-timing"

    paper = "Zhou et al., arXiv 2605.00973, with dense timing, which is ours (docs/twin.md)"
    defaults = Defaults(epochs=64, batch_size=64, lr=1e-3, patience=None, keep="last")
    needs_ecg = True
    rebuilds_ecg = True

    def __init__(
        self, size="small", real=0.5, tolerance=TOLERANCE, timing=TIMING_WEIGHT, near=1,
        steps=STEPS,
    ):  # fmt: skip
        super().__init__()
        require_choice("size", size, SIZES)
        require_at_least(0, tolerance=tolerance, timing=timing)
        self.model = XMAE(SIZES[size], timed=True, near=bool(near))
        self.model.align()
        self.real, self.steps = real, steps
        self.tolerance, self.timing_weight = tolerance, timing
        self.n_steps = 1

    @property
    def encoder(self):
        """Return the PPG encoder, which is the result of pretraining."""
        return self.model.encoder

    def batches(self, store, batch_size, seed, rank=0, world_size=1, accumulate=1, **_):
        """Make training batches from the twin and the store, and validation windows from the
        store.
        """
        recordings = TimedRecordings(store.windows("train"))
        train = TimingBatches(
            recordings, batch_size, self.steps, seed, self.real, ecg=True,
            rank=rank, world_size=world_size, accumulate=accumulate,
        )  # fmt: skip
        return train, TimedWindows(TimedRecordings(store.windows("val")))

    def hidden(self, batch, ratio):
        """Draw the hidden patches of the ECG: bool (B, 25), and the number of visible ones."""
        n = batch.ppg.shape[-1] // PATCH
        generator = torch.Generator().manual_seed(batch.seed)
        mask = anchor(len(batch.ppg), n, ratio, generator).to(batch.ppg.device)
        return mask, n - n_hidden(n, ratio)

    def forward(self, batch):
        """Compute the reconstruction and timing loss of a batch; steps take the mask ratios in
        turn.
        """
        mask, n_visible = self.hidden(batch, RATIOS[batch.step % len(RATIOS)])
        tokens = self.encoder.tokens(batch.ppg)
        rebuilt = self.model.reconstruct(tokens, batch.ecg, mask, n_visible)
        timing = timing_loss(self.encoder.map_of(tokens), batch.target, batch.weight)
        rebuilding = tolerant_mse(rebuilt, batch.ecg, mask, self.tolerance_at(batch.step))
        return rebuilding + self.timing_weight * timing

    def begin(self, n_steps):
        """Keep how many steps the training has."""
        super().begin(n_steps)
        self.n_steps = n_steps

    def tolerance_at(self, step):
        """Return the tolerance at a step of the optimiser, in samples. In a run that is extended it
        follows the new number of steps, as the learning rate does.
        """
        last = min(self.tolerance, LAST_TOLERANCE)
        progress = min(1.0, step / self.n_steps)
        return round(self.tolerance + (last - self.tolerance) * progress)

    def validate(self, batch):
        """Compute the plain masked error at the first ratio, which can be stated as a share of the
        ECG's variance.
        """
        mask, n_visible = self.hidden(batch, RATIOS[0])
        return self.model(batch.ppg, batch.ecg, mask, n_visible).loss
