"""How far estimated latencies are from published ones: ResNet-8 and DS-CNN of MLPerf Tiny, rebuilt
in int8.

The architectures are those of MLPerf Tiny (Banbury et al., NeurIPS Datasets and Benchmarks 2021;
mlcommons/tiny, image_classification and keyword_spotting); the weights are random but sane: He
initialisation, batch normalisation with statistics of its own inputs, folded. They go through the
same C generator, compiler, emulator and cost model as the watch's network, and the estimate is held
against the closed division of MLPerf Tiny v1.2.

The comparison confounds two things, both reported: our kernels are not those of the submissions
(X-CUBE-AI, TensorFlow Lite Micro), and the cost model is not the silicon. Run: python -m
xmae.benchmarks.studies.mlperf_tiny --out benchmarks/results
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from xmae.benchmarks.studies.runner import run_study
from xmae.export.targets.c.source import write_c
from xmae.firmware_sim.build.compile import compile_firmware
from xmae.firmware_sim.cost.cost import layer_cycles, milliseconds
from xmae.firmware_sim.cost.profile import Span, load_device
from xmae.firmware_sim.emulators.registry import chosen_emulator, runner
from xmae.native import quietly
from xmae.tables import markdown_table

PUBLISHED = (  # MLPerf Tiny v1.2, closed division: device, network, ms, software
    ("stm32l4r5", "ResNet-8", 165.1, "X-CUBE-AI"),
    ("stm32l4r5", "DS-CNN", 43.2, "X-CUBE-AI"),
    ("stm32u5", "ResNet-8", 111.1, "X-CUBE-AI"),
    ("ra8d1", "ResNet-8", 8.48, "TensorFlow Lite Micro"),
    ("ra8d1", "DS-CNN", 3.46, "TensorFlow Lite Micro"),
)
N_CALIBRATION = 32
APP = """#include "network.h"
#include "semihost.h"
static int8_t input[XMAE_INPUT_SIZE], output[XMAE_OUTPUT_SIZE];
int app(void) {
    sh_read(sh_open("in.bin", 1), input, sizeof input);
    xmae_model(input, output);
    sh_write(sh_open("out.bin", 5), output, sizeof output);
    return 0;
}
"""


def conv(n_in, n_out, kernel=3, stride=1, groups=1, relu=True, padding=None):
    """Return a convolution, batch normalisation and ReLU; padded equally on both sides, where
    TensorFlow pads more at the end.
    """
    padding = kernel // 2 if padding is None else padding
    layers = [
        nn.Conv2d(n_in, n_out, kernel, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(n_out),
    ]
    return nn.Sequential(*layers, *([nn.ReLU()] if relu else []))


class Residual(nn.Module):
    """Two convolutions and a shortcut, with a 1x1 convolution in it where the shape changes."""

    def __init__(self, n_in, n_out, stride):
        super().__init__()
        self.main = nn.Sequential(conv(n_in, n_out, 3, stride), conv(n_out, n_out, relu=False))
        self.short = conv(n_in, n_out, 1, stride, relu=False) if stride > 1 else nn.Identity()

    def forward(self, x):
        """Map (B, n_in, H, W) -> (B, n_out, H / stride, W / stride)."""
        return torch.relu(self.main(x) + self.short(x))


class Classifier(nn.Module):
    """A body, the mean over height and width, and a linear layer; without softmax."""

    def __init__(self, body, n_features, n_classes):
        super().__init__()
        self.body, self.head = body, nn.Linear(n_features, n_classes)

    def forward(self, x):
        """Map (B, C, H, W) -> (B, n_classes)."""
        return self.head(self.body(x).mean((2, 3), keepdim=True).flatten(1))


def resnet8():
    """Return ResNet-8 for 32 x 32 colour images, 12.5 M MAC, and its input shape."""
    body = nn.Sequential(conv(3, 16), Residual(16, 16, 1), Residual(16, 32, 2), Residual(32, 64, 2))
    return Classifier(body, 64, 10), (1, 3, 32, 32)


def ds_cnn():
    """Return DS-CNN for 49 x 10 cepstral coefficients, 2.66 M MAC, and its input shape."""
    first = conv(1, 64, (10, 4), 2, padding=(5, 1))
    blocks = []
    for _ in range(4):
        blocks += [conv(64, 64, groups=64), conv(64, 64, 1)]
    return Classifier(nn.Sequential(first, *blocks), 64, 12), (1, 1, 49, 10)


NETWORKS = {"ResNet-8": resnet8, "DS-CNN": ds_cnn}


def sane(network, shape, seed=77):
    """Give a network He weights, fit and fold its batch normalisation; return it with calibration
    inputs.
    """
    torch.manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # plain average
    inputs = torch.rand(N_CALIBRATION, *shape[1:]) * 2 - 1
    with torch.no_grad():
        network.train()(inputs)
    network.eval()
    for module in list(network.modules()):
        children = list(module.named_children())
        for (name, first), (after, second) in zip(children, children[1:], strict=False):
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(first, second))
                setattr(module, after, nn.Identity())
    return network, inputs


@quietly()
def write_tflite(network, inputs, path):
    """Write a network as an int8 `.tflite`, with the ranges from minimum and maximum over
    `inputs`.
    """
    import litert_torch
    from ai_edge_quantizer import calibrator, quantizer, recipe, recipe_manager
    from ai_edge_quantizer.utils import qsv_utils

    last = inputs.permute(0, 2, 3, 1).contiguous()  # the file takes NHWC, as the C code does
    litert_torch.convert(litert_torch.to_channel_last_io(network, args=[0]), (last[:1],)).export(
        str(path)
    )
    model = path.read_bytes()
    manager = recipe_manager.RecipeManager()
    manager.load_quantization_recipe(recipe.static_wi8_ai8())
    ranges = calibrator.Calibrator(model, num_threads=1, qsv_update_func=qsv_utils.min_max_update)
    ranges.calibrate({"serving_default": [{"args_0": row[None].numpy()} for row in last]}, manager)
    result = quantizer.Quantizer(model, recipe.static_wi8_ai8()).quantize(ranges.get_model_qsvs())
    path.write_bytes(bytes(result.quantized_model))


def tflm_output(path, codes):
    """Return the output of the TensorFlow Lite Micro interpreter for int8 `codes`."""
    from tflite_micro import runtime

    interpreter = runtime.Interpreter.from_file(str(path), arena_size=2**22)
    interpreter.set_input(codes.reshape(interpreter.get_input_details(0)["shape"]), 0)
    interpreter.invoke()
    return interpreter.get_output(0).ravel()


def measure(path, device, folder, seed=77):
    """Measure one inference on an emulated device.

    Returns
    -------
    dict
        `macs`, `instructions` (counted), `estimated` (Span, ms), `exact`: output bytes that equal
        those of TFLM.
    """
    network = write_c(path, folder, "network")
    (folder / "app.c").write_text(APP)
    firmware = compile_firmware(
        [folder / "app.c", folder / "network.c"],
        device.core,
        folder / f"{device.name}.elf",
        include=[folder],
    )
    codes = np.random.default_rng(seed).integers(-128, 128, network["input_size"], dtype=np.int8)
    layers = [layer for layer in network["layers"] if layer["function"] in firmware.symbols]
    functions = [layer["function"] for layer in layers]
    run = runner(chosen_emulator(device))(
        firmware, {"in.bin": codes.tobytes()}, [*functions, "xmae_model_end"]
    )
    total, instructions = Span(0, 0, 0), 0
    for layer in layers:
        mix = run.mix[layer["function"]]
        instructions += sum(count for kind, count in mix.items() if kind != "words")
        total += layer_cycles(mix, layer["constant_bytes"], device)
    actual = np.frombuffer(run.files["out.bin"], np.int8)
    return {
        "macs": network["macs"],
        "instructions": instructions,
        "estimated": milliseconds(total, device),
        "exact": bool((actual == tflm_output(path, codes)).all()),
    }


def compare(published=PUBLISHED):
    """Put estimated beside published latencies: one row each."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for name in dict.fromkeys(network for _, network, *_ in published):
            network, shape = NETWORKS[name]()
            write_tflite(*sane(network, shape), folder / f"{name}.tflite")
        for device, network, ms, software in published:
            cost = measure(folder / f"{network}.tflite", load_device(device), folder)
            rows.append(
                {
                    "device": device,
                    "network": network,
                    "published_ms": ms,
                    "software": software,
                    **cost,
                }
            )
    return rows


