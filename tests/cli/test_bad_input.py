"""Mistakes on the command line: one clear line, exit code 2, and what was there before is still
there.
"""

import json
import re
import resource
import shutil
import subprocess
from contextlib import contextmanager, suppress

# here, as its logger keeps the standard error of its first import, and a test's own closes
import lightning  # noqa: F401
import numpy as np
import pandas as pd
import pytest
import torch

from xmae.cli import main
from xmae.data.bidmc import bidmc_files
from xmae.data.prepare.prepare import prepare
from xmae.data.recording.readers import read_recording
from xmae.export.bundle.bundle import preprocessing, seal

SFREQ = 125
SHORT = ("--epochs", "1", "--batch-size", "16")
PROGRESS = re.compile(r"\d+%\||\?\w*/s\]|it/s|^INFO: |^Validation|^Training|^\s*$|\[A$")


def tree(folder):
    """Return every file below a folder with its bytes, but for finished work that `prepare` keeps
    for the next try.
    """
    files = [
        path for path in folder.rglob("*") if path.is_file() and path.parent.name != ".store.part"
    ]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture
def refuse(capsys):
    """Run a line that must be refused; its complaint, the one thing printed beside progress."""

    def run(*line):
        code = main(list(map(str, line)))
        out, err = capsys.readouterr()
        said = [text for text in re.split(r"[\r\n]+", err) if not PROGRESS.search(text)]
        assert code == 2 and out == "" and len(said) == 1 and said[0].startswith("xmae: "), (
            code,
            out,
            said,
        )
        assert len(said[0]) < 400
        return said[0]

    return run


@pytest.fixture(scope="module")
def signals():
    recording = read_recording(bidmc_files()[0])
    return {"ppg": recording.ppg[: 60 * SFREQ], "ecg": recording.ecg[: 60 * SFREQ], "fs": SFREQ}


@pytest.fixture
def previous(tmp_path, signals, encoder, capsys):
    """Return the results of a good run of `prepare` and `embed`."""
    np.savez(tmp_path / "good.npz", **signals)
    results = tmp_path / "results"
    assert (
        main(
            [
                "prepare",
                str(tmp_path / "good.npz"),
                "--out",
                str(results / "store"),
                "--split",
                "1,0,0",
            ]
        )
        == 0
    )
    assert (
        main(
            [
                "embed",
                str(tmp_path / "good.npz"),
                "--out",
                str(results / "run"),
                "--model",
                str(encoder),
            ]
        )
        == 0
    )
    capsys.readouterr()
    return results


