"""Heads on the embeddings of several modalities: fitted on frozen encoders, and from there trained
with them.
"""

import copy

import numpy as np
import torch
import torch.nn.functional as F

from xmae.evaluation.heads.linear import fit_linear
from xmae.models.fusion import FusionHead, FusionModel


def fit_head(embeddings, target, subject, kind, fusion):
    """Fit a `FusionHead` on frozen embeddings of the windows to fit on.

    Concatenation and late fusion are the linear models of `xmae probe`; gated fusion is trained by
    gradient.

    Parameters
    ----------
    embeddings : dict of float tensors, shape (n, D)
    target, subject : arrays, shape (n,)
        Numbers or 0/1, and subjects.
    kind : str
        "regression" or "binary".
    fusion : str
        See `FusionHead`.
    """
    head = FusionHead({name: x.shape[1] for name, x in embeddings.items()}, fusion)
    head.standardise_by(embeddings)
    z, there = head.standardised(embeddings)
    if fusion == "gated":
        train_gated(head, embeddings, torch.from_numpy(target).float()[:, None], kind)
    elif fusion == "late":
        for name, layer in head.linears.items():
            rows = there[name][:, 0].numpy()
            set_linear(
                layer, fit_linear(z[name].double().numpy()[rows], target[rows], subject[rows], kind)
            )
    else:
        set_linear(
            head.linear,
            fit_linear(torch.cat(list(z.values()), 1).double().numpy(), target, subject, kind),
        )
    return head.eval()


@torch.no_grad()
def set_linear(layer, model):
    """Set a Linear layer to the weights of a `LinearModel`."""
    layer.weight.copy_(torch.from_numpy(np.asarray(model.weight))[None])
    layer.bias.fill_(model.bias)


def train_gated(head, embeddings, target, kind, steps=200):
    """Train the gated head: AdamW (1e-3, weight decay 0.1), with half of the inputs dropped at
    random for regularisation.
    """
    loss = loss_of(target, kind)
    if kind == "regression":
        torch.nn.init.constant_(head.linear.bias, float(target.mean()))
    optimizer = torch.optim.AdamW(head.parameters(), 1e-3, weight_decay=0.1)
    scale = float(target.std()) if kind == "regression" else 1.0
    for _ in range(steps):
        dropped = {
            name: torch.where(torch.rand_like(x) < 0.5, getattr(head, f"mean_{name}"), x)
            for name, x in embeddings.items()
        }
        optimizer.zero_grad()
        (loss(head(dropped), target) / scale).backward()
        optimizer.step()


def with_encoders(encoders, head):
    """Join encoders and a head fitted on their embeddings into a `FusionModel`."""
    model = FusionModel(encoders, head.fusion, drop=0.1)
    model.head.load_state_dict(head.state_dict())
    return model.eval()


def loss_of(target, kind):
    """Return the loss of outputs against targets: squared error over the variance, or
    class-balanced cross entropy.
    """
    if kind == "regression":
        variance = target.var().clamp(min=1e-12)
        return lambda output, y: F.mse_loss(output, y) / variance
    balance = (target == 0).sum() / (target == 1).sum().clamp(min=1)
    return lambda output, y: F.binary_cross_entropy_with_logits(output, y, pos_weight=balance)


class Tuning:
    """Fine-tuning of encoders and head together, starting from a head on frozen encoders.

    First the head, then everything, keeps what pretraining learned (Kumar et al., ICLR 2022, arXiv
    2202.10054). Batch norms keep their statistics.
    """

    def __init__(self, encoders, signals, epochs, batch_size, lr):
        self.encoders, self.signals = (
            encoders,
            {name: torch.from_numpy(x) for name, x in signals.items()},
        )
        self.epochs, self.batch_size, self.lr = epochs, batch_size, lr

    def fit(self, head, rows, target, kind):
        """Train on windows `rows` with `target` (len(rows),); return a `FusionModel` in evaluation
        mode.
        """
        model = with_encoders(
            {name: copy.deepcopy(self.encoders[name]) for name in head.widths}, head
        )
        model.train().encoders.eval()
        y = torch.from_numpy(target).float()[:, None]
        loss, n_steps = loss_of(y, kind), self.epochs * -(-len(rows) // self.batch_size)
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], self.lr)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
        for _ in range(self.epochs):
            for part in torch.randperm(len(rows)).split(self.batch_size):
                optimizer.zero_grad()
                loss(model(self.batch(head, rows[part.numpy()])), y[part]).backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
        return model.eval()

    def batch(self, head, rows):
        """Return the signals of windows, in the modalities that a head takes."""
        return {name: self.signals[name][rows] for name in head.widths}

    @torch.no_grad()
    def predict(self, model, rows, without=()):
        """Compute the outputs (len(rows),) of a fine-tuned model, optionally without some
        modalities.
        """
        parts = [rows[start : start + 64] for start in range(0, len(rows), 64)]
        signals = (
            {k: x for k, x in self.batch(model.head, part).items() if k not in without}
            for part in parts
        )
        return torch.cat([model(part) for part in signals])[:, 0].numpy()
