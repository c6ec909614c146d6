"""`xmae simulate` of a student that reads beats: a line a second, the bits of `xmae.Stream`, exit
code 1 if not.
"""

import json
from dataclasses import replace

import numpy as np
import pytest

from xmae.benchmarks import simulate_beats as verb
from xmae.benchmarks.simulate import simulate
from xmae.data.bidmc import bidmc_files
from xmae.errors import UserError
from xmae.export.stream import StreamResult
from xmae.firmware_sim.play_beats import encoded, equality_of, pushes_of, results_of

PATIENT = str(next(path for path in bidmc_files() if path.stem == "bidmc34"))


def result(time=6400, **fields):
    whole = {"rate": 7000, "low": 6900, "high": 7100, "certainty": 200, "beats": ((10, 9),)}
    rest = {"irregularity": 5, "rhythm": 1, "lost": 0, "saturated": 0, "status": 0}
    return StreamResult(time, **(whole | rest | fields))


@pytest.fixture(scope="module")
def played(beat_bundle, tmp_path_factory):
    pytest.importorskip("unicorn")
    out = tmp_path_factory.mktemp("beats") / "out"
    return out, simulate(str(beat_bundle.path), "apollo4", PATIENT, str(out), seconds=14)


def test_a_line_a_second_with_the_bits_of_stream(played):
    out, found = played
    one = found["devices"]["apollo4"]
    assert found["passed"] and not found["failures"]
    assert one["bit_exact"] == {"results": 12, "equal": 12, "with": "xmae.Stream"}
    assert len(one["lines"]) == 12 and "bpm (" in one["lines"][-1] and "sure" in one["lines"][-1]
    assert (out / "apollo4" / "lines.txt").read_text().splitlines() == one["lines"]
    last = one["results"][-1]
    assert last["low_bpm"] <= last["heart_rate_bpm"] <= last["high_bpm"]
    assert one["results"][0]["reasons"] == ["less than 10 s of signal", "not sure enough"] or (
        "less than 10 s of signal" in one["results"][0]["reasons"]
    )
    assert sum(len(row["beats_s"]) for row in one["results"]) >= 8
    assert 0 < one["counts"]["instructions_a_second"] <= 1_000_000
    assert one["memory"]["instance"] <= 44 * 1024
    assert one["estimated"]["mah_per_day"]["low"] > 0


def test_the_page_shows_them(played):
    out, found = played
    page, saved = (out / "report.html").read_text(), json.loads((out / "simulate.json").read_text())
    assert "second by second" in page and "same bits as xmae.Stream" in page
    assert saved["reads"] == "beats" and saved["devices"]["apollo4"]["results"]
    assert "12 of 12 results" in (out / "watch.md").read_text()
    assert any("heart rate in" in line for line in found["summary"])


def test_another_bit_is_a_failure():
    same = equality_of([result(), result(beats=((10, 8),))], [result(), result()])
    assert same["equal"] == 1 and same["first_difference"] == "result 2, beats"
    limits = {"ram": {"met": True}}
    assert verb.failures({"bit_exact": same, "limits": limits}) == [
        "not the bits of xmae.Stream: result 2, beats"
    ]
    fewer = equality_of([result()], [result(), result()])
    assert "1 results on the device" in fewer["first_difference"]
    assert equality_of([result()], [result()]) == {
        "results": 1, "equal": 1, "with": "xmae.Stream"
    }  # fmt: skip


def test_lost_codes_are_told_before_those_that_follow():
    codes = np.arange(100.0)
    codes[[3, 4, 30, 31]] = np.nan
    pushes = pushes_of(codes, 100)
    assert sum(len(part) for part, _ in pushes) == 96 and sum(lost for _, lost in pushes) == 4
    assert [lost for part, lost in pushes if part[0] == 5] == [2]
    words = np.frombuffer(encoded(100, 16, False, 1, pushes), "<i4")
    assert words[:4].tolist() == [100_000, 16, 0, 1] and words[4:6].tolist() == [0, 3]


def test_rows_become_results():
    row = [6400, 7000, 6900, 7100, 200, 5, 1, 0, 0, 0, 10, 9] + [-1, 0] * 39
    assert results_of(np.array(row, "<i8").tobytes()) == [result()]
    with pytest.raises(UserError, match="middle of a result"):
        results_of(b"12345678")


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"sfreq": 600}, "600 Hz"), ({"adc_bits": 7}, "7 bits"), ({"seconds": 5}, "at least 12 s")],
)
def test_settings_out_of_range_are_refused(beat_bundle, tmp_path, settings, message):
    pytest.importorskip("unicorn")
    with pytest.raises(UserError, match=message):
        simulate(str(beat_bundle.path), "apollo4", PATIENT, str(tmp_path / "out"), **settings)


def test_a_cortex_a_is_left_out():
    class Device:
        name = "snapdragon-a53"

    with pytest.raises(UserError, match="Cortex-M"):
        verb.split_devices([(Device(), "qemu-user")])


def test_results_compare_by_every_field():
    for name, value in {"rate": 1, "lost": 3, "status": 16, "rhythm": 2}.items():
        same = equality_of([replace(result(), **{name: value})], [result()])
        assert same["first_difference"] == f"result 1, {name}"
