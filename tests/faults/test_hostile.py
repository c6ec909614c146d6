"""What an attacker would try by hand: names that lead out, links, texts that programs obey."""

import json
import os

import h5py
import numpy as np
import pytest

from xmae.data.recording.readers import read_recording
from xmae.data.store.flat import FlatWindows
from xmae.data.store.store import WindowStore
from xmae.errors import UserError
from xmae.export.bundle.bundle import Bundle
from xmae.manifest import FileName, checked, path_below
from xmae.models.checkpoint import load_encoder
from xmae.text import cell, printable

from . import manifests, recordings
from .kind import real_signals

LEAVING = (
    "../secret.csv", "a/../../secret.csv", "/etc/passwd", "./../secret.csv", "..", ".", "",
    "a//b.csv", "a/", "~/secret.csv", ".hidden.csv", "a/.hidden.csv", "file:///etc/passwd",
    "http://example.org/a.csv", "s3://bucket/a.csv", "..\\secret.csv", "C:\\secret.csv",
    "\\\\host\\share", "a\0.csv", "a\n.csv", "a\x1b[2J.csv", "a\u202e.csv",
    "\u2024\u2024/secret.csv", "\uff0e\uff0e/secret.csv", "a\u2028.csv", "con:", "a|b", "a;b",
    "$(id)", "`id`", "a*", "a?", "x" * 300, "a/" * 20 + "a",
)  # fmt: skip


@pytest.mark.parametrize("name", LEAVING, ids=ascii)
def test_a_name_stays_below_its_folder(tmp_path, name):
    (tmp_path / "secret.csv").write_text("time,ppg\n" + "0,1\n" * 9)
    folder = tmp_path / "session"
    folder.mkdir()
    with pytest.raises(UserError) as refused:
        path_below(name, "manifest")
    assert "\n" not in printable(str(refused.value))
    (folder / "s.yaml").write_text(json.dumps({"sources": [{"file": name}]}))
    with pytest.raises(UserError):
        read_recording(folder / "s.yaml")
    if "/" not in name:
        with pytest.raises(UserError):
            checked(name, FileName, "manifest")


@pytest.mark.parametrize("name", ["a.csv", "watch/a b (1).csv", "день/a.csv", "a/b/c.txt"])
def test_names_of_people_are_names(name):
    assert path_below(name, "manifest") == name


@pytest.mark.parametrize("name", ["../other.dat", "/etc/hostname", "s3://a/b", "a/../../x.dat"])
def test_a_header_names_files_beside_it_alone(tmp_path, name):
    (tmp_path / "w").mkdir()
    path = recordings.write_wfdb(tmp_path / "w", real_signals())
    data = next(path.parent.glob("*.dat"))
    data.rename(tmp_path / "other.dat")
    path.write_text(path.read_text().replace(data.name, name))
    with pytest.raises(UserError):
        read_recording(path)


def test_segments_lie_beside_their_header_alone(tmp_path):
    (tmp_path / "w").mkdir()
    path = recordings.write_segments(tmp_path / "w", real_signals())
    for part in ("3_0001.hea", "3_0001.dat"):
        path.with_name(part).rename(tmp_path / part)
    path.write_text(path.read_text().replace("3_0001", "../3_0001"))
    with pytest.raises(UserError):
        read_recording(path)


def test_what_is_no_plain_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "a.csv")  # it would be waited for without end
    (tmp_path / "b.npz").symlink_to("/dev/zero")
    for name in ("a.csv", "b.npz"):
        with pytest.raises(UserError, match="no plain file"):
            read_recording(tmp_path / name)


