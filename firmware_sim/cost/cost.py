"""From instructions to estimated cycles, time and energy.

Compute: instructions of each class times the cycles that the device's profile gives them. Memory:
constants come from flash, a line at a time, each line at the cost of its wait cycles. A layer whose
constants fit the device's data cache reads them once. Otherwise the kernel reads them anew for each
block of outputs, and how much of what it loads are constants is not counted: half of all loaded
words is assumed, once each constant at least, all loads at most.

A layer takes the larger of compute and memory; its upper bound takes their sum, as on a core that
waits for each read. Nothing here is fitted to a measurement; `benchmarks/studies/mlperf_tiny.py`
says by how much it misses published ones.
"""

from collections import Counter

from xmae.firmware_sim.cost.battery import battery_view
from xmae.firmware_sim.cost.profile import Span

WORD = 4  # bytes


def compute_cycles(mix, device):
    """Estimate the cycles of counted instructions: a `Span`.

    Parameters
    ----------
    mix : Counter
        Executed instructions by class, and "words" moved by those of several words.
    device : Device
        Profile with the cost of each class.
    """
    if "instruction" in device.cycles:
        return device.cycles["instruction"] * sum(
            count for kind, count in mix.items() if kind != "words"
        )
    return sum((device.cycles[kind] * count for kind, count in mix.items()), Span(0, 0, 0))


def memory_cycles(mix, constant_bytes, device):
    """Estimate the cycles that a layer needs to read its constants from flash: a `Span`.

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
    return lines * Span(
        1 + device.wait_cycles.low, 1 + device.wait_cycles.value, 1 + device.wait_cycles.high
    )


def layer_cycles(mix, constant_bytes, device):
    """Estimate the cycles of a layer: at least the larger of compute and memory, at most their
    sum.
    """
    compute, memory = compute_cycles(mix, device), memory_cycles(mix, constant_bytes, device)
    return Span(
        max(compute.low, memory.low), max(compute.value, memory.value), compute.high + memory.high
    )


def milliseconds(cycles, device):
    """Convert cycles at the device's clock to ms."""
    return cycles * (1e-3 / device.clock_mhz.value)


def millijoules(time_ms, power_mw):
    """Return the energy of a time (ms) at a power (mW), mJ."""
    return time_ms * power_mw * 1e-3


def mean_mix(total, visits):
    """Return the instructions by class of one visit, from the sum over all visits."""
    return type(total)({kind: count / visits for kind, count in total.items()})


def window_cost(run, layers, device, seconds, hop_s, flash_bytes):
    """Return the cost of one window from front end to frame: counted instructions, and estimates by
    the device's profile.

    Parameters
    ----------
    run : Run
        Run of firmware with the phases of `app/board.h` and the functions of `layers` as markers.
    layers : list of dict
        From `write_firmware`.
    device : Device
        The profile.
    seconds, hop_s : float
        Length of the signal that was played; time from one window to the next, s.
    flash_bytes : int
        Bytes of flash that are checked at the start.

    Returns
    -------
    dict
        `counts`: instructions of a window, of the network and of the start, and how much windows
        differ (`spread`: of the largest);
        `estimated`: see `estimates`; `layers`: rows.
    """
    rows, total = layer_rows(run, layers, device)
    latency = milliseconds(total, device)
    sampling = milliseconds(
        compute_cycles(mean_mix(run.mix["phase_samples"], seconds), device), device
    )
    energy = millijoules(latency, device.active_mw)
    network, macs = (
        sum(row["instructions"] for row in rows if row["in_network"]),
        sum(row["macs"] for row in rows),
    )
    return {
        "counts": {
            "instructions_a_window": sum(row["instructions"] for row in rows),
            "network_instructions": network,
            "network_macs": macs,
            "instructions_per_mac": round(network / macs, 3) if macs else None,
            "start_instructions": sum(
                count for region, count in run.visits if region == "phase_boot"
            ),
            **spread(per_window(run.visits)),
        },
        "estimated": estimates(latency, energy, sampling, hop_s, device)
        | {
            "start_ms": milliseconds(
                layer_cycles(run.mix["phase_boot"], flash_bytes, device), device
            ).describe()
        },
        "layers": rows,
    }


def layer_rows(run, layers, device):
    """Return a row for each layer, and each step around the network, that a run went through, in
    running order, and the cycles of all.

    Parameters as in `window_cost`.
    """
    visits = Counter(region for region, _ in run.visits)
    constants = {layer["function"]: layer for layer in layers}
    rows, total = [], Span(0, 0, 0)
    for region in ("phase_front_end", *constants, "phase_heads", "phase_frame"):
        if not visits[region]:
            continue
        mix = mean_mix(run.mix[region], visits[region])
        layer = constants.get(
            region, {"name": region.removeprefix("phase_"), "macs": 0, "constant_bytes": 0}
        )
        cycles = layer_cycles(mix, layer["constant_bytes"], device)
        count = sum(number for kind, number in mix.items() if kind != "words")
        rows.append(layer_row(layer["name"], layer["macs"], count, cycles, region in constants))
        total += cycles
    return rows, total


def layer_row(name, macs, count, cycles, in_network):
    """Return the cost of one layer, or of one step around the network, as plain numbers."""
    return {
        "name": name,
        "in_network": in_network,
        "macs": macs,
        "instructions": round(count),
        "instructions_per_mac": round(count / macs, 2) if macs else None,
        "estimated_cycles": cycles.describe(),
    }


def estimates(latency_ms, energy_mj, sampling_ms, hop_s, device):
    """Return the estimated cost of a window, as plain numbers.

    Parameters
    ----------
    latency_ms, energy_mj, sampling_ms : Span
        Cost of a window without the work on each sample, ms and mJ; time of one second's samples,
        ms.
    hop_s : float
        Seconds from one window to the next.
    device : Device
        Profile with its power.

    Returns
    -------
    dict
        `latency_ms`; `sampling_ms_a_second`; `energy_mj`, with the samples of `hop_s`; `battery`:
        charge a day.
    """
    return {
        "latency_ms": latency_ms.describe(),
        "sampling_ms_a_second": sampling_ms.describe(),
        "energy_mj": (energy_mj + millijoules(sampling_ms * hop_s, device.active_mw)).describe(),
        "battery": battery_view(energy_mj, latency_ms, sampling_ms, device),
    }


def spread(counted):
    """Return the smallest and largest instruction count of a window, and their difference as a
    share of the largest; None without windows.
    """
    if not counted:
        return {"windows_min_max": None, "spread": None}
    least, most = min(counted), max(counted)
    return {"windows_min_max": [least, most], "spread": round((most - least) / most, 5)}


def per_window(visits):
    """Return the instruction count of each window that went through the network, from front end to
    frame.
    """
    counted, current, network = [], None, False
    for region, count in visits:
        if region == "phase_front_end":
            current, network = 0, False
        elif region in ("phase_trace", "phase_samples"):
            if current is not None and network:
                counted.append(current)
            current = None
        if current is not None:
            current += count
            network |= region.startswith("xmae_layer")
    return counted
