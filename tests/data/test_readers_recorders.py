"""Exports of recorders, read as they come: each a file of its layout, written from real signals."""

import shutil

import numpy as np
import pytest
import recorder_files as files

from xmae.data.bidmc import FOLDER
from xmae.data.recording.readers import find_in_folder, read_recording
from xmae.errors import UserError

SECONDS = 60


@pytest.fixture(scope="module")
def real():
    recording = read_recording(FOLDER / "bidmc33.npz")
    n = SECONDS * 125
    return {"ppg": recording.ppg[:n], "ecg": recording.ecg[:n]}


def alike(x, truth, sfreq, least=0.99):
    """Tell whether a signal is the truth (125 Hz), but for scale and what it lost by its rate."""
    expected = np.interp(np.arange(len(x)) / sfreq, np.arange(len(truth)) / 125, truth)
    known = np.isfinite(x) & (np.arange(len(x)) < len(x) - 20)
    return np.corrcoef(x[known], expected[known])[0, 1] > least


def test_empatica_e4(tmp_path, real):
    bvp = files.empatica(tmp_path / "e4", real["ppg"], SECONDS, late_acc_s=0.5)
    found, others = find_in_folder(tmp_path)
    assert found == [bvp] and {path.name for path in others} >= {"ACC.csv", "HR.csv"}
    recording = read_recording(bvp)
    assert recording.start == "2026-05-04T10:00:00" and recording.sfreq == 64
    assert len(recording.ppg) == SECONDS * 64 and recording.ecg is None
    np.testing.assert_allclose(recording.ppg, 50 * files.at(real["ppg"], 64), atol=0.006)
    np.testing.assert_allclose(recording.acc[2, 64:-64], 63 / 64, atol=1e-3)
    assert np.isnan(recording.acc[0, 0]) and np.isfinite(recording.acc[0, 64])  # 0.5 s later
    (tmp_path / "e4" / "ACC.csv").unlink()
    assert read_recording(bvp).acc is None
    bvp.write_text("1777888800.0\n64.0\nx\n1\n")
    with pytest.raises(UserError, match=r"BVP.csv: not readable as a file of an Empatica E4"):
        read_recording(bvp)


def test_empatica_embraceplus(tmp_path, real):
    pytest.importorskip("fastavro")
    path = files.embraceplus(tmp_path / "1-1-p01_1777888800.avro", real["ppg"], SECONDS)
    recording = read_recording(path)
    assert recording.start == "2026-05-04T10:00:00" and recording.sfreq == 64
    np.testing.assert_allclose(recording.ppg, files.at(real["ppg"], 64), atol=1e-4)
    assert np.nanmedian(recording.acc[2]) == pytest.approx(0.99, abs=1e-3)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(UserError, match="not readable as Avro"):
        read_recording(path)


def test_polar_verity_sense(tmp_path, real):
    path = files.polar_ppg(tmp_path, real["ppg"], SECONDS)
    recording = read_recording(path)
    assert recording.sfreq == pytest.approx(55, rel=1e-6)
    assert recording.start.startswith("2026-05-04T10:00:0")
    assert alike(recording.ppg, real["ppg"], 55)  # and upright
    assert np.nanmedian(recording.acc[2]) == pytest.approx(0.99, abs=1e-3)
    assert np.isnan(recording.acc[0, 0])  # the accelerometer began 0.4 s later


def test_polar_h10_is_a_part_not_a_recording(tmp_path, real):
    path = files.polar_ecg(tmp_path, real["ecg"])
    with pytest.raises(UserError, match=r"_ECG.txt: has no PPG \(ECG\); join it .* session"):
        read_recording(path)
    assert find_in_folder(tmp_path) == ([], [path])


def test_shimmer(tmp_path, real):
    recording = read_recording(files.shimmer(tmp_path / "shimmer.csv", real["ppg"], real["ecg"]))
    assert recording.sfreq == pytest.approx(128, rel=1e-5)
    assert alike(recording.ppg, real["ppg"], 128) and alike(recording.ecg, real["ecg"], 128)
    span = np.ptp(recording.ecg) / np.ptp(real["ecg"])
    assert span == pytest.approx(1, abs=0.05)  # LL-RA, not the LA-RA of half its size
    np.testing.assert_allclose(np.median(recording.acc[2]), 0.99, atol=1e-3)