@pytest.mark.parametrize("name", ["ppg", "ecg", "subject", "Subj_Wins"])
def test_no_link_of_an_hdf5_file_leads_into_another_file(tmp_path, name):
    os.mkfifo(tmp_path / "other.h5")  # opening it would wait without end
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["fs"] = 125.0
        file["ppg" if name != "ppg" else "other"] = real_signals()["ppg"]
        hidden = file.create_group("#refs#")
        hidden["far"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/")
        file[name] = h5py.SoftLink("/#refs#/far/sig")  # a link to a link
    with pytest.raises(UserError, match="'far' is a link into another file"):
        read_recording(tmp_path / "a.h5")


def test_links_within_an_hdf5_file_are_followed_but_not_in_a_ring(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["fs"] = 125.0
        file["raw/signal"] = real_signals()["ppg"]
        file["ppg"] = h5py.SoftLink("/raw/signal")
        file["lost"] = h5py.SoftLink("/raw/nowhere")
    assert read_recording(tmp_path / "a.h5").sfreq == 125
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["ecg"] = h5py.SoftLink("ecg")
    with pytest.raises(UserError, match="a link to a link"):
        read_recording(tmp_path / "a.h5")


@pytest.fixture
def store(tmp_path):
    """Return a store of one recording."""
    return manifests.write_store(tmp_path, real_signals()).parent


def test_a_link_in_a_store_costs_no_file_elsewhere(store, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "home").mkdir()
    for name in ("letter.txt", "0123456789abcdef", "a" * 16 + "-notes"):
        (tmp_path / "home" / name).write_text("mine")
    (store / "cache").symlink_to(tmp_path / "home")
    FlatWindows(WindowStore(store), "train")
    assert {path.read_text() for path in (tmp_path / "home").iterdir()} == {"mine"}
    assert len(list((tmp_path / "home").iterdir())) == 3


def test_only_flat_files_are_cleared_away(store):
    (store / "cache").mkdir()
    for name in ("letter.txt", "0" * 16 + "-ppg", "0" * 16 + "-letter"):
        (store / "cache" / name).write_text("old")
    FlatWindows(WindowStore(store), "train")
    left = {path.name for path in (store / "cache").iterdir()}
    assert {"letter.txt", "0" * 16 + "-letter"} < left and "0" * 16 + "-ppg" not in left


def test_a_shard_that_is_a_link_or_twice_there_is_only_read(store, tmp_path):
    shard = next(path for path in store.glob("*.parquet") if path.name[0] == "0")
    shard.rename(tmp_path / "outside.parquet")
    shard.symlink_to(tmp_path / "outside.parquet")
    assert len(WindowStore(store).windows())
    shard.unlink()
    os.link(tmp_path / "outside.parquet", shard)
    assert len(WindowStore(store).windows())
    assert (tmp_path / "outside.parquet").exists()


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/b", ".hidden", "a\0b", "a\x1b[2J"])
@pytest.mark.parametrize("place", ["shard", "index"])
def test_a_store_names_its_own_files_alone(store, name, place):
    meta = json.loads((store / "store.json").read_text())
    (meta["shards"][0] if place == "shard" else meta["index"])["file"] = name
    (store / "store.json").write_text(json.dumps(meta))
    with pytest.raises(UserError):
        WindowStore(store)


def forge(path, **changes):
    """Write a bundle with another manifest; its path."""
    manifests.write_bundle(path, {})
    manifest = json.loads((path / "manifest.json").read_text()) | changes
    (path / "manifest.json").write_text(json.dumps(manifest))
    return path


@pytest.mark.parametrize("target", ["/etc/passwd", "/dev/zero", "../secret", "manifest.json"])
def test_a_link_in_a_bundle_is_no_file_of_it(tmp_path, target):
    (tmp_path / "secret").write_text("key")
    (tmp_path / "b").mkdir()
    path = forge(tmp_path / "b")
    (path / "heads.json").unlink()
    (path / "heads.json").symlink_to(target)
    with pytest.raises(UserError):
        Bundle.open(path)


FIELDS = {
    "window of NaN": {"window": {"sfreq": float("nan"), "n_times": 1000}},
    "window of text": {"window": {"sfreq": "100", "n_times": "1000"}},
    "window that is true": {"window": {"sfreq": 100, "n_times": True}},
    "a name of 2 MB": {"name": "x" * (2 << 20)},
    "turned text": {"name": "gnp.\u202egpj"},
    "half of a character": {"name": "\ud800"},
    "tools with a path": {"tools": {"../x": "1"}},
    "a number without end": {"data": {"n": 10**400}},
    "metrics of infinity": {"metrics": {"x": float("-inf")}},
    "no models": {"models": None},
    "a thousand models": {"models": [{}] * 1000},
    "version of text": {"schema_version": "1"},
    "version 2^70": {"schema_version": 2**70},
    "version below 0": {"schema_version": -1},
    "what is at chance is no list": {"metrics": {"heads_at_chance": [1]}},
    "an escape in what is at chance": {"metrics": {"heads_at_chance": {"a": ["\x1b[2J"]}}},
    "files twice named": {"files": {"heads.json": "ab" * 32, "HEADS.JSON": "ab" * 32}},
}


@pytest.mark.parametrize("field", FIELDS)
def test_forged_fields_of_a_bundle_are_one_line(tmp_path, field):
    with pytest.raises(UserError) as refused:
        Bundle.open(forge(tmp_path, **FIELDS[field]))
    assert len(printable(str(refused.value)).splitlines()) == 1
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize(
    ("end", "dtype", "code"),
    [("input", "int8", 128), ("input", "int8", -129), ("input", "float32", 1),
     ("output", "uint8", -1), ("output", "uint8", 256)],
)  # fmt: skip
def test_a_zero_point_is_a_code_of_its_type(tmp_path, end, dtype, code):
    manifests.write_bundle(tmp_path, {})
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    sound = {"shape": [1, 4], "dtype": "int8", "scale": 0.1, "zero_point": 0}
    manifest["models"][0] |= {"input": sound, "output": sound, end: sound | {"dtype": dtype}}
    manifest["models"][0][end]["zero_point"] = code
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="is no code of"):
        Bundle.open(tmp_path)


@pytest.mark.parametrize("width", [0, -1, 2**50, True])
def test_an_embedding_has_a_width(tmp_path, width):
    manifests.write_bundle(tmp_path, {})
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["models"][0]["embedding"] = width
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="embedding"):
        Bundle.open(tmp_path)


def test_a_field_that_stands_twice_is_refused(tmp_path):
    manifests.write_bundle(tmp_path, {})
    text = (tmp_path / "manifest.json").read_text().rstrip()
    (tmp_path / "manifest.json").write_text(text[:-1] + ', "models": []}')
    with pytest.raises(UserError, match="has the field 'models' twice"):
        Bundle.open(tmp_path)


HEADERS = {
    "config that is none": {"config": "nothing"},
    "config of a list": {"config": "[]"},
    "a width of text": {"config": '{"embed_dim": "16"}'},
    "a width below 0": {"config": '{"embed_dim": -1, "tier": "mcu-s"}'},
    "a width without end": {"config": '{"embed_dim": 1e400, "tier": "mcu-s"}'},
    "a tier with a path": {"config": '{"embed_dim": 16, "tier": "../../x"}'},
    "another setting": {"config": '{"embed_dim": 16, "tier": "mcu-s", "__class__": 1}'},
    "a kind of nothing": {"kind": "os.system"},
    "another kind": {"kind": "vit"},
    "provenance that is none": {"provenance": "x"},
    "provenance of a list": {"provenance": "[]"},
    "splits of numbers": {"provenance": '{"splits": [1]}'},
    "a split that is none": {"provenance": '{"splits": {"a": "all"}}'},
    "a teacher of itself, deep": {"provenance": '{"teacher": ' * 3000 + "{}" + "}" * 3000},
    "an escape": {"provenance": '{"method": "\\u001b[2J"}'},
    "a digest that is none": {"provenance": '{"sha256": "../x"}'},
    "settings of NaN": {"provenance": '{"settings": {"lr": NaN}}'},
}


@pytest.mark.parametrize("field", HEADERS)
def test_forged_notes_of_an_encoder_are_one_line(tmp_path, field):
    path = manifests.write_encoder(tmp_path, {})
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] |= HEADERS[field]
    written = json.dumps(header).encode()
    path.write_bytes(len(written).to_bytes(8, "little") + written + content[end:])
    with pytest.raises(UserError) as refused:
        load_encoder(path)
    assert len(printable(str(refused.value)).splitlines()) == 1
    assert "\x1b" not in str(refused.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_refused(tmp_path, value):
    import safetensors.torch

    path = manifests.write_encoder(tmp_path, {})
    with safetensors.safe_open(path, "pt") as file:
        header = file.metadata()
    tensors = safetensors.torch.load_file(path)
    next(x for x in tensors.values() if x.is_floating_point()).view(-1)[0] = value
    safetensors.torch.save_file(tensors, path, header)
    with pytest.raises(UserError, match="NaN or infinite"):
        load_encoder(path)


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1+1", "@SUM(A1)", "\t=1", "\uff1d1+1", "\uff0b1", "\uff201"]
)
def test_no_spreadsheet_takes_a_name_for_a_formula(text):
    assert cell(text).startswith("'")
