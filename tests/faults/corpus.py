"""Whole files of each kind that xmae reads, and how each is opened."""

import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import edfio
import h5py
import numpy as np
import pandas as pd
import torch
import vitaldb
import wfdb
import yaml
from scipy import io

from xmae.benchmarks.harness.baseline import load_reference
from xmae.benchmarks.harness.regressions import find_regressions, read_result
from xmae.cli import function_of
from xmae.cli.options import read_settings
from xmae.data.bidmc import bidmc_files
from xmae.data.prepare.inputs import read_splits, read_subjects
from xmae.data.prepare.prepare import prepare
from xmae.data.recording.channels import ChannelMap
from xmae.data.recording.readers import read_each, read_recording
from xmae.data.recording.readers.dreamer import read_dreamer
from xmae.data.store.integrity import verify
from xmae.data.store.relabel import read_labels
from xmae.data.store.store import WindowStore
from xmae.errors import UserError
from xmae.evaluation.protocol.labels import read_labels as read_task_labels
from xmae.export.bundle.bundle import Bundle, preprocessing, seal
from xmae.export.bundle.signature import signature_of
from xmae.files import sha256
from xmae.models.checkpoint import load_encoder, save_encoder
from xmae.models.student import McuStudent
from xmae.quantize.calibration import FEWEST, read_calibration
from xmae.signals.window import N_TIMES
from xmae.training.fit import LAST, check_resume

SFREQ, SECONDS = 125, 13  # a window and a bit


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    Parameters
    ----------
    name : str
        As the table shows it.
    write : callable
        ``write(folder, signals)`` writes whole files and returns the path to open. `signals` are
        ppg, ecg, resp (arrays) and fs (Hz); kinds without signals pass them over.
    open : callable
        ``open(path)`` reads all that the kind's reader reads.
    damaged : tuple of str
        Patterns of the files to damage; by default all.
    signals : bool
        Whether `write` uses its signals, so that their values can be forged too.
    repair : callable
        ``repair(folder)`` makes digests fit the damaged files, so that what lies behind is reached.
    """

    name: str
    write: Callable
    open: Callable
    damaged: tuple = ("*",)
    signals: bool = False
    repair: Callable = field(default=lambda folder: None)


def real_signals():
    """A few seconds of a shipped recording."""
    recording, n = read_recording(bidmc_files()[0]), SFREQ * SECONDS
    parts = {"ppg": recording.ppg, "ecg": recording.ecg, "resp": recording.resp}
    return {name: np.asarray(x[:n], float) for name, x in parts.items()} | {"fs": SFREQ}


# ---- recordings


def read_all(path):
    """Every recording of a file; one that is refused raises its refusal."""
    tabular = path.suffix in (".csv", ".parquet")
    recordings = list(read_each(path, ChannelMap(sfreq=SFREQ if tabular else None)))
    for recording in recordings:
        if isinstance(recording, UserError):
            raise recording
    return recordings


def write_npz(folder, signals):
    """As the shipped recordings: int16 where it fits, with a scale."""
    np.savez(folder / "a.npz", **signals, ecg_lead="II", age=64, sex="F", hr=np.full(12, 80.0))
    return folder / "a.npz"


def write_wfdb(folder, signals):
    """One segment, two signals."""
    both = np.stack([signals["ppg"], signals["ecg"]], axis=1)
    wfdb.wrsamp("w", float(np.ravel(signals["fs"])[0]), ["NU", "mV"], ["PLETH", "II"], both,
                fmt=["16", "212"], comments=["age: 64 sex: F"], write_dir=str(folder))  # fmt: skip
    return folder / "w.hea"


def write_segments(folder, signals):
    """Two segments and a gap, as MIMIC's matched waveforms."""
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
    """A table with times."""
    n = np.arange(len(np.ravel(signals["ppg"])))
    return pd.DataFrame(
        {"time": n / SFREQ, "ppg": signals["ppg"], "ECG [mV]": signals["ecg"], "subject": "007"}
    )


def write_csv(folder, signals):
    """Times, a unit, a subject."""
    table_of(signals).round(5).to_csv(folder / "a.csv", index=False)
    return folder / "a.csv"


def write_parquet(folder, signals):
    """The same in Parquet."""
    table_of(signals).to_parquet(folder / "a.parquet")
    return folder / "a.parquet"


