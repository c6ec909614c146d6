"""One loss over the global batch, whichever process holds which rows of it."""

import torch
import torch.distributed as dist


def n_processes():
    """Return the number of processes that train together; 1 outside of a distributed run."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gather(x):
    """Gather the rows of all processes in the order of the global batch, with gradients: (B, ...)
    -> (B * processes, ...).

    Process r of W holds rows r, r + W, ... Every process then computes the loss of the whole batch.
    The gradients that reach a process's rows are the sum over the W equal losses, and averaging
    gradients over processes divides by W again: parameters get the gradient of one process with the
    whole batch.
    """
    return x if n_processes() == 1 else Gather.apply(x)


class Gather(torch.autograd.Function):
    """All-gather whose gradient is the sum over processes."""

    @staticmethod
    def forward(ctx, x):
        """Map (B, ...) -> (B * W, ...), row i of process r at i * W + r."""
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.stack(parts, 1).flatten(0, 1)

    @staticmethod
    def backward(ctx, gradient):
        """Map (B * W, ...) of each process -> their sum at this one's rows (B, ...)."""
        gradient = gradient.contiguous().clone()
        dist.all_reduce(gradient)
        return gradient[dist.get_rank() :: dist.get_world_size()]


@torch.no_grad()
def mean_over_processes(x):
    """Return the mean of a tensor over all processes, without gradients."""
    if (world := n_processes()) > 1:
        x = x.clone()
        dist.all_reduce(x)
        x /= world
    return x
