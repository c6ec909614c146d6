"""Augmentation: the recipe's moves and no others, both signals together, fixed by the generator."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from xmae.data.batches.augment import MAX_SHIFT, augment, random_crops, runs, vary_ppg
from xmae.data.bidmc import bidmc_files
from xmae.data.prepare.prepare import prepare_recording
from xmae.data.recording.readers import read_recording
from xmae.errors import UserError
from xmae.signals.quality import ppg_peaks
from xmae.signals.scale import minmax_scale


@pytest.fixture(scope="module")
def windows():
    return prepare_recording(read_recording(bidmc_files()[0]), -1)[0]


@pytest.fixture(scope="module")
def batch(windows):
    return torch.from_numpy(windows.ppg)[:, None], torch.from_numpy(windows.ecg)[:, None]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def shifted(x, by):
    """Shift as the reference does, one window at a time: move right by `by` samples, repeat the
    edge, scale.
    """
    x = x.numpy()[0]
    moved = np.pad(x, MAX_SHIFT, mode="edge")[MAX_SHIFT - by : MAX_SHIFT - by + len(x)]
    return minmax_scale(moved)[0]


def test_every_window_is_one_of_the_recipe(batch):
    ppg, ecg = (x.repeat(20, 1, 1) for x in batch)
    new_ppg, new_ecg = augment(ppg, ecg, generator())
    moves, flips = [], []
    for i in range(len(ppg)):
        close = [
            by
            for by in range(-7, 8)
            if np.abs(shifted(ppg[i], by) - new_ppg[i, 0].numpy()).max() < 1e-5
        ]
        expected = shifted(ecg[i], close[0])
        flip = np.abs(expected + new_ecg[i, 0].numpy()).max() < 1e-5
        assert len(close) == 1 and (flip or np.abs(expected - new_ecg[i, 0].numpy()).max() < 1e-5)
        moves.append(close[0])
        flips.append(flip)
    share_unmoved = 1 / 2 + 1 / 2 / 15  # those that drew the scale, and shifts by 0
    assert abs(np.mean(np.array(moves) == 0) - share_unmoved) < 0.06
    assert abs(np.mean(flips) - 0.5) < 0.06
    assert set(moves) == set(range(-7, 8))


def test_scaling_cancels_out(batch):
    gain = torch.empty(len(batch[0]), 1, 1).uniform_(0.8, 1.2, generator=generator())
    torch.testing.assert_close(
        minmax_scale(batch[0] * gain)[0], minmax_scale(batch[0])[0], atol=1e-5, rtol=0
    )


def test_output_is_scaled_and_fixed_by_the_generator(batch):
    first, again, other = (augment(*batch, generator(seed)) for seed in (1, 1, 2))
    for x in first:
        assert x.shape == batch[0].shape and x.dtype == torch.float32
        assert (x.amin(-1) == -1).all() and (x.amax(-1) == 1).all()
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


def test_runs_join_neighbours_only(windows):
    kept = windows.select([0, 1, 2, 5, 6, 20])
    other = replace(
        kept,
        record=np.array(["a", "a", "b", "b", "b", "b"]),
        start_s=np.array([0, 10, 20, 30, 40, 60]),
    )
    for part, lengths in ((windows, [48]), (kept, [3, 2, 1]), (other, [2, 3, 1])):
        joined = runs(part)
        assert joined.length.tolist() == [1000 * n for n in lengths]
        assert joined.start.tolist() == np.cumsum([0, *joined.length[:-1]]).tolist()
    samples = runs(kept).samples(torch.tensor([0, 4]), 3)
    np.testing.assert_array_equal(samples[1], kept.ecg[[[0, 1, 2], [4, 5, 5]]].reshape(2, -1))
    with pytest.raises(UserError, match="needs ECG"):
        random_crops(runs(replace(kept, ecg=None)), 4, generator())


def ramps(windows):
    """Return runs whose PPG holds the sample number and whose ECG the run's number: crops then tell
    where they come from.
    """
    chosen = windows.select([0, 1, 2, 5, 6, 20])
    run = np.repeat([0, 0, 0, 1, 1, 2], 1000).reshape(6, 1000)
    return runs(replace(chosen, ppg=counted(chosen), ecg=run.astype(np.float32)))


def counted(windows):
    """Return sample numbers in the place of a signal of these windows."""
    return np.arange(windows.ppg.size, dtype=np.float32).reshape(windows.ppg.shape)


def test_crops_stay_in_one_run_and_cover_it(windows):
    joined = ramps(windows)
    place, run = random_crops(joined, 4000, generator(), noise=0.0)
    assert place.shape == run.shape == (4000, 1, 1000)
    assert torch.equal(run, run[..., :1].expand_as(run))  # never across a gap
    speed = torch.diff(place, dim=-1)
    assert (speed.amax(-1) - speed.amin(-1)).max() < 0.01  # even steps
    speed = speed.mean(-1)[:, 0]
    assert 0.599 < speed.min() < 0.62 and 1.6 < speed.max() < 1.701
    first, last = place[:, 0, 0], place[:, 0, -1]
    start, end = (
        joined.start[run[:, 0, 0].long()],
        (joined.start + joined.length - 1)[run[:, 0, 0].long()],
    )
    assert (first >= start - 1e-2).all() and (last <= end + 1e-2).all()
    share = [(run[:, 0, 0] == i).float().mean().item() for i in range(3)]
    np.testing.assert_allclose(share, [3 / 6, 2 / 6, 1 / 6], atol=0.03)
    assert first[run[:, 0, 0] == 0].min() < 50 and last[run[:, 0, 0] == 0].max() > 2950


@pytest.mark.parametrize("speed", [(1.0, 1.0), (0.6, 1.7)])
def test_crops_are_the_recording_interpolated(windows, speed):
    joined = runs(windows)
    count = counted(windows)
    place = random_crops(runs(replace(windows, ppg=count)), 20, generator(3), speed, noise=0.0)[0]
    crops = random_crops(joined, 20, generator(3), speed, noise=0.0)
    # both signals from the same places
    for x, signal in zip(crops, (windows.ppg, windows.ecg), strict=True):
        expected = np.interp(place.numpy(), count.ravel(), signal.ravel())
        np.testing.assert_allclose(x.numpy(), expected, atol=0.01 * np.ptp(signal))


def test_augmentation_keeps_the_delay(batch):
    ecg = batch[1]
    ppg, ecg = augment(ecg.roll(30, -1), ecg, generator(1))  # a "PPG" that is the ECG, 0.3 s later
    spectra = [torch.fft.rfft(x - x.mean(-1, keepdim=True), 2048) for x in (ppg, ecg)]
    lag = torch.fft.irfft(spectra[0] * spectra[1].conj(), 2048)[:, 0, :100].abs().argmax(-1)
    assert (lag == 30).all()


def test_polarity_is_kept_if_asked(batch):
    ecg = augment(*batch, generator(), flip=0.0)[1]
    assert ((ecg * minmax_scale(batch[1])[0]).mean(-1) > 0).all()
    ecg = augment(*batch, generator(), flip=1.0)[1]
    assert ((ecg * minmax_scale(batch[1])[0]).mean(-1) < 0).all()


def test_noise_is_light_and_on_the_ppg_only(windows):
    noisy, same = (
        random_crops(runs(windows), 40, generator(5), noise=noise) for noise in (0.02, 0.0)
    )
    assert torch.equal(noisy[1], same[1])
    share = (noisy[0] - same[0]).std(-1) / (same[0].amax(-1) - same[0].amin(-1))
    assert 0 < share.min() < 0.005 and 0.015 < share.max() < 0.022


def test_crops_are_fixed_by_the_generator(windows):
    joined = runs(windows)
    first, again, other = (random_crops(joined, 8, generator(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


@pytest.mark.parametrize("speed", [(1.0, 1.0), (0.6, 1.7)])
def test_some_rows_of_a_batch_are_as_if_all_were_made(windows, speed):
    joined = runs(windows)

    def batch_of(rows):
        draws = generator(4)
        ppg, ecg = random_crops(joined, 12, draws, speed, rows=rows)
        return augment(vary_ppg(ppg, draws, share=(12, rows)), ecg, draws, share=(12, rows))

    whole = batch_of(slice(None))
    for rank in range(3):
        for x, expected in zip(batch_of(slice(rank, None, 3)), whole, strict=True):
            assert len(x) == 4 and torch.equal(x, expected[rank::3])


def delay(a, b, most=20):
    """Return the samples by which `b` is later than `a`, by the largest product of one with the
    other shifted.
    """
    by = np.arange(-most, most + 1)
    return by[np.argmax([np.dot(a[most:-most], np.roll(b, -k)[most:-most]) for k in by])]


def test_varied_pulses_keep_their_times(batch):
    ppg = batch[0]
    torch.testing.assert_close(vary_ppg(ppg, generator(), strength=0.0), ppg, atol=1e-3, rtol=1e-4)
    varied = vary_ppg(ppg, generator())
    peaks = [[ppg_peaks(row, 100) for row in x[:, 0].double().numpy()] for x in (ppg, varied)]
    rates = [[60 * 100 / np.median(np.diff(found)) for found in each] for each in peaks]
    assert np.median(np.abs(np.subtract(*rates))) < 1  # bpm
    # upslopes; the slow waves hardly show in them
    steps = [x[:, 0].diff().numpy() for x in (ppg, varied)]
    delays = [delay(a, b) for a, b in zip(*steps, strict=True)]
    # 10 ms each: tilted without phase
    assert np.median(np.abs(delays)) == 0 and np.abs(delays).max() <= 2
    one, other = (minmax_scale(x)[0] for x in (ppg, varied))
    assert (one - other).abs().mean() > 0.05  # and yet they look different
