"""Sessions: one recording from the files of several devices, each with its own start, rate,
clock.
"""

import json
from datetime import timedelta

import numpy as np
import pytest
import recorder_files as files
import yaml

from xmae.cli import main
from xmae.data import WindowStore
from xmae.data.bidmc import FOLDER
from xmae.data.clocks import clocks
from xmae.data.prepare.prepare_file import state_of
from xmae.data.recording.readers import find_in_folder, read_recording
from xmae.errors import UserError
from xmae.signals.offset import estimate_clocks, steepest_rises
from xmae.signals.quality import ecg_peaks, ppg_peaks

SECONDS, SWING = 480, (100, 110)  # s: the arm moves
OWN_LAG_S = 0.458  # of this recording, as its monitor wrote it


@pytest.fixture(scope="module")
def real():
    recording = read_recording(FOLDER / "bidmc15.npz")
    return {"ppg": recording.ppg[: SECONDS * 125], "ecg": recording.ecg[: SECONDS * 125]}


def watch(folder, ppg, offset_s, drift_ppm, start_s=2.0, start=files.START):
    """Write the files of a watch that starts 2 s late, whose clock is ahead and fast: PPG at 64 Hz
    and acceleration at 50 Hz, CSV, each with the watch's own times.
    """
    stamps = {}
    for name, rate in (("ppg", 64), ("acc", 50)):
        ticks = np.arange(int((SECONDS - start_s) * rate)) / rate  # of the watch
        stamps[name] = (ticks, start_s + ticks / (1 + 1e-6 * drift_ppm))  # and the true time
    begun = start + timedelta(seconds=start_s + offset_s)
    ticks, true = stamps["ppg"]
    green = np.interp(true, np.arange(len(ppg)) / 125, ppg)
    rows = [
        f"{(begun + timedelta(seconds=t)).isoformat()},{x:.6f}"
        for t, x in zip(ticks, green, strict=True)
    ]
    (folder / "watch_ppg.csv").write_text("\n".join(["time,green", *rows]) + "\n")
    ticks, true = stamps["acc"]
    moves = np.where((true >= SWING[0]) & (true < SWING[1]), 0.5 * np.sin(12 * true), 0)
    rows = [
        f"{(begun + timedelta(seconds=t)).isoformat()},0,{x:.4f},1"
        for t, x in zip(ticks, moves, strict=True)
    ]
    (folder / "watch_acc.csv").write_text("\n".join(["time,acc_x,acc_y,acc_z", *rows]) + "\n")


def manifest(folder, name="session.yaml", **more):
    content = {
        "subject": "p01",
        "age": 34,
        "sex": "F",
        "sources": [
            {"file": "watch_ppg.csv", "ppg": "green", "clock": "watch"},
            {"file": "watch_acc.csv", "clock": "watch"},
            {"file": "Polar_H10_A1_20260504_100000_ECG.txt", "clock": "strap"},
        ],
    }
    (folder / name).write_text(yaml.safe_dump(content | more))
    return folder / name


@pytest.fixture(scope="module")
def session(real, tmp_path_factory):
    """Return watch PPG at 64 Hz and a strap at 130 Hz, 3.4 s and 40 ppm apart."""
    folder = tmp_path_factory.mktemp("session")
    watch(folder, real["ppg"], 3.4, 40)
    files.polar_ecg(folder, real["ecg"])
    return manifest(folder)


def test_from_three_files_to_a_store_in_step(session, tmp_path, capsys):
    """A person with watch PPG at 64 Hz, a strap at 130 Hz and two clocks: one command, one
    manifest, and the report shows that it is in step.
    """
    store = tmp_path / "store"
    assert main(["prepare", str(session), "--out", str(store)]) == 0  # one person: all in train
    assert "NOT IN STEP" not in capsys.readouterr().err
    (row,) = WindowStore(store).index()
    assert (row["subject"], row["record"], row["clock_state"]) == ("p01", "session", "corrected")
    own = OWN_LAG_S - 0.25  # this recording's own lag, as its monitor wrote it, less the assumed
    assert row["clock_offset_s"] == pytest.approx(3.4 + own, abs=0.05)
    assert abs(row["clock_left_s"]) < 0.03
    windows = WindowStore(store).windows()
    assert len(windows) >= 40 and windows.labels["age"][0] == 34
    # independent of what the doctor says: pulses follow R peaks by 0.25 s in the stored windows,
    # at the begin as at the end
    for half in (slice(0, 20), slice(-20, None)):
        lags = [lag_of(windows.ecg[k], windows.ppg[k]) for k in range(len(windows))[half]]
        assert np.nanmedian(lags) == pytest.approx(0.25, abs=0.03)
    assert main(["data", "report", str(store), "--out", str(tmp_path / "report")]) == 0
    page = (tmp_path / "report" / "report.html").read_text()
    assert "Clocks of ECG and PPG" in page and "<td>corrected</td>" in page
    assert "Not in step" not in page and "three axes, g, at 100 Hz" in page
    capsys.readouterr()


def lag_of(ecg, ppg):
    """Return the median time from an R peak to the next steepest rise of a window, s."""
    r_peaks = ecg_peaks(ecg.astype(float), 100) / 100
    rises = steepest_rises(ppg.astype(float), ppg_peaks(ppg.astype(float), 100), 100)
    after = np.searchsorted(rises, r_peaks)
    some = after < len(rises)
    return np.median(rises[after[some]] - r_peaks[some]) if some.any() else np.nan


