"""Compile the harnesses: by clang with libFuzzer or coverage, or by gcc to replay inputs."""

import subprocess
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace

from xmae.evaluation.heads.head import Head
from xmae.export.bundle.schema import End
from xmae.firmware_sim.build.compile import KERNELS
from xmae.firmware_sim.build.generate import (
    SOURCES,
    config_header,
    constants_source,
    front_end_constants,
    front_end_defines,
    head_constants,
    network_defines,
)

HARNESSES = Path(__file__).with_name("harness")
CORPUS = Path(__file__).with_name("corpus")
LIBRARY = Path(str(files("xmae.export.targets.c"))) / "library"
SANITIZERS = "-fsanitize=address,undefined"
SFREQ, BITS, HOP_S = 25, 16, 4  # of the watch that is fuzzed: the fewest samples that it knows
EMBEDDING_N = 24


@dataclass(frozen=True)
class Harness:
    """What a harness is compiled with.

    Parameters
    ----------
    name : str
        File in the folder `harness`, without its suffix.
    covered : tuple of Path
        C files that are fuzzed, compiled beside it.
    included : tuple of Path
        C files that it includes itself.
    longest : int
        Bytes of an input.
    share : int
        Of the processor time of all harnesses, in parts.
    """

    name: str
    covered: tuple
    included: tuple = ()
    longest: int = 2048
    share: int = 1


def library(*names):
    """Return files of libxmae and the plain kernels."""
    return (*(LIBRARY / "src" / f"xmae_{name}.c" for name in names), KERNELS / "xmae_kernels.c")


def watch(*names):
    """Return files of the watch application."""
    return tuple(SOURCES / f"{name}.c" for name in names)


ALL = {
    harness.name: harness
    for harness in (
        Harness("fifo", watch("fifo")),
        Harness("frames", (*watch("frame"), KERNELS / "xmae_kernels.c")),
        Harness(
            "watch",
            (*watch("fifo", "frame", "front_end", "pulse"), KERNELS / "xmae_kernels.c"),
            watch("watch"),
            longest=512,
            share=6,
        ),
        Harness(
            "push",
            library("stream", "front_end", "network", "window", "beats", "periods"),
            share=10,
        ),
        Harness(
            "motion",
            library(
                "motion", "tracker", "stream", "front_end", "network", "window", "beats", "periods"
            ),
            share=6,
        ),
        Harness("beats", library("beats"), share=4),
        Harness("network", library("network"), longest=512, share=6),
    )
}


def write_config(folder):
    """Write the watch's configuration: two heads, a network that repeats its input."""
    rate = Head(
        kind="regression", label="Heart rate", units="bpm", weight=[0.5] * EMBEDDING_N, bias=80.0
    )
    heads = {"hr": rate, "spo2": rate.model_copy(update={"label": "SpO2", "units": "%"})}
    taken = End(shape=[1, 1000], dtype="int8", scale=2 / 255, zero_point=0)
    output = End(shape=[1, EMBEDDING_N], dtype="int8", scale=0.1, zero_point=-3)
    entry = SimpleNamespace(input=taken, output=output)
    constants = front_end_constants(SFREQ) | head_constants(heads, output)
    defines = front_end_defines(SFREQ, HOP_S, BITS, constants)
    defines |= network_defines(entry, heads, True, 2**20, 2**20)
    (folder / "watch_config.h").write_text(config_header(defines, constants))
    (folder / "watch_config.c").write_text(constants_source(constants))
    sizes = {"INPUT_SIZE": 1000, "OUTPUT_SIZE": EMBEDDING_N, "ARENA_BYTES": 0, "WEIGHTS_BYTES": 0}
    lines = [f"#define XMAE_{name} {value}\n" for name, value in sizes.items()]
    lines.append("void xmae_model(const signed char *input, signed char *output);\n")
    (folder / "student_int8.h").write_text("".join(lines))


def build(harness, folder, compiler="gcc", flags=(), replay=True):
    """Compile a harness under sanitizers.

    Parameters
    ----------
    harness : Harness
    folder : Path
        For the program and what is generated.
    compiler : str
    flags : sequence of str
        More of them, such as libFuzzer's.
    replay : bool
        Link a `main` that takes files, instead of libFuzzer's own.

    Returns
    -------
    Path
        The program.

    Raises
    ------
    RuntimeError
        If it does not compile, with the compiler's words.
    """
    write_config(folder)
    program = folder / harness.name
    headers = (LIBRARY / "include", LIBRARY / "src", KERNELS, SOURCES, SOURCES.parent)
    include = (HARNESSES, folder, *headers)
    sources = [HARNESSES / f"{harness.name}.c", *harness.covered]
    if harness.included:
        sources.append(folder / "watch_config.c")
    if replay:
        sources.append(HARNESSES / "replay.c")
    words = [compiler, "-std=c99", "-O1", "-g", "-Wall", "-Wextra", "-Werror", *flags]
    words += [f"-I{path}" for path in include]
    words += [*sources, "-o", program]
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{harness.name} does not compile: {done.stderr[-3000:]}")
    return program


def inputs(name):
    """Return the committed inputs of a harness."""
    return sorted((CORPUS / name).iterdir())
