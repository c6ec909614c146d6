"""Preparation: against the per-window NeuroKit2 pipeline, with gaps, labels and splits; failures
change nothing.
"""

import errno
import warnings
from dataclasses import replace
from pathlib import Path

import neurokit2 as nk
import numpy as np
import pytest
import wfdb
from case_files import write_short
from scipy import signal

from xmae.benchmarks.studies.prepare_speed import measure as prepare_speed
from xmae.data import Recording, WindowStore
from xmae.data.bidmc import SHIPPED_SPLIT, bidmc_files
from xmae.data.prepare import prepare_file as module_of_a_file
from xmae.data.prepare.inputs import draw_splits, find_recordings, read_splits
from xmae.data.prepare.prepare import prepare
from xmae.data.prepare.prepare_file import prepare_file, state_of
from xmae.data.prepare.windowing import prepare_recording, window_label
from xmae.data.recording.readers import read_recording
from xmae.errors import UserError
from xmae.signals.scale import minmax_scale

NCKU = Path(__file__).parents[1] / "fixtures" / "ncku_static.npz"


@pytest.fixture(scope="module")
def recording():
    return read_recording(bidmc_files()[0])


def cut(recording, seconds):
    n_times = int(seconds * recording.sfreq)
    return replace(
        recording, ppg=recording.ppg[:n_times], ecg=recording.ecg[:n_times], leads={}, resp=None
    )


def test_windows_resemble_those_of_the_recipe(recording):
    windows, counts = prepare_recording(recording, -1)
    assert counts == {"kept": 48} and windows.ppg.shape == windows.ecg.shape == (48, 1000)
    assert windows.ppg.dtype == np.float32 and np.diff(windows.start_s).tolist() == [10] * 47
    for name, clean in (("ppg", nk.ppg_clean), ("ecg", nk.ecg_clean)):
        raw = getattr(recording, name)[: 48 * 1250].reshape(48, 1250)
        rates = {"sampling_rate": 125, "desired_sampling_rate": 100, "method": "poly"}
        expected = np.array(
            [nk.signal_resample(clean(row, sampling_rate=125), **rates) for row in raw]
        )
        # their windows are filtered one by one, so they differ from ours near both ends
        inner = slice(200, 800)
        pairs = zip(expected[:, inner], getattr(windows, name)[:, inner], strict=True)
        correlation = [np.corrcoef(theirs, ours)[0, 1] for theirs, ours in pairs]
        assert min(correlation) > 0.97 and np.median(correlation) > 0.995
    assert not minmax_scale(windows.ppg)[1].any()


def test_quality_keeps_what_the_recipe_keeps():
    agree = []
    for path in bidmc_files()[3::8]:
        recording = read_recording(path)
        windows, _ = prepare_recording(recording, -1)
        ours = np.minimum(windows.ppg_quality, windows.ecg_quality) >= 0.9
        for k in range(0, len(windows), 5):
            part = slice(k * 1250, (k + 1) * 1250)
            ppg = nk.ppg_clean(recording.ppg[part], sampling_rate=125)
            ecg = nk.ecg_clean(recording.ecg[part], sampling_rate=125)
            qualities = (
                nk.ppg_quality(ppg, sampling_rate=125, method="templatematch"),
                nk.ecg_quality(ecg, sampling_rate=125, method="templatematch"),
            )
            agree.append(
                (min(np.percentile(quality, 15) for quality in qualities) >= 0.9) == ours[k]
            )
    assert np.mean(agree) > 0.9  # one template a recording against one a window


@pytest.mark.extended
def test_preparation_is_ten_times_as_fast_as_the_recipe():
    result = prepare_speed(n_recordings=1, n_scaling=0)
    assert result["windows"] == 48 and result["ratio"] > 10 and result["same_verdict"] > 0.8


