"""Names, units, times and line ends as programs spell them: read right, or told in one line."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from case_files import read_all, synth, write

from xmae.data.recording.channels import ChannelMap
from xmae.data.recording.part import Part
from xmae.data.recording.people import words_of
from xmae.data.recording.readers import read_each, session
from xmae.errors import UserError

SFREQ = 50
TIME, PPG, ECG = synth(SFREQ, seconds=30)
MOMENTS = pd.Timestamp("2026-05-04T10:00:00") + pd.to_timedelta(TIME, unit="s")
SINCE_1970 = 1777888800  # 2026-05-04T10:00:00 in UTC


def timed(folder, name, cells):
    """Return the recording of a table of times and PPG, parted by semicolons."""
    rows = [f"{cell};{x:.5f}" for cell, x in zip(cells, PPG, strict=True)]
    write(folder, "table.csv", f"{name};ppg", rows)
    (recording,) = read_all(folder / "table.csv")
    assert recording.sfreq == pytest.approx(SFREQ, rel=1e-6)
    np.testing.assert_allclose(recording.ppg, PPG, atol=1e-5)
    return recording


@pytest.mark.parametrize(
    "name",
    [
        "Patienten-ID", "PatID", "study_id", "StudyID", "Pseudonym", "src_subject_id", "subjectkey",
        "Pt ID", "participant id number", "Id paciente", "ID_Sujet", "C\u00f3digo paciente",
        "Athlete", "\u043f\u0430\u0446\u0438\u0435\u043d\u0442", "dataset_subject", "case_id",
    ],
)  # fmt: skip
def test_people_by_further_names(tmp_path, name):
    people = np.where(np.arange(len(PPG)) < 750, "S1", "S2")
    rows = [f"{who},{p:.5f}" for who, p in zip(people, PPG, strict=True)]
    write(tmp_path, "table.csv", f"{name},ppg", rows)
    assert [r.subject for r in read_all(tmp_path / "table.csv", SFREQ)] == ["S1", "S2"]


@pytest.mark.parametrize(
    "name", ["subject_age", "patient position", "PatientWeight", "participants' HR"]
)
def test_what_is_said_about_people_names_nobody(tmp_path, name):
    rows = [f"{k // 750},{p:.5f}" for k, p in enumerate(PPG)]
    write(tmp_path, "table.csv", f"{name},ppg", rows)
    (recording,) = read_all(tmp_path / "table.csv", SFREQ)
    assert recording.subject == "table" and "ids_not_read" not in recording.repairs


def test_an_id_that_is_not_read_is_told(tmp_path):
    rows = [f"{k // 750},{p:.5f}" for k, p in enumerate(PPG)]
    write(tmp_path, "table.csv", "hadm_id,ppg", rows)
    (recording,) = read_all(tmp_path / "table.csv", SFREQ)
    assert "ids_not_read" in recording.repairs


def test_accents_do_not_make_two_people(tmp_path):
    spelt = ("Jos\u00e9", "Jose\u0301 ")
    rows = [f"{spelt[k // 750]},{p:.5f}" for k, p in enumerate(PPG)]
    write(tmp_path, "table.csv", "subject,ppg", rows)
    (recording,) = read_all(tmp_path / "table.csv", SFREQ)
    assert recording.subject == "Jos\u00e9" and len(recording.ppg) == len(PPG)


def test_words_of_a_name():
    assert words_of("S_ID#2") == ["S", "ID"] and words_of("\u88ab\u9a13\u8005ID") == [
        "\u88ab\u9a13\u8005ID"
    ]


@pytest.mark.parametrize(
    "name, scale",
    [
        ("time/s", 1), ("time in ms", 1e3), ("Time {ms}", 1e3), ("Time, s", 1), ("Zeit [s]", 1),
        ("elapsed (s)", 1), ("unix_time", 1), ("Elapsed time", 1), ("LSL timestamp", 1),
        ("Milliseconds", 1e3), ("ts", 1), ("", 1),
    ],
)  # fmt: skip
def test_names_of_times(tmp_path, name, scale):
    timed(tmp_path, name, [f"{s * scale:.4f}" for s in TIME])


@pytest.mark.parametrize(
    "form",
    [
        "%Y-%m-%d %H:%M:%S,%f",
        "%Y-%m-%d %H:%M:%S.%f UTC",
        "%Y/%m/%d %H:%M:%S.%f",
        "%Y%m%dT%H%M%S.%f",
    ],
)
def test_dates(tmp_path, form):
    assert timed(tmp_path, "DateTime", MOMENTS.strftime(form)).start == "2026-05-04T10:00:00"


@pytest.mark.parametrize("form", ["%d/%m/%Y %H:%M:%S.%f", "%I:%M:%S.%f %p", "%M:%S.%f"])
def test_dates_that_can_be_read_two_ways(tmp_path, form):
    with pytest.raises(UserError, match="in row 1; expected seconds, or dates such as"):
        timed(tmp_path, "time", MOMENTS.strftime(form))


@pytest.mark.parametrize("begin", ["10:00:00", "23:59:50"])
def test_times_of_day(tmp_path, begin):
    """With the date beside them they say when it was; midnight may pass."""
    moments = pd.Timestamp(f"2026-05-04T{begin}") + pd.to_timedelta(TIME, unit="s")
    cells = [f"2026-05-04;{moment:%H:%M:%S.%f}" for moment in moments]
    assert timed(tmp_path, "Date;Time", cells).start == f"2026-05-04T{begin}"
    assert timed(tmp_path, "time", moments.strftime("%H:%M:%S,%f")).start == ""


@pytest.mark.parametrize(
    "name, scale", [("timestamp", 1), ("timestamp [ms]", 1e3), ("t_us", 1e6), ("time_ns", 1e9)]
)
def test_times_since_1970_say_when(tmp_path, name, scale):
    counts = [int(scale) * SINCE_1970 + round(s * scale, 3) for s in TIME]
    cells = [f"{x:.0f}" if scale > 1 else f"{x:.3f}" for x in counts]
    if scale == 1e9:
        cells = [str(10**9 * SINCE_1970 + round(s * 1e9)) for s in TIME]
    assert timed(tmp_path, name, cells).start == "2026-05-04T10:00:00"


def test_times_since_1970_place_the_files_of_a_session(tmp_path):
    """ECG that begins 5 s after the PPG; before, both began together."""
    rows = [f"{1000 * (SINCE_1970 + s):.0f},{x:.5f}" for s, x in zip(TIME, PPG, strict=True)]
    write(tmp_path, "watch.csv", "timestamp [ms],ppg", rows)
    late = [f"{SINCE_1970 + s:.3f},{x:.5f}" for s, x in zip(TIME[250:], ECG[250:], strict=True)]
    write(tmp_path, "strap.csv", "timestamp,ecg_mV", late)
    (tmp_path / "session.yaml").write_text(
        "subject: p\nsources: [{file: watch.csv, clock: one}, {file: strap.csv, clock: one}]\n"
    )
    (recording,) = session.read(tmp_path / "session.yaml", ChannelMap())
    assert recording.start == "2026-05-04T10:00:05" and recording.sfreq == 200
    there = recording.ppg[:4000:4]
    assert np.corrcoef(there, PPG[250 : 250 + len(there)])[0, 1] > 0.99


def test_a_night_in_which_clocks_go_back(tmp_path):
    """From one o'clock in summer to four in winter it is four hours."""
    (tmp_path / "session.yaml").write_text(
        "sources: [{file: a.csv, start: 2026-10-25T01:00}, {file: b.csv, start: 2026-10-25T04:00}]"
        "\ntimezone: Europe/Berlin\n"
    )
    parts = [(Part([]), {}), (Part([]), {})]
    assert session.seconds_from(session.load(tmp_path / "session.yaml"), parts, 0) == [0, 4 * 3600]


