"""Stores in an object store: prepared to it, read and streamed from it; against a local
S3-compatible server.
"""

import os
import socket

import numpy as np
import pytest
from filelock import FileLock

from xmae.data import WindowStore
from xmae.data.batches.loader import WindowLoader
from xmae.data.bidmc import bidmc_files
from xmae.data.prepare.prepare import prepare
from xmae.data.store.integrity import verify
from xmae.data.store.relabel import relabel
from xmae.data.store.remote import publish_remote, stage_of
from xmae.errors import UserError
from xmae.ownership import lock_file

FILES, MORE = [str(path) for path in bidmc_files()[:2]], [str(bidmc_files()[2])]


@pytest.fixture(scope="module")
def bucket():
    pytest.importorskip("s3fs")
    moto = pytest.importorskip("moto.server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]  # free a moment ago
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    settings = {
        "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        import fsspec
        import s3fs

        s3fs.S3FileSystem.clear_instance_cache()
        fs = fsspec.filesystem("s3")
        fs.mkdir("data")
        yield "s3://data"
        s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def test_a_store_lives_in_an_object_store(bucket, tmp_path, monkeypatch):
    arguments = {"split": "1,0,0", "min_quality": -1}
    local, url = str(tmp_path / "store"), f"{bucket}/store"
    assert (
        prepare(FILES, url, **arguments)["windows"]
        == prepare(FILES, local, **arguments)["windows"]
        == 96
    )
    windows, same = WindowStore(url).windows("train"), WindowStore(local).windows("train")
    np.testing.assert_array_equal(windows.ecg, same.ecg)
    assert verify(url)["passed"] and [row["record"] for row in WindowStore(url).index()] == [
        "bidmc01",
        "bidmc02",
    ]

    streamed = WindowLoader(url, "train", 16, stream=1)
    for (ppg, _, rows), (expected, _, numbers) in zip(
        streamed, WindowLoader(local, "train", 16, stream=1), strict=True
    ):
        np.testing.assert_array_equal(ppg, expected)
        np.testing.assert_array_equal(rows, numbers)
    mapped = WindowLoader(url, "train", 16, cache=tmp_path / "cache")
    np.testing.assert_allclose(
        mapped.fetch(np.array([90]))[1][0, 0], same.ecg[90], rtol=1e-5, atol=1e-6
    )
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    np.testing.assert_array_equal(
        WindowLoader(url, "train", 16).fetch(np.array([7]))[0][0, 0],
        mapped.fetch(np.array([7]))[0][0, 0],
    )
    assert len(list((tmp_path / "home" / "xmae" / "windows").glob("*/*-ecg"))) == 1

    (tmp_path / "labels.csv").write_text("record,sbp\nbidmc01,111\n")
    assert (
        relabel(url, str(tmp_path / "labels.csv"))["windows"] == {"sbp": 48}
        and verify(url)["passed"]
    )
    # a restart would take the new splits of all
    result = prepare(MORE, url, **arguments, append=True)
    assert result["windows"] == 144 and verify(url)["passed"] and len(WindowStore(url).index()) == 3
    assert np.nansum(WindowStore(url).windows().labels["sbp"]) == 48 * 111

    import fsspec

    fs = fsspec.filesystem("s3")
    shard = f"data/store/{WindowStore(url).entries[0].file}"
    content = bytearray(fs.cat_file(shard))
    content[len(content) // 2] ^= 1
    fs.pipe_file(shard, bytes(content))
    assert not verify(url)["passed"]
    prepare(FILES[:1], url, **arguments)  # another store under the same name
    assert verify(url)["passed"] and len(WindowStore(url).windows()) == 48


@pytest.fixture
def url(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    return f"memory://{tmp_path.name}/store"


def meanwhile(work, monkeypatch, module):
    """Have another process do some work after a store was opened, and before it is written."""
    original = publish_remote

    def after(*arguments):
        monkeypatch.setattr(module, original)
        work()
        return original(*arguments)

    monkeypatch.setattr(module, after)


def test_of_two_that_change_a_store_at_once_the_second_is_refused(url, tmp_path, monkeypatch):
    arguments = {"split": "1,0,0", "min_quality": -1}
    prepare(FILES[:1], url, **arguments)
    (tmp_path / "labels.csv").write_text("record,sbp\nbidmc01,111\n")
    meanwhile(
        lambda: prepare(FILES[1:], url, **arguments, append=True),
        monkeypatch,
        "xmae.data.store.relabel.publish_remote",
    )
    with pytest.raises(UserError, match="changed by somebody else meanwhile"):
        relabel(url, str(tmp_path / "labels.csv"))
    assert len(WindowStore(url).windows()) == 96 and verify(url)["passed"]
    relabel(url, str(tmp_path / "labels.csv"))
    meanwhile(
        lambda: relabel(url, str(tmp_path / "labels.csv")),
        monkeypatch,
        "xmae.data.prepare.prepare.publish_remote",
    )
    with pytest.raises(UserError, match="changed by somebody else meanwhile"):
        prepare(MORE, url, **arguments, append=True)
    assert len(WindowStore(url).windows()) == 96 and verify(url)["passed"]
    assert prepare(MORE, url, **arguments, append=True)["windows"] == 144 and verify(url)["passed"]


def test_work_is_kept_until_it_has_arrived(url, tmp_path, monkeypatch):
    def broken(*_):
        raise OSError("connection lost")

    with monkeypatch.context() as patch:
        patch.setattr("fsspec.implementations.memory.MemoryFileSystem.put_file", broken)
        with pytest.raises(
            UserError, match="connection lost; finished recordings are kept for the next try"
        ):
            prepare(FILES[:1], url, split="1,0,0", min_quality=-1)
    monkeypatch.setattr("xmae.data.prepare.prepare_file.read_each", None)  # nothing is read again
    assert (
        prepare(FILES[:1], url, split="1,0,0", min_quality=-1)["windows"] == 48
        and verify(url)["passed"]
    )
    assert not list((tmp_path / "home" / "xmae" / "prepare").iterdir())
    with (
        FileLock(lock_file(stage_of(url))),
        pytest.raises(UserError, match="memory://.*another xmae process is writing"),
    ):
        prepare(FILES[:1], url)


def test_mistakes_with_urls(bucket):
    with pytest.raises(UserError, match="no store of windows"):
        WindowStore(f"{bucket}/nothing")
    with pytest.raises(UserError, match="no access to such paths"):
        WindowStore("nosuch://data/store")
    with pytest.raises(UserError, match="no store of windows"):
        prepare(FILES, f"{bucket}/nothing", append=True)
    assert "AWS_ENDPOINT_URL" in os.environ
