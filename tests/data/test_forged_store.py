"""Forged stores: nothing outside is named, read or removed, and every fault is one line."""

import hashlib
import json
from contextlib import nullcontext

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from xmae.data.prepare.assemble import clear_away
from xmae.data.prepare.prepare import next_number
from xmae.data.store.integrity import verify
from xmae.data.store.remote import publish_remote, read_remote_store
from xmae.data.store.schema import named_files
from xmae.data.store.shard import write_named, write_shard
from xmae.data.store.store import WindowStore, write_index
from xmae.data.store.windows import Windows
from xmae.errors import UserError

N = 3


@pytest.fixture
def folder(tmp_path):
    """Return a small sound store of one shard, with an index."""
    path = tmp_path / "store"
    path.mkdir()
    ppg = np.random.default_rng(0).normal(size=(N, 1000)).astype(np.float32)
    ones, names = np.ones(N, np.float32), np.full(N, "s1")
    windows = Windows(
        ppg=ppg, ecg=None, subject=names, record=names, split=np.full(N, ""),
        start_s=10.0 * np.arange(N), ppg_quality=ones, ecg_quality=ones, labels={},
    )  # fmt: skip
    shard = write_named(path, "00000-s1", lambda file: write_shard(file, windows))
    shard |= {"subject": "s1", "windows": N, "source": "s1.csv"}
    row = {"subject": "s1", "record": "s1", "source": "s1.csv", "start": "", "seconds": 30.0}
    row |= {"windows": N, "shard": shard["file"], "row": 0, "samples_sha256": "0"}
    meta = {"schema_version": 3, "splits": {"s1": "train"}, "shards": [shard], "windows": N}
    meta["index"] = write_index(path, [row])
    (path / "store.json").write_text(json.dumps(meta))
    return path


def forge(folder, change):
    meta = json.loads((folder / "store.json").read_text())
    meta = change(meta) or meta
    (folder / "store.json").write_text(json.dumps(meta))
    return meta


def test_a_sound_store_opens_here_and_by_url(folder):
    assert len(WindowStore(folder).windows("train")) == N and verify(str(folder))["passed"]
    assert len(WindowStore(f"file://{folder}").windows("train")) == N


FORGERIES = {
    "shard above": lambda m: m["shards"][0].update(file="../victim.parquet"),
    "absolute shard": lambda m: m["shards"][0].update(file="/etc/passwd"),
    "hidden shard": lambda m: m["shards"][0].update(file=".bashrc"),
    "shard of a number": lambda m: m["shards"][0].update(file=3),
    "shard without a hash": lambda m: m["shards"][0].pop("sha256") and None,
    "shard that is none": lambda m: m["shards"].append(None),
    "shards that are none": lambda m: m.update(shards={"a": 1}),
    "no shards": lambda m: m.pop("shards") and None,
    "windows of text": lambda m: m["shards"][0].update(windows="3"),
    "windows below zero": lambda m: m["shards"][0].update(windows=-1),
    "subject without a split": lambda m: m["shards"][0].update(subject="s2"),
    "subject of a list": lambda m: m["shards"][0].update(subject=["s1"]),
    "splits that are none": lambda m: m.update(splits=["s1"]),
    "no splits": lambda m: m.pop("splits") and None,
    "an unknown split": lambda m: m.update(splits={"s1": "../train"}),
    "index above": lambda m: m["index"].update(file="../victim"),
    "index that is none": lambda m: m.update(index=None),
    "labels above": lambda m: m.update(labels=[{"file": "../v", "sha256": "0" * 64}]),
    "labels that are none": lambda m: m.update(labels=3),
    "leads of numbers": lambda m: m.update(leads=[1]),
    "a list": lambda _: [1],
    "a number": lambda _: 3,
    "version of text": lambda m: m.update(schema_version="3"),
    "version that is true": lambda m: m.update(schema_version=True),
    "version of a list": lambda m: m.update(schema_version=[3]),
    "dropped of text": lambda m: m.update(dropped={"flat": "1"}),
    "left out without a reason": lambda m: m.update(left_out=[{"source": "a"}]),
    "a further field of infinity": lambda m: m.update(other=float("inf")),
}


