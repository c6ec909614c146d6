"""What the int8 student costs on each emulated core, layer by layer, beside plain C and CMSIS-NN.

    python -m xmae.benchmarks.kernel_cost MODEL.tflite OUT.md

CMSIS-NN is Arm's library of the same kernels. Its int8 convolutions (release 4.0.0, four files changed so that they
need no C library) come out of the PyPI package named below, pinned by hash, and are only compared with: each layer gets
the same input, and its output is compared byte by byte. Needs arm-none-eabi-gcc and QEMU; instruction counts, no times.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from xmae.data.bidmc import bidmc_files
from xmae.data.prepare import prepare_recording
from xmae.data.readers import read_recording
from xmae.export import litert
from xmae.export.c_layers import read_layers
from xmae.export.c_source import function, numbers, write_c
from xmae.export.session import to_int8
from xmae.files import atomic_file
from xmae.firmware_sim.compile import BOARDS, compile_firmware
from xmae.firmware_sim.emulate_qemu import run_qemu
from xmae.signals.scale import minmax_scale

PACKAGE = "bakenn==1.0.0 --hash=sha256:b8251e71a8fc39252df0d308fe9a5837bd86f7a31f1596a7dd4a319196f30e56"
VENDOR = "bakenn/backend/cmsis_nn/vendor"
CORES = {"m4": "Cortex-M4", "m7": "Cortex-M7", "m33": "Cortex-M33", "m55": "Cortex-M55"}


def main():
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="int8 student, .tflite")
    parser.add_argument("out", help="Markdown file to write")
    arguments = parser.parse_args()
    window = minmax_scale(prepare_recording(read_recording(bidmc_files()[0]))[0].ppg)[0][0]
    described = litert.inspect_model(arguments.model)["input"]
    codes = to_int8(window, described["scale"], described["zero_point"]).tobytes()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        info = write_c(arguments.model, folder)
        cmsis = cmsis_nn(folder)
        (folder / "cmsis_layers.c").write_text(cmsis_layers(read_layers(arguments.model)[1]))
        costs = {core: measure(core, folder, info, cmsis, codes) for core in CORES}
    with atomic_file(arguments.out) as temporary:
        temporary.write_text(table(info, costs))


def measure(core, folder, info, cmsis, codes):
    """Instructions per layer on one core: {"fast", "plain", "cmsis"} to {layer's function: count}, and sizes."""
    app, network = BOARDS / "embed_windows.c", folder / "student_int8.c"
    marks = [layer["function"] for layer in info["layers"] if layer["op"] != "RESHAPE"]
    result = {}
    for kind in ("fast", "plain"):
        built = compile_firmware([app, network], core, folder / "f.elf", compiler="gcc", fast=kind == "fast")
        run = run_qemu(built, {"in.bin": codes}, [*marks, "xmae_model_end"])
        result[kind] = {name: count for name, count in run.visits if name in marks}
        result[f"{kind}_sizes"] = built.sizes | {"stack": run.stack_used}
        result[f"{kind}_output"] = run.files["out.bin"]
    assert result["fast_output"] == result["plain_output"]
    sources, headers = cmsis
    built = compile_firmware(
        [app, network, folder / "cmsis_layers.c", *sources], core, folder / "c.elf", include=headers, compiler="gcc",
        defines=["XMAE_TRACE=1"],
    )  # fmt: skip
    theirs = [mark.replace("xmae", "cmsis") for mark in marks]
    theirs = [name for name in theirs if name in built.symbols]
    run = run_qemu(built, {"in.bin": codes}, [*theirs, "cmsis_end"])
    result["cmsis"] = {name.replace("cmsis", "xmae"): count for name, count in run.visits if name in theirs}
    result["different"] = run.console.splitlines()[0].split()[-1]
    return result


def cmsis_nn(folder):
    """Fetch the package, check its hash, unpack: C files and folders of headers."""
    (folder / "requirements.txt").write_text(PACKAGE)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "-r"]
    subprocess.run([*command, folder / "requirements.txt", "-d", folder], check=True, stdout=subprocess.DEVNULL)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder, [name for name in wheel.namelist() if name.startswith(VENDOR)])
    vendor = folder / VENDOR
    sources = [path for path in sorted(vendor.glob("cmsis_nn/Source/*/*.c")) if "bakenn" not in path.name]
    return sources, [vendor / "cmsis_nn" / "Include", vendor / "cmsis_core" / "Include"]


