"""A recording, sample by sample, through the firmware of a bundle on an emulated Cortex-M."""

import math
from importlib.util import find_spec

import numpy as np
from scipy.special import expit

from xmae.errors import UserError
from xmae.export.targets.session import to_int8
from xmae.firmware_sim.build.compile import compile_firmware
from xmae.firmware_sim.build.generate import FIFO_DEPTH, STACK_BYTES, frame_units, write_firmware
from xmae.firmware_sim.cost.cost import window_cost
from xmae.firmware_sim.cost.npu import npu_estimate
from xmae.firmware_sim.cost.profile import BUDGET
from xmae.firmware_sim.emulators.registry import runner
from xmae.firmware_sim.emulators.tflm import AMPLE, run_tflm
from xmae.firmware_sim.frame import Boot, Status, parse_frames, results_and_inputs
from xmae.firmware_sim.frontend import fifo_words
from xmae.signals.stream import MARGIN_S
from xmae.signals.window import WINDOW_S

PHASES = (
    "phase_boot",
    "phase_samples",
    "phase_front_end",
    "phase_heads",
    "phase_frame",
    "phase_trace",
)
PATIENCE_S = 20  # wall time for one window, many times what the slowest emulator takes


def play(
    bundle,
    device,
    emulator,
    codes,
    folder,
    rate,
    hop_s=10,
    adc_bits=18,
    cmsis_nn=None,
    student="student",
):
    """Build the firmware for a device, and run it on a recording.

    Parameters
    ----------
    bundle : Bundle
        With an int8 student for TFLite and its heads.
    device : Device
        With a Cortex-M.
    emulator : str
        "unicorn" or "qemu".
    codes : array, shape (n_times,)
        Converter codes, NaN = lost; from `digitise`.
    folder : Path
        For the firmware's sources and ELF file.
    rate, hop_s, adc_bits : int
        Rate of the front end, Hz; seconds from window to window; width of a sample, bits.
    cmsis_nn : str or None
        Folder of CMSIS-NN, to use instead of the kernels of this package.
    student : str
        Student of the bundle.

    Returns
    -------
    result : dict
        `boot`, `results` (a row per window), `heads` and `without_skill` as `heads_of` gives them,
        `windows`, `valid`, `bit_exact`, `memory`, `limits`, `counts`, `estimated`, `layers`, and
        `npu` where the device has one.
    embeddings : int8 array, shape (n_valid, D)

    Raises
    ------
    UserError
        If the bundle cannot be used, or the firmware does not compile, does not fit or fails.
    """
    built = write_firmware(
        bundle, folder / "firmware", device.ram_bytes, device.flash_bytes, rate, hop_s, adc_bits,
        trace=True, cmsis_nn=cmsis_nn is not None, student=student,
    )  # fmt: skip
    firmware = compile_firmware(
        built["sources"], device.core, folder / "firmware.elf", include=built["include"],
        flash_bytes=device.flash_bytes, ram_bytes=device.ram_bytes, stack_bytes=STACK_BYTES,
        cmsis_nn=cmsis_nn,
    )  # fmt: skip
    run = run_to_the_end(firmware, emulator, built["layers"], codes, rate, hop_s)
    frames = parse_frames(run.files.get("out.bin", b""))
    results, inputs = results_and_inputs(frames)
    entry, heads = bundle.entry(student, "litert", "int8"), bundle.trusted_heads(student)
    model = bundle.path / entry.file
    embeddings = [result.embedding for result in results if result.valid]
    embeddings = np.array(embeddings, np.int8).reshape(-1, entry.output.shape[-1])
    seconds, flash = len(codes) / rate, firmware.sizes["flash"]
    cost = window_cost(run, built["layers"], device, seconds, hop_s, flash)
    has_npu = device.npu and find_spec("ethosu")
    rows = []
    for one in results:
        when = one.start_ms / 1000
        rows.append(timeline_row(when, cost, one.status, one.lost, one.saturated, one.heads, heads))
    return {
        "boot": [frame.status.name or "OK" for frame in frames if isinstance(frame, Boot)],
        "results": rows,
        **heads_of(bundle, student),
        "windows": len(results),
        "valid": len(inputs),
        "bit_exact": bit_exact(model, entry, inputs, embeddings),
        "memory": memory_of(firmware, built["arena_bytes"], run.stack_used),
        "limits": limits(firmware.sizes, cost["estimated"]["latency_ms"]["high"], rate),
        **cost,
        "npu": npu_estimate(model, device, cost, hop_s) if has_npu else None,
    }, embeddings


