"""Every way to pretrain: its loss falls on real data, nothing collapses, all parameters learn, its
encoder is saved.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from xmae.data.bidmc import bidmc_files
from xmae.data.prepare.prepare import prepare
from xmae.data.store.store import WindowStore
from xmae.distill.distill import distill
from xmae.errors import UserError
from xmae.evaluation.compare import METHODS
from xmae.models.checkpoint import load_encoder, save_encoder
from xmae.objectives import OBJECTIVES
from xmae.quantize import exportable
from xmae.training.pretrain import own_settings, pretrain

TEACHERS = ("apple", "dino", "msn")
PAPER_M = {  # parameters of the table in arXiv 2605.00973, millions
    "mae": 6.7, "msn": 6.5, "papagei-p": 5.0, "apple": 5.0, "dino": 6.5, "lsm": 6.7, "simclr": 5.0,
    "apple-m": 6.7,
}  # fmt: skip
STEPS, LR = {"dino": 80}, {"dino": 3e-4, "msn": 3e-4}  # of batches of 16
SLIM = {"dino": {"prototypes": 128, "n_short": 2}, "msn": {"prototypes": 128, "n_focal": 2}}


def spread(embedding):
    """Return the mean standard deviation over windows of embeddings of length sqrt(D), and their
    effective rank (n, D).
    """
    z = F.normalize(embedding, dim=1) * embedding.shape[1] ** 0.5
    power = torch.linalg.svdvals(z - z.mean(0)).square()
    power = power / power.sum()
    return z.std(0).mean().item(), (-(power * power.clamp(min=1e-12).log()).sum()).exp().item()


@pytest.fixture(scope="module")
def trained(small_store):
    """Return a function that trains a method for some steps, once: its losses, gradients and
    embeddings.
    """
    done, store = {}, WindowStore(small_store)

    def get(name):
        if name in done:
            return done[name]
        torch.manual_seed(0)
        objective, n_steps = (
            OBJECTIVES[name](size="small", **SLIM.get(name, {})),
            STEPS.get(name, 16),
        )
        train, val = objective.batches(store, batch_size=16, n_epochs=9, seed=0)
        trainable = {name: p for name, p in objective.named_parameters() if p.requires_grad}
        optimizer = torch.optim.AdamW(
            trainable.values(), LR.get(name, 1e-3), betas=objective.defaults.betas
        )
        losses, unmoved = [], set(trainable)
        batch = next(iter(val))
        with torch.no_grad():
            untrained = objective.eval().encoder(batch.ppg)
        objective.train()
        for step in range(n_steps):
            loss = objective(train.batch(step + 1, step))
            optimizer.zero_grad()
            loss.backward()
            unmoved -= {
                name
                for name, p in trainable.items()
                if p.grad is not None and p.grad.abs().sum() > 0
            }
            optimizer.step()
            objective.after_step((step + 1) / n_steps)
            losses.append(loss.item())
        objective.eval()
        with torch.no_grad():
            embedding, val_loss = objective.encoder(batch.ppg), objective.validate(batch).item()
        done[name] = SimpleNamespace(
            objective=objective, losses=losses, unmoved=unmoved, untrained=untrained,
            embedding=embedding, val_loss=val_loss,
        )  # fmt: skip
        return done[name]

    return get


@pytest.mark.parametrize("name", METHODS)
def test_loss_falls_on_real_data_and_every_parameter_gets_a_gradient(trained, name):
    run = trained(name)
    n = len(run.losses) // 4
    assert sum(run.losses[-n:]) < 0.97 * sum(run.losses[:n])
    assert run.unmoved == set()
    assert torch.tensor(run.val_loss).isfinite()


@pytest.mark.parametrize("name", METHODS)
def test_embeddings_of_unseen_windows_do_not_collapse(trained, name):
    (std, rank), (first_std, first_rank) = (
        spread(x) for x in (trained(name).embedding, trained(name).untrained)
    )
    assert std > 0.3 * first_std > 0
    assert rank > 0.5 * first_rank


@pytest.mark.parametrize("name", TEACHERS)
def test_teachers_get_no_gradient_and_follow_by_momentum(trained, name):
    objective = trained(name).objective
    teacher = {k: p for k, p in objective.named_parameters() if k.startswith("teacher")}
    assert teacher and all(not p.requires_grad and p.grad is None for p in teacher.values())
    student = dict(objective.named_parameters())
    key = next(k for k in teacher if k.endswith("weight") and k.startswith("teacher."))
    before, theirs = teacher[key].clone(), student[key.replace("teacher", "encoder", 1)]
    assert not torch.equal(before, theirs)
    objective.after_step(0.0)
    torch.testing.assert_close(
        teacher[key], objective.momentum * before + (1 - objective.momentum) * theirs
    )
    if name == "dino":  # momentum rises to 1
        before = teacher[key].clone()
        objective.after_step(1.0)
        torch.testing.assert_close(teacher[key], before)


@pytest.mark.parametrize("name", ["simclr", "papagei-p", "apple", "apple-m", "dino", "msn"])
def test_projections_and_heads_stay_out_of_the_embedding(trained, name):
    objective = trained(name).objective
    ppg = torch.rand(2, 1, 1000)
    with torch.no_grad():
        before = objective.encoder(ppg)
        for part in ("projection", "head"):
            for p in getattr(objective, part).parameters() if hasattr(objective, part) else ():
                p.mul_(2)
        torch.testing.assert_close(objective.encoder(ppg), before)
    assert before.shape == (2, objective.encoder.embed_dim)


@pytest.mark.parametrize("name", PAPER_M)
def test_encoders_have_the_sizes_of_the_table_and_take_any_whole_number_of_patches(name):
    with torch.device("meta"):
        encoder = OBJECTIVES[name]().encoder
    assert sum(p.numel() for p in encoder.parameters()) / 1e6 == pytest.approx(
        PAPER_M[name], rel=0.05
    )
    small = OBJECTIVES[name](size="small").encoder.eval()
    for n_patches in (1, 5, 25):
        ppg = torch.rand(2, 1, 40 * n_patches)
        tokens = small.tokens(ppg)
        assert small(ppg).shape == (2, small.embed_dim) and tokens.shape[0] == 2
        torch.testing.assert_close(small.pool(tokens), small(ppg))


def test_vit_refuses_parts_of_patches():
    encoder = OBJECTIVES["mae"](size="small").encoder
    for length in (0, 30, 1040):
        with pytest.raises(ValueError, match="multiple of 40"):
            encoder(torch.zeros(1, 1, length))


@pytest.mark.parametrize("name", ["mae", "simclr", "apple"])
def test_encoder_is_saved_loaded_and_exported_by_its_kind(trained, tmp_path, name):
    encoder = trained(name).objective.encoder
    save_encoder(encoder, tmp_path / "e.safetensors", {"method": name})
    again, ppg = (
        load_encoder(tmp_path / "e.safetensors"),
        trained(name).embedding.new_empty(4, 1, 1000).uniform_(-1, 1),
    )
    assert type(again) is type(encoder) and again.provenance == {"method": name}
    graph = exportable(again)
    with torch.no_grad():
        assert torch.equal(again(ppg), encoder(ppg))
        one_by_one = torch.cat([graph(x[None, :, None]) for x in ppg])
        torch.testing.assert_close(one_by_one, encoder(ppg), atol=1e-5, rtol=1e-4)
    kinds = {type(module).__name__ for module in graph.modules()}
    assert not kinds & {"Conv1d", "BatchNorm1d", "BatchNorm2d", "LayerNorm", "Attention"}


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("simclr", "onnx"),
        *(
            pytest.param(name, format, marks=pytest.mark.extended)
            for name in ("mae", "simclr", "apple")
            for format in ("onnx", "litert")
            if (name, format) != ("simclr", "onnx")
        ),
    ],
)
def test_exported_files_compute_what_the_encoder_does(trained, tmp_path, name, format):
    from xmae.export import TARGETS

    encoder, target = trained(name).objective.encoder, TARGETS[format]
    ppg = torch.empty(4, 1000).uniform_(-1, 1)
    path = tmp_path / f"encoder{target.suffix}"
    target.convert(exportable(encoder), path, "fp32", ppg.numpy())
    with torch.no_grad():
        expected = encoder(ppg[:, None])
    torch.testing.assert_close(
        torch.from_numpy(target.open(path)(ppg.numpy())), expected, atol=1e-4, rtol=0
    )


def test_any_encoder_can_be_distilled(trained, small_store, tmp_path):
    path = tmp_path / "teacher.safetensors"
    save_encoder(trained("simclr").objective.encoder, path, {"method": "simclr"})
    result = distill(
        str(path), small_store, str(tmp_path / "run"), crops=16, epochs=1, batch_size=8
    )
    assert load_encoder(result["student"]).embed_dim == 64


def test_own_settings_are_named_and_checked():
    chosen = own_settings("mae", {"size": "small", "mask": None, "mask_ratio": 0.5})
    assert chosen == {"size": "small", "mask_ratio": 0.5}
    assert own_settings("dino", {"prototypes": 64.0})["prototypes"] == 64
    with pytest.raises(
        UserError, match="method simclr has no setting 'mask'; it has size, temperature"
    ):
        own_settings("simclr", {"mask": "anchor"})


def test_each_method_names_its_paper_and_its_own_defaults():
    for name, method in OBJECTIVES.items():
        assert "arXiv" in method.paper or "ICLR" in method.paper, name
        assert method.defaults.keep in ("best", "last") and method.defaults.batch_size % 2 == 0
    assert len({method.defaults for method in OBJECTIVES.values()}) > 4


def test_a_method_without_ecg_trains_on_ppg_alone(tmp_path):
    with np.load(bidmc_files()[0]) as data:
        for name, step in (("there", 1), ("back", -1)):
            np.savez(tmp_path / f"{name}.npz", ppg=data["ppg"][::step], fs=125)
    prepare(
        [str(path) for path in tmp_path.glob("*.npz")],
        str(tmp_path / "store"),
        "0.5,0.5,0",
        min_quality=-1,
    )
    without = WindowStore(tmp_path / "store")
    train, val = OBJECTIVES["mae"](size="small").batches(without, batch_size=16, n_epochs=1, seed=0)
    batch = train.batch(1, 1)
    assert batch.ppg.shape == (16, 1, 1000) and len(next(iter(val)).ppg) == 48
    for name in ("xmae", "apple-m"):
        with pytest.raises(UserError, match="needs ECG"):
            OBJECTIVES[name](size="small").batches(without, batch_size=16, n_epochs=1, seed=0)


def test_an_unknown_method_is_refused_with_the_known_ones(small_store, tmp_path):
    with pytest.raises(UserError, match="unknown method 'byol'; expected one of .*msn.*xmae"):
        pretrain(small_store, str(tmp_path), method="byol")
    with pytest.raises(UserError, match="unknown size 'huge'"):
        pretrain(small_store, str(tmp_path), method="mae", size="huge")
    with pytest.raises(UserError, match="16 .*by pairs|by pairs"):
        pretrain(small_store, str(tmp_path), method="apple", size="small", batch_size=15)
