"""Tasks, label tables and derived labels, on real recordings and against independent
computations.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import signal
from sklearn.metrics import cohen_kappa_score

from xmae.beats.r_peaks import agreed, matched, r_peaks
from xmae.cli import main
from xmae.data.bidmc import bidmc_files
from xmae.data.ppg_bp import FILE, clean_segments, ppg_bp_segments
from xmae.data.recording.readers import read_recording
from xmae.errors import UserError
from xmae.evaluation.heads.embedding import embed_windows
from xmae.evaluation.heads.features import ppg_features
from xmae.evaluation.heads.heads import heads_of
from xmae.evaluation.protocol.datasets import SHIPPED, load_datasets
from xmae.evaluation.protocol.ectopic import ectopic_labels, judge_beats
from xmae.evaluation.protocol.labels import join_labels, read_labels
from xmae.evaluation.protocol.pressure import pressure_beats, pressure_table
from xmae.evaluation.protocol.tasks import PAPER, REGISTRY
from xmae.models import load_encoder
from xmae.signals.filters import ecg_clean, ppg_clean
from xmae.signals.resample import resample


def table_file(tmp_path, **columns):
    path = tmp_path / "labels.csv"
    pd.DataFrame(columns).to_csv(path, index=False)
    return str(path)


def test_the_19_tasks_of_the_paper_are_schemas_to_fill():
    assert len(set(PAPER)) == 19 and set(PAPER) <= set(REGISTRY)
    named = (
        "hypertension_lab hypertension_free_living pvc ectopic a1c haemoglobin platelets "
        "sodium wake light deep rem"
    )
    assert set(named.split()) <= set(PAPER)
    for name in PAPER:
        task = REGISTRY[name]
        assert (
            task.fill
            and task.source
            and task.metric == {"binary": "auroc", "regression": "mae"}[task.kind]
        )


def test_a_template_is_filled_and_read_back(small_store, tmp_path, capsys):
    assert (
        main(["tasks", small_store, "--rows", "record", "--out", str(tmp_path / "t"), "--json"])
        == 0
    )
    path = json.loads(capsys.readouterr().out)["out"]
    table = pd.read_csv(path)
    assert (
        list(table)[:2] == ["subject", "record"]
        and len(table.columns) == 2 + 19
        and len(table) == 6
    )
    table["a1c"] = [1, 0, 1, 0, 1, 0]
    table.drop(columns=[name for name in table if name not in ("subject", "record", "a1c")]).to_csv(
        path, index=False
    )
    (dataset,) = load_datasets([small_store], path, ["a1c"])
    assert dataset.tasks().count("a1c") == 1
    for record, value in zip(table["record"], table["a1c"], strict=True):
        assert (dataset.labels["a1c"][dataset.record == record] == value).all()
    # filled-in labels are not overwritten
    assert main(["tasks", small_store, "--out", str(tmp_path / "t")]) == 2
    assert "is there already" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_rows_hold_until_the_next_and_a_record_goes_before_its_subject(small_store, tmp_path, kind):
    (dataset,) = load_datasets([small_store], tasks=["hr"])
    subject, record = dataset.subject[0], dataset.record[0]
    table = pd.DataFrame(
        {
            "subject": [subject] * 4,
            "record": ["", record, record, record],
            "time": [None, 30.0, 63.0, 90.0],
            "a1c": [0.0, 1.0, 0.0, None],
        }
    )
    path = tmp_path / f"labels.{kind}"
    table.to_csv(path, index=False) if kind == "csv" else table.to_parquet(path)
    join_labels(dataset, read_labels(path))
    mine = dataset.record == record
    found = dict(zip(dataset.start_s[mine], dataset.labels["a1c"][mine], strict=True))
    # the subject's row, then the record's
    assert [found[t] for t in (0, 20, 30, 50)] == [0, 0, 1, 1]
    assert found[60] == 0  # the row from 63 s on holds at the middle of 60-70 s
    # an empty label is a missing one: the subject's row speaks
    assert found[80] == 0 and found[100] == 0
    assert np.isnan(dataset.labels["a1c"][dataset.subject != subject]).all()


def test_one_task_may_call_its_column_label(small_store, tmp_path):
    (plain,) = load_datasets([small_store], tasks=["hr"])
    path = table_file(tmp_path, subject=np.unique(plain.subject), label=[1, 0, 1, 0, 1, 0])
    (dataset,) = load_datasets([small_store], path, ["diabetes"])
    assert np.nansum(dataset.labels["diabetes"]) > 0
    with pytest.raises(UserError, match="a column 'label' serves one task"):
        load_datasets([small_store], path, ["diabetes", "a1c"])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"subject": ["s01182", "nobody"], "a1c": [1, 0]},
            "1 of its 2 subjects are not in store: nobody",
        ),
        (
            {"subject": ["s01182"], "record": ["bidmc02"], "a1c": [1]},
            "1 of its 1 recordings are not in store",
        ),
        ({"patient": ["s01182"], "a1c": [1]}, "has the column subject and at least one label"),
        ({"subject": ["s01182"]}, "at least one label"),
        ({"subject": ["s01182"], "a1d": [1]}, "no task uses the column 'a1d'"),
        ({"subject": ["s01182"], "a1c": [6.4]}, "a1c is 0, 1 or empty, not 6.4"),
        ({"subject": ["s01182"], "a1c": ["high"]}, "column a1c: .*high"),
        ({"subject": ["s01182", "s01182"], "a1c": [1, 0]}, "two rows for subject s01182"),
    ],
)
def test_label_tables_that_cannot_be_used(small_store, tmp_path, columns, message):
    with pytest.raises(UserError, match=message):
        load_datasets([small_store], table_file(tmp_path, **columns), ["a1c"])


def test_label_tables_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_labels(tmp_path / "absent.csv")
    (tmp_path / "x.parquet").write_bytes(b"no parquet")
    with pytest.raises(UserError, match="not readable as a label table"):
        read_labels(tmp_path / "x.parquet")


def test_mixed_and_wrong_sampling_rates_and_doubles(small_store, tmp_path):
    meta = json.loads(Path(small_store, "store.json").read_text())
    meta["window"]["sfreq"] = 125
    (tmp_path / "store.json").write_text(json.dumps(meta))
    with pytest.raises(UserError, match="mixed sampling rates: .*100 Hz, .*125 Hz"):
        load_datasets([small_store, str(tmp_path)])
    with pytest.raises(UserError, match="windows at 125 Hz; encoders take 100 Hz"):
        load_datasets([str(tmp_path)])
    with pytest.raises(UserError, match="same data twice"):
        load_datasets([small_store, small_store])


def test_ppg_bp_is_5_whole_patches_with_its_labels_and_any_encoder_takes_it():
    ppg, subject, segment, labels = ppg_bp_segments()
    assert ppg.shape == (492, 200) and len(np.unique(subject)) == 164 and set(segment) == {0, 1, 2}
    with np.load(FILE) as data:
        assert labels["sbp"][::3] == pytest.approx(data["sbp"])
        assert labels["diabetes"].sum() == 3 * data["diabetes"].sum()
    rates = ppg_features(ppg)[0][:, 0]
    assert (
        np.median(np.abs(rates - labels["hr_monitor"])) < 4
    )  # cuff against autocorrelation of 2 s
    for name in ("base", "student-mcu"):
        embedding = embed_windows(load_encoder(name), ppg[:8])
        assert (
            embedding.shape == (8, 256)
            and np.isfinite(embedding).all()
            and embedding.std(axis=0).max() > 0
        )


def test_short_pieces_are_cleaned_nearly_as_in_the_whole_recording():
    recording = read_recording(bidmc_files()[0])
    whole = resample(ppg_clean(recording.ppg, 125), 125, 100)
    starts = np.arange(5, 400, 10)  # s
    length = 263  # 2.104 s
    alone = clean_segments(
        np.stack([recording.ppg[s * 125 : s * 125 + length] for s in starts]), 125
    )
    same = [
        np.corrcoef(x, whole[100 * s + 5 : 100 * s + 205])[0, 1]
        for s, x in zip(starts, alone, strict=True)
    ]
    assert alone.shape == (len(starts), 200) and np.median(same) > 0.95


def test_pressure_of_a_known_wave_and_of_artefacts():
    t = np.arange(125 * 60) / 125
    abp = 80 + 20 * signal.sawtooth(2 * np.pi * 1.25 * t, 0.2)  # 60 to 100 mmHg, 75 /min
    time, systolic, diastolic = pressure_beats(abp, 125)
    assert np.median(np.diff(time)) == pytest.approx(0.8, abs=0.01)
    assert np.median(systolic) == pytest.approx(100, abs=4) and np.median(
        diastolic
    ) == pytest.approx(60, abs=4)
    flushed = abp.copy()
    flushed[125 * 20 : 125 * 33] = 300
    table = pressure_table(flushed, 125, "s", "r")
    # from 33 s on there are beats
    assert table["sbp"].isna().tolist() == [False, False, True, False, False, False]
    assert table["sbp"].dropna().between(96, 104).all()
    assert pressure_table(np.full(1250, 80.0), 125, "s", "r")["sbp"].isna().all()


def test_the_shipped_pressures_fit_the_recordings():
    table = pd.read_csv(SHIPPED[0])
    subjects = pd.read_csv(SHIPPED[0].parent / "subjects.csv").set_index("record")["patient"]
    assert (
        table["record"].nunique() == 7 and (table["subject"] == table["record"].map(subjects)).all()
    )
    pulse = table["sbp"] - table["dbp"]
    assert (
        table["sbp"].notna().sum() > 300
        and pulse.min() > 15
        and table["sbp"].between(60, 200).sum() > 300
    )


def test_two_detectors_match_beat_by_beat_on_clean_ecg(recording_windows):
    ecg = recording_windows("bidmc07").ecg.ravel()
    first, second = (r_peaks(ecg, name) for name in ("neurokit", "kalidas2017"))
    assert matched(first, second).mean() > 0.99 and agreed(48, first, second).mean() > 0.9
    assert not matched(first, first[:0]).any() and len(r_peaks(np.zeros(2000))) == 0
    # a window with beats that one of them missed
    assert not agreed(48, first, second[second // 1000 != 5])[5]


def test_a_planted_premature_beat_is_ectopic_and_a_planted_foreign_one_a_pvc(recording_windows):
    """Real beats of one recording, laid out anew with known intervals."""
    source = recording_windows("bidmc07").ecg.ravel()
    peaks = r_peaks(source)[5:65]
    beats = source[peaks[:, None] + np.arange(-20, 40)]
    intervals = np.full(59, 75)
    intervals[[20, 21]] = 50, 100  # premature, compensatory pause
    intervals[[40, 41]] = 50, 100
    place = 100 + np.concatenate([[0], np.cumsum(intervals)])
    beats[41] = np.interp(np.arange(60), [0, 10, 20, 30, 59], [0, -0.8, 0.9, -1, 0]) * np.ptp(
        beats[0]
    )  # broad
    ecg = np.zeros(place[-1] + 100)
    for at, beat in zip(place, beats, strict=True):
        ecg[at - 20 : at + 40] += beat
    premature, foreign, irregular = judge_beats(ecg, place)
    assert np.flatnonzero(premature).tolist() == [21, 41] and not irregular.any()
    assert foreign[41] and not foreign[21]
    irregular_place = 100 + np.cumsum(np.random.default_rng(0).integers(35, 140, 60))
    assert judge_beats(np.zeros(12000), irregular_place)[2].mean() > 0.9


def test_ectopic_labels_of_two_leads_agree(recording_windows):
    """The second ECG lead is another view of the same beats, from another electrode."""
    names = ("bidmc01", "bidmc25", "bidmc26", "bidmc28", "bidmc41")
    windows = recording_windows(*names)
    first = ectopic_labels(windows)
    other = []
    for name in names:
        z = np.load(bidmc_files()[0].parent / f"{name}.npz")
        lead = resample(ecg_clean(z["ecg2"] * z["ecg2_scale"] + z["ecg2_offset"], 125), 125, 100)
        other.append(lead[:48000].reshape(48, 1000))
    windows.ecg = np.concatenate(other)
    second = ectopic_labels(windows)
    for name, least in (("ectopic", 0.8), ("pvc", 0.6)):
        both = np.isfinite(first[name]) & np.isfinite(second[name])
        assert both.sum() > 80 and first[name][both].sum() > 10
        assert cohen_kappa_score(first[name][both], second[name][both]) > least


def test_heads_at_chance_do_not_ship(capsys, tmp_path):
    file, out = str(bidmc_files()[0]), str(tmp_path)
    assert main(["embed", file, "--model", "student-mcu", "--out", out, "--json"]) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert "warning: Heart rate: median" in captured.err
    assert "off the beats" in captured.err, "0.72 of a constant's loss: a rough guess, and so said"
    # what is at chance does not ship
    assert set(result["median"]) == set(heads_of("student-mcu")) == {"hr"}
    assert not result["without_skill"]
    assert not {"rr", "spo2", "sex"} & set(pd.read_csv(result["out"], nrows=1))
