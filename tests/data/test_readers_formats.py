"""Formats of which nothing real can be shipped: written with their own library or documented
layout, and read back.
"""

import os
import pickle
from datetime import datetime

import edfio
import h5py
import numpy as np
import pandas as pd
import pytest
import vitaldb
import wfdb
from scipy import io, signal

from xmae.data import WindowStore
from xmae.data.bidmc import bidmc_files
from xmae.data.prepare.prepare import prepare
from xmae.data.recording.channels import ChannelMap, find_roles
from xmae.data.recording.readers import find_in_folder, read_recording, read_recordings
from xmae.errors import UserError

SECONDS = 64


@pytest.fixture(scope="module")
def real():
    """Return 64 s of a real recording at 125 Hz: PPG, ECG II, ECG V, respiration."""
    recording = read_recording(bidmc_files()[0])
    n = SECONDS * 125
    return {
        "ppg": recording.ppg[:n],
        "II": recording.ecg[:n],
        "V": recording.leads["V"][:n],
        "resp": recording.resp[:n],
    }


def at_rate(x, sfreq):
    """Return a signal of 125 Hz at another rate, by the frequency domain: not the reader's own
    method.
    """
    return signal.resample(np.concatenate([x, x[::-1]]), round(2 * len(x) * sfreq / 125))[
        : round(len(x) * sfreq / 125)
    ]


