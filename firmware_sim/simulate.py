"""`xmae simulate`: a recording, sample by sample, through compiled firmware on an emulated watch."""

import shutil
import time
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from scipy.special import expit
from tqdm import tqdm

from xmae.data.readers import read_recording
from xmae.errors import UserError
from xmae.export.bundle import Bundle
from xmae.files import atomic_folder, write_json
from xmae.firmware_sim.battery import battery_view
from xmae.firmware_sim.compile import compile_firmware
from xmae.firmware_sim.cost import compute_cycles, layer_cycles, mean_mix, millijoules, milliseconds
from xmae.firmware_sim.frame import Boot, Input, Result, Status, parse_frames
from xmae.firmware_sim.frontend import digitise, fifo_words, front_end_rate
from xmae.firmware_sim.generate import STACK_BYTES, write_firmware
from xmae.firmware_sim.profile import BUDGET, NEEDS, Span, device_names, load_device
from xmae.signals.stream import BUFFER_S, MARGIN_S
from xmae.signals.window import WINDOW_S

RESULTS = "simulate.json"
PHASES = ("phase_boot", "phase_samples", "phase_front_end", "phase_heads", "phase_frame", "phase_trace")
ESTIMATED = (
    "Instructions are counted. Cycles, latency, energy and charge are estimated from them by the device profile, "
    "with low and high ends; how far the model misses published measurements is in benchmarks/results/mlperf_tiny.md."
)


def simulate(
    bundle: str | None = None,
    device: str = "apollo4",
    signal: str | None = None,
    out: str = "runs/simulate",
    list: bool = False,
    setup: bool = False,
    emulator: str | None = None,
    sfreq: int | None = None,
    hop_s: int = 10,
    adc_bits: int = 18,
    seconds: float | None = None,
    speed: float = 0,
) -> dict:
    """Play a recording through the firmware of a bundle on an emulated device.

    Parameters
    ----------
    bundle : str or None
        Folder of a bundle with an int8 student for TFLite.
    device : str
        Name of a device profile; see `list`.
    signal : str or None
        Recording (.npz, WFDB .hea, .csv) with PPG.
    out : str
        Folder for simulate.json, embeddings.npz and the firmware; replaced as a whole.
    list : bool
        Only list devices, what each needs and whether it is there.
    setup : bool
        Only build and cache the small arm64 system for Cortex-A devices.
    emulator : str or None
        "unicorn", "qemu" or "qemu-user"; by default the first of the device's that is installed.
    sfreq : int or None
        Rate of the front end, 25-128 Hz; by default the recording's, or 100 Hz if no watch samples at it.
    hop_s : int
        Seconds from one window to the next.
    adc_bits : int
        Width of a sample, 16-24 bits.
    seconds : float or None
        Length to play, s; by default all.
    speed : float
        Pace at which results are shown, times real time; 0 = at once.

    Returns
    -------
    dict
        `results` (a row per window: time, status, heads as numbers or probabilities), `skill` of each head, `counts`,
        `estimated` (latency, energy, battery), `memory`, `layers`, `bit_exact` (windows whose embedding equals the
        TensorFlow Lite Micro interpreter's; on a Cortex-A, LiteRT's on this machine);
        "out".

    Raises
    ------
    UserError
        If bundle, device, recording or emulator cannot be used, or the firmware does not fit or fails.
    """
    if list:
        return listing()
    if setup:
        from xmae.firmware_sim.cortex_a import setup_root

        return {"out": str(setup_root())}
    if bundle is None or signal is None:
        raise UserError("simulate needs a bundle and --signal RECORDING (or --list, or --setup)")
    profile, opened = load_device(device), Bundle.open(bundle)
    emulator = chosen_emulator(profile, emulator)
    recording = read_recording(signal)
    rate = sfreq or front_end_rate(recording.sfreq)
    codes = digitise(recording.ppg, recording.sfreq, rate, adc_bits)[: None if seconds is None else int(seconds * rate)]
    if len(codes) < BUFFER_S * rate:
        raise UserError(f"{signal}: {len(codes) / rate:.1f} s; a watch needs {BUFFER_S} s for its first window")
    with atomic_folder(out, RESULTS) as folder:
        if emulator == "qemu-user":
            from xmae.firmware_sim.cortex_a import play

            result, embeddings = play(opened, profile, codes, rate, hop_s)
        else:
            result, embeddings = play_firmware(
                opened, profile, emulator, fifo_words(codes, rate), folder, rate, hop_s, adc_bits
            )
        result = {
            "device": profile.name,
            "title": profile.title,
            "emulator": emulator,
            "signal": Path(signal).name,
            "front_end": {"sfreq": rate, "adc_bits": adc_bits, "hop_s": hop_s, "delay_s": MARGIN_S},
            "note": ESTIMATED,
            **result,
        }
        write_json(folder / RESULTS, result)
        np.savez_compressed(folder / "embeddings.npz", embeddings=embeddings)
    show(result["results"], speed)
    return {**result, "out": str(Path(out) / RESULTS)}