def write_edf(folder, signals, annotations=()):
    """Two signals at one rate."""
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
    """A file that says it has breaks: the place of each record is read from its annotations."""
    path = write_edf(folder, signals, [edfio.EdfAnnotation(3, 2, "apnea")])
    path.write_bytes(path.read_bytes().replace(b"EDF+C", b"EDF+D", 1))
    return path


def write_hdf5(folder, signals):
    """A group a bed."""
    with h5py.File(folder / "a.h5", "w") as file:
        bed = file.create_group("1")
        bed.attrs.update({"subject": "S1", "age": 64.0, "sex": "F"})
        for name in ("ppg", "ecg"):
            made = bed.create_dataset(name.upper(), data=signals[name], compression="gzip")
            made.attrs["fs"] = signals["fs"]
    return folder / "a.h5"


def write_pulsedb(folder, signals):
    """Windows as MATLAB v7.3 keeps a struct array."""
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
    """Two waves and a number."""
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
    """As PPG-DaLiA: a dict of dicts of arrays."""
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
    """Two people, two clips."""

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


# ---- manifests, weights, settings


def write_store(folder, signals):
    """A store of one recording."""
    np.savez(folder / "r.npz", **signals)
    prepare([str(folder / "r.npz")], str(folder / "store"), split="1,0,0", min_quality=-1)
    (folder / "r.npz").unlink()
    return folder / "store" / "store.json"


def open_store(path):
    """All that a store is asked for."""
    store = WindowStore(path.parent)
    store.index()
    store.windows()
    return store.contents, verify(str(path.parent))


def rehash(folder):
    """Let store.json state the digests of its files as they are now."""
    path = folder / "store" / "store.json"
    meta = json.loads(path.read_text())
    for entry in (*meta["shards"], meta["index"]):
        entry["sha256"] = sha256(path.with_name(entry["file"]))
    path.write_text(json.dumps(meta))


def write_bundle(folder, signals):
    """A bundle of one file that is no model, with heads."""
    entry = {
        "model": "student",
        "format": "litert",
        "precision": "int8",
        "file": "student_int8.tflite",
    }
    (folder / "heads.json").write_text("{}")
    (folder / entry["file"]).write_bytes(b"weights")
    seal(folder, {"schema_version": 1, "window": {"sfreq": 100, "n_times": N_TIMES},
                  "preprocessing": preprocessing(), "models": [entry]})  # fmt: skip
    return folder / "manifest.json"


def write_signature(folder, signals):
    """A bundle with a signature whose key nobody knows."""
    path = write_bundle(folder, signals)
    record = {"algorithm": "ed25519", "public_key": "ab" * 32, "signature": "cd" * 64}
    path.with_name("signature.json").write_text(json.dumps(record))
    return path


def write_encoder(folder, signals):
    """The smallest student."""
    save_encoder(McuStudent(16, "mcu-s"), folder / "a.safetensors", {"method": "none"})
    return folder / "a.safetensors"


def write_checkpoint(folder, signals):
    """A run with one checkpoint."""
    state = {"state_dict": {"a": torch.arange(99.0)}, "optimizer_states": [], "lr_schedulers": [],
             "loops": {}, "callbacks": {}, "global_step": 1}  # fmt: skip
    (folder / "checkpoints").mkdir()
    torch.save(state, folder / "checkpoints" / LAST)
    (folder / "config.json").write_text(json.dumps({"lr": 0.1, "epochs": 3, "method": "xmae"}))
    return folder / "config.json"


def write_text(name, content):
    """A writer of one file of text."""

    def write(folder, signals):
        (folder / name).write_text(content)
        return folder / name

    return write


def write_calibration(folder, signals):
    """Random windows of one subject."""
    ppg = np.random.default_rng(0).uniform(-1, 1, (FEWEST, N_TIMES)).astype(np.float32)
    names, start = np.full(FEWEST, "a"), np.arange(FEWEST) * 10.0
    np.savez(folder / "calibration.npz", ppg=ppg, subject=names, record=names, start_s=start)
    return folder / "calibration.npz"


