"""What the int8 student costs on each emulated core, layer by layer, beside plain C and CMSIS-NN.

    python -m xmae.benchmarks.studies.kernel_cost [--bundle FOLDER] [--out benchmarks/results]

CMSIS-NN is Arm's library of the same kernels. Its int8 convolutions (release 4.0.0, four files
changed so that they need no C library) come out of the PyPI package named below, pinned by hash,
and are only compared with: they take the place of ours through `xmae_cmsis_nn.h`, in the same
network on the same windows, and must give the same embeddings. Needs arm-none-eabi-gcc and QEMU;
counts instructions, no times. Without a bundle, the shipped weights are exported.
"""

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from xmae.benchmarks.studies.runner import run_study
from xmae.benchmarks.studies.watch import PLAYED, shipped_bundle, version_of
from xmae.data.prepare.prepare import prepare_recording
from xmae.data.recording.readers import read_recording
from xmae.errors import UserError
from xmae.export.targets import litert
from xmae.export.targets.c.source import NAME, write_c
from xmae.export.targets.session import to_int8
from xmae.firmware_sim.build.compile import BOARDS, compile_firmware
from xmae.firmware_sim.emulators.qemu import run_qemu
from xmae.signals.scale import minmax_scale
from xmae.tables import markdown_table

PACKAGE = (
    "bakenn==1.0.0 --hash=sha256:b8251e71a8fc39252df0d308fe9a5837bd86f7a31f1596a7dd4a319196f30e56"
)
VENDOR = "bakenn/backend/cmsis_nn/vendor"
CORES = {"m4": "Cortex-M4", "m7": "Cortex-M7", "m33": "Cortex-M33", "m55": "Cortex-M55"}


def kernel_cost(*, bundle: str | None = None) -> str:
    """Count the int8 student's instructions on each emulated core, layer by layer.

    Parameters
    ----------
    bundle : str or None
        An exported one; default: made from the shipped weights.

    Raises
    ------
    UserError
        If QEMU is not installed.
    """
    if not shutil.which("qemu-system-arm"):
        raise UserError("qemu-system-arm is not installed")
    with tempfile.TemporaryDirectory() as folder:
        model = Path(bundle or shipped_bundle(folder)) / f"{NAME}.tflite"
        window = minmax_scale(prepare_recording(read_recording(PLAYED))[0].ppg)[0][0]
        described = litert.inspect_model(model)["input"]
        codes = to_int8(window, described["scale"], described["zero_point"]).tobytes()
        folder = Path(folder)
        (folder / "ours").mkdir()
        (folder / "theirs").mkdir()
        info = write_c(model, folder / "ours")
        write_c(model, folder / "theirs", cmsis_nn=True)
        library = cmsis_nn(folder)
        costs = {core: measure(core, folder, info, library, codes) for core in CORES}
    return page(info, costs)


def measure(core, folder, info, library, codes):
    """Return the runs on one core: {"fast", "plain", "cmsis"} to instructions by layer function,
    sizes and embedding.
    """
    marks = [layer["function"] for layer in info["layers"] if layer["op"] != "RESHAPE"]
    result = {}
    for kind, source, options in (
        ("fast", "ours", {}),
        ("plain", "ours", {"fast": False}),
        ("cmsis", "theirs", {"cmsis_nn": library}),
    ):
        sources = [BOARDS / "embed_windows.c", folder / source / f"{NAME}.c"]
        built = compile_firmware(sources, core, folder / "f.elf", compiler="gcc", **options)
        run = run_qemu(built, {"in.bin": codes}, [*marks, "xmae_model_end"])
        result[kind] = {
            "layers": {name: count for name, count in run.visits if name in marks},
            "sizes": built.sizes | {"stack": run.stack_used},
            "embedding": run.files["out.bin"],
        }
    assert result["fast"]["embedding"] == result["plain"]["embedding"]
    return result


def cmsis_nn(folder):
    """Fetch the CMSIS-NN package, check its hash and unpack it; return its folder."""
    (folder / "requirements.txt").write_text(PACKAGE)
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--require-hashes",
        "-r",
    ]
    subprocess.run(
        [*command, folder / "requirements.txt", "-d", folder], check=True, stdout=subprocess.DEVNULL
    )
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder, [name for name in wheel.namelist() if name.startswith(VENDOR)])
    return folder / VENDOR


def page(info, costs):
    """Write the page as Markdown."""
    qemu = version_of("qemu-system-arm").split(" (")[0]
    head = (
        "core", "instructions", "per MAC", "plain C: per MAC", "CMSIS-NN: per MAC",
        "only layers with MAC: per MAC", "CMSIS-NN on these", "its embedding", "code bytes",
        "weight bytes", "RAM bytes", "stack bytes",
    )  # fmt: skip
    rows = [core_row(CORES[core], cost, info) for core, cost in costs.items()]
    columns = ["layer", "MAC"]
    for core in costs:
        columns += [CORES[core], "CMSIS-NN"]
    layers = [layer_row(layer, costs) for layer in info["layers"] if layer["op"] != "RESHAPE"]
    return f"""# Instructions of the int8 student, by layer

One window of 10 s: {info["macs"]:,} multiply-accumulates (MAC), counted in {qemu} with a plugin;
{version_of("arm-none-eabi-gcc")}, -O2. *Plain*: the C99 kernels. *CMSIS-NN*: release 4.0.0 in the
same network through `xmae_cmsis_nn.h`, in all layers with MAC; ADD and MEAN, which the subset at
hand lacks, are ours there too.

{markdown_table(head, rows, right=False)}

RAM: activation arena, input, output and 4,096 bytes reserved for the stack, of which the last
column was used. Code: all of the program but the weights.

## Instructions per MAC (ADD and MEAN: instructions)

{markdown_table(columns, layers, right=False)}
"""


def core_row(title, cost, info):
    """Return the cells of a core."""
    macs = {layer["function"]: layer["macs"] for layer in info["layers"]}
    total, with_macs = {}, {}
    for kind, run in cost.items():
        total[kind] = sum(run["layers"].values()) / info["macs"]
        counted = [count for name, count in run["layers"].items() if macs[name]]
        with_macs[kind] = sum(counted) / info["macs"]
    sizes, same = cost["fast"]["sizes"], cost["fast"]["embedding"] == cost["cmsis"]["embedding"]
    return (
        title,
        f"{sum(cost['fast']['layers'].values()):,}",
        f"**{total['fast']:.3f}**",
        f"{total['plain']:.2f}",
        f"{total['cmsis']:.3f}",
        f"{with_macs['fast']:.3f}",
        f"{with_macs['cmsis']:.3f}",
        "equal" if same else "differs",
        f"{sizes['flash_code']:,}",
        f"{sizes['flash_weights']:,}",
        f"{sizes['ram']:,}",
        sizes["stack"],
    )


def layer_row(layer, costs):
    """Return the cells of a layer on all cores."""
    name, macs = layer["function"], layer["macs"]
    cells = [layer["name"], f"{macs:,}"]
    for cost in costs.values():
        ours, theirs = (cost[kind]["layers"][name] for kind in ("fast", "cmsis"))
        cells += [f"{ours / macs:.2f}", f"{theirs / macs:.2f}"] if macs else [f"{ours:,}", "–"]
    return cells


if __name__ == "__main__":
    run_study(kernel_cost, "kernel_cost.md")
