"""Distillation: a teacher taught by nobody is learnt from PPG alone; the loss is the one worked out
by hand.
"""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from xmae.benchmarks.studies import distill_losses
from xmae.cli import main
from xmae.data.bidmc import bidmc_files
from xmae.data.prepare.prepare import prepare
from xmae.data.recording.readers import read_recording
from xmae.data.store.store import WindowStore
from xmae.distill.distill import distill
from xmae.distill.losses import ANGLE_WEIGHT, DISTANCE_WEIGHT, relational_loss, same_distances
from xmae.distill.objective import (
    Distillation,
    TaughtBatch,
    TaughtCrops,
    TaughtWindows,
    count_beats,
    rate_of,
    spread,
)
from xmae.errors import UserError
from xmae.evaluation.heads.embedding import embed_windows
from xmae.models.checkpoint import load_encoder, save_encoder
from xmae.models.student import McuStudent
from xmae.models.xmae import SIZES, XMAE
from xmae.signals.quality import ppg_peaks
from xmae.signals.scale import minmax_scale

SHORT = {"crops": 192, "epochs": 8, "batch_size": 24}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """Return an encoder as it starts: its embedding already depends on the waveform."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    save_encoder(XMAE(SIZES["small"]).encoder, path, {"method": "untrained"})
    return str(path)


@pytest.fixture(scope="module")
def ppg_store(tmp_path_factory):
    """Return a minute of PPG each of three patients, without ECG and labels."""
    folder = tmp_path_factory.mktemp("ppg")
    for path in bidmc_files()[:3]:
        np.savez(folder / path.name, ppg=read_recording(path).ppg[: 125 * 60], fs=125)
    prepare([str(folder)], str(folder / "store"), split="0.34,0.33,0.33", min_quality=-1)
    return str(folder / "store")


@pytest.fixture(scope="module")
def distilled(teacher, small_store, tmp_path_factory):
    return distill(teacher, small_store, str(tmp_path_factory.mktemp("distill") / "run"), **SHORT)


def test_a_student_that_reads_beats_keeps_its_timing_and_learns_the_embedding(
    teacher, small_store, tmp_path
):
    made = distill(teacher, small_store, str(tmp_path), tier="beats-mcu", **SHORT)
    cosines = [1 - loss for loss in made["history"]["val_loss"]]
    assert cosines[-1] > cosines[0] + 0.1
    student, shipped = load_encoder(made["student"]), load_encoder("beats-mcu")
    windows = WindowStore(small_store).windows("val").ppg[:8]
    scaled = torch.as_tensor(minmax_scale(windows)[0])[:, None]
    with torch.no_grad():
        assert torch.equal(student.timing(scaled), shipped.timing(scaled))
        tokens = student.tokens(scaled)
        torch.testing.assert_close(student.pool(tokens), student(scaled))
    # the teacher's embedding, from what the provenance says
    place = student.provenance["teacher_embedding"]
    again = np.array(place["mean"]) + place["unit"] * embed_windows(student, windows)
    wanted = embed_windows(load_encoder(teacher), windows)
    assert again.shape == wanted.shape
    assert np.square(again - wanted).mean() < np.square(wanted - place["mean"]).mean()
    seen = student.provenance["splits"]
    assert seen["v100s"] == "train" and seen.items() >= WindowStore(small_store).splits.items()


def teachers_part(student, teacher, windows, bank):
    """Return the mean cosine of standardised embeddings without their mean over dimensions, which
    is the heart rate's.
    """
    mean, std = bank.embedding.mean(0).numpy(), bank.embedding.std(0).numpy()
    a, b = ((embed_windows(encoder, windows) - mean) / std for encoder in (student, teacher))
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    return float(np.mean((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)))


def test_the_student_comes_to_agree_with_its_teacher(distilled, teacher, small_store):
    cosines = [1 - loss for loss in distilled["history"]["val_loss"]]
    assert len(cosines) == SHORT["epochs"] and cosines[-1] > cosines[0] + 0.1
    assert distilled["cosine"] == pytest.approx(max(cosines)) and distilled["cosine"] > 0.3
    assert distilled["history"]["train_loss"][-1] < 0.8 * distilled["history"]["train_loss"][0]
    loaded, student = load_encoder(teacher), load_encoder(distilled["student"])
    bank = TaughtCrops(loaded, WindowStore(small_store).windows("train"), 192, 24, 77)
    val = WindowStore(small_store).windows("val")
    # perhaps bf16
    assert teachers_part(student, loaded, val, bank) == pytest.approx(distilled["cosine"], abs=0.01)
    torch.manual_seed(0)
    assert abs(teachers_part(McuStudent(128).eval(), loaded, val, bank)) < distilled["cosine"] - 0.2


def test_the_student_fits_in_its_teachers_place_and_says_where_it_came_from(
    distilled, teacher, small_store
):
    student = load_encoder(distilled["student"])
    assert student.embed_dim == load_encoder(teacher).embed_dim == 128
    assert student(torch.zeros(2, 1, 1000)).shape == (2, 128)
    provenance = student.provenance
    assert provenance["method"] == "distilled" and provenance["teacher"] == {"method": "untrained"}
    assert provenance["splits"] == WindowStore(small_store).splits
    assert provenance["settings"] | SHORT == provenance["settings"]
    assert provenance["cosine"] == distilled["cosine"] and provenance["windows_seen"] == 8 * 192


def test_another_tier_and_loss(teacher, small_store, tmp_path):
    settings = {"tier": "mcu-s", "loss": "relational", "crops": 16, "epochs": 2, "batch_size": 8}
    result = distill(teacher, small_store, str(tmp_path / "run"), **settings)
    student = load_encoder(result["student"])
    assert student.config == {"embed_dim": 128, "tier": "mcu-s"}
    assert (
        -1
        <= result["distances"]
        == student.provenance["distances"]
        == 1 - min(result["history"]["val_loss"])
    )
    assert student.provenance["settings"] | settings == student.provenance["settings"]


def test_ppg_alone_is_enough(teacher, ppg_store, tmp_path):
    assert WindowStore(ppg_store).windows().ecg is None
    result = distill(teacher, ppg_store, str(tmp_path / "run"), crops=16, epochs=1, batch_size=8)
    assert np.isfinite(result["cosine"]) and load_encoder(result["student"]).embed_dim == 128


def test_the_ecg_gives_the_heart_rate_and_nothing_else(teacher, small_store):
    windows, loaded = WindowStore(small_store).windows("train"), load_encoder(teacher)
    with_ecg, without = (
        TaughtCrops(loaded, x, 8, 4, 3) for x in (windows, replace(windows, ecg=None))
    )
    assert torch.equal(with_ecg.ppg, without.ppg) and torch.equal(
        with_ecg.embedding, without.embedding
    )
    assert with_ecg.rate.isfinite().all() and without.rate.isnan().all()


def test_counted_beats_are_the_monitors_heart_rate(small_store):
    windows = WindowStore(small_store).windows()
    difference = np.abs(rate_of(count_beats(windows)) - windows.labels["hr_ecg"])
    # bpm; the monitor averages and lags
    assert np.nanmedian(difference) < 1 and np.nanpercentile(difference, 90) < 4


def test_the_rate_of_a_stretched_crop(teacher, small_store):
    """A crop's heart rate is that of the PPG in it, at the speed it is played: NeuroKit2 finds its
    pulses.
    """
    crops = TaughtCrops(load_encoder(teacher), WindowStore(small_store).windows("train"), 48, 8, 1)
    pulse = [
        60 * 100 / np.median(np.diff(ppg_peaks(x[0], 100))) for x in crops.ppg.double().numpy()
    ]
    assert np.median(np.abs(np.array(pulse) - crops.rate.numpy())) < 2
    assert np.ptp(crops.rate.numpy()) > 40  # bpm


def test_the_bank_holds_the_teachers_answers_and_its_order_the_epoch(teacher, small_store):
    loaded = load_encoder(teacher)
    crops = TaughtCrops(loaded, WindowStore(small_store).windows("train"), 8, 4, 3)
    with torch.no_grad():
        torch.testing.assert_close(crops.embedding, loaded(crops.ppg))
        torch.testing.assert_close(
            crops.tokens.float(), loaded.tokens(crops.ppg), atol=5e-3, rtol=1e-3
        )
    epochs = [[batch.embedding for batch in crops] for _ in range(2)]
    first, second = (torch.cat(epoch) for epoch in epochs)
    assert len(crops) == 2 and not torch.equal(first, second)
    for epoch in (first, second):  # each crop once
        torch.testing.assert_close(epoch.sum(0), crops.embedding.sum(0))
    val = TaughtWindows(loaded, WindowStore(small_store).windows("val"), 3)
    assert [len(batch.ppg) for batch in val] == [48]


class Plain(nn.Module):
    """A student whose tokens are pairs of samples and whose embedding is their mean."""

    embed_dim = 2

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(2, 2)
        nn.init.eye_(self.head.weight)

    def tokens(self, ppg):
        return ppg.unflatten(-1, (-1, 2)).squeeze(1)

    def pool(self, tokens):
        return self.head(tokens.mean(1))

    def forward(self, ppg):
        return self.pool(self.tokens(ppg))


def test_loss_by_hand():
    apart = torch.tensor([[1.0], [-1.0]]) / np.sqrt(2)  # two values of standard deviation 1
    bank = SimpleNamespace(
        embedding=torch.tensor([1.0, 2.0]) + apart * torch.tensor([2.0, 0.5]),
        tokens=torch.zeros(2, 2, 1),
        rate=80 + 20 * apart[:, 0],
    )
    objective = Distillation(Plain(), bank)
    nn.init.ones_(objective.to_tokens.weight)
    nn.init.zeros_(objective.to_tokens.bias)
    # tokens (0, 1), (2, 3); their mean (1, 2) + bias (1, 2)
    ppg = torch.tensor([[[0.0, 1.0, 2.0, 3.0]]])
    batch = TaughtBatch(
        ppg,
        torch.tensor([[4.0, 3.0]]),
        torch.tensor([[[1.0], [3.0]]]),
        torch.tensor([90.0]),
        seed=0,
    )
    # standardised: student ((2 - 1) / 2, (4 - 2) / 0.5) = (0.5, 4), teacher (1.5, 2)
    # without their means 2.25 and 1.75: (-1.75, 1.75) and (-0.25, 0.25): 1.5^2 = 2.25
    # tokens: 0 + 1 = 1 and 2 + 3 = 5 against 1 and 3: (0 + 4) / 2 = 2, over the variance 2 of (1,
    # 3): 1 rate: the mean over 0.5, 2.25 / 0.5 = 4.5, against (90 - 80) / 20 = 0.5; Huber beyond
    # 0.1: 4 - 0.05
    assert objective(batch).item() == pytest.approx(2.25 + 0.5 * 1 + 3.95)
    assert objective(batch._replace(rate=torch.tensor([np.nan]))).item() == pytest.approx(
        2.25 + 0.5 * 1
    )
    assert objective.validate(batch).item() == pytest.approx(0, abs=1e-6)
    whole = Distillation(Plain(), bank, token_weight=0, rate_weight=0)
    assert whole(batch).item() == pytest.approx(2.5)  # (1^2 + 2^2) / 2
    assert whole.validate(batch).item() == pytest.approx(1 - 8.75 / np.sqrt(16.25 * 6.25))
    bank.rate *= np.nan
    assert Distillation(Plain(), bank, token_weight=0)(batch).item() == pytest.approx(2.5)


def test_relations_by_hand():
    """Distances of all pairs and angles of all triples, each worked out on its own."""
    student, teacher = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(1)).double()

    def huber(a, b):
        missed = np.abs(np.array(a) - np.array(b))
        return np.where(missed < 1, 0.5 * missed**2, missed - 0.5)

    def pairs(x):
        lengths = [
            np.linalg.norm(a - b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j
        ]
        return np.array(lengths) / np.mean(lengths)

    def unit(a):
        return a / np.linalg.norm(a)

    def angles(x):  # at the middle of each three that are not the same
        n = range(len(x))
        return [
            unit(x[i] - x[j]) @ unit(x[k] - x[j]) if j not in (i, k) else 0.0
            for j in n
            for i in n
            for k in n
        ]

    a, b = student.numpy(), teacher.numpy()
    expected = (
        DISTANCE_WEIGHT * huber(pairs(a), pairs(b)).mean()
        + ANGLE_WEIGHT * huber(angles(a), angles(b)).mean()
    )
    assert relational_loss(student, teacher).item() == pytest.approx(expected, rel=1e-4)
    assert same_distances(student, teacher).item() == pytest.approx(
        np.corrcoef(pairs(a), pairs(b))[0, 1], abs=1e-6
    )


def test_relations_do_not_ask_where_and_how_large():
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(2))
    turned = 3 * x @ torch.linalg.qr(torch.randn(4, 4))[0] + 5
    assert relational_loss(turned, x).item() == pytest.approx(0, abs=1e-6)
    student = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        relational_loss(student, x.flip(0)).backward()
    assert student.grad.isfinite().all() and student.grad.abs().sum() > 0


def test_the_cosine_loss_asks_for_the_direction_only():
    bank = SimpleNamespace(
        embedding=torch.randn(8, 2), tokens=torch.zeros(8, 2, 1), rate=torch.full((8,), np.nan)
    )
    objective = Distillation(Plain(), bank, token_weight=0, loss="cosine")
    batch = TaughtBatch(
        torch.randn(3, 1, 4), torch.randn(3, 2), torch.zeros(3, 2, 1), torch.full((3,), np.nan), 0
    )
    assert objective(batch).item() == pytest.approx(objective.validate(batch).item(), abs=1e-6)


def test_a_student_starts_at_the_teachers_mean():
    mean = torch.linspace(-1, 1, 8)
    tokens, rate = torch.zeros(2, 16, 4), torch.ones(2)
    bank = SimpleNamespace(embedding=mean + torch.tensor([[1.0], [-1.0]]), tokens=tokens, rate=rate)
    student = Distillation(McuStudent(8), bank).student
    assert student.training
    torch.testing.assert_close(student.head.bias.detach(), mean)


def test_fewer_crops_than_a_batch_are_one_batch(teacher, small_store):
    crops = TaughtCrops(load_encoder(teacher), WindowStore(small_store).windows("train"), 3, 8, 1)
    assert [len(batch.ppg) for batch in crops] == [3]


@pytest.mark.parametrize("setting", ["crops", "epochs", "batch_size"])
def test_nothing_to_do_is_refused(teacher, small_store, tmp_path, setting):
    with pytest.raises(UserError, match="at least 1"):
        distill(teacher, small_store, str(tmp_path / "run"), **{setting: 0})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("setting", "value"), [("tier", "mcu-xl"), ("loss", "hinge")])
def test_an_unknown_tier_or_loss_is_refused(teacher, small_store, tmp_path, setting, value):
    with pytest.raises(UserError, match=f"unknown {setting} '{value}'; expected one of m"):
        distill(teacher, small_store, str(tmp_path / "run"), **{setting: value})


def test_what_cannot_be_resumed_or_begun_is_said_before_the_teacher_answers(
    distilled, small_store, tmp_path
):
    with pytest.raises(UserError, match="nothing to resume"):
        distill("no teacher", small_store, str(tmp_path / "run"), resume=True)
    with pytest.raises(UserError, match="tier changed"):
        distill(
            distilled["settings"]["teacher"],
            small_store,
            distilled["out"],
            tier="app",
            **SHORT,
            resume=True,
        )
    with pytest.raises(UserError, match="holds a training already"):
        distill("no teacher", small_store, distilled["out"])


def test_on_the_command_line(teacher, small_store, tmp_path, capsys):
    options = [
        "--crops",
        "8",
        "--epochs",
        "1",
        "--batch-size",
        "4",
        "--token-weight",
        "0",
        "--json",
    ]
    assert (
        main(["distill", teacher, "--data", small_store, "--out", str(tmp_path / "run"), *options])
        == 0
    )
    result = json.loads(capsys.readouterr().out)
    assert result == json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert list(result)[-1] == "out" and result["settings"]["token_weight"] == 0


def test_the_table_of_losses_goes_on_where_it_was(eight_patients, tmp_path, monkeypatch):
    """What is done is not trained again; a row for each variant, for random weights and for the
    teacher.
    """
    chosen = {"mse": ("mse", 0.0, 0.0), "relational": ("relational", 0.0, 0.0)}
    monkeypatch.setattr(distill_losses, "VARIANTS", chosen)
    settings = {
        "runs": tmp_path / "runs",
        "teacher": "student-mcu",
        "crops": 32,
        "epochs": 1,
    }
    page = distill_losses.distill_losses(str(eight_patients / "store"), **settings)
    lines = [line for line in page.splitlines() if line.startswith("| ")]
    rows = [line.strip("|\n ").split(" | ") for line in lines]
    assert [row[0] for row in rows[1:]] == [*chosen, "untrained student", "teacher"]
    assert {len(row) for row in rows} == {8} and rows[-1][1:5] == ["1.000"] * 4
    assert rows[1][5] == "too few subjects" and float(rows[1][6].split()[0]) > 0
    monkeypatch.setattr(distill_losses, "learn", None)
    assert distill_losses.distill_losses(str(eight_patients / "store"), **settings) == page


def test_dead_units_of_a_teacher_weigh_nothing():
    """A unit after a ReLU may be dead, or all but; divided by its deviation it would be all."""
    embedding = torch.randn(512, 8, generator=torch.Generator().manual_seed(7))
    alive = spread(embedding)
    assert torch.equal(alive, embedding.std(0))  # nothing changes where all are alive
    embedding[:, 2], embedding[:, 5] = 0.3, 1e-5 * embedding[:, 5]
    std = spread(embedding)
    least = 0.25 * embedding.std(0).square().mean().sqrt()
    assert torch.allclose(std[[2, 5]], least.expand(2)) and least > 1e-3
    rest = [0, 1, 3, 4, 6, 7]
    assert torch.equal(std[rest], alive[rest])
