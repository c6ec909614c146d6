"""One loss over the global batch, whichever process holds which rows of it."""

import torch
import torch.distributed as dist
from torch.distributed.nn.functional import all_gather


def n_processes():
    """Processes that train together; 1 outside of a distributed run."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gather(x):
    """Rows of all processes in the order of the global batch, with gradients: (B, ...) -> (B * processes, ...).

    Process r of W holds rows r, r + W, ... Every process then computes the loss of the whole batch. The gradients that
    reach a process's rows are the sum over the W equal losses, and averaging gradients over processes divides by W
    again: parameters get the gradient of one process with the whole batch.
    """
    return x if n_processes() == 1 else torch.stack(all_gather(x), 1).flatten(0, 1)


@torch.no_grad()
def mean_over_processes(x):
    """The mean of a tensor over all processes, without gradients."""
    if (world := n_processes()) > 1:
        x = x.clone()
        dist.all_reduce(x)
        x /= world
    return x
