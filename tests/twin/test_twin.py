"""Generated people: what is said of them is true of their signals, and mistakes get a clear
line.
"""

import numpy as np
import pytest
import torch
from neurokit2 import ecg_findpeaks
from torch.overrides import TorchFunctionMode
from torch.utils._device import _device_constructors
from torch.utils._pytree import tree_leaves

from xmae.beats.timing_map import timing_target
from xmae.errors import UserError
from xmae.twin.bank import CLASSES, held_out, read_bank
from xmae.twin.motion import ACTIVITIES, move, tie
from xmae.twin.outing import draw_outing
from xmae.twin.people import RHYTHMS, draw_person
from xmae.twin.pulse import draw_pulse, impulses, low_frequencies
from xmae.twin.rhythm import draw_rhythm
from xmae.twin.sensor import cadence, some_stretches, stretch_of
from xmae.twin.windows import Twin


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def windows():
    return Twin(ecg=True, stream=0.5).draw(96, generator(1))


def test_windows_are_whole(windows):
    assert windows.ppg.shape == windows.ecg.shape == (96, 1, 1000)
    for x in (windows.ppg, windows.ecg, windows.pulses, windows.delay):
        assert torch.isfinite(x).all()
    assert windows.ppg.abs().max() <= 1 and windows.ecg.abs().max() <= 1
    assert windows.readable.float().mean() > 0.8
    assert timing_target(windows.pulses, 250)[1].float().mean() > 0.98


def test_same_seed_same_people():
    first, second = (Twin(stream=0.3).draw(8, generator(5)) for _ in range(2))
    other = Twin(stream=0.3).draw(8, generator(6))
    assert torch.equal(first.ppg, second.ppg) and torch.equal(first.beats, second.beats)
    assert not torch.equal(first.ppg, other.ppg)


def test_beats_are_where_an_ecg_detector_finds_them():
    regular = {"bank": 0.0, "sinus": 1.0, "fibrillation": 0.0, "ectopic": 0.0}
    windows = Twin(ecg=True, shares=regular).draw(40, generator(2))
    found = missed = 0
    for ecg, beats in zip(windows.ecg[:, 0].numpy(), windows.beats.numpy(), strict=True):
        peaks = ecg_findpeaks(ecg.astype(float), sampling_rate=100)["ECG_R_Peaks"] / 100
        for beat in beats[(beats > 0.5) & (beats < 9.5)]:
            near = len(peaks) and np.abs(peaks - beat).min() < 0.05
            found, missed = found + near, missed + (not near)
    assert found / (found + missed) > 0.9


def test_pulse_rises_steepest_at_its_arrival():
    rhythm = draw_rhythm(60, 22, generator(3), {"sinus": 1.0}, rate_bpm=(50, 70))
    pulse = draw_pulse(rhythm, 2048, 100, generator(3))
    slope = torch.gradient(pulse.ppg, dim=1)[0]
    at = ((rhythm.time + pulse.arrival) * 100).round().long()
    errors = []
    for row in range(60):
        for place in at[row][(at[row] > 300) & (at[row] < 1700)]:
            near = slope[row, place - 25 : place + 26]
            errors.append(abs(int(near.argmax()) - 25))
    assert np.median(errors) <= 3


def test_impulses_keep_weight_and_place():
    train = impulses(torch.tensor([[0.105, 0.5, 99.0]]), torch.tensor([[1.0, 2.0, 3.0]]), 200, 100)
    assert train[0, 10].item() == pytest.approx(0.5, abs=1e-4)
    assert train[0, 11].item() == pytest.approx(0.5, abs=1e-4)
    assert train[0, 50].item() == pytest.approx(
        2, abs=1e-3
    ) and train.sum().item() == pytest.approx(3, abs=1e-3)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_rows_that_are_left_out_change_no_other(share):
    """What only some windows have is made for these alone, from draws for all."""
    wanted = low_frequencies(6, 400, 100, generator(1))
    rows = torch.tensor([4, 1])
    torch.testing.assert_close(low_frequencies(6, 400, 100, generator(1), rows=rows), wanted[rows])
    rate = torch.full((6,), 1.2)
    wanted = cadence(6, 400, 100, rate, generator(2))
    torch.testing.assert_close(cadence(6, 400, 100, rate, generator(2), rows), wanted[rows])
    marked = stretch_of(50, 400, 100, generator(3), share, 0.5, 2)
    rows, inside = some_stretches(50, 400, 100, generator(3), share, 0.5, 2)
    assert torch.equal(marked[rows], inside) and marked.sum() == inside.sum()
    assert len(rows) / 50 == pytest.approx(share, abs=0.15)


