"""Fusion: what the head computes, what a missing modality does, what is refused; PPG + ECG on real
recordings.
"""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from xmae.data.recording.leads import choose_leads
from xmae.data.store.store import WindowStore
from xmae.errors import UserError
from xmae.evaluation.fusion.fuse import compare_ways, embed_signals, fuse, modality_signals, ways_of
from xmae.evaluation.fusion.fusion_heads import Tuning, fit_head, loss_of, with_encoders
from xmae.evaluation.protocol.tasks import TASKS
from xmae.models import load_encoder, save_encoder
from xmae.models.criss_cross import CRISS_CROSS_SIZES, CrissCrossEncoder
from xmae.models.fusion import FUSIONS, FusionHead, FusionModel, load_fusion, save_fusion
from xmae.training.pretrain import pretrain

RECORDS = {  # bidmc15 has lead MCL where the others have V
    "bidmc02": "train", "bidmc05": "train", "bidmc15": "train", "bidmc01": "val", "bidmc34": "test",
    "bidmc43": "test", "bidmc09": "test",
}  # fmt: skip
PRETRAIN = {"method": "criss-cross", "size": "tiny", "epochs": 2, "batch_size": 24}
CHANNELS = "II,V/MCL"


@pytest.fixture(scope="module")
def lead_store(split_store, tmp_path_factory):
    """Return seven subjects with two ECG leads and respiration."""
    return split_store(tmp_path_factory.mktemp("leads"), RECORDS, leads=True)


@pytest.fixture(scope="module")
def pretrained(lead_store, tmp_path_factory):
    """Return the run of a tiny ECG encoder pretrained on two real leads, and its result."""
    out = tmp_path_factory.mktemp("run")
    return out, pretrain(lead_store, str(out), **PRETRAIN)


@pytest.fixture(scope="module")
def ppg_encoder(tmp_path_factory):
    """Return a student with the shipped weights, but nobody noted as seen: the subjects here are
    split anew.
    """
    path = tmp_path_factory.mktemp("ppg") / "ppg.safetensors"
    save_encoder(load_encoder("student-mcu"), path, {})
    return str(path)


def drawn(n=40, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(n, width, generator=rng)
        for name, width in (("ppg", 5), ("ecg", 3), ("resp", 2))
    }


def head_on(embeddings, fusion):
    torch.manual_seed(0)
    head = FusionHead({name: x.shape[1] for name, x in embeddings.items()}, fusion).eval()
    head.standardise_by(embeddings)
    return head


def test_concatenation_is_a_linear_map_of_the_standardised_embeddings():
    embeddings = drawn()
    head = head_on(embeddings, "concatenate")
    z = np.concatenate(
        [(x - x.mean(0)) / x.std(0) for x in (e.double().numpy() for e in embeddings.values())], 1
    )
    expected = z @ head.linear.weight.detach().numpy().T + head.linear.bias.detach().numpy()
    np.testing.assert_allclose(head(embeddings).detach(), expected, atol=1e-5)


def test_a_missing_modality_follows_the_rule_of_each_fusion():
    embeddings = drawn()
    some = {name: x for name, x in embeddings.items() if name != "ecg"}
    head = head_on(embeddings, "concatenate")
    at_mean = embeddings | {"ecg": embeddings["ecg"].mean(0).expand(40, -1)}
    torch.testing.assert_close(head(some), head(at_mean), atol=1e-5, rtol=0)
    late = head_on(embeddings, "late")
    parts = [late({name: x}) for name, x in some.items()]
    torch.testing.assert_close(late(some), (parts[0] + parts[1]) / 2)
    gated = head_on(embeddings, "gated")
    z, _ = gated.standardised(some)
    torch.testing.assert_close(
        gated({"ppg": embeddings["ppg"]}), gated.linear(gated.projections["ppg"](z["ppg"]).tanh())
    )


@pytest.mark.parametrize("fusion", FUSIONS)
def test_missing_in_some_windows_equals_missing_alone(fusion):
    embeddings = drawn()
    head = head_on(embeddings, fusion)
    holed = embeddings | {"ppg": embeddings["ppg"].clone()}
    holed["ppg"][::2] = torch.nan
    said = head(holed)
    without = head({name: x for name, x in embeddings.items() if name != "ppg"})
    assert torch.equal(said[::2], without[::2]) and torch.equal(said[1::2], head(embeddings)[1::2])
    assert not torch.allclose(said[::2], head(embeddings)[::2])


