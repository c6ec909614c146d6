"""Loggers: none by default, those that are named, one line for what is not there."""

import sys
from types import SimpleNamespace

import pytest
from lightning.pytorch import loggers
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from xmae.errors import UserError
from xmae.training.loggers import PACKAGES, check_loggers, make_loggers
from xmae.training.pretrain import pretrain


def test_none_by_default_and_those_named(tmp_path):
    assert make_loggers(None, tmp_path) == [] == make_loggers("", tmp_path)
    assert [type(x) for x in make_loggers("csv, tensorboard,csv", tmp_path)] == [
        CSVLogger,
        TensorBoardLogger,
    ]
    assert not list(tmp_path.iterdir())


def test_wandb_and_mlflow_get_the_run_folder(tmp_path, monkeypatch):
    made = {}

    def fake(name):
        return lambda *words, **settings: made.setdefault(name, (words, settings))

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(loggers, "WandbLogger", fake("wandb"))
    monkeypatch.setattr(loggers, "MLFlowLogger", fake("mlflow"))
    monkeypatch.setattr("xmae.training.loggers.find_spec", lambda name: SimpleNamespace())
    assert len(make_loggers("wandb,mlflow", tmp_path / "run")) == 2
    assert made["wandb"][1]["save_dir"] == tmp_path / "run"
    files = {"artifact_location": (tmp_path / "run" / "mlruns").as_uri()}
    assert made["mlflow"] == (("xmae", "run", f"sqlite:///{tmp_path}/run/mlflow.db"), files)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://localhost:5000")
    made.clear()
    make_loggers("mlflow", tmp_path / "own")
    own = (("xmae", "own", "http://localhost:5000"), {"artifact_location": None})
    assert made["mlflow"] == own


def test_what_is_not_there_is_one_line(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="unknown logger 'tensor'; expected one of csv"):
        check_loggers("tensor")
    monkeypatch.setitem(PACKAGES, "wandb", "no_such_package")
    with pytest.raises(UserError, match="pip install no_such_package"):
        pretrain("no store", str(tmp_path), logger="wandb")
    assert "wandb" not in sys.modules
