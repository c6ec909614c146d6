"""The published xMAE written plainly, in the reference's own tensor names: what ours must equal,
and be faster than.

Three separate branches in each inception block, `torch.nn.MultiheadAttention`, and visible patches
picked row by row. Nothing is shared with `xmae.models`, so that it also serves the tests as an
independent reference. It leaves out the parts of the published model that never run.

Source: Zhou et al., arXiv 2605.00973, and the authors' public configuration.
"""

import torch
import torch.nn.functional as F
from torch import nn

N_TIMES, PATCH = 1000, 40


def conv_bn_silu(n_in, n_out, kernel, stride=1):
    """Return a Conv1d without bias, BatchNorm1d and SiLU."""
    return nn.Sequential(
        nn.Conv1d(n_in, n_out, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm1d(n_out),
        nn.SiLU(),
    )


class InceptionBlock(nn.Module):
    """Kernels 3, 5, 7 side by side, concatenated, then a 1x1."""

    def __init__(self, n_in, n_out):
        super().__init__()
        third = n_out // 3
        self.branches = nn.ModuleList(
            [
                conv_bn_silu(n_in, third, 3),
                conv_bn_silu(n_in, third, 5),
                conv_bn_silu(n_in, n_out - 2 * third, 7),
            ]
        )
        self.fuse = conv_bn_silu(n_out, n_out, 1)

    def forward(self, x):
        """Map (B, n_in, L) -> (B, n_out, L)."""
        return self.fuse(torch.cat([branch(x) for branch in self.branches], dim=1))


class Stem(nn.Module):
    """Half U-Net."""

    def __init__(self, widths, out):
        super().__init__()
        a, b, c = widths
        self.enc1 = nn.Sequential(InceptionBlock(1, a), InceptionBlock(a, a))
        self.down1 = conv_bn_silu(a, b, 3, stride=2)
        self.enc2 = nn.Sequential(InceptionBlock(b, b), InceptionBlock(b, b))
        self.down2 = conv_bn_silu(b, c, 3, stride=2)
        self.enc3 = nn.Sequential(InceptionBlock(c, c), InceptionBlock(c, c))
        self.lat2 = nn.Conv1d(b, b, 1, bias=False)
        self.lat1 = nn.Conv1d(a, a, 1, bias=False)
        self.red3to2 = nn.Conv1d(c, b, 1, bias=False)
        self.red2to1 = nn.Conv1d(b, a, 1, bias=False)
        self.smooth2 = conv_bn_silu(b, b, 3)
        self.smooth1 = conv_bn_silu(a, a, 3)
        self.head = conv_bn_silu(a, out, 3)
        self.skip = nn.Conv1d(1, out, 1, bias=False)
        self.skip_bn = nn.BatchNorm1d(out)

    def forward(self, x):
        """Map (B, 1, L) -> (B, out, L)."""
        x1 = self.enc1(x)
        x2 = self.enc2(self.down1(x1))
        x3 = self.enc3(self.down2(x2))
        up = F.interpolate(self.red3to2(x3), size=x2.shape[-1], mode="linear", align_corners=False)
        y2 = self.smooth2(self.lat2(x2) + up)
        up = F.interpolate(self.red2to1(y2), size=x1.shape[-1], mode="linear", align_corners=False)
        y1 = self.smooth1(self.lat1(x1) + up)
        return self.head(y1) + self.skip_bn(self.skip(x))


class Patcher(nn.Module):
    """Patches of 40 samples to tokens."""

    def __init__(self, channels, width):
        super().__init__()
        self.proj = nn.Conv1d(channels, width, PATCH, PATCH)

    def forward(self, x):
        """Map (B, channels, n * 40) -> (B, n, width)."""
        return self.proj(x).transpose(1, 2)


class EncoderBlock(nn.Module):
    """Pre-LN transformer block, MLP ratio 4."""

    def __init__(self, width, n_heads, dropout):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, n_heads, dropout=dropout, batch_first=True)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), nn.Dropout(dropout)
        )

    def forward(self, x):
        """Map (B, n, width) -> the same."""
        y = self.norm1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


class DecoderBlock(nn.Module):
    """Pre-LN transformer block, MLP ratio 2."""

    def __init__(self, width, n_heads, dropout):
        super().__init__()
        self.ln1 = nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, n_heads, dropout=dropout, batch_first=True)
        self.ln2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width), nn.Dropout(dropout)
        )

    def forward(self, x):
        """Map (B, n, width) -> the same."""
        y = self.ln1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.ln2(x))


