"""Cost model and battery: worked by hand, and the published comparison as it stands in the
repository.
"""

import re
from collections import Counter
from pathlib import Path

import pytest

from xmae.benchmarks.studies.mlperf_tiny import NETWORKS, PUBLISHED, report
from xmae.firmware_sim.cost.battery import CELL_V, CONVERTER, milliamp_hours_per_day
from xmae.firmware_sim.cost.cost import (
    compute_cycles,
    layer_cycles,
    memory_cycles,
    millijoules,
    milliseconds,
)
from xmae.firmware_sim.cost.profile import Span, load_device
from xmae.models.student import count_macs

COMMITTED = Path(__file__).parents[2] / "benchmarks" / "results" / "mlperf_tiny.md"


def test_cycles_by_class_by_hand():
    device = load_device("stm32l4r5")
    cycles = compute_cycles(Counter(alu=100, mac=50, load=10, div=2, loadm=3, words=12), device)
    assert cycles == Span(
        100 + 50 + 10 + 4 + 3 + 12, 100 + 50 + 14 + 14 + 3 + 12, 100 + 50 + 20 + 24 + 3 + 12
    )


def test_constants_that_fit_the_cache_are_read_once():
    device = load_device("stm32l4r5")  # 8 bytes a read, 5 wait cycles, 256 bytes of cache
    mix = Counter(load=1000)
    assert memory_cycles(mix, 256, device) == Span(192, 192, 192)
    # once; half of 4000 loaded bytes; all of them
    assert memory_cycles(mix, 800, device) == Span(600, 1500, 3000)
    assert memory_cycles(mix, 0, device) == Span(0, 0, 0)


def test_a_layer_takes_the_larger_of_compute_and_memory():
    device = load_device("stm32l4r5")
    compute_bound, memory_bound = Counter(alu=10_000, load=10), Counter(alu=10, load=10)
    assert (
        layer_cycles(compute_bound, 80, device).value == compute_cycles(compute_bound, device).value
    )
    assert (
        layer_cycles(memory_bound, 80_000, device).value
        == memory_cycles(memory_bound, 80_000, device).value
    )
    both = layer_cycles(memory_bound, 80_000, device)
    assert (
        both.high
        == compute_cycles(memory_bound, device).high
        + memory_cycles(memory_bound, 80_000, device).high
    )


def test_time_and_energy_at_the_clock():
    device = load_device("stm32l4r5")  # 120 MHz
    time = milliseconds(Span(12e6, 12e6, 24e6), device)
    assert (time.low, time.value, time.high) == pytest.approx((100, 100, 200))
    assert millijoules(time, Span(10, 20, 20)).value == pytest.approx(2)


def test_charge_of_a_day_by_hand():
    charge = milliamp_hours_per_day(Span(1, 1, 1), Span(0.1, 0.1, 0.1), 10, Span(0.05, 0.05, 0.05))
    mj = 8640 * 1 + 0.05 * (86400 - 864)
    assert charge.value == pytest.approx(mj / 3600 / CELL_V / CONVERTER)


@pytest.mark.parametrize(("name", "macs"), [("ResNet-8", 12.5e6), ("DS-CNN", 2.66e6)])
def test_rebuilt_networks_have_the_published_size(name, macs):
    network, shape = NETWORKS[name]()
    assert count_macs(network.eval(), shape) == pytest.approx(macs, rel=0.01)


def test_report_states_the_error_of_each_published_number():
    cost = {"macs": 10**6, "instructions": 2 * 10**6, "exact": True}
    rows = [
        {
            "device": "d",
            "network": "n",
            "published_ms": 2.0,
            "software": "s",
            "estimated": Span(1, 3, 4),
            **cost,
        }
    ]
    assert "| +50% | yes | yes |" in report(rows)
    committed = COMMITTED.read_text()
    assert "estimated" in committed and "Root mean square error" in committed
    for device, network, ms, software in PUBLISHED:
        line = next(
            line for line in committed.splitlines() if line.startswith(f"| {device} | {network} |")
        )
        assert (
            f"{ms} ({software})" in line
            and re.search(r"[+-]\d+%", line)
            and line.endswith("| yes |")
        )
