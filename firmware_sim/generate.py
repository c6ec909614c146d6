"""A bundle becomes firmware sources: the network as C, and the constants of front end and heads."""

import zlib
from pathlib import Path

import numpy as np
from scipy import signal

from xmae.errors import UserError
from xmae.export.c_source import write_c
from xmae.signals.filters import ppg_sos
from xmae.signals.resample import resampling_ratio
from xmae.signals.stream import BUFFER_S, MARGIN_S, MIN_SPAN
from xmae.signals.window import N_TIMES, SFREQ

SOURCES = Path(__file__).parent / "firmware"
MIN_SFREQ, MAX_SFREQ = 25, 128  # Hz: the front ends of watches
ADC_BITS = (16, 24)
MAX_HOP_S = 3600
STACK_BYTES = 4096  # the network needs most of it; measured by every emulated run


def write_firmware(
    bundle, folder, ram_bytes, flash_bytes, sfreq=100, hop_s=10, adc_bits=18, trace=False, cmsis_nn=False,
    student="student",
):  # fmt: skip
    """Write what is particular to a bundle, a device and a front end, and list all sources of the firmware.

    Parameters
    ----------
    bundle : Bundle
        Opened bundle with an int8 student for TFLite.
    folder : Path
        For the generated files; made if it is missing.
    ram_bytes, flash_bytes : int
        What the firmware may use: checked when it is compiled.
    sfreq : int
        Sampling rate of the front end, 25-128 Hz.
    hop_s : int
        Seconds from one window to the next.
    adc_bits : int
        Width of a sample, 16-24 bits.
    trace : bool
        Also send the network's input, for comparison with other runtimes.
    cmsis_nn : bool
        Call CMSIS-NN instead of the kernels of this package.
    student : str
        Which of the bundle's students.

    Returns
    -------
    dict
        `sources`, `include`: for the compiler; `layers`, `arena_bytes`: from `write_c`.

    Raises
    ------
    UserError
        If rate, hop or width is out of range, or the bundle has no int8 student for TFLite or no heads.
    """
    if not MIN_SFREQ <= sfreq <= MAX_SFREQ or sfreq != int(sfreq):
        raise UserError(f"front end at {sfreq:g} Hz; expected a whole number from {MIN_SFREQ} to {MAX_SFREQ}")
    if not ADC_BITS[0] <= adc_bits <= ADC_BITS[1]:
        raise UserError(f"front end with {adc_bits} bits; expected {ADC_BITS[0]} to {ADC_BITS[1]}")
    if not 1 <= hop_s <= MAX_HOP_S:
        raise UserError(f"a window every {hop_s} s; expected 1 to {MAX_HOP_S}")
    entry, heads = bundle.entry(student, "litert", "int8"), bundle.heads.get(student)
    if not heads:
        raise UserError(f"{bundle.path}: has no heads for {student}, so the watch would have nothing to say")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    network = write_c(bundle.path / entry["file"], folder, cmsis_nn=cmsis_nn)
    constants = front_end_constants(int(sfreq)) | head_constants(heads, entry["output"])
    (folder / "watch_config.c").write_text(constants_source(constants))
    up, down = resampling_ratio(sfreq, SFREQ)
    defines = {
        "SFREQ": int(sfreq), "ADC_BITS": adc_bits, "HOP_N": int(sfreq * hop_s),
        "BUFFER_S": BUFFER_S, "MARGIN_S": MARGIN_S, "BUFFER_N": int(BUFFER_S * sfreq),
        "WINDOW_N": N_TIMES, "WINDOW_START": MARGIN_S * SFREQ, "MIN_SPAN": f"{MIN_SPAN:.6f}f",
        "UP": up, "DOWN": down, "HALF_TAPS": len(constants["taps"]) // 2,
        "FILTER_EDGE": filter_edge(int(sfreq)), "N_SECTIONS": len(constants["sos"]),
        "INPUT_SCALE": f"{entry['input']['scale']:.9e}f", "INPUT_ZERO": entry["input"]["zero_point"],
        "N_HEADS": len(constants["head_bias"]), "EMBEDDING_N": constants["head_weight"].shape[1],
        "TRACE": int(trace), "FLASH_BYTES": f"{flash_bytes}u", "RAM_BYTES": f"{ram_bytes}u",
        "STACK_BYTES": f"{STACK_BYTES}u", "CONSTANTS_CRC32": f"0x{constants_crc(constants):08X}u",
    }  # fmt: skip
    (folder / "watch_config.h").write_text(config_header(defines, constants))
    generated = [Path(file) for file in network["files"] if file.endswith(".c")]
    return {
        "sources": [*sorted(SOURCES.glob("*.c")), folder / "watch_config.c", *generated],
        "include": [SOURCES, folder],
        "layers": network["layers"],
        "arena_bytes": network["arena_bytes"],
    }


def front_end_constants(sfreq):
    """Filter sections, their steady state for a constant 1, and the polyphase taps: float32 arrays."""
    sos = ppg_sos(sfreq)
    up, down = resampling_ratio(sfreq, SFREQ)
    half = 10 * max(up, down) if up != down else 0
    # scipy.signal.resample_poly designs these taps on each call; they are the same here, gain `up` included
    taps = up * signal.firwin(2 * half + 1, 1 / max(up, down), window=("kaiser", 5.0)) if half else np.ones(1)
    return {
        "sos": sos[:, [0, 1, 2, 4, 5]].astype("<f4"),
        "sos_start": signal.sosfilt_zi(sos).astype("<f4"),
        "taps": taps.astype("<f4"),
    }


def filter_edge(sfreq):
    """Samples of odd extension that `scipy.signal.sosfiltfilt` adds at each end by default."""
    sos = ppg_sos(sfreq)
    return 3 * (2 * len(sos) + 1 - min((sos[:, 2] == 0).sum(), (sos[:, 5] == 0).sum()))


def head_constants(heads, output):
    """Weights and biases on int8 codes: float32 (n_heads, D) and (n_heads,)."""
    scale, zero = output["scale"], output["zero_point"]
    weight = np.array([head["weight"] for head in heads.values()]) * scale
    bias = np.array([head["bias"] for head in heads.values()]) - zero * weight.sum(axis=1)
    return {"head_bias": bias.astype("<f4"), "head_weight": weight.astype("<f4")}


def constants_crc(constants):
    """CRC-32 of the struct as it lies in flash: float32, little-endian, without gaps."""
    return zlib.crc32(b"".join(array.tobytes() for array in constants.values()))


def config_header(defines, constants):
    """`watch_config.h`."""
    fields = "".join(
        f"    float {name}{''.join(f'[{n}]' for n in array.shape)};\n" for name, array in constants.items()
    )
    lines = "".join(f"#define {name} {value}\n" for name, value in defines.items())
    return f"""/* Written by xmae.firmware_sim.generate; the constants are in watch_config.c. */
#ifndef WATCH_CONFIG_H
#define WATCH_CONFIG_H

{lines}
struct constants {{
{fields}}};
extern const struct constants constants;
#endif
"""


def constants_source(constants):
    """`watch_config.c`: shortest decimals that give the same float32."""

    def literal(array):
        if array.ndim:
            return "{" + ", ".join(literal(row) for row in array) + "}"
        return f"{array:.9e}f"

    fields = "".join(f"    .{name} = {literal(array)},\n" for name, array in constants.items())
    section = '__attribute__((section(".constants"))) '
    return f'#include "watch_config.h"\n\n{section}const struct constants constants = {{\n{fields}}};\n'
