"""Training goes on: more epochs than planned, and from the weights of others."""

import json
import shutil
from importlib.resources import files

import pytest
import torch
from safetensors.torch import load_file

from xmae.cli.verdict import verdict
from xmae.data.bidmc import SHIPPED_SPLIT
from xmae.data.prepare.inputs import read_splits
from xmae.errors import UserError
from xmae.models import load_encoder
from xmae.models.checkpoint import subjects_of
from xmae.objectives import OBJECTIVES
from xmae.training.begin import begin_from
from xmae.training.pretrain import pretrain

RUN = {"method": "mae", "size": "small", "batch_size": 72, "precision": "fp32"}


@pytest.fixture(scope="module")
def finished(small_store, tmp_path_factory):
    """Return a run of two epochs."""
    out = tmp_path_factory.mktemp("continue") / "run"
    return pretrain(small_store, str(out), **RUN, epochs=2)


@pytest.mark.parametrize("patience", [None, pytest.param(1, marks=pytest.mark.extended)])
def test_a_finished_run_goes_on_with_more_epochs(small_store, tmp_path, monkeypatch, patience):
    """Also one that was stopped since it did not get better."""
    if patience:
        monkeypatch.setattr(OBJECTIVES["mae"], "validate", lambda self, batch: torch.tensor(1.0))
    out, settings = tmp_path / "run", RUN | {"patience": patience}
    first = pretrain(small_store, str(out), **settings, epochs=2)
    with pytest.raises(UserError, match="epochs changed"):
        pretrain(small_store, str(out), **settings, epochs=1, resume=True)
    more = pretrain(small_store, str(out), **settings, epochs=4, resume=True)
    assert more["finished"] and more["epochs"] > first["epochs"] == 2
    assert more["history"]["val_loss"][:1] == first["history"]["val_loss"][:1]
    assert json.loads((out / "config.json").read_text())["epochs"] == 4
    if patience is None:
        assert more["history"]["epoch"] == [0, 1, 2, 3] and more["windows_seen"] == 4 * 144


def test_a_run_begins_with_the_weights_of_another(small_store, finished, tmp_path):
    """So its first loss is about the last of the other, and the subjects count as known."""
    again = pretrain(
        small_store, str(tmp_path / "run"), **RUN, epochs=1, lr=1e-6, init=finished["out"]
    )
    before, after = load_file(finished["encoder"]), load_file(again["encoder"])
    for name, tensor in before.items():  # two small steps away
        torch.testing.assert_close(after[name], tensor, rtol=0, atol=1e-4, msg=name)
    assert again["history"]["val_loss"][0] == pytest.approx(finished["val_loss"], rel=0.05)
    origin = load_encoder(again["encoder"]).provenance
    assert origin["settings"]["init"] == finished["out"]
    assert origin["begun_from"]["method"] == "mae"
    assert subjects_of({"begun_from": origin["begun_from"]}) == subjects_of(origin)


def weights(name, **settings):
    """Return an objective that began with those weights, and their provenance."""
    objective = OBJECTIVES[settings.pop("method", "mae")](**{"size": "small"} | settings)
    return objective, begin_from(objective, name)


def test_a_shipped_teacher_brings_its_whole_model_and_has_seen_nobody_of_bidmc():
    folder = files("xmae.models.weights")
    around = load_file(folder / "base-around.safetensors")
    encoder = load_file(folder / "base.safetensors")
    objective, origin = weights("base", method="xmae-timing")
    state = objective.model.state_dict()
    whole = around | {f"encoder.{key}": tensor for key, tensor in encoder.items()}
    assert len(whole) == len(around) + len(encoder) and whole.keys() == state.keys()
    assert all(torch.equal(state[key], tensor) for key, tensor in whole.items())
    assert origin["method"] == "xmae-timing"
    assert subjects_of(origin) and not subjects_of(origin) & set(read_splits(SHIPPED_SPLIT))


def test_all_weights_of_a_run_or_those_of_its_encoder(finished, tmp_path):
    whole = load_file(f"{finished['out']}/model.safetensors")
    objective, origin = weights(finished["out"])
    for key, tensor in objective.state_dict().items():
        torch.testing.assert_close(tensor, whole[key])
    assert origin["splits"]
    objective, _ = weights(f"{finished['out']}/checkpoints/best.ckpt")
    assert all(torch.equal(x, whole[key]) for key, x in objective.state_dict().items())
    # another method with the same encoder: its teacher begins there too
    objective, _ = weights(finished["encoder"], method="dino")
    mine, theirs = objective.teacher.state_dict(), load_file(finished["encoder"])
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[key], theirs[key]) for key in mine)


@pytest.mark.parametrize("name", ["base", "student-mcu"])
def test_weights_of_another_encoder_are_refused(name):
    with pytest.raises(UserError, match=f"{name}: is of another encoder than the method mae"):
        weights(name)


def test_a_checkpoint_of_nobody_knows_whom_is_refused(finished, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    path = tmp_path / "checkpoints" / "last.ckpt"
    path.write_bytes(b"PK broken")
    with pytest.raises(UserError, match="not readable as a checkpoint"):
        weights(str(path))
    source = f"{finished['out']}/checkpoints/last.ckpt"
    shutil.copy(source, path)
    with pytest.raises(UserError, match="nobody knows on whom"):
        weights(str(path))


def test_subjects_that_are_known_before_are_told():
    result = {"finished": True, "windows_seen": 1, "epochs": 1, "seconds": 1, "device": "cpu"}
    result |= {"history": {"val_loss": [1, 0.5]}, "val_loss": 0.5, "known_before": ["s1", "s2"]}
    assert "warning: 2 subjects of val or test" in "\n".join(verdict("pretrain", result))