def test_signals_are_put_in_place_by_their_starts(session, real):
    recording = read_recording(session)
    assert recording.own_clocks and recording.sfreq == 200 and recording.acc.shape[0] == 3
    # the watch starts 2 s after the strap, and its clock is 3.4 s ahead
    assert recording.start.startswith("2026-05-04T10:00:0")
    time = 5.4 + np.arange(len(recording.ecg)) / 200
    expected = np.interp(time, np.arange(len(real["ecg"])) / 125, 1000 * real["ecg"])
    fit = [np.dot(recording.ecg[400 + k : -400 + k], expected[400:-400]) for k in range(-40, 41)]
    assert abs(np.argmax(fit) - 40) <= 2  # 10 ms: the phone's stamp is one sample of 130 Hz late
    moving = np.flatnonzero(np.abs(recording.acc[1]) > 0.2) / 200
    assert moving[0] == pytest.approx(SWING[0] + 3.4 - 5.4, abs=0.2)


def test_known_clocks_are_used(session):
    known = manifest(
        session.parent, "known.yaml", clocks={"watch": {"offset_s": 3.4, "drift_ppm": 40}}
    )
    recording = read_recording(known)
    assert recording.clocks.state == "given" and recording.clocks.offset_s == 3.4
    sfreq = recording.sfreq
    clean = recording.ppg - np.mean(recording.ppg)
    found = estimate_clocks(
        ecg_peaks(recording.ecg, sfreq) / sfreq,
        steepest_rises(clean, ppg_peaks(clean, sfreq), sfreq),
    )
    assert found.lag_s == pytest.approx(OWN_LAG_S, abs=0.04)  # as the recording was made


def test_uncertain_clocks_leave_the_session_out(tmp_path, capsys):
    regular = read_recording(FOLDER / "bidmc02.npz")  # on a ventilator
    watch(tmp_path, regular.ppg[: SECONDS * 125], 3.4, 0)
    files.polar_ecg(tmp_path, regular.ecg[: 120 * 125])
    path = manifest(tmp_path)
    assert main(["prepare", str(path), "--out", str(tmp_path / "store"), "--split", "1,0,0"]) == 2
    error = capsys.readouterr().err
    assert "clocks of ECG and PPG not certain" in error


def test_a_folder_reads_its_session_and_not_the_parts(session):
    found, others = find_in_folder(session.parent)
    assert session in found and not others
    assert {path.suffix for path in found} == {".yaml"}
    (session.parent / "map.yaml").write_text("ppg: green\n")  # a channel map is no recording
    again, others = find_in_folder(session.parent)
    (session.parent / "map.yaml").unlink()
    assert again == found and others == []
    assert len(state_of(session)) == 4  # a changed part is a changed recording


def test_strap_acceleration_is_not_taken_for_the_wrists(session, tmp_path, real):
    stem = "Polar_H10_A1_20260504_100000"
    files.polar_ecg(tmp_path, real["ecg"])
    columns = {f"{axis} [mg]": np.full(SECONDS * 50, 577.0) for axis in "XYZ"}
    files.polar(tmp_path / f"{stem}_ACC.txt", columns, 50)
    watch(tmp_path, real["ppg"], 0, 0)
    sources = [{"file": "watch_ppg.csv", "ppg": "green"}, f"{stem}_ECG.txt"]
    recording = read_recording(manifest(tmp_path, sources=sources))
    assert recording.acc is None and "acceleration_of_another_clock" in recording.repairs
    assert recording.own_clocks  # without names of clocks, ECG and PPG have each its own


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"sourcs": []}, "a session has no key 'sourcs'.*sources"),
        ({"sources": []}, "lists its files under sources"),
        ({"sources": [{"ppg": "green"}]}, "each of sources has a file"),
        ({"sources": ["nothing.csv"]}, "nothing.csv: no such file"),
        ({"sources": [{"file": "watch_ppg.csv", "ppg": "gren"}]}, "no channel 'gren' for ppg"),
        ({"sources": ["watch_acc.csv"]}, "no source has PPG"),
        ({"clocks": {"wach": {"offset_s": 1}}}, "no source has the clock 'wach'"),
        ({"clocks": {"watch": {"offset": 1}}}, "clock 'watch': expected numbers for offset_s"),
        ({"sources": [{"file": "watch_ppg.csv", "start": "noon"}]}, "start of watch_ppg.csv is no"),
        (
            {
                "sources": [
                    {"file": "watch_ppg.csv", "ppg": "green", "start": "2026-05-04T10:00:00Z"},
                    "Polar_H10_A1_20260504_100000_ECG.txt",
                ]
            },
            "the start of Polar_H10.* has no time zone",
        ),
    ],
)
def test_mistakes_are_told(session, change, complaint):
    path = manifest(session.parent, "wrong.yaml", **change)
    try:
        with pytest.raises(UserError, match=complaint):
            read_recording(path)
    finally:
        path.unlink()


def test_the_doctor_turns_raw_counts_over_as_prepare_does(real, tmp_path):
    """Their pulses fall at systole; upside down, no lag was certain."""
    np.savez(tmp_path / "raw.npz", ppg=30000 - 2000 * real["ppg"], ecg=real["ecg"], fs=125.0)
    (row,) = clocks([str(tmp_path / "raw.npz")], str(tmp_path / "out"))["recordings"]
    assert row["certain"] and row["lag_s"] == pytest.approx(OWN_LAG_S, abs=0.05)


def test_the_verb_reads_sessions(session, tmp_path, capsys):
    assert main(["data", "clocks", str(session), "--out", str(tmp_path / "clocks")]) == 0
    (row,) = json.loads((tmp_path / "clocks" / "clocks.json").read_text())["recordings"]
    assert row["certain"] and row["offset_s"] == pytest.approx(3.4 + OWN_LAG_S - 0.25, abs=0.05)
    capsys.readouterr()
