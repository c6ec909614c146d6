"""xMAE: rebuild masked ECG from the PPG of the same moment, so that the PPG tokens must know when
the heart beat.

    ppg -> PathEncoder -> tokens --+--> pooled -> embedding (all that the watch keeps)
                                   v keys, values
    ecg -> visible patches -> PathEncoder -> queries (masked: learned) -> bridge -> decoder -> ecg

Sources: Zhou et al., *Physiology-Aware Masked Cross-Modal Reconstruction for Biosignal
Representation Learning*, ICML 2026, arXiv 2605.00973; sizes from the authors' public configuration.
"""

import math
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import nn

from xmae.beats.timing_map import STEP
from xmae.models.map_reading import read_by_map
from xmae.models.stem import Stem
from xmae.models.transformer import Block, CrossBlock, check_waveform
from xmae.signals.window import N_TIMES, PATCH


@dataclass(frozen=True)
class XMAEConfig:
    """Sizes of an xMAE; the defaults are the published model."""

    width: int = 256  # token width D
    n_heads: int = 8
    depth_ppg: int = 2  # transformer blocks of the PPG path
    depth_ecg: int = 1
    stem_widths: tuple[int, int, int] = (32, 64, 128)  # channels at L, L/2, L/4
    stem_out: int = 32
    dropout: float = 0.1
    projection: int | None = None  # width of the reference's projection; None: the pooled tokens


SIZES = {
    "base": XMAEConfig(),
    "small": XMAEConfig(width=128, n_heads=4, stem_widths=(16, 32, 64), stem_out=16),
}


@dataclass
class XMAEOutput:
    """Output of one pass: embedding (B, E), reconstruction (B, 1, L) in [-1, 1] units of the scaled
    ECG, loss ().
    """

    embedding: torch.Tensor
    reconstruction: torch.Tensor
    loss: torch.Tensor


