"""Bad input: refused or mended by a documented rule, and counted; defects, offsets, people."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from xmae.data import Recording, WindowStore
from xmae.data.bidmc import bidmc_files
from xmae.data.prepare.inputs import Split
from xmae.data.prepare.prepare import prepare
from xmae.data.prepare.prepare_file import unique_names
from xmae.data.prepare.windowing import prepare_recording
from xmae.data.recording.channels import Channel, recording_of
from xmae.data.recording.checks import refuse_swapped, settle_doubles
from xmae.data.recording.readers import read_recording
from xmae.errors import UserError
from xmae.signals.defects import beat_agreement, clipped_share, flat_seconds, motion


@pytest.fixture(scope="module")
def recordings():
    return [read_recording(path) for path in bidmc_files()[12:24]]


@pytest.fixture(scope="module")
def recording(recordings):
    return replace(recordings[0], leads={}, resp=None)


def cut(recording, seconds=40):
    n = int(seconds * recording.sfreq)
    return replace(recording, ppg=recording.ppg[:n], ecg=recording.ecg[:n], leads={}, resp=None)


def save(path, recording, **more):
    np.savez(path, ppg=recording.ppg, ecg=recording.ecg, fs=recording.sfreq, **more)
    return str(path)


def test_clipped_flat_and_still_stretches():
    x = np.sin(np.arange(3000) / 10) + np.arange(3000) * 1e-6
    x[100:350] = 5.0  # a rail
    x[1500:1600] = 0.3  # flat, but not at the rail
    first = np.array([0, 1000, 2000, 3000])
    np.testing.assert_allclose(clipped_share(x, first), [0.25, 0, 0])
    np.testing.assert_allclose(flat_seconds(x, first, 100), [2.49, 0.99, 0.0], atol=0.02)
    across = np.array([0, 1550, 3000])
    # each window by itself
    np.testing.assert_allclose(flat_seconds(x, across, 100), [2.49, 0.49], atol=0.02)
    acc = np.concatenate([np.ones(1000), 1 + 0.3 * np.sin(np.arange(2000) * 2 * np.pi * 2 / 100)])
    acc[2500:] = np.nan
    still, moving, unknown = motion(acc, np.array([0, 1000, 2000, 3000]) - [0, 200, 0, 0], 100)
    assert still < 0.01 and moving > 0.1
    assert np.isnan(motion(np.full(3000, np.nan), first, 100)).all()


def test_beats_that_disagree():
    r_peaks = np.arange(50, 3000, 80)
    assert beat_agreement(r_peaks, r_peaks + 30, np.array([0, 1000, 2000, 3000])).tolist() == [
        1,
        1,
        1,
    ]
    pulses = np.delete(r_peaks + 30, slice(0, 12, 2))  # every second is missing in the first window
    good = beat_agreement(r_peaks, pulses, np.array([0, 1000, 2000, 3000]))
    assert 0.4 < good[0] < 0.6 and good[1] == good[2] == 1
    assert beat_agreement(r_peaks[:1], pulses, np.array([0, 1000])).tolist() == [0]


def test_each_defect_drops_its_windows_and_is_counted(recording, recordings):
    windows, clean = prepare_recording(recording, 0.0)
    assert clean["kept"] >= 45 and set(windows.measures) == {
        "clipping",
        "flat_line",
        "dropout",
        "motion",
        "beats",
    }
    ppg = recording.ppg.copy()
    low, high = np.percentile(ppg, [5, 95])
    ppg[1250 * 5 : 1250 * 6] = np.clip(ppg[1250 * 5 : 1250 * 6], low, high - 0.6 * (high - low))
    ppg[1250 * 5 : 1250 * 6][ppg[1250 * 5 : 1250 * 6] >= high - 0.6 * (high - low)] = ppg.max()
    ppg[1250 * 10 + 300 : 1250 * 10 + 500] = ppg[1250 * 10 + 300]
    ppg[1250 * 15 : 1250 * 16] = ppg[1250 * 15 : 1250 * 16].mean() + 0.02 * (
        ppg[1250 * 15 : 1250 * 16] - ppg.mean()
    )
    ppg[1250 * 20 : 1250 * 23] = recordings[4].ppg[1250 * 20 : 1250 * 23]  # somebody else's pulse
    acc = np.zeros((3, len(ppg)))
    acc[2] = 1
    acc[2, 1250 * 30 : 1250 * 32] += 0.4 * np.sin(np.arange(2500) * 0.1)
    _, counts = prepare_recording(replace(recording, ppg=ppg, acc=acc), 0.0)
    assert counts["clipping"] >= 1 and counts["flat_line"] >= 1 and counts["dropout"] >= 1
    assert counts["motion"] == 2 and counts["beats"] >= 2 and sum(counts.values()) == 48
    # -1 keeps all
    assert prepare_recording(replace(recording, ppg=ppg, acc=acc), -1)[1] == {"kept": 48}


def test_swapped_channels_are_named(recordings, tmp_path):
    for recording in recordings:
        refuse_swapped(recording)
        with pytest.raises(UserError, match="ppg and ecg look swapped"):
            refuse_swapped(replace(recording, ppg=recording.ecg, ecg=recording.ppg))
    swapped = replace(cut(recordings[0]), ppg=cut(recordings[0]).ecg, ecg=cut(recordings[0]).ppg)
    bad, good = save(tmp_path / "bad.npz", swapped), save(tmp_path / "good.npz", cut(recordings[1]))
    with pytest.raises(UserError, match="bad: the channels for ppg and ecg look swapped"):
        prepare([bad, good], str(tmp_path / "store"), "1,0,0", min_quality=-1)
    result = prepare([bad, good], str(tmp_path / "store"), "1,0,0", min_quality=-1, skip_bad=True)
    assert result["left_out"] == [
        {
            "source": "bad.npz",
            "why": "bad: the channels for ppg and ecg look swapped; name them in a channel map",
        }
    ]
    assert (
        json.loads((tmp_path / "store" / "store.json").read_text())["left_out"]
        == result["left_out"]
    )


@pytest.mark.parametrize(
    ("unit", "factor"), [("mV", 1), ("uV", 1e3), ("V", 1e-3), ("mV", 1e3), ("mV", 1e-3)]
)
def test_units_of_ecg(recordings, unit, factor):
    for recording in recordings:
        x = recording.ecg * factor
        made = recording_of(
            [Channel("PPG", recording.ppg, 125), Channel("II", x, 125, unit=unit)], "s", "r"
        )
        np.testing.assert_allclose(made.ecg, recording.ecg)
        assert made.repairs == (["ecg_unit"] if unit == "mV" and factor != 1 else [])


def test_one_person_under_two_names_stays_in_one_split(recordings, tmp_path):
    first, second, third = map(cut, recordings[:3])
    files = [
        save(tmp_path / "a.npz", first, patient="anna", record="a"),
        # the same samples
        save(tmp_path / "b.npz", replace(first, ecg=first.ecg), patient="bert", record="b"),
        save(tmp_path / "c.npz", second, patient="bert", record="c"),
        save(tmp_path / "d.npz", third, patient="carl", record="d"),
    ]
    for seed in range(4):
        result = prepare(
            files, str(tmp_path / "store"), split="0.5,0,0.5", min_quality=-1, seed=seed
        )
        splits = WindowStore(tmp_path / "store").splits
        assert splits["anna"] == splits["bert"] != splits["carl"] and result["windows"] == 3 * 4
        assert result["dropped"] == {"left_out": 4}
    assert result["left_out"][0]["why"] == "same samples as a; so bert and anna are one person"
    (tmp_path / "split.csv").write_text("subject,split\nanna,train\nbert,test\ncarl,train\n")
    with pytest.raises(UserError, match="bert and anna are one person, but in different splits"):
        prepare(files, str(tmp_path / "store"), split=str(tmp_path / "split.csv"), min_quality=-1)


def test_two_known_people_that_turn_out_as_one_are_refused(recordings, tmp_path):
    first, second = map(cut, recordings[:2])
    joined = save(tmp_path / "c.npz", first, patient="bert", record="c")  # anna's samples
    files = [
        save(tmp_path / "a.npz", first, patient="anna", record="a"),
        save(tmp_path / "b.npz", second, patient="bert", record="b"),
        save(tmp_path / "d.npz", cut(recordings[2]), patient="carl", record="d"),
    ]
    arguments = {"out": str(tmp_path / "store"), "min_quality": -1}
    prepare(files[:2], **arguments, split="0.5,0,0.5")
    with pytest.raises(UserError, match="bert and anna are one person, but in different splits"):
        prepare([joined, files[2]], **arguments, split="1,0,0", append=True)
    prepare(files[:2], **arguments, split="1,0,0")
    assert prepare([joined, files[2]], **arguments, split="1,0,0", append=True)["windows"] == 3 * 4
    same = {"bert": "dora"}  # a new name of somebody who is known takes the split that is known
    assert Split("", 0, None, [1, 0, 0]).of({"dora"}, same, {"bert": "test"}) == {
        "bert": "test",
        "dora": "test",
    }


def row(record, subject, start, seconds, digest):
    return {
        "subject": subject,
        "record": record,
        "source": "f",
        "start": start,
        "seconds": seconds,
        "windows": 9,
        "samples_sha256": digest,
    }


def test_a_chain_of_names_is_one_person():
    """Anna's samples are found under bert, bert's under carl, whatever comes first: never in two
    splits.
    """
    same_samples = [
        ("anna", "1"),
        ("bert", "1"),
        ("bert", "2"),
        ("carl", "2"),
        ("carl", "3"),
        ("dora", "3"),
        ("eve", "4"),
    ]
    for order in itertools.permutations(range(7), 7):
        index = [row(f"r{k}", same_samples[k][0], "", 60, same_samples[k][1]) for k in order]
        left_out, same = settle_doubles(index, [])
        assert (
            len({same.get(name, name) for name in ("anna", "bert", "carl", "dora")}) == 1
            and "eve" not in same
        )
        assert len(left_out) == 3
        if order[0] == 6:
            splits = Split("", order[1], None, [0.5, 0, 0.5]).of(
                {"anna", "bert", "carl", "dora", "eve"}, same, {}
            )
            assert len({splits[name] for name in ("anna", "bert", "carl", "dora")}) == 1


def test_overlapping_recordings():
    index = [
        row("a", "s", "2020-01-01T00:00:00", 100, "1"),
        row("b", "s", "2020-01-01T00:01:40", 200, "2"),  # follows a
        row("c", "s", "2020-01-01T00:00:50", 60, "3"),  # overlaps with both, and is the shortest
        row("d", "t", "2020-01-01T00:00:50", 60, "4"),  # somebody else
        row("e", "s", "", 60, "5"),  # no start: not known
    ]
    left_out, same = settle_doubles(index, [])
    assert [(row["record"], row["why"]) for row in left_out] == [
        ("c", "overlaps with b in time")
    ] and same == {}
    left_out, _ = settle_doubles(index[1:2], [index[0] | {"seconds": 150}])
    assert [row["record"] for row in left_out] == ["b"]  # what is in the store stays


def test_a_part_of_a_shard_can_be_left_out(recordings, tmp_path):
    """Two recordings in one file, the second of which is somewhere else too."""
    import h5py

    with h5py.File(tmp_path / "two.h5", "w") as file:
        file.attrs["fs"], file.attrs["subject"] = 125.0, "s"
        for name, recording in zip("ab", map(cut, recordings[:2]), strict=True):
            group = file.create_group(name)
            group["PPG"], group["ECG"] = recording.ppg, recording.ecg
    single = save(tmp_path / "a.npz", cut(recordings[0]), patient="s", record="same")
    result = prepare(
        [single, str(tmp_path / "two.h5")], str(tmp_path / "store"), split="1,0,0", min_quality=-1
    )
    store = WindowStore(tmp_path / "store")
    assert result["windows"] == 8 and set(store.windows().record) == {"same", "two-b"}
    assert [row["row"] for row in store.index()] == [0, 0]


def test_people_come_from_a_table_or_are_warned_of(recordings, tmp_path):
    for name, recording in zip(("one", "two", "three"), recordings, strict=False):
        pd.DataFrame({"ppg": recording.ppg[:2500], "ecg": recording.ecg[:2500]}).to_csv(
            tmp_path / f"{name}.csv"
        )
    files = [str(tmp_path / f"{name}.csv") for name in ("one", "two", "three")]
    arguments = {
        "out": str(tmp_path / "store"),
        "split": "0.5,0,0.5",
        "min_quality": -1,
        "sfreq": 125.0,
    }
    assert prepare(files, **arguments)["repairs"] == {"subject_from_file_name": 3}
    people = tmp_path / "people.csv"
    people.write_text("record,subject,age,sex\none,anna,30,F\ntwo,anna,30,F\nthree,bert,,M\n")
    assert prepare(files, **arguments, subjects=str(people))["repairs"] == {}
    windows = WindowStore(tmp_path / "store").windows()
    assert (
        windows.subject.tolist() == ["anna"] * 4 + ["bert"] * 2
        and windows.labels["age"][:4].tolist() == [30] * 4
    )
    assert (
        windows.labels["sex"].tolist() == [0] * 4 + [1] * 2
        and np.isnan(windows.labels["age"][4:]).all()
    )
    for text, complaint in [
        ("record,who\na,b\n", "expected the columns record,subject"),
        ("record,subject\na,b\na,c\n", "names the record a twice"),
        ("record,subject,age\na,b,old\n", "an age is no number"),
    ]:
        people.write_text(text)
        with pytest.raises(UserError, match=complaint):
            prepare(files, **arguments, subjects=str(people))


def test_files_of_one_name_in_many_folders_are_many_people(recordings, tmp_path):
    for k, user in enumerate(("u1", "u2", "u3")):
        (tmp_path / "exports" / user).mkdir(parents=True)
        x = recordings[k]
        table = pd.DataFrame(
            {"time": np.arange(2500) / 125, "ppg": x.ppg[:2500], "ecg": x.ecg[:2500]}
        )
        table.to_csv(tmp_path / "exports" / user / "session.csv", index=False)
    (tmp_path / "exports" / "people.csv").write_text("record,subject\nu1-session,anna\n")
    arguments = {
        "split": "0.34,0.33,0.33",
        "min_quality": -1,
        "subjects": str(tmp_path / "exports" / "people.csv"),
    }
    result = prepare([str(tmp_path / "exports")], str(tmp_path / "store"), **arguments)
    assert result["passed_over"] == {".csv": 1} and result["repairs"] == {
        "subject_from_file_name": 2
    }
    rows = WindowStore(tmp_path / "store").index()
    assert [(row["record"], row["subject"]) for row in rows] == [
        ("u1-session", "anna"), ("u2-session", "u2-session"), ("u3-session", "u3-session"),
    ]  # fmt: skip
    assert unique_names([Path("a/1/x.csv"), Path("b/1/x.csv"), Path("c/y.csv")]) == {
        Path("a/1/x.csv"): "a-1-x", Path("b/1/x.csv"): "b-1-x",
    }  # fmt: skip


def test_recording_checks_every_signal(recording):
    with pytest.raises(UserError, match="resp has infinite samples"):
        replace(recording, resp=np.full(len(recording.ppg), np.inf))
    with pytest.raises(UserError, match="lead V 10"):
        replace(recording, leads={"V": np.zeros(10)})
    assert isinstance(recording, Recording)