def test_missing_samples_drop_their_windows_only(recording):
    whole, _ = prepare_recording(cut(recording, 100), -1)
    ecg = cut(recording, 100).ecg.copy()
    ecg[125 * 44 : 125 * 46] = np.nan
    windows, counts = prepare_recording(replace(cut(recording, 100), ecg=ecg), -1)
    assert counts == {"kept": 9, "missing": 1}
    assert windows.start_s.tolist() == [0, 10, 20, 30, 50, 60, 70, 80, 90]
    assert np.isfinite(windows.ecg).all()
    np.testing.assert_array_equal(windows.ppg, whole.ppg[[0, 1, 2, 3, 5, 6, 7, 8, 9]])
    # far from the gap the filter does not know of it
    np.testing.assert_allclose(windows.ecg[[0, 1, 2, 7, 8]], whole.ecg[[0, 1, 2, 8, 9]], atol=2e-3)


def test_recorder_at_50_hz_with_marked_gap():
    windows, counts = prepare_recording(read_recording(NCKU))
    assert counts == {"kept": 4, "missing": 1}
    assert (
        30 not in windows.start_s
        and windows.ppg.shape[1] == 1000
        and np.isfinite(windows.ecg).all()
    )


def test_flat_stretch_is_dropped_and_ppg_alone_is_fine(recording):
    ppg = cut(recording, 60).ppg.copy()
    ppg[125 * 20 : 125 * 30] = ppg[125 * 20]
    windows, counts = prepare_recording(replace(cut(recording, 60), ppg=ppg, ecg=None), -1)
    assert (
        counts == {"kept": 5, "flat": 1}
        and windows.ecg is None
        and np.isnan(windows.ecg_quality).all()
    )


def test_a_gap_does_not_ring_into_the_windows_beside_it(recording):
    whole, ecg = cut(recording, 90), cut(recording, 90).ecg.copy()
    ecg[125 * 40 : 125 * 50] = np.nan  # exactly one window
    windows, counts = prepare_recording(replace(whole, ecg=ecg + 5, ppg=whole.ppg), -1)
    alone = [prepare_recording(replace(whole, ppg=whole.ppg[part], ecg=whole.ecg[part]), -1)[0].ecg
             for part in (slice(0, 125 * 40), slice(125 * 50, None))]  # fmt: skip
    assert counts == {"kept": 8, "missing": 1}
    np.testing.assert_allclose(windows.ecg, np.concatenate(alone), atol=0.02)


def test_leads_are_all_channels_at_200_hz(recording, tmp_path):
    missing = recording.leads["V"].copy()
    missing[125 * 12 : 125 * 13] = np.nan
    changed = replace(recording, leads=recording.leads | {"V": missing})
    windows, _ = prepare_recording(changed, -1, leads=True)
    assert windows.lead_names == ("II", "V", "RESP") and windows.leads.shape == (48, 3, 2000)
    assert (
        np.isnan(windows.leads[1, 1]).all()
        and np.isfinite(np.delete(windows.leads[:, 1], 1, axis=0)).all()
    )
    clean = nk.ecg_clean(recording.ecg, sampling_rate=125)
    expected = signal.resample(clean[:60000], 96000).reshape(48, 2000)  # in the frequency domain
    np.testing.assert_allclose(windows.leads[1:-1, 0], expected[1:-1], atol=0.01)
    np.testing.assert_allclose(windows.leads[1:-1, 0, ::2], windows.ecg[1:-1], atol=0.03)
    breath = nk.rsp_clean(recording.resp, sampling_rate=125)
    np.testing.assert_allclose(
        windows.leads[5, 2],
        np.interp(np.arange(2000) / 200 + 50, np.arange(len(breath)) / 125, breath),
        atol=0.01,
    )

    files = [str(path) for path in bidmc_files() if path.stem in ("bidmc01", "bidmc02", "bidmc15")]
    prepare(files, str(tmp_path / "leads"), split="1,0,0", leads=True)
    prepare(files, str(tmp_path / "plain"), split="1,0,0")
    store, plain = WindowStore(tmp_path / "leads"), WindowStore(tmp_path / "plain")
    assert (
        store.meta["leads"][0] == "II"
        and store.meta["leads"][-1] == "RESP"
        and "leads" not in plain.meta
    )
    windows, without = store.windows(), plain.windows()
    assert (
        windows.leads.shape == (len(windows), len(store.meta["leads"]), 2000)
        and without.leads is None
    )
    np.testing.assert_array_equal(windows.ecg, without.ecg)
    absent = np.isnan(windows.leads).all(axis=2)
    assert not absent[:, 0].any()
    # each has II, one other, and RESP
    assert (absent[:, 1:-1].sum(axis=1) == len(store.meta["leads"]) - 3).all()
    first = windows.select(slice(0, 48))
    np.testing.assert_allclose(first.leads[1:, 0, ::2], first.ecg[1:], atol=0.03)


