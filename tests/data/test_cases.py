"""Situations from public bug reports of this field: each ends right, or in one line that names what
is wrong.

`case_files.py` writes the inputs; the ids are the folders in which the situations were collected.
"""

from datetime import datetime

import case_files
import numpy as np
import pytest

from xmae.data.prepare.prepare import prepare
from xmae.data.prepare.windowing import LIMITS, prepare_recording
from xmae.data.recording.acceleration import UNKNOWN, length
from xmae.data.recording.channels import Channel, ChannelMap, recording_of
from xmae.data.recording.checks import upright
from xmae.data.recording.readers import find_in_folder, read_each
from xmae.data.recording.sentinels import is_placeholder
from xmae.errors import UserError
from xmae.signals.defects import motion
from xmae.signals.resample import resample, resampling_ratio
from xmae.signals.window import N_TIMES, SFREQ

CASES = {}


def case(name, writer):
    """Name a check after its situation; it gets the folder that `writer` filled."""

    def register(check):
        CASES[name] = (writer, check)
        return check

    return register


def read(path, sfreq=None, channels=None):
    """Read the only recording of a file."""
    (recording,) = read_all(path, sfreq, channels)
    return recording


def read_all(path, sfreq=None, channels=None):
    """Read the recordings of a file; what is wrong with one is raised."""
    return case_files.recordings_of(path, ChannelMap.load(channels, sfreq))


def refusal(path, sfreq=None, channels=None):
    """Return the line by which a file is refused."""
    with pytest.raises(UserError) as caught:
        read_all(path, sfreq, channels)
    line = str(caught.value)
    assert path.stem in line and "\n" not in line and len(line) < 400
    return line