def play_firmware(bundle, device, emulator, words, folder, rate, hop_s=10, adc_bits=18, fast=True, patches=None):
    """Build the firmware for a device and run it on a stream of FIFO words.

    Parameters
    ----------
    bundle, device : Bundle, Device
        What to run, and on what.
    emulator : str
        "unicorn" or "qemu".
    words : uint32 array, shape (n, 2)
        From `fifo_words`.
    folder : Path
        For sources and ELF file.
    rate, hop_s, adc_bits : int
        As for `simulate`.
    fast : bool
        Use the core's SMLAD or Helium instructions.
    patches : dict of bytes, optional
        Changes of memory after loading, by address.

    Returns
    -------
    result : dict
        As `simulate` returns it.
    embeddings : int8 array, shape (n_valid, D)
    """
    built = write_firmware(
        bundle, folder / "firmware", device.ram_bytes, device.flash_bytes, rate, hop_s, adc_bits, trace=True
    )
    firmware = compile_firmware(
        built["sources"], device.core, folder / "firmware.elf", include=built["include"], fast=fast,
        ram_bytes=device.ram_bytes, stack_bytes=STACK_BYTES,
    )  # fmt: skip
    functions = [layer["function"] for layer in built["layers"] if layer["function"] in firmware.symbols]
    run = runner(emulator)(
        firmware, {"in.bin": words.astype("<u4").tobytes()}, (*PHASES, *functions), patches=patches or {}
    )
    if run.exit_code not in (0, 2):
        raise UserError(f"the firmware ended with code {run.exit_code}: {run.console.strip()[-200:]}")
    frames = parse_frames(run.files.get("out.bin", b""))
    results = [frame for frame in frames if isinstance(frame, Result)]
    inputs = [frame.codes for frame in frames if isinstance(frame, Input)]
    valid = [result for result in results if result.valid]
    embeddings = np.array([result.embedding for result in valid], np.int8).reshape(len(valid), -1)
    seen = np.array([codes for codes, result in zip(inputs, results, strict=True) if result.valid], np.int8)
    cost = costs(run, built["layers"], device, hop_s)
    return {
        "boot": [frame.status.name or "OK" for frame in frames if isinstance(frame, Boot)],
        "results": [row(result, bundle.heads["student"], cost) for result in results],
        "skill": {name: head["skill"] for name, head in bundle.heads["student"].items()},
        "windows": len(results),
        "valid": len(valid),
        "bit_exact": bit_exact(bundle, seen, embeddings),
        "memory": memory(firmware, run, built),
        **cost,
        **({"npu": npu_estimate(bundle, device, cost)} if device.npu and find_spec("ethosu") else {}),
    }, embeddings


