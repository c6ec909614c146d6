"""A bundle becomes firmware sources: the network as C, and the constants of front end and heads."""

from pathlib import Path

import numpy as np
from scipy import signal

from xmae.errors import UserError
from xmae.export.targets.c.literals import comment, integer, real, table_block
from xmae.export.targets.c.source import write_c
from xmae.signals.filters import ppg_sos
from xmae.signals.resample import resampling_ratio
from xmae.signals.stream import (
    BUFFER_S,
    MARGIN_S,
    MIN_PERIODICITY,
    MIN_SMOOTHNESS,
    MIN_SPAN,
    PULSE_LAGS,
    PULSE_STEP,
)
from xmae.signals.window import N_TIMES, SFREQ

SOURCES = Path(__file__).parents[1] / "app"
MIN_SFREQ, MAX_SFREQ = 25, 128  # Hz: the front ends of watches
ADC_BITS = (16, 24)
MAX_HOP_S = 3600
STACK_BYTES = 4096  # the network needs most of it; measured by every emulated run
FIFO_DEPTH = 32  # samples, a power of 2: 0.25 s at 128 Hz; see `xmae.firmware_sim.play.limits`
PLAUSIBLE = {  # what a head may say, in its units; others may say anything
    # from the least that ANSI/AAMI EC13:2002 wants of a heart rate meter (30-200) to 220 - age at
    # birth (Fox, Naughton and Haskell, Ann. Clin. Res. 3, 1971)
    "hr": (30, 220),
}
NO_LIMIT = float(np.finfo(np.float32).max)


def write_firmware(
    bundle, folder, ram_bytes, flash_bytes, sfreq=100, hop_s=10, adc_bits=18, trace=False,
    cmsis_nn=False, student="student", check_heads=True,
):  # fmt: skip
    """Write the sources particular to a bundle, a device and a front end; list all sources of the
    firmware.

    Parameters
    ----------
    bundle : Bundle
        Opened bundle with an int8 student for TFLite.
    folder : Path
        For the generated files; made if it is missing.
    ram_bytes, flash_bytes : int
        Memory that the firmware may use: checked when it is compiled.
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
        Student of the bundle. Of its heads, those with skill are in the firmware; without
        any, it sends the embedding alone.
    check_heads : bool
        Hold heads to `PLAUSIBLE`.

    Returns
    -------
    dict
        `sources`, `include`: for the compiler; `layers`, `arena_bytes`: from `write_c`.

    Raises
    ------
    UserError
        If rate, hop or width is out of range, or the bundle has no int8 student for TFLite.
    """
    if not MIN_SFREQ <= sfreq <= MAX_SFREQ or sfreq != int(sfreq):
        raise UserError(
            f"front end at {sfreq:g} Hz; expected a whole number from {MIN_SFREQ} to {MAX_SFREQ}"
        )
    if not ADC_BITS[0] <= adc_bits <= ADC_BITS[1]:
        raise UserError(f"front end with {adc_bits} bits; expected {ADC_BITS[0]} to {ADC_BITS[1]}")
    if not 1 <= hop_s <= MAX_HOP_S:
        raise UserError(f"a window every {hop_s} s; expected 1 to {MAX_HOP_S}")
    entry, heads = int8_entry(bundle, student), bundle.trusted_heads(student)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    network = write_c(bundle.path / entry.file, folder, cmsis_nn=cmsis_nn)
    constants = front_end_constants(int(sfreq)) | head_constants(heads, entry.output, check_heads)
    (folder / "watch_config.c").write_text(constants_source(constants))
    defines = front_end_defines(int(sfreq), hop_s, adc_bits, constants)
    defines |= network_defines(entry, heads, trace, flash_bytes, ram_bytes)
    (folder / "watch_config.h").write_text(config_header(defines, constants))
    generated = [Path(file) for file in network["files"] if file.endswith(".c")]
    return {
        "sources": [*sorted(SOURCES.glob("*.c")), folder / "watch_config.c", *generated],
        "include": [SOURCES, folder],
        "layers": network["layers"],
        "arena_bytes": network["arena_bytes"],
    }


def front_end_defines(sfreq, hop_s, adc_bits, constants):
    """Return the sizes and rates of the front end as C: {name: value}."""
    up, down = resampling_ratio(sfreq, SFREQ)
    numbers = {
        "SFREQ": sfreq, "ADC_BITS": adc_bits, "HOP_N": int(sfreq * hop_s),
        "BUFFER_S": BUFFER_S, "MARGIN_S": MARGIN_S, "BUFFER_N": int(BUFFER_S * sfreq),
        "WINDOW_N": N_TIMES, "WINDOW_START": MARGIN_S * SFREQ,
        "UP": up, "DOWN": down, "HALF_TAPS": len(constants["taps"]) // 2,
        "FILTER_EDGE": filter_edge(sfreq), "N_SECTIONS": len(constants["sos"]),
        "PULSE_STEP": PULSE_STEP, "SHORTEST_LAG": PULSE_LAGS[0], "LONGEST_LAG": PULSE_LAGS[1],
        "MIN_SMOOTHNESS": MIN_SMOOTHNESS, "MIN_PERIODICITY": MIN_PERIODICITY,
    }  # fmt: skip
    defines = {name: integer(value) for name, value in numbers.items()}
    return defines | {"MIN_SPAN": real(MIN_SPAN), "FIFO_DEPTH": integer(FIFO_DEPTH, "u")}


