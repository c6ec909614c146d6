"""Readers: every format gives what was written; damaged or senseless files give one clear line."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import wfdb

from xmae.data import Recording
from xmae.data.bidmc import bidmc_files
from xmae.data.prepare.inputs import find_recordings
from xmae.data.recording.channels import ChannelMap
from xmae.data.recording.readers import find_in_folder, read_recording, read_recordings
from xmae.data.recording.readers.npz import breath_rate
from xmae.errors import UserError

BIDMC = bidmc_files()[0]
NCKU = Path(__file__).parents[1] / "fixtures" / "ncku_static.npz"


@pytest.fixture(scope="module")
def excerpt():
    recording = read_recording(BIDMC)
    return recording.ppg[:2500], recording.ecg[:2500]


def test_npz_of_bidmc():
    recording = read_recording(BIDMC)
    with np.load(BIDMC) as raw:
        np.testing.assert_allclose(recording.ecg, raw["ecg"] * raw["ecg_scale"] + raw["ecg_offset"])
        np.testing.assert_allclose(recording.ppg, raw["ppg"] * raw["ppg_scale"] + raw["ppg_offset"])
        monitor = np.nanmedian(raw["rr"])
    assert (recording.subject, recording.record, recording.sfreq) == ("s01182", "bidmc01", 125)
    assert (recording.labels["age"], recording.labels["sex"]) == (88, "M")
    values, rate = recording.labels["rr"]
    assert rate == 1 and len(values) == 480
    # from the marked breaths, near what the monitor says
    assert abs(np.nanmedian(values) - monitor) < 3


def test_npz_marks_missing_samples():
    recording = read_recording(NCKU)
    with np.load(NCKU) as raw:
        missing = raw["ecg"] == -32768
    assert recording.sfreq == 50 and missing.sum() == 24
    np.testing.assert_array_equal(np.isnan(recording.ecg), missing)
    assert np.isfinite(recording.ppg).all()


def test_breath_rate_counts_breaths():
    marks = np.arange(1, 60, 4.0)  # one breath in 4 s: 15 a minute
    rate = breath_rate([marks], 60)
    assert np.isnan(rate[0]) and np.isnan(rate[-3:]).all()
    np.testing.assert_allclose(rate[1:57], 15)
    uneven = np.cumsum(np.random.default_rng(0).uniform(2, 5, 30))
    second, last = int(np.ceil(uneven[0])), int(uneven[-1])
    passed = np.nansum(breath_rate([uneven], uneven[-1])[second:last]) / 60
    # all breaths, but for the broken seconds at both ends
    assert abs(passed - (len(uneven) - 1)) < 1


@pytest.mark.parametrize(
    "names", [("II", "PLETH"), ("II,", "Pleth"), ("ECG", "BVP"), ("MLII", "PPG")]
)
def test_wfdb_gives_back_what_was_written(tmp_path, excerpt, names):
    ppg, ecg = excerpt
    signals = np.stack([np.zeros(2500), ecg, ppg], axis=1)
    wfdb.wrsamp(
        "rec1", fs=125, units=["x", "mV", "NU"], sig_name=["RESP", *names], p_signal=signals,
        fmt=["16"] * 3, comments=["<age>: 61  <sex>: F <location>: micu"], write_dir=str(tmp_path),
    )  # fmt: skip
    for path in (tmp_path / "rec1.hea", tmp_path / "rec1"):
        recording = read_recording(path)
        assert (recording.record, recording.sfreq) == ("rec1", 125)
        assert recording.labels == {"age": 61, "sex": "F"}
        np.testing.assert_allclose(recording.ppg, ppg, atol=1e-4)
        np.testing.assert_allclose(recording.ecg, ecg, atol=1e-4)
    (tmp_path / "rec1.dat").write_bytes((tmp_path / "rec1.dat").read_bytes()[:3000])
    with pytest.raises(UserError, match="rec1.hea"):
        read_recording(tmp_path / "rec1.hea")


def write_wfdb(folder, record, channel, unit, x):
    """Write a WFDB record of one signal at 125 Hz."""
    wfdb.wrsamp(
        record, 125, [unit], [channel], p_signal=x[:, None], fmt=["16"], write_dir=str(folder)
    )


def test_wfdb_keeps_missing_samples_and_does_without_ecg(tmp_path, excerpt):
    ppg = excerpt[0].copy()
    ppg[100:200] = np.nan
    write_wfdb(tmp_path, "r", "PLETH", "NU", ppg)
    recording = read_recording(tmp_path / "r.hea")
    assert recording.ecg is None
    np.testing.assert_array_equal(np.isnan(recording.ppg), np.isnan(ppg))


def test_wfdb_refuses_what_it_cannot_read(tmp_path, excerpt):
    ppg, ecg = excerpt
    wfdb.wrsamp(
        "two", fs=62.5, units=["NU", "mV"], sig_name=["PLETH", "II"], fmt=["16"] * 2,
        samps_per_frame=[1, 2], e_p_signal=[ppg[:1250], ecg], write_dir=str(tmp_path),
    )  # fmt: skip
    both = read_recording(tmp_path / "two.hea")  # brought to one clock
    assert both.sfreq == 200 and len(both.ppg) == len(both.ecg) == 4000
    expected = np.interp(np.arange(4000) / 200, np.arange(2500) / 125, ecg)
    assert np.corrcoef(both.ecg[200:-200], expected[200:-200])[0, 1] > 0.98
    write_wfdb(tmp_path, "no", "II", "mV", ecg)
    with pytest.raises(UserError, match="no PPG among its channels"):
        read_recording(tmp_path / "no.hea")
    (tmp_path / "bad.hea").write_text("not a header")
    with pytest.raises(UserError, match="bad.hea"):
        read_recording(tmp_path / "bad.hea")
    with pytest.raises(UserError, match="no such file"):
        read_recording(tmp_path / "absent.hea")


def test_csv_gives_back_what_was_written(tmp_path, excerpt):
    ppg, ecg = excerpt
    path, time = tmp_path / "walk.csv", np.round(np.arange(2500) / 125, 3)
    pd.DataFrame({"Time": time, "PPG": ppg, "ECG": ecg}).to_csv(path, index=False)
    recording = read_recording(path)
    assert recording.subject == "walk" and abs(recording.sfreq - 125) < 0.01
    np.testing.assert_allclose(recording.ppg, ppg)
    np.testing.assert_allclose(recording.ecg, ecg)
    assert read_recording(path, sfreq=125).sfreq == 125
    with pytest.raises(UserError, match="contradicts"):
        read_recording(path, sfreq=100)
    pd.DataFrame({"ppg": np.where(np.arange(2500) == 7, np.nan, ppg)}).to_csv(path, index=False)
    recording = read_recording(path, sfreq=125)
    assert recording.ecg is None and np.flatnonzero(np.isnan(recording.ppg)).tolist() == [7]
    with pytest.raises(UserError, match="no sampling rate"):
        read_recording(path)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_names_of_people_that_look_like_numbers_stay(tmp_path, excerpt, suffix):
    table = pd.DataFrame({"subject": ["007"] * 1250 + ["07"] * 1250, "ppg": excerpt[0]})
    path = tmp_path / f"walk.{suffix}"
    table.to_csv(path, index=False) if suffix == "csv" else table.to_parquet(path)
    recordings = list(read_recordings(path, ChannelMap(sfreq=125)))
    assert [recording.subject for recording in recordings] == ["007", "07"]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (
            "time,ppg\n" + "\n".join(f"{t},{t % 7}" for t in [*range(20), *range(40, 60)]),
            "rate 1 Hz",
        ),
        (
            "time,ppg\n" + "\n".join(f"0,{t % 7}" for t in range(2000)),
            "stands still or goes back in row 2",
        ),
        (
            "time,ppg\n" + "\n".join(f"{t / 50 - (t > 900)},{t % 7}" for t in range(2000)),
            "goes back in row 902",
        ),
        ("time,ppg\n" + "\n".join(f"{(t / 90) ** 2},{t % 7}" for t in range(2000)), "not uniform"),
        (
            "time,ppg\n" + "\n".join(f"{t * 8},{t % 7}" for t in range(2000)),
            "0.125 Hz; its times look like ms",
        ),
        ("a,b\n1,2\n", "no column 'ppg'; there are a, b; name it in a channel map"),
        ("time,ppg\nnow,1\nthen,2\n", "column 'time' holds 'now' in row 1; expected seconds"),
        ("ppg\nred\n", "not readable"),
        ("", "not readable"),
    ],
)
def test_csv_refuses(tmp_path, content, complaint):
    path = tmp_path / "bad.csv"
    path.write_text(content)
    with pytest.raises(UserError, match=complaint):
        read_recording(path)


def test_npz_refuses(tmp_path):
    path = tmp_path / "cut.npz"
    whole = BIDMC.read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 30):
        path.write_bytes(whole[:size])
        with pytest.raises(UserError, match="cut.npz"):
            read_recording(path)
    damaged = bytearray(whole)
    damaged[3000] ^= 255
    path.write_bytes(damaged)
    with pytest.raises(UserError, match="cut.npz"):
        read_recording(path)
    np.savez(path, ppg=np.sin(np.arange(5000)))
    with pytest.raises(UserError, match="no sampling rate 'fs'"):
        read_recording(path)
    np.savez(path, ecg=np.sin(np.arange(5000)), fs=125)
    with pytest.raises(UserError, match="no 'ppg'"):
        read_recording(path)
    np.savez(path, ppg=np.array([{"a": 1}], dtype=object), fs=125)  # a pickle is not executed
    with pytest.raises(UserError, match="cut.npz"):
        read_recording(path)
    with pytest.raises(UserError, match="no such file"):
        read_recording(tmp_path / "absent.npz")
    (tmp_path / "notes.xyz").write_text("ppg")
    with pytest.raises(UserError, match="cannot read this kind"):
        read_recording(tmp_path / "notes.xyz")
    with pytest.raises(UserError, match="contradicts"):
        read_recording(BIDMC, sfreq=100)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"ppg": np.full(2500, 0.46)}, "flat"),
        ({"ppg": np.full(2500, np.nan)}, "flat or missing"),
        (
            {"ppg": np.where(np.arange(2500) == 9, np.inf, np.sin(np.arange(2500)))},
            "ppg has infinite",
        ),
        ({"ecg": np.where(np.arange(2500) == 9, -np.inf, 0.0)}, "ecg has infinite"),
        ({"ecg": np.zeros(2499)}, "2500 samples but ecg 2499"),
        ({"sfreq": 300.0}, "8.3 s long"),
        ({"sfreq": 1.0}, "sampling rate 1 Hz"),
        ({"sfreq": float("nan")}, "sampling rate nan"),
        ({"sfreq": 125e3}, "sampling rate 125000 Hz"),
        ({"ppg": np.zeros((3, 2500))}, "one row"),
    ],
)
def test_recording_refuses(excerpt, change, complaint):
    good = {"ppg": excerpt[0], "ecg": excerpt[1], "sfreq": 125.0}
    Recording("s", "rec", **good)
    with pytest.raises(UserError, match=f"rec: .*{complaint}"):
        Recording("s", "rec", **(good | change))


def test_a_folder_gives_its_recordings_and_what_was_passed_over(tmp_path):
    (tmp_path / "subjects.csv").write_text("record,age\na,1\n")
    (tmp_path / "notes.xyz").write_text("ppg")
    (tmp_path / "walk.csv").write_text("time;PPG (a.u.)\n0;1\n")
    (tmp_path / "a.hea").write_text("a 1 125 100\na.dat 16 1/NU 16 0 0 0 0 PLETH\n")
    (tmp_path / "an.hea").write_text("an 1 1 100\nan.dat 16 1/pm 16 0 0 0 0 HR\n")
    found, others = find_in_folder(tmp_path)
    assert [path.name for path in found] == ["a.hea", "walk.csv"]
    assert [path.name for path in others] == ["an.hea", "subjects.csv"]
    assert find_recordings([str(tmp_path)])[1] == {".hea": 1, ".csv": 1}
    assert find_in_folder(tmp_path, ChannelMap({"ppg": ["green"]}))[0] == []
    (tmp_path / "a.hea").unlink(), (tmp_path / "walk.csv").unlink()
    with pytest.raises(
        UserError,
        match="no PPG in the 2 files .* such as .*an.hea: no PPG among its channels .'HR'",
    ):
        find_recordings([str(tmp_path)])
    (tmp_path / "an.hea").unlink()
    with pytest.raises(
        UserError,
        match="such as .*subjects.csv: no channel 'pgg' for ppg, .*; there are record, age",
    ):
        find_recordings([str(tmp_path)], ChannelMap({"ppg": "pgg"}))


def test_stores_in_a_folder_are_no_recordings(tmp_path):
    for place in ("store", ".other.part"):
        (tmp_path / place).mkdir()
        pd.DataFrame({"ppg": [1.0]}).to_parquet(tmp_path / place / "00000-a.parquet")
    (tmp_path / "store" / "store.json").write_text("{}")
    (tmp_path / "walk.csv").write_text("time,ppg\n0,1\n")
    assert find_in_folder(tmp_path) == ([tmp_path / "walk.csv"], [])


TIMES = {  # as exports write them: name of the column, values from seconds, start of the recording
    "dates": (
        "time",
        lambda t: pd.Timestamp("2024-05-06 07:08:09") + pd.to_timedelta(t, "s"),
        "2024-05-06T07:08:09",
    ),
    "zone": (
        "time",
        lambda t: pd.Timestamp("2024-05-06 09:08+0200") + pd.to_timedelta(t, "s"),
        "2024-05-06T07:08:00",
    ),
    "unit": ("Timestamp (ms)", lambda t: np.rint(1.7e12 + 1000 * t), "2023-11-14T22:13:20"),
    "epoch": ("timestamp", lambda t: 1.7e9 + t, "2023-11-14T22:13:20"),
}


@pytest.mark.parametrize(
    "style", [{}, {"sep": ";", "decimal": ","}, {"sep": "\t"}, {"encoding": "utf-8-sig"}]
)
@pytest.mark.parametrize("kind", TIMES)
def test_csv_as_exports_write_it(tmp_path, excerpt, style, kind):
    (ppg, ecg), (name, times, start) = excerpt, TIMES[kind]
    table = pd.DataFrame(
        {"device": ["w1"] * 2500, name: times(np.arange(2500) / 125), "PPG [a.u.]": ppg}
    )
    table["ECG (uV)"] = 1000 * ecg
    table.to_csv(tmp_path / "walk.csv", index=False, **style)
    text = (tmp_path / "walk.csv").read_text(encoding="utf-8-sig")
    (tmp_path / "walk.csv").write_text("# a watch\n" + text, encoding=style.get("encoding"))
    recording = read_recording(tmp_path / "walk.csv")
    assert recording.sfreq == pytest.approx(125) and recording.start == start
    np.testing.assert_allclose(recording.ppg, ppg)
    np.testing.assert_allclose(recording.ecg, ecg)  # mV


def test_times_that_jitter_are_even(tmp_path, excerpt):
    times = np.arange(2500) / 125 + np.random.default_rng(0).uniform(-0.0035, 0.0035, 2500)
    pd.DataFrame({"t": times, "ppg": excerpt[0]}).to_csv(tmp_path / "walk.csv", index=False)
    recording = read_recording(tmp_path / "walk.csv")
    assert "time_jitter" in recording.repairs and recording.sfreq == pytest.approx(125, rel=1e-3)
    np.testing.assert_allclose(recording.ppg, excerpt[0])
