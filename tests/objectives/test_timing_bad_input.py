"""What cannot be learnt from or read: no delay, no pulse, no normal beat, fewer than two beats."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from xmae.beats.intervals import variability
from xmae.beats.timing_map import timing_target
from xmae.data.batches.timing import TimedRecordings, TimingBatches
from xmae.data.store.store import WindowStore
from xmae.errors import UserError
from xmae.models import load_encoder
from xmae.objectives.timing import timing_loss
from xmae.twin.bank import VENTRICULAR
from xmae.twin.heart import draw_ecg
from xmae.twin.pulse import draw_pulse
from xmae.twin.rhythm import Rhythm, draw_rhythm
from xmae.twin.windows import Twin, butterworth_gain


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_recordings_without_a_steady_delay_are_left_out_and_counted(small_store):
    windows = WindowStore(small_store).windows("train")
    first = windows.subject == windows.subject[0]
    noise = np.random.default_rng(0).normal(size=windows.ppg.shape).astype(np.float32)
    some = replace(windows, ppg=np.where(first[:, None], noise, windows.ppg))
    recordings = TimedRecordings(some)
    assert (recordings.n_recordings, recordings.without_delay) == (3, 1)
    assert len(recordings.start) == 2
    batches = TimingBatches(recordings, 4, 1, 0)
    assert batches.facts() == {"stretches": 3, "without_delay": 1}
    assert torch.isfinite(batches.batch(1, 1).target).all()
    with pytest.raises(UserError, match="no recording of the store has a pulse that follows"):
        TimedRecordings(replace(windows, ppg=noise))


def rhythm_of(time, kind):
    """Return one window of beats at these times."""
    one = torch.zeros(1)
    kinds = torch.full(time.shape, kind)
    return Rhythm(time, kinds, torch.zeros(1, dtype=torch.bool), one + 0.25, one)


@pytest.mark.parametrize("what", ["all ventricular", "pulseless", "one beat", "no beat inside"])
def test_windows_of_strange_hearts_are_finite(what):
    time = torch.arange(-1, 24, 0.7)[None]
    time = torch.tensor([[11.0, 30.0]]) if what == "one beat" else time
    time = torch.tensor([[-9.0, -8.0]]) if what == "no beat inside" else time
    rhythm = rhythm_of(time, VENTRICULAR if what == "all ventricular" else 0)
    flat = torch.full(time.shape, what == "pulseless")
    pulse = draw_pulse(rhythm, 2048, 100, generator(), flat)
    gain = butterworth_gain(2048, 100, 0.5, 5)
    ecg = draw_ecg(rhythm, 2048, 100, generator(), gain)
    for x in (pulse.ppg, pulse.arrival, ecg):
        assert torch.isfinite(x).all()
    assert (pulse.ppg.abs().max() > 0) == (what in ("all ventricular", "one beat"))


def test_windows_without_any_pulse_train_towards_silence_and_cost_finite():
    class Silent(Twin):
        def pulseless(self, rhythm, generator):
            return torch.ones_like(rhythm.kind, dtype=torch.bool)

    windows = Silent(ecg=True, stream=0.5, motion=0.0).draw(8, generator(3))
    assert torch.isfinite(windows.ppg).all() and not windows.readable.any()
    found = variability(np.zeros(0), np.zeros(0, int), 8)
    assert all(np.isnan(x).all() for x in found.values())


@pytest.mark.parametrize("pulses", [[], [3.0], [3.0, 4.0], [-2.0, 30.0]])
def test_fewer_than_two_intervals_have_a_finite_target_and_loss(pulses):
    row = torch.full((1, 6), torch.nan)
    row[0, : len(pulses)] = torch.tensor(pulses)
    target, known = timing_target(row, 250)
    assert torch.isfinite(target).all() and known.sum() == (25 if pulses == [3.0, 4.0] else 0)
    weight = torch.stack([known, known], 1).float()
    loss = timing_loss(torch.randn(1, 3, 250, generator=generator()), target, weight)
    assert torch.isfinite(loss)


@pytest.fixture(scope="module")
def reader():
    return load_encoder("beats-mcu")


def test_pulseless_windows_are_read_with_low_certainty(reader):
    t = np.arange(1000) / 100
    rng = np.random.default_rng(0)
    flat = np.zeros((1, 1000), np.float32)
    step = np.where(t > 5, 1.0, 0.0)[None]
    noise = rng.normal(size=(6, 1000))
    reading = reader.read_windows(np.concatenate([flat, step, noise]).astype(np.float32))
    assert np.isfinite(reading.certainty).all() and np.isfinite(reading.time).all()
    regular = rhythm_of(torch.arange(-1, 24, 0.8)[None], 0)
    calm = draw_pulse(regular, 1000, 100, generator()).ppg.numpy()
    assert reader.read_windows(calm).certainty[0] > 0.8 > reading.certainty.max() + 0.2


def test_windows_of_premature_beats_alone_and_of_one_beat_are_read(reader):
    rhythm = draw_rhythm(4, 22, generator(1), {"ectopic": 1.0})
    rhythm = rhythm._replace(kind=torch.full_like(rhythm.kind, VENTRICULAR))
    early = draw_pulse(rhythm, 1000, 100, generator(1)).ppg
    alone = draw_pulse(rhythm_of(torch.tensor([[5.0, 40.0]]), 0), 1000, 100, generator(1)).ppg
    reading = reader.read_windows(torch.cat([early, alone]).numpy())
    known = np.isfinite(reading.rate)
    assert np.isfinite(reading.certainty).all() and ((reading.rate[known] >= 30).all())
    assert reading.certainty[4] < 0.5
