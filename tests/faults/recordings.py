"""Whole recordings of each format, and how each is opened."""

import pickle
from datetime import datetime

import edfio
import h5py
import numpy as np
import pandas as pd
import vitaldb
import wfdb
from scipy import io

from tests.data import recorder_files
from xmae.data.recording.channels import ChannelMap
from xmae.data.recording.readers import plain_table, read_each
from xmae.errors import UserError

from .kind import SECONDS, SFREQ


def read_all(path):
    """Read every recording of a file; one that is refused raises its refusal."""
    tabular = path.name in ("a.csv", "a.parquet", "a.txt")
    recordings = list(read_each(path, ChannelMap(sfreq=SFREQ if tabular else None)))
    for recording in recordings:
        if isinstance(recording, UserError):
            raise recording
    return recordings


def write_npz(folder, signals):
    """Write an archive like the shipped recordings: int16 where it fits, with a scale."""
    np.savez(folder / "a.npz", **signals, ecg_lead="II", age=64, sex="F", hr=np.full(12, 80.0))
    return folder / "a.npz"


def write_wfdb(folder, signals):
    """Write a record of one segment with two signals."""
    both = np.stack([signals["ppg"], signals["ecg"]], axis=1)
    wfdb.wrsamp("w", float(np.ravel(signals["fs"])[0]), ["NU", "mV"], ["PLETH", "II"], both,
                fmt=["16", "212"], comments=["age: 64 sex: F"], write_dir=str(folder))  # fmt: skip
    return folder / "w.hea"


def write_segments(folder, signals):
    """Write a record of two segments and a gap, as MIMIC's matched waveforms."""
    both = np.stack([signals["ppg"], signals["ecg"]], axis=1)
    for name in ("3_0001", "3_0002"):
        wfdb.wrsamp(name, SFREQ, ["NU", "mV"], ["PLETH", "II"], both, fmt=["16"] * 2,
                    write_dir=str(folder))  # fmt: skip
    (folder / "3_layout.hea").write_text(
        "3_layout 2 125 0\n~ 0 1(0)/NU 0 0 0 0 0 PLETH\n~ 0 1(0)/mV 0 0 0 0 0 II\n"
    )
    n = len(both)
    (folder / "p000033-2116.hea").write_text(
        f"p000033-2116/4 2 125 {3 * n} 12:35:00.000 24/12/2116\n3_layout 0\n3_0001 {n}\n~ {n}\n"
        f"3_0002 {n}\n"
    )
    return folder / "p000033-2116.hea"


def table_of(signals):
    """Return a table with times."""
    n = np.arange(len(np.ravel(signals["ppg"])))
    return pd.DataFrame(
        {"time": n / SFREQ, "ppg": signals["ppg"], "ECG [mV]": signals["ecg"], "subject": "007"}
    )


def write_csv(folder, signals):
    """Write a table with times, a unit and a subject."""
    table_of(signals).round(5).to_csv(folder / "a.csv", index=False)
    return folder / "a.csv"


def write_parquet(folder, signals):
    """Write the same table as Parquet."""
    table_of(signals).to_parquet(folder / "a.parquet")
    return folder / "a.parquet"


def write_edf(folder, signals, annotations=()):
    """Write a file with two signals at one rate."""
    made = [
        edfio.EdfSignal(signals[name], float(np.ravel(signals["fs"])[0]), label=label)
        for name, label in (("ppg", "Pleth"), ("ecg", "ECG II"))
    ]
    edfio.Edf(
        made, annotations=annotations, patient=edfio.Patient(code="S1", sex="F"),
        recording=edfio.Recording(startdate=datetime(2020, 3, 4).date()),
        starttime=datetime(2020, 3, 4, 22).time(), data_record_duration=1,
    ).write(folder / "a.edf")  # fmt: skip
    return folder / "a.edf"


def write_edf_d(folder, signals):
    """Write a file that says it has breaks: the place of each record is read from its
    annotations.
    """
    path = write_edf(folder, signals, [edfio.EdfAnnotation(3, 2, "apnea")])
    path.write_bytes(path.read_bytes().replace(b"EDF+C", b"EDF+D", 1))
    return path