def test_a_zone_beside_none_is_told(tmp_path):
    """A time zone in the manifest settles it."""
    rows = [f"{moment.isoformat()}Z,{x}" for moment, x in zip(MOMENTS, PPG, strict=True)]
    write(tmp_path, "watch.csv", "time,ppg", rows)
    rows = [f"{moment.isoformat()},{x}" for moment, x in zip(MOMENTS, ECG, strict=True)]
    write(tmp_path, "strap.csv", "time,ecg", rows)
    (tmp_path / "session.yaml").write_text("sources: [watch.csv, strap.csv]\n")
    with pytest.raises(UserError, match="strap.csv has no time zone"):
        list(session.read(tmp_path / "session.yaml", ChannelMap()))
    said = "sources: [watch.csv, strap.csv]\ntimezone: "
    (tmp_path / "session.yaml").write_text(said + "Europe/Berlin\n")
    with pytest.raises(UserError, match="not recorded at the same time"):  # two hours apart
        list(session.read(tmp_path / "session.yaml", ChannelMap()))
    (tmp_path / "session.yaml").write_text(said + "'+00:00'\n")
    (recording,) = session.read(tmp_path / "session.yaml", ChannelMap())
    assert recording.start == "2026-05-04T10:00:00" and len(recording.ppg) == len(PPG)
    (tmp_path / "session.yaml").write_text(
        "sources: [{file: watch.csv, start: 2026-05-04T12:00:00}]\ntimezone: Europe/Berlin\n"
    )
    assert (
        next(session.read(tmp_path / "session.yaml", ChannelMap())).start == "2026-05-04T10:00:00"
    )
    (tmp_path / "session.yaml").write_text(said + "Middle-earth\n")
    with pytest.raises(UserError, match="no time zone 'Middle-earth'"):
        list(session.read(tmp_path / "session.yaml", ChannelMap()))


