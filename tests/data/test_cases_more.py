"""Further odd inputs of the kinds of `test_cases`: each is read right, or told in one line."""

import re

import edfio
import h5py
import numpy as np
import pytest
from case_files import read_all, synth, write

from xmae.data.prepare.windowing import prepare_recording
from xmae.errors import UserError

SFREQ = 50
TIME, PPG, ECG = synth(SFREQ, seconds=30)
ROWS = [f"{a:.5f},{b:.5f}" for a, b in zip(PPG, ECG, strict=True)]
TIMED = [f"{s:.2f},{row}" for s, row in zip(TIME, ROWS, strict=True)]
RAW = 30000 + 2000 * PPG


def table(folder, header, rows, sfreq=None, name="table.csv"):
    """Return the recordings of a table that is written first."""
    write(folder, name, header, rows)
    return read_all(folder / name, sfreq)


def with_marks(x, mark, places, digits=5):
    """Return rows of time and PPG, with a mark in the place of some samples."""
    cells = [f"{value:.{digits}f}" for value in x]
    for place in places:
        cells[place] = mark
    return [f"{s:.2f},{cell}" for s, cell in zip(TIME, cells, strict=True)]


def refusal(folder, header, rows, sfreq=None):
    with pytest.raises(UserError) as caught:
        table(folder, header, rows, sfreq)
    line = str(caught.value)
    assert "table.csv" in line and "\n" not in line and len(line) < 400
    return line


@pytest.mark.parametrize(
    "header, rows",
    [
        ('"time","ppg","ecg [mV]"', ['"' + row.replace(",", '","') + '"' for row in TIMED]),
        (["sep=|", "time|ppg|ecg"], [row.replace(",", "|") for row in TIMED]),
        (["time,ppg,ecg", "(s),(a.u.),(mV)"], TIMED),
        ("time\tppg\tecg", [row.replace(",", "\t").replace(".", ",") for row in TIMED]),
        ("time,ppg,ecg", [*TIMED[:100], "% a marker", *TIMED[100:]]),
        ("time,ppg,ecg,worn", [f"{row},True" for row in TIMED]),
    ],
)
def test_dialects(tmp_path, header, rows):
    (recording,) = table(tmp_path, header, rows)
    assert recording.sfreq == pytest.approx(SFREQ)
    np.testing.assert_allclose(recording.ppg, PPG, atol=1e-5)
    np.testing.assert_allclose(recording.ecg, ECG, atol=1e-5)


@pytest.mark.parametrize(
    "header, rows, complaint",
    [
        (["; by a logger", "time,ppg,ecg"], TIMED, "fields"),
        (["Device: Watch 3", "time,ppg,ecg"], TIMED, "remove what stands above the names"),
        (["s,a.u.,mV", "time,ppg,ecg"], TIMED, "no column 'ppg'; there are s, a.u., mV"),
        ("time ppg ecg", [row.replace(",", " ") for row in TIMED], "no column 'ppg'"),
        ("time;ppg", [f"{s:.2f};{1e4 + p:,.2f}" for s, p in zip(TIME, PPG, strict=True)], "'ppg'"),
        ("time,ppg,ecg", [*TIMED, "Total: 1500"], "'Total: 1500' in row 1501"),
        ("time,ppg,ecg", [*TIMED[:99], "1.98,No Data,0", *TIMED[100:]], "'No Data'|in row"),
        ("time,ppg,ecg", [*TIMED[:99], "1.98,-inf,0", *TIMED[100:]], "infinite.*row 100"),
        ("time,ppg", [f"00:{s:06.3f},{p}" for s, p in zip(TIME, PPG, strict=True)], "row 1"),
    ],
)
def test_dialects_that_are_told(tmp_path, header, rows, complaint):
    assert re.search(complaint, refusal(tmp_path, header, rows))


@pytest.mark.parametrize(
    "name", ["SubjID", "PatientNr", "Versuchsperson", "\u53d7\u8bd5\u8005", "sub_id", "user", "ID"]
)
def test_people_are_told_apart(tmp_path, name):
    """Also by a name that may number rows, where it stays the same for many of them."""
    people = np.where(np.arange(len(PPG)) < 750, "007", "B")
    rows = [f"{who},{p:.5f}" for who, p in zip(people, PPG, strict=True)]
    recordings = table(tmp_path, f"{name},ppg", rows, SFREQ)
    assert [r.subject for r in recordings] == ["007", "B"]