@pytest.mark.parametrize("where", ["{}", "file://{}"])
@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_store_is_refused_in_one_line(folder, forgery, where):
    forge(folder, FORGERIES[forgery])
    with pytest.raises(UserError) as refused:
        WindowStore(where.format(folder)).windows()
    assert str(folder) in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["../victim", "a/../../victim", "/victim", "notes.txt"])
def test_nothing_outside_or_foreign_is_removed_at_a_url(folder, tmp_path, name):
    """A forged `store.json` at the target names files; preparing over it removes old files."""
    sound = json.loads((folder / "store.json").read_text())
    victims = [folder.parent / "victim", folder / "notes.txt"]
    for victim in victims:
        victim.write_text("mine")
    found = sound | {"shards": [*sound["shards"], sound["shards"][0] | {"file": name}]}
    (folder / "store.json").write_text(json.dumps(found))
    if name != "notes.txt":
        with pytest.raises(UserError, match="plain file name"):
            read_remote_store(f"file://{folder}")
        with pytest.raises(UserError, match="plain file name"):
            named_files(found)
    with pytest.raises(UserError) if name != "notes.txt" else nullcontext():
        found = read_remote_store(f"file://{folder}") if name == "notes.txt" else found
        publish_remote(f"file://{folder}", tmp_path / "work", sound, found)
    assert [victim.read_text() for victim in victims] == ["mine", "mine"]


def test_old_files_of_ours_are_removed_at_a_url(folder, tmp_path):
    url = f"file://{folder}"
    sound = read_remote_store(url)
    old = folder / f"00001-s1-{'0' * 12}.parquet"
    old.write_text("")
    found = sound | {"shards": [*sound["shards"], sound["shards"][0] | {"file": old.name}]}
    (folder / "store.json").write_text(json.dumps(found))
    publish_remote(url, tmp_path / "work", sound, read_remote_store(url))
    assert not old.exists() and len(WindowStore(folder).windows()) == N


def test_clearing_a_folder_away_refuses_a_forged_store(folder):
    forge(folder, lambda m: m["shards"][0].update(file="../victim"))
    before = sorted(folder.iterdir())
    with pytest.raises(UserError):
        clear_away(folder)
    assert sorted(folder.iterdir()) == before


def test_a_file_of_a_store_is_one_part_of_a_path(folder):
    store = WindowStore(folder)
    for name in ("../x", "a/b", "", ".x", "x\n"):
        with pytest.raises(UserError, match="plain file name"):
            store.file(name)


def test_a_store_whose_shards_have_no_number_cannot_be_appended_to(folder):
    shard = json.loads((folder / "store.json").read_text())["shards"][0]
    (folder / shard["file"]).rename(folder / "one.parquet")
    forge(folder, lambda m: m["shards"][0].update(file="one.parquet"))
    with pytest.raises(UserError, match="no name of a shard"):
        next_number(WindowStore(folder))


TABLES = {
    "other columns": {"a": [1]},
    "no rows": {"shard": pa.array([], pa.string()), "row": pa.array([], pa.int64())},
    "rows of text": {"shard": ["00000"], "row": ["x"], "hr": [1.0]},
    "shard of numbers": {"shard": [1.5], "row": [0]},
}


@pytest.mark.parametrize("kind", ["shards", "index", "labels"])
@pytest.mark.parametrize("table", TABLES)
def test_tables_of_another_kind_are_one_line(folder, kind, table):
    """Whose hashes say that all is well."""
    path = folder / "00009-forged-000000000000.parquet"
    pq.write_table(pa.table(TABLES[table]), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    forged = {"file": path.name, "sha256": digest}

    def change(meta):
        if kind == "shards":
            meta["shards"][0] |= forged
        else:
            meta[kind] = [forged] if kind == "labels" else forged

    forge(folder, change)
    store = WindowStore(folder)
    try:
        store.windows(), store.index()
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert (kind, table) in (("labels", "no rows"), ("index", "no rows"))
        return
    assert not verify(str(folder))["passed"]


def test_labels_of_other_windows_are_refused(folder):
    meta = json.loads((folder / "store.json").read_text())
    table = pa.table({"shard": [meta["shards"][0]["file"]], "row": [0], "hr": [60.0]})
    entry = write_named(folder, "labels", lambda path: pq.write_table(table, path))
    forge(folder, lambda m: m.update(labels=[entry]))
    with pytest.raises(UserError, match="other windows"):
        WindowStore(folder).windows()
