"""Archives, MATLAB, HDF5 and WFDB files as further programs lay them out."""

import h5py
import numpy as np
import pytest
import scipy.io
import wfdb
from case_files import read_all, synth

from xmae.data.recording.readers import find_in_folder
from xmae.errors import UserError

SFREQ = 50
TIME, PPG, ECG = synth(SFREQ, seconds=30)


def hdf5(path, attributes=None, **items):
    with h5py.File(path, "w") as file:
        for name, value in items.items():
            file[name] = value
            file[name].attrs.update((attributes or {}).get(name, {}))
    return path


@pytest.mark.parametrize(
    "content",
    [
        {"ppg": PPG, "ecg": ECG, "fs": 50.0},
        {"PPG": PPG[:, None], "ECG": ECG[:, None], "Fs": 50, "subject": "a"},
        {"data": {"ppg": PPG, "ecg": ECG, "fs": 50.0, "subject": "a"}},
        {"data": {"ppg": PPG, "ecg": ECG}, "sampling_rate": 50.0},
    ],
)
def test_matlab_5_by_names(tmp_path, content):
    scipy.io.savemat(tmp_path / "a.mat", content)
    assert len(find_in_folder(tmp_path)[0]) == 1
    (recording,) = read_all(tmp_path / "a.mat")
    assert (recording.sfreq, recording.subject) == (SFREQ, "a")
    np.testing.assert_array_equal(recording.ppg, PPG)
    np.testing.assert_array_equal(recording.ecg, ECG)


def test_matlab_5_that_is_told(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"ppg": PPG})
    with pytest.raises(UserError, match="no sampling rate"):
        read_all(tmp_path / "a.mat")
    (recording,) = read_all(tmp_path / "a.mat", sfreq=50)
    np.testing.assert_array_equal(recording.ppg, PPG)
    scipy.io.savemat(tmp_path / "b.mat", {"x": PPG, "fs": 50.0})
    with pytest.raises(UserError, match="with x, fs; expected ppg and fs"):
        read_all(tmp_path / "b.mat")
    (recording,) = read_all(tmp_path / "b.mat", roles={"ppg": "x"})
    np.testing.assert_array_equal(recording.ppg, PPG)
    scipy.io.savemat(tmp_path / "c.mat", {"ppg": PPG}, format="4")
    with pytest.raises(UserError, match="a file of MATLAB 4"):
        read_all(tmp_path / "c.mat")


def test_times_of_hdf5_make_rate_and_gaps(tmp_path):
    path = hdf5(tmp_path / "a.h5", ppg=PPG, time=TIME)
    (recording,) = read_all(path)
    assert recording.sfreq == pytest.approx(SFREQ)
    late = np.where(TIME >= 15, TIME + 5, TIME)
    path = hdf5(tmp_path / "b.h5", {"time": {"unit": "ms"}}, ppg=PPG, time=1000 * late, fs=50.0)
    (recording,) = read_all(path)
    assert len(recording.ppg) == len(PPG) + 250 and "time_gaps" in recording.repairs
    with pytest.raises(UserError, match="the rate of 'ppg' is 100 Hz, and its times have 50 Hz"):
        read_all(hdf5(tmp_path / "c.h5", ppg=PPG, time=TIME, fs=100.0))


def test_scales_that_hdf5_states(tmp_path):
    codes = np.round(1000 * ECG).astype(np.int16)
    stated = {"ecg": {"scale_factor": 0.001, "units": "mV"}}
    (recording,) = read_all(hdf5(tmp_path / "a.h5", stated, ppg=PPG, ecg=codes, fs=50.0))
    np.testing.assert_allclose(recording.ecg, ECG, atol=1e-3)


@pytest.mark.parametrize("kind", ["complex128", "U"])
def test_what_is_no_number_is_told(tmp_path, kind):
    np.savez(tmp_path / "a.npz", ppg=PPG.astype(kind), fs=50.0)
    with pytest.raises(UserError, match="a.npz: 'ppg' holds .*, no numbers"):
        read_all(tmp_path / "a.npz")
    if kind == "complex128":
        with pytest.raises(UserError, match="'/ppg' holds complex128, no numbers"):
            read_all(hdf5(tmp_path / "a.h5", ppg=PPG.astype(kind), fs=50.0))


