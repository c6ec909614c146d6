"""`xmae evaluate` and `xmae compare` on real recordings: tables, resuming, and what is refused."""

import json
from pathlib import Path

import pandas as pd
import pytest

from xmae.cli import main
from xmae.data.prepare.prepare import prepare
from xmae.data.store.store import WindowStore
from xmae.errors import UserError
from xmae.evaluation import compare as module
from xmae.evaluation.compare import METHODS, compare
from xmae.evaluation.evaluate import evaluate
from xmae.evaluation.probe import probe
from xmae.models import save_encoder
from xmae.models.xmae import PPGEncoder, XMAEConfig
from xmae.objectives import OBJECTIVES

TINY = XMAEConfig(width=32, n_heads=4, stem_widths=(4, 8, 8), stem_out=4)


@pytest.fixture(scope="module")
def store(eight_patients):
    return str(eight_patients / "store")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    path = tmp_path_factory.mktemp("encoder") / "tiny.safetensors"
    save_encoder(PPGEncoder(TINY), path, {"method": "none", "splits": {}})
    return str(path)


@pytest.fixture(scope="module")
def evaluated(store, encoder, tmp_path_factory):
    out = tmp_path_factory.mktemp("evaluated")
    command = ["evaluate", encoder, "--data", f"{store},ppg_bp", "--tasks", "hr,hr_monitor,sex,sbp"]
    assert main([*command, "--out", str(out)]) == 0
    return out


def test_the_table_has_every_method_task_interval_and_star(evaluated):
    result = json.loads((evaluated / "metrics.json").read_text())
    rows = {(row["dataset"], row["task"]): row for row in result["trials"]}
    both = {(name, task) for name in ("store", "ppg_bp") for task in ("hr_monitor", "sex", "sbp")}
    assert set(rows) == both | {("store", "hr")}  # PPG-BP has no ECG
    # one of these has an arterial line
    assert "1 scored subjects have a label" in rows["store", "sbp"]["reason"]
    row = rows["ppg_bp", "sex"]
    assert row["n_subjects"] == 164 and row["n_folds"] == 5 and row["n_windows"] == 492
    assert list(row["methods"]) == ["tiny", "untrained", "features", "constant"]
    for found in row["methods"].values():
        low, high = found["auroc"]["interval"]
        assert low <= found["auroc"]["value"] <= high and "f1" in found
    assert row["methods"]["constant"]["auroc"]["value"] == 0.5
    heart = rows["ppg_bp", "hr_monitor"]["methods"]
    assert (
        heart["features"]["mae"]["value"] < 0.7 * heart["constant"]["mae"]["value"]
        and heart["features"]["stars"]
    )
    text = (evaluated / "table.md").read_text()
    assert "| features |" in text and " to " in text and "**ppg_bp**" in text
    table = pd.read_csv(evaluated / "table.csv")
    assert {"value", "low", "high", "p", "f1"} <= set(table.columns) | set(table["metric"])
    html = (evaluated / "table.html").read_text()
    assert "F1" in html and " to " in html and "164 subjects" in html


def test_what_cannot_be_evaluated_is_said_among_all_and_an_error_by_name(store, encoder, tmp_path):
    result = evaluate([encoder], store, baselines=False, out=str(tmp_path))
    reasons = {row["task"]: row["reason"] for row in result["trials"] if "reason" in row}
    # one test subject has an arterial line
    assert "1 scored subjects have a label, 3 are needed" in reasons["sbp"]
    assert (
        any("methods" in row for row in result["trials"])
        and reasons["sbp"] in (tmp_path / "table.md").read_text()
    )
    # beside each number, so that none is bold that is not better
    assert all("constant" in row["methods"] for row in result["trials"] if "methods" in row)
    with pytest.raises(UserError, match="1 scored subjects have a label"):
        evaluate([encoder], store, "sbp", out=str(tmp_path))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tasks": "a1d"}, "unknown task 'a1d'"),
        ({"tasks": "a1c"}, "no labels for a1c"),
        ({"protocol": "train"}, "protocol 'train'"),
        ({"tasks": "hr", "folds": 6}, "5 scored subjects, too few for 6 folds"),
        ({"data": "absent"}, "no store of windows"),
        ({"models": ["absent"]}, "absent: no such file"),
        ({"models": []}, "no model given"),
    ],
)
def test_what_evaluate_refuses(store, encoder, tmp_path, settings, message):
    with pytest.raises(UserError, match=message):
        evaluate(
            **{"models": [encoder], "data": store, "tasks": "hr", "out": str(tmp_path / "x")}
            | settings
        )
    assert not (tmp_path / "x").exists()