@pytest.mark.parametrize("sfreq", [62.4725, 64, 99.99, 128, 256, 1000 / 3])
def test_any_rate_gives_whole_windows(sfreq):
    n_times = int(35 * sfreq)
    time = np.arange(n_times) / sfreq
    windows, counts = prepare_recording(
        Recording("s", "r", sfreq, np.sin(2 * np.pi * 1.25 * time)), -1
    )
    assert counts == {"kept": 3}
    expected = np.sin(2 * np.pi * 1.25 * (np.arange(1000) / 100 + 10))
    assert np.corrcoef(windows.ppg[1], expected)[0, 1] > 0.999


def test_labels_are_means_of_what_is_known(recording):
    series = np.concatenate(
        [
            np.full(10, 60.0),
            np.full(10, np.nan),
            [70.0] * 6 + [np.nan] * 4,
            [np.nan] * 6 + [80.0] * 4,
        ]
    )
    np.testing.assert_array_equal(window_label((series, 1.0), 5), [60, np.nan, 70, np.nan, np.nan])
    assert (
        window_label("F", 2).tolist() == [0, 0]
        and window_label("M", 1).tolist() == [1]
        and np.isnan(window_label("?", 1))
    )
    windows, _ = prepare_recording(recording, -1)
    assert set(windows.labels["age"]) == {88} and set(windows.labels["sex"]) == {1}
    with np.load(bidmc_files()[0]) as raw:
        np.testing.assert_allclose(
            windows.labels["hr_monitor"], raw["hr"][:480].reshape(48, 10).mean(axis=1)
        )


def test_shipped_excerpt_and_split(tmp_path):
    files, splits = bidmc_files(), read_splits(SHIPPED_SPLIT)
    assert (
        sum(path.stat().st_size for path in SHIPPED_SPLIT.parent.iterdir() if path.is_file())
        < 7.5e6
    )
    people = {}
    for path in files:
        with np.load(path) as raw:
            people[str(raw["patient"])] = (str(raw["sex"]), float(raw["age"]) > 65)
    assert people.keys() == splits.keys() and len(people) == 34
    assert [list(splits.values()).count(split) for split in ("train", "val", "test")] == [23, 3, 8]
    tested = [person for subject, person in people.items() if splits[subject] == "test"]
    assert all(tested.count((sex, old)) == 2 for sex in "MF" for old in (False, True))
    assert (
        find_recordings(["bidmc"])[0]
        == find_recordings([str(files[0].parent), "bidmc"])[0]
        == files
    )
    result = prepare(["bidmc"], str(tmp_path / "store"))
    store = WindowStore(tmp_path / "store")
    assert all(splits[subject] == split for subject, split in store.splits.items())
    assert result["windows"] == store.meta["windows"] == 1334
    assert result["windows"] + sum(result["dropped"].values()) == 37 * 48


def test_split_by_subject():
    subjects = [f"s{i}" for i in range(20)]
    splits = draw_splits(subjects, [0.7, 0.1, 0.2], 77)
    assert [list(splits.values()).count(split) for split in ("train", "val", "test")] == [14, 2, 4]
    assert (
        splits
        == draw_splits(reversed(subjects), [0.7, 0.1, 0.2], 77)
        != draw_splits(subjects, [0.7, 0.1, 0.2], 78)
    )
    assert sorted(draw_splits(["a", "b", "c"], [0.9, 0.05, 0.05], 0).values()) == [
        "test",
        "train",
        "val",
    ]
    assert draw_splits(["a"], [1, 0, 0], 0) == {"a": "train"}


