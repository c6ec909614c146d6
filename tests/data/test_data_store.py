"""The store as users keep it: opened by other tools, appended to, relabelled, checked, and safe
from crashes.
"""

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from case_files import write_short
from filelock import FileLock

from xmae.cli import main
from xmae.data import WindowStore
from xmae.data.bidmc import bidmc_files
from xmae.data.prepare import prepare_file
from xmae.data.prepare.prepare import prepare
from xmae.data.store.integrity import verify
from xmae.data.store.overview import report
from xmae.data.store.relabel import relabel
from xmae.errors import UserError
from xmae.files import sha256
from xmae.ownership import lock_file

FILES = [str(path) for path in bidmc_files()[:4]]  # of three patients


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("made") / "store"
    prepare(FILES[:3], str(path), split="0.34,0.33,0.33", min_quality=-1)
    return path


@pytest.fixture
def store(made, tmp_path):
    return shutil.copytree(made, tmp_path / "store")


def physical(codes, scale, offset):
    return np.asarray(codes, np.float32) * np.float32(scale) + np.float32(offset)


def rows_of_pandas(pattern):
    parts = [pd.read_parquet(path) for path in sorted(pattern.parent.glob(pattern.name))]
    return pd.concat(parts).to_dict("list")


def rows_of_polars(pattern):
    polars = pytest.importorskip("polars")
    return polars.read_parquet(pattern).sort("record", "start_s").to_dict(as_series=False)


def rows_of_duckdb(pattern):
    duckdb = pytest.importorskip("duckdb")
    query = f"SELECT * FROM read_parquet('{pattern}') ORDER BY record, start_s"
    return duckdb.sql(query).df().to_dict("list")


def rows_of_datasets(pattern):
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    cache = str(pattern.parent / "hf")
    return datasets.load_dataset(
        "parquet", data_files=str(pattern), split="train", cache_dir=cache
    ).to_dict()


OTHERS = [
    pytest.param(read, marks=pytest.mark.extended)  # packages of the extra dev-all
    for read in (rows_of_polars, rows_of_duckdb, rows_of_datasets)
]


@pytest.mark.parametrize("read", [rows_of_pandas, *OTHERS])
def test_other_tools_open_it(store, read):
    rows, windows = read(store / "0*.parquet"), WindowStore(store).windows()
    assert (
        list(rows["record"]) == windows.record.tolist()
        and list(rows["start_s"]) == windows.start_s.tolist()
    )
    np.testing.assert_array_equal(
        np.array(rows["label_hr_monitor"], float), windows.labels["hr_monitor"]
    )
    np.testing.assert_array_equal(np.array(rows["measure_beats"], float), windows.measures["beats"])
    for k in (0, 50, 143):
        ours = physical(rows["ecg"][k], rows["ecg_scale"][k], rows["ecg_offset"][k])
        np.testing.assert_allclose(ours, windows.ecg[k], rtol=1e-6)


def test_index_finds_subjects_and_recordings(made):
    store = WindowStore(made)
    index = pd.DataFrame(store.index())
    assert index["windows"].sum() == store.meta["windows"] and (index["seconds"] > 480).all()
    subject = index["subject"][1]
    own = store.of_subject(subject)
    assert (
        set(own.subject) == {subject}
        and len(own) == index["windows"][index["subject"] == subject].sum()
    )
    with pytest.raises(UserError, match="no windows of the subject 'nobody'"):
        store.of_subject("nobody")


def test_append_leaves_shards_as_they_are(store):
    before = {path.name: path.read_bytes() for path in store.glob("0*.parquet")}
    old = WindowStore(store)
    result = prepare([FILES[3], FILES[0]], str(store), split="1,0,0", min_quality=-1, append=True)
    new = WindowStore(store)
    assert all((store / name).read_bytes() == content for name, content in before.items())
    assert result["windows"] == len(new.windows()) == 4 * 48  # the second file is in there already
    assert "same samples as bidmc01" in result["left_out"][0]["why"]
    assert {subject: new.splits[subject] for subject in old.splits} == old.splits
    whole = verify(str(store))
    assert whole["passed"] and not whole["unused"] and len(new.index()) == 4
    assert whole["summary"] == ["192 windows in 4 shards"] and whole["out"] == f"{store}: whole"
    assert (
        result["summary"][0].startswith("192 windows of 4 subjects: ")
        and "left out" in result["summary"][-1]
    )
    with pytest.raises(UserError, match="nothing to add: 2 recordings, all in the store already"):
        prepare([FILES[3], FILES[0]], str(store), split="1,0,0", min_quality=-1, append=True)


