"""The criss-cross objective: hide stretches of time in every lead, and whole leads, and rebuild
them from the rest.

Hiding in time asks what a lead says about itself before and after, hiding leads what the leads say
about each other.

Sources: Ghallab et al., arXiv 2512.15250 (dual masking); Wang et al., *CBraMod*, ICLR 2025 (masked
patches at ratio 0.5, mean squared error on them). The rates of the lead mask are ours: the paper's
page gives none.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader

from xmae.data.batches.batches import SteppedBatches, part_size
from xmae.data.recording.leads import choose_leads
from xmae.errors import UserError, require_choice
from xmae.models.criss_cross import CRISS_CROSS_SIZES, CrissCross, patches
from xmae.objectives.masks import n_hidden, scatter
from xmae.objectives.objective import Defaults, Objective, register

MASKINGS = ("both", "intra", "inter")
MAX_LEADS = 12


@register
class CrissCrossObjective(Objective):
    """Masked reconstruction of several leads by a criss-cross transformer.

    Parameters
    ----------
    size : str
        "base" (12 layers, as released for EEG), "small" (4 layers) or "tiny" (1).
    masking : str
        "both"; for ablations "intra" (patches in time only) or "inter" (whole leads only).
    intra_ratio : float
        Share of the patches hidden in each lead.
    inter_ratio : float
        Most leads hidden, as a share of all but one.
    channels : str
        Channels of the store, 1 to 12, separated by commas; "V/MCL" is V, or MCL where V was not
        recorded.
    """

    name = "criss-cross"

    paper = "Ghallab et al., arXiv 2512.15250; Wang et al., CBraMod, ICLR 2025"
    defaults = Defaults(
        epochs=60, batch_size=16, lr=2e-3, weight_decay=0.05, betas=(0.9, 0.999), patience=60
    )

    def __init__(
        self, size="base", masking="both", intra_ratio=0.5, inter_ratio=1.0, channels="II,V/MCL"
    ):
        super().__init__()
        require_choice("size", size, CRISS_CROSS_SIZES)
        require_choice("masking", masking, MASKINGS)
        self.model = CrissCross(**CRISS_CROSS_SIZES[size])
        self.masking, self.channels = masking, channels
        self.intra_ratio, self.inter_ratio = intra_ratio, inter_ratio

    def batches(self, store, *, batch_size, seed, recipe, rank, world_size, accumulate, **_):
        """Make training crops and validation windows of the chosen channels; windows that lack one
        of them are left out.
        """
        train, val = (
            whole_windows(store.windows(split), self.channels) for split in ("train", "val")
        )
        validation = [
            LeadBatch(part, slice(None), len(part), index)
            for index, part in enumerate(val[0].split(256))
        ]
        return LeadBatches(
            *train, batch_size, seed, recipe.speed, rank, world_size, accumulate
        ), DataLoader(validation, batch_size=None)

    @torch.no_grad()
    def align(self):
        """Initialise the output at the mean and the blocks with small contributions, for a recipe
        that asks for it.

        The published initialisation predicts noise of ten times the signal's power, which takes
        longer to unlearn than a small store has steps (measured in benchmarks/results/fusion.md).
        The scale is GPT-2's, 1 / sqrt(branches).
        """
        head, layers = self.model.proj_out[0], self.encoder.encoder["layers"]
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
        for layer in layers:
            for last in (layer.self_attn_s.out_proj, layer.self_attn_t.out_proj, layer.linear2):
                last.weight /= (2 * len(layers)) ** 0.5

    @property
    def encoder(self):
        """Return the encoder, which is the result of pretraining."""
        return self.model.encoder

    def forward(self, batch):
        """Compute the training loss of a `LeadBatch`."""
        return self.loss(batch, self.masking)

    def validate(self, batch):
        """Compute the validation loss, always with both masks (for one lead: in time only), so that
        ablations are comparable.
        """
        return self.loss(batch, "both" if batch.ppg.shape[1] > 1 else "intra")

    def loss(self, batch, masking):
        """Return the mean squared error over the hidden patches.

        The mask is drawn for the global batch, of which each process keeps its rows; its hidden
        patches are counted over the global batch too, so that the mean over processes is the loss
        of the whole.
        """
        x = patches(batch.ppg)  # (B, C, n, 200)
        generator = torch.Generator().manual_seed(batch.seed)
        mask = dual_mask(
            batch.n_total,
            x.shape[1],
            x.shape[2],
            generator,
            masking,
            self.intra_ratio,
            self.inter_ratio,
        )
        share = mask.sum() * len(x) / batch.n_total  # hidden patches a process has on average
        mask = mask[batch.rows].to(x.device, non_blocking=True)
        error = (self.model(x, mask).float() - x.float()).square().mean(-1)  # (B, C, n)
        return (error * mask).sum() / share


class LeadBatch(NamedTuple):
    """Rows of a global batch: standardised channels (B, C, 2000) at 200 Hz (called `ppg`, by which
    the trainer counts windows); row numbers, number of rows; seed.
    """

    ppg: torch.Tensor
    rows: slice
    n_total: int
    seed: int


class LeadBatches(SteppedBatches):
    """Batches of random crops of continuous recordings, at random speeds.

    Parameters
    ----------
    leads : float tensor, shape (n, C, 2000)
        Windows in the order of the recordings.
    follows : int64 tensor, shape (n,)
        1 where the next window goes on where this one ends.
    batch_size, seed : int
        Windows of a step over all processes; seed of the crops.
    speed : (float, float)
        Lowest and highest speed, drawn log-uniformly: at 1.5, 15 s of all channels make a window of
        10 s, where so much was recorded without a gap. (1, 1) crops only.
    rank, world_size, accumulate : int
        As in `xmae.data.batches.batches.TrainingBatches`.
    """

    def __init__(
        self, leads, follows, batch_size, seed, speed=(1.0, 1.0), rank=0, world_size=1, accumulate=1
    ):
        self.parts = world_size * accumulate
        part_size(batch_size, world_size, accumulate)  # must be whole
        super().__init__(accumulate * max(2, len(leads) // batch_size), seed, accumulate)
        self.samples, self.follows = leads.transpose(1, 2).flatten(0, 1), follows  # (n * 2000, C)
        self.length, self.batch_size, self.speed = leads.shape[-1], batch_size, speed
        self.rank, self.world_size = rank, world_size

    def batch(self, step, seed):
        """Make the batch of one step, counted from 1 over the whole training."""
        generator, (low, high) = torch.Generator().manual_seed(seed), self.speed
        window = torch.randint(len(self.follows), (self.batch_size,), generator=generator)
        draw = torch.rand(2, self.batch_size, generator=generator, dtype=torch.float64)
        rows = slice((step - 1) % self.accumulate * self.world_size + self.rank, None, self.parts)
        # steps between samples, in this window and the next
        room = self.length * (1 + self.follows[window]) - 1
        factor = (low * (high / low) ** draw[0]).clamp(max=room / (self.length - 1))
        begin = draw[1] * (room - factor * (self.length - 1))
        begin = window * self.length + (begin.floor() if low == high == 1 else begin)
        place = begin[rows, None] + factor[rows, None] * torch.arange(self.length)  # (rows, 2000)
        left = place.long().clamp(max=len(self.samples) - 2)
        weight = (place - left).float()[..., None]
        crops = (
            torch.lerp(self.samples[left], self.samples[left + 1], weight)
            .transpose(1, 2)
            .contiguous()
        )
        return LeadBatch(crops, rows, self.batch_size, seed)


def whole_windows(windows, channels):
    """Return the windows without missing samples in the chosen channels (n, C, 2000), and whether
    each is continued by the next.
    """
    leads = choose_leads(windows, channels)
    whole = ~np.isnan(leads).any((1, 2))
    if not whole.any():
        raise UserError(f"no window of this split has all of the channels {channels}")
    follows = windows.select(whole).follows
    return torch.from_numpy(leads[whole]), torch.from_numpy(follows.astype(np.int64))


def dual_mask(
    batch, n_leads, n_patches, generator, masking="both", intra_ratio=0.5, inter_ratio=1.0
):
    """Draw masks over the patches of several leads.

    Parameters
    ----------
    batch, n_leads, n_patches : int
        Shape of the mask; 1 to 12 leads.
    generator : torch.Generator
        Generator of the draw, on the CPU.
    masking : str
        "intra" hides a share of the patches of every lead, drawn for each lead; "inter" hides whole
        leads, their number drawn evenly from 0 (or 1, as the only mask: a window with nothing
        hidden has no loss) to the most; "both" is the union.
    intra_ratio : float
        Share of the patches hidden in each lead.
    inter_ratio : float
        Most leads hidden, as a share of all but one.

    Returns
    -------
    bool tensor, shape (batch, n_leads, n_patches)
        True = hidden.

    Raises
    ------
    UserError
        If there are too many leads, or too few for "inter", or a ratio hides nothing or everything.
    """
    if not 1 <= n_leads <= MAX_LEADS:
        raise UserError(f"{n_leads} leads; expected 1 to {MAX_LEADS}")
    mask = torch.zeros(batch, n_leads, n_patches, dtype=torch.bool)
    if masking != "inter":
        try:
            n_hidden(n_patches, intra_ratio)
        except ValueError as error:
            raise UserError(f"intra_ratio: {error}") from error
        mask |= scatter(batch * n_leads, n_patches, intra_ratio, generator).view(mask.shape)
    if masking != "intra":
        most = round(inter_ratio * (n_leads - 1))
        least = 1 if masking == "inter" else 0
        if not least <= most < max(n_leads, 1):
            raise UserError(
                f"inter_ratio {inter_ratio:g} hides up to {most} of {n_leads} leads; some must be "
                "hidden, one seen"
            )
        least = 1 if masking == "inter" else 0
        count = torch.randint(least, most + 1, (batch, 1), generator=generator)
        order = torch.rand(batch, n_leads, generator=generator).argsort(1)
        mask |= (order < count)[..., None]
    return mask
