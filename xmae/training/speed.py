"""How fast training goes against what the hardware could do: model FLOP utilisation (MFU)."""

import copy
import time

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

DENSE_BF16 = {  # FLOP/s without sparsity, from NVIDIA's data sheets of these products
    "H200": 989e12, "H100 80GB HBM3": 989e12, "H100 PCIe": 756e12, "A100": 312e12, "L40S": 362e12,
    "L4": 121e12,
}  # fmt: skip


def count_flops(objective, batch, rows=8):
    """Count the floating point operations of one window's forward and backward pass: matrix
    products and convolutions.

    Counted on the first `rows` rows of a batch, with a copy of the objective, leaving random
    numbers as they were.
    """
    few = {name: x[:rows] for name, x in batch._asdict().items() if isinstance(x, torch.Tensor)}
    n = len(few["ppg"])
    few |= {
        name: x for name, x in {"rows": slice(None), "n_total": n}.items() if name in batch._fields
    }
    few = batch._replace(**few)
    with (
        torch.random.fork_rng([]),
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
    ):
        copy.deepcopy(objective)(few).backward()
    return counter.get_total_flops() / n


def peak_flops(device, precision):
    """Return the peak FLOP/s of one device: from its data sheet where known, else measured with
    products of square matrices.

    In mixed precision the faster type counts. A processor without bfloat16 instructions multiplies
    float32 faster, and a peak below what the network reaches is none.
    """
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    mixed = precision == "bf16-mixed"
    for product, flops in DENSE_BF16.items() if mixed else ():
        if product in name:
            return flops
    types = (torch.float32, torch.bfloat16) if mixed else (torch.float32,)
    return max(measured_flops(device, dtype) for dtype in types)


def measured_flops(device, dtype):
    """Measure the FLOP/s of the fastest of five products of square matrices."""
    size = 8192 if device.type == "cuda" else 1024
    a, best = torch.ones(size, size, device=device, dtype=dtype), float("inf")
    for _ in range(5):
        started = time.perf_counter()
        (a @ a)[0, 0].item()
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best
