"""Masks over the patches of a window, for a whole batch at once: bool (B, N), True = hidden.

Every row of a batch hides the same number of patches, so that the visible ones form a rectangle.
Source: Zhou et al., arXiv 2605.00973 (shapes), reference configuration (defaults).
"""

import torch

from xmae.errors import UserError


def n_hidden(n_patches, ratio):
    """Return the number of hidden patches at a mask ratio, rounded half to even: 25 at 0.9 -> 22.

    Raises
    ------
    UserError
        If that hides none or all of them.
    """
    hidden = round(ratio * n_patches)
    if not 0 < hidden < n_patches:
        raise UserError(
            f"a mask ratio of {ratio} hides {hidden} of {n_patches} patches; some must be hidden, "
            "some seen"
        )
    return hidden


def run(batch, n_patches, length, generator=None, device=None):
    """Mark one run of `length` patches in each row, at a random start: bool (B, N), True inside the
    run.
    """
    starts = torch.randint(n_patches - length + 1, (batch, 1), generator=generator, device=device)
    index = torch.arange(n_patches, device=device)
    return (index >= starts) & (index < starts + length)


def anchor(batch, n_patches, ratio, generator=None, device=None):
    """Hide all but one run of patches at a random start (the published mask)."""
    return ~run(batch, n_patches, n_patches - n_hidden(n_patches, ratio), generator, device)


def block(batch, n_patches, ratio, generator=None, device=None):
    """Hide one run of patches at a random start."""
    return run(batch, n_patches, n_hidden(n_patches, ratio), generator, device)


def scatter(batch, n_patches, ratio, generator=None, device=None):
    """Hide patches at random places."""
    order = torch.rand(batch, n_patches, generator=generator, device=device).argsort(1)
    return order < n_hidden(n_patches, ratio)


def mixed(batch, n_patches, ratio, generator=None, device=None):
    """Hide by `block` or `scatter`, drawn for each row with equal probability."""
    blocks = torch.rand(batch, 1, generator=generator, device=device) < 0.5
    arguments = batch, n_patches, ratio, generator, device
    return torch.where(blocks, block(*arguments), scatter(*arguments))


def forecast(batch, n_patches, ratio, generator=None, device=None):
    """Hide all patches after the first few."""
    hidden = torch.arange(n_patches, device=device) >= n_patches - n_hidden(n_patches, ratio)
    return hidden.expand(batch, -1)


def sensor_mix(batch, n_patches, ratio, generator=None, device=None):
    """Hide by `scatter`, `block` or `forecast`, drawn for each row with equal probability (LSM,
    arXiv 2410.13638).
    """
    kind = torch.randint(3, (batch, 1), generator=generator, device=device)
    arguments = batch, n_patches, ratio, generator, device
    masks = torch.stack([scatter(*arguments), block(*arguments), forecast(*arguments)])  # (3, B, N)
    return masks[kind[:, 0], torch.arange(batch, device=device)]


SHAPES = {"anchor": anchor, "block": block, "scatter": scatter, "mixed": mixed}