class CrossAttention(nn.Module):
    """Queries read from keys, then a feed-forward."""

    def __init__(self, width, n_heads, dropout):
        super().__init__()
        self.nq = nn.LayerNorm(width)
        self.nkv = nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, n_heads, dropout=dropout, batch_first=True)
        self.ffn = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(),
            nn.Linear(4 * width, width), nn.Dropout(dropout),
        )  # fmt: skip

    def forward(self, queries, keys):
        """Map (B, n, width), (B, m, width) -> (B, n, width)."""
        y = self.nkv(keys)
        queries = queries + self.attn(self.nq(queries), y, y, need_weights=False)[0]
        return queries + self.ffn(queries)


class Encoder(nn.Module):
    """Stack of blocks."""

    def __init__(self, width, n_heads, dropout, depth):
        super().__init__()
        self.blocks = nn.Sequential(*(EncoderBlock(width, n_heads, dropout) for _ in range(depth)))

    def forward(self, x):
        """Map (B, n, width) -> the same."""
        return self.blocks(x)


class Path(nn.Module):
    """Stem, patches, positions and encoder of one modality."""

    def __init__(self, width, n_heads, widths, out, dropout, depth):
        super().__init__()
        self.pos = nn.Parameter(torch.empty(1, N_TIMES // PATCH, width))
        nn.init.trunc_normal_(self.pos, std=0.02)
        self.stem = Stem(widths, out)
        self.patcher = Patcher(out, width)
        self.encoder = Encoder(width, n_heads, dropout, depth)

    def forward(self, x):
        """Map (B, 1, n * 40) -> (B, n, width)."""
        x = self.patcher(self.stem(x))
        return self.encoder(x + self.pos[:, : x.shape[1]])


class Deconv(nn.Module):
    """Tokens to samples."""

    def __init__(self, width):
        super().__init__()
        self.deconv = nn.ConvTranspose1d(width, 1, PATCH, PATCH)

    def forward(self, x):
        """Map (B, n, width) -> (B, 1, n * 40)."""
        return self.deconv(x.transpose(1, 2))


class PlainXMAE(nn.Module):
    """The published model; the defaults are the published sizes.

    Parameters
    ----------
    width, n_heads : int
        Token width and attention heads.
    widths : tuple of int
        Channels of the stem at L, L/2, L/4.
    out : int
        Channels that leave the stem.
    dropout : float
        On attention weights and after each MLP.
    """

    def __init__(self, width=256, n_heads=8, widths=(32, 64, 128), out=32, dropout=0.1):
        super().__init__()
        self.ppg_path = Path(width, n_heads, widths, out, dropout, depth=2)
        self.ppg_path.proj = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width))
        self.ecg_path = Path(width, n_heads, widths, out, dropout, depth=1)
        self.ecg_path.mask_loc_table = nn.Embedding(N_TIMES // PATCH, width)
        nn.init.xavier_uniform_(self.ecg_path.mask_loc_table.weight)
        self.ecg_path.dec_blk = DecoderBlock(width, n_heads, dropout)
        self.ecg_path.decoder = Deconv(width)
        self.bridger = nn.ModuleDict(
            {"ecg2ppg": nn.ModuleList([CrossAttention(width, n_heads, dropout)])}
        )

    def forward(self, ppg, ecg, mask):
        """Return the embedding, reconstruction and loss.

        Parameters
        ----------
        ppg, ecg : torch.Tensor
            Min-max scaled windows (B, 1, L).
        mask : torch.Tensor
            (B, N) bool, True = hidden; each row hides the same number of patches.

        Returns
        -------
        embedding : torch.Tensor
            Projected mean of the PPG tokens (B, width).
        reconstruction : torch.Tensor
            (B, 1, L).
        loss : torch.Tensor
            Mean squared error over the hidden samples, ().
        """
        tokens = self.ppg_path(ppg)
        embedding = self.ppg_path.proj(tokens.mean(dim=1))

        visible = [torch.nonzero(~row)[:, 0] for row in mask]
        rows = []
        for i, index in enumerate(visible):
            patches = ecg[i, 0].reshape(-1, PATCH)
            rows.append(patches[index].reshape(1, -1))
        seen = self.ecg_path(torch.stack(rows))  # (B, K, width)

        position = self.ecg_path.pos[0]
        queries = []
        for i, index in enumerate(visible):
            query = self.ecg_path.mask_loc_table.weight.clone()
            query[index] = (seen[i] - position[: len(index)]).to(query.dtype)
            queries.append(query + position)
        x = self.bridger["ecg2ppg"][0](torch.stack(queries), tokens)
        reconstruction = self.ecg_path.decoder(self.ecg_path.dec_blk(x))

        hidden = mask.repeat_interleave(PATCH, dim=1)[:, None]
        return embedding, reconstruction, F.mse_loss(reconstruction[hidden], ecg[hidden])
