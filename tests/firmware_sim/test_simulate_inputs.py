"""What `xmae simulate` plays: the channel that a map names, the right way up, at a whole rate."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from xmae.benchmarks import simulate as module
from xmae.data.bidmc import bidmc_files
from xmae.data.recording.readers import read_recording
from xmae.firmware_sim.cost.profile import load_device
from xmae.firmware_sim.frontend import front_end_rate


class Played(Exception):
    """Raised instead of playing."""


@pytest.fixture
def played(monkeypatch, tmp_path):
    """Return a function of settings: codes and rate that would be played from a file of this
    PPG.
    """
    device = [(load_device("apollo4"), "unicorn")]
    monkeypatch.setattr(module, "chosen_devices", lambda *names: (device, {}))
    opened = SimpleNamespace(reads_beats=lambda model: False, manifest=SimpleNamespace(c=None))
    monkeypatch.setattr(module.Bundle, "open", lambda *arguments: opened)

    def stop(bundle, profile, emulator, codes, place, rate, *others):
        raise Played(codes, rate)

    monkeypatch.setattr(module, "play", stop)

    def run(columns, **settings):
        pd.DataFrame(columns).to_csv(tmp_path / "watch.csv", index=False)
        (tmp_path / "map.yaml").write_text("ppg: LED 2\n")
        with pytest.raises(Played) as caught:
            module.simulate("bundle", "apollo4", str(tmp_path / "watch.csv"),
                            str(tmp_path / "out"), **settings)  # fmt: skip
        return caught.value.args

    return run


@pytest.fixture(scope="module")
def ppg():
    """Return 40 s of a shipped recording at 125 Hz."""
    return read_recording(bidmc_files()[0]).ppg[: 40 * 125]


def corr(a, b):
    n = min(len(a), len(b))
    return np.corrcoef(a[:n], b[:n])[0, 1]


def test_the_channel_of_the_map_is_played(played, ppg, tmp_path):
    time, other = np.arange(len(ppg)) / 125, np.roll(ppg, 300)
    columns = {"time": time, "LED 1": other, "LED 2": ppg}
    codes, rate = played(columns, channels=str(tmp_path / "map.yaml"))
    assert rate == 125 and corr(codes, ppg) > 0.999


def test_polarity(played, ppg):
    """Pulses that fall are turned over; who says "upright" gets them as they are."""
    columns = {"time": np.arange(len(ppg)) / 125, "ppg": -ppg}
    assert corr(played(columns)[0], ppg) > 0.999
    assert corr(played(columns, polarity="upright")[0], ppg) < -0.999
    assert corr(played(columns, polarity="inverted")[0], ppg) > 0.999


def test_rates_off_a_whole_number_by_rounding_are_that(played, ppg):
    time = np.arange(len(ppg)) / 64.0001
    assert played({"time": time, "ppg": ppg})[1] == 64
    assert front_end_rate(64.0001) == 64 and front_end_rate(64.3) == 100
    result = {"front_end": {"sfreq": 64}, "devices": {}, "failures": {}}
    recording = type("Recording", (), {"sfreq": 64.0001, "repairs": ["inverted_ppg"]})
    (line,) = module.summary_of(result, recording)
    assert (
        line
        == "played at 64 Hz (the recording has 64.0001 Hz), turned over: its pulses fell at systole"
    )
