"""A target that is defined outside the package works in the verbs, without a change to any file."""

import numpy as np
import pytest
import torch

from xmae.errors import UserError
from xmae.export.bundle.bundle import Bundle
from xmae.export.export import export
from xmae.export.targets.base import TARGETS, Target, register
from xmae.export.targets.registry import chosen_targets
from xmae.export.targets.session import Session
from xmae.quantize.graph import as_input


class ExportedProgram(Target):
    """What `torch.export` gives, as a file."""

    name = "toy"
    suffix = ".pt2"
    precisions = ("fp32",)
    tools = ("torch",)

    @staticmethod
    def convert(module, path, precision, calibration=None, observer=None, keep=()):
        window = torch.zeros(1, 1, 1, 1000)
        torch.export.save(torch.export.export(module, (window,)), path)

    @staticmethod
    def inspect(path):
        end = {"shape": [1, 1, 1, 1000], "dtype": "float32", "scale": None, "zero_point": None}
        output = end | {"shape": [1, 256]}
        return {"ops": {}, "undelegated": None, "input": end, "output": output}

    @staticmethod
    def open(path, threads=1):
        module = torch.export.load(path).module()
        return Session(lambda window: module(torch.from_numpy(as_input(window))).numpy())


@pytest.fixture(autouse=True)
def toy():
    """Register the toy for one test only: other files list all targets."""
    register(ExportedProgram)
    yield
    del TARGETS["toy"]


@pytest.mark.slow
def test_the_verbs_know_it(small_store, tmp_path):
    with torch.no_grad():
        result = export(
            "student-mcu",
            "student-mcu-s",
            small_store,
            str(tmp_path / "out"),
            targets="toy",
            precisions="fp32",
            n_calibration=16,
        )
    assert [entry["format"] for entry in result["models"]] == ["toy", "toy"]
    assert min(entry["drift"]["centred_cosine_median"] for entry in result["models"]) > 0.9999
    bundle = Bundle.open(tmp_path / "out")
    session = bundle.session(bundle.entry("student", "toy", "fp32"))
    assert session(np.zeros((2, 1000), np.float32)).shape[0] == 2


def test_it_is_listed():
    assert "toy" in TARGETS and chosen_targets("toy") == ["toy"]
    with pytest.raises(UserError, match="known: .*toy"):
        chosen_targets("ty")


def test_a_target_without_its_methods_is_refused():
    class Half(Target):
        name = "half"

    with pytest.raises(TypeError, match="abstract"):
        register(Half)
    assert "half" not in TARGETS


def test_those_that_run_here_come_first():
    known = [target.runs_here for target in TARGETS.values()]
    assert known == sorted(known, reverse=True)
