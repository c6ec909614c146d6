"""Families of pulse waves are about 1 from foot to peak: noise and movement mean one thing."""

import pytest
import torch

from xmae.twin.pulse import draw_pulse
from xmae.twin.rhythm import draw_rhythm


@pytest.mark.parametrize("family", ["gaussians", "wrist", "skewed"])
@pytest.mark.parametrize("sfreq", [64, 100])
def test_waves_are_about_1_from_foot_to_peak(family, sfreq):
    rhythm = draw_rhythm(64, 2048 / sfreq, torch.Generator().manual_seed(1), {"sinus": 1.0})
    pulse = draw_pulse(rhythm, 2048, sfreq, torch.Generator().manual_seed(2), family=family)
    inside = pulse.ppg[:, 400:1600]
    height = inside.amax(1) - inside.amin(1)
    assert 0.9 < height.median() < 1.7
    assert height.quantile(0.05) > 0.5
    # a clipping sensor would take a large constant for the signal
    assert pulse.ppg.mean(1).abs().max() < 3
