"""The criss-cross encoder for ECG and EEG: patches of 1 s that look along their channel and across
channels.

    (B, C, n, 200) -> patch embedding (waveform + spectrum) + positional convolution -> blocks ->
    tokens (B, C, n, 200)

In each block half of the width attends over the channels of a moment and half over the moments of a
channel.

Sources: Wang et al., *CBraMod*, ICLR 2025 (EEG); Ghallab et al., arXiv 2512.15250 (the same design
with ECG leads in place of electrodes). Modules bear the names of the released checkpoints, so that
these load as they are.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from xmae.errors import UserError
from xmae.models.reference import first_line, read_state

SFREQ = 200  # sampling rate, Hz
PATCH = 200  # patch length, samples: 1 s
WIDTH = 200  # 25 channels x 8 positions of the patch embedding
MAX_CHANNELS = 19  # reach of the positional kernel over channels


# arguments of `CrissCrossEncoder`; "base" is the released EEG model; hidden patches are noise
# enough for a small one
CRISS_CROSS_SIZES = {
    "base": {},
    "small": {"depth": 4, "mlp": 400, "dropout": 0.0},
    "tiny": {"depth": 1, "mlp": 100},
}


class PatchEmbedding(nn.Module):
    """Embedding of patches (B, C, n, 200) into tokens (B, C, n, 200): three convolutions, plus the
    spectrum, plus the position.

    The group norms take their statistics over all patches of a recording, so tokens of different
    moments know of each other before the first attention.
    """

    def __init__(self, dropout):
        super().__init__()
        self.mask_encoding = nn.Parameter(torch.zeros(PATCH), requires_grad=False)  # as released
        self.proj_in = nn.Sequential(
            nn.Conv2d(1, 25, (1, 49), (1, 25), (0, 24)), nn.GroupNorm(5, 25), nn.GELU(),
            nn.Conv2d(25, 25, (1, 3), 1, (0, 1)), nn.GroupNorm(5, 25), nn.GELU(),
            nn.Conv2d(25, 25, (1, 3), 1, (0, 1)), nn.GroupNorm(5, 25), nn.GELU(),
        )  # fmt: skip
        self.spectral_proj = nn.Sequential(nn.Linear(PATCH // 2 + 1, WIDTH), nn.Dropout(dropout))
        self.positional_encoding = nn.Sequential(
            nn.Conv2d(WIDTH, WIDTH, (19, 7), padding=(9, 3), groups=WIDTH)
        )

    def forward(self, x, mask=None):
        """Compute the tokens of patches; patches where `mask` (B, C, n) is true are replaced by
        `mask_encoding` first.
        """
        if mask is not None:
            x = torch.where(mask.bool()[..., None], self.mask_encoding.to(x.dtype), x)
        shape = x.shape
        time = self.proj_in(x.flatten(1, 2)[:, None])  # (B, 25, C * n, 8)
        time = time.transpose(1, 2).reshape(shape)
        spectrum = torch.fft.rfft(x.float(), norm="forward").abs()  # (B, C, n, 101)
        tokens = time + self.spectral_proj(spectrum.to(x.dtype))
        return tokens + self.positional_encoding(tokens.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class CrissCrossBlock(nn.Module):
    """Pre-LN block on (B, C, n, 200): attention over channels and over time side by side, then an
    MLP.
    """

    is_unit = True  # compiled and sharded as one

    def __init__(self, mlp, n_heads, dropout):
        super().__init__()
        half, heads = WIDTH // 2, n_heads // 2
        self.self_attn_s = nn.MultiheadAttention(half, heads, dropout, batch_first=True)
        self.self_attn_t = nn.MultiheadAttention(half, heads, dropout, batch_first=True)
        self.linear1, self.linear2 = nn.Linear(WIDTH, mlp), nn.Linear(mlp, WIDTH)
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.dropout = nn.Dropout(dropout)

    def attend(self, x):
        """Map (B, C, n, 200) -> (B, C, n, 200)."""
        over_channels, over_time = x.chunk(2, dim=-1)  # (B, C, n, 100)
        rows = over_channels.transpose(1, 2)  # (B, n, C, 100)
        queries = rows.flatten(0, 1)
        spatial = (
            self.self_attn_s(queries, queries, queries, need_weights=False)[0]
            .view(rows.shape)
            .transpose(1, 2)
        )
        queries = over_time.flatten(0, 1)  # (B * C, n, 100)
        temporal = self.self_attn_t(queries, queries, queries, need_weights=False)[0].view(
            over_time.shape
        )
        return torch.cat([spatial, temporal], dim=-1)

    def forward(self, x):
        """Map (B, C, n, 200) -> (B, C, n, 200)."""
        x = x + self.dropout(self.attend(self.norm1(x)))
        hidden = self.dropout(F.gelu(self.linear1(self.norm2(x))))
        return x + self.dropout(self.linear2(hidden))


class CrissCrossEncoder(nn.Module):
    """Encoder of ECG or EEG, (B, C, n * 200) at 200 Hz -> embedding (B, 200), the mean over
    channels and patches.

    Units of the input: EEG in microvolts / 100 (the release), ECG standardised over its recording
    (ours).

    Parameters
    ----------
    depth, mlp : int
        Blocks, and width of their hidden layer.
    n_heads : int
        Attention heads, half of them over channels and half over time.
    dropout : float
        Probability.
    """

    embed_dim = WIDTH

    def __init__(self, depth=12, mlp=800, n_heads=8, dropout=0.1):
        super().__init__()
        self.config = {"depth": depth, "mlp": mlp, "n_heads": n_heads, "dropout": dropout}
        self.patch_embedding = PatchEmbedding(dropout)
        blocks = nn.ModuleList(CrissCrossBlock(mlp, n_heads, dropout) for _ in range(depth))
        self.encoder = nn.ModuleDict({"layers": blocks})
        self.apply(kaiming_fan_out)

    def tokens(self, patches, mask=None):
        """Map patches (B, C, n, 200), and a mask (B, C, n) with 1 = hidden -> tokens (B, C, n,
        200).

        Raises
        ------
        UserError
            If there are more channels than the positional kernel reaches over, or the shape is
            another.
        """
        if patches.dim() != 4 or patches.shape[-1] != PATCH:
            raise UserError(f"expected patches (B, C, n, {PATCH}), got {tuple(patches.shape)}")
        if patches.shape[1] > MAX_CHANNELS:
            raise UserError(
                f"{patches.shape[1]} channels, but the positional kernel reaches over "
                f"{MAX_CHANNELS}; choose fewer"
            )
        x = self.patch_embedding(patches, mask)
        for layer in self.encoder["layers"]:
            x = layer(x)
        return x

    def forward(self, x):
        """Map (B, C, n * 200) -> (B, 200)."""
        return self.pool(self.tokens(patches(x)))

    def pool(self, tokens):
        """Map tokens (B, C, n, 200) -> embedding (B, 200)."""
        return tokens.mean((1, 2))


class CrissCross(nn.Module):
    """Encoder and reconstruction head, for pretraining; arguments as in `CrissCrossEncoder`.

    Examples
    --------
    >>> model = CrissCross(**CRISS_CROSS_SIZES["small"]).eval()
    >>> model(torch.zeros(2, 2, 10, 200), torch.ones(2, 2, 10)).shape
    torch.Size([2, 2, 10, 200])
    """

    def __init__(self, **sizes):
        super().__init__()
        self.encoder = CrissCrossEncoder(**sizes)
        self.proj_out = nn.Sequential(nn.Linear(WIDTH, PATCH))
        self.proj_out.apply(kaiming_fan_out)

    def forward(self, patches, mask=None):
        """Reconstruct all patches: patches (B, C, n, 200) and mask (B, C, n), 1 = hidden -> (B, C,
        n, 200).
        """
        return self.proj_out(self.encoder.tokens(patches, mask))


def kaiming_fan_out(module):
    """Initialise a Linear layer by Kaiming normal (fan out), as the release does."""
    if isinstance(module, nn.Linear):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def patches(x):
    """Cut channels into patches of 1 s: (B, C, n * 200) -> (B, C, n, 200).

    Raises
    ------
    UserError
        If the length is not a whole number of patches.
    """
    if x.dim() != 3 or x.shape[-1] % PATCH or not x.shape[-1]:
        raise UserError(
            f"expected (B, C, L) at {SFREQ} Hz with L a multiple of {PATCH}, got {tuple(x.shape)}"
        )
    return x.unflatten(-1, (-1, PATCH))


def load_criss_cross(path, n_heads=8):
    """Load a `CrissCross` in evaluation mode from a checkpoint with the released tensor names.

    Parameters
    ----------
    path : str or Path
        PyTorch file (state dictionary, plain, under ``state_dict``, or with names that start with
        ``module.`` or ``model.``), safetensors, or an npz file with ``state/<name>`` arrays. No
        pickled code is executed.
    n_heads : int
        Attention heads: the one size that does not show in the tensors.

    Returns
    -------
    CrissCross

    Raises
    ------
    UserError
        As `xmae.models.reference.load_reference_checkpoint`.
    """
    state, _ = read_state(Path(path))
    state = {
        name.removeprefix("module.").removeprefix("model."): tensor
        for name, tensor in state.items()
    }
    try:
        depth = 1 + max(
            int(name.split(".")[2]) for name in state if name.startswith("encoder.layers.")
        )
        mlp = state["encoder.layers.0.linear1.bias"].numel()
        model = CrissCross(depth=depth, mlp=mlp, n_heads=n_heads)
        model.load_state_dict(
            {
                name if name.startswith("proj_out.") else f"encoder.{name}": tensor
                for name, tensor in state.items()
            }
        )
    except (KeyError, IndexError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{path}: not a checkpoint of the criss-cross encoder ({first_line(error)})"
        ) from error
    return model.eval()