def test_a_number_of_the_row_is_nobody(tmp_path):
    rows = [f"{k},{p:.5f}" for k, p in enumerate(PPG)]
    (recording,) = table(tmp_path, "ID,ppg", rows, SFREQ)
    assert recording.subject == "table" and "subject_from_file_name" in recording.repairs


@pytest.mark.parametrize(
    "name, scale",
    [
        ("time (mins)", 1 / 60), ("time [days]", 1 / 86400), ("TIME_MS", 1e3), ("t_us", 1e6),
        ("Timestamp [\u00b5s]", 1e6), ("Timestamp [\u03bcs]", 1e6), ("time (ns)", 1e9),
    ],
)  # fmt: skip
def test_units_of_time(tmp_path, name, scale):
    rows = [f"{s * scale:.12f},{p:.5f}" for s, p in zip(TIME, PPG, strict=True)]
    (recording,) = table(tmp_path, f"{name},ppg", rows)
    assert recording.sfreq == pytest.approx(SFREQ, rel=1e-6) and len(recording.ppg) == len(PPG)


@pytest.mark.parametrize(
    "unit", ["samples", "ticks", "m", "1/10 s", "ms since start", "Sekunden", "fortnight"]
)
def test_units_of_time_that_are_not_known(tmp_path, unit):
    rows = [f"{s:.2f},{p:.5f}" for s, p in zip(TIME, PPG, strict=True)]
    assert f"'{unit}'" in refusal(tmp_path, f"time ({unit}),ppg", rows)


def test_days_of_a_spreadsheet_are_suggested(tmp_path):
    rows = [f"{46143 + s / 86400:.12f},{p:.5f}" for s, p in zip(TIME, PPG, strict=True)]
    assert "say time_unit: h or d" in refusal(tmp_path, "time,ppg", rows)


@pytest.mark.parametrize("mark", ["0", "-1", "-999", "-999.0", "65535", "9999", "1e30"])
def test_marks_in_raw_counts(tmp_path, mark):
    rows = with_marks(RAW, mark, [*range(300, 330), 900], digits=1)
    (recording,) = table(tmp_path, "time,ppg", rows)
    assert np.isnan(recording.ppg).sum() == 31 and "no_value" in recording.repairs


def test_a_mark_near_a_small_signal(tmp_path):
    (recording,) = table(tmp_path, "time,ppg", with_marks(PPG, "-1", range(300, 330)))
    assert np.isnan(recording.ppg).sum() == 30 and "no_value" in recording.repairs


def test_a_signal_clipped_at_zero_keeps_its_samples(tmp_path):
    rows = [f"{s:.2f},{max(x, 0.2):.5f}" for s, x in zip(TIME, PPG, strict=True)]
    (recording,) = table(tmp_path, "time,ppg", rows)
    assert np.isfinite(recording.ppg).all()
    rows = [f"{s:.2f},{max(x - 0.2, 0):.5f}" for s, x in zip(TIME, PPG, strict=True)]
    (recording,) = table(tmp_path, "time,ppg", rows)
    assert np.isfinite(recording.ppg).all() and "no_value" not in recording.repairs


def test_rows_that_lack_values_are_counted(tmp_path):
    rows = [row if k % 500 else "0.1" for k, row in enumerate(ROWS)]
    (recording,) = table(tmp_path, "ppg,ecg", rows, SFREQ)
    assert len(recording.ppg) == len(PPG) and np.isnan(recording.ecg).sum() == 3
    assert "short_rows" in recording.repairs
    (recording,) = table(tmp_path, "ppg,ecg", [*ROWS[:100], "", *ROWS[100:]], SFREQ)
    assert "blank_rows" in recording.repairs
    (recording,) = table(tmp_path, "ppg,ecg", [*ROWS, "", ""], SFREQ)  # only at the end
    assert not {"short_rows", "blank_rows"} & set(recording.repairs)


GRAVITY = np.stack([0.3 + 0 * TIME, 0.1 + 0 * TIME, 0.95 + 0.01 * np.sin(TIME)])


