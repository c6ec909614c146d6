"""IEEE SPC and BAMI: files of their exact layout."""

import numpy as np
import pytest
import scipy.io

from xmae.data.bidmc import bidmc_files
from xmae.data.recording.readers import find_in_folder, read_recording
from xmae.errors import UserError
from xmae.signals.resample import resample

SECONDS = 60
RATES = np.arange(70.0, 97.0)  # 27 windows of 8 s, every 2 s


@pytest.fixture(scope="module")
def real():
    recording = read_recording(bidmc_files()[0])
    return {name: getattr(recording, name)[: SECONDS * 125] for name in ("ppg", "ecg")}


def write_spc(folder, real, name, rows=6):
    n = SECONDS * 125
    signals = np.stack([
        1000 * real["ecg"], 50 * real["ppg"], 40 * real["ppg"],
        np.full(n, 0.1), np.full(n, -0.2), np.full(n, 0.97),
    ])  # fmt: skip
    scipy.io.savemat(folder / f"{name}.mat", {"sig": signals[-rows:]}, do_compression=True)


@pytest.mark.parametrize(
    ("name", "beside", "rows", "subject"),
    [
        ("DATA_01_TYPE01", "REF_01_TYPE01", 6, "DATA_01"),
        ("DATA_12_TYPE02", "DATA_12_TYPE02_BPMtrace", 6, "DATA_12"),
        ("TEST_S03_T02", "True_S03_T02", 5, "TEST_S03"),
    ],
)
def test_ieee_spc(tmp_path, real, name, beside, rows, subject):
    write_spc(tmp_path, real, name, rows)
    scipy.io.savemat(tmp_path / f"{beside}.mat", {"BPM0": RATES[:, None]})
    found, others = find_in_folder(tmp_path)
    assert [path.stem for path in found] == [name] and [path.stem for path in others] == [beside]
    recording = read_recording(found[0])
    assert (recording.subject, recording.sfreq) == (subject, 125)
    np.testing.assert_allclose(recording.ppg, 50 * real["ppg"])
    if rows == 6:
        np.testing.assert_allclose(recording.ecg, 1000 * real["ecg"])
    else:
        assert recording.ecg is None
    np.testing.assert_allclose(
        recording.acc[2], 0.97 / np.sqrt(0.1**2 + 0.2**2 + 0.97**2), atol=0.01
    )
    values, sfreq = recording.labels["hr_reference"]
    assert sfreq == 0.5 and np.isnan(values[:2]).all() and values[2:].tolist() == RATES.tolist()


def test_bami(tmp_path, real):
    ppg = resample(real["ppg"], 125, 50)
    acc = np.stack([np.zeros(len(ppg)), np.zeros(len(ppg)), np.full(len(ppg), 9.80665)])
    content = {"rawPPG": np.stack([ppg, 2 * ppg, 3 * ppg]), "rawAcc": acc, "bpm_ecg": RATES[None]}
    scipy.io.savemat(tmp_path / "BAMI1_1.mat", content)
    recording = read_recording(tmp_path / "BAMI1_1.mat")
    assert (recording.subject, recording.sfreq) == ("BAMI1_1", 50)
    np.testing.assert_allclose(recording.ppg, ppg)
    np.testing.assert_allclose(recording.acc[2], 1)
    assert recording.labels["hr_reference"][0][2:].tolist() == RATES.tolist()


def test_what_is_neither_is_told(tmp_path, real):
    scipy.io.savemat(tmp_path / "other.mat", {"x": np.zeros(3)})
    with pytest.raises(UserError, match=r"other.mat: a MATLAB 5 file with x; expected ppg"):
        read_recording(tmp_path / "other.mat")
    write_spc(tmp_path, real, "DATA_02_TYPE02")
    whole = (tmp_path / "DATA_02_TYPE02.mat").read_bytes()
    (tmp_path / "cut.mat").write_bytes(whole[:5000])
    with pytest.raises(UserError, match="cut.mat: not readable as a MATLAB 5 file"):
        read_recording(tmp_path / "cut.mat")
    scipy.io.savemat(tmp_path / "rows.mat", {"sig": np.zeros((4, 1000))})
    with pytest.raises(UserError, match=r"rows.mat: sig has the shape \(4, 1000\)"):
        read_recording(tmp_path / "rows.mat")
