"""The dense probe: what the tokens of a frozen encoder tell, moment by moment, by a ridge.

Beside the pooled probe, which asks the mean over a window, it asks each patch together with the one
before and the one after.
"""

import numpy as np
import torch
import torch.nn.functional as F

from xmae.beats.timing_map import STEP, timing_target
from xmae.errors import UserError
from xmae.signals.scale import minmax_scale
from xmae.signals.window import N_TIMES, PATCH

N_PATCHES = N_TIMES // PATCH
STRENGTH = 10.0  # of the ridge, on columns of variance 1


@torch.no_grad()
def tokens_of(encoder, ppg, batch_size=64):
    """Return the tokens of windows, each joined with its neighbours.

    Where an encoder cuts a window into more than 25, those of a patch are joined if they are a
    whole number, else averaged; where it cuts it into fewer, they are interpolated linearly.

    Parameters
    ----------
    encoder : torch.nn.Module
        With `tokens`: scaled PPG (B, 1, 1000) -> (B, N, D).
    ppg : array, shape (n, 1000)
        In any unit.
    batch_size : int

    Returns
    -------
    float32 array, shape (n, 25, 3 D)
    """
    device = next(encoder.parameters()).device
    scaled = torch.as_tensor(minmax_scale(np.asarray(ppg, np.float32))[0])[:, None]
    was_training = encoder.training
    encoder.eval()
    parts = [encoder.tokens(part.to(device)).float().cpu() for part in scaled.split(batch_size)]
    encoder.train(was_training)
    return with_neighbours(by_patch(torch.cat(parts)).numpy())


def by_patch(tokens):
    """Bring tokens (n, N, D) to 25 a window: (n, 25, D) or (n, 25, N / 25 D)."""
    n_tokens = tokens.shape[1]
    if n_tokens % N_PATCHES == 0:
        return tokens.reshape(len(tokens), N_PATCHES, -1)
    channels_first = tokens.transpose(1, 2)
    if n_tokens > N_PATCHES:
        return F.adaptive_avg_pool1d(channels_first, N_PATCHES).transpose(1, 2)
    return F.interpolate(channels_first, N_PATCHES, mode="linear").transpose(1, 2)


def with_neighbours(x):
    """Join each patch with the one before and after: (n, 25, D) -> (n, 25, 3 D), zeros beyond the
    ends.
    """
    padded = np.pad(x, ((0, 0), (1, 1), (0, 0)))
    return np.concatenate([padded[:, :-2], padded[:, 1:-1], padded[:, 2:]], axis=2)


def ridge(x, y, new):
    """Fit y (m, P) to x (m, D) by ridge regression, and predict for `new` (k, D): (k, P)."""
    mean, spread = x.mean(0), x.std(0) + 1e-6
    x, new = (x - mean) / spread, (new - mean) / spread
    gram = x.T @ x + STRENGTH * np.eye(x.shape[1], dtype=x.dtype)
    return new @ np.linalg.solve(gram, x.T @ (y - y.mean(0))) + y.mean(0)


def dense_maps(tokens, pulses, folds):
    """Predict timing maps of windows from tokens, by a ridge that is fitted on other folds.

    Parameters
    ----------
    tokens : float32 array, shape (n, 25, D)
    pulses : float array, shape (n, K)
        Times of the pulses of each window, s, ascending, NaN at the end. Patches without a pulse
        before and after are not fitted.
    folds : list of (int array, int array)
        Windows to fit on and to predict.

    Returns
    -------
    float32 array, shape (n, 3, 250)
        Zeros in windows of no fold.

    Raises
    ------
    UserError
        If no patch that a fold is fitted on has known pulses.
    """
    moments = PATCH // STEP
    target, known = timing_target(torch.as_tensor(pulses, dtype=torch.float32), N_TIMES // STEP)
    target = target.unflatten(2, (N_PATCHES, moments)).transpose(1, 2).flatten(2).numpy()
    whole = known.unflatten(1, (N_PATCHES, moments)).all(2).numpy()
    found = np.zeros_like(target)
    for fitted, scored in folds:
        use = whole[fitted]
        if not use.any():
            raise UserError("no pulse is known in the windows to fit a dense probe on")
        new = tokens[scored].reshape(-1, tokens.shape[2])
        row = ridge(tokens[fitted][use], target[fitted][use], new)
        found[scored] = row.reshape(len(scored), N_PATCHES, -1)
    maps = torch.from_numpy(found).unflatten(2, (3, moments)).transpose(1, 2)
    return maps.flatten(2).contiguous().numpy()
