"""A recording through libxmae on an emulated Cortex-M, compared with `xmae.Stream` bit by bit."""

from dataclasses import fields
from itertools import chain

import numpy as np

from xmae.errors import UserError
from xmae.export.stream import SCALARS, Stream, StreamResult
from xmae.export.targets.c.library import library_model
from xmae.export.targets.c.model_source import model_texts
from xmae.firmware_sim.build.compile import BOARDS, KERNELS, compile_firmware
from xmae.firmware_sim.build.generate import STACK_BYTES
from xmae.firmware_sim.cost.battery import milliamp_hours_per_day
from xmae.firmware_sim.cost.cost import layer_cycles, mean_mix, milliseconds
from xmae.firmware_sim.emulators.registry import runner

LIBRARY = KERNELS.parent / "library"
NAME = "student"  # of the model in C
MOST_BEATS = 40  # in a result
ROW = len(SCALARS) + 2 * MOST_BEATS  # numbers of a result, as boards/stream_codes.c writes them
BURST_S = 0.25  # codes that a front end's FIFO hands over at once
WORK, REST = "measured_push", "host_begins"
LIMITS = {"instructions": 1_000_000, "ram": 44 * 1024}  # a second of signal; bytes without stack
PATIENCE = 30  # s of wall time for a second of signal, many times what the slowest emulator takes


def pushes_of(codes, rate):
    """Cut codes (n,), NaN = lost, into bursts: list of (int64 codes, number of codes lost
    before).
    """
    step, pushes, lost = max(1, int(BURST_S * rate)), [], 0
    for start in range(0, len(codes), step):
        part = codes[start : start + step]
        known = np.isfinite(part)
        edges = np.flatnonzero(np.diff(known.astype(int))) + 1
        for run in np.split(part, edges):
            if not np.isfinite(run[0]):
                lost += len(run)
                continue
            pushes.append((run.astype(np.int64), lost))
            lost = 0
    return pushes


def encoded(rate, bits, inverted, hop_s, pushes):
    """Return the input file of boards/stream_codes.c, bytes."""
    head = [round(1000 * rate), bits, int(inverted), hop_s]
    parts = [np.array([lost, len(codes), *codes]) for codes, lost in pushes]
    return np.concatenate([head, *parts]).astype("<i4").tobytes()


def results_of(data):
    """Read the output file of boards/stream_codes.c: list of StreamResult."""
    if len(data) % (8 * ROW):
        raise UserError("the firmware ended in the middle of a result")
    found = []
    for row in np.frombuffer(data, "<i8").reshape(-1, ROW).tolist():
        named = dict(zip(SCALARS, row, strict=False))
        pairs = zip(row[len(SCALARS) :: 2], row[len(SCALARS) + 1 :: 2], strict=True)
        found.append(StreamResult(beats=tuple(pair for pair in pairs if pair[0] >= 0), **named))
    return found


def equality_of(found, expected):
    """Count the results that agree in every field, and name the first field that differs.

    Returns
    -------
    dict
        `results` (of `Stream`), `equal`, `with`, and where they differ `first_difference`.
    """
    same = [a == b for a, b in zip(found, expected, strict=False)]
    counted = {"results": len(expected), "equal": sum(same), "with": "xmae.Stream"}
    if len(found) != len(expected):
        why = f"{len(found)} results on the device, {len(expected)} of xmae.Stream"
        return counted | {"first_difference": why}
    if not all(same):
        at = same.index(False)
        name = next(
            f.name
            for f in fields(found[at])
            if getattr(found[at], f.name) != getattr(expected[at], f.name)
        )
        return counted | {"first_difference": f"result {at + 1}, {name}"}
    return counted


def build_model(path, certainty, folder, core, flash_bytes, ram_bytes):
    """Compile libxmae with an int8 `.tflite` and its table for one core: `LibraryModel` and
    `Firmware`.

    Raises
    ------
    UserError
        If it does not compile or does not fit.
    """
    model = library_model(path, certainty, NAME)
    sizes = {"flash_bytes": flash_bytes, "ram_bytes": ram_bytes}
    return model, with_library(NAME, model_texts(model), "stream_codes.c", folder, core, sizes)


def with_library(name, texts, program, folder, core, sizes, more=()):
    """Compile libxmae with a model and a program for one core.

    Parameters
    ----------
    name : str
        Name of the model in C.
    texts : dict of str to str
        The model's sources, by their place in `folder`.
    program : str
        Program in `BOARDS` that feeds the library.
    folder : Path
        For sources and ELF file.
    core : str
    sizes : dict
        `flash_bytes` and `ram_bytes` of the device.
    more : tuple of str
        Further definitions for C.

    Returns
    -------
    Firmware

    Raises
    ------
    UserError
        If it does not compile or does not fit.
    """
    for place, text in texts.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_text(text)
    sources = [*sorted(LIBRARY.glob("src/*.c")), BOARDS / program]
    return compile_firmware(
        [*sources, folder / "models" / f"xmae_model_{name}.c"],
        core,
        folder / "watch.elf",
        include=[LIBRARY / "include", LIBRARY / "src", folder / "include"],
        defines=(
            f'MODEL_HEADER="xmae/xmae_model_{name}.h"',
            f"MODEL_BYTES=XMAE_MODEL_{name.upper()}_BYTES",
            f"MODEL=xmae_model_{name}",
            *more,
        ),
        stack_bytes=STACK_BYTES,
        **sizes,
    )


