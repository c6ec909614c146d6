"""What `bundle verify` grants to an int8 file whose output's own step is coarse beside embeddings
that hardly differ, as of a student that was trained for beats only.
"""

from types import SimpleNamespace

import numpy as np
import pytest

from xmae.export.bundle import verify
from xmae.export.bundle.schema import Drift, End, Entry

STEP = 0.1
SPREAD = 0.07  # of each number between windows: rounding alone makes 1 / 12 / 0.7^2 = 0.17 of it


@pytest.fixture(scope="module")
def reference():
    """Return embeddings (12, 96) that differ by less than a step around a mean that they share."""
    rng = np.random.default_rng(14)
    return rng.normal(0, 3, 96) + SPREAD * rng.normal(size=(12, 96))


def rounded(embedding, step=STEP):
    """Return an embedding as an int8 output of this step says it."""
    return step * np.round(embedding / step)


def entry(scale):
    """Return an int8 entry of a manifest, measured as very like its float weights at export."""
    output = End(shape=[1, 96], dtype="int8", scale=scale, zero_point=0)
    drift = Drift(windows=96, centred_cosine_median=0.999, centred_cosine_p5=0.99, max_error=0.1)
    return Entry(
        model="student", format="onnx", precision="int8", file="student_int8.onnx", bytes=1,
        macs=1, ops={}, input=output, output=output, drift=drift,
    )  # fmt: skip


@pytest.fixture
def state_of(tmp_path, monkeypatch, reference):
    """Return a function: what `run_models` says of an int8 file that gives these embeddings."""
    (tmp_path / "student.safetensors").touch()
    monkeypatch.setattr(verify, "runs_here", lambda _: True)
    monkeypatch.setattr(verify, "saturated", lambda *_: [])
    monkeypatch.setattr(verify, "some_windows", lambda: np.zeros((12, 1000), np.float32))
    monkeypatch.setattr(verify, "in_pytorch", lambda *_: reference)

    def state(embedding, scale=STEP):
        bundle = SimpleNamespace(
            path=tmp_path, all_models=[entry(scale)], session=lambda _: lambda _: embedding
        )
        return verify.run_models(bundle)["student_int8.onnx"]

    return state


def test_rounding_to_the_output_s_own_step_is_granted(state_of, reference):
    assert verify.noise(rounded(reference), reference) > 0.1  # twice what all files are granted
    assert state_of(rounded(reference)) == "runs"


def test_the_same_error_is_not_granted_where_the_step_is_fine(state_of, reference):
    assert "differs from its float weights" in state_of(rounded(reference), scale=STEP / 10)


@pytest.mark.parametrize("step", [STEP, 1000 * STEP])
@pytest.mark.parametrize("harm", ["other windows", "always the mean", "scale", "more noise"])
def test_a_bad_file_fails_however_coarse_its_step(state_of, reference, harm, step):
    """The mean of all embeddings is an error of 1, whatever the step; half is granted at most."""
    bad = {
        "other windows": np.roll(reference, 1, axis=0),
        "always the mean": np.tile(reference.mean(0), (12, 1)),
        "scale": 1.5 * reference,
        "more noise": reference + 0.75 * SPREAD * np.random.default_rng(1).normal(size=(12, 96)),
    }[harm]
    assert "differs from its float weights" in state_of(rounded(bad), scale=step)
