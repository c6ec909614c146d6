"""Fine-tuning on a task: the linear probe first, then encoder and head together from there.

The head starts as the linear probe of the fold, so that the first steps do not spoil the features
(Kumar et al., "Fine-tuning can distort pretrained features", ICLR 2022, arXiv 2202.10054). Batch
norms keep the statistics of pretraining, and nothing is dropped out: the labelled subjects are few.
"""

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from xmae.evaluation.heads.embedding import embed_windows
from xmae.evaluation.heads.linear import fit_linear
from xmae.signals.scale import minmax_scale

EPOCHS, BATCH, LR = 5, 32, 1e-4


def finetune_trial(trial, encoder, embedding, epochs=EPOCHS, seed=77):
    """Return out-of-fold predictions of fine-tuned copies of an encoder, for `trial.rows`: numbers
    or log odds.

    Parameters
    ----------
    trial : Trial
    encoder : nn.Module
        Scaled PPG (B, 1, L) -> (B, D); stays as it is.
    embedding : array, shape (n, D)
        Its embedding of the whole dataset.
    epochs : int
        Passes over the fitted windows of a fold.
    seed : int
        Seed of the order of the windows.
    """
    parts = []
    for fitted, scored in tqdm(trial.folds, "finetune", unit="fold", leave=False):
        truth = trial.truth[fitted]
        probe = fit_linear(embedding[fitted], truth, trial.dataset.subject[fitted], trial.task.kind)
        network = finetune(
            encoder, probe, trial.dataset.ppg[fitted], truth, trial.task.kind, epochs, seed
        )
        parts.append(embed_windows(network, trial.dataset.ppg[scored])[:, 0].astype(np.float64))
    return np.concatenate(parts)


def finetune(
    encoder,
    probe,
    ppg,
    truth,
    kind,
    epochs=EPOCHS,
    seed=77,
    batch_size=BATCH,
    lr=LR,
    progress=False,
):
    """Fine-tune a copy of an encoder with a linear head.

    Parameters
    ----------
    encoder : nn.Module
    probe : LinearModel
        Linear probe at which the head starts.
    ppg : array, shape (n, L)
        Cleaned PPG at 100 Hz.
    truth : array, shape (n,)
        Numbers, or 0/1.
    kind : {"regression", "binary"}
        Squared error in units of the deviation of `truth`, or cross entropy with both classes
        weighing the same.
    epochs : int
        Passes over the windows.
    seed : int
        Seed of their order.
    batch_size : int
        Windows per step.
    lr : float
        Peak learning rate of AdamW.
    progress : bool
        Show a bar on standard error.

    Returns
    -------
    nn.Module
        Scaled PPG (B, 1, L) -> (B, 1): number or log odds.
    """
    device = next(encoder.parameters()).device
    head = nn.Linear(len(probe.weight), 1)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(probe.weight)[None])
        head.bias.fill_(probe.bias)
    network = nn.Sequential(copy.deepcopy(encoder), head.to(device)).eval()
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    x = torch.from_numpy(minmax_scale(ppg)[0].astype(np.float32))[:, None]
    y = torch.from_numpy(truth.astype(np.float32))[:, None]
    share = truth.mean() if kind == "binary" else 0.5
    spread = max(float(truth.std()), 1e-6)

    def loss(prediction, target):
        if kind == "regression":
            return F.mse_loss(prediction / spread, target / spread)
        weight = torch.where(target == 1, 0.5 / share, 0.5 / (1 - share))
        return F.binary_cross_entropy_with_logits(prediction, target, weight)

    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr, weight_decay=0.01)
    n_steps = epochs * -(-len(x) // batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
    for _ in tqdm(range(epochs), "finetune", unit="epoch", disable=not progress):
        for rows in torch.randperm(len(x), generator=generator).split(batch_size):
            optimizer.zero_grad()
            loss(network(x[rows].to(device)), y[rows].to(device)).backward()
            optimizer.step()
            schedule.step()
    return network
