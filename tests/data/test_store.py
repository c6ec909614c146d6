"""The store: what is written comes back, without a copy per sample; damage is one clear line."""

import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xmae.data import Windows, WindowStore
from xmae.data.bidmc import bidmc_files
from xmae.data.prepare.prepare import prepare
from xmae.data.prepare.windowing import prepare_recording
from xmae.data.recording.readers import read_recording
from xmae.data.store.shard import quantize, read_codes, read_shard, write_shard
from xmae.errors import UserError
from xmae.files import sha256


@pytest.fixture(scope="module")
def windows():
    return prepare_recording(read_recording(bidmc_files()[0]), -1)[0]


@pytest.fixture
def store(tmp_path):
    prepare(
        [str(path) for path in bidmc_files()[:3]], str(tmp_path / "store"), split="0.34,0.33,0.33"
    )
    return tmp_path / "store"


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(np.float32, (3, 40), elements=st.floats(-1, 1, width=32)),
    st.floats(1e-6, 1e6),
    st.floats(-1e3, 1e3),
)
def test_codes_are_within_half_a_step(shape, gain, offset):
    x = (shape * np.float32(gain) + np.float32(offset)).astype(np.float32)
    codes, scale, middle = quantize(x)
    assert codes.dtype == np.int16 and np.abs(codes.astype(int)).max() <= 32767
    error = np.abs(codes * scale[:, None] + middle[:, None] - x).max(axis=1)
    step = np.ptp(x, axis=1) / 65534
    # a range below normal floats is flat
    rounding = 4 * np.spacing(np.abs(x).max(axis=1)) + np.finfo(np.float32).tiny
    assert (error <= 0.51 * step + rounding).all()


def test_shard_gives_back_what_was_written(tmp_path, windows):
    windows = replace(windows, ppg=windows.ppg.copy())
    windows.ppg[3] = 0.46  # a flat window survives too
    path = tmp_path / "shard.parquet"
    write_shard(path, windows)
    read = read_shard(path, sha256(path))
    for name in ("ppg", "ecg"):
        written, back = getattr(windows, name), getattr(read, name)
        assert back.dtype == np.float32
        assert (np.abs(back - written).max(axis=1) <= np.ptp(written, axis=1) / 65534 + 1e-7).all()
    for name in ("subject", "record", "start_s", "ppg_quality", "ecg_quality"):
        np.testing.assert_array_equal(getattr(read, name), getattr(windows, name))
    for name, values in windows.labels.items():
        np.testing.assert_array_equal(read.labels[name], values)
    assert path.stat().st_size < len(windows) * 2 * 1000 * 2  # smaller than plain int16


def test_shard_is_read_without_a_copy_per_sample(tmp_path, windows):
    write_shard(tmp_path / "shard.parquet", windows)
    table = pq.read_table(tmp_path / "shard.parquet")
    codes, buffer = read_codes(table, "ppg"), table["ppg"].chunk(0).buffers()[-1]
    assert (
        codes.dtype == np.int16 and codes.shape == (len(windows), 1000) and not codes.flags.owndata
    )
    assert buffer.address <= codes.ctypes.data < buffer.address + buffer.size


def test_store_knows_splits_and_settings(store):
    opened = WindowStore(store)
    assert sorted(opened.splits.values()) == ["test", "train", "val"]
    everything = opened.windows()
    parts = {split: opened.windows(split) for split in ("train", "val", "test")}
    assert len(everything) == sum(map(len, parts.values())) == opened.meta["windows"]
    for split, part in parts.items():
        assert set(part.split) == {split} and {
            opened.splits[subject] for subject in part.subject
        } == {split}
        assert len(part) == opened.meta["windows_by_split"][split]
    assert opened.meta["settings"] == {"split": "0.34,0.33,0.33", "min_quality": 0.9, "seed": 77}
    assert min(everything.ppg_quality.min(), everything.ecg_quality.min()) >= 0.9
    with pytest.raises(UserError, match="unknown split"):
        opened.windows("validation")


def test_select_and_concatenate(windows):
    first, rest = windows.select(slice(0, 2)), windows.select(np.arange(len(windows)) >= 2)
    joined = Windows.concatenate([first, rest])
    np.testing.assert_array_equal(joined.ecg, windows.ecg)
    np.testing.assert_array_equal(joined.labels["hr_monitor"], windows.labels["hr_monitor"])
    without = Windows.concatenate([first, replace(rest, ecg=None)])
    assert without.ecg is None and len(without) == len(windows)
    windows.require_ecg("pretraining")
    with pytest.raises(UserError, match="pretraining needs ECG"):
        without.require_ecg("pretraining")


def test_damage_is_reported(store, tmp_path):
    shard = store / WindowStore(store).entries[1].file
    whole = shard.read_bytes()
    for content in (whole[: len(whole) // 2], b"", whole[:-9] + b"x" + whole[-8:]):
        shard.write_bytes(content)
        with pytest.raises(UserError, match=shard.name):
            WindowStore(store).windows()
    shard.unlink()
    with pytest.raises(UserError, match=shard.name):
        WindowStore(store).windows()
    meta = store / "store.json"
    meta.write_text(json.dumps(json.loads(meta.read_text()) | {"schema_version": 99}))
    with pytest.raises(UserError, match="version 99"):
        WindowStore(store)
    meta.write_text(meta.read_text()[:50])
    with pytest.raises(UserError, match="store.json"):
        WindowStore(store)
    with pytest.raises(UserError, match="no store of windows"):
        WindowStore(tmp_path / "absent")