@pytest.mark.parametrize(
    "name, scale",
    [
        ("ecg_mV", 1), ("ECG_uV", 1e3), ("ECG/mV", 1), ("ecg in mV", 1), ("ECG {\u00b5V}", 1e3),
        ("ecg <uV>", 1e3), ("ECG (mVolt)", 1), ("ECG, mV", 1),
    ],
)  # fmt: skip
def test_units_behind_a_name(tmp_path, name, scale):
    rows = [f"{a:.5f},{scale * b:.5f}" for a, b in zip(PPG, ECG, strict=True)]
    write(tmp_path, "table.csv", f'ppg,"{name}"', rows)
    (recording,) = read_all(tmp_path / "table.csv", SFREQ)
    np.testing.assert_allclose(recording.ecg, ECG, atol=1e-4)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-16", "utf-32", "utf-32-be"])
def test_wide_letters_are_named(tmp_path, encoding):
    text = "\n".join(["time,ppg", *(f"{s:.2f},{x:.5f}" for s, x in zip(TIME, PPG, strict=True))])
    (tmp_path / "a.csv").write_bytes(text.encode(encoding))
    with pytest.raises(UserError, match=f"it is {encoding[:6].upper()}; save it as UTF-8"):
        read_all(tmp_path / "a.csv")


def test_doubled_line_ends_are_no_missing_samples(tmp_path):
    (tmp_path / "a.csv").write_bytes("\r\r\n".join(["ppg", *map(str, PPG)]).encode() + b"\r\r\n")
    (recording,) = read_all(tmp_path / "a.csv", SFREQ)
    np.testing.assert_allclose(recording.ppg, PPG)
    (tmp_path / "b.csv").write_text("\n\n".join(["ppg", *map(str, PPG)]) + "\n")
    with pytest.raises(UserError, match="every second line is empty"):
        read_all(tmp_path / "b.csv", SFREQ)


def test_parquet_of_other_tools(tmp_path):
    indexed = pd.DataFrame({"ppg": PPG}, index=MOMENTS)
    indexed.to_parquet(tmp_path / "index.parquet")
    (recording,) = read_all(tmp_path / "index.parquet")
    assert recording.start == "2026-05-04T10:00:00" and recording.sfreq == pytest.approx(SFREQ)
    nanoseconds = pa.array((TIME * 1e9).round().astype("i8"), pa.time64("ns"))
    who = pa.array([b"S1"] * len(PPG))
    pq.write_table(
        pa.table({"time": nanoseconds, "ppg": PPG, "subject": who}), tmp_path / "day.parquet"
    )
    (recording,) = read_all(tmp_path / "day.parquet")
    assert recording.subject == "S1" and recording.sfreq == pytest.approx(SFREQ)
    twice = pa.Table.from_arrays(
        [pa.array(TIME), pa.array(PPG), pa.array(ECG)], ["time", "ppg", "ppg"]
    )
    pq.write_table(twice, tmp_path / "twice.parquet")
    with pytest.raises(UserError, match="has the column 'ppg' twice"):
        read_all(tmp_path / "twice.parquet")