def test_processes_give_the_same_store(tmp_path):
    files = [write_short(tmp_path / f"{k}.npz", path) for k, path in enumerate(bidmc_files()[:3])]
    results = [
        prepare(files, str(tmp_path / str(jobs)), "1,0,0", min_quality=-1, jobs=jobs)
        for jobs in (1, 2)
    ]
    assert results[0] | {"out": ""} == results[1] | {"out": ""}
    hashes = [
        [shard.sha256 for shard in WindowStore(tmp_path / str(jobs)).entries] for jobs in (1, 2)
    ]
    assert hashes[0] == hashes[1]


def test_any_order_of_work_gives_the_same_store(tmp_path, monkeypatch):
    files = [write_short(tmp_path / f"{k}.npz", path) for k, path in enumerate(bidmc_files()[:4])]
    settings = {"split": "0.4,0.3,0.3", "min_quality": -1}
    prepare(files, str(tmp_path / "forward"), **settings)

    def backward(paths, first, stage, settings, jobs):
        notes = {
            k: prepare_file(paths[k], first + k, stage, settings)
            for k in reversed(range(len(paths)))
        }
        yield from (notes[k] for k in range(len(paths)))

    monkeypatch.setattr("xmae.data.prepare.prepare.run_local", backward)
    prepare(files, str(tmp_path / "backward"), **settings)
    # all hashes
    assert WindowStore(tmp_path / "forward").meta == WindowStore(tmp_path / "backward").meta


def test_failure_keeps_the_previous_store(tmp_path):
    good, out = str(bidmc_files()[0]), tmp_path / "store"
    prepare([good], str(out), split="1,0,0")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    broken = tmp_path / "broken.npz"
    broken.write_bytes(Path(good).read_bytes()[:1000])
    (tmp_path / "folder").mkdir()
    (tmp_path / "split.csv").write_text("subject,split\nsomebody,train\n")
    (tmp_path / "odd.csv").write_text("subject,split\ns01182,training\n")
    for arguments, complaint in [
        ({"inputs": [good, str(broken)]}, "broken.npz"),
        ({"inputs": [str(tmp_path / "absent.npz")]}, "no such file"),
        ({"inputs": [str(tmp_path / "folder")]}, "no recording in this folder"),
        ({"inputs": []}, "no recordings given"),
        ({"inputs": [good], "split": "0.5,0.6"}, "three shares"),
        ({"inputs": [good], "split": "0.8,0.1,0.1"}, "1 subjects are too few"),
        (
            {"inputs": [good], "split": str(tmp_path / "split.csv")},
            "split.csv: names no split for s01182",
        ),
        ({"inputs": [good], "split": str(tmp_path / "odd.csv")}, "odd.csv: expected"),
        ({"inputs": [good], "split": str(tmp_path / "none.csv")}, "none.csv"),
        (
            {"inputs": [good], "min_quality": 1.1, "split": "1,0,0"},
            "no window of 1 recordings.*differ in shape.*a lower one keeps more windows",
        ),
    ]:
        with pytest.raises(UserError, match=complaint):
            prepare(**{"out": str(out), "split": "1,0,0"} | arguments)
        assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    # what was done of the last try
    assert [path.name for path in tmp_path.glob(".*")] == [".store.part"]


@pytest.fixture
def prepared(monkeypatch):
    """Return a list that gets the name of each recording as it is prepared, in this process."""
    names, original = [], module_of_a_file.prepare_recording
    monkeypatch.setattr(
        module_of_a_file,
        "prepare_recording",
        lambda *a: names.append(a[0].record) or original(*a),
    )
    return names


