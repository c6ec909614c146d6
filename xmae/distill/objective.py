"""What a student learns: the teacher's embedding, its tokens at the same moments, and the heart
rate of the ECG.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from xmae.data.batches.augment import random_crops, runs, vary_ppg
from xmae.data.batches.batches import SteppedBatches
from xmae.distill.losses import AGREEMENTS, LOSSES
from xmae.objectives.objective import Objective
from xmae.signals.quality import MIN_PEAKS, ecg_peaks
from xmae.signals.scale import minmax_scale
from xmae.signals.window import N_TIMES, SFREQ

# mean of the embedding's standardised dimensions, for a heart rate one standard deviation from the
# mean
RATE_SIZE = 0.5
LEAST_SPREAD = 0.25  # of a dimension, over that of all


class TaughtBatch(NamedTuple):
    """Scaled PPG (B, 1, L) with the teacher's embedding (B, E) and tokens (B, N, D), heart rate
    (B,) in bpm, and a seed.
    """

    ppg: torch.Tensor
    embedding: torch.Tensor
    tokens: torch.Tensor
    rate: torch.Tensor
    seed: int


class Distillation(Objective):
    """A student, and the losses that compare it with its teacher.

    Embeddings of one encoder share a large mean and differ little between windows, so both are
    compared after the teacher's mean is taken off and each dimension divided by the teacher's
    standard deviation.

    One direction of the student's embedding, the mean of these standardised dimensions, is not the
    teacher's: it is the heart rate, counted in the ECG recorded with the PPG (no label). A student
    this small cannot follow its teacher in everything. So the number that a watch needs most is
    stored where any linear head finds it. The idea and its size are ours.

    Parameters
    ----------
    student : nn.Module
        Encoder with `tokens(ppg)` (B, n, C) and an `embed_dim` equal to the teacher's; its last
        layer's bias starts at the teacher's mean.
    taught : TaughtCrops
        What it will be trained on: gives the statistics of the teacher's embedding and of the heart
        rate.
    token_weight, rate_weight : float
        Weights of the losses on tokens and heart rate. Without heart rates, or with a weight of 0,
        the whole embedding is the teacher's.
    loss : str
        One of `LOSSES`, on the embedding.
    kept : sequence of nn.Module
        Parts of the student that stay as they are.
    """

    def __init__(self, student, taught, token_weight=0.5, rate_weight=1.0, loss="mse", kept=()):
        super().__init__()
        self.kept = tuple(part.requires_grad_(False) for part in kept)
        self.loss, self.agreement = LOSSES[loss]
        self.student, self.token_weight = student, token_weight
        self.register_buffer("mean", mean := taught.embedding.mean(0))
        self.register_buffer("std", spread(taught.embedding))
        known = taught.rate[taught.rate.isfinite()]
        self.rate_weight = rate_weight if len(known) > 1 else 0.0
        self.register_buffer(
            "rate", torch.stack([known.mean(), known.std()]) if self.rate_weight else torch.ones(2)
        )
        self.to_tokens = nn.LazyLinear(taught.tokens.shape[-1])
        with torch.no_grad():
            student.head.bias.copy_(mean)
            self.to_tokens(student.eval().tokens(torch.zeros(1, 1, 1000)))
        self.train()

    def train(self, mode=True):
        """Set training or evaluation mode; batch norms of frozen parts keep their statistics."""
        super().train(mode)
        for part in self.kept:
            part.eval()
        return self

    def split(self, embedding):
        """Split an embedding (B, E) into the teacher's part, standardised, (B, E), and the heart
        rate in standard deviations (B,).
        """
        standard = (embedding - self.mean) / self.std
        if not self.rate_weight:
            return standard, None
        mean = standard.mean(1, keepdim=True)
        return standard - mean, mean[:, 0] / RATE_SIZE

    def forward(self, batch):
        """Return the loss of the teacher's part, plus weighted squared error of tokens (relative)
        and Huber loss of the heart rate.
        """
        tokens = self.student.tokens(batch.ppg)
        part, rate = self.split(self.student.pool(tokens))
        loss = self.loss(part, self.split(batch.embedding)[0])
        if self.token_weight:
            wanted = F.interpolate(
                batch.tokens.transpose(1, 2), tokens.shape[1], mode="linear"
            ).transpose(1, 2)
            loss = (
                loss + self.token_weight * F.mse_loss(self.to_tokens(tokens), wanted) / wanted.var()
            )
        if self.rate_weight:
            wanted, known = (batch.rate - self.rate[0]) / self.rate[1], batch.rate.isfinite()
            missed = F.smooth_l1_loss(rate[known], wanted[known], reduction="sum", beta=0.1)
            loss = loss + self.rate_weight * missed / known.sum().clamp(min=1)
        return loss

    def validate(self, batch):
        """Return one minus the agreement of the teacher's part in both embeddings: cosine, or
        correlation of pairwise distances.
        """
        parts = self.split(self.student(batch.ppg))[0], self.split(batch.embedding)[0]
        return 1 - AGREEMENTS[self.agreement](*parts)


def spread(embedding):
    """Return the standard deviation of each dimension of embeddings (n, E): shape (E,).

    A dead unit gives the same number always, and so nothing to learn. Divided by next to nothing it
    would outweigh all others, so no deviation is below a quarter of their root mean square. Quieter
    dimensions count by what they vary. Our own teachers have none (0.30 and above).
    """
    std = embedding.std(0)
    return std.clamp(min=max(1e-6, LEAST_SPREAD * float(std.square().mean().sqrt())))


class TaughtCrops(SteppedBatches):
    """Random PPG crops with the teacher's answers, computed once and shuffled for each epoch.

    Parameters
    ----------
    teacher : nn.Module
        Encoder in evaluation mode.
    windows : Windows
        Training windows; where they have ECG, it gives the heart rate of each crop.
    n_crops : int
        Crops in the bank.
    batch_size : int
        Crops per step.
    seed : int
        Seed of crops and order.
    """

    def __init__(self, teacher, windows, n_crops, batch_size, seed):
        super().__init__(max(1, n_crops // batch_size), seed)
        generator = torch.Generator().manual_seed(seed)
        two = replace(windows, ecg=count_beats(windows))  # crops are of two signals
        crops, beats = random_crops(runs(two), n_crops, generator, speed=(0.6, 1.7))
        self.ppg, self.batch_size = minmax_scale(vary_ppg(crops, generator))[0], batch_size
        self.rate = rate_of(beats[:, 0])
        self.embedding, self.tokens = teach(teacher, self.ppg)

    def batch(self, step, seed):
        """Make the batch of one step, counted from 1 over the whole training."""
        epoch, place = divmod(step - 1, self.n_batches)
        order = torch.randperm(
            len(self.ppg), generator=torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        )
        pick = order[place * self.batch_size : (place + 1) * self.batch_size]
        return TaughtBatch(
            self.ppg[pick], self.embedding[pick], self.tokens[pick].float(), self.rate[pick], seed
        )


class TaughtWindows:
    """Unchanged windows with the teacher's answers, in one batch."""

    def __init__(self, teacher, windows, seed):
        ppg = minmax_scale(torch.from_numpy(windows.ppg)[:, None])[0]
        self.batch = TaughtBatch(
            ppg, *teach(teacher, ppg), rate_of(torch.from_numpy(count_beats(windows))), seed
        )

    def __len__(self):
        return 1

    def __iter__(self):
        yield self.batch