@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_fusion_learns_what_no_modality_knows_alone(fusion):
    embeddings = {name: x for name, x in drawn(400).items() if name != "resp"}
    truth = (embeddings["ppg"][:, 0] + embeddings["ecg"][:, 0]).double().numpy() + 70
    head = fit_head(embeddings, truth, np.arange(400) % 10, "regression", fusion)
    error = np.abs(head(embeddings)[:, 0].detach().numpy() - truth).mean()
    alone = np.abs(head({"ppg": embeddings["ppg"]})[:, 0].detach().numpy() - truth).mean()
    assert error < 0.75 * alone


def test_what_does_not_fit_together_is_refused():
    embeddings = drawn()
    head = head_on(embeddings, "concatenate")
    with pytest.raises(UserError, match="unknown modality 'emg'"):
        head(embeddings | {"emg": embeddings["ppg"]})
    with pytest.raises(UserError, match="same windows, got ppg 40, ecg 39, resp 40"):
        head(embeddings | {"ecg": embeddings["ecg"][:39]})
    with pytest.raises(UserError, match=r"ecg have shape \(40, 4\); expected \(n, 3\)"):
        head(embeddings | {"ecg": torch.zeros(40, 4)})
    with pytest.raises(UserError, match="no modality at all"):
        head({name: torch.full_like(x, torch.nan) for name, x in embeddings.items()})
    with pytest.raises(UserError, match="unknown fusion 'sum'"):
        FusionHead({"ppg": 3}, "sum")
    model = FusionModel(
        {"ppg": load_encoder("student-mcu"), "ecg": CrissCrossEncoder(**CRISS_CROSS_SIZES["tiny"])}
    )
    with pytest.raises(
        UserError, match="must last equally long, got ppg 10 s at 100 Hz, ecg 8 s at 200 Hz"
    ):
        model({"ppg": torch.zeros(2, 1, 1000), "ecg": torch.zeros(2, 2, 1600)})
    with pytest.raises(UserError, match="unknown modality 'emg'"):
        FusionModel({"emg": load_encoder("student-mcu")})


def test_training_takes_modalities_away_but_never_all():
    model = FusionModel(
        {"ppg": load_encoder("student-mcu"), "ecg": CrissCrossEncoder(**CRISS_CROSS_SIZES["tiny"])},
        drop=0.9,
    )
    torch.manual_seed(0)
    dropped = model.without_some({name: x for name, x in drawn(500).items() if name != "resp"})
    there = torch.stack([~x.isnan().any(1) for x in dropped.values()], 1)
    assert there.any(1).all() and 0.5 < there.float().mean() < 0.65


def test_a_fused_model_survives_saving(tmp_path):
    torch.manual_seed(0)
    encoders = {
        name: CrissCrossEncoder(**CRISS_CROSS_SIZES["tiny"]) for name in ("ecg", "eeg", "resp")
    }
    model = FusionModel({"ppg": load_encoder("student-mcu")} | encoders, "gated").eval()
    save_fusion(model, tmp_path / "f", {"task": "hr"})
    signals = {"ppg": torch.rand(2, 1, 1000)} | {
        name: torch.randn(2, 14, 2000) for name in encoders
    }
    again = load_fusion(tmp_path / "f")
    with torch.no_grad():
        assert torch.equal(again(signals), model(signals)) and again.about == {"task": "hr"}
    (tmp_path / "f" / "head.safetensors").write_bytes(b"damaged")
    with pytest.raises(UserError, match="not a fusion that xmae saved"):
        load_fusion(tmp_path / "f")


def test_balanced_cross_entropy_weighs_classes_alike():
    target = torch.tensor([[1.0], [0.0], [0.0], [0.0]])
    loss = loss_of(target, "binary")
    assert loss(torch.full((4, 1), 2.0), target) == pytest.approx(
        float((3 * np.log1p(np.exp(-2)) + 3 * np.log1p(np.exp(2))) / 4), rel=1e-5
    )


def test_ways_start_with_everything_and_end_with_one_missing():
    ways = ways_of(("ppg", "ecg", "resp"), ["concatenate", "late"])
    assert list(ways)[:3] == [
        "ppg + ecg + resp, concatenate",
        "ppg + ecg + resp, late",
        "ppg + ecg",
    ]
    assert len(ways) == 2 + 1 + 3 + 3 and ways["ppg + ecg + resp, ecg missing"][2] == ("ecg",)