def n_windows(recording):
    """Return the windows of 10 s without missing samples, as `prepare` cuts them."""
    up, down = resampling_ratio(recording.sfreq, SFREQ)
    n_times = N_TIMES * down / up
    edges = np.arange(len(recording.ppg) * up // (down * N_TIMES) + 1) * n_times
    return sum(
        np.isfinite(recording.ppg[int(a) : int(b)]).all()
        for a, b in zip(edges[:-1], edges[1:], strict=True)
    )


def ecg_range(recording):
    return np.ptp(recording.ecg[np.isfinite(recording.ecg)])


@case("00_reference", case_files.reference)
def _(folder):
    assert prepare_recording(read(folder / "ref.npz"), min_quality=-1)[0].ppg.shape == (12, 1000)


@case("01_trailing_delimiter", case_files.trailing_delimiter)
def _(folder):
    _, ppg, ecg = case_files.synth(100)
    for name in ("no_time", "with_time", "ppg_resp", "two_colours"):
        recording = read(folder / f"{name}.csv", 100)
        np.testing.assert_allclose(recording.ppg, ppg, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(read(folder / "no_time.csv", 100).ecg, ecg, atol=1e-5)
    assert "row 1 has more fields than there are names" in refusal(folder / "unnamed.csv", 100)
    assert "row 9001 has more fields" in refusal(folder / "unnamed_late.csv", 100)


@case("02_hash_in_name", case_files.hash_in_name)
def _(folder):
    _, ppg, _ = case_files.synth(100)
    for name in ("hash", "hash_time", "percent", "slashes", "hashes"):
        np.testing.assert_allclose(read(folder / f"{name}.csv", 100).ppg, ppg, atol=1e-5)


@case("03_time_in_minutes", case_files.time_in_minutes)
def _(folder):
    for path in sorted(folder.glob("*.csv")):
        if path.name[:2] in ("09", "10"):
            assert "has the unit '" in refusal(path) and "column 'Time (" in refusal(path)
            continue
        recording = read(path)
        assert recording.sfreq == pytest.approx(25, rel=1e-6), path
        assert len(recording.ppg) == 120 * 25


@case("03b_time_in_minutes_long", case_files.time_in_minutes_long)
def _(folder):
    expected = read(folder / "seconds.csv")
    assert n_windows(expected) == 180
    for name in ("minutes", "minutes_fine"):
        recording = read(folder / f"{name}.csv")
        assert recording.sfreq == pytest.approx(25, rel=1e-6) and n_windows(recording) == 180
        np.testing.assert_array_equal(recording.ppg, expected.ppg)


@case("05_edf_micro_sign", case_files.edf_micro_sign)
def _(folder):
    _, ppg, ecg = case_files.synth(100)
    for name, subject in (("plain", "S01"), ("micro", "S01"), ("micro8", "S01"),
                          ("accent", "S\u00e9l"), ("transducer", "S01")):  # fmt: skip
        recording = read(folder / f"{name}.edf")
        assert recording.subject == subject
        np.testing.assert_allclose(recording.ppg, ppg, atol=1e-4)
        np.testing.assert_allclose(recording.ecg, ecg, atol=1e-4)  # mV
        assert recording.repairs == []
    assert "'ECG II' has the unit 'furlong'" in refusal(folder / "unit.edf")


@case("09_edf_free_text_patient", case_files.edf_free_text_patient)
def _(folder):
    recordings = [read(folder / f"rec{k}.edf") for k in range(5)]
    assert [recording.subject for recording in recordings] == [
        "Subject 12 F 1970", "Subject 13 M 1981", "Subject 14 M 1990", "rec3", "rec4",
    ]  # fmt: skip
    assert recordings[3].repairs == recordings[4].repairs == ["subject_from_file_name"]
    assert recordings[0].start == "2022-02-01T22:00:00"


@case("10_dst_offsets", case_files.dst_offsets)
def _(folder):
    one, other = read(folder / "utc.csv"), read(folder / "with_offset.csv")
    np.testing.assert_array_equal(one.ppg, other.ppg)
    assert one.start == other.start == "2023-10-29T00:59:00" and n_windows(other) == 12
    assert "goes back in row 3001" in refusal(folder / "no_offset.csv")
    assert "with and without a time zone" in refusal(folder / "mixed.csv")


@case("11_clock_without_battery", case_files.clock_without_battery)
def _(folder):
    result = prepare([str(folder)], str(folder / "store"), split="1,0,0", min_quality=-1, jobs=1)
    assert result["recordings"] == 8 and result["windows"] == 100 and result["left_out"] == []
    assert result["repairs"]["placeholder_date"] == 8


@case("12_matlab_v73_vectors", case_files.matlab_v73_vectors)
def _(folder):
    for name, subject in (
        ("column.mat", "S\u00e9l"),
        ("row.mat", "S\u00e9l"),
        ("n_by_1.h5", "n_by_1"),
    ):
        recording = read(folder / name)
        assert recording.sfreq == 100 and recording.subject == subject
        assert n_windows(recording) == 12
    assert len(find_in_folder(folder)[0]) == 3


@case("13_e4_folder", case_files.e4_folder)
def _(folder):
    _, ppg, _ = case_files.synth(64)
    recording = read(folder / "BVP.csv")
    assert recording.sfreq == 64 and recording.start == "2018-12-05T16:28:57"
    assert len(recording.ppg) == 120 * 64 and n_windows(recording) == 12
    np.testing.assert_allclose(recording.ppg, np.round(50 * ppg, 2), atol=1e-9)


@case("14_polar_semicolon_ns", case_files.polar_semicolon_ns)
def _(folder):
    for name in ("ns", "ns_unit", "rate"):
        recording = read(folder / "ppg.csv", channels=folder / f"{name}.yaml")
        assert recording.sfreq == pytest.approx(55, rel=1e-6) and len(recording.ppg) == 120 * 55
    recording = read(folder / "ppg.csv", channels=folder / "phone.yaml")
    assert recording.sfreq == pytest.approx(55, rel=1e-3)
    assert recording.start.startswith("2023-05-04T10:00:00")
    assert "name it in a channel map" in refusal(folder / "ppg.csv")


@case("15_shimmer_rows", case_files.shimmer_rows)
def _(folder):
    _, ppg, ecg = case_files.synth(128)
    recording = read(folder / "shimmer.csv", channels=folder / "map.yaml")
    assert recording.sfreq == pytest.approx(128, rel=1e-5)
    np.testing.assert_allclose(recording.ppg, 1000 * ppg, atol=1e-3)
    np.testing.assert_allclose(recording.ecg, ecg, atol=1e-5)


@case("16_inverted_ppg", case_files.inverted_ppg)
def _(folder):
    for name in ("", "real0_", "real1_", "real2_"):
        one, other = (upright(read(folder / f"{name}{way}.npz")) for way in ("upright", "inverted"))
        assert "inverted_ppg" in other.repairs and "inverted_ppg" not in one.repairs
        one, other = (r.ppg - r.ppg.mean() for r in (one, other))  # so the same rates
        np.testing.assert_allclose(other / other.std(), one / one.std(), atol=1e-9)


@case("17_wfdb_formats", case_files.wfdb_formats)
def _(folder):
    truth = read(folder / "truth.npz")
    for name in ("f16", "f24", "f32", "f212", "f80", "mixed"):
        recording = read(folder / f"{name}.hea")
        atol = 0.04 if name in ("f80", "mixed") else 0.003
        np.testing.assert_allclose(recording.ppg, truth.ppg, atol=atol)
        np.testing.assert_allclose(recording.ecg, truth.ecg, atol=atol)


@case("18_mimic4_rate", case_files.mimic4_rate)
def _(folder):
    one, other = read(folder / "w4.hea"), read(folder / "only.npz")
    assert n_windows(one) == n_windows(other) == 29
    one, other = (resample(r.ppg, r.sfreq, SFREQ)[:29000] for r in (one, other))
    assert np.corrcoef(one, other)[0, 1] > 0.9999


@case("20_sentinels", case_files.sentinels)
def _(folder):
    expected = read(folder / "mark_.csv").ppg
    assert np.isnan(expected).sum() == 800
    for value in (0, -1, 65535, -32768):
        recording = read(folder / f"mark_{value}.csv")
        np.testing.assert_array_equal(recording.ppg, expected)
        assert "no_value" in recording.repairs and n_windows(recording) == 8


@case("21_many_rows", lambda folder: case_files.many_rows(folder, 200_000))
def _(folder):
    recording = read(folder / "rows.csv")
    assert recording.sfreq == pytest.approx(100) and n_windows(recording) == 200


@case("22_bdf", case_files.bdf)
def _(folder):
    assert "cannot read this kind of file" in refusal(folder / "rec.bdf")
    assert "is a BDF file of 24 bit" in refusal(folder / "renamed.edf")
    case_files.other_containers(folder)
    for name, kind in (("parquet.csv", "Parquet"), ("archive.csv", "ZIP"), ("hdf5.edf", "HDF5"),
                       ("gzip.csv", "gzip")):  # fmt: skip
        assert kind in refusal(folder / name)


@case("23_text_encodings", case_files.text_encodings)
def _(folder):
    whole = read(folder / "utf8.csv")
    for name in ("utf8_bom_crlf", "cr_only", "nul_tail"):
        np.testing.assert_array_equal(read(folder / f"{name}.csv").ppg, whole.ppg)
    cut = read(folder / "cut_row.csv")
    assert len(cut.ppg) == 12000 and np.isnan(cut.ppg[-1]) and "cut_row" in cut.repairs
    np.testing.assert_array_equal(cut.ppg[:-1], whole.ppg[:-1])
    assert "save it as UTF-8" in refusal(folder / "utf16.csv")
    assert "'utf-8' codec" in refusal(folder / "latin1.csv")


@case("23b_nul_tail_no_time", case_files.nul_tail_no_time)
def _(folder):
    whole = read(folder / "one_column.csv", 100)
    tail = read(folder / "nul_tail.csv", 100)
    np.testing.assert_array_equal(tail.ppg, whole.ppg)
    assert "zero_tail" in tail.repairs
    assert "zero bytes from line 5001 on" in refusal(folder / "nul_middle.csv", 100)
    line = read(folder / "empty_line.csv", 100).ppg
    assert np.flatnonzero(np.isnan(line)).tolist() == [6000] and len(line) == 12000


@case("26_wfdb_segment_count", case_files.wfdb_segment_count)
def _(folder):
    for name in ("whole", "right", "length"):
        found = read_all(folder / f"{name}.hea")
        assert sum(n_windows(recording) for recording in found) == 12


@case("27_wfdb_file_length", case_files.wfdb_file_length)
def _(folder):
    for name in ("long", "unknown"):
        assert n_windows(read(folder / f"{name}.hea")) == 12
    assert "perhaps truncated" in refusal(folder / "short.hea")


@case("29_wfdb_latin1_comment", case_files.wfdb_latin1_comment)
def _(folder):
    expected = read(folder / "acc.hea")
    assert expected.labels == {"age": 64, "sex": "F"} and n_windows(expected) == 12
    for name in ("micro", "micro8", "mu"):
        recording = read(folder / f"{name}.hea")
        assert ecg_range(recording) == pytest.approx(ecg_range(expected), rel=0.01)
        assert "ecg_unit" not in recording.repairs


@case("30_parquet_kinds", case_files.parquet_kinds)
def _(folder):
    for name, subject in (("categories", "B"), ("int_subject", "7"), ("float_subject", "7"),
                          ("half", "half"), ("berlin", "berlin")):  # fmt: skip
        recording = read(folder / f"{name}.parquet")
        assert recording.subject == subject and n_windows(recording) == 12
    assert read(folder / "berlin.parquet").start == "2023-10-29T00:59:00"
    assert "column 'ppg' holds" in refusal(folder / "list_rows.parquet", 100)
    assert "column 'timestamp' holds durations" in refusal(folder / "duration.parquet")
    for suffix in ("parquet", "csv"):
        path = folder / f"missing_subject.{suffix}"
        assert "column 'subject' is empty in 3000 rows, the first of them row 6001" in refusal(
            path, 100
        )
        # what is left is not spliced
        _, first, second = read_each(path, ChannelMap(sfreq=100))
        assert (len(first.ppg), len(second.ppg)) == (6000, 3000)


@case("33_rate_change_in_file", case_files.rate_change_in_file)
def _(folder):
    assert "its rate changes" in refusal(folder / "two_rates.csv")
    assert "column 'time'" in refusal(folder / "two_rates.csv")
    assert read(folder / "steady.csv").sfreq == pytest.approx(50, rel=1e-3)


@case("35_numerics_zero", case_files.numerics_zero)
def _(folder):
    for k, bpm in enumerate((60, 75, 90)):
        recording = read(folder / f"p{k}.npz")
        hr, rr, spo2 = (recording.labels[name][0] for name in ("hr_monitor", "rr", "spo2"))
        assert np.isnan(hr).sum() == 50 and np.nanmin(hr) == np.nanmax(hr) == bpm
        assert np.isnan(rr).sum() == 20 and np.isnan(spo2).sum() == 40
        assert np.isnan(recording.labels["age"]) and "hr_monitor_no_value" in recording.repairs


@case("36_names", case_files.names)
def _(folder):
    _, ppg, ecg = case_files.synth(100, seconds=30)
    for path in sorted(folder.glob("n*.csv")):
        np.testing.assert_allclose(read(path).ppg, ppg, atol=1e-5)
    for name in ("current_voltage", "current_voltage_temperature"):
        recording = read(folder / f"{name}.csv", 100)
        assert recording.ecg is None and recording.leads == {} and recording.sfreq == 100
        assert "no sampling rate" in refusal(folder / f"{name}.csv")
    assert list(read(folder / "leads.csv", 100).leads) == ["II", "I"]
    assert list(read(folder / "lead.csv", 100).leads) == ["I"]


@case("37_acceleration_without_unit", case_files.acceleration_without_unit)
def _(folder):
    for name in ("g", "mg", "counts64", "ms2", "counts16"):
        recording = read(folder / f"{name}.csv")
        assert np.median(length(recording.acc)) == pytest.approx(0.995, abs=0.03), name
        assert motion(length(recording.acc), np.arange(13) * 1000, 100).max() < LIMITS["motion"][1]
        assert "acceleration_unit" in recording.repairs
    recording = read(folder / "linear.csv")
    assert recording.acc is None and UNKNOWN in recording.repairs
    assert "'ACC_X [ft/s2]' has the unit 'ft/s2'" in refusal(folder / "feet.csv")


@case("38_header_and_duplicates", case_files.header_and_duplicates)
def _(folder):
    _, ppg, _ = case_files.synth(100)
    assert "'#time,ppg,ecg'; remove the #" in refusal(folder / "hash_header.csv")
    assert "no line of names" in refusal(folder / "no_header.csv")
    assert "cannot read this kind of file" in refusal(folder / "table.csv.gz")
    for name in ("twice", "sep_line"):
        np.testing.assert_allclose(read(folder / f"{name}.csv").ppg, ppg, atol=1e-5)
    np.testing.assert_allclose(read(folder / "decimal_late.csv", 100).ppg[40:], ppg[40:], atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_case(name, tmp_path):
    writer, check = CASES[name]
    writer(tmp_path)
    check(tmp_path)


@pytest.mark.parametrize(
    "first",
    [
        datetime(1970, 1, 1, 0, 3), datetime(1969, 12, 31, 19, 0, 5), datetime(2010, 1, 1, 0, 0, 9),
        datetime(1989, 12, 31), datetime(2038, 1, 19, 3, 14, 7),
    ],
)  # fmt: skip
def test_other_placeholder_dates(tmp_path, first):
    """Zones west of Greenwich, the first hour of a year, the last second that 32 bits count."""
    case_files.clock_without_battery(tmp_path, first)
    recording = read(tmp_path / "P0" / "session0.csv")
    assert recording.start == "" and "placeholder_date" in recording.repairs


@pytest.mark.parametrize(
    "start", ["2024-01-01T00:40:00", "2023-12-31T19:01:00-05:00", "2024-01-01T00:01:00+00:00"]
)
def test_the_first_hour_of_a_year_is_no_placeholder(start):
    """A night of New Year is real; only a clock without a zone starts a year by itself."""
    assert not is_placeholder(start) and is_placeholder("2024-01-01T00:01:00")
    _, ppg, _ = case_files.synth(100)
    recording = recording_of([Channel("PPG", ppg, 100.0)], "p", "night", start=start)
    assert recording.start and "placeholder_date" not in recording.repairs


@pytest.mark.parametrize("start", ["1999-12-31T19:00:05-05:00", "2000-01-01T01:00:05+01:00"])
def test_a_placeholder_with_a_zone(start):
    assert is_placeholder(start)