def test_two_at_once_are_refused(store):
    before = sorted(path.name for path in store.parent.iterdir())
    with (
        FileLock(lock_file(store)),
        pytest.raises(UserError, match="another xmae process is writing"),
    ):
        prepare([FILES[3]], str(store), split="1,0,0", min_quality=-1, append=True)
    lock_file(store).unlink()  # the other's
    assert (
        sorted(path.name for path in store.parent.iterdir()) == before
        and verify(str(store))["passed"]
    )
    (store.parent / "labels.csv").write_text("record,sbp\nbidmc01,111\n")
    with (
        FileLock(lock_file(store)),
        pytest.raises(UserError, match="another xmae process is writing"),
    ):
        relabel(str(store), str(store.parent / "labels.csv"))
    with pytest.raises(UserError, match="no store of windows"):
        relabel(str(store.parent / "no" / "store"), str(store.parent / "labels.csv"))
    assert not (store.parent / "no").exists()
    assert (
        prepare([FILES[3]], str(store), split="1,0,0", min_quality=-1, append=True)["windows"]
        == 192
    )


def test_a_store_may_be_on_another_disk(tmp_path, monkeypatch):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "store")
    file = write_short(tmp_path / "a.npz", FILES[0])
    result = prepare([file], str(tmp_path / "link"), split="1,0,0", min_quality=-1)
    assert (
        result["out"] == str(tmp_path / "link")
        and (tmp_path / "disk" / "store" / "store.json").is_file()
    )
    more = write_short(tmp_path / "b.npz", FILES[1])
    assert (
        prepare([more], str(tmp_path / "link"), split="1,0,0", min_quality=-1, append=True)[
            "windows"
        ]
        == 6
    )
    original = os.replace

    def across(source, target):
        if Path(source).parent.name == ".mount.part" and Path(target).parent.name == "mount":
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        original(source, target)

    monkeypatch.setattr(os, "replace", across)
    prepare([file], str(tmp_path / "mount"), split="1,0,0", min_quality=-1)
    assert (
        verify(str(tmp_path / "mount"))["passed"] and not verify(str(tmp_path / "mount"))["unused"]
    )
    assert not list(tmp_path.glob(".*"))


def test_relabel_leaves_signals_as_they_are(store, tmp_path):
    before = {path.name: path.read_bytes() for path in store.glob("0*.parquet")}
    opened = WindowStore(store)
    people = sorted(opened.splits)
    table = tmp_path / "labels.csv"
    pd.DataFrame({"subject": people[:2], "sbp": [120, 140], "sex": [0, 1]}).to_csv(
        table, index=False
    )
    assert relabel(str(store), str(table))["windows"] == {"sbp": 96, "sex": 96}
    pd.DataFrame({"record": ["bidmc01"], "start_s": [20.0], "sbp": [111]}).to_csv(
        table, index=False
    )
    assert relabel(str(store), str(table))["windows"] == {"sbp": 1}
    windows, old = WindowStore(store).windows(), opened.windows()
    assert {path.name: path.read_bytes() for path in store.glob("0*.parquet")} == before
    expected = (
        pd.Series(windows.subject)
        .map(dict(zip(people[:2], [120.0, 140.0], strict=True)))
        .to_numpy()
    )
    expected[(windows.record == "bidmc01") & (windows.start_s == 20)] = 111
    np.testing.assert_array_equal(windows.labels["sbp"], expected)
    rest = windows.subject == people[2]
    np.testing.assert_array_equal(windows.labels["sex"][rest], old.labels["sex"][rest])
    np.testing.assert_array_equal(windows.labels["hr_monitor"], old.labels["hr_monitor"])
    assert verify(str(store))["passed"]
    for text, complaint in [
        ("subject,sbp\nnobody,1\n", "matches no window"),
        ("sbp\n1\n", "expected the columns"),
        ("subject,sbp\na,1\na,2\n", "two rows for the same subject"),
        ("subject,sbp\na,high\n", "not readable as a table of labels"),
    ]:
        table.write_text(text)
        with pytest.raises(UserError, match=complaint):
            relabel(str(store), str(table))


