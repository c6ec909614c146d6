"""`xmae simulate`: a recording, sample by sample, through a bundle on emulated watches; results,
costs and a table.
"""

import time
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from tqdm import tqdm

from xmae.benchmarks.report.page import write_report
from xmae.benchmarks.report.watch_table import broken_limits, equality, markdown, terminal
from xmae.benchmarks.simulate_beats import PlayedSignal, simulate_beats
from xmae.benchmarks.simulate_motion import moving_student, simulate_motion
from xmae.data.recording.channels import ChannelMap
from xmae.data.recording.checks import upright
from xmae.data.recording.readers import read_recording
from xmae.errors import UserError, names_of
from xmae.export.bundle.bundle import Bundle
from xmae.files import atomic_folder, write_json
from xmae.firmware_sim.build.arm_root import setup_roots
from xmae.firmware_sim.cost.profile import device_names, load_device
from xmae.firmware_sim.emulators.confine import confinement
from xmae.firmware_sim.emulators.registry import chosen_emulator, installed, what_it_needs
from xmae.firmware_sim.frontend import digitise, front_end_rate
from xmae.firmware_sim.play import play
from xmae.firmware_sim.play_cortex_a import play_cortex_a
from xmae.firmware_sim.play_motion import STUDENT, shipped_student
from xmae.signals.stream import BUFFER_S, MARGIN_S
from xmae.text import printable

RESULTS, TABLE = "simulate.json", "watch.md"
ESTIMATED = (
    "Instructions are counted. Cycles, latency, energy and charge are estimated from them by the "
    "device profile, "
    "with low and high ends; how far the model misses published measurements is in "
    "benchmarks/results/mlperf_tiny.md."
)


def simulate(
    bundle: str | None = None,
    device: str = "apollo4",
    signal: str | None = None,
    out: str = "runs/simulate",
    list_devices: bool = False,
    setup: bool = False,
    emulator: str | None = None,
    sfreq: int | None = None,
    hop_s: int | None = None,
    adc_bits: int = 18,
    seconds: float | None = None,
    speed: float = 0,
    cmsis_nn: str | None = None,
    model: str = "student",
    public_key: str | None = None,
    channels: str | None = None,
    polarity: str = "auto",
) -> dict:
    """Play a recording through the firmware of a bundle on emulated devices.

    A student that reads beats is played through libxmae: one line per second, and every field of
    every result is compared with `xmae.Stream` here. Exit code 1 where they differ.

    Parameters
    ----------
    bundle : str or None
        Folder of a bundle with an int8 student for TFLite, or "student-motion": the shipped student
        for PPG and acceleration, for a recording with both.
    device : str
        Names of device profiles, separated by commas, or "all" whose emulators are installed; see
        `list_devices`.
    signal : str or None
        Recording (.npz, WFDB .hea, .csv, ...) with PPG.
    out : str
        Folder for simulate.json, watch.md (the table), report.html, and for each device embeddings
        and firmware; replaced as a whole.
    list_devices : bool
        Only list devices, what each needs and whether it is there.
    setup : bool
        Only build and cache the small Arm systems for Cortex-A devices: 310 MB in ~/.cache/xmae.
    emulator : str or None
        "unicorn", "qemu", "qemu-user" or "qemu-user-32"; by default, and for those of "all" which
        it does not suit, the first of the device's that is installed. On Cortex-M both count the
        same; QEMU is several times faster.
    sfreq : int or None
        Rate of the front end, 25-128 Hz (25-500 Hz for a student that reads beats); by default the
        recording's, or 100 Hz if no watch samples at it.
    hop_s : int
        Seconds from one window to the next.
    adc_bits : int
        Width of a sample, 16-24 bits.
    seconds : float or None
        Length to play, s; by default all.
    speed : float
        Pace at which results are shown, times real time; 0 = at once.
    cmsis_nn : str or None
        Folder of a CMSIS-NN release whose convolutions are to replace this package's on Cortex-M.
    model : str
        Student of the bundle, such as "student-app", or "student-motion" in its folder c.
    public_key : str or None
        PEM file of the Ed25519 key that must have signed the bundle; see docs/bundle.md.
    channels : str or None
        YAML file that says which channel of the recording is PPG; see docs/data.md.
    polarity : str
        "auto" turns a PPG over where it is certain that its pulses fall at systole; "upright" takes
        it as it is; "inverted" turns it over.

    Returns
    -------
    dict
        `devices`: for each `results` (a row per window: time, status, heads as numbers or
        probabilities), `heads` (in the frame's order), `without_skill` (heads left out), `counts`,
        `estimated` (latency, energy, battery), `memory`, `limits`, `layers`, `bit_exact` (windows
        whose embedding equals the TensorFlow Lite Micro interpreter's; on a Cortex-A, the same
        runtime's on this machine; or why none was compared), on a Cortex-A `runtimes`: what
        ExecuTorch and ONNX Runtime take; of a student that reads beats instead what
        `xmae.firmware_sim.play_beats.play_beats` returns; `signature` of the bundle;
        `not_run`: what devices would need; `failures`: by device,
        what is not as it should be; `passed`: there are none, so every device had valid windows,
        whose embeddings were compared and equal, and kept all limits; under QEMU `guest`: how far
        the emulated programs were kept apart from this machine; "out".

    Raises
    ------
    UserError
        If bundle, device, recording or emulator cannot be used, or the firmware does not fit or
        fails.
    """
    if list_devices:
        return listing()
    if setup:
        return {"out": "\n".join(map(str, setup_roots()))}
    given = {"--bundle": bundle, "--signal": signal}
    if missing := [name for name, value in given.items() if value is None]:
        raise UserError(
            f"simulate: {' and '.join(missing)} must be given,"
            " as in xmae simulate BUNDLE --signal RECORDING (or --list-devices, or --setup)"
        )
    shipped = bundle == STUDENT and not Path(bundle).exists()
    opened = None if shipped else Bundle.open(bundle, public_key)
    moving = shipped_student() if shipped else moving_student(opened, model)
    chosen, not_run = chosen_devices(device, emulator)
    recording = upright(read_recording(signal, channel_map=ChannelMap.load(channels)), polarity)
    played = PlayedSignal(recording, Path(signal).name, sfreq, hop_s or 1, adc_bits, seconds)
    if moving:
        state = "shipped" if shipped else opened.verdict.state
        return simulate_motion(moving, state, chosen, not_run, played, out, speed)
    if opened.reads_beats(model):
        return simulate_beats(opened, chosen, not_run, played, out, model, speed)
    codes = played_codes(recording, signal, sfreq, seconds, hop_s or 10, adc_bits)
    return simulate_windows(
        opened, chosen, not_run, codes, Path(signal).name, recording, out, model, cmsis_nn, speed
    )


