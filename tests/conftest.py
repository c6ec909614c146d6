"""Shared by all tests: small stores of real windows, made once."""

import numpy as np
import pandas as pd
import pytest

from xmae.data.bidmc import bidmc_files
from xmae.data.prepare.prepare import prepare, prepare_recording
from xmae.data.recording.readers import read_recording
from xmae.data.store.store import Windows, WindowStore

FIRST = (
    "test_export",
    "test_bundle",
    "test_simulate",
    "test_targets",
    "test_quantize_mixed",
    "test_methods",
    "test_c_source",
    "test_bad_input",
    "test_distill",
    "test_fusion",
    "test_training_scale",
)


def pytest_collection_modifyitems(items):
    """Put whole files that take minutes first, so that parallel processes end together."""
    items.sort(key=lambda item: item.path.stem not in FIRST)


SPLITS = {
    "bidmc02": "train",
    "bidmc05": "train",
    "bidmc06": "train",
    "bidmc01": "val",
    "bidmc34": "test",
    "bidmc43": "test",
}


def split_file(folder, splits):
    """Write `split.csv`: the split of the subject of each shipped recording; return its path."""
    table = pd.read_csv(bidmc_files()[0].parent / "subjects.csv").set_index("record")
    table = table.loc[list(splits), ["patient"]].assign(split=list(splits.values()))
    table.to_csv(folder / "split.csv", index=False)
    return str(folder / "split.csv")


@pytest.fixture(scope="session")
def split_store():
    """Return a function that prepares whole shipped recordings, split as told: ``(folder,
    {recording: split}, **settings)`` -> path of the store.
    """
    files = {path.stem: str(path) for path in bidmc_files()}

    def make(folder, splits, **settings):
        recordings, store = [files[name] for name in splits], str(folder / "store")
        prepare(recordings, store, split_file(folder, splits), min_quality=-1, **settings)
        return store

    return make


@pytest.fixture(scope="session")
def small_store(split_store, tmp_path_factory):
    """Return six subjects of the shipped recordings: three to train on, one to validate, two to
    test.
    """
    return split_store(tmp_path_factory.mktemp("small"), SPLITS)


@pytest.fixture(scope="session")
def nine_subjects(tmp_path_factory):
    """Return a store of nine shipped recordings, split at random."""
    path = tmp_path_factory.mktemp("nine") / "store"
    prepare([str(p) for p in bidmc_files()[:9]], str(path), split="0.6,0.2,0.2")
    return WindowStore(path)


@pytest.fixture(scope="session")
def watch_bundle(tmp_path_factory):
    """Return a bundle with the shipped student for TFLite, int8, and its shipped heads: what a
    watch needs.
    """
    pytest.importorskip("ai_edge_litert")
    from xmae.data.prepare.prepare import prepare_recording
    from xmae.data.recording.readers import read_recording
    from xmae.evaluation.heads.heads import HEADS, heads_of, written
    from xmae.export.bundle.bundle import Bundle, preprocessing, seal
    from xmae.export.bundle.migrate import SCHEMA_VERSION
    from xmae.export.targets import litert
    from xmae.files import write_json
    from xmae.models import load_encoder
    from xmae.quantize import exportable
    from xmae.signals.scale import minmax_scale

    folder = tmp_path_factory.mktemp("watch") / "bundle"
    folder.mkdir()
    path = folder / "student_int8.tflite"
    ppg = minmax_scale(prepare_recording(read_recording(bidmc_files()[1]))[0].ppg)[0]
    litert.export(exportable(load_encoder("student-mcu")), path, "int8", ppg)
    write_json(folder / HEADS, written({"student": heads_of("student-mcu")}))
    entry = {"model": "student", "format": "litert", "precision": "int8", "file": path.name}
    window = {"sfreq": 100, "n_times": 1000, "range": [-1, 1]}
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "window": window,
        "preprocessing": preprocessing(),
    }
    seal(folder, manifest | {"models": [entry | litert.inspect_model(path)]})
    return Bundle.open(folder)


@pytest.fixture(scope="session")
def beat_bundle(tmp_path_factory):
    """Return a bundle with the shipped student that reads beats: its int8 file for TFLite and its
    float weights.
    """
    import shutil

    from xmae.beats.certainty import shipped_certainty
    from xmae.evaluation.heads.heads import HEADS
    from xmae.export.bundle.bundle import Bundle, preprocessing, seal
    from xmae.export.bundle.migrate import SCHEMA_VERSION
    from xmae.export.stream import int8_file
    from xmae.export.targets import litert
    from xmae.files import write_json

    folder = tmp_path_factory.mktemp("beats") / "bundle"
    folder.mkdir()
    path, table = folder / "student_int8.tflite", shipped_certainty()
    shutil.copy(int8_file("beats-mcu"), path)
    shutil.copy(int8_file("beats-mcu").with_name("beats-mcu.safetensors"),
                folder / "student.safetensors")  # fmt: skip
    write_json(folder / HEADS, {"student": {}})
    entry = {"model": "student", "format": "litert", "precision": "int8", "file": path.name}
    entry |= {"bytes": path.stat().st_size, "macs": 4_600_000, "embedding": 256}
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "window": {"sfreq": 100, "n_times": 1000, "range": [-1, 1]},
        "preprocessing": preprocessing(),
        "certainty": {"student": {"half_width": table.half_width.tolist(), "least": table.least}},
        "models": [entry | litert.inspect_model(path)],
    }
    seal(folder, manifest)
    return Bundle.open(folder)


EIGHT = {
    "bidmc02": "train", "bidmc05": "train", "bidmc01": "val",
    "bidmc34": "test", "bidmc43": "test", "bidmc28": "test", "bidmc41": "test", "bidmc48": "test",
}  # fmt: skip


@pytest.fixture(scope="session")
def eight_patients(tmp_path_factory):
    """Return a folder with `records` (the first 200 s of eight subjects), `split.csv` (five to
    test) and `store`.
    """
    folder = tmp_path_factory.mktemp("eight")
    (folder / "records").mkdir()
    files = {path.stem: path for path in bidmc_files()}
    for name in EIGHT:
        with np.load(files[name]) as data:
            keys = [
                key
                for key in data
                if key.split("_")[0] in ("ecg", "ppg", "fs", "patient", "record", "age", "sex")
            ]
            cut = {
                key: data[key][: 125 * 200] if key in ("ecg", "ppg") else data[key] for key in keys
            }
            series = {key: data[key][:200] for key in ("hr", "rr", "spo2")}
            np.savez(folder / "records" / f"{name}.npz", **cut, **series)
    records, store = str(folder / "records"), str(folder / "store")
    prepare([records], store, split_file(folder, EIGHT), min_quality=-1)
    return folder


@pytest.fixture(scope="session")
def recording_windows():
    """Return a function of names: every window, good and bad, of these shipped recordings."""
    files = {path.stem: path for path in bidmc_files()}

    def windows(*names):
        parts = [
            prepare_recording(read_recording(files[name]), min_quality=-1)[0] for name in names
        ]
        return Windows.concatenate(parts)

    return windows
