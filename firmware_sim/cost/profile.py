"""Devices: one JSON file each under `devices/`, where every number says where it comes from.

A number is a value with a range; a range is what its source leaves open, and every estimate carries
it on.
"""

from dataclasses import dataclass
from pathlib import Path

from xmae.errors import UserError
from xmae.files import read_json

DEVICES = Path(__file__).parent / "devices"
# bytes: what `student-mcu` may take
BUDGET = {"weights": 192 * 1024, "code": 16 * 1024, "ram": 64 * 1024}


@dataclass(frozen=True)
class Span:
    """A number with a range: `low` <= `value` <= `high`."""

    low: float
    value: float
    high: float

    def __add__(self, other):
        return Span(self.low + other.low, self.value + other.value, self.high + other.high)

    def __mul__(self, factor):
        if isinstance(factor, Span):
            return Span(self.low * factor.low, self.value * factor.value, self.high * factor.high)
        return Span(self.low * factor, self.value * factor, self.high * factor)

    @classmethod
    def read(cls, described):
        """Make a `Span` from the output of `describe`."""
        return cls(described["low"], described["estimated"], described["high"])

    def describe(self, digits=4):
        """Return the range as plain numbers: {"estimated", "low", "high"}."""
        return {
            key: float(f"{number:.{digits}g}")
            for key, number in (("estimated", self.value), ("low", self.low), ("high", self.high))
        }


@dataclass(frozen=True)
class Device:
    """A device profile.

    Attributes
    ----------
    name, title, core : str
        File name; words; core as `xmae.firmware_sim.build.compile` names it, or "a53", "a55".
    emulators : list of str
        Emulators that can run it, the preferred one first: keys of
        `xmae.firmware_sim.emulators.registry.NEEDS`.
    clock_mhz, active_mw, sleep_mw : Span
        Clock, MHz; power while computing, and while asleep with RAM kept, mW, without sensor, radio
        and display.
    flash_kib, ram_kib : Span
        Memory, KiB.
    cycles : dict of Span
        Cycles by class of instruction (`xmae.firmware_sim.emulators.counts.classify`),
        "instruction" for all at once.
    line_bytes, wait_cycles, data_cache_bytes : Span or None
        Flash: bytes of one read; cycles that the core waits for it; cache for constants, bytes.
    npu : dict or None
        Accelerator: its name for Vela, and Spans `clock_mhz`, `active_mw`, `latency_share`.
    sources : dict
        Source of each number.
    """

    name: str
    title: str
    core: str
    emulators: list
    clock_mhz: Span
    active_mw: Span
    sleep_mw: Span
    flash_kib: Span
    ram_kib: Span
    cycles: dict
    line_bytes: Span | None
    wait_cycles: Span | None
    data_cache_bytes: Span | None
    npu: dict | None
    sources: dict

    @property
    def ram_bytes(self):
        """Return the RAM of the device."""
        return int(self.ram_kib.value * 1024)

    @property
    def flash_bytes(self):
        """Return the flash of the device."""
        return int(self.flash_kib.value * 1024)


def device_names():
    """Return the names of all profiles."""
    return sorted(path.stem for path in DEVICES.glob("*.json"))


def load_device(name):
    """Read the profile of a device.

    Parameters
    ----------
    name : str
        One of `device_names()`.

    Returns
    -------
    Device

    Raises
    ------
    UserError
        If there is no such device.
    """
    if name not in device_names():
        raise UserError(f"unknown device '{name}'; known: {', '.join(device_names())}")
    profile = read_json(DEVICES / f"{name}.json")
    flash, npu = profile.get("flash", {}), profile.get("npu")
    numbers = ("clock_mhz", "active_mw", "sleep_mw", "flash_kib", "ram_kib")
    memory = ("line_bytes", "wait_cycles", "data_cache_bytes")
    sources = {key: profile[key]["source"] for key in numbers} | {
        key: flash[key]["source"] for key in flash
    }
    return Device(
        name,
        profile["title"],
        profile["core"],
        profile["emulators"],
        **{key: span(profile[key]) for key in numbers},
        **{key: span(flash[key]) if key in flash else None for key in memory},
        cycles={key: Span(*three) for key, three in profile["cycles"].items() if key != "source"},
        npu=npu
        and {key: span(value) if isinstance(value, dict) else value for key, value in npu.items()},
        sources=sources | {"cycles": profile["cycles"]["source"]},
    )


def span(number):
    """Convert a number of a profile to a `Span`; without a range it is exact."""
    value = number["value"]
    return Span(number.get("low", value), value, number.get("high", value))