def every_other(ppg):
    return np.where(np.arange(len(ppg)) // (5 * SFREQ) % 2, np.nan, ppg)


RECORDINGS = {
    "all NaN": (
        lambda s: {"ppg": np.full_like(s["ppg"], np.nan)},
        "ppg is flat or missing throughout",
    ),
    "NaN in every window": (lambda s: {"ppg": every_other(s["ppg"])}, "no window of "),
    "infinite": (
        lambda s: {"ppg": np.where(np.arange(len(s["ppg"])) == 7, np.inf, s["ppg"])},
        "ppg has infinite",
    ),
    "infinite ECG": (
        lambda s: {"ecg": np.where(s["ecg"] == s["ecg"].max(), -np.inf, s["ecg"])},
        "ecg has infinite",
    ),
    "flat": (lambda s: {"ppg": np.full_like(s["ppg"], 0.46)}, "ppg is flat"),
    "other lengths": (lambda s: {"ecg": s["ecg"][:-1]}, "7500 samples but ecg 7499"),
    "short": (
        lambda s: {"ppg": s["ppg"][: 9 * SFREQ], "ecg": s["ecg"][: 9 * SFREQ]},
        "9.0 s long, shorter than a win",
    ),
    "no rate": (lambda s: {"fs": None}, "no sampling rate"),
    "rate in kHz": (lambda s: {"fs": 0.125}, "sampling rate 0.125 Hz; expected 20 to 2000 Hz"),
    "rate 0": (lambda s: {"fs": 0}, "sampling rate 0 Hz"),
    "rate NaN": (lambda s: {"fs": np.nan}, "sampling rate nan"),
    "rate in words": (lambda s: {"fs": "fast"}, "bad.npz"),
    "two rates": (lambda s: {"fs": [125, 125]}, "bad.npz"),
    "words for PPG": (lambda s: {"ppg": np.array(["a", "b"])}, "bad.npz"),
}
FILES = {
    "truncated": (
        lambda whole: whole[: len(whole) // 2],
        "bad.npz: not readable as .npz, perhaps truncated",
    ),
    "empty": (lambda whole: b"", "bad.npz: not readable as .npz"),
    "text": (lambda whole: b"ppg,ecg\n1,2\n", "bad.npz: not readable as .npz"),
}


def spoil(tmp_path, signals, kind):
    """Write a recording with one thing wrong; its path and what must be said about it."""
    path = tmp_path / "bad.npz"
    if kind in FILES:
        change, message = FILES[kind]
        path.write_bytes(change((tmp_path / "good.npz").read_bytes()))
    else:
        change, message = RECORDINGS[kind]
        np.savez(
            path, **{key: x for key, x in (signals | change(signals)).items() if x is not None}
        )
    return path, message


@pytest.mark.parametrize("kind", [*RECORDINGS, *FILES])
def test_a_bad_recording(previous, tmp_path, signals, encoder, refuse, kind):
    (path, message), before = spoil(tmp_path, signals, kind), tree(previous)
    good, store, run = tmp_path / "good.npz", previous / "store", previous / "run"
    assert message in refuse("prepare", path, "--out", store, "--split", "1,0,0")
    assert message in refuse("embed", path, "--out", run, "--model", encoder)
    if "no window" not in message:
        assert message in refuse("prepare", good, path, "--out", store, "--split", "1,0,0")
    assert tree(previous) == before


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("walk.csv", [], "no sampling rate"),
        ("walk.csv", ["--sfreq", "5"], "sampling rate 5 Hz"),
        ("timed.csv", ["--sfreq", "100"], "contradicts"),
        ("good.npz", ["--sfreq", "100"], "contradicts"),
        ("absent.npz", [], "no such file"),
        ("notes.xyz", [], "cannot read this kind of file"),
        ("", [], "a folder; expected one recording, such as"),
    ],
)
def test_a_wrong_or_missing_rate_or_file(
    previous, tmp_path, signals, encoder, refuse, name, options, message
):
    pd.DataFrame({"ppg": signals["ppg"]}).to_csv(tmp_path / "walk.csv", index=False)
    times = np.arange(len(signals["ppg"])) / SFREQ
    pd.DataFrame({"time": times, "ppg": signals["ppg"]}).to_csv(tmp_path / "timed.csv", index=False)
    (tmp_path / "notes.xyz").write_text("rest, then walk")
    before = tree(previous)
    said = refuse("embed", tmp_path / name, *options, "--out", previous / "run", "--model", encoder)
    assert message in said and (tmp_path / name).stem in said
    assert tree(previous) == before