def test_channels_of_wfdb_with_names_of_two_words(tmp_path):
    """In a folder such a record was passed over."""
    wfdb.wrsamp("a", 50, ["NU"], ["PPG Green"], PPG[:, None], fmt=["16"], write_dir=str(tmp_path))
    found, passed_over = find_in_folder(tmp_path)
    assert len(found) == 1 and not passed_over
    np.testing.assert_allclose(read_all(found[0])[0].ppg, PPG, atol=1e-3)


@pytest.mark.parametrize("said, age", [("7 months", 7 / 12), ("64", 64), ("3 days", 3 / 365.25)])
def test_ages_of_wfdb_in_months(tmp_path, said, age):
    signals = np.stack([PPG, ECG], 1)
    wfdb.wrsamp("a", 50, ["NU", "mV"], ["PLETH", "II"], signals, fmt=["16"] * 2,
                comments=[f"age: {said} sex: F"], write_dir=str(tmp_path))  # fmt: skip
    (recording,) = read_all(tmp_path / "a.hea")
    assert recording.labels["age"] == pytest.approx(age) and recording.labels["sex"] == "F"


def test_a_wrong_name_in_a_map_names_the_file(tmp_path):
    rows = ["1544027337.0", "64.0", *map(str, PPG)]
    (tmp_path / "BVP.csv").write_text("\n".join(rows) + "\n")
    with pytest.raises(UserError, match="BVP.csv: no channel 'green' for ppg"):
        read_all(tmp_path / "BVP.csv", roles={"ppg": "green"})


@pytest.mark.parametrize(
    "subject, named",
    [({"age": 57.0, "sex": "M"}, "a"), (7.0, "7"), (np.float32(7), "7"), (" S1 ", "S1")],
)
def test_subjects_of_matlab_5(tmp_path, subject, named):
    """A struct of that name is nobody's name; a number is the same in each kind of file."""
    content = {"ppg": PPG, "fs": 50.0, "subject": subject}
    scipy.io.savemat(tmp_path / "a.mat", content)
    (recording,) = read_all(tmp_path / "a.mat")
    assert recording.subject == named
    assert ("subject_from_file_name" in recording.repairs) == (named == "a")


def test_a_rate_of_matlab_5_that_is_a_struct(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"ppg": PPG, "fs": {"ppg": 50.0}, "age": {"years": 57.0}})
    with pytest.raises(UserError, match="no sampling rate"):
        read_all(tmp_path / "a.mat")
    (recording,) = read_all(tmp_path / "a.mat", sfreq=50)
    assert "age" not in recording.labels


@pytest.mark.parametrize(
    "name, values, unit",
    [
        ("time", np.arange(7.0), {}),
        ("t", np.zeros(3), {}),
        ("timestamp", np.array([b"2026-05-04T10:00:00"] * len(PPG)), {}),
        ("time", np.arange(len(PPG)), {"units": "ticks"}),
    ],
)
def test_other_times_of_hdf5_do_not_count(tmp_path, name, values, unit):
    """Times of something else, and times that cannot be read beside a rate that is stated."""
    items = {"ppg": PPG, "fs": 50.0, name: values}
    (recording,) = read_all(hdf5(tmp_path / "a.h5", {name: unit}, **items))
    assert recording.sfreq == SFREQ
    np.testing.assert_array_equal(recording.ppg, PPG)


def test_times_of_hdf5_that_are_needed_are_told(tmp_path):
    path = hdf5(tmp_path / "a.h5", {"time": {"unit": "ticks"}}, ppg=PPG, time=TIME)
    with pytest.raises(UserError, match="the unit 'ticks'"):
        read_all(path)
    path = hdf5(tmp_path / "b.h5", ppg=PPG, time=np.array([b"10:00"] * len(PPG)))
    with pytest.raises(UserError, match="no numbers"):
        read_all(path)


@pytest.mark.parametrize(
    "comments, age",
    [
        (["Age: 65", "Day: 3"], 65), (["age: 7 months", "sex: F"], 7 / 12),
        (["Age:", "12 leads"], None), (["age: 65 daytime"], 65), (["age: 1 day"], 1 / 365.25),
    ],
)  # fmt: skip
def test_ages_of_wfdb_end_with_their_line(tmp_path, comments, age):
    signals = np.stack([PPG, ECG], 1)
    wfdb.wrsamp("a", 50, ["NU", "mV"], ["PLETH", "II"], signals, fmt=["16"] * 2,
                comments=comments, write_dir=str(tmp_path))  # fmt: skip
    (recording,) = read_all(tmp_path / "a.hea")
    assert recording.labels.get("age") == (None if age is None else pytest.approx(age))