def test_opensignals(tmp_path, real):
    path = files.opensignals(tmp_path / "bitalino.txt", real["ppg"], real["ecg"])
    recording = read_recording(path)
    assert recording.sfreq == 1000 and recording.start == "2026-05-04T10:00:00.500000"
    assert alike(recording.ppg, real["ppg"], 1000)
    mv = files.at(real["ecg"], 1000)
    assert np.abs(recording.ecg - mv)[100:-100].max() < 0.003  # one step of 10 bits
    gap = files.opensignals(tmp_path / "gap.txt", real["ppg"], real["ecg"], range(5000, 5007))
    recording = read_recording(gap)
    assert "time_gaps" in recording.repairs and len(recording.ppg) == 60000
    assert np.flatnonzero(np.isnan(recording.ppg)).tolist() == list(range(5000, 5007))
    (tmp_path / "cut.txt").write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match="cut.txt: not readable as OpenSignals"):
        read_recording(tmp_path / "cut.txt")


@pytest.mark.parametrize("comma, german", [(False, False), (True, False), (True, True)])
def test_apple_health_is_a_part_not_a_recording(tmp_path, real, comma, german):
    from xmae.data.recording.channels import ChannelMap
    from xmae.data.recording.readers import reader_of

    path = files.apple_health(
        tmp_path / "ecg_2026-05-04.csv", real["ecg"][: 30 * 125], comma, german
    )
    part = reader_of(path).part_of(path, ChannelMap())
    (channel,) = part.channels
    assert (channel.name, channel.sfreq, len(channel.x)) == ("I", 512, 30 * 512)
    assert part.start == "2026-05-04T12:00:00+02:00"
    np.testing.assert_allclose(channel.x, 1000 * files.at(real["ecg"][: 30 * 125], 512), atol=1e-3)
    with pytest.raises(UserError, match=r"has no PPG \(I\); join it"):
        read_recording(path)


def test_biopac(tmp_path, real):
    pytest.importorskip("bioread")
    channels = [
        ("ECG100C", "mV", files.at(real["ecg"], 500), 1),
        ("PPG100C", "Volts", files.at(real["ppg"], 250), 2),
        ("EDA100C", "microsiemens", np.full(30000, 3.0) + np.arange(30000) % 2, 1),
    ]
    path = files.biopac(tmp_path / "lab.acq", channels, 500)
    recording = read_recording(path)
    assert recording.sfreq == 200 and len(recording.ppg) == SECONDS * 200
    assert alike(recording.ppg, real["ppg"], 200) and alike(recording.ecg, real["ecg"], 200, 0.98)
    shutil.copy(path, tmp_path / "cut.acq")
    (tmp_path / "cut.acq").write_bytes(path.read_bytes()[:3000])
    with pytest.raises(UserError, match="cut.acq: not readable as AcqKnowledge"):
        read_recording(tmp_path / "cut.acq")


def test_people_and_counts_of_embraceplus(tmp_path, real):
    """Files of half an hour are of one participant; gravity tells steps that are not stated."""
    pytest.importorskip("fastavro")
    path = files.embraceplus(tmp_path / "1-1-P01_17.avro", real["ppg"], SECONDS, "P01", False)
    recording = read_recording(path)
    assert recording.subject == "P01" and "subject_from_file_name" not in recording.repairs
    assert "acceleration_unit" in recording.repairs
    assert np.nanmedian(np.linalg.norm(recording.acc, axis=0)) == pytest.approx(1, abs=0.01)


def test_the_person_of_embraceplus_in_a_session(tmp_path, real):
    """The manifest goes first; files of two people are no session."""
    pytest.importorskip("fastavro")
    for name in ("P01", "P02"):
        files.embraceplus(tmp_path / f"{name}.avro", real["ppg"], SECONDS, name)
    path = tmp_path / "night.yaml"
    path.write_text("sources: [P01.avro]\n")
    recording = read_recording(path)
    assert recording.subject == "P01" and "subject_from_file_name" not in recording.repairs
    path.write_text("subject: S9\nsources: [P01.avro]\n")
    assert read_recording(path).subject == "S9"
    path.write_text("sources: [P01.avro, {file: P02.avro, ppg: [], acc: [ACC_X]}]\n")
    with pytest.raises(UserError, match="its files name several people, P01, P02; say who"):
        read_recording(path)


def test_a_heart_rate_of_shimmer_is_no_ppg(tmp_path, real):
    path = files.shimmer(tmp_path / "a.csv", real["ppg"], real["ecg"], "PPGtoHR_CAL")
    with pytest.raises(UserError, match="a.csv: has no PPG"):
        read_recording(path)


def test_sensors_of_a_bitalino_by_their_older_names(tmp_path, real):
    path = files.opensignals(
        tmp_path / "a.txt", real["ppg"], real["ecg"], sensors=["ECGBIT", "BVPBIT"]
    )
    recording = read_recording(path)
    assert alike(recording.ppg, real["ppg"], 1000) and alike(recording.ecg, real["ecg"], 1000)