def write_reference(folder, signals):
    """A recorded run of `xmae bench`."""
    parts = {"embedding/base": np.ones((3, 8), np.float32), "train_mean/base": np.zeros(8)}
    keys = {
        "subject": np.array(list("abc")),
        "record": np.array(list("abc")),
        "start_s": np.arange(3.0),
    }
    np.savez_compressed(folder / "reference.npz", **keys, **parts)
    info = {"weights": {"base": "ab" * 32}, "device": "CPU", "xmae_version": "1", "latency_ms": {}}
    (folder / "reference.json").write_text(json.dumps(info))
    return folder / "reference.npz"


ROW = {"model": "base", "format": "onnx", "precision": "fp32", "device": "CPU", "latency_ms": 1.0,
       "latency_interval": [0.9, 1.1], "bytes": 9, "windows": 9, "cosine": 0.99}  # fmt: skip


def write_bench(folder, signals):
    """A result of `xmae bench`, as `--compare` reads it."""
    from xmae.benchmarks.harness.regressions import SCHEMA, SCHEMA_VERSION

    content = {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, "models": [ROW], "data": {}}
    (folder / "bench.json").write_text(json.dumps(content))
    return folder / "bench.json"


def open_bench(path):
    """Read and compare with itself."""
    result = read_result(path)
    return find_regressions(result, result)


def open_settings(path):
    """Settings of a verb from its file."""
    return read_settings("distill", function_of("distill"), ["--config", str(path)])


MAP = yaml.safe_dump(
    {"ppg": "ir", "ecg": ["chest", "arm"], "sfreq": 64, "time": "t", "time_unit": "ms"}
)
SETTINGS = yaml.safe_dump(
    {"teacher": "base", "data": "store", "epochs": 3, "lr": 0.1, "resume": False}
)
READERS = (
    Kind("npz", write_npz, read_all, signals=True),
    Kind("wfdb", write_wfdb, read_all, signals=True),
    Kind("wfdb segments", write_segments, read_all, signals=True),
    Kind("csv", write_csv, read_all, signals=True),
    Kind("parquet", write_parquet, read_all, signals=True),
    Kind("edf", write_edf, read_all, signals=True),
    Kind("edf+d", write_edf_d, read_all, signals=True),
    Kind("hdf5", write_hdf5, read_all, signals=True),
    Kind("pulsedb", write_pulsedb, read_all, signals=True),
    Kind("vital", write_vital, read_all, signals=True),
    Kind("pickle", write_pickle, read_all, signals=True),
    Kind("dreamer", write_dreamer, read_dreamer),
)
MANIFESTS = (
    Kind("store.json", write_store, open_store, ("store.json",)),
    Kind("store shards", write_store, open_store, ("*.parquet",), repair=rehash),
    Kind("bundle manifest", write_bundle, lambda path: Bundle.open(path.parent), ("manifest.json",)),
    Kind("bundle heads", write_bundle, lambda path: Bundle.open(path.parent), ("heads.json",)),
    Kind("bundle signature", write_signature, signature_of, ("signature.json",)),
    Kind("encoder", write_encoder, load_encoder),
    Kind("checkpoint", write_checkpoint, lambda path: check_resume(path.parent, {"lr": 0.1})),
    Kind("calibration", write_calibration, lambda path: read_calibration(path, {"a": "train"})),
    Kind("reference", write_reference, load_reference),
    Kind("bench.json", write_bench, open_bench),
    Kind("channel map", write_text("map.yaml", MAP), ChannelMap.load),
    Kind("settings", write_text("config.yaml", SETTINGS), open_settings),
    Kind("labels", write_text("l.csv", "record,start_s,sbp\na,0,111\na,10,112\nb,0,97\n"), read_labels),
    Kind("task labels", write_text("l.csv", "subject,record,hr_ecg\na,a1,70\nb,b1,80\n"), read_task_labels),
    Kind("subjects", write_text("s.csv", "record,subject,age,sex\na,1,64,F\nb,2,31,M\n"), read_subjects),
    Kind("splits", write_text("s.csv", "subject,split\n1,train\n2,val\n3,test\n"), read_splits),
)  # fmt: skip
KINDS = {kind.name: kind for kind in (*READERS, *MANIFESTS)}


def files_of(kind, folder):
    """The files of a written kind that are to be damaged."""
    return sorted(
        {path for pattern in kind.damaged for path in Path(folder).rglob(pattern) if path.is_file()}
    )