def network_defines(entry, heads, trace, flash_bytes, ram_bytes):
    """Return the scales, heads and memory sizes as C: {name: value}; what comes from the bundle is
    escaped.
    """
    sizes = {"FLASH_BYTES": flash_bytes, "RAM_BYTES": ram_bytes, "STACK_BYTES": STACK_BYTES}
    return {
        "INPUT_SCALE": real(entry.input.scale),
        "INPUT_ZERO": integer(entry.input.zero_point),
        "N_HEADS": f"{integer(len(heads))} /* {comment(described(heads))} */",
        "EMBEDDING_N": integer(entry.output.shape[-1]),
        "TRACE": integer(trace),
        **{name: integer(size, "u") for name, size in sizes.items()},
    }


def int8_entry(bundle, student):
    """Return a student's int8 TFLite entry in a bundle, with scales and zero points of input and
    output.

    Raises
    ------
    UserError
        If there is none, or the manifest does not say them.
    """
    entry = bundle.entry(student, "litert", "int8")
    ends = [entry.input, entry.output]
    if not all(end and end.dtype == "int8" and end.scale is not None for end in ends):
        raise UserError(f"{bundle.path}: {entry.file} has no int8 input and output")
    if not all(end.zero_point is not None and -128 <= end.zero_point < 128 for end in ends):
        raise UserError(f"{bundle.path}: {entry.file} has a zero point that is no int8")
    return entry


def front_end_constants(sfreq):
    """Return the filter sections, their steady state for a constant 1, and the polyphase taps:
    float32 arrays.
    """
    sos = ppg_sos(sfreq)
    up, down = resampling_ratio(sfreq, SFREQ)
    half = 10 * max(up, down) if up != down else 0
    # scipy.signal.resample_poly designs these taps on each call; they are the same here, gain `up`
    # included
    taps = (
        up * signal.firwin(2 * half + 1, 1 / max(up, down), window=("kaiser", 5.0))
        if half
        else np.ones(1)
    )
    return {
        "sos": sos[:, [0, 1, 2, 4, 5]].astype("<f4"),
        "sos_start": signal.sosfilt_zi(sos).astype("<f4"),
        "taps": taps.astype("<f4"),
    }


def filter_edge(sfreq):
    """Return the number of samples by which `scipy.signal.sosfiltfilt` extends each end by
    default.
    """
    sos = ppg_sos(sfreq)
    return 3 * (2 * len(sos) + 1 - min((sos[:, 2] == 0).sum(), (sos[:, 5] == 0).sum()))


def head_constants(heads, output, check=True):
    """Return the biases and limits (n_heads,) and weights (n_heads, D) of heads on int8 codes,
    float32; one row of zeros without heads.
    """
    scale, zero, rows = output.scale, output.zero_point, max(len(heads), 1)
    weight, bias = np.zeros((rows, output.shape[-1])), np.zeros(rows)
    for i, head in enumerate(heads.values()):
        weight[i] = np.array(head.weight) * scale
        bias[i] = head.bias - zero * weight[i].sum()
    low, high = plausible_range(heads if check and heads else [""] * rows)
    arrays = {"head_bias": bias, "head_low": low, "head_high": high, "head_weight": weight}
    return {name: array.astype("<f4") for name, array in arrays.items()}


def plausible_range(names):
    """Return the smallest and largest plausible answer of each of these heads: (2, n_heads)."""
    limits = [PLAUSIBLE.get(name, (-NO_LIMIT, NO_LIMIT)) for name in names]
    return np.array(limits, np.float64).reshape(-1, 2).T


def described(heads):
    """List the names and units of heads in the order of the frame; binary ones are sent as
    log-odds.
    """
    return (
        ", ".join(f"{name} ({frame_units(head)})" for name, head in heads.items())
        or "embedding only"
    )


def frame_units(head):
    """Return the unit of a head's answer in a frame."""
    return "log-odds" if head.kind == "binary" else head.units


def config_header(defines, constants):
    """Return the text of `watch_config.h`."""
    fields = "".join(
        f"  float {name}{''.join(f'[{n}]' for n in array.shape)};\n"
        for name, array in constants.items()
    )
    lines = "".join(f"#define {name} {value}\n" for name, value in defines.items())
    return f"""/* Written by xmae.firmware_sim.build.generate; constants are in watch_config.c. */
#ifndef WATCH_CONFIG_H
#define WATCH_CONFIG_H

{lines}
struct constants {{
{fields}}};
extern const struct constants constants;
#endif
"""


def constants_source(constants):
    """Return the text of `watch_config.c`, with the shortest decimals for the same float32."""

    def literal(array):
        if array.ndim:
            return "{" + ", ".join(literal(row) for row in array) + "}"
        return real(array)

    fields = "".join(f"  .{name} = {literal(array)},\n" for name, array in constants.items())
    section = '__attribute__((section(".constants"))) '
    text = f"{section}const struct constants constants = {{\n{fields}}};\n"
    return f'#include "watch_config.h"\n\n{table_block(text)}'
