"""Ethos-U: what Arm's compiler Vela estimates for a network. Nothing is emulated; there is no open model of it."""

import csv
import subprocess
import sys
import tempfile
from pathlib import Path

from xmae.errors import UserError

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


def vela_ms(model, device):
    """Time that Vela estimates for one inference, ms.

    Weights lie in on-chip flash, activations in SRAM. Ports are 64 bits wide at the accelerator's clock; flash gives
    the share of that which its line and wait cycles leave.

    Parameters
    ----------
    model : Path
        Int8 `.tflite`.
    device : Device
        Profile with `npu`.

    Raises
    ------
    UserError
        If Vela fails.
    """
    port_bytes = 8
    share = min(1.0, device.line_bytes.value / (1 + device.wait_cycles.value) / port_bytes)
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "device.ini"
        config.write_text(CONFIG.format(clock=device.npu["clock_mhz"].value * 1e6, flash_share=share))
        done = subprocess.run(
            [sys.executable, "-m", "ethosu.vela", str(model), "--accelerator-config", device.npu["accelerator"],
             "--config", str(config), "--system-config", "device", "--memory-mode", "device", "--output-dir", folder],
            capture_output=True, text=True,
        )  # fmt: skip
        summary = next(Path(folder).glob("*_summary_*.csv"), None)
        if done.returncode or summary is None:
            raise UserError(f"{model}: Vela failed ({(done.stderr or done.stdout).strip()[-200:]})")
        with summary.open() as file:
            return float(next(csv.DictReader(file))["inference_time"]) * 1e3