class PathEncoder(nn.Module):
    """Encoder of one modality, with stem, patches, learned positions and transformer blocks:
    waveform (B, 1, n * 40) -> tokens (B, n, D).
    """

    def __init__(self, config, depth):
        super().__init__()
        self.stem = Stem(config.stem_widths, config.stem_out)
        self.patches = nn.Conv1d(config.stem_out, config.width, PATCH, PATCH)
        self.positions = nn.Parameter(torch.empty(1, N_TIMES // PATCH, config.width))
        nn.init.trunc_normal_(self.positions, std=0.02)
        self.blocks = nn.Sequential(
            *(Block(config.width, config.n_heads, 4, config.dropout) for _ in range(depth))
        )

    def tokens(self, x):
        """Map a waveform (B, 1, n * 40), n at most 25 -> tokens (B, n, D).

        Raises
        ------
        ValueError
            If the length is not a whole number of 40-sample patches between 1 and 25.
        """
        check_waveform(x)
        x = self.patches(self.stem(x)).transpose(1, 2)  # (B, n, D)
        return self.blocks(x + self.positions[:, : x.shape[1]])


class PPGEncoder(PathEncoder):
    """PPG encoder, the part that goes to the watch: scaled PPG (B, 1, L) -> embedding (B, E).

    The embedding is the mean of the tokens, layer-normalised without parameters; a loaded reference
    checkpoint has a trained LayerNorm and Linear in its place (`projection`).
    """

    def __init__(self, config=XMAEConfig()):  # noqa: B008 (frozen)
        super().__init__(config, config.depth_ppg)
        self.config = config
        self.embed_dim = config.projection or config.width
        if config.projection:
            self.projection = nn.Sequential(
                nn.LayerNorm(config.width), nn.Linear(config.width, config.projection)
            )
        else:
            self.projection = nn.LayerNorm(config.width, elementwise_affine=False)

    def pool(self, tokens):
        """Map tokens (B, n, D) -> embedding (B, E)."""
        return self.projection(tokens.mean(1))

    def forward(self, ppg):
        """Map scaled PPG (B, 1, L) -> embedding (B, E)."""
        return self.pool(self.tokens(ppg))


class TimedPPGEncoder(PPGEncoder):
    """PPG encoder whose tokens also tell when the heart beats: scaled PPG (B, 1, L) -> embedding
    (B, 2 D).

    The embedding is the mean of the tokens beside their mean absolute deviation, so that it keeps
    how much they vary; layer-normalised without parameters. Each token gives ten moments of the
    timing map.
    """

    def __init__(self, config=SIZES["small"]):
        super().__init__(config)
        self.embed_dim = 2 * config.width
        self.projection = nn.LayerNorm(self.embed_dim, elementwise_affine=False)
        self.to_map = nn.Linear(config.width, 3 * PATCH // STEP)

    def pool(self, tokens):
        """Map tokens (B, n, D) -> embedding (B, 2 D)."""
        mean = tokens.mean(1)
        spread = (tokens - mean[:, None]).abs().mean(1)
        return self.projection(torch.cat([mean, spread], 1))

    def map_of(self, tokens):
        """Map tokens (B, n, D) -> timing map (B, 3, 10 n)."""
        return self.to_map(tokens).unflatten(2, (3, -1)).transpose(1, 2).flatten(2)

    def timing(self, ppg):
        """Map scaled PPG (B, 1, L) -> timing map (B, 3, L / 4)."""
        return self.map_of(self.tokens(ppg))

    def read_windows(self, ppg, batch_size=256):
        """Read cleaned windows at 100 Hz, (n, 1000) in any unit, each by itself: a `Reading`."""
        return read_by_map(self, ppg, batch_size)


class XMAE(nn.Module):
    """PPG encoder, ECG encoder, bridge and decoder.

    Parameters
    ----------
    config : XMAEConfig
    timed : bool
        Whether the PPG encoder is a `TimedPPGEncoder`.
    near : bool
        Whether the bridge knows how far apart in time ECG and PPG are; see `CrossBlock`.

    Examples
    --------
    >>> model = XMAE().eval()
    >>> mask = torch.arange(25).expand(2, 25) >= 5             # the first 5 patches stay visible
    >>> model(torch.zeros(2, 1, 1000), torch.zeros(2, 1, 1000), mask).reconstruction.shape
    torch.Size([2, 1, 1000])
    """

    def __init__(self, config=XMAEConfig(), timed=False, near=False):  # noqa: B008 (frozen)
        super().__init__()
        self.config = config
        self.encoder = (TimedPPGEncoder if timed else PPGEncoder)(config)
        self.ecg_encoder = PathEncoder(config, config.depth_ecg)
        self.masked_queries = nn.Parameter(torch.empty(N_TIMES // PATCH, config.width))
        nn.init.xavier_uniform_(self.masked_queries)
        n_near = N_TIMES // PATCH if near else None
        self.bridge = CrossBlock(config.width, config.n_heads, config.dropout, n_near)
        self.decoder = Block(config.width, config.n_heads, 2, config.dropout)
        self.to_samples = nn.ConvTranspose1d(config.width, 1, PATCH, PATCH)

    def align(self, amplitude=0.5):
        """Initialise positions and bridge so that each ECG query attends to the PPG of its own
        moment and around it.

        Learned positions start as sinusoids (periods of 4 to 400 patches), and the bridge's key
        projection as a copy of its query projection, so that attention is highest where positions
        agree. At the published start (std 0.02) positions are a thirtieth of the tokens they are
        added to, and training must grow them before the bridge can look for the pulse that follows
        a beat: on little data it may never get there.
        """
        width, index = self.config.width, torch.arange(N_TIMES // PATCH)[:, None]
        angle = (
            index
            * (math.pi / 2)
            * torch.exp(-math.log(100) * torch.arange(width // 2) / (width // 2))
        )  # (N, D / 2)
        with torch.no_grad():
            for path in (self.encoder, self.ecg_encoder):
                path.positions.copy_(amplitude * torch.cat([angle.sin(), angle.cos()], dim=1))
            projections = self.bridge.attention.qkv.weight
            projections[width : 2 * width] = projections[:width]

    def ecg_queries(self, ecg, mask, n_visible):
        """Return the queries at all N positions (B, N, D): encoded visible patches at their
        positions, learned vectors elsewhere.
        """
        # visible positions first, in time order
        order = mask.to(torch.int8).argsort(dim=1, stable=True)
        seen = order[:, :n_visible, None]  # (B, K, 1)
        patches = ecg.unflatten(-1, (-1, PATCH)).squeeze(1)  # (B, N, P)
        joined = patches.gather(1, seen.expand(-1, -1, PATCH)).flatten(1)[:, None]  # (B, 1, K * P)
        tokens = self.ecg_encoder.tokens(joined) - self.ecg_encoder.positions[:, :n_visible]
        queries = self.masked_queries.to(tokens.dtype).expand(len(ecg), -1, -1)
        queries = queries.scatter(1, seen.expand_as(tokens), tokens)
        return queries + self.ecg_encoder.positions[:, : mask.shape[1]]

    def reconstruct(self, ppg_tokens, ecg, mask, n_visible):
        """Reconstruct the whole ECG (B, 1, L) from the PPG tokens (B, N, D) and the visible ECG
        patches.
        """
        x = self.bridge(self.ecg_queries(ecg, mask, n_visible), ppg_tokens)
        return self.to_samples(self.decoder(x).transpose(1, 2))

    def forward(self, ppg, ecg, ecg_mask, n_visible=None):
        """Compute the embedding, reconstruction and loss of one pass.

        Parameters
        ----------
        ppg, ecg : torch.Tensor
            Windows of the same moments, min-max scaled to [-1, 1], (B, 1, L).
        ecg_mask : torch.Tensor
            (B, N) bool, True = hidden from the ECG encoder and scored by the loss; N = L / 40.
            Every row hides the same number of patches and shows at least one.
        n_visible : int, optional
            Visible patches per row. Read from the mask if not given, which waits for the device.

        Returns
        -------
        XMAEOutput
            Its loss is the mean squared error over the hidden samples.

        Raises
        ------
        ValueError
            If the shapes disagree, or rows hide different numbers of patches, or all or none.
        """
        if ppg.shape != ecg.shape or ecg_mask.shape != (len(ecg), ecg.shape[-1] // PATCH):
            raise ValueError(
                f"shapes disagree: {tuple(ppg.shape)}, {tuple(ecg.shape)}, {tuple(ecg_mask.shape)}"
            )
        if n_visible is None:
            counts = set((~ecg_mask).sum(1).tolist())
            n_visible = counts.pop()
            if counts or not 0 < n_visible < ecg_mask.shape[1]:
                raise ValueError(
                    "every row of ecg_mask must hide the same number of patches, not all and not "
                    "none"
                )
        tokens = self.encoder.tokens(ppg)
        reconstruction = self.reconstruct(tokens, ecg, ecg_mask, n_visible)
        return XMAEOutput(
            self.encoder.pool(tokens), reconstruction, masked_mse(reconstruction, ecg, ecg_mask)
        )


def masked_mse(reconstruction, ecg, mask):
    """Return the mean squared error over the samples of masked patches: (B, 1, L), (B, 1, L), (B,
    N) -> ().
    """
    error = (
        F.mse_loss(reconstruction.float(), ecg.float(), reduction="none")
        .unflatten(-1, (-1, PATCH))
        .mean(-1)
    )  # (B, 1, N)
    return (error[:, 0] * mask).sum() / mask.sum()


def config_dict(config):
    """Return the configuration as JSON values."""
    return asdict(config) | {"stem_widths": list(config.stem_widths)}
