"""`xmae simulate` of a student that reads beats: one line per second, the same bits as
`xmae.Stream`.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from xmae.benchmarks.report import beat_table
from xmae.benchmarks.report.page import write_report
from xmae.errors import UserError
from xmae.files import atomic_folder, write_json
from xmae.firmware_sim.emulators.confine import confinement
from xmae.firmware_sim.frontend import digitise
from xmae.firmware_sim.play_beats import play_beats
from xmae.signals.front_end import MAX_BITS, MAX_SFREQ, MIN_SFREQ
from xmae.signals.window import SFREQ
from xmae.text import printable

RESULTS, TABLE, LINES = "simulate.json", "watch.md", "lines.txt"
MIN_BITS = 8
SHORTEST_S = 12.0  # until the first heart rate can be given
NOTE = (
    "Instructions are counted on the emulated core. Time, energy and charge are estimated from "
    "them by the device "
    "profile, with low and high ends. Charge is the processor's alone."
)


@dataclass(frozen=True)
class PlayedSignal:
    """A recording, and the front end that samples it.

    Parameters
    ----------
    recording : Recording
        Systole rises.
    name : str
        Name of the recording's file.
    sfreq : float or None
        Rate of the front end, Hz; None: the recording's, if it is 25 to 500 Hz, else 100 Hz.
    hop_s, bits : int
        Seconds from result to result; width of a code.
    seconds : float or None
        Length to play, s; None: all.
    """

    recording: object
    name: str
    sfreq: float | None
    hop_s: int
    bits: int
    seconds: float | None

    @property
    def rate(self):
        """Return the sampling rate of the front end, Hz."""
        own = round(float(self.recording.sfreq), 3)
        return float(self.sfreq or (own if MIN_SFREQ <= own <= MAX_SFREQ else SFREQ))

    def codes(self):
        """Return the codes of the front end, NaN = lost.

        Raises
        ------
        UserError
            If rate, width or hop are out of range, or the recording is too short.
        """
        if not MIN_SFREQ <= self.rate <= MAX_SFREQ:
            raise UserError(
                f"front end at {self.rate:g} Hz; expected {MIN_SFREQ} to {MAX_SFREQ} Hz"
            )
        if not MIN_BITS <= self.bits <= MAX_BITS:
            raise UserError(f"front end with {self.bits} bits; expected {MIN_BITS} to {MAX_BITS}")
        if self.hop_s < 1:
            raise UserError(f"a result every {self.hop_s} s; expected at least 1")
        codes = digitise(self.recording.ppg, self.recording.sfreq, self.rate, self.bits)
        codes = codes[: None if self.seconds is None else int(self.seconds * self.rate)]
        if len(codes) / self.rate < SHORTEST_S or not np.isfinite(codes).any():
            raise UserError(
                f"{self.name}: {len(codes) / self.rate:.1f} s of samples; at least {SHORTEST_S:g} s"
                " are needed for a heart rate"
            )
        return codes


def simulate_beats(bundle, chosen, not_run, signal, out, model, speed):
    """Play a recording through libxmae on devices, and write what was read and what it cost.

    Parameters
    ----------
    bundle : Bundle
    chosen : list of (Device, str)
        Devices and the emulator of each.
    not_run : dict of str
        Devices that were left out, and why.
    signal : PlayedSignal
    out : str
        Folder for simulate.json, watch.md, report.html and each device's lines.txt.
    model : str
        Student of the bundle.
    speed : float
        Pace at which lines are shown, times real time; 0 = at once.

    Returns
    -------
    dict
        As `xmae.benchmarks.simulate.simulate`.
    """
    codes = signal.codes()

    def play(profile, emulator, place):
        return play_beats(
            bundle, profile, emulator, codes, place, signal.rate, signal.hop_s, signal.bits, model
        )[0]

    origin = {"student": model, "signature": bundle.verdict.state}
    result = play_all(chosen, not_run, play, signal, origin, out, speed)
    result["summary"].append(str(bundle.verdict))
    return result


def play_all(chosen, not_run, play, signal, origin, out, speed):
    """Play a signal on devices, write the results, and print them.

    Parameters
    ----------
    chosen, not_run, signal, out, speed
        As in `simulate_beats`.
    play : callable
        `play(device, emulator, folder)` returns what `play_beats` does.
    origin : dict
        The student that was played, and whether it is signed.

    Returns
    -------
    dict
        Content of simulate.json, with "summary" and "out".
    """
    able, left = split_devices(chosen)
    with atomic_folder(out, RESULTS) as folder:
        devices = {}
        for profile, emulator in tqdm(able, "devices", disable=len(able) == 1):
            place = folder / profile.name
            place.mkdir()
            played = play(profile, emulator, place)
            guest = {"guest": confinement().words} if emulator.startswith("qemu") else {}
            named = {"title": profile.title, "core": profile.core, "emulator": emulator}
            devices[profile.name] = named | guest | played
            (place / LINES).write_text("\n".join(played["lines"]) + "\n")
        result = {
            "reads": "beats",
            **origin,
            "signal": signal.name,
            "front_end": {"sfreq": signal.rate, "adc_bits": signal.bits, "hop_s": signal.hop_s},
            "kernels": "xmae",
            "note": NOTE,
            "devices": devices,
            "not_run": not_run | left,
            "failures": {name: found for name, one in devices.items() if (found := failures(one))},
        }
        result["passed"] = not result["failures"]
        write_json(folder / RESULTS, result)
        (folder / TABLE).write_text(beat_table.markdown(result) + "\n")
        write_report({"simulate": result}, folder, "xMAE on emulated watches")
    show(next(iter(devices.values())), signal.hop_s, speed)
    tqdm.write(printable(beat_table.terminal(result)))
    guests = sorted({one["guest"] for one in devices.values() if "guest" in one})
    return {
        **result,
        "summary": [*summary_of(result, signal.recording), *guests],
        "out": str(Path(out) / "report.html"),
    }


def split_devices(chosen):
    """Return the devices with a Cortex-M, and why the others cannot run libxmae.

    Raises
    ------
    UserError
        If there is none.
    """
    able = [(device, name) for device, name in chosen if not name.startswith("qemu-user")]
    left = {
        device.name: "a Cortex-M: beats are read by libxmae, which is emulated there only"
        for device, name in chosen
        if name.startswith("qemu-user")
    }
    if not able:
        raise UserError(f"{', '.join(left)}: a student that reads beats is emulated on Cortex-M")
    return able, left


def failures(played):
    """List what is wrong on a device, in words."""
    same, found = played["bit_exact"], []
    if not same["results"]:
        found.append("no result")
    if "first_difference" in same:
        found.append(f"not the bits of {same['with']}: {same['first_difference']}")
    return found + beat_table.broken_limits(played)


def show(played, hop_s, speed):
    """Print the lines of a device, `speed` times as fast as real time; 0 = at once."""
    for line in played["lines"]:
        if speed > 0:
            time.sleep(hop_s / speed)
        tqdm.write(printable(line))


def summary_of(result, recording):
    """Summarise the simulation: the rate, then one line per device."""
    rate = result["front_end"]["sfreq"]
    own = "" if recording.sfreq == rate else f" (the recording has {recording.sfreq:.7g} Hz)"
    turned = "inverted_ppg" in recording.repairs
    over = ", turned over: its pulses fell at systole" if turned else ""
    lines = [f"played at {rate:g} Hz{own}{over}"]
    for name, one in result["devices"].items():
        given = [row["heart_rate_bpm"] for row in one["results"] if row["heart_rate_bpm"]]
        rates = f", median {np.median(given):.1f} bpm" if given else ""
        wrong = "; ".join(result["failures"].get(name, [])) or "as it should be"
        lines.append(
            f"{name}: heart rate in {len(given)} of {len(one['results'])} results{rates}; "
            f"{beat_table.equality(one['bit_exact'])}; {wrong}"
        )
    return lines
