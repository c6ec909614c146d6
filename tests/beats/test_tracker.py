"""The belief over heart rate: it follows the pulse, not the arm, and says nothing where nothing is
known.
"""

import numpy as np
import pytest

from xmae.beats.spectra import GRID, WINDOW, Spectra, power_without, steady
from xmae.beats.track import acceleration_samples, beside, evidence, follow
from xmae.beats.tracker import Tracker, decide, shipped_tracker
from xmae.errors import UserError
from xmae.signals.front_end import Acceleration, FrontEnd

SECONDS = 60


def walk(pulse_bpm, arm_bpm, arm, seed=0):
    """Return PPG codes and acceleration (3, n) in g at 100 Hz: a pulse, and an arm that shakes the
    sensor.
    """
    rng = np.random.default_rng(seed)
    t = np.arange(100 * (SECONDS + 1)) / 100

    def wave(bpm):
        turn = 2 * np.pi * bpm / 60 * t
        return np.sin(turn) + 0.4 * np.sin(2 * turn)

    ppg = wave(pulse_bpm) + arm * wave(arm_bpm) + 0.1 * rng.standard_normal(len(t))
    acc = np.stack([0.3 * wave(arm_bpm), 0.1 * wave(arm_bpm), np.ones(len(t))])
    codes = np.rint(30000 + 2000 * ppg).astype(np.int64)
    return codes, acc + 0.005 * rng.standard_normal(acc.shape)


def followed(codes, acc, kind):
    axes = None if acc is None else acceleration_samples(acc, 100)[0]
    table = shipped_tracker(kind)
    rows = beside(FrontEnd(100).push(codes), axes)[None]
    rate, sure = follow(evidence(rows, table.removal), table)
    return rate[0] / 100, sure[0]


def test_the_accelerometer_tells_the_arm_from_the_pulse():
    codes, acc = walk(100, 152, 2.0)
    rate, _ = followed(codes, acc, "classical")
    assert np.abs(rate[20:] - 100).max() < 5
    alone, _ = followed(codes, None, "classical without accelerometer")
    assert np.abs(alone[20:] - 152).max() < 5


def test_noise_alone_is_not_answered():
    rng = np.random.default_rng(3)
    codes = np.rint(30000 + 2000 * rng.standard_normal(6100)).astype(np.int64)
    _, acc = walk(80, 120, 0.0)
    table = shipped_tracker("classical")
    _, sure = followed(codes, acc, "classical")
    assert (sure >= table.certainty.least).mean() < 0.2


def test_what_comes_later_helps_a_whole_recording():
    codes, acc = walk(100, 152, 2.0)
    noise = np.random.default_rng(2).standard_normal(2000)
    codes[:2000] = np.rint(30000 + 2000 * noise)  # no pulse at first
    rows = beside(FrontEnd(100).push(codes), acceleration_samples(acc, 100)[0])[None]
    levels = evidence(rows, shipped_tracker("classical").removal)
    live, _ = follow(levels, shipped_tracker("classical"))
    both, _ = follow(levels, shipped_tracker("classical", "both ways"), both_ways=True)
    off = [np.abs(rate[0, 9:25] / 100 - 100).mean() for rate in (both, live)]
    assert off[0] < 5 and off[1] > 3 * off[0]
    assert abs(both[0, -1] - live[0, -1]) <= 5  # at the end nothing comes later


def test_several_channels_of_one_wrist_are_averaged():
    codes, acc = walk(100, 152, 2.0)
    axes = acceleration_samples(acc, 100)[0]
    noise = np.rint(30000 + 2000 * np.random.default_rng(5).standard_normal(len(codes)))
    rows = [beside(FrontEnd(100).push(x.astype(np.int64)), axes) for x in (codes, noise)]
    table = shipped_tracker("classical")
    alone = follow(evidence(np.stack(rows[:1]), table.removal), table)
    twice = follow(evidence(np.stack([rows[0], rows[0]]), table.removal, together=True), table)
    assert np.array_equal(alone[0], twice[0]) and np.array_equal(alone[1], twice[1])
    rate, _ = follow(evidence(np.stack(rows), table.removal, together=True), table)
    assert rate.shape[0] == 1 and np.median(np.abs(rate[0, 20:] / 100 - 100)) < 5


def test_without_evidence_the_belief_stays_flat():
    table = shipped_tracker()
    tracker = Tracker(table)
    for _ in range(30):
        tracker.push((np.zeros((1, len(GRID)), np.int64), np.zeros((1, len(GRID)), np.int64)))
    _, sure = tracker.read()
    assert sure[0] < table.certainty.least / 2