def mlperf_tiny() -> str:
    """Compare estimated latencies with those published for MLPerf Tiny v1.2."""
    return report(compare())


def report(rows):
    """Write the rows as a page of Markdown."""
    head = (
        "device", "network", "MAC, M", "instructions, M", "per MAC", "estimated ms (low to high)",
        "published ms", "error", "inside the range", "equal to TFLM",
    )  # fmt: skip
    errors = [row["estimated"].value / row["published_ms"] - 1 for row in rows]
    cells = [cells_of(row, error) for row, error in zip(rows, errors, strict=True)]
    spread = np.sqrt(np.mean(np.square(errors)))
    return f"""# Estimated latency against MLPerf Tiny v1.2

Instructions are counted in emulators; latency is estimated by the device profiles, with the low and
high ends that their sources leave open. Published: closed division of MLPerf Tiny v1.2. Kernels
differ (ours here, X-CUBE-AI and TensorFlow Lite Micro there), so the error is that of cost model
and kernels together. The RA8D1 is a Cortex-M85, which QEMU 7.2 does not have: it runs the
Cortex-M55's code, with cycles guessed for its wider pipeline.

{markdown_table(head, cells, right=False)}

Root mean square error of the {len(errors)} estimates: {spread:.0%}; largest
{max(errors, key=abs):+.0%}. Trust an estimate of this model no further than that, and the order of
devices more than milliseconds.
"""


def cells_of(row, error):
    """Return the cells of one estimate."""
    span, truth = row["estimated"], row["published_ms"]
    return (
        row["device"],
        row["network"],
        f"{row['macs'] / 1e6:.2f}",
        f"{row['instructions'] / 1e6:.2f}",
        f"{row['instructions'] / row['macs']:.2f}",
        f"{span.value:.2f} ({span.low:.2f} to {span.high:.2f})",
        f"{truth} ({row['software']})",
        f"{error:+.0%}",
        "yes" if span.low <= truth <= span.high else "no",
        "yes" if row["exact"] else "no",
    )


if __name__ == "__main__":
    run_study(mlperf_tiny, "mlperf_tiny.md")