def test_an_encoder_that_saw_a_scored_subject_is_refused(store, tmp_path):
    path = tmp_path / "seen.safetensors"
    save_encoder(PPGEncoder(TINY), path, {"method": "none", "splits": {"s29125": "train"}})
    with pytest.raises(UserError, match="trained or chosen on s29125"):
        evaluate([str(path)], store, "hr", out=str(tmp_path))


BUDGET = {"budget": 30, "size": "small", "batch_size": 16, "others": "", "tasks": "hr"}


def test_all_nine_methods_can_be_named():
    assert len(METHODS) == 9 and set(METHODS) <= set(OBJECTIVES) and METHODS[0] == "xmae"


@pytest.fixture(scope="module")
def compared(store, tmp_path_factory):
    """Compare, stopped in the first method after no time, then called again to the end."""
    out = str(tmp_path_factory.mktemp("compared"))
    stopped = compare(store, "xmae,dino", out=out, max_minutes=1e-6, **BUDGET)
    done = compare(store, "xmae,dino", out=out, **BUDGET)
    return out, stopped, done


def test_compare_goes_on_where_it_stopped_and_repeats_nothing(store, compared, monkeypatch):
    out, stopped, done = compared
    assert stopped == {"finished": False, "stopped_in": "xmae", "out": out}
    assert done["finished"] and {run["windows_seen"] for run in done["training"].values()} == {32}
    monkeypatch.setattr(module, "pretrain", lambda *a, **k: pytest.fail("trained again"))
    monkeypatch.setattr(module, "predict", lambda *a, **k: pytest.fail("probed again"))
    again = compare(store, "xmae,dino", out=out, **BUDGET)
    assert again["trials"] == done["trials"]
    assert list(again["trials"][0]["methods"]) == [
        "xmae",
        "dino",
        "untrained",
        "features",
        "constant",
    ]
    assert (
        set(again["best"]) == {"xmae", "dino"}
        and "\n| dino | 32 | " in Path(again["out"]).read_text()
    )


def test_a_further_method_or_task_is_added(store, compared, monkeypatch):
    out, *_ = compared
    monkeypatch.setattr(module, "pretrain", lambda *a, **k: pytest.fail("trained again"))
    more = compare(store, "dino", out=out, **BUDGET | {"tasks": "hr,rr"})
    assert {row["task"] for row in more["trials"]} == {"hr", "rr"} and more["reference"] == "dino"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"methods": "xmae,bert"}, "unknown method 'bert'"),
        ({"methods": "mae,mae"}, "a method comes twice"),
        ({"budget": 33}, r"was begun with other settings \(budget\)"),
        ({"seed": 1}, r"other settings \(seed\)"),
    ],
)
def test_what_compare_refuses(store, compared, settings, message):
    with pytest.raises(UserError, match=message):
        compare(**{"data": store, "methods": "xmae", "out": compared[0]} | BUDGET | settings)


def test_a_store_whose_test_subjects_were_trained_on_is_refused(eight_patients, compared, tmp_path):
    """The same recordings under another split: what is trained already saw its test subjects."""
    table = pd.read_csv(eight_patients / "split.csv").set_index("patient")
    table.loc[["s01241", "s20471"], "split"] = ["test", "train"]
    table.reset_index().to_csv(tmp_path / "split.csv", index=False)
    records = str(eight_patients / "records")
    prepare([records], str(tmp_path / "other"), str(tmp_path / "split.csv"), min_quality=-1)
    with pytest.raises(UserError, match=r"other settings \(store_sha256\)"):
        compare(str(tmp_path / "other"), "xmae", out=compared[0], **BUDGET)
    with pytest.raises(UserError, match="trained or chosen on"):
        evaluate(
            [f"{compared[0]}/xmae/encoder.safetensors"],
            str(tmp_path / "other"),
            "hr",
            out=str(tmp_path),
        )


def test_a_store_without_a_test_split_is_refused(eight_patients, tmp_path):
    prepare([str(eight_patients / "records")], str(tmp_path / "two"), "0.5,0.5,0", min_quality=-1)
    with pytest.raises(UserError, match="has no subjects in the split test"):
        compare(str(tmp_path / "two"), "xmae", out=str(tmp_path / "x"), **BUDGET)
    seen = {subject: "train" for subject in WindowStore(tmp_path / "two").splits}
    save_encoder(
        PPGEncoder(TINY), tmp_path / "seen.safetensors", {"method": "none", "splits": seen}
    )
    # without a test split, everyone is scored
    with pytest.raises(UserError, match="trained or chosen on"):
        probe(str(tmp_path / "seen.safetensors"), str(tmp_path / "two"), str(tmp_path / "probe"))
