"""From instructions to estimated cycles, time and energy.

Compute: instructions of each class times the cycles that the device's profile gives them. Memory: constants come from
flash, a line at a time, each line at the cost of its wait cycles. A layer whose constants fit the device's data cache
reads them once. Otherwise the kernel reads them anew for each block of outputs, and how much of what it loads are
constants is not counted: half of all loaded words is assumed, once each constant at least, all loads at most.

A layer takes the larger of compute and memory; its upper bound takes their sum, as on a core that waits for each read.
Nothing here is fitted to a measurement; `benchmarks/mlperf_tiny.py` says by how much it misses published ones.
"""

from xmae.firmware_sim.profile import Span

WORD = 4  # bytes


def compute_cycles(mix, device):
    """Estimated cycles of counted instructions: a `Span`.

    Parameters
    ----------
    mix : Counter
        Executed instructions by class, and "words" moved by those of several words.
    device : Device
        Profile with the cost of each class.
    """
    if "instruction" in device.cycles:
        return device.cycles["instruction"] * sum(count for kind, count in mix.items() if kind != "words")
    return sum((device.cycles[kind] * count for kind, count in mix.items()), Span(0, 0, 0))


def memory_cycles(mix, constant_bytes, device):
    """Estimated cycles that a layer needs to read its constants from flash: a `Span`.

    Parameters
    ----------
    mix : Counter
        As for `compute_cycles`.
    constant_bytes : int
        Weights, biases and the like of the layer.
    device : Device
        Profile; without figures for its flash nothing is added.
    """
    if device.line_bytes is None or not constant_bytes:
        return Span(0, 0, 0)
    words = mix["load"] + mix["words"] + 4 * mix["mve_load"]
    once = constant_bytes / device.line_bytes.value
    if constant_bytes <= device.data_cache_bytes.value:
        lines = Span(once, once, once)
    else:
        loaded = words * WORD / device.line_bytes.value
        lines = Span(once, max(once, loaded / 2), max(once, loaded))
    return lines * Span(1 + device.wait_cycles.low, 1 + device.wait_cycles.value, 1 + device.wait_cycles.high)


def layer_cycles(mix, constant_bytes, device):
    """Estimated cycles of a layer: the larger of compute and memory; at most their sum."""
    compute, memory = compute_cycles(mix, device), memory_cycles(mix, constant_bytes, device)
    return Span(max(compute.low, memory.low), max(compute.value, memory.value), compute.high + memory.high)


def milliseconds(cycles, device):
    """Cycles at the device's clock as ms."""
    return cycles * (1e-3 / device.clock_mhz.value)


def millijoules(time_ms, power_mw):
    """Energy of a time (ms) at a power (mW), mJ."""
    return time_ms * power_mw * 1e-3


def mean_mix(total, visits):
    """Instructions by class of one visit, from the sum over all."""
    return type(total)({kind: count / visits for kind, count in total.items()})