def test_an_unknown_tracker_is_refused():
    with pytest.raises(UserError, match="no tracker called model, sideways"):
        shipped_tracker("model", "sideways")


def test_a_wave_gives_its_amplitude_at_its_rate():
    spectra = Spectra()
    t = np.arange(250) / 25
    wave = np.rint(200 * np.cos(2 * np.pi * 90 / 60 * t + 0.4)).astype(int)
    for second in np.split(wave, 10):
        spectra.push(second[None])
    amplitude = np.sqrt(spectra.power()[0])
    assert GRID[amplitude.argmax()] == 90
    assert amplitude.max() == pytest.approx(steady(200) / 2, rel=0.01)


def of_waves(*waves):
    """Spectra of 10 s of waves, each of rate in bpm, amplitude and phase."""
    t = np.arange(250) / 25
    x = sum(a * np.cos(2 * np.pi * bpm / 60 * t + phase) for bpm, a, phase in waves)
    spectra = Spectra()
    for second in np.split(np.rint(x).astype(int), 10):
        spectra.push(second[None])
    return spectra


def test_what_keeps_pace_with_the_arm_goes_and_the_pulse_stays():
    ppg = of_waves((100, 80, 0.3), (140, 200, 1.0))
    arm, still = of_waves((140, 90, -0.8)), of_waves((140, 20, 0.0))
    left = np.sqrt(power_without(ppg, [still, arm, Spectra()])[0])
    before = np.sqrt(ppg.power()[0])
    assert GRID[before.argmax()] == 140 and GRID[left.argmax()] == 100
    pulse, steps = (np.flatnonzero(bpm == GRID)[0] for bpm in (100, 140))
    assert left[pulse] > 0.8 * before[pulse] and left[steps] < 0.3 * before[steps]


def test_nothing_moves_so_nothing_goes():
    ppg = of_waves((100, 80, 0.3))
    assert np.array_equal(power_without(ppg, [Spectra(), Spectra()]), ppg.power())


def test_the_gain_is_that_of_least_squares():
    rng = np.random.default_rng(8)
    ppg, arm = (
        of_waves(*((bpm, 60, rng.uniform(0, 6)) for bpm in rng.uniform(40, 200, 5)))
        for _ in range(2)
    )
    p, a = (spectra.blocks[0] @ [1, 1j] for spectra in (ppg, arm))
    weight = np.sqrt(WINDOW)
    for k in range(0, len(GRID), 7):
        gain = np.linalg.lstsq((weight * a[:, k])[:, None], weight * p[:, k], rcond=None)[0][0]
        expected = abs((WINDOW * (p[:, k] - gain * a[:, k])).sum()) / 64
        ours = np.sqrt(power_without(ppg, [arm])[0, k])
        assert ours == pytest.approx(expected, rel=0.1, abs=150)  # what is faint stays undecided


def test_any_portions_of_acceleration_give_the_same_samples():
    _, acc = walk(80, 120, 1.0)
    codes = np.rint(4096 * acc).astype(np.int64)
    whole = Acceleration(100, 4096).push(codes)
    parts = Acceleration(100, 4096)
    cut = np.concatenate([parts.push(part) for part in np.split(codes, [1, 20, 333, 4000], 1)], 1)
    assert np.array_equal(whole, cut) and abs(whole).max() <= 127
    assert parts.level() == pytest.approx(300, rel=0.6)


def test_beats_decide_at_rest_or_if_the_belief_agrees():
    table = shipped_tracker("classical").certainty
    beats = (7000, 6900, 7100)
    assert decide(beats, (15000, 255), table, 10) is None
    assert decide(beats, (7300, 0), table, 400) is None  # unsure, but both say the same
    assert decide(beats, (7300, 255), table, 400) is None
    rate, low, high = decide(beats, (9300, 255), table, 400)
    assert low <= rate - 50 and rate == 9300 and high >= rate + 50
    assert decide((0, 0, 0), (9300, 255), table, 400) == (rate, low, high)
    assert decide(beats, (15000, 0), table, 400) == (0, 0, 0)


@pytest.mark.parametrize("acc", [np.zeros((2, 50)), np.zeros(50)])
def test_acceleration_of_another_shape_is_refused(acc):
    with pytest.raises(UserError, match="three rows"):
        acceleration_samples(acc, 50)


def test_scale_of_acceleration_out_of_range_is_refused():
    with pytest.raises(UserError, match="1 g"):
        Acceleration(50, 3)
