"""TFLite on Ethos-U: the int8 `.tflite` compiled by Vela, with its estimates layer by layer.

The commands run on the NPU only; what they must compute, to the bit, is what TensorFlow Lite Micro
computes of the file that they were compiled from.
"""

import csv
import io
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from xmae.errors import UserError
from xmae.export.targets import litert
from xmae.export.targets.base import Target, register
from xmae.export.targets.trace import unsupported
from xmae.files import atomic_file, read_json, write_json

# accelerator: (system, memory mode) of Vela's own Arm/vela.ini, as ExecuTorch chooses for each
SYSTEMS = {
    "ethos-u55-128": ("Ethos_U55_High_End_Embedded", "Shared_Sram"),
    "ethos-u65-256": ("Ethos_U65_High_End", "Dedicated_Sram_384KB"),
    "ethos-u85-256": ("Ethos_U85_SYS_DRAM_Mid", "Sram_Only"),
}


class Vela(Target):
    """TFLite for an Ethos-U; its commands run on the NPU only.

    Attributes
    ----------
    accelerator : str
        One of `SYSTEMS`: family and MAC units a cycle.
    """

    accelerator: str
    precisions = ("int8",)
    tools = ("litert-torch", "ai-edge-quantizer", "ethos-u-vela")
    runs_here = False
    can_open = False
    convolutions_only = True

    def convert(self, module, path, precision, calibration=None, observer=None):
        """Write a graph as a `.tflite` of NPU commands; beside it Vela's estimates: `.json`, and
        `.csv` by layer.

        Raises
        ------
        UserError
            As `xmae.export.targets.litert.export`; if Vela is not installed or fails, or leaves an
            operator to the CPU (it and its layer are named).
        """
        with TemporaryDirectory() as folder:
            source = Path(folder) / "model.tflite"
            litert.export(module, source, precision, calibration, observer)
            compiled, layers, total = compile_model(source, self.accelerator, folder)
            if left := {
                row["Original Operator"]: layer_of(row["Name"])
                for row in layers
                if row["Target"] == "CPU"
            }:
                raise unsupported(self.accelerator, left)
            write_json(Path(path).with_suffix(".json"), total)
            for suffix, content in ((".tflite", compiled), (".csv", layers_csv(layers))):
                with atomic_file(Path(path).with_suffix(suffix)) as temporary:
                    temporary.write_bytes(content)

    def inspect(self, path):
        """Describe a file as `xmae.export.targets.litert.inspect_model`, with `estimated` by
        Vela.
        """
        return litert.inspect_model(path) | {
            "undelegated": [],
            "estimated": read_json(Path(path).with_suffix(".json")),
        }


@register
class VelaU55(Vela):
    """Ethos-U55 with 128 MAC units."""

    name = "vela-u55"
    suffix = "_vela-u55.tflite"
    accelerator = "ethos-u55-128"


@register
class VelaU65(Vela):
    """Ethos-U65 with 256 MAC units."""

    name = "vela-u65"
    suffix = "_vela-u65.tflite"
    accelerator = "ethos-u65-256"


@register
class VelaU85(Vela):
    """Ethos-U85 with 256 MAC units."""

    name = "vela-u85"
    suffix = "_vela-u85.tflite"
    accelerator = "ethos-u85-256"


def compile_model(path, accelerator, folder):
    """Compile an int8 `.tflite` with Vela.

    Parameters
    ----------
    path : Path
        The file.
    accelerator : str
        One of `SYSTEMS`.
    folder : str or Path
        Folder that Vela may write to.

    Returns
    -------
    compiled : bytes
        The `.tflite` with the NPU's commands.
    layers : list of dict
        Vela's row for each layer: "Original Operator", "Target" (NPU or CPU), "Op Cycles", "MAC
        Count", "Util% (MAC)", "Name", ...
    summary : dict
        See `summary`.

    Raises
    ------
    UserError
        If Vela is not installed or fails.
    """
    if find_spec("ethosu") is None:
        raise UserError("ethos-u-vela is not installed; pip install 'xmae[firmware]'")
    system, memory = SYSTEMS[accelerator]
    out = Path(folder) / "vela"
    options = [
        "--accelerator-config",
        accelerator,
        "--config",
        "Arm/vela.ini",
        "--system-config",
        system,
    ]
    options += ["--memory-mode", memory, "--verbose-performance", "--output-dir", str(out)]
    done = subprocess.run(
        [sys.executable, "-m", "ethosu.vela", str(path), *options], capture_output=True, text=True
    )
    compiled = next(out.glob("*_vela.tflite"), None)
    if done.returncode or compiled is None:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        raise UserError(f"{path}: Vela failed for {accelerator} ({lines[-1][:200]})")
    with next(out.glob("*_per-layer.csv")).open(newline="") as file:
        layers = list(csv.DictReader(file))
    with next(out.glob("*_summary_*.csv")).open(newline="") as file:
        total = list(csv.DictReader(file))[-1]
    return compiled.read_bytes(), layers, summary(total)


def layer_of(name):
    """Return the module of a tensor that litert-torch named
    "package.Class/package.Class_blocks/package.Class_0;...": blocks.0.
    """
    parts = (
        part.rpartition(".")[2].partition("_")[2] for part in name.partition(";")[0].split("/")
    )
    return ".".join(filter(None, parts)) or name


def summary(row):
    """Return the main numbers of Vela's summary of a network; all are estimates of Vela's model of
    NPU and memories.
    """
    return {
        "source": (
            f"Vela, {row['accelerator_configuration']}, {row['system_config']}, "
            f"{row['memory_mode']}"
        ),
        "inference_ms": float(row["inference_time"]) * 1e3,
        "cycles": int(float(row["cycles_total"])),
        "clock_mhz": float(row["core_clock"]) / 1e6,
        "macs": int(row["nn_macs"]),
        "sram_kib": float(row["sram_memory_used"]),
        "weights_kib": float(row["total_npu_encoded_weights"]) / 1024,
    }


def layers_csv(layers):
    """Return rows as CSV, in bytes."""
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, layers[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(layers)
    return file.getvalue().encode()