def simulate_windows(
    opened, chosen, not_run, played, signal, recording, out, model, cmsis_nn, speed
):
    """Play a recording window by window through a student that gives embeddings only; see
    `simulate`.
    """
    with atomic_folder(out, RESULTS) as folder:
        devices = {}
        for profile, runs_in in tqdm(chosen, "devices", disable=len(chosen) == 1):
            devices[profile.name] = play_on(
                opened, profile, runs_in, played, folder, cmsis_nn, model
            )
        result = {
            "student": model,
            "signature": opened.verdict.state,
            "signal": signal,
            "kernels": "CMSIS-NN" if cmsis_nn else "xmae",
            **result_of(devices, not_run, played),
        }
        write_json(folder / RESULTS, result)
        (folder / TABLE).write_text(markdown(result) + "\n")
        write_report({"simulate": result}, folder, "xMAE on emulated watches")
    show(next(iter(devices.values())), speed)
    tqdm.write(printable(terminal(result)))
    guests = sorted({one["guest"] for one in devices.values() if "guest" in one})
    lines = summary_of(result, recording)
    return {
        **result,
        "summary": [*lines, str(opened.verdict), *guests],
        "out": str(Path(out) / "report.html"),
    }


@dataclass(frozen=True)
class PlayedCodes:
    """A recording as the converter of a watch samples it.

    Attributes
    ----------
    codes : float array, shape (n,)
        Codes of the converter; NaN = missing.
    rate : int
        Hz.
    hop_s : int
        From one window to the next, s.
    bits : int
        Width of a code.
    """

    codes: np.ndarray
    rate: int
    hop_s: int
    bits: int


def played_codes(recording, signal, sfreq, seconds, hop_s, adc_bits):
    """Sample a recording like a watch: `PlayedCodes`; the arguments are those of `simulate`.

    Raises
    ------
    UserError
        If the recording is too short, or rate or width are out of range.
    """
    rate = sfreq or front_end_rate(recording.sfreq)
    codes = digitise(recording.ppg, recording.sfreq, rate, adc_bits)
    if seconds is not None:
        codes = codes[: int(seconds * rate)]
    if (known_s := np.isfinite(codes).sum() / rate) < BUFFER_S:
        raise UserError(
            f"{signal}: {known_s:.1f} s of samples; a watch needs {BUFFER_S} s for its first window"
        )
    return PlayedCodes(codes, rate, hop_s, adc_bits)