def teach(teacher, ppg, batch_size=128):
    """Compute the teacher's embeddings (n, E) and tokens (n, N, D, half precision) of scaled PPG
    (n, 1, L).
    """
    embeddings, tokens = [], []
    with torch.no_grad():
        for part in tqdm(ppg.split(batch_size), "teach", unit="batch"):
            x = teacher.tokens(part)
            tokens.append(x.half())
            embeddings.append(teacher.pool(x))
    return torch.cat(embeddings), torch.cat(tokens)


def count_beats(windows):
    """Count beats since the start of each run of windows, interpolated between R peaks: float32 (n,
    1000).

    Cut and stretched like a signal, its rise over a crop is the crop's number of beats. NaN in runs
    with fewer than 4 R peaks, and without ECG.
    """
    if windows.ecg is None:
        return np.full_like(windows.ppg, np.nan)
    joined, ecg = runs(windows), windows.ecg.ravel()
    count = np.full(len(ecg), np.nan, np.float32)
    for start, length in zip(joined.start.tolist(), joined.length.tolist(), strict=True):
        peaks = ecg_peaks(ecg[start : start + length].astype(np.float64), SFREQ)
        if len(peaks) < MIN_PEAKS:
            continue
        cycle, times = np.median(np.diff(peaks)), np.arange(length)
        inside = np.interp(times, peaks, np.arange(len(peaks)))
        before, after = np.minimum(times - peaks[0], 0), np.maximum(times - peaks[-1], 0)
        count[start : start + length] = inside + (before + after) / cycle
    return count.reshape(-1, N_TIMES)


def rate_of(beats):
    """Return the heart rate (n,) in bpm from the beat counts along windows (n, 1000)."""
    return (beats[:, -1] - beats[:, 0]) * 60 * SFREQ / (beats.shape[1] - 1)