def test_bank_has_every_rhythm():
    bank = read_bank()
    assert set(np.unique(bank.rhythm)) == set(range(len(CLASSES)))
    assert (bank.kind == 1).any() and (bank.kind == 2).any()
    assert 0.02 < np.mean([held_out(str(k)) for k in range(2000)]) < 0.2


@pytest.mark.parametrize("fault", ["missing", "cut", "shapes", "intervals"])
def test_damaged_banks_are_refused(fault, tmp_path):
    bank, path = read_bank(), tmp_path / "bank.npz"
    rr = bank.rr_ms[:, :100] if fault == "shapes" else bank.rr_ms
    rr = rr * 0 + 9000 if fault == "intervals" else rr
    if fault != "missing":
        np.savez(path, rr_ms=rr, kind=bank.kind, rhythm=bank.rhythm)
    if fault == "cut":
        path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(UserError, match="rhythm bank"):
        read_bank(str(path))


@pytest.mark.parametrize("setting", [{"stream": 1.5}, {"flip": -0.1}, {"motion": 2}])
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(UserError, match="share"):
        Twin(**setting)


def test_people_are_recordings_like_any_other(tmp_path):
    from xmae.cli import main
    from xmae.data.store.store import WindowStore

    folder, store = tmp_path / "people", tmp_path / "store"
    assert main(["twin", "--people", "2", "--minutes", "1.5", "--rhythm", "sinus", "--motion", "0",
                 "--out", str(folder)]) == 0  # fmt: skip
    split = tmp_path / "split.csv"
    split.write_text("subject,split\ntwin77_0001,train\ntwin77_0002,val\n")
    assert (
        main(
            [
                "prepare",
                str(folder),
                "--min-quality",
                "-1",
                "--split",
                str(split),
                "--out",
                str(store),
            ]
        )
        == 0
    )
    windows = WindowStore(store).windows()
    assert len(windows) >= 14 and windows.ecg is not None
    with np.load(folder / "person_0001.npz") as person:
        beats = person["beats_s"]
    mine = windows.subject == "twin77_0001"
    truth = windows.beats[mine]
    assert np.isfinite(truth[:, 2]).mean() > 0.6
    for row, number in zip(truth, range(len(truth)), strict=True):
        for beat in row[np.isfinite(row)]:
            assert np.abs(beats - (10 * number + beat)).min() < 0.06