def costs(run, layers, device, hop_s):
    """Counted instructions and estimated cycles, time, energy and charge of one window, in all and by layer."""
    visits = Counter(region for region, _ in run.visits)
    constants = {layer["function"]: layer for layer in layers}
    rows, total, instructions = [], Span(0, 0, 0), 0
    for region in ("phase_front_end", *constants, "phase_heads", "phase_frame"):
        if not visits[region]:
            continue
        mix = mean_mix(run.mix[region], visits[region])
        layer = constants.get(region, {"name": region.removeprefix("phase_"), "macs": 0, "constant_bytes": 0})
        cycles = layer_cycles(mix, layer["constant_bytes"], device)
        count = sum(number for kind, number in mix.items() if kind != "words")
        rows.append(
            {
                "name": layer["name"],
                "macs": layer["macs"],
                "instructions": round(count),
                "instructions_per_mac": round(count / layer["macs"], 2) if layer["macs"] else None,
                "estimated_cycles": cycles.describe(),
            }
        )
        total, instructions = total + cycles, instructions + count
    windows = max(visits["phase_front_end"], 1)
    sampling = compute_cycles(mean_mix(run.mix["phase_samples"], windows), device)
    latency = milliseconds(total, device)
    busy = milliseconds(total + sampling, device)
    energy = millijoules(busy, device.active_mw)
    network = [row for row in rows if row["macs"] or row["name"][:2].isdigit()]
    macs = sum(layer["macs"] for layer in layers)
    counted = per_window(run.visits)
    return {
        "counts": {
            "instructions_a_window": round(instructions),
            "network_instructions": sum(row["instructions"] for row in network),
            "network_macs": macs,
            "instructions_per_mac": round(sum(row["instructions"] for row in network) / macs, 3),
            "windows_min_max": [min(counted), max(counted)] if counted else None,
            "spread": round((max(counted) - min(counted)) / max(counted), 5) if counted else None,
        },
        "estimated": {
            "latency_ms": latency.describe(),
            "energy_mj": energy.describe(),
            "battery": battery_view(energy, busy * 1e-3, device.sleep_mw),
        },
        "layers": rows,
    }


def per_window(visits):
    """Instructions of each window that went through the network, from front end to frame."""
    counted, current, network = [], None, False
    for region, count in visits:
        if region == "phase_front_end":
            current, network = 0, False
        elif region in ("phase_trace", "phase_samples"):
            if current is not None and network:
                counted.append(current)
            current = None
        if current is not None:
            current += count
            network |= region.startswith("xmae_layer")
    return counted


def row(result, heads, cost):
    """One window for the timeline."""
    start_s = result.start_ms / 1000
    latency = cost["estimated"]["latency_ms"]["estimated"]
    flags = [flag.name for flag in Status if flag in result.status]
    said = {
        name: round(float(expit(value)) if head["kind"] == "binary" else float(value), 4)
        for (name, head), value in zip(heads.items(), result.heads, strict=False)  # none in an invalid frame
    }
    return {
        "window_start_s": start_s,
        "estimated_ready_s": round(start_s + WINDOW_S + MARGIN_S + latency / 1000, 3),
        "status": flags,
        "lost": result.lost,
        "saturated": result.saturated,
        "heads": said or None,
    }


def bit_exact(bundle, codes, embeddings):
    """Windows whose embedding equals the TensorFlow Lite Micro interpreter's, byte for byte; None without it."""
    if find_spec("tflite_micro") is None or not len(codes):
        return None
    from xmae.export.session import to_int8
    from xmae.firmware_sim.tflm import run_tflm

    entry = bundle.entry("student", "litert", "int8")
    (in_scale, in_zero), (out_scale, out_zero) = (
        (entry[end]["scale"], entry[end]["zero_point"]) for end in ("input", "output")
    )
    expected = run_tflm(bundle.path / entry["file"], (codes.astype(np.float64) - in_zero) * in_scale)
    same = (to_int8(expected, out_scale, out_zero) == embeddings).all(axis=1)
    return {"windows": len(same), "equal": int(same.sum()), "with": "TensorFlow Lite Micro"}


