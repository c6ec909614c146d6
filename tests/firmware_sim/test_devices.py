"""Device profiles: complete, consistent, and a source for every number."""

import json

import pytest

from xmae.errors import UserError
from xmae.firmware_sim.cost.profile import DEVICES, Span, device_names, load_device
from xmae.firmware_sim.emulators.registry import NEEDS

# the classes of xmae.firmware_sim.emulators.counts
CLASSES = {
    "alu",
    "mul",
    "mac",
    "div",
    "load",
    "store",
    "loadm",
    "storem",
    "words",
    "branch",
    "fp",
    "system",
    "other",
}
HELIUM = {"mve_alu", "mve_mac", "mve_load", "mve_store", "loop"}


def test_the_devices_that_a_watch_team_asks_about_are_there():
    cores = {load_device(name).core for name in device_names()}
    assert {"m4", "m33", "m7", "m55", "a53", "a55"} <= cores
    clocks = {
        load_device(name).core: load_device(name).clock_mhz.value
        for name in ("apollo4", "stm32u5", "stm32h7")
    }
    assert clocks == {"m4": 192, "m33": 160, "m7": 480}
    assert load_device("ensemble-m55").npu["accelerator"] == "ethos-u55-128"


@pytest.mark.parametrize("name", device_names())
def test_every_number_has_a_source_and_a_range(name):
    def check(value, path):
        if isinstance(value, dict) and "value" in value:
            assert len(value["source"]) > 10, path
            assert (
                value.get("low", value["value"])
                <= value["value"]
                <= value.get("high", value["value"])
            ), path
        elif isinstance(value, dict):
            for key, item in value.items():
                check(item, f"{path}.{key}")
        else:
            assert not isinstance(value, int | float), f"{path}: a number without a source"

    profile = json.loads((DEVICES / f"{name}.json").read_text())
    cycles = profile.pop("cycles")
    assert len(cycles.pop("source")) > 10
    assert all(low <= typical <= high for low, typical, high in cycles.values())
    check(profile, name)
    device = load_device(name)
    assert set(device.emulators) <= set(NEEDS)
    if "instruction" not in device.cycles:
        wanted = CLASSES | (HELIUM if device.core == "m55" else set())
        assert wanted == set(device.cycles)


def test_unknown_device_is_named():
    with pytest.raises(UserError, match="unknown device 'pebble'; known: apollo4"):
        load_device("pebble")


def test_spans_add_and_multiply_end_by_end():
    assert Span(1, 2, 3) + Span(1, 1, 1) == Span(2, 3, 4)
    assert Span(1, 2, 3) * Span(2, 2, 4) == Span(2, 4, 12)
    assert (Span(1, 2, 3) * 2).describe() == {"estimated": 4, "low": 2, "high": 6}