@pytest.mark.parametrize(
    "unit, scale, repair",
    [
        ("[m/s\u00b2]", 9.80665, None), ("[m.s-2]", 9.80665, None), ("[G]", 1, None),
        ("", 9.80665, "acceleration_unit"), ("[LSB]", 2048, "acceleration_unit"),
        ("[m/s^2]", 1, "acceleration_unit"),  # gravity speaks against it
        ("[mg]", 9.80665, "acceleration_unit"),
    ],
)  # fmt: skip
def test_units_of_acceleration(tmp_path, unit, scale, repair):
    rows = [
        f"{p:.5f},{x:.5f},{y:.5f},{z:.5f}"
        for p, (x, y, z) in zip(PPG, scale * GRAVITY.T, strict=True)
    ]
    header = ",".join(["ppg", *(f"acc_{axis}{unit}" for axis in "xyz")])
    (recording,) = table(tmp_path, header, rows, SFREQ)
    assert np.median(np.linalg.norm(recording.acc, axis=0)) == pytest.approx(1, abs=0.05)
    assert ("acceleration_unit" in recording.repairs) == (repair is not None)


def test_motion_without_gravity_keeps_its_unit(tmp_path):
    """The median of what a wrist does may be one m/s2; that is no gravity."""
    motion = np.random.default_rng(0).normal(size=(len(PPG), 3))
    rows = [f"{p:.5f},{x:.4f},{y:.4f},{z:.4f}" for p, (x, y, z) in zip(PPG, motion, strict=True)]
    header = "ppg,acc_x [m/s2],acc_y [m/s2],acc_z [m/s2]"
    (recording,) = table(tmp_path, header, rows, SFREQ)
    np.testing.assert_allclose(recording.acc, motion.T / 9.80665, atol=1e-4)


def edf(path, patient="X X X X", reserved="", date="04.05.26", signals=None):
    """Return an EDF file with a header as recorders write it."""
    signals = signals or [("Pleth", PPG, "")]
    edfio.Edf(
        [
            edfio.EdfSignal(
                x, SFREQ, label=label, physical_dimension=unit, physical_range=(x.min(), x.max())
            )
            for label, x, unit in signals
        ]
    ).write(path)
    content = bytearray(path.read_bytes())
    for text, place, size in ((patient, 8, 80), (date, 168, 8), (reserved, 192, 44)):
        content[place : place + size] = text.encode("latin-1").ljust(size)
    path.write_bytes(content)
    (recording,) = read_all(path)
    return recording


@pytest.mark.parametrize(
    "patient, reserved, subject",
    [
        ("M\u00fcller, J\u00fcrgen 1970", "", "M\u00fcller, J\u00fcrgen 1970"),
        ("P 001", "", "P 001"), ("S 1", "EDF+C", "S 1"),
        ("12345 M 02-MAR-1960 Doe", "EDF+C", "12345"), ("unknown unknown", "", None),
        ("Test Test", "", None), ("Anonymous, M", "", None), ("0", "", None), ("F X X X", "", None),
        ("Female 34 yrs", "", None), ("Patient, 34 years", "", None),
        ("S12 F 34 yrs", "", "S12 F 34 yrs"),
        ("Subject 12 F, 34 yrs", "", "Subject 12 F, 34 yrs"), ("Age: 34 years", "", None),
        ("Patient 12, aged 34", "", "Patient 12, aged 34"), ("M, aged 34", "", None),
        ("Subject 12, age X", "", "Subject 12, age X"), ("Age: 34, F", "", None),
        ("Subject 12 age 34", "", "Subject 12 age 34"), ("12 M 34 yrs old", "", "12 M 34 yrs old"),
        ("XXXX XX", "", None),
    ],
)  # fmt: skip
def test_patients_of_edf(tmp_path, patient, reserved, subject):
    """Fields that name nobody do not make one person of all files."""
    recording = edf(tmp_path / "night.edf", patient, reserved)
    assert recording.subject == (subject or "night")
    assert ("subject_from_file_name" in recording.repairs) == (subject is None)


@pytest.mark.parametrize("date, start", [("01.01.70", ""), ("01.01.85", ""), ("31.12.99", "1999")])
def test_dates_of_clocks_that_were_never_set(tmp_path, date, start):
    recording = edf(tmp_path / "night.edf", date=date)
    assert recording.start[:4] == start


def test_of_two_signals_with_one_label_the_first_counts(tmp_path):
    signals = [("PPG", PPG, ""), ("PPG", ECG, ""), ("ECG I", ECG, "mV")]
    recording = edf(tmp_path / "night.edf", signals=signals)
    np.testing.assert_allclose(recording.ppg, PPG, atol=1e-3)


def hdf5(path, **items):
    """Return an HDF5 file; names that begin with "at_" are attributes."""
    with h5py.File(path, "w") as file:
        for name, value in items.items():
            if name.startswith("at_"):
                file.attrs[name[3:]] = value
            else:
                file[name] = value
    return path