@pytest.mark.parametrize(
    "setting", [["--people", "0"], ["--minutes", "0.1"], ["--rhythm", "waltz"], ["--motion", "2"]]
)
def test_people_that_cannot_be_made_are_refused(setting, tmp_path, capsys):
    from xmae.cli import main

    assert main(["twin", *setting, "--out", str(tmp_path / "people")]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_people_in_motion_are_whole():
    twin = Twin(ecg=False, stream=0.5, motion=0.8, acc=True, family="wrist")
    windows = twin.draw(128, generator(8))
    assert windows.acc.shape == (128, 3, 1000) and windows.acc.abs().max() <= 1
    assert torch.isfinite(windows.acc).all() and torch.isfinite(windows.ppg).all()
    assert timing_target(windows.pulses, 250)[1].float().mean() > 0.98
    loud = windows.acc.abs().amax((1, 2))
    assert (loud > 0.5).float().mean() > 0.4 and (loud < 0.2).float().mean() > 0.1


@pytest.mark.parametrize("ratio", [0.5, 1.0, 2.0])
def test_cadence_can_sit_on_the_pulse_its_half_and_its_double(ratio):
    person = draw_person(90, generator(5), RHYTHMS["sinus"], True, 0.0, ratio=ratio)
    beats, steps = person["beats_s"], np.isin(person["activity"], (3, 4, 5))
    late = beats > beats[-1] - 20
    rate = 1 / np.median(np.diff(beats[late]))
    assert steps[-500:].all()
    assert np.median(person["cadence_hz"][-250:]) / rate == pytest.approx(ratio, rel=0.15)


@pytest.mark.parametrize(
    ("name", "bpm", "ratios"), [("walk", 120, {0.5, 1}), ("run", 80, {2}), ("run", 150, {1})]
)
def test_training_ties_a_cadence_where_a_person_can_move_at_it(name, bpm, ratios):
    activity = torch.full((400, 5), ACTIVITIES.index(name))
    free = torch.full((400, 5), 9.0)
    tied = tie(activity, free, torch.full((400, 1), bpm / 60), generator(9))[:, 0] / (bpm / 60)
    changed = tied[tied < 3]
    assert 0.5 < len(changed) / 400 < 0.7
    nearest = {min((0.5, 1, 2), key=lambda ratio: abs(float(x) / ratio - 1)) for x in changed}
    assert nearest == ratios


def test_the_pulse_follows_effort_with_its_lag():
    outing = draw_outing(200, generator(2), plan=[("rest", 60), ("run", 140)])
    rate = outing.rate[0].numpy()
    at = lambda second: rate[25 * second - 50 : 25 * second].mean()
    assert at(190) > at(58) + 15
    assert at(66) < (at(58) + at(190)) / 2 < at(150)


def test_movement_reaches_the_ppg_and_can_hide_the_pulse():
    g = generator(4)
    walking = torch.full((64, 512), 3)
    moved = move(walking, torch.full((64, 512), 1.8), g)
    spectrum = torch.fft.rfft(moved.artefact - moved.artefact.mean(1, keepdim=True)).abs().mean(0)
    hertz = torch.fft.rfftfreq(2048, 0.01)
    steps = ((hertz / 0.9 - (hertz / 0.9).round()).abs() < 0.15) & (hertz > 0.6) & (hertz < 6)
    between = ~steps & (hertz > 0.6) & (hertz < 6)
    assert spectrum[steps].mean() > 2 * spectrum[between].mean()
    assert moved.artefact.std(1).max() > 2 and moved.artefact.std(1).min() < 0.5


class OnDefaultDevice(TorchFunctionMode):
    """Note the functions that make a tensor of nothing and would not follow a device's context."""

    def __init__(self):
        super().__init__()
        self.elsewhere = set()

    def __torch_function__(self, function, types, args=(), kwargs=None):
        made, given = function(*args, **(kwargs or {})), tree_leaves([args, kwargs])
        of_nothing = not any(isinstance(x, torch.Tensor) for x in given)
        if isinstance(made, torch.Tensor) and of_nothing and function not in _device_constructors():
            self.elsewhere.add(function.__name__)
        return made


@pytest.mark.parametrize("acc", [False, True])
def test_all_of_a_window_is_made_on_the_default_device(acc):
    """So a GPU's context is enough; no GPU is needed to test it."""
    with OnDefaultDevice() as mode:
        twin = Twin(ecg=True, stream=0.5, aligned=True, acc=acc)
        twin.draw(16, twin.generator(1))
    assert not mode.elsewhere


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_makes_windows_too():
    twin = Twin(ecg=True, stream=0.5, aligned=True, acc=True, device="cuda")
    windows = twin.draw(64, twin.generator(1))
    assert all(part.device.type == "cuda" for part in windows if part is not None)
    assert windows.ppg.abs().max() <= 1 and windows.readable.float().mean() > 0.5


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"flip": 1.5}, "flip is a share between 0 and 1, not 1.5"),
        ({"shares": {"bank": -0.5}}, "bank is a share between 0 and 1, not -0.5"),
        ({"shares": {"motion": 0.5}}, "unknown rhythm 'motion'"),
        ({"family": "square"}, "unknown family 'square'"),
    ],
)
def test_a_setting_out_of_range_is_said(settings, said):
    with pytest.raises(UserError, match=said):
        Twin(**settings)