def write_hdf5(folder, signals):
    """Write a file with a group for each bed."""
    with h5py.File(folder / "a.h5", "w") as file:
        bed = file.create_group("1")
        bed.attrs.update({"subject": "S1", "age": 64.0, "sex": "F"})
        for name in ("ppg", "ecg"):
            made = bed.create_dataset(name.upper(), data=signals[name], compression="gzip")
            made.attrs["fs"] = signals["fs"]
    return folder / "a.h5"


def write_pulsedb(folder, signals):
    """Write windows as MATLAB v7.3 keeps a struct array."""
    with h5py.File(folder / "a.mat", "w") as file:
        group, cells = file.create_group("Subj_Wins"), file.create_group("#refs#")

        def column(name, values):
            refs = np.empty((1, len(values)), h5py.ref_dtype)
            for k, value in enumerate(values):
                refs[0, k] = cells.create_dataset(f"{name}{k}", data=value).ref
            group.create_dataset(name, data=refs)

        for key, name in (("PPG_Raw", "ppg"), ("ECG_Raw", "ecg")):
            x = np.ravel(signals[name])
            column(key, [x[None, :1250], x[None, -1250:]])
        letters = [np.array([[ord(letter)] for letter in "p000123"], np.uint16)] * 2
        column("SubjectID", letters)
        column("T", [np.arange(1250)[None] / 125, 10 + np.arange(1250)[None] / 125])
        column("Age", [np.array([[64.0]])] * 2)
    return folder / "a.mat"


def write_vital(folder, signals):
    """Write a file with two waves and a number."""
    file = vitaldb.VitalFile()
    for name, x in (("SNUADC/PLETH", signals["ppg"]), ("SNUADC/ECG_II", signals["ecg"])):
        x = np.ravel(x).astype(np.float32)
        blocks = [{"dt": 1e9 + k, "val": x[k * SFREQ : (k + 1) * SFREQ]} for k in range(SECONDS)]
        file.add_track(name, blocks, srate=float(np.ravel(signals["fs"])[0]), unit="mV")
    file.add_track("Solar8000/HR", [{"dt": 1e9 + 2 * k, "val": 70.0} for k in range(6)])
    file.dtstart, file.dtend = 1e9, 1e9 + SECONDS
    file.to_vital(str(folder / "a.vital"))
    return folder / "a.vital"


def write_pickle(folder, signals):
    """Write a pickle like PPG-DaLiA's: a dict of dicts of arrays."""
    chest, wrist = SECONDS * 700, SECONDS * 64

    def at(x, n):
        x = np.ravel(x)
        return np.interp(np.linspace(0, len(x) - 1, n), np.arange(len(x)), x)[:, None]

    content = {
        "subject": "S1",
        "signal": {
            "chest": {"ECG": at(signals["ecg"], chest), "Resp": at(signals["resp"], chest)},
            "wrist": {"BVP": at(signals["ppg"], wrist), "ACC": np.zeros((SECONDS * 32, 3))},
        },
        "questionnaire": {"AGE": 64, "Gender": " f"},
        "activity": np.zeros((SECONDS * 4, 1)),
        "label": np.full(3, 80.0),
    }
    (folder / "a.pkl").write_bytes(pickle.dumps(content, protocol=2))
    return folder / "a.pkl"


def write_dreamer(folder, signals):
    """Write a file of two people and two clips."""

    def cell(x):
        made = np.empty((2, 1), object)
        made[0, 0] = made[1, 0] = x
        return made

    n = 12
    person = {
        "EEG": {"baseline": cell(np.zeros((n * 128, 14))), "stimuli": cell(np.ones((n * 128, 14)))},
        "ECG": {"baseline": cell(np.zeros((n * 256, 2))), "stimuli": cell(np.ones((n * 256, 2)))},
    } | {f"Score{name}": np.array([[3], [4]]) for name in ("Valence", "Arousal", "Dominance")}
    names = np.array([f"E{k}" for k in range(14)], object)
    content = {
        "EEG_SamplingRate": 128, "ECG_SamplingRate": 256, "EEG_Electrodes": names,
        "Data": cell(person),
    }  # fmt: skip
    io.savemat(folder / "DREAMER.mat", {"DREAMER": content})
    return folder / "DREAMER.mat"


# ---- recorders, by the layouts of tests/data/recorder_files.py