@pytest.mark.parametrize(
    "items",
    [
        {"PPG": PPG[None], "fs": np.full((1, 1), 50.0)},
        {"ppg": PPG[:, None], "Fs": np.full((1, 1), 50.0)},
        {"ppg": PPG[None, :, None], "at_fs": 50.0},
        {"ppg": PPG[None], "SamplingRate": np.full((1, 1), 50.0)},
        {"ppg": PPG, "at_SFREQ": 50, "at_subject": "M\u00fcller".encode()},
    ],
)
def test_vectors_and_rates_of_hdf5(tmp_path, items):
    (recording,) = read_all(hdf5(tmp_path / "a.mat", **items))
    assert recording.sfreq == SFREQ
    np.testing.assert_array_equal(recording.ppg, PPG)


@pytest.mark.parametrize(
    "items, complaint",
    [
        ({"ppg": np.stack([PPG, ECG])}, r"'ppg' has shape \(2, 1500\), and a channel is one row"),
        ({"green": PPG}, r"there are green; name it"),
        ({"ppg": PPG, "at_fs": "50 Hz"}, "the rate of 'ppg' is '50 Hz', no number"),
        ({"ppg": PPG}, "no sampling rate"),
    ],
)
def test_hdf5_that_is_told(tmp_path, items, complaint):
    with pytest.raises(UserError, match=complaint):
        read_all(hdf5(tmp_path / "a.h5", **items))


def test_archives_with_axes_of_matlab(tmp_path):
    np.savez(tmp_path / "a.npz", ppg=PPG[None], fs=np.full((1, 1), 50.0), age=np.full((1, 1), -1))
    (recording,) = read_all(tmp_path / "a.npz")
    np.testing.assert_array_equal(recording.ppg, PPG)
    assert np.isnan(recording.labels["age"]) and "age_no_value" in recording.repairs


@pytest.mark.parametrize(
    "name, content, complaint",
    [
        ("a.csv", b"<html><body>404</body></html>", "is a web page, not what .csv says"),
        ("a.csv", b'{"ppg": [1, 2, 3]}', "is JSON"),
        ("a.edf", b"version https://git-lfs.github.com/spec/v1\noid x", "pointer of Git LFS"),
        ("a.edf", b"ppg,ecg\n1,2\n", "is no EDF file: it begins with 'ppg,ecg'"),
        ("a.npz", b"\x89HDF\r\n\x1a\n", "is an HDF5 file, not what .npz says"),
    ],
)
def test_other_containers(tmp_path, name, content, complaint):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=complaint):
        read_all(tmp_path / name, SFREQ)


def test_the_end_mark_of_dos_is_a_row_that_breaks_off(tmp_path):
    """Its cell made text of all times, and the first good one was named as the fault."""
    write(tmp_path, "table.csv", "time,ppg,ecg", TIMED)
    path = tmp_path / "table.csv"
    path.write_bytes(path.read_bytes().rstrip(b"\n") + b"\n\x1a")
    (recording,) = read_all(path)
    np.testing.assert_allclose(recording.ppg, PPG, atol=1e-5)
    assert "cut_row" in recording.repairs


def test_what_has_two_values_is_no_pulse(tmp_path):
    rows = [f"{s:.2f},{x > 0.3}" for s, x in zip(TIME, PPG, strict=True)]
    with pytest.raises(UserError, match="ppg holds no value but 0 and 1; that is no pulse wave"):
        table(tmp_path, "time,ppg", rows)


def test_an_array_of_two_signals_is_told_by_its_shape(tmp_path):
    np.savez(tmp_path / "two.npz", ppg=np.stack([PPG, -PPG]), fs=SFREQ)
    with pytest.raises(UserError, match=r"'ppg' has shape \(2, 1500\); expected one row"):
        read_all(tmp_path / "two.npz")


@pytest.mark.parametrize(
    "word, value", [("male", 1), ("f", 0), ("Female ", 0), ("W", np.nan), ("mujer", np.nan)]
)
def test_words_for_a_sex(tmp_path, word, value):
    np.savez(tmp_path / "who.npz", ppg=PPG, fs=SFREQ, sex=word)
    (recording,) = read_all(tmp_path / "who.npz")
    windows, _ = prepare_recording(recording, min_quality=-1)
    np.testing.assert_array_equal(windows.labels["sex"], np.full(len(windows), value))
