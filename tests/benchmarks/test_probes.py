"""Probes of frozen encoders on real people: pulses by the ECG, and the whole page."""

import numpy as np
import pytest

from xmae.benchmarks.studies import probes as study
from xmae.errors import UserError
from xmae.evaluation.protocol.cohort import load_cohort
from xmae.models import save_encoder
from xmae.models.resnet import SIZES, ResNetEncoder


@pytest.fixture(scope="module")
def cohort(small_store):
    return load_cohort(small_store)


def test_pulses_are_beats_and_their_neighbours_after_the_delay(cohort):
    """Each recording has one delay; a window also knows the beats before and after it."""
    pulses, delays, beats = cohort.pulses(), cohort.delays(), cohort.windows.beats
    for number in np.unique(cohort.recording):
        assert len(np.unique(delays[cohort.recording == number])) == 1
    assert (delays[np.isfinite(delays)] > 15).all() and np.isfinite(delays).any()
    inner, joined = 0, 0
    for row in np.flatnonzero(np.isfinite(delays)):
        found = pulses[row][np.isfinite(pulses[row])] - delays[row] / 100
        own = beats[row][np.isfinite(beats[row])]
        within = found[(found >= 0) & (found < 10)]
        np.testing.assert_allclose(within, own, atol=1e-5)
        assert (np.diff(found) > 0).all()
        inner += len(within)
        joined += len(found)
    assert joined > 2.5 * inner  # most windows have both neighbours


def test_the_page_has_both_probes_of_each_encoder(small_store, tmp_path, monkeypatch):
    """An encoder of other tokens than 25 is probed too; rivals and features stand beside."""
    monkeypatch.setattr(study, "METHODS", ("elgendi",))
    path = tmp_path / "resnet.safetensors"
    save_encoder(ResNetEncoder(**SIZES["small"]), path, {})
    page = study.probes(small_store, ["base", str(path)])
    pooled, dense = page.split("## Pooled probe")[1].split("## Dense probe")
    for text in (pooled, dense):
        assert all(f"| {name} |" in text for name in ("base", "resnet", study.UNTRAINED))
    assert study.FEATURES in pooled and "elgendi, read directly" in dense
    error = {
        row.split("|")[1].strip(): float(row.split("|")[2].split()[0])
        for row in dense.splitlines()
        if row.startswith("| ") and "method" not in row and "--" not in row
    }
    assert error["base"] < error["resnet"]
    with pytest.raises(UserError, match="no model given"):
        study.probes(small_store, [])
