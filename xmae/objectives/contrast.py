"""Contrastive losses on projections, written once for all methods that contrast."""

from itertools import chain

import torch
import torch.nn.functional as F
from torch import nn

NEVER = float("-inf")


def cosines(a, b):
    """Return the cosine between all rows, in float32 even under autocast because of low
    temperatures: (n, D), (m, D) -> (n, m).
    """
    with torch.autocast(a.device.type, enabled=False):
        return F.normalize(a.float(), dim=1) @ F.normalize(b.float(), dim=1).T


def info_nce(queries, keys, temperature, same=None):
    """Return the InfoNCE loss, with which each query must find its key among all keys: (n, D), (n,
    D) -> ().

    Mean over i of -log(exp(q_i . k_i / T) / sum over j of exp(q_i . k_j / T)), on vectors scaled to
    length 1 (van den Oord et al., arXiv 1807.03748). Where `same` (n, n) is true, j is no negative
    of i.
    """
    logits = cosines(queries, keys) / temperature
    if same is not None:
        logits = logits.masked_fill(
            same & ~torch.eye(len(logits), dtype=torch.bool, device=logits.device), NEVER
        )
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))


def nt_xent(a, b, temperature, same=None):
    """Return the NT-Xent loss of SimCLR, with which each of 2n vectors must find its partner among
    the other 2n - 1: (n, D), (n, D) -> ().

    (Chen et al., ICML 2020, arXiv 2002.05709.) Where `same` (n, n) is true, neither view of j is a
    negative of i.
    """
    n, z = len(a), torch.cat([a, b])
    itself = torch.eye(2 * n, dtype=torch.bool, device=z.device)
    partner = itself.roll(n, 0)
    hidden = itself if same is None else itself | (same.repeat(2, 2) & ~partner)
    logits = (cosines(z, z) / temperature).masked_fill(hidden, NEVER)
    return F.cross_entropy(logits, partner.int().argmax(1))


def koleo(z):
    """Return the Kozachenko-Leonenko entropy loss, the negative mean log distance to the nearest
    other unit vector: (n, D) -> ().

    Low when vectors spread over the sphere (Sablayrolles et al., ICLR 2019, arXiv 1806.03198).
    """
    z = F.normalize(z.float(), dim=1)
    with torch.no_grad():
        nearest = cosines(z, z).fill_diagonal_(-2).argmax(1)
    return -(z - z[nearest]).norm(dim=1).clamp(min=1e-8).log().mean()


def same_subject(subject):
    """Return which pairs of rows are of one subject: (n,) -> bool (n, n)."""
    return subject[:, None] == subject


def small_start(layers):
    """Initialise Linear layers with zero biases and a standard deviation of 0.02, as the heads of
    DINO and MSN.

    The differences between windows then survive the layers; default biases would drown them.
    """
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
    return layers


def start_prototypes(n, width):
    """Draw prototypes (n, width) uniformly between -1 and 1 over the root of the width, as DINO and
    MSN.

    Only their direction counts, and AdamW moves each number by about the learning rate: longer ones
    would turn more slowly.
    """
    return nn.Parameter(torch.empty(n, width).uniform_(-1, 1) * width**-0.5)


def mlp(*widths, activation=nn.ReLU):
    """Return Linear layers of these widths with activations between them."""
    layers = [nn.Linear(a, b) for a, b in zip(widths, widths[1:], strict=False)]
    return nn.Sequential(*chain.from_iterable((layer, activation()) for layer in layers))[:-1]