def test_leads_are_chosen_by_name_and_standardised_over_the_recording(lead_store):
    windows = WindowStore(lead_store).windows()
    assert set(windows.lead_names) == {"II", "MCL", "V", "RESP"}
    leads = choose_leads(windows, CHANNELS)
    assert leads.shape == (len(windows), 2, 2000) and not np.isnan(leads).any()
    for record in RECORDS:
        rows = leads[windows.record == record]
        np.testing.assert_allclose(rows.mean((0, 2)), 0, atol=1e-4)
        np.testing.assert_allclose(rows.std((0, 2)), 1, atol=1e-4)
    missing = np.isnan(choose_leads(windows, "II,V")).any((1, 2))
    assert set(windows.record[missing]) == {"bidmc15"}
    with pytest.raises(UserError, match="unknown channel 'V5'; the store has"):
        choose_leads(windows, "II,V5")


def test_a_store_without_leads_says_how_to_get_them(small_store):
    with pytest.raises(UserError, match="holds no leads; prepare it with --leads"):
        choose_leads(WindowStore(small_store).windows("val"), "II")


def test_pretraining_on_two_real_leads_learns_and_its_encoder_loads(pretrained):
    out, result = pretrained
    assert result["windows_seen"] == 2 * (144 // 24) * 24
    # of drawing the mean: about 1
    assert result["history"]["val_loss"][1] < result["history"]["val_loss"][0] < 1
    encoder = load_encoder(out / "encoder.safetensors", ppg=False)
    assert encoder.provenance["settings"]["masking"] == "both"
    assert encoder(torch.randn(3, 2, 2000)).shape == (3, 200)


@pytest.mark.extended  # as every method: tests/training/test_training_resume.py
def test_interrupted_pretraining_resumes_exactly(lead_store, pretrained, tmp_path):
    out, _ = pretrained
    whole = load_encoder(out / "encoder.safetensors", ppg=False).state_dict()
    run = dict(PRETRAIN, out=str(tmp_path / "run"))
    assert not pretrain(lead_store, **run, max_minutes=1e-4)["finished"]
    pretrain(lead_store, **run, resume=True)
    again = load_encoder(tmp_path / "run" / "encoder.safetensors", ppg=False).state_dict()
    assert all(torch.equal(whole[name], again[name]) for name in whole)


@pytest.mark.parametrize(("options", "said"), [
    ({"masking": "leads"}, "unknown masking"), ({"channels": "II,aVF"}, "unknown channel 'aVF'"),
    ({"channels": "II", "masking": "inter"}, "1 leads"), ({"intra_ratio": 0.99}, "intra_ratio"),
])  # fmt: skip
def test_bad_settings_of_pretraining_are_one_clear_line(lead_store, tmp_path, options, said):
    with pytest.raises(UserError, match=said):
        pretrain(lead_store, str(tmp_path), **PRETRAIN, options=options)


def test_fuse_scores_each_way_on_the_same_windows(lead_store, pretrained, ppg_encoder, tmp_path):
    ecg, fusions = str(pretrained[0] / "encoder.safetensors"), "concatenate,late"
    result = fuse(lead_store, str(tmp_path), ppg=ppg_encoder, ecg=ecg, tasks="hr", fusion=fusions)
    assert json.loads((tmp_path / "fuse.json").read_text())["tasks"] == result["tasks"]
    task = result["tasks"]["hr"]
    known = np.isfinite(WindowStore(lead_store).windows("test").labels["hr_ecg"])
    assert task["n_subjects"] == 3 and task["n_windows"] == known.sum()
    assert list(task["ways"]) == [
        "ppg + ecg, concatenate", "ppg + ecg, late", "ppg", "ecg", "ppg + ecg, ppg missing",
        "ppg + ecg, ecg missing",
    ]  # fmt: skip
    fused, alone = task["ways"]["ppg + ecg, concatenate"], task["ways"]["ecg"]
    assert alone["fused_better_by"] == pytest.approx(alone["value"] - fused["value"])
    assert fused["interval"][0] <= fused["value"] <= fused["interval"][1]
    assert "| ppg + ecg, ecg missing |" in (tmp_path / "fuse.md").read_text()
    model, windows = load_fusion(tmp_path / "hr"), WindowStore(lead_store).windows("train")
    signals = {
        "ppg": torch.zeros(2, 1, 1000),
        "ecg": torch.from_numpy(choose_leads(windows, CHANNELS)[:2]),
    }
    with torch.no_grad():
        assert torch.isfinite(model(signals)).all()
        assert not torch.equal(model(signals), model({"ecg": signals["ecg"]}))


@pytest.mark.parametrize(("column", "value", "said"), [
    ("hr", np.nan, "0 training subjects have the label, 2 are needed"),
    ("sex", 1.0, "training subjects are of one class"),
])  # fmt: skip
def test_a_task_without_usable_training_patients_is_said_and_not_scored(column, value, said):
    subject, split = np.repeat([f"s{i}" for i in range(6)], 5), np.repeat(["train", "test"], 15)
    label = np.where(split == "train", value, np.arange(30) % 2)
    windows = SimpleNamespace(subject=subject, split=split, labels={column: label})
    found = compare_ways(TASKS[column], {n: x[:30] for n, x in drawn().items()}, windows, ["late"])
    assert said in found["reason"] and "ways" not in found


def test_fine_tuning_changes_the_encoders(lead_store, pretrained, ppg_encoder, tmp_path):
    ecg = str(pretrained[0] / "encoder.safetensors")
    result = fuse(
        lead_store, str(tmp_path), ppg=ppg_encoder, ecg=ecg, tune="finetune", tasks="hr", epochs=1
    )
    ways = result["tasks"]["hr"]["ways"]
    assert set(ways) == {
        "ppg + ecg, concatenate",
        "ppg",
        "ecg",
        "ppg + ecg, ppg missing",
        "ppg + ecg, ecg missing",
    }
    leads = choose_leads(WindowStore(lead_store).windows("val"), CHANNELS)[:4]
    before, after = load_encoder(ecg, ppg=False), load_fusion(tmp_path / "hr").encoders["ecg"]
    assert not np.allclose(embed_signals(before, leads), embed_signals(after, leads))


@pytest.mark.extended
def test_fine_tuning_learns_from_a_head_that_knows_the_mean_only(
    lead_store, pretrained, ppg_encoder
):
    windows = WindowStore(lead_store).windows("train")
    known = np.flatnonzero(np.isfinite(windows.labels["hr_ecg"]))
    windows = windows.select(known[::6])
    files = {"ppg": ppg_encoder, "ecg": pretrained[0] / "encoder.safetensors"}
    truth, encoders = (
        windows.labels["hr_ecg"],
        {name: load_encoder(file, name == "ppg") for name, file in files.items()},
    )
    signals = {name: modality_signals(windows, name, CHANNELS) for name in encoders}
    embeddings = {
        name: torch.from_numpy(embed_signals(encoders[name], x)) for name, x in signals.items()
    }
    head = head_on(embeddings, "concatenate")
    torch.nn.init.zeros_(head.linear.weight)
    torch.nn.init.constant_(head.linear.bias, truth.mean())
    tuning, rows = (
        Tuning(encoders, signals, epochs=10, batch_size=8, lr=1e-3),
        np.arange(len(windows)),
    )
    torch.manual_seed(0)
    tuned = tuning.fit(head, rows, truth, "regression")
    errors = [
        np.square(tuning.predict(model, rows) - truth).mean()
        for model in (with_encoders(encoders, head), tuned)
    ]
    assert errors[0] == pytest.approx(truth.var(), rel=1e-3) and errors[1] < 0.8 * errors[0]


def test_what_fuse_refuses(lead_store, pretrained, ppg_encoder, tmp_path):
    ecg, seen = str(pretrained[0] / "encoder.safetensors"), tmp_path / "seen.safetensors"
    scored = next(x for x, split in WindowStore(lead_store).splits.items() if split == "test")
    save_encoder(load_encoder(ppg_encoder), seen, {"splits": {scored: "train"}})
    for settings, said in (
        ({"ppg": ppg_encoder}, "at least two encoders"),
        ({"ppg": ppg_encoder, "ecg": ppg_encoder}, "is no encoder of ecg"),
        ({"ppg": ecg, "ecg": ecg}, "of ECG, EEG or respiration where one of PPG is needed"),
        ({"ppg": ppg_encoder, "ecg": ecg, "fusion": "sum"}, "unknown fusion"),
        ({"ppg": ppg_encoder, "ecg": ecg, "tasks": "mood"}, "unknown task"),
        ({"ppg": ppg_encoder, "ecg": ecg, "ecg_channels": "II,V9"}, "unknown channel 'V9'"),
        ({"ppg": str(seen), "ecg": ecg}, "was trained or chosen on"),
    ):
        with pytest.raises(UserError, match=said):
            fuse(lead_store, str(tmp_path), **settings)
