"""Ethos-U: what Arm's compiler Vela estimates for a network. Nothing is emulated; there is no open
model of it.
"""

import csv
import subprocess
import sys
import tempfile
from pathlib import Path

from xmae.errors import UserError
from xmae.firmware_sim.cost.cost import estimates, millijoules, milliseconds
from xmae.firmware_sim.cost.profile import Span

CONFIG = """[System_Config.device]
core_clock={clock}
axi0_port=Sram
axi1_port=OnChipFlash
Sram_clock_scale=1.0
Sram_burst_length=32
Sram_read_latency=32
Sram_write_latency=32
Sram_max_reads=4
Sram_max_writes=4
OnChipFlash_clock_scale={flash_share}
OnChipFlash_burst_length=128
OnChipFlash_read_latency=64
OnChipFlash_max_reads=2

[Memory_Mode.device]
const_mem_area=Axi1
arena_mem_area=Axi0
cache_mem_area=Axi0
"""


def npu_estimate(model, device, cost, hop_s):
    """Estimate the cost of a window with the network on the device's accelerator (by Vela) and the
    rest on the core.

    Parameters
    ----------
    model : Path
        Int8 `.tflite`.
    device : Device
        Profile with `npu`.
    cost : dict
        From `window_cost`, on the core.
    hop_s : float
        Seconds from one window to the next.

    Returns
    -------
    dict
        `accelerator`, `source`, `estimated_network_ms`, and `estimated` as `window_cost` has it.

    Raises
    ------
    UserError
        If Vela fails.
    """
    network = device.npu["latency_share"] * vela_ms(model, device)
    outside = [
        Span.read(row["estimated_cycles"]) for row in cost["layers"] if not row["in_network"]
    ]
    rest_ms = milliseconds(sum(outside, Span(0, 0, 0)), device)
    sampling_ms = Span.read(cost["estimated"]["sampling_ms_a_second"])
    energy = millijoules(network, device.npu["active_mw"]) + millijoules(rest_ms, device.active_mw)
    return {
        "accelerator": device.npu["accelerator"],
        "source": "Vela's estimate, not emulated",
        "estimated_network_ms": network.describe(),
        "estimated": estimates(network + rest_ms, energy, sampling_ms, hop_s, device),
    }


def vela_ms(model, device):
    """Return the time that Vela estimates for one inference, ms.

    Weights lie in on-chip flash, activations in SRAM. Ports are 64 bits wide at the accelerator's
    clock; flash gives the share of that which its line and wait cycles leave. Parameters and errors
    as in `npu_estimate`.
    """
    port_bytes = 8
    share = min(1.0, device.line_bytes.value / (1 + device.wait_cycles.value) / port_bytes)
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "device.ini"
        config.write_text(
            CONFIG.format(clock=device.npu["clock_mhz"].value * 1e6, flash_share=share)
        )
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "ethosu.vela",
                str(model),
                "--accelerator-config",
                device.npu["accelerator"],
                "--config",
                str(config),
                "--system-config",
                "device",
                "--memory-mode",
                "device",
                "--output-dir",
                folder,
            ],
            capture_output=True,
            text=True,
        )
        summary = next(Path(folder).glob("*_summary_*.csv"), None)
        if done.returncode or summary is None:
            raise UserError(f"{model}: Vela failed ({(done.stderr or done.stdout).strip()[-200:]})")
        with summary.open() as file:
            return float(next(csv.DictReader(file))["inference_time"]) * 1e3