def memory(firmware, run, built):
    """Bytes of flash and RAM, beside the budget."""
    return {
        "weights": firmware.sizes["flash_weights"],
        "code_and_constants": firmware.sizes["flash_code"],
        "flash": firmware.sizes["flash"],
        "ram": firmware.sizes["ram"],
        "arena": built["arena_bytes"],
        "stack_reserved": STACK_BYTES,
        "stack_used": run.stack_used,
        "budget": BUDGET,
        "compiler": firmware.compiler,
    }


def npu_estimate(bundle, device, cost):
    """What Vela estimates for the network on the device's accelerator, with the rest left on the core."""
    from xmae.firmware_sim.npu import vela_ms

    entry = bundle.entry("student", "litert", "int8")
    network = device.npu["latency_share"] * vela_ms(bundle.path / entry["file"], device)
    rest = sum(
        (Span(*(row["estimated_cycles"][key] for key in ("low", "estimated", "high")))
         for row in cost["layers"] if not row["macs"]),
        Span(0, 0, 0),
    )  # fmt: skip
    rest_ms = milliseconds(rest, device)
    energy = millijoules(network, device.npu["active_mw"]) + millijoules(rest_ms, device.active_mw)
    return {
        "accelerator": device.npu["accelerator"],
        "source": "Vela's estimate, not emulated",
        "estimated_network_ms": network.describe(),
        "estimated_latency_ms": (network + rest_ms).describe(),
        "estimated_energy_mj": energy.describe(),
    }


def runner(emulator):
    """The function that runs firmware in an emulator."""
    if emulator == "unicorn":
        from xmae.firmware_sim.emulate_unicorn import run_unicorn

        return run_unicorn
    from xmae.firmware_sim.emulate_qemu import run_qemu

    return run_qemu


def installed(emulator):
    """Whether an emulator can be used."""
    if emulator == "unicorn":
        return find_spec("unicorn") is not None
    if emulator == "qemu":
        return shutil.which("qemu-system-arm") is not None
    from xmae.firmware_sim.cortex_a import is_set_up

    return is_set_up()


def chosen_emulator(device, name):
    """The emulator asked for, or the first of the device's that is installed."""
    if name is not None and name not in device.emulators:
        raise UserError(f"{device.name} cannot be emulated by '{name}'; by {' or '.join(device.emulators)}")
    for emulator in [name] if name else device.emulators:
        if installed(emulator):
            return emulator
    raise UserError(f"{device.name} needs {' or '.join(NEEDS[emulator] for emulator in device.emulators)}")


def listing():
    """All devices with what they need; "out" is a table to read."""
    devices = [
        {
            "device": device.name,
            "title": device.title,
            "emulators": {emulator: installed(emulator) for emulator in device.emulators},
            "needs": " or ".join(NEEDS[emulator] for emulator in device.emulators),
            "sources": device.sources,
        }
        for device in map(load_device, device_names())
    ]
    lines = [
        f"{entry['device']:15} {'ready  ' if any(entry['emulators'].values()) else 'missing'} {entry['title']}"
        f" [{entry['needs']}]"
        for entry in devices
    ]
    return {"devices": devices, "out": "\n".join(lines)}


def show(results, speed):
    """Results on standard error, as they would come: `speed` times as fast as in life, 0 = at once."""
    before = 0.0
    for result in results:
        if speed > 0:
            time.sleep(max(0.0, result["estimated_ready_s"] - before) / speed)
            before = result["estimated_ready_s"]
        said = ", ".join(f"{name} {value:.4g}" for name, value in (result["heads"] or {}).items()) or "no result"
        tqdm.write(f"{result['estimated_ready_s']:8.2f} s  {said}  {' '.join(result['status'])}")