def test_work_that_is_done_is_kept_when_a_file_is_bad(tmp_path, prepared):
    files = [write_short(tmp_path / f"{k}.npz", path) for k, path in enumerate(bidmc_files()[:3])]
    damaged = Path(files[1])
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:1000])
    arguments = {
        "inputs": files,
        "out": str(tmp_path / "store"),
        "split": "1,0,0",
        "min_quality": -1,
    }
    with pytest.raises(UserError, match="1.npz"):
        prepare(**arguments, jobs=1)
    result = prepare(**arguments, jobs=1, skip_bad=True)
    assert prepared == ["bidmc01", "bidmc03"] and result["left_out"][0]["source"] == "1.npz"
    assert [path.name for path in tmp_path.glob(".*")] == []
    with pytest.raises(UserError, match="1.npz"):
        prepare(**arguments, jobs=1)
    damaged.write_bytes(whole)  # mended
    assert prepare(**arguments, jobs=1)["windows"] == 9 and prepared[2:] == [
        "bidmc01",
        "bidmc02",
        "bidmc03",
    ]


def test_a_changed_signal_file_is_a_changed_recording(tmp_path, recording, prepared):
    names = {"units": ["NU"], "sig_name": ["PLETH"], "fmt": ["16"], "write_dir": str(tmp_path)}
    wfdb.wrsamp("one", 125, p_signal=recording.ppg[:3750, None], **names)
    header = tmp_path / "one.hea"
    first, signal_line = header.read_text().splitlines()[:2]
    fields = signal_line.split()
    fields[6] = "0"  # no checksum is kept, so that the header need not change with the samples
    header.write_text(first + "\n" + " ".join(fields) + "\n")
    (tmp_path / "bad.npz").write_text("no archive")
    arguments = {"out": str(tmp_path / "store"), "split": "1,0,0", "min_quality": -1, "jobs": 1}
    for count in (1, 1, 2):
        if count == 2:
            wfdb.wrsamp("two", 125, p_signal=recording.ppg[3750:7500, None], **names)
            # of the same size, and the header stays
            (tmp_path / "two.dat").rename(tmp_path / "one.dat")
        with pytest.raises(
            UserError,
            match=r"bad.npz.*; finished recordings are kept for the next try \(.store.part",
        ):
            prepare([str(tmp_path / "one.hea"), str(tmp_path / "bad.npz")], **arguments)
        assert len(prepared) == count
    (tmp_path / "whole.hea").write_text("whole/2 1 125 7500\none 3750\n~ 10\ntwo 3750\n")
    state = state_of(tmp_path / "whole.hea")
    assert [Path(name).name for name, *_ in state] == ["whole.hea", "one.hea", "two.hea", "one.dat"]


def test_unwritable_and_foreign_folders_are_refused(tmp_path):
    good = str(bidmc_files()[0])
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="cannot write"):
        prepare([good], str(tmp_path / "file" / "store"), split="1,0,0")
    with pytest.raises(UserError, match="no store.json"):
        prepare([good], str(tmp_path), split="1,0,0")
    with pytest.raises(UserError, match="no store.json"):
        prepare([good], str(tmp_path / "file"), split="1,0,0")
    assert (tmp_path / "file").read_text() == "mine"


def test_full_disk_keeps_the_previous_store(tmp_path, monkeypatch):
    arguments = {
        "inputs": [str(bidmc_files()[0])],
        "out": str(tmp_path / "store"),
        "split": "1,0,0",
    }
    prepare(**arguments)
    before = {path.name: path.read_bytes() for path in (tmp_path / "store").iterdir()}

    def full(path, windows):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("xmae.data.prepare.prepare_file.write_shard", full)
    with pytest.raises(UserError, match="cannot write .*store: No space left"):
        prepare(**arguments)
    assert {path.name: path.read_bytes() for path in (tmp_path / "store").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_preparation_does_not_warn(recording):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prepare_recording(cut(recording, 30))
        prepare_recording(read_recording(NCKU))