def test_a_gap_costs_its_window_only(tmp_path, signals, capsys):
    ppg = signals["ppg"].copy()
    ppg[25 * SFREQ] = np.nan
    np.savez(tmp_path / "gap.npz", **signals | {"ppg": ppg})
    line = [
        "prepare",
        str(tmp_path / "gap.npz"),
        "--out",
        str(tmp_path / "store"),
        "--split",
        "1,0,0",
    ]
    assert main([*line, "--min-quality", "-1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["dropped"] == {"missing": 1}


@pytest.fixture
def previous_run(tmp_path):
    """Return the earlier results, as far as a failing verb could touch them (a whole training is
    not begun anew at all).
    """
    folder = tmp_path / "previous"
    folder.mkdir()
    for name in ("encoder.safetensors", "student.safetensors", "metrics.json", "calibration.npz"):
        (folder / name).write_text("before")
    return folder


def test_pretraining_without_ecg(tmp_path, signals, previous_run, refuse):
    recordings = [str(tmp_path / f"{name}.npz") for name in "abc"]
    for i, path in enumerate(recordings):
        np.savez(path, ppg=signals["ppg"][i * 1000 :], fs=SFREQ)
    prepare(recordings, str(tmp_path / "store"), split="0.34,0.33,0.33", min_quality=-1)
    before = tree(previous_run)
    assert "pretraining needs ECG" in refuse(
        "pretrain", tmp_path / "store", "--out", previous_run, *SHORT
    )
    assert tree(previous_run) == before


VERBS_ON_A_STORE = {  # verb: the words before the store
    "pretrain": [],
    "distill": ["ENCODER"],
    "probe": ["ENCODER"],
    "quantize": ["ENCODER"],
    "export": ["ENCODER", "--student", "ENCODER"],
}


def line_on_a_store(verb, encoder, store, out):
    words = [str(encoder) if word == "ENCODER" else word for word in VERBS_ON_A_STORE[verb]]
    return [verb, *words, "--data", store, "--out", out]


@pytest.fixture
def store_copy(small_store, tmp_path):
    return shutil.copytree(small_store, tmp_path / "store_copy")


@pytest.mark.parametrize("verb", VERBS_ON_A_STORE)
def test_a_damaged_store(store_copy, encoder, previous_run, refuse, verb):
    before, line = tree(previous_run), line_on_a_store(verb, encoder, store_copy, previous_run)
    shards = sorted(store_copy.glob("*.parquet"))
    for shard in shards:
        shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    assert re.search(r"-bidmc\d+-\w+.parquet: damaged or changed", refuse(*line))
    for shard in shards:
        shard.unlink()
    assert re.search(r"-bidmc\d+-\w+.parquet: not readable", refuse(*line))
    (store_copy / "store.json").write_text('{"schema_version": 1, ')
    assert "store.json: not readable as JSON" in refuse(*line)
    (store_copy / "store.json").unlink()
    assert "no store of windows" in refuse(*line)
    assert tree(previous_run) == before


def test_a_store_without_the_split_that_is_needed(previous, encoder, previous_run, refuse):
    before = tree(previous_run)
    for verb in ("pretrain", "distill"):
        line = line_on_a_store(verb, encoder, previous / "store", previous_run)
        assert "no windows for the split 'val'" in refuse(*line, *SHORT)
    assert tree(previous_run) == before


@pytest.mark.parametrize("harm", ["truncated", "empty", "other", "absent"])
def test_a_damaged_encoder(small_store, tmp_path, encoder, previous_run, refuse, harm):
    before, path, whole = tree(previous_run), tmp_path / "bad.safetensors", encoder.read_bytes()
    if harm != "absent":
        path.write_bytes(
            {"truncated": whole[: len(whole) // 2], "empty": b"", "other": b"PK\3\4" * 99}[harm]
        )
    for verb in ("distill", "probe", "quantize", "export"):
        said = refuse(*line_on_a_store(verb, path, small_store, previous_run))
        assert (
            "no such file" if harm == "absent" else "not readable as a safetensors"
        ) in said and path.name in said
    assert path.name in refuse("embed", bidmc_files()[0], "--model", path, "--out", previous_run)
    assert tree(previous_run) == before


@pytest.mark.parametrize(
    ("verb", "settings", "said"),
    [
        ("pretrain", ["--lr=-1"], "lr is -1; expected a number above 0"),
        ("pretrain", ["--lr=nan"], "lr is nan"),
        ("pretrain", ["--patience=0"], "patience is 0; expected at least 1"),
        ("pretrain", ["--seed=-1"], "--seed: -1 is not from 0"),
        ("pretrain", ["--method=mae", "--options.mask_ratio=0.999"], "a mask ratio of 0.999 hides"),
        (
            "pretrain",
            ["--method=simclr", "--options.temperature=warm"],
            "temperature of method simclr is 'warm'; expected",
        ),
        (
            "pretrain",
            ["--method=dino", "--options.prototypes=12.5"],
            "prototypes of method dino is 12.5; expected a whole",
        ),
        ("compare", ["--budget=0"], "budget is 0"),
        ("curve", ["--repeats=0"], "repeats is 0"),
        ("curve", ["--methods=typo"], "unknown method 'typo'"),
    ],
)
def test_settings_out_of_range(small_store, tmp_path, refuse, verb, settings, said):
    start = {
        "pretrain": [small_store, *SHORT],
        "compare": [small_store],
        "curve": ["base", "--data", small_store],
    }
    line = [verb, *start[verb], *settings]
    assert (
        said in refuse(*line, "--out", tmp_path / "run")
        and not (tmp_path / "run" / "config.json").exists()
    )


@pytest.mark.parametrize("harm", ["truncated", "pickle", "absent", "settings"])
def test_a_checkpoint_that_cannot_be_resumed(small_store, tmp_path, refuse, harm):
    run = tmp_path / "run"
    line = ["pretrain", small_store, "--out", run, "--size", "small", *SHORT]
    (run / "checkpoints").mkdir(parents=True)
    settings = {
        "data": small_store,
        "method": "xmae",
        "size": "small",
        "mask": "anchor",
        "curriculum": "ladder",
        "epochs": 1,
        "batch_size": 16,
        "lr": 3e-4,
        "patience": 17,
        "recipe": "small-data",
        "keep": "best",
        "seed": 77,
    }
    (run / "config.json").write_text(
        json.dumps(settings | ({"lr": 1.0} if harm == "settings" else {}))
    )
    last = run / "checkpoints" / "last.ckpt"
    if harm == "pickle":
        torch.save(run, last)  # a path: not plain weights, so it must not be unpickled
    elif harm != "absent":
        torch.save({"state_dict": {"a": torch.zeros(9999)}, "global_step": 3}, last)
        last.write_bytes(last.read_bytes()[: last.stat().st_size // 2])
    before = tree(run)
    said = refuse(*line, "--resume")
    assert {"absent": "nothing to resume", "settings": "lr changed"}.get(
        harm, "last.ckpt: damaged checkpoint"
    ) in said
    assert tree(run) == before


@pytest.fixture
def bundle(tmp_path):
    """Return a bundle whose files are right but for one."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "heads.json").write_text("{}")
    (folder / "student_int8.tflite").write_bytes(b"weights")
    model = {
        "model": "student",
        "format": "litert",
        "precision": "int8",
        "file": "student_int8.tflite",
    }
    window = {"sfreq": 100, "n_times": 1000}
    seal(
        folder,
        {
            "schema_version": 1,
            "window": window,
            "preprocessing": preprocessing(),
            "models": [model],
        },
    )
    (folder / "student_int8.tflite").write_bytes(b"Weights")
    return folder


@pytest.mark.parametrize("verb", ["embed", "validate", "bench"])
def test_a_bundle_with_a_wrong_hash(bundle, small_store, previous_run, refuse, verb):
    before = tree(previous_run)
    line = {
        "embed": ["embed", bidmc_files()[0], "--model", bundle],
        "validate": ["validate", bundle, "--data", small_store],
        "bench": ["bench", bundle, "--data", small_store],
    }[verb]
    assert "student_int8.tflite: damaged or changed" in refuse(*line, "--out", previous_run)
    (bundle / "student_int8.tflite").unlink()
    assert "lacks the file student_int8.tflite" in refuse(*line, "--out", previous_run)
    (bundle / "manifest.json").write_text('{"schema_version": 1')
    assert "manifest.json: not readable as JSON" in refuse(*line, "--out", previous_run)
    assert tree(previous_run) == before


LINES = {
    "prepare": lambda good, store, encoder: ["prepare", good, "--split", "1,0,0"],
    "embed": lambda good, store, encoder: ["embed", good, "--model", encoder],
    "pretrain": lambda good, store, encoder: [
        "pretrain",
        store,
        "--size",
        "small",
        *SHORT,
        "--lr",
        "0.001",
    ],
    "distill": lambda good, store, encoder: [
        "distill",
        encoder,
        "--data",
        store,
        *SHORT,
        "--crops",
        "16",
    ],
    "quantize": lambda good, store, encoder: [
        "quantize",
        encoder,
        "--data",
        store,
        "--n-calibration",
        "16",
    ],
}


@pytest.mark.parametrize("verb", LINES)
def test_an_output_folder_below_a_file(small_store, tmp_path, signals, encoder, refuse, verb):
    np.savez(tmp_path / "good.npz", **signals)
    (tmp_path / "file").write_text("mine")
    line = LINES[verb](tmp_path / "good.npz", small_store, encoder)
    assert re.search("cannot write .*file/run", refuse(*line, "--out", tmp_path / "file" / "run"))
    assert (tmp_path / "file").read_text() == "mine"


@contextmanager
def file_size_limit(folder):
    """Let no file of this process grow beyond 2 KiB (EFBIG); lifted at once after, as pytest's
    output may be longer.
    """
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


@contextmanager
def full_disk(folder):
    """Let the disk of the folder be full (ENOSPC)."""
    with open(folder / "filler", "wb", buffering=0) as filler, suppress(OSError):
        while filler.write(bytes(4096)):
            pass
    yield


@pytest.fixture(params=["file size limit", pytest.param("full disk", marks=pytest.mark.extended)])
def cramped(request, tmp_path):
    """Yield a folder, a context in which nothing more fits into it, and what is then said."""
    folder = tmp_path / "cramped"
    folder.mkdir()
    if request.param == "file size limit":  # needs no rights
        yield folder, file_size_limit, "File too large"
        return
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk of its own needs root")
    yield folder, full_disk, "No space left on device"
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize(
    "verb",
    [
        pytest.param(verb, marks=pytest.mark.extended) if verb in ("distill", "quantize") else verb
        for verb in LINES
    ],
)
def test_a_full_output_folder(cramped, small_store, tmp_path, signals, encoder, refuse, verb):
    folder, nothing_fits, message = cramped
    np.savez(tmp_path / "good.npz", **signals)
    before = {}
    if verb == "prepare":
        prepare([str(tmp_path / "good.npz")], str(folder / "run"), split="1,0,0")
    else:
        (folder / "run").mkdir()
        for name in (
            "encoder.safetensors",
            "student.safetensors",
            "embeddings.csv",
            "calibration.npz",
        ):
            (folder / "run" / name).write_text("before")
    before = tree(folder)
    with nothing_fits(folder):
        said = refuse(
            *LINES[verb](tmp_path / "good.npz", small_store, encoder), "--out", folder / "run"
        )
    assert message in said
    after = tree(folder)
    assert {name: after.get(name) for name in before} == before
    # no half-written file is left
    assert not [name for name in after if name.startswith((".", "run/."))]


@pytest.mark.parametrize("verb", ["prepare", "quantize", "export"])
def test_a_folder_with_something_else_is_not_replaced(
    small_store, tmp_path, signals, encoder, refuse, verb
):
    np.savez(tmp_path / "good.npz", **signals)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    lines = LINES | {
        "export": lambda good, store, encoder: line_on_a_store("export", encoder, store, "")[:-2]
    }
    said = refuse(
        *lines[verb](tmp_path / "good.npz", small_store, encoder), "--out", tmp_path / "mine"
    )
    assert "mine: exists and" in said and tree(tmp_path / "mine") == {"thesis.txt": b"years"}
