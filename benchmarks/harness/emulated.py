"""The int8 student on emulated Cortex-M devices: its embeddings are computed there, its time and
energy estimated.

The C99 network that the firmware uses, alone, gets the windows that the other rows of a benchmark
get, so its accuracy columns come from what it computed. Instructions are counted; latency and
energy follow from them by the device's profile, with the low and high ends that the profile's
sources leave open. The whole watch is `xmae simulate`.
"""

import tempfile
from pathlib import Path

import numpy as np

from xmae.benchmarks.harness.rows import BenchRow
from xmae.errors import UserError
from xmae.export.targets.c.source import write_c
from xmae.export.targets.session import from_int8, to_int8
from xmae.firmware_sim.build.compile import BOARDS, compile_firmware
from xmae.firmware_sim.cost.cost import layer_cycles, mean_mix, millijoules, milliseconds
from xmae.firmware_sim.cost.profile import Span, load_device
from xmae.firmware_sim.emulators.registry import chosen_emulator, runner


def cortex_m(name, bundle):
    """Return the profile of a device, the emulator that runs it here, and the bundle's entry for
    it.

    Raises
    ------
    UserError
        If the device is unknown or no Cortex-M, its emulator is missing, or the bundle has no int8
        student for TFLite.
    """
    device, entry = load_device(name), bundle.entry("student", "litert", "int8")
    emulator = chosen_emulator(device)
    if emulator.startswith("qemu-user"):
        raise UserError(
            f"{name}: a Cortex-A; time it with `xmae simulate`, the benchmark emulates Cortex-M "
            "only"
        )
    return device, emulator, entry


def emulate(bundle, name, ppg):
    """Embed windows on an emulated device.

    Parameters
    ----------
    bundle : Bundle
        With an int8 student for TFLite.
    name : str
        Name of a device profile with a Cortex-M; see `xmae simulate --list-devices`.
    ppg : float32 array, shape (n, 1000)
        Windows in [-1, 1].

    Returns
    -------
    embedding : float32 array, shape (n, D)
    row : BenchRow
        Its intervals are low and high ends, not confidence; `bytes` are the weights,
        `peak_memory_bytes` the RAM with the stack's reserve.

    Raises
    ------
    UserError
        If the device is unknown, no Cortex-M, or its emulator is missing, or the network does not
        compile or run.
    """
    device, emulator, entry = cortex_m(name, bundle)
    source, sink = entry.input, entry.output
    codes = to_int8(ppg, source.scale, source.zero_point)
    with tempfile.TemporaryDirectory() as folder:
        built = write_c(bundle.path / entry.file, folder)
        firmware = compile_firmware(
            [BOARDS / "embed_windows.c", Path(folder) / "student_int8.c"],
            device.core,
            Path(folder) / "network.elf",
        )
        layers = [layer for layer in built["layers"] if layer["function"] in firmware.symbols]
        marks = [layer["function"] for layer in layers]
        run = runner(emulator)(firmware, {"in.bin": codes.tobytes()}, [*marks, "xmae_model_end"])
    if run.exit_code or len(run.files.get("out.bin", b"")) % len(codes):
        raise UserError(
            f"{name}: the network ended with code {run.exit_code}: {run.console.strip()[-200:]}"
        )
    embedding = np.frombuffer(run.files["out.bin"], np.int8).reshape(len(codes), -1)
    layers, cycles, instructions = layer_times(layers, run, len(codes), device)
    latency = milliseconds(cycles, device)
    energy = millijoules(latency, device.active_mw)
    row = BenchRow(
        "student",
        "c",
        "int8",
        device=name,
        kind="estimated",
        latency_ms=latency.value,
        latency_interval=[latency.low, latency.high],
        energy_mj=energy.value,
        energy_interval=[energy.low, energy.high],
        instructions=round(instructions),
        macs=built["macs"],
        mac_per_s=1e3 * built["macs"] / latency.value,
        bytes=firmware.sizes["flash_weights"],
        code_bytes=firmware.sizes["flash_code"],
        peak_memory_bytes=firmware.sizes["ram"],
        layers=layers,
    )
    return from_int8(embedding, sink.scale, sink.zero_point), row


def layer_times(layers, run, n, device):
    """Estimate the time of each layer from its instruction counts over `n` windows.

    Returns
    -------
    rows : list of dict
        `name`, `op` and `us` of each layer, microseconds a window.
    cycles : Span
        Instructions of one window.
    instructions : float
        Cycles of one window.
    """
    rows, total, instructions = [], Span(0, 0, 0), 0
    for layer in layers:
        mix = mean_mix(run.mix[layer["function"]], n)
        cycles = layer_cycles(mix, layer["constant_bytes"], device)
        us = 1e3 * milliseconds(cycles, device).value
        rows.append({"name": layer["name"], "op": layer["op"], "us": us})
        total += cycles
        instructions += sum(count for kind, count in mix.items() if kind != "words")
    return rows, total, instructions
