"""The traps: the same on every machine, scored by exact truth, for any program."""

import hashlib
import sys

import numpy as np
import pytest

from xmae.benchmarks import torture as module
from xmae.cli import main
from xmae.errors import UserError
from xmae.files import read_json
from xmae.twin.traps import ACC_SFREQ, ONE_G, SECONDS, draw_traps, make, traps, with_noise


@pytest.fixture(scope="module")
def few():
    return [
        make("rest", seed=1),
        make("no pulse", pulseless=(20, 70), change=with_noise(0.1), seed=20),
    ]


@pytest.fixture
def only_few(few, monkeypatch):
    monkeypatch.setattr(module, "traps", lambda: few)


def oracle(codes, sfreq, bits):
    """Answer 72 bpm each second."""
    return [(t, 72.0, 1.0) for t in range(10, 80)]


def test_traps_are_the_same_each_time(few):
    again = make("rest", seed=1)
    assert (
        hashlib.sha256(again.codes.tobytes()).digest()
        == hashlib.sha256(few[0].codes.tobytes()).digest()
    )
    assert again.codes.min() >= 0 and again.codes.max() < 1 << 16


def test_truth_is_that_of_the_pulses(few):
    rates = few[0].true_rate(np.arange(15.0, 75.0))
    assert np.isfinite(rates).all() and 66 < rates.min() < rates.max() < 78
    empty = few[1].empty(np.array([15.0, 35.0, 60.0]))
    assert empty.tolist() == [False, True, True]
    assert np.isnan(few[1].true_rate(np.array([35.0]))).all()


def test_shipped_student_reads_rest_and_is_silent_without_a_pulse(only_few, tmp_path):
    result = module.torture(out=str(tmp_path))
    rest, nothing = result["rows"]
    assert rest["answered"] > 0.95 and rest["wrong_but_sure"] == 0 and rest["median_error"] < 0.5
    assert nothing["wrong_but_sure"] < 0.1
    assert "| rest |" in (tmp_path / "torture.md").read_text()
    assert read_json(tmp_path / "torture.json")["rows"] == result["rows"]


def test_answers_where_there_is_no_pulse_are_wrong(only_few, tmp_path):
    result = module.torture(f"python:{__name__}:oracle", str(tmp_path))
    assert result["rows"][0]["wrong_but_sure"] == 0 and result["rows"][1]["wrong_but_sure"] > 0.5


def test_any_program_can_be_run(only_few, tmp_path):
    script = tmp_path / "program.py"
    script.write_text(
        "import sys\nrate, bits = sys.stdin.readline().split()\nn = sum(1 for _ in sys.stdin)\n"
        "for t in range(10, int(n / float(rate))):\n    print(t, 72.0)\n"
    )
    result = module.torture(f"command:{sys.executable} {script}", str(tmp_path / "out"))
    assert result["rows"][0]["answered"] == 1


@pytest.mark.parametrize(
    "program",
    [
        "nobody",
        "python:nowhere:f",
        "command:/nonexistent/program",
        f"command:{sys.executable} -c 'exit(3)'",
    ],
)
def test_programs_that_cannot_run_are_one_line(program, only_few, tmp_path, capsys):
    assert main(["torture", "--program", program, "--out", str(tmp_path / "out")]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()[-1:]) == 1


@pytest.mark.extended
def test_every_trap_has_truth():
    for trap in traps():
        assert len(trap.codes) > 0.9 * SECONDS * trap.sfreq and np.isfinite(
            trap.true_rate(np.array([20.0]))
        )


def test_the_traps_are_those_that_were_drawn():
    for pinned, drawn in zip(traps(), draw_traps(), strict=True):
        assert (pinned.name, pinned.sfreq, pinned.bits) == (drawn.name, drawn.sfreq, drawn.bits)
        assert np.abs(pinned.codes - drawn.codes).max() <= max(1, 2 ** (pinned.bits - 14))
        np.testing.assert_allclose(pinned.pulses, drawn.pulses, atol=1e-4)
        np.testing.assert_array_equal(pinned.readable, drawn.readable)
        assert np.abs(pinned.acceleration - drawn.acceleration).max() <= 1


def test_the_accelerometer_sees_a_cadence_where_there_is_one_and_else_gravity():
    for trap in traps():
        moved = trap.acceleration - trap.acceleration.mean(1, keepdims=True)
        if not trap.cadence:
            assert not moved.any()
            assert np.linalg.norm(trap.acceleration[:, 0]) == pytest.approx(ONE_G, rel=1e-3)
            continue
        rate = 60 * np.abs(np.fft.rfft(moved[0])).argmax() / SECONDS
        ratio = rate / np.nanmedian(trap.true_rate(np.arange(15.0, 80.0)))
        assert min(abs(ratio - r) for r in (0.5, 1.03, 1.4, 2.0)) < 0.05


def test_with_acceleration_a_heart_rate_beside_a_cadence_is_read_that_is_refused_without(
    monkeypatch, tmp_path
):
    elsewhere = next(trap for trap in traps() if trap.name.startswith("cadence elsewhere"))
    monkeypatch.setattr(module, "traps", lambda: [elsewhere])
    (without,) = module.torture("beats-mcu", str(tmp_path))["rows"]
    (worn,) = module.torture("student-motion", str(tmp_path))["rows"]
    assert without["answered"] < 0.1
    assert worn["answered"] > 0.8 and worn["wrong_but_sure"] <= 0.01


def test_a_function_gets_the_acceleration_if_it_asks_for_it(only_few, few, monkeypatch, tmp_path):
    seen = []

    def asking(codes, sfreq, bits, acceleration):
        seen.append(acceleration.shape)
        return [(t, 72.0, 1.0) for t in range(10, 80)]

    monkeypatch.setattr(sys.modules[__name__], "oracle", asking)
    module.torture(f"python:{__name__}:oracle", str(tmp_path))
    assert seen == [(3, int(SECONDS * ACC_SFREQ))] * len(few)


def test_a_damaged_trap_is_refused(monkeypatch):
    monkeypatch.setattr("xmae.twin.traps.digest", lambda codes: "0")
    with pytest.raises(UserError, match="trap 'rest, 72 bpm' is damaged"):
        traps()