def run_to_the_end(firmware, emulator, layers, codes, rate, hop_s):
    """Run a program on the codes of a recording; raises a `UserError` if it fails."""
    functions = [layer["function"] for layer in layers if layer["function"] in firmware.symbols]
    words = fifo_words(codes, rate).astype("<u4").tobytes()
    timeout_s = max(600, PATIENCE_S * len(codes) / rate / hop_s)
    run = runner(emulator)(firmware, {"in.bin": words}, (*PHASES, *functions), timeout_s)
    if run.exit_code != 0:
        raise UserError(
            f"the firmware ended with code {run.exit_code}: {run.console.strip()[-200:]}"
        )
    return run


def memory_of(firmware, arena_bytes, stack_used):
    """Return the flash and RAM that a program takes, bytes."""
    sizes = firmware.sizes
    return {
        "weights": sizes["flash_weights"],
        "constants": sizes["flash_constants"],
        "code": sizes["flash_code"],
        "flash": sizes["flash"],
        "ram": sizes["ram"],
        "arena": arena_bytes,
        "stack_reserved": STACK_BYTES,
        "stack_used": stack_used,
        "compiler": firmware.compiler,
    }


def heads_of(bundle, student):
    """Return `heads`, a dict for each number of a frame in order, and `without_skill`, labels of
    tasks not predicted better than a constant.
    """
    trusted = bundle.trusted_heads(student)
    rows = [
        {"name": name, "units": frame_units(head), "kind": head.kind, "skill": head.skill}
        for name, head in trusted.items()
    ]
    return {
        "heads": rows,
        "without_skill": bundle.at_chance(student),
    }


def limits(sizes, latency_ms, rate):
    """Return the limits that a device must keep, each with `used`, `limit`, `unit` and `met`.

    Parameters
    ----------
    sizes : dict
        Sizes of a `Firmware`.
    latency_ms : float
        The longest that a window may take, ms: samples that arrive meanwhile wait in the FIFO.
    rate : int
        Sampling rate of the front end, Hz.
    """
    used = {"weights": sizes["flash_weights"], "code": sizes["flash_code"], "ram": sizes["ram"]}
    kept = {
        name: {"used": used[name], "limit": limit, "unit": "bytes"}
        for name, limit in BUDGET.items()
    }
    kept["fifo"] = {
        "used": math.ceil(latency_ms * rate / 1000),
        "limit": FIFO_DEPTH,
        "unit": "samples",
    }
    return {name: row | {"met": row["used"] <= row["limit"]} for name, row in kept.items()}


def timeline_row(start_s, cost, status, lost, saturated, values, heads):
    """Return one window of the timeline; `values` are the heads' answers (log-odds of binary ones),
    empty without a result.
    """
    said = {
        name: round(float(expit(value)) if head.kind == "binary" else float(value), 4)
        for (name, head), value in zip(heads.items(), values, strict=False)
    }
    return {
        "window_start_s": float(start_s),
        "estimated_ready_s": round(
            start_s + WINDOW_S + MARGIN_S + cost["estimated"]["latency_ms"]["estimated"] / 1000, 3
        ),
        "status": [flag.name for flag in Status if flag in status],
        "lost": int(lost),
        "saturated": int(saturated),
        "heads": said or None,
    }


def bit_exact(model, entry, codes, embeddings):
    """Count the windows whose embedding equals the TensorFlow Lite Micro interpreter's, byte for
    byte.

    Parameters
    ----------
    model : Path
        Int8 `.tflite`.
    entry : Entry
        The bundle's, with scales and zero points.
    codes : int8 array, shape (n, 1000)
        Input of the network.
    embeddings : int8 array, shape (n, D)
        Output of the network.

    Returns
    -------
    dict
        `windows` compared, how many are `equal`, `with` what; `not_compared`: why there are none.
    """
    if not len(codes):
        return not_compared("no valid window")
    if find_spec("tflite_micro") is None:
        return not_compared("tflite-micro is not installed; pip install 'xmae[firmware]'")
    (in_scale, in_zero), (out_scale, out_zero) = (
        (end.scale, end.zero_point) for end in (entry.input, entry.output)
    )
    expected = run_tflm(model, (codes.astype(np.float64) - in_zero) * in_scale, AMPLE)
    same = (to_int8(expected, out_scale, out_zero) == embeddings).all(axis=1)
    return {"windows": len(same), "equal": int(same.sum()), "with": "TensorFlow Lite Micro"}


def not_compared(why):
    """Return the result of `bit_exact` for no windows, with the reason."""
    return {"windows": 0, "equal": 0, "with": None, "not_compared": why}