def test_verify_finds_a_flipped_byte_anywhere(store, capsys):
    assert main(["data", "verify", str(store)]) == 0
    rng = np.random.default_rng(0)
    files = [path for path in store.iterdir() if path.suffix == ".parquet"]
    for path in files:
        whole = path.read_bytes()
        for place in rng.integers(0, len(whole), 3):
            broken = bytearray(whole)
            broken[place] ^= 1 << rng.integers(8)
            path.write_bytes(broken)
            result = verify(str(store))
            assert not result["passed"] and path.name in result["problems"][0]
        path.write_bytes(whole)
    files[0].rename(store / "elsewhere")
    capsys.readouterr()
    assert main(["data", "verify", str(store), "--json"]) == 1
    result = json.loads(capsys.readouterr().out)
    assert files[0].name in result["problems"][0] and result["unused"] == ["elsewhere"]
    (store / "elsewhere").rename(files[0])
    meta = json.loads((store / "store.json").read_text())
    (store / "store.json").write_text(json.dumps(meta | {"windows": 7}))
    assert verify(str(store))["problems"] == ["store.json says 7 windows, the shards hold 144"]


def test_version_1_is_still_read(store, monkeypatch):
    # takes a second, and is tested below
    monkeypatch.setattr("xmae.data.store.overview.picture", lambda _: "")
    meta = json.loads((store / "store.json").read_text())
    meta = {
        key: x
        for key, x in meta.items()
        if key not in ("index", "counts", "repairs", "left_out", "limits")
    }
    for shard in meta["shards"]:
        path = store / shard["file"]
        table = pq.read_table(path)
        pq.write_table(
            table.select([name for name in table.column_names if "measure_" not in name]), path
        )
        shard["sha256"] = sha256(path)
    (store / "store.json").write_text(json.dumps(meta | {"schema_version": 1}))
    windows = WindowStore(store).windows()
    assert len(windows) == 144 and windows.measures == {}
    assert [row["windows"] for row in WindowStore(store).index()] == [48, 48, 48]
    assert (
        verify(str(store))["passed"]
        and report(str(store), str(store.parent / "report"))["windows"] == 144
    )
    result = prepare([FILES[3]], str(store), split="1,0,0", min_quality=-1, append=True)
    assert (
        result["windows"] == len(WindowStore(store).windows()) == 192
        and verify(str(store))["passed"]
    )


def test_a_hundred_thousand_files_are_not_too_many(store):
    meta = json.loads((store / "store.json").read_text())
    for shard in meta["shards"]:
        name = shard["file"].replace("0000", "10000", 1)  # 100000-... and so on
        (store / shard["file"]).rename(store / name)
        shard["file"] = name
    (store / "store.json").write_text(
        json.dumps({key: x for key, x in meta.items() if key != "index"})
    )
    prepare([FILES[3]], str(store), split="1,0,0", min_quality=-1, append=True)
    assert [shard.file[:7] for shard in WindowStore(store).entries] == [
        f"10000{k}-" for k in range(4)
    ]
    prepare([FILES[3]], str(store), split="1,0,0", min_quality=-1)  # and none of them stays
    assert not list(store.glob("1*.parquet")) and verify(str(store))["passed"]


CRASH = """
import os, signal, sys
import xmae.data.prepare.prepare_file as module
from xmae.data.prepare.prepare import prepare
original, done = module.write_shard, []
def write_shard(path, windows):
    original(path, windows)
    done.append(path)
    if len(done) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
module.write_shard = write_shard
prepare(sys.argv[2:], sys.argv[1], split="1,0,0", min_quality=-1, jobs=1)
"""