def alike(x, expected, correlation=0.999):
    inner = slice(len(expected) // 10, -len(expected) // 10)
    return len(x) == len(expected) and np.corrcoef(x[inner], expected[inner])[0, 1] > correlation


def test_channel_names():
    roles = find_roles(["RESP", "V", "SNUADC/ECG_II", "Pleth", "ACC_X", "ABP", "EKG"])
    assert roles == {
        "ppg": ["Pleth"],
        "ecg": ["SNUADC/ECG_II", "EKG", "V"],
        "resp": ["RESP"],
        "acc": ["ACC_X"],
    }
    assert find_roles(["ECG I", "Lead II", "bvp"])["ecg"] == ["Lead II", "ECG I"]
    assert find_roles(["green", "II", "Pleth"], {"ppg": "green"})["ppg"] == ["green"]
    assert find_roles(["II", "Pleth"], {"ppg": ["green", "Pleth"], "ecg": "II"}) == {
        "ppg": ["Pleth"],
        "ecg": ["II"],
    }
    with pytest.raises(UserError, match="no channel 'z' for acc"):  # its length needs every axis
        find_roles(["ppg", "x", "y"], {"acc": ["x", "y", "z"]})
    with pytest.raises(
        UserError, match="no channel 'red' for ppg, as the channel map has it; there are green"
    ):
        find_roles(["green"], {"ppg": "red"})


@pytest.mark.parametrize(
    "rates", [(20, 2000), (64, 700), (62.4725, 249.89), (2000, 2000), (25, 250)]
)
def test_rates_of_20_to_2000_hz_are_brought_to_one_clock(tmp_path, real, rates):
    with h5py.File(tmp_path / "r.h5", "w") as file:
        for name, x, rate in zip(("PPG", "ECG"), (real["ppg"], real["II"]), rates, strict=True):
            file.create_dataset(name, data=at_rate(x, rate)).attrs["fs"] = rate
    recording = read_recording(tmp_path / "r.h5")
    common = 200 if rates[0] != rates[1] else rates[0]
    assert recording.sfreq == common
    n = len(recording.ppg)
    assert abs(n / common - SECONDS) < 0.1
    for x, name, band in ((recording.ppg, "ppg", rates[0]), (recording.ecg, "II", rates[1])):
        slow = signal.sosfiltfilt(
            signal.butter(6, min(0.4 * band, 40), fs=125, output="sos"), real[name]
        )
        expected = np.interp(np.arange(n) / common, np.arange(len(slow)) / 125, slow)
        assert alike(x, expected, 0.98)


def test_down_sampling_does_not_alias(tmp_path):
    time = np.arange(20 * 2000) / 2000
    hum = np.sin(2 * np.pi * 190 * time)  # would fold to 10 Hz at 200 Hz
    with h5py.File(tmp_path / "r.h5", "w") as file:
        file.create_dataset("ECG", data=np.sin(2 * np.pi * 5 * time) + hum).attrs["fs"] = 2000
        file.create_dataset("PPG", data=np.sin(2 * np.pi * 1.2 * time[::20])).attrs["fs"] = 100
    ecg = read_recording(tmp_path / "r.h5").ecg
    assert (
        np.abs(ecg[400:-400] - np.sin(2 * np.pi * 5 * np.arange(4000) / 200)[400:-400]).max() < 0.02
    )


def test_wfdb_of_several_segments(tmp_path, real):
    """Layout of MIMIC's matched waveforms: a layout header, segments with other channels, and a gap
    of nothing.
    """
    half = SECONDS * 125 // 2
    write = {"fs": 125, "write_dir": str(tmp_path), "base_time": None}
    write.pop("base_time")
    first = np.stack([real["II"], real["ppg"]], axis=1)[:half]
    wfdb.wrsamp(
        "3000001_0001",
        units=["mV", "NU"],
        sig_name=["II", "PLETH"],
        p_signal=first,
        fmt=["16"] * 2,
        **write,
    )
    wfdb.wrsamp(
        "3000001_0002",
        units=["mV"],
        sig_name=["V"],
        p_signal=real["V"][:half, None],
        fmt=["16"],
        **write,
    )
    second = np.stack([real["ppg"], real["II"], real["V"]], axis=1)[half:]
    wfdb.wrsamp(
        "3000001_0003",
        units=["NU", "mV", "mV"],
        sig_name=["PLETH", "II", "V"],
        p_signal=second,
        fmt=["16"] * 3,
        **write,
    )
    (tmp_path / "3000001_layout.hea").write_text(
        "3000001_layout 3 125 0\n~ 0 1(0)/mV 0 0 0 0 0 II\n~ 0 1(0)/NU 0 0 0 0 0 PLETH\n~ 0 "
        "1(0)/mV 0 0 0 0 0 V\n"
    )
    parts = f"3000001_0001 {half}\n~ {half}\n3000001_0002 {half}\n3000001_0003 {half}\n"
    master = tmp_path / "p000033-2116-12-24-12-35.hea"
    master.write_text(
        f"p000033-2116-12-24-12-35/5 3 125 {4 * half} 12:35:00.000 24/12/2116\n3000001_layout "
        f"0\n{parts}"
    )
    recordings = list(read_recordings(master))
    assert [recording.record for recording in recordings] == ["3000001_0001", "3000001_0003"]
    assert {recording.subject for recording in recordings} == {"p000033"}
    begun = [datetime.fromisoformat(recording.start) for recording in recordings]
    assert (
        begun[0] == datetime(2116, 12, 24, 12, 35)
        and (begun[1] - begun[0]).total_seconds() == 3 * SECONDS / 2
    )
    np.testing.assert_allclose(recordings[1].ppg, real["ppg"][half:], atol=1e-4)
    np.testing.assert_allclose(recordings[0].ecg, real["II"][:half], atol=1e-4)
    assert list(recordings[1].leads) == ["II", "V"]
    assert find_in_folder(tmp_path) == ([master], [])  # not its segments once more
    settings = {
        "inputs": [str(tmp_path)],
        "out": str(tmp_path / "store"),
        "split": "1,0,0",
        "min_quality": -1,
    }
    result = prepare(**settings)
    assert (
        result["windows"] == 6
        and result["repairs"] == {}
        and result["passed_over"] == {"segments without PPG": 1}
    )
    # what is wrong with one segment costs no other
    (tmp_path / "map.yaml").write_text("ecg: V\n")
    result = prepare(**settings, channels=str(tmp_path / "map.yaml"))
    assert result["windows"] == 3 and result["passed_over"] == {
        "segments without a mapped channel": 1, "segments without PPG": 1,
    }  # fmt: skip
    (tmp_path / "3000001_0001.dat").write_bytes(b"short")
    with pytest.raises(UserError, match="3000001_0001.hea: not readable"):
        prepare(**settings)
    result = prepare(**settings, skip_bad=True)
    assert result["windows"] == 3 and "3000001_0001.hea" in result["left_out"][0]["why"]


def test_one_bad_recording_of_a_file_costs_no_other(tmp_path, real):
    with h5py.File(tmp_path / "beds.h5", "w") as file:
        file.attrs["fs"] = 125.0
        for bed, ppg in (
            ("1", real["ppg"][:2500]),
            ("2", real["ppg"][:900]),
            ("3", real["ppg"][2500:]),
        ):
            file.create_group(bed)["PPG"] = ppg
        file.create_group("4")["PPG"] = np.array([b"no number"] * 2500)
    time = np.arange(2500) / 125
    users = {"a": time, "b": np.where(np.arange(2500) > 99, time - 5, time), "c": time}
    table = pd.concat(
        [pd.DataFrame({"subject": name, "t": x}) for name, x in users.items()], ignore_index=True
    )
    table.assign(ppg=real["ppg"][:7500]).to_csv(tmp_path / "users.csv", index=False)
    settings = {"out": str(tmp_path / "store"), "split": "1,0,0", "min_quality": -1}
    for name, why, windows in (
        ("beds.h5", "7.2 s long, shorter", 6),
        ("users.csv", "goes back in row 101", 4),
    ):
        with pytest.raises(UserError, match=why):
            prepare([str(tmp_path / name)], **settings)
        result = prepare([str(tmp_path / name)], **settings, skip_bad=True)
        assert result["windows"] == windows and why in result["left_out"][0]["why"]
    result = prepare([str(tmp_path / "beds.h5")], **settings, skip_bad=True)
    assert "holds |S9, no numbers" in result["left_out"][1]["why"]


def test_units_that_the_user_says_count_in_every_format(tmp_path, real):
    """The map says that the ECG, written without a unit or with a wrong one, is in microvolts."""
    ppg, ecg, units = real["ppg"], 1000 * real["II"], {"II": "uV", "ECG": "uV", "ECG (mV)": "uV"}
    np.savez(tmp_path / "r.npz", ppg=ppg, ecg=ecg, fs=125)
    wfdb.wrsamp(
        "w",
        125,
        ["NU", "NU"],
        ["PLETH", "II"],
        np.stack([ppg, ecg], 1),
        fmt=["16"] * 2,
        write_dir=str(tmp_path),
    )
    labels = (("PLETH", ppg), ("II", ecg))
    edfio.Edf([edfio.EdfSignal(x, 125, label=name) for name, x in labels]).write(tmp_path / "r.edf")
    file = vitaldb.VitalFile()
    for name, x in labels:
        file.add_track(name, [{"dt": 1e9, "val": x.astype(np.float32)}], srate=125)
    file.dtstart, file.dtend = 1e9, 1e9 + SECONDS
    file.to_vital(str(tmp_path / "r.vital"))
    acc = np.zeros((SECONDS * 32, 3))
    signals = {"chest": {"ECG": at_rate(ecg, 700)}, "wrist": {"BVP": at_rate(ppg, 64), "ACC": acc}}
    (tmp_path / "r.pkl").write_bytes(pickle.dumps({"subject": "S1", "signal": signals}))
    pd.DataFrame({"ppg": ppg, "ECG (mV)": ecg}).to_csv(tmp_path / "r.csv", index=False)
    for name in ("r.npz", "w.hea", "r.edf", "r.vital", "r.pkl", "r.csv"):
        rate = 125.0 if name == "r.csv" else None
        (recording,) = read_recordings(tmp_path / name, ChannelMap(units=units, sfreq=rate))
        assert np.nanstd(recording.ecg) == pytest.approx(np.std(real["II"]), rel=0.03), name
        assert "ecg_unit" not in recording.repairs  # not by a guess


def test_edf_with_several_rates(tmp_path, real):
    signals = [
        edfio.EdfSignal(
            at_rate(real["II"], 256) * 1000, 256, label="ECG II", physical_dimension="uV"
        ),
        edfio.EdfSignal(at_rate(real["ppg"], 64), 64, label="Pleth"),
        edfio.EdfSignal(at_rate(real["resp"], 32), 32, label="Thor Res"),
        edfio.EdfSignal(np.zeros(SECONDS), 1, label="SpO2"),
    ]
    night = edfio.Recording(startdate=datetime(2020, 3, 4).date())
    patient = edfio.Patient(code="S17", sex="F")
    edfio.Edf(
        signals, patient=patient, recording=night, starttime=datetime(2020, 3, 4, 22, 5).time()
    ).write(tmp_path / "night.edf")
    recording = read_recording(tmp_path / "night.edf")
    assert (recording.subject, recording.labels, recording.start) == (
        "S17",
        {"sex": "F"},
        "2020-03-04T22:05:00",
    )
    time = np.arange(SECONDS * 200) / 200
    assert recording.sfreq == 200 and list(recording.leads) == ["II"]
    mv = np.interp(time, np.arange(SECONDS * 125) / 125, real["II"])
    assert alike(recording.ecg, mv, 0.98) and np.std(recording.ecg) == pytest.approx(
        np.std(mv), rel=0.05
    )  # mV
    assert alike(recording.ppg, np.interp(time, np.arange(SECONDS * 125) / 125, real["ppg"]))
    assert alike(recording.resp, np.interp(time, np.arange(SECONDS * 125) / 125, real["resp"]))
    assert recording.record == "night"
    whole = (tmp_path / "night.edf").read_bytes()
    (tmp_path / "cut.edf").write_bytes(whole[:300])
    with pytest.raises(UserError, match="cut.edf"):
        read_recording(tmp_path / "cut.edf")


def test_edf_with_breaks(tmp_path, real):
    """EDF+D: each data record states its time, and two breaks part 64 s into 25, 4 and 35 s."""
    labels = (("II", "ECG II"), ("ppg", "Pleth"))
    signals = [
        edfio.EdfSignal(real[name], 125, label=label, physical_range=(-9, 9))
        for name, label in labels
    ]
    start = {
        "recording": edfio.Recording(startdate=datetime(2020, 3, 4).date()),
        "starttime": datetime(2020, 3, 4, 22).time(),
    }
    edfio.Edf(
        signals, annotations=[edfio.EdfAnnotation(30, 2, "apnea")], data_record_duration=1, **start
    ).write(tmp_path / "d.edf")
    content = (tmp_path / "d.edf").read_bytes().replace(b"EDF+C", b"EDF+D", 1)
    for second in range(SECONDS):
        late = 0 if second < 25 else 100 if second < 29 else 500
        old, new = (f"+{time}\x14\x14".encode() for time in (second, second + late))
        place = content.index(old, 256 * 4 + second * (len(content) - 256 * 4) // SECONDS)
        content = (
            content[:place]
            + new
            + content[place + len(old) :].replace(b"\0" * (len(new) - len(old)), b"", 1)
        )
    (tmp_path / "d.edf").write_bytes(content)
    first, second = read_recordings(tmp_path / "d.edf")
    assert (first.record, first.start) == ("d-000", "2020-03-04T22:00:00")
    assert (second.record, second.start) == ("d-002", "2020-03-04T22:08:49")
    np.testing.assert_allclose(first.ppg, real["ppg"][: 25 * 125], atol=3e-4)
    np.testing.assert_allclose(second.ecg, real["II"][29 * 125 :], atol=3e-4)


def write_pulsedb(path, real, order, starts, cases=("2174-11-06-10-12",) * 5):
    """Write windows as MATLAB v7.3 keeps a struct array: a row of references for each field."""
    with h5py.File(path, "w") as file:
        group, refs = file.create_group("Subj_Wins"), file.create_group("#refs#")

        def letters(text):
            return np.array([[ord(letter)] for letter in text], np.uint16)

        def field(name, values):
            cells = np.empty((1, len(values)), h5py.ref_dtype)
            for k, value in enumerate(values):
                cells[0, k] = refs.create_dataset(f"{name}{k}", data=value).ref
            group.create_dataset(name, data=cells)

        windows = [slice(k * 1250, (k + 1) * 1250) for k in order]
        field("PPG_Raw", [real["ppg"][window][None] for window in windows])
        field("ECG_Raw", [real["II"][window][None] for window in windows])
        field("T", [(start + np.arange(1250) / 125)[None] for start in starts])
        field("SubjectID", [letters("p000123")] * len(order))
        field("CaseID", [letters(case) for case in cases])
        field("Gender", [letters("F")] * len(order))
        for name, values in {
            "SegSBP": [100.0 + k for k in order],
            "SegDBP": [60.0 + k for k in order],
            "Age": [55.0] * len(order),
            "BMI": [22.5] * len(order),
            "Height": [170.0] * len(order),
            "SegmentID": order,
            "WinID": order,
            "WinSeqID": order,
        }.items():
            field(name, [np.array([[value]]) for value in values])


def test_pulsedb(tmp_path, real):
    write_pulsedb(tmp_path / "p000123.mat", real, [0, 1, 2, 4, 3], [0, 10, 20, 50, 100])
    recordings = list(read_recordings(tmp_path / "p000123.mat"))
    assert [len(recording.ppg) for recording in recordings] == [3750, 1250, 1250]
    assert {recording.subject for recording in recordings} == {"p000123"} and recordings[0].labels[
        "sex"
    ] == "F"
    np.testing.assert_array_equal(recordings[0].ecg, real["II"][:3750])
    assert recordings[0].labels["age"] == 55 and recordings[1].labels["sbp"][0].tolist() == [104]
    prepare([str(tmp_path / "p000123.mat")], str(tmp_path / "store"), split="1,0,0", min_quality=-1)
    windows = WindowStore(tmp_path / "store").windows()
    assert windows.labels["sbp"].tolist() == [100, 101, 102, 104, 103] and set(
        windows.labels["bmi"]
    ) == {22.5}
    assert len(set(windows.record)) == 3 and windows.start_s.tolist() == [0, 10, 20, 0, 0]
    assert set(windows.labels["height"]) == {170}
    assert [row["start"][11:] for row in WindowStore(tmp_path / "store").index()] == [
        "10:12:00",
        "10:12:50",
        "10:13:40",
    ]
    # times count from the start of each case
    two = ["2174-11-06-10-12"] * 2 + ["2174-11-07-10-12"] * 3
    write_pulsedb(tmp_path / "two.mat", real, [0, 1, 2, 3, 4], [0, 10, 5, 15, 25], two)
    recordings = list(read_recordings(tmp_path / "two.mat"))
    assert [len(recording.ppg) for recording in recordings] == [2500, 3750]
    np.testing.assert_array_equal(recordings[1].ppg, real["ppg"][2500:6250])
    io.savemat(tmp_path / "old.mat", {"ppg": real["ppg"]})
    with pytest.raises(UserError, match="old.mat: no sampling rate; give --sfreq"):
        read_recording(tmp_path / "old.mat")
    (tmp_path / "cut.mat").write_bytes((tmp_path / "p000123.mat").read_bytes()[:3000])
    with pytest.raises(UserError, match="cut.mat: not readable as MATLAB v7.3"):
        read_recording(tmp_path / "cut.mat")


def test_hdf5_with_a_group_a_patient_and_a_channel_map(tmp_path, real):
    with h5py.File(tmp_path / "icu.h5", "w") as file:
        file.attrs["fs"] = 125.0
        for name in ("bed1", "bed2"):
            group = file.create_group(f"2024/{name}")
            group.attrs["subject"], group.attrs["age"] = f"person-{name}", 70
            group["ir_led"], group["chest"] = real["ppg"], real["II"] * 1000
            group["chest"].attrs["unit"] = "uV"
    with pytest.raises(UserError, match="no PPG among its datasets"):
        list(read_recordings(tmp_path / "icu.h5"))
    (tmp_path / "map.yaml").write_text("ppg: ir_led\necg: chest\n")
    recordings = list(read_recordings(tmp_path / "icu.h5", ChannelMap.load(tmp_path / "map.yaml")))
    assert [recording.subject for recording in recordings] == ["person-bed1", "person-bed2"]
    np.testing.assert_allclose(recordings[0].ecg, real["II"])
    assert recordings[0].labels["age"] == 70
    store = str(tmp_path / "store")
    result = prepare(
        [str(tmp_path / "icu.h5")],
        store,
        "1,0,0",
        channels=str(tmp_path / "map.yaml"),
        min_quality=-1,
    )
    # the same samples twice
    assert result["windows"] == 6 and "one person" in result["left_out"][0]["why"]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_tables_with_a_channel_map_gaps_and_people(tmp_path, real, suffix):
    time = 1000 * np.arange(SECONDS * 125) / 125
    table = pd.DataFrame(
        {"ms": time, "green": real["ppg"], "patch": real["II"], "who": ["a"] * 4000 + ["b"] * 4000}
    )
    table = table.drop(index=range(1000, 1125))  # one second is not there
    table.loc[5000:5010, "green"] = np.nan
    path = tmp_path / f"watch.{suffix}"
    table.to_csv(path, index=False) if suffix == "csv" else table.to_parquet(path)
    map_file = tmp_path / "map.yaml"
    map_file.write_text(
        "ppg: green\necg: [patch]\ntime: ms\ntime_unit: ms\nsubject: who\nunits: {patch: mV}\n"
    )
    first, second = read_recordings(path, ChannelMap.load(map_file))
    assert (first.subject, second.subject) == ("a", "b") and first.sfreq == pytest.approx(125)
    assert (
        len(first.ppg) == 4000
        and np.isnan(first.ppg[1000:1125]).all()
        and np.isnan(first.ppg).sum() == 125
    )
    assert first.repairs == ["time_gaps"] and np.isnan(second.ppg).sum() == 11
    np.testing.assert_allclose(first.ecg[1125:], real["II"][1125:4000])
    for text, complaint in [
        ("ppg: blue\n", "no channel 'blue' for ppg"),
        ("pgg: green\n", r"no key 'pgg'; there are ppg, ecg, .*; did you mean ppg\?$"),
        (
            "ppg: gren\n",
            (
                r"no channel 'gren' for ppg, as the channel map has it; there are .*; did you mean "
                r"green\?$"
            ),
        ),
        ("ppg: [\n", "not readable as a channel map"),
        ("ppg: green\ntime_unit: fortnight\n", "time_unit 'fortnight'"),
        ("ppg: green\ntime: when\n", "no column 'when' for time"),
        ("ppg: green\ntime: ms\ntime_unit: ms\nsubject: whom\n", "no column 'whom' for subject"),
        ("ppg: 3\n", "ppg is 3; expected a name or a list of names"),
        ("sfreq: fast\n", "sfreq is 'fast'; expected a number, Hz"),
    ]:
        map_file.write_text(text)
        with pytest.raises(UserError, match=complaint):
            list(read_recordings(path, ChannelMap.load(map_file)))


def test_vital(tmp_path, real):
    file = vitaldb.VitalFile()

    def blocks(x, sfreq):
        return [
            {"dt": 1e9 + k, "val": x[int(k * sfreq) : int((k + 1) * sfreq)].astype(np.float32)}
            for k in range(SECONDS)
        ]

    # a second is lost
    ecg = [block for block in blocks(at_rate(real["II"], 500), 500) if block["dt"] != 1e9 + 20]
    file.add_track("SNUADC/ECG_II", ecg, srate=500, unit="mV")
    file.add_track("SNUADC/PLETH", blocks(real["ppg"], 125), srate=125)
    file.add_track("Solar8000/HR", [{"dt": 1e9 + 2 * k, "val": 70.0 + k} for k in range(32)])
    file.dtstart, file.dtend = 1e9, 1e9 + SECONDS
    file.to_vital(str(tmp_path / "12.vital"))
    recording = read_recording(tmp_path / "12.vital")
    time = np.arange(SECONDS * 200) / 200
    assert recording.sfreq == 200 and recording.start.startswith("2001-09-09")
    gap = np.isnan(recording.ecg)
    assert gap[4000:4200].mean() > 0.98 and gap.sum() < 210
    expected = np.interp(time, np.arange(SECONDS * 125) / 125, real["II"])
    assert np.corrcoef(recording.ecg[~gap], expected[~gap])[0, 1] > 0.97
    assert alike(recording.ppg, np.interp(time, np.arange(SECONDS * 125) / 125, real["ppg"]))
    values, rate = recording.labels["hr_monitor"]
    assert rate == 0.5 and values[:3].tolist() == [70, 71, 72]


class Evil:
    def __reduce__(self):
        return os.system, ("touch evil",)


def test_ppg_dalia_and_wesad(tmp_path, real, monkeypatch):
    monkeypatch.chdir(tmp_path)
    acc = np.tile([0, 0, 64.0], (SECONDS * 32, 1))
    signals = {
        "chest": {
            "ECG": at_rate(real["II"], 700)[:, None],
            "Resp": at_rate(real["resp"], 700)[:, None],
        },
        "wrist": {"BVP": at_rate(real["ppg"], 64)[:, None], "ACC": acc},
    }
    rates = np.arange(29.0) + 60  # windows of 8 s, every 2 s
    dalia = {
        "subject": "S3",
        "signal": signals,
        "label": rates,
        "activity": np.zeros((SECONDS * 4, 1)),
        "questionnaire": {"AGE": 25, "Gender": " m"},
    }
    for protocol in (2, 4):
        (tmp_path / "S3.pkl").write_bytes(pickle.dumps(dalia, protocol))
        recording = read_recording(tmp_path / "S3.pkl")
        assert (recording.subject, recording.sfreq) == ("S3", 200) and recording.labels["age"] == 25
        assert recording.labels["sex"] == "M" and recording.labels["hr_reference"][0][
            2:4
        ].tolist() == [
            60,
            61,
        ]
        np.testing.assert_allclose(recording.acc[2, :-50], 1, atol=0.01)
        time = np.arange(len(recording.ppg)) / 200
        assert alike(recording.ppg, np.interp(time, np.arange(SECONDS * 125) / 125, real["ppg"]))
    wesad = {"subject": "S4", "signal": signals, "label": np.zeros(SECONDS * 700, int)}
    (tmp_path / "S4.pkl").write_bytes(pickle.dumps(wesad, 2))
    assert "hr_reference" not in read_recording(tmp_path / "S4.pkl").labels
    for evil in (Evil(), {"subject": Evil(), "signal": signals}, np.array([Evil()], object)):
        (tmp_path / "S5.pkl").write_bytes(pickle.dumps(evil))
        with pytest.raises(
            UserError,
            match="S5.pkl: refused: (it asks for (posix|nt).system|an array of the type 'O8')",
        ):
            read_recording(tmp_path / "S5.pkl")
    (tmp_path / "S6.pkl").write_bytes(pickle.dumps(wesad)[:5000])
    with pytest.raises(UserError, match="S6.pkl: not readable"):
        read_recording(tmp_path / "S6.pkl")
    assert not (tmp_path / "evil").exists()
