"""The change of the pulse's delay within a recording, on signals whose delay is known."""

import numpy as np
import pytest

from xmae.beats.reading import Reading
from xmae.beats.truth import rate_of_beats
from xmae.data.store.windows import Windows
from xmae.evaluation.findings.delay_change import read_changes, true_changes
from xmae.evaluation.protocol.beat_matching import match_beats

N_WINDOWS = 12


@pytest.fixture(scope="module")
def people():
    """Return two recordings of two minutes; delays of 0.3 and 0.6 s that grow by 2.5 ms a
    window.
    """
    rng, n = np.random.default_rng(0), 2 * N_WINDOWS
    beats, late = np.full((n, 40), np.nan), np.full((n, 40), np.nan)
    ppg, ecg = np.zeros((2, n, 1000), np.float32)
    t = np.arange(1000 * N_WINDOWS) / 100
    change = np.tile(2.5 * np.arange(N_WINDOWS), 2)
    for number, usual in enumerate((0.3, 0.6)):
        time = np.cumsum(rng.normal(0.8, 0.03, 200))
        time = np.round(time[time < 10 * N_WINDOWS - 1], 2)
        rise = time + usual + 0.0025 * (time // 10)
        own = slice(number * N_WINDOWS, (number + 1) * N_WINDOWS)
        ppg[own] = (np.tanh((t[:, None] - rise) / 0.05).sum(1) - t / 0.4).reshape(-1, 1000)
        ecg[own] = np.exp(-(((t[:, None] - time) / 0.01) ** 2)).sum(1).reshape(-1, 1000)
        for times, table in ((time, beats), (rise, late)):
            for k in range(N_WINDOWS):
                inside = times[times // 10 == k] - 10 * k
                table[number * N_WINDOWS + k, : len(inside)] = inside
    record = np.repeat(["a", "b"], N_WINDOWS)
    windows = Windows(
        ppg=ppg, ecg=ecg, subject=record, record=record,
        start_s=np.tile(10.0 * np.arange(N_WINDOWS), 2), ppg_quality=np.ones(n),
        ecg_quality=np.ones(n), split=np.full(n, ""), labels={"hr_ecg": rate_of_beats(beats)},
        beats=beats.astype(np.float32),
    )  # fmt: skip
    wanted = change - np.median(change[:N_WINDOWS])
    return windows, np.repeat([0, 1], N_WINDOWS), late, wanted


def test_both_signals_tell_the_change_and_not_the_clock(people):
    windows, recording, _, wanted = people
    found = true_changes(windows, recording)
    assert np.abs(found - wanted)[np.isfinite(found)].max() < 1.5
    assert np.isfinite(found).all()


def test_beats_in_the_right_place_read_it_and_too_few_say_nothing(people):
    windows, recording, late, wanted = people
    window, place = np.nonzero(np.isfinite(late))
    time = late[window, place]
    few = (window == 3) & (np.cumsum(window == 3) > 2)
    window, time = window[~few], time[~few]
    rate = np.full(len(recording), 75.0)
    reading = Reading(window, time, np.ones(len(time)), rate, np.ones(len(rate)))
    found = read_changes(windows, recording, match_beats(windows, recording, reading))
    told = np.arange(len(found)) != 3
    assert np.abs(found - wanted)[told].max() < 1.5 and found[3] == 0


def test_windows_without_truth_have_no_change(people):
    windows, recording, _, _ = people
    beats = windows.beats.copy()
    beats[5] = np.nan
    windows = type(windows)(**{**vars(windows), "beats": beats})
    assert np.isnan(true_changes(windows, recording)[5])