def play_on(opened, profile, runs_in, played, folder, cmsis_nn, model):
    """Play a recording on one device, save its embeddings in a folder of its own, and return its
    results.
    """
    place = folder / profile.name
    place.mkdir()
    where = played.codes, place, played.rate, played.hop_s, played.bits
    if runs_in.startswith("qemu-user"):
        found, embeddings = play_cortex_a(opened, profile, *where, model)
    else:
        found, embeddings = play(opened, profile, runs_in, *where, cmsis_nn, model)
    np.savez_compressed(place / "embeddings.npz", embeddings=embeddings)
    named = {"title": profile.title, "core": profile.core, "emulator": runs_in}
    if runs_in.startswith("qemu"):
        named["guest"] = confinement().words
    return named | found


def result_of(devices, not_run, played):
    """Return what `simulate.json` holds on all devices."""
    wrong = {name: failures(one) for name, one in devices.items()}
    wrong = {name: found for name, found in wrong.items() if found}
    return {
        "front_end": {
            "sfreq": played.rate,
            "adc_bits": played.bits,
            "hop_s": played.hop_s,
            "delay_s": MARGIN_S,
        },
        "note": ESTIMATED,
        "devices": devices,
        "not_run": not_run,
        "failures": wrong,
        "passed": not wrong,
    }


def summary_of(result, recording):
    """Summarise the simulation: the rate, then one line per device."""
    rate = result["front_end"]["sfreq"]
    own = "" if recording.sfreq == rate else f" (the recording has {recording.sfreq:.7g} Hz)"
    over = (
        ", turned over: its pulses fell at systole" if "inverted_ppg" in recording.repairs else ""
    )
    lines = [f"played at {rate} Hz{own}{over}"]
    for name, one in result["devices"].items():
        wrong = "; ".join(result["failures"].get(name, [])) or "as it should be"
        lines.append(f"{name}: {one['valid']} of {one['windows']} windows valid; {wrong}")
    return lines


def chosen_devices(names, emulator):
    """Return the profiles that were asked for, each with its emulator, and why others of "all" were
    left out.
    """
    profiles = [
        load_device(name) for name in (device_names() if names == "all" else names_of(names))
    ]
    if names != "all":
        return [(profile, chosen_emulator(profile, emulator)) for profile in profiles], {}
    able = [profile for profile in profiles if any(map(installed, profile.emulators))]
    if not able:
        raise UserError("no emulator is installed; see xmae simulate --list-devices")
    usable = emulator is not None and installed(emulator)
    chosen = [
        (
            profile,
            emulator if usable and emulator in profile.emulators else chosen_emulator(profile),
        )
        for profile in able
    ]
    return chosen, {
        profile.name: what_it_needs(profile) for profile in profiles if profile not in able
    }


def failures(played):
    """List what is wrong on a device: nothing to compare, other embeddings, limits not kept."""
    found = []
    if not played["valid"]:
        flags = sorted(set(chain.from_iterable(row["status"] for row in played["results"])))
        found.append(
            f"no valid window in {played['windows']} ({', '.join(flags) or 'none was measured'})"
        )
    for one in (played, *played.get("runtimes", {}).values()):
        same = one["bit_exact"]
        if played["valid"] and "not_compared" in same:
            found.append(f"embeddings not compared: {same['not_compared']}")
        elif same["equal"] < same["windows"] and not near(same):
            found.append(f"embeddings equal in {equality(same)}")
    return found + broken_limits(played)


def near(same):
    """Tell whether the embeddings of a runtime that rounds differently are within the allowed
    step.
    """
    allowed = same.get("allowed_step", 0) * (1 + 1e-5)  # int8 codes as float32 numbers
    return same.get("largest_step", np.inf) <= allowed


def listing():
    """List all devices and what they need; "out" is a table to read."""
    devices = [
        {
            "device": device.name,
            "title": device.title,
            "emulators": {emulator: installed(emulator) for emulator in device.emulators},
            "needs": what_it_needs(device),
            "sources": device.sources,
        }
        for device in map(load_device, device_names())
    ]
    lines = [
        f"{entry['device']:15} {'ready  ' if any(entry['emulators'].values()) else 'missing'} "
        f"{entry['title']}"
        f" [{entry['needs']}]"
        for entry in devices
    ]
    return {"devices": devices, "out": "\n".join(lines)}


def show(played, speed):
    """Print the results on standard error as they would arrive: `speed` times real time, 0 = at
    once.
    """
    before = 0.0
    for result in played["results"]:
        if speed > 0:
            time.sleep(max(0.0, result["estimated_ready_s"] - before) / speed)
            before = result["estimated_ready_s"]
        said = ", ".join(f"{name} {value:.4g}" for name, value in (result["heads"] or {}).items())
        said = said or ("no result" if "INVALID" in result["status"] else "embedding")
        line = f"{result['estimated_ready_s']:8.2f} s  {said}  {' '.join(result['status'])}"
        tqdm.write(printable(line))