def test_a_killed_run_leaves_the_old_store_and_goes_on(store, tmp_path, monkeypatch):
    before = {path.name: path.read_bytes() for path in store.iterdir()}
    files = [write_short(tmp_path / f"{k}.npz", file) for k, file in enumerate(FILES)]
    killed = subprocess.run([sys.executable, "-c", CRASH, str(store), *files], capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    assert {path.name: path.read_bytes() for path in store.iterdir()} == before and verify(
        str(store)
    )["passed"]
    begun = list((store.parent / ".store.part").glob("0*.json"))
    assert len(begun) == 1  # one file was done, the second written but not noted

    prepared, original = [], prepare_file.prepare_recording
    monkeypatch.setattr(
        prepare_file, "prepare_recording", lambda *a: prepared.append(a[0].record) or original(*a)
    )
    prepare(files, str(store), split="1,0,0", min_quality=-1, jobs=1)
    assert prepared == ["bidmc02", "bidmc03", "bidmc04"]
    prepare(files, str(tmp_path / "unbroken"), split="1,0,0", min_quality=-1, jobs=1)
    assert WindowStore(store).meta == WindowStore(tmp_path / "unbroken").meta
    assert not (store.parent / ".store.part").exists()


class Dead(BaseException):
    """Raised at the chosen step and at every later one: what is dead cleans nothing up."""


@pytest.mark.parametrize("appending", [False, True])
def test_a_crash_at_any_step_leaves_a_whole_store_and_a_restart_goes_on(
    tmp_path, monkeypatch, appending
):
    """Every change of the file system in turn is the first that does not happen any more."""
    files = [write_short(tmp_path / f"{k}.npz", file) for k, file in enumerate(FILES)]
    # the second of them is in the store already
    again = [files[3], files[0]] if appending else files[3:]
    arguments = {"split": "1,0,0", "min_quality": -1, "jobs": 1}
    old, new = tmp_path / "old", tmp_path / "new"
    prepare(files[:3], str(old), **arguments)
    prepare(again, str(shutil.copytree(old, new)), **arguments, append=appending)
    metas = [WindowStore(path).meta for path in (old, new)]
    for step in range(1, 99):
        folder, left = shutil.copytree(old, tmp_path / f"try{step}"), [step]

        def dying(original, left=left):
            def call(*arguments, **named):
                left[0] -= 1
                if left[0] <= 0:
                    raise Dead
                return original(*arguments, **named)

            return call

        with monkeypatch.context() as patch, contextlib.suppress(Dead):
            for name in ("rename", "replace", "unlink", "remove", "rmdir", "mkdir"):
                patch.setattr(os, name, dying(getattr(os, name)))
            prepare(again, str(folder), **arguments, append=appending)
        assert verify(str(folder))["passed"] and WindowStore(folder).meta in metas, step
        if left[0] > 0:
            break
        if WindowStore(folder).meta == metas[0]:
            prepare(again, str(folder), **arguments, append=appending)
            assert WindowStore(folder).meta == metas[1] and not verify(str(folder))["unused"], step
    assert step > 6


def test_a_crash_before_the_first_store_is_there(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(
            "xmae.data.prepare.assemble.write_json", lambda *_: (_ for _ in ()).throw(Dead)
        )
        patch.setattr("xmae.data.prepare.assemble.clear_away", lambda _: None)
        with pytest.raises(Dead):
            prepare(FILES[:1], str(tmp_path / "new"), split="1,0,0", min_quality=-1)
    assert [path.suffix for path in (tmp_path / "new").iterdir()] == [".parquet"] * 2
    assert prepare(FILES[:1], str(tmp_path / "new"), split="1,0,0", min_quality=-1)["windows"] == 48
    assert verify(str(tmp_path / "new"))["passed"] and not verify(str(tmp_path / "new"))["unused"]


def test_report_shows_counts_and_windows(made, tmp_path):
    result = report(str(made), str(tmp_path / "report"))
    text = (tmp_path / "report" / "report.html").read_text()
    assert result["windows"] == 144 and "144 windows" in text and "data:image/png;base64," in text
    assert result["labels"]["hr_monitor"] == 144 and result["quality"]["ppg_quality"][4] <= 1
    assert json.loads((tmp_path / "report" / "report.json").read_text())["hours"] == 0.4