def cmsis_layers(layers):
    """C that calls CMSIS-NN for every convolution after ours has run, and compares.

    Each of these layers takes the output of the layer before it.
    """
    parts = [
        '#include "arm_nnfunctions.h"\n#include "semihost.h"\n#include <string.h>\n',
        "static int8_t before[8192], after[8192];\nstatic int16_t buffer[8192];\n",
        'void cmsis_end(void);\n__attribute__((noinline)) void cmsis_end(void) { __asm__ volatile(""); }\n',
    ]
    cases = []
    for i, layer in enumerate(layers):
        if layer.kernel not in ("xmae_conv", "xmae_depthwise"):
            continue
        name, f, out = function(i).replace("xmae", "cmsis"), layer.fields, layer.fields["out_c"]
        rows = unpacked(layer)
        arrays = {
            "weights": (rows.T if layer.op == "DEPTHWISE_CONV_2D" else rows).ravel().astype(np.int8),
            "bias": (layer.constants["bias"][:out] + f["in_zero"] * rows.astype(np.int64).sum(1)).astype("<i4"),
            "multiplier": layer.constants["multiplier"][:out],
            "shift": layer.constants["shift"][:out].astype("<i4"),
        }
        for key, array in arrays.items():
            const = "" if key in ("multiplier", "shift") else "const "  # CMSIS-NN does not promise not to write
            ctype = "int8_t" if key == "weights" else "int32_t"
            parts.append(f"static {const}{ctype} {key}_{i}[] = {{{numbers(array)}}};\n")
        parts.append(call(i, name, layer, out))
        exact = layer.op != "FULLY_CONNECTED"  # CMSIS-NN 4.0.0 has a single multiplier there
        cases.append(f"    case {i}: {name}(); differ({'bytes' if exact else '0'}, output); break;\n")
    parts.append(f"""
static int different;
static void differ(int bytes, const int8_t *output) {{
  cmsis_end();
  for (int i = 0; i < bytes; i++) different += after[i] != output[i];
}}
void xmae_trace(int layer, const int8_t *output, int bytes);
void xmae_trace(int layer, const int8_t *output, int bytes) {{
  switch (layer) {{
{"".join(cases)}    default: break;
  }}
  memcpy(before, output, (uint32_t)bytes);
  if (layer == {len(layers) - 1}) sh_puts(different ? "outputs differ\\n" : "outputs equal\\n");
}}
""")
    return "".join(parts)


def call(i, name, layer, out):
    """The function that has CMSIS-NN compute layer `i` from `before` to `after`."""
    f = layer.fields
    sizes = {
        "in": (1, f["in_h"], f["in_w"], f["in_c"]),
        "out": (1, f["out_h"], f["out_w"], out),
        "bias": (1, 1, 1, out),
    }
    common = f"""{{
  cmsis_nn_context context = {{buffer, sizeof buffer}};
  cmsis_nn_dims in = {{{dims(sizes["in"])}}}, out = {{{dims(sizes["out"])}}}, bias = {{{dims(sizes["bias"])}}};
"""
    ends = f"{{{f['out_min']}, {f['out_max']}}}"
    if layer.op == "FULLY_CONNECTED":
        body = f"""
  cmsis_nn_fc_params p = {{{-f["in_zero"]}, 0, {f["out_zero"]}, {ends}}};
  cmsis_nn_per_tensor_quant_params q = {{multiplier_{i}[0], shift_{i}[0]}};
  cmsis_nn_dims filter = {{{f["in_c"]}, 1, 1, {out}}}, row = {{1, 1, 1, {f["in_c"]}}};
  (void)in;
  arm_fully_connected_s8(&context, &p, &q, &row, before, &filter, weights_{i}, &bias, bias_{i}, &out, after);
"""
    else:
        geometry = f"{{{f['stride_w']}, {f['stride_h']}}}, {{{f['pad_w']}, {f['pad_h']}}}, {{1, 1}}, {ends}"
        quant = f"  cmsis_nn_per_channel_quant_params q = {{multiplier_{i}, shift_{i}}};\n"
        if layer.op == "DEPTHWISE_CONV_2D":
            kind, filter_dims = "arm_depthwise_conv_wrapper_s8", (1, f["k_h"], f["k_w"], out)
            p = f"cmsis_nn_dw_conv_params p = {{{-f['in_zero']}, {f['out_zero']}, {out // f['in_c']}, {geometry}}};"
        else:
            kind, filter_dims = "arm_convolve_wrapper_s8", (out, f["k_h"], f["k_w"], f["in_c"])
            p = f"cmsis_nn_conv_params p = {{{-f['in_zero']}, {f['out_zero']}, {geometry}}};"
        body = f"""  {p}
{quant}  cmsis_nn_dims filter = {{{dims(filter_dims)}}};
  if ({kind}(&context, &p, &q, &in, before, &filter, weights_{i}, &bias, bias_{i}, &out, after)) sh_exit(4);
"""
    return f"void {name}(void);\n__attribute__((noinline)) void {name}(void) {common}{body}}}\n"


