"""What a student learns: the teacher's embedding, and the teacher's tokens at the same moments."""

from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from xmae.data.augment import random_crops, runs
from xmae.signals.scale import minmax_scale
from xmae.training.batches import SteppedBatches


class TaughtBatch(NamedTuple):
    """Scaled PPG (B, 1, L), the teacher's embedding (B, E) and tokens (B, N, D) of it, and a seed."""

    ppg: torch.Tensor
    embedding: torch.Tensor
    tokens: torch.Tensor
    seed: int


class Distillation(nn.Module):
    """Student and losses.

    Embeddings of one encoder share a large mean and differ little between windows, so both are compared after the
    teacher's mean is taken off and each dimension divided by the teacher's standard deviation.

    Parameters
    ----------
    student : nn.Module
        Encoder with `tokens(ppg)` (B, n, C) and an `embed_dim` equal to the teacher's; its last layer's bias starts at
        the teacher's mean.
    mean, std : torch.Tensor
        The teacher's embedding over the training windows, (E,).
    token_width : int
        The teacher's token width D.
    token_weight : float
        Weight of the token loss.
    """

    def __init__(self, student, mean, std, token_width, token_weight=0.5):
        super().__init__()
        self.student, self.token_weight = student, token_weight
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.to_tokens = nn.LazyLinear(token_width)
        with torch.no_grad():
            student.head.bias.copy_(mean)
            self.to_tokens(student.eval().tokens(torch.zeros(1, 1, 1000)))
        student.train()

    def forward(self, batch):
        """Squared error of the standardised embedding, plus the weighted relative squared error of the tokens."""
        tokens = self.student.tokens(batch.ppg)
        embedding = self.student.pool(tokens)
        loss = F.mse_loss((embedding - self.mean) / self.std, (batch.embedding - self.mean) / self.std)
        if self.token_weight:
            wanted = F.interpolate(batch.tokens.transpose(1, 2), tokens.shape[1], mode="linear").transpose(1, 2)
            loss = loss + self.token_weight * F.mse_loss(self.to_tokens(tokens), wanted) / wanted.var()
        return loss

    def validate(self, batch):
        """One minus the mean cosine of the centred embeddings."""
        return 1 - F.cosine_similarity(self.student(batch.ppg) - self.mean, batch.embedding - self.mean).mean()

    def end_epoch(self, val_loss):
        """Nothing changes over the epochs, and there is nothing to log."""
        return {}


class TaughtCrops(SteppedBatches):
    """A bank of random PPG crops with the teacher's answers, computed once, in a new order each epoch.

    Parameters
    ----------
    teacher : nn.Module
        Encoder in evaluation mode.
    windows : Windows
        Training windows; only their PPG is used.
    n_crops : int
        Crops in the bank.
    batch_size : int
        Crops a step.
    seed : int
        Seed of crops and order.
    """

    def __init__(self, teacher, windows, n_crops, batch_size, seed):
        super().__init__(max(1, n_crops // batch_size), seed)
        generator = torch.Generator().manual_seed(seed)
        two = replace(windows, ecg=windows.ppg)  # crops are of two signals; here the PPG alone counts, twice
        crops, _ = random_crops(runs(two), n_crops, generator, speed=(0.6, 1.7))
        self.ppg, self.batch_size = minmax_scale(crops)[0], batch_size
        self.embedding, self.tokens = teach(teacher, self.ppg)

    def batch(self, step, seed):
        """The batch of one step, counted from 1 over the whole training."""
        epoch, place = divmod(step - 1, self.n_batches)
        order = torch.randperm(len(self.ppg), generator=torch.Generator().manual_seed(self.seed * 1_000_003 + epoch))
        pick = order[place * self.batch_size : (place + 1) * self.batch_size]
        return TaughtBatch(self.ppg[pick], self.embedding[pick], self.tokens[pick].float(), seed)


class TaughtWindows:
    """Windows as they are with the teacher's answers, in one batch."""

    def __init__(self, teacher, windows, seed):
        ppg = minmax_scale(torch.from_numpy(windows.ppg)[:, None])[0]
        self.batch = TaughtBatch(ppg, *teach(teacher, ppg), seed)

    def __len__(self):
        return 1

    def __iter__(self):
        yield self.batch


def teach(teacher, ppg, batch_size=128):
    """The teacher's embeddings (n, E) and tokens (n, N, D, half precision) of scaled PPG (n, 1, L)."""
    embeddings, tokens = [], []
    with torch.no_grad():
        for part in tqdm(ppg.split(batch_size), "teach", unit="batch"):
            x = teacher.tokens(part)
            tokens.append(x.half())
            embeddings.append(teacher.pool(x))
    return torch.cat(embeddings), torch.cat(tokens)