@pytest.mark.parametrize("name", ["", "__index_level_0__", "\u6e29\u5ea6"])
def test_an_index_of_rows_is_no_time(tmp_path, name):
    """Rows that were left out leave a count that jumps; a temperature may rise too."""
    rest = pd.DataFrame({"ppg": PPG}, index=4 * np.arange(len(PPG))).drop(index=[40, 44])
    rest.to_csv(tmp_path / "a.csv", index_label=name)
    rest.to_parquet(tmp_path / "a.parquet")
    for path in (tmp_path / "a.csv", tmp_path / "a.parquet"):
        (recording,) = read_all(path, 125)
        assert recording.sfreq == 125 and len(recording.ppg) == len(rest)
    pd.DataFrame({"ppg": PPG}, index=TIME).to_csv(tmp_path / "b.csv")
    assert read_all(tmp_path / "b.csv")[0].sfreq == pytest.approx(SFREQ)


def test_a_table_without_rows(tmp_path):
    write(tmp_path, "a.csv", "time,ppg", [])
    with pytest.raises(UserError, match="has no rows below its names"):
        read_all(tmp_path / "a.csv")


@pytest.mark.parametrize("name", ["PT100", "PAT", "pt", "case", "ID"])
def test_slow_measurements_are_no_people(tmp_path, name):
    rows = [f"{36.5 + k // 500 / 10:.1f},{p:.5f}" for k, p in enumerate(PPG)]
    write(tmp_path, "table.csv", f"{name},ppg", rows)
    (recording,) = read_all(tmp_path / "table.csv", SFREQ)
    assert recording.subject == "table" and len(recording.ppg) == len(PPG)
    pd.read_csv(tmp_path / "table.csv").to_parquet(tmp_path / "table.parquet")
    (recording,) = read_all(tmp_path / "table.parquet", SFREQ)
    assert recording.subject == "table"


@pytest.mark.parametrize("names", ["subject_1,subject_2", "Subject,other", "id,pid"])
def test_a_column_of_the_map_is_nobody(tmp_path, names):
    """As in tables with a column a person."""
    rows = [f"{p:.5f},{p:.5f}" for p in np.round(PPG, 5)]
    write(tmp_path, "table.csv", names, rows)
    said = ChannelMap(roles={"ppg": names.split(",")[0]}, sfreq=SFREQ)
    (recording,) = read_each(tmp_path / "table.csv", said)
    assert recording.subject == "table"
    np.testing.assert_allclose(recording.ppg, PPG, atol=1e-5)


def test_a_lone_name_with_a_digit_names_people(tmp_path):
    """As a column that a merge of tables renamed; one that changes in each row is a signal."""
    half = len(PPG) // 2
    people = ["007"] * half + ["bert"] * (len(PPG) - half)
    rows = [f"{who},{p:.5f}" for who, p in zip(people, PPG, strict=True)]
    write(tmp_path, "table.csv", "subject_1,ppg", rows)
    assert [one.subject for one in read_all(tmp_path / "table.csv", SFREQ)] == ["007", "bert"]
    rows = [f"{p + 1:.5f},{p:.5f}" for p in PPG]
    write(tmp_path, "other.csv", "subject_1,ppg", rows)
    assert [one.subject for one in read_all(tmp_path / "other.csv", SFREQ)] == ["other"]


def test_times_of_day_beside_dates_of_each_row(tmp_path):
    """Two days lie between, of which times of day alone say nothing."""
    moments = MOMENTS + pd.to_timedelta(np.where(np.arange(len(PPG)) < 500, 0, 2), unit="D")
    days = zip(moments, PPG, strict=True)
    rows = [f"{day:%Y-%m-%d};{day:%H:%M:%S.%f};{p:.5f}" for day, p in days]
    write(tmp_path, "table.csv", "Date;Time;ppg", rows)
    first, second = read_all(tmp_path / "table.csv")
    assert (first.start, len(first.ppg)) == ("2026-05-04T10:00:00", 500)
    assert (second.start[:19], len(second.ppg)) == ("2026-05-06T10:00:10", 1000)


def test_dates_that_change_at_midnight(tmp_path):
    moments = pd.Timestamp("2026-05-04T23:59:50") + pd.to_timedelta(TIME, unit="s")
    cells = [f"{moment:%Y-%m-%d};{moment:%H:%M:%S.%f}" for moment in moments]
    assert timed(tmp_path, "Date;Time", cells).start == "2026-05-04T23:59:50"