def dims(sizes):
    """Numbers with commas."""
    return ", ".join(map(str, sizes))


def unpacked(layer):
    """Weights (out, K) from the order that the kernels want."""
    f, weights = layer.fields, layer.constants["weights"]
    taps = f["k_h"] * f["k_w"]
    if layer.kernel == "xmae_depthwise":
        return weights.reshape(-1, taps, 4).transpose(0, 2, 1).reshape(-1, taps)[: f["out_c"]]
    k = taps * f["in_c"]
    padded = -(-k // 8) * 8
    return weights.reshape(-1, padded, 2).transpose(0, 2, 1).reshape(-1, padded)[: f["out_c"], :k]


def table(info, costs):
    """The result as Markdown."""
    version = subprocess.run(["arm-none-eabi-gcc", "--version"], capture_output=True, text=True).stdout.splitlines()[0]
    qemu = subprocess.run(["qemu-system-arm", "--version"], capture_output=True, text=True).stdout.splitlines()[0]
    lines = [
        "# Instructions of the int8 student, by layer", "",
        f"One window of 10 s: {info['macs']:,} multiply-accumulates (MAC), counted in {qemu.split(' (')[0]} with "
        f"a plugin; {version}, -O2. Written by `benchmarks/kernel_cost.py`. *Plain*: the C99 kernels. *CMSIS-NN*: "
        "release 4.0.0 on the same layers and inputs; it has no entry for ADD and MEAN in the subset at hand.", "",
        "| core | fast: instructions | per MAC | plain: per MAC | fast, without ADD and MEAN: per MAC "
        "| CMSIS-NN, without these: per MAC | its outputs | code bytes | weight bytes | RAM bytes | stack bytes |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for core, cost in costs.items():
        sizes, shared = cost["fast_sizes"], cost["cmsis"].keys()
        ours = sum(cost["fast"][name] for name in shared)
        lines.append(
            f"| {CORES[core]} | {sum(cost['fast'].values()):,} | **{sum(cost['fast'].values()) / info['macs']:.3f}** | "
            f"{sum(cost['plain'].values()) / info['macs']:.2f} | {ours / info['macs']:.3f} | "
            f"{sum(cost['cmsis'].values()) / info['macs']:.3f} | {cost['different']} | "
            f"{sizes['flash_code']:,} | {sizes['flash_weights']:,} | {sizes['ram']:,} | {sizes['stack']} |"
        )
    lines += [
        "", "RAM: activation arena, input, output and 4,096 bytes reserved for the stack, of which the last column "
        "was used. Code: all of the program but the weights.", "",
        "## Instructions per MAC (ADD and MEAN: instructions)", "",
        "| layer | MAC | " + " | ".join(f"{CORES[core]} | CMSIS-NN" for core in costs) + " |",
        "|---|---|" + "---|---|" * len(costs),
    ]  # fmt: skip
    for layer in info["layers"]:
        name, macs = layer["function"], layer["macs"]
        cells = []
        for cost in costs.values():
            if name not in cost["fast"]:
                break
            theirs = cost["cmsis"].get(name)
            cells += [
                f"{cost['fast'][name] / macs:.2f}" if macs else f"{cost['fast'][name]:,}",
                f"{theirs / macs:.2f}" if theirs else "-",
            ]
        if cells:
            lines.append(f"| {layer['name']} | {macs:,} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    if not shutil.which("qemu-system-arm"):
        sys.exit("qemu-system-arm is not installed")
    main()
