"""The tracker in C against the one in Python: every bit of every belief, under sanitizers."""

import subprocess

import numpy as np
import pytest

from xmae.beats.certainty import Certainty
from xmae.beats.tracker import LEVELS, REACH, Evidence, Removal, Tracker, TrackerTable
from xmae.firmware_sim.build.compile import KERNELS, compile_host

LIBRARY = KERNELS.parent / "library"
FIXTURES = KERNELS.parents[3] / "tests" / "fixtures"
SECONDS = 40


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tracker")
    return compile_host(
        [LIBRARY / "src" / "xmae_tracker.c", FIXTURES / "host_tracker.c"],
        folder / "host",
        include=[LIBRARY / "include", LIBRARY / "src"],
        shared=False,
        sanitize=True,
    )


def table(rng, removal):
    """Return a table that nobody chose: likelier where levels of map and PPG are high."""
    level = np.arange(LEVELS) / LEVELS
    likely = 40000 * (level[:, None] + level) * rng.uniform(0.7, 1.0, (LEVELS, LEVELS))
    transition = np.array([2400, 500, 200, 80, 40, 20, 8])
    assert len(transition) == REACH + 1
    evidence = np.clip(likely, 1, 65535).astype(np.int64)
    certainty = Certainty(np.arange(3200, 0, -200), 60)
    return TrackerTable(evidence, transition, certainty, removal)


def signals(rng, channels):
    """Return seconds of int8 samples (channels, 100 SECONDS) and maps (25 SECONDS, 3): waves,
    noise, silence, rails.
    """
    t = np.arange(100 * SECONDS) / 100
    waves = [np.sin(2 * np.pi * (1.1 + 0.3 * c) * t + 0.01 * t**2) for c in range(channels)]
    x = np.clip(90 * np.stack(waves) + 30 * rng.standard_normal((channels, len(t))), -127, 127)
    x[:, 1200:1500], x[:, 2000:2100] = 0, 127
    angle = 2 * np.pi * 1.3 * np.arange(25 * SECONDS) / 25
    codes = np.stack([np.cos(angle), np.sin(angle), 0 * angle], 1) * 60 + rng.normal(
        0, 20, (len(angle), 3)
    )
    return x.astype(np.int8), np.clip(np.rint(codes), -255, 255).astype(np.int64)


@pytest.mark.parametrize(
    ("channels", "unit", "removal"),
    [
        (4, 77, Removal(3, 150)),
        (4, 0, Removal(4, 1000)),
        (1, 100, Removal(2, 0)),
        (1, 0, Removal(3, 50)),
    ],
)
def test_tracker_in_c_gives_the_bits_of_python(host, channels, unit, removal):
    rng = np.random.default_rng(channels + unit)
    known, (x, codes) = table(rng, removal), signals(rng, channels)
    evidence, tracker, expected = Evidence(max(unit, 1)), Tracker(known), []
    data = [
        np.array([SECONDS, channels, unit], "<i4").tobytes(),
        known.evidence.astype("<u2").tobytes(),
    ]
    data += [
        known.transition.astype("<u2").tobytes(),
        known.certainty.half_width.astype("<u2").tobytes(),
    ]
    data.append(np.array([removal.lean], "<u2").tobytes())
    data.append(np.array([removal.quarters, known.certainty.least], np.uint8).tobytes())
    for k in range(SECONDS):
        second, outputs = x[:, 100 * k : 100 * k + 100], codes[25 * k : 25 * k + 25]
        data.append(second.T.tobytes())
        if unit:
            data.append(outputs.astype("<i2").tobytes())
        evidence.push(second[None], outputs[None] if unit else None)
        tracker.push(evidence.levels(removal))
        rate, sure = (int(v[0]) for v in tracker.read())
        sure = sure if k >= 9 else 0
        given = k >= 9 and sure >= known.certainty.least
        low, high = (max(3000, rate - 0), 0) if not given else known.certainty.interval(rate, sure)
        low, high = (max(3000, int(low)), min(22000, int(high))) if given else (0, 0)
        expected.append([rate, sure, int(given), low, high, *tracker.belief[0]])
    (host.parent / "in.bin").write_bytes(b"".join(data))
    subprocess.run([host], cwd=host.parent, check=True, capture_output=True)
    raw = (host.parent / "out.bin").read_bytes()
    rows = np.frombuffer(raw, np.dtype([("head", "<i4", 5), ("belief", "<u2", 96)]))
    made = np.concatenate([rows["head"], rows["belief"].astype(np.int64)], 1)
    np.testing.assert_array_equal(made, np.array(expected))
    assert len(np.unique(made[:, 0])) > 3
