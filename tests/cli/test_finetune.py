"""`xmae finetune`: what it leaves distils and exports; it says whether it helped, and refuses
early.
"""

import json

import numpy as np
import pytest
import torch

from xmae.cli.finetune import finetune, summary_of
from xmae.data.store.store import WindowStore
from xmae.distill.distill import distill
from xmae.errors import UserError
from xmae.evaluation.heads.embedding import embed_windows
from xmae.evaluation.heads.heads import heads_of
from xmae.export.export import brought_heads
from xmae.export.heads import make_heads
from xmae.models.checkpoint import load_encoder, subjects_of
from xmae.models.student import McuStudent


@pytest.fixture(scope="module")
def tuned(small_store, tmp_path_factory):
    """Return the smallest shipped student, trained on heart rate for one epoch."""
    out = tmp_path_factory.mktemp("finetune") / "run"
    return finetune("student-mcu-s", small_store, str(out), task="hr", epochs=1)


def test_labels_leave_an_encoder_with_its_head(small_store, tuned):
    encoder, before = load_encoder(tuned["out"]), load_encoder("student-mcu-s")
    assert isinstance(encoder, McuStudent)  # so it exports as any student
    moved = [
        not torch.equal(x, y)
        for x, y in zip(encoder.parameters(), before.parameters(), strict=True)
    ]
    assert all(moved)
    assert encoder.provenance["begun_from"] == before.provenance
    assert subjects_of(encoder.provenance) >= subjects_of(before.provenance)
    val = WindowStore(small_store).windows("val")
    truth = val.labels["hr_ecg"]
    known = np.isfinite(truth)
    said = heads_of(tuned["encoder"])["hr"].apply(embed_windows(encoder, val))
    assert np.abs(said - truth)[known].mean() == pytest.approx(tuned["after"], rel=1e-3)
    assert tuned["after"] < tuned["constant"]
    assert any(line.startswith("MAE bpm") for line in tuned["summary"])


def test_heads_that_an_encoder_came_with_are_kept(small_store, tuned):
    store = WindowStore(small_store)
    names = {"student": tuned["encoder"], "student-app": "student-app"}
    brought = brought_heads(names, None)
    assert brought["student"]["hr"].weight == heads_of(tuned["encoder"])["hr"].weight
    assert brought_heads(names, False) == {"student": None, "student-app": None}
    encoder, train = load_encoder(tuned["encoder"]), store.windows("train")
    heads, metrics, _, probes = make_heads(encoder, store, train, brought["student"])
    assert heads["hr"].weight == brought["student"]["hr"].weight and not probes
    assert metrics["hr"].mae == pytest.approx(tuned["after"], rel=1e-3)
    with pytest.raises(UserError, match="--keep-heads: beats-mcu came without heads"):
        brought_heads({"student": "beats-mcu"}, True)


def test_a_head_that_is_worse_than_a_constant_on_val_is_not_trusted(small_store):
    store, encoder = WindowStore(small_store), load_encoder("student-mcu-s")
    shipped = heads_of("student-mcu-s")["hr"]
    wrong = shipped.model_copy(update={"skill": 0.9, "bias": shipped.bias + 100})
    brought = {"hr": wrong, "spo2": wrong.model_copy(update={"label": "SpO2"})}
    heads, _, at_chance, probes = make_heads(encoder, store, store.windows("train"), brought)
    assert heads == {} and at_chance == [wrong.label, "SpO2"]
    assert list(probes) == ["hr"] and probes["hr"].skill < 0  # for the gate


@pytest.mark.extended
def test_a_student_goes_on_from_its_weights(small_store, tmp_path):
    result = distill(
        "base", small_store, str(tmp_path), "mcu-s", crops=128, epochs=1, init="student-mcu-s"
    )
    origin = load_encoder(result["student"]).provenance
    assert origin["begun_from"] == load_encoder("student-mcu-s").provenance
    assert result["cosine"] > 0.5  # from random weights it is near 0 after one step


@pytest.mark.parametrize(
    "model, verb, expected",
    [
        ("base", "xmae.training.pretrain.pretrain", {"size": "small", "init": "base"}),
        ("student-app", "xmae.distill.distill.distill", {"tier": "app", "init": "student-app"}),
    ],
)
def test_more_windows_go_on_as_the_encoder_was_made(monkeypatch, model, verb, expected):
    called = {}
    monkeypatch.setattr(verb, lambda *words, **named: called.update(named, words=words))
    finetune(model, "store", "run", epochs=3)
    assert called["lr"] == pytest.approx(1e-3 / 3 if model == "base" else 1e-3)
    assert called["epochs"] == 3 and expected.items() <= called.items()
    assert called["words"][:3] in (("store", "run", "xmae-timing"), ("base", "store", "run"))


def test_a_student_of_another_tier_is_refused(small_store, tmp_path):
    with pytest.raises(UserError, match="student-app: is no student of the tier mcu"):
        distill("base", small_store, str(tmp_path / "run"), "mcu", init="student-app")


@pytest.mark.parametrize(
    "model, settings, complaint",
    [
        ("beats-mcu", {}, "reads beats"),
        ("student-mcu", {"teacher": "nobody"}, "which teacher"),
        ("base", {"task": "bmi"}, "0 subjects of the train split and 0 of val have labels"),
        ("base", {"task": "sex"}, "only one class among the labels"),
        ("base", {"task": "mood"}, "mood:binary or mood:number"),
        ("base", {"epochs": 0}, "epochs"),
    ],
)
def test_mistakes_are_told_before_the_work(small_store, tmp_path, model, settings, complaint):
    with pytest.raises(UserError, match=complaint):
        finetune(model, small_store, str(tmp_path / "run"), **settings)
    assert not (tmp_path / "run").exists()


def test_what_did_not_help_is_warned_of(tmp_path):
    row = {"label": "Load", "metric": "MAE", "units": "W", "windows": 9, "subjects": 3}
    row |= {"val_windows": 4, "val_subjects": 1, "constant": 2.0, "before": 1.0}
    assert "no better than a constant" in "\n".join(summary_of(row | {"after": 2.5}, "e"))
    assert "did not help" in "\n".join(summary_of(row | {"after": 1.5}, "e"))
    assert "warning" not in "\n".join(summary_of(row | {"after": 0.5}, "e"))
    json.dumps(row)