def play_beats(bundle, device, emulator, codes, folder, rate, hop_s=1, bits=18, student="student"):
    """Read a recording with libxmae on a device and with `xmae.Stream` here, and compare.

    Parameters
    ----------
    bundle : Bundle
        With an int8 student for TFLite that reads beats.
    device : Device
        With a Cortex-M.
    emulator : str
        "unicorn" or "qemu".
    codes : array, shape (n_times,)
        Converter codes, NaN = lost; systole rises.
    folder : Path
        For sources and ELF file.
    rate : float
        Sampling rate of the codes, Hz, 25 to 500.
    hop_s, bits : int
        Seconds from one result to the next; width of a code, 8 to 24.
    student : str
        Student of the bundle.

    Returns
    -------
    result : dict
        `lines` (one a result, for people), `results` (one a row), `bit_exact`, `memory`, `limits`,
        `counts`, `estimated`.
    found : list of StreamResult

    Raises
    ------
    UserError
        If the firmware does not compile, does not fit or fails.
    """
    path = bundle.path / bundle.entry(student, "litert", "int8").file
    model, firmware = build_model(
        path,
        bundle.certainty(student),
        folder / "firmware",
        device.core,
        device.flash_bytes,
        device.ram_bytes,
    )
    pushes, seconds = pushes_of(codes, rate), len(codes) / rate
    run = run_streaming(firmware, emulator, encoded(rate, bits, False, hop_s, pushes), seconds)
    found = results_of(run.files.get("out.bin", b""))
    stream = Stream(path, rate, bits, hop_s, certainty=bundle.certainty(student))
    expected = list(chain.from_iterable(stream.push(part, lost) for part, lost in pushes))
    return {
        "lines": [stream.line(result) for result in found],
        "results": [row_of(result, stream) for result in found],
        "bit_exact": equality_of(found, expected),
        **spent(run, firmware, model, device, seconds, LIMITS),
    }, found


def run_streaming(firmware, emulator, data, seconds):
    """Run firmware that reads `in.bin`, for this many seconds of signal.

    Raises
    ------
    UserError
        If it fails.
    """
    patience = max(600, PATIENCE * seconds)
    run = runner(emulator)(firmware, {"in.bin": data}, (WORK, REST), patience)
    if run.exit_code:
        said = run.console.strip()[-200:]
        raise UserError(f"the firmware ended with code {run.exit_code}: {said}")
    return run


def spent(run, firmware, model, device, seconds, limits):
    """Return the cost of a run: `memory`, `limits`, `counts` and `estimated`."""
    cost = second_cost(run, model, device, seconds)
    sizes, instance = firmware.sizes, instance_bytes(firmware)
    return {
        "memory": {
            "constants": model.constant_bytes,
            "flash": sizes["flash"],
            "instance": instance,
            "ram": sizes["ram"],
            "stack_used": run.stack_used,
            "compiler": firmware.compiler,
        },
        "limits": limits_of(cost["counts"]["instructions_a_second"], instance, limits),
        **cost,
    }


def instance_bytes(firmware):
    """Return the RAM of one instance, bytes: its struct and the model's working memory."""
    return sum(firmware.symbols[name][1] for name in ("stream", "memory"))


def limits_of(instructions, instance, limits):
    """Return the limits that a device must keep, each with `used`, `limit`, `unit` and `met`."""
    used = {"instructions": instructions, "ram": instance}
    units = {"instructions": "a second of signal", "ram": "bytes of an instance"}
    return {
        name: {"used": used[name], "limit": limit, "unit": units[name], "met": used[name] <= limit}
        for name, limit in limits.items()
    }


def second_cost(run, model, device, seconds):
    """Return the cost of a second of signal: counted instructions, and estimates by the device's
    profile.
    """
    mix = mean_mix(run.mix[WORK], seconds)
    pushes = [count for name, count in run.visits if name == WORK]
    first = next(i for i, (name, _) in enumerate(run.visits) if name == WORK)
    busy = milliseconds(layer_cycles(mix, model.constant_bytes, device), device)
    energy = busy * device.active_mw * 1e-3
    longest = max(pushes) / max(1, sum(pushes)) * seconds
    return {
        "counts": {
            "instructions_a_second": round(sum(pushes) / seconds),
            "instructions_longest": max(pushes),
            "macs_a_second": model.macs,
            "start_instructions": sum(count for _, count in run.visits[:first]),
        },
        "estimated": {
            "busy_ms_a_second": busy.describe(),
            "longest_ms": (busy * longest).describe(),
            "energy_mj_a_second": energy.describe(),
            "mah_per_day": milliamp_hours_per_day(energy, busy * 1e-3, 1, device.sleep_mw).describe(
                3
            ),
        },
    }


def row_of(result, stream):
    """Return a result as plain numbers in field units."""
    from xmae.beats.rhythm import HINTS

    given = bool(result.rate)
    return {
        "time_s": round(stream.seconds_of(result.time), 3),
        "heart_rate_bpm": result.rate / 100 if given else None,
        "low_bpm": result.low / 100 if given else None,
        "high_bpm": result.high / 100 if given else None,
        "certainty": round(result.certainty / 255, 3),
        "beats_s": [round(stream.seconds_of(ticks), 3) for ticks, _ in result.beats],
        "beat_confidence": [round(confidence / 255, 3) for _, confidence in result.beats],
        "irregularity": result.irregularity / 1000 if result.irregularity >= 0 else None,
        "rhythm_hint": HINTS[result.rhythm],
        "lost": result.lost,
        "saturated": result.saturated,
        "reasons": result.reasons(),
    }