def write_twin(folder, signals):
    """Write a generated person, as `xmae twin` writes them: with beats and what is readable."""
    beats = np.arange(0.5, SECONDS, 0.8)
    np.savez_compressed(
        folder / "person_0001.npz", patient="twin77_0001", record="person_0001",
        ppg=signals["ppg"], ecg=signals["ecg"], fs=signals["fs"], beats_s=beats,
        pulses_s=beats + 0.2, beat_kind=np.zeros(len(beats), np.uint8),
        readable=np.ones(SECONDS, bool),
    )  # fmt: skip
    return folder / "person_0001.npz"


def write_empatica(folder, signals):
    """Write the BVP.csv and ACC.csv of an Empatica E4."""
    path = recorder_files.empatica(folder, signals["ppg"], SECONDS)
    for name in ("HR.csv", "IBI.csv", "tags.csv"):
        (folder / name).unlink()
    return path


def write_embraceplus(folder, signals):
    """Write a file of an Empatica EmbracePlus."""
    return recorder_files.embraceplus(folder / "a.avro", signals["ppg"], SECONDS)


def write_polar(folder, signals):
    """Write the PPG and acceleration of a Polar Verity Sense."""
    return recorder_files.polar_ppg(folder, signals["ppg"], SECONDS)


def write_shimmer(folder, signals):
    """Write a file of Shimmer: tabs and units."""
    return recorder_files.shimmer(folder / "shimmer.csv", signals["ppg"], signals["ecg"])


def write_opensignals(folder, signals):
    """Write a file of a BITalino: a header in JSON."""
    path = folder / "opensignals.txt"
    return recorder_files.opensignals(path, signals["ppg"], signals["ecg"], lost=(700, 701))


def write_biopac(folder, signals):
    """Write a file with two channels, one at half the rate."""
    channels = [("PPG100C", "Volts", signals["ppg"], 1), ("ECG100C", "mV", signals["ecg"][::2], 2)]
    return recorder_files.biopac(folder / "a.acq", channels, 125)


def write_spc(folder, signals):
    """Write the signals and heart rates of the IEEE Signal Processing Cup, in two files."""
    rows = [
        signals["ecg"],
        signals["ppg"],
        signals["ppg"],
        *recorder_files.still(SFREQ * SECONDS).T,
    ]
    io.savemat(folder / "DATA_01_TYPE01.mat", {"sig": np.stack(rows)}, do_compression=True)
    io.savemat(folder / "REF_01_TYPE01.mat", {"BPM0": np.full((3, 1), 70.0)})
    return folder / "DATA_01_TYPE01.mat"


def write_bami(folder, signals):
    """Write a file of BAMI: three rows of PPG."""
    ppg, acc = np.tile(signals["ppg"], (3, 1)), recorder_files.still(SFREQ * SECONDS).T
    rates = np.full((1, 10), 70.0)
    io.savemat(folder / "BAMI1_1.mat", {"rawPPG": ppg, "rawAcc": acc, "bpm_ecg": rates})
    return folder / "BAMI1_1.mat"


SESSION = """subject: p01
age: 34
sex: F
sources:
  - {file: BVP.csv, clock: watch}
  - {file: ecg.csv, clock: strap, start: '2026-05-04T10:00:00+00:00'}
clocks:
  watch: {offset_s: 0.2, drift_ppm: 30}
"""


def write_session(folder, signals):
    """Write a watch's PPG and an ECG of Apple Health, joined by a manifest."""
    write_empatica(folder, signals)
    recorder_files.apple_health(folder / "ecg.csv", signals["ecg"])
    (folder / "a.session.yaml").write_text(SESSION)
    return folder / "a.session.yaml"


def read_light(path):
    """Read as the light runtime reads a table, without pandas."""
    return list(plain_table.read(path, ChannelMap(sfreq=SFREQ)))


def write_light(folder, signals):
    """Write a table of numbers alone."""
    table = table_of(signals).drop(columns="subject")
    table.round(5).to_csv(folder / "a.csv", index=False)
    return folder / "a.csv"


def write_txt(folder, signals):
    """Return a table with tabs and a decimal comma."""
    table = table_of(signals).drop(columns="subject").round(5)
    table.to_csv(folder / "a.txt", index=False, sep="\t", decimal=",")
    return folder / "a.txt"
