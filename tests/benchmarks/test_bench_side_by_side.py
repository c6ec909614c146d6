"""What the encoders are compared with: sizes as stated, heart rates that are right, the untrained
named as such.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import mean_absolute_error

from xmae.benchmarks.studies.published_encoders import (
    PAPAGEI_SHAPE,
    TIMEPPG_SHAPE,
    TIMEPPG_SIZES,
    PaPaGeiS,
    TimePPGLike,
)
from xmae.benchmarks.studies.side_by_side import (
    error,
    network_size,
    neurokit_rate,
    on,
    page,
    untrained,
)


@pytest.mark.parametrize(
    ("module", "shape", "stated", "out"),
    [
        (PaPaGeiS(), PAPAGEI_SHAPE, 5.7e6, (1, 512)),
        (TimePPGLike(*TIMEPPG_SIZES["seed"]), TIMEPPG_SHAPE, 238e3, (1, 1)),
        (TimePPGLike(*TIMEPPG_SIZES["smallest"]), TIMEPPG_SHAPE, 5e3, (1, 1)),
    ],
)
def test_rebuilt_models_have_their_stated_size(module, shape, stated, out):
    assert network_size(module, shape)["parameters"] == pytest.approx(stated, rel=0.02)
    with torch.no_grad():
        made = untrained(module, shape)["run"](None)
    assert (made[0] if isinstance(made, tuple) else made).shape == out


def test_papagei_halves_the_time_nine_times():
    lengths = []
    module = PaPaGeiS().eval()
    for block in module.blocks[:18]:
        block.register_forward_hook(lambda _, args, out: lengths.append(out.shape[1:]))
    with torch.no_grad():
        module(torch.zeros(PAPAGEI_SHAPE))
    assert lengths[0] == (32, 1250) and lengths[-1] == (512, 3)
    assert len({length for _, length in lengths}) == 10 and {width for width, _ in lengths} == {
        32,
        64,
        128,
        256,
        512,
    }


def test_neurokit_finds_the_rate_of_pulses():
    time = np.arange(1000) / 100
    ppg = np.exp(-(((time * 1.25) % 1 - 0.3) ** 2) / 0.01)  # 75 a minute
    assert neurokit_rate(ppg[None]) == pytest.approx(75, abs=1)
    assert np.isnan(neurokit_rate(np.zeros((1, 1000)))).all()


def test_the_error_is_over_labelled_windows_and_its_interval_over_patients():
    rng = np.random.default_rng(0)
    truth, rate = rng.normal(80, 9, 60), rng.normal(80, 9, 60)
    truth[:3] = np.nan
    found = error(
        SimpleNamespace(labels={"hr_ecg": truth}, subject=np.repeat(list("abcdef"), 10)), rate
    )
    rows = [slice(3, 10), *(slice(k, k + 10) for k in range(10, 60, 10))]  # a subject each
    means = [mean_absolute_error(truth[part], rate[part]) for part in rows]
    assert found["error"] == pytest.approx(np.mean(means))
    assert found["error_interval"][0] < found["error"] < found["error_interval"][1]


def test_each_model_gets_the_window_as_it_wants_it():
    scaled, raw = np.zeros((3, 1000)), np.arange(3)[:, None] * np.ones(1000)
    for wants, expected in ((True, 0), (False, 2)):
        assert (
            on({"run": lambda ppg: ppg, "scaled": wants}, scaled, raw)(np.array([[2]])).mean()
            == expected
        )


def test_the_table_says_who_is_untrained():
    timed = {
        "cpu_ms": 8.0,
        "cpu_interval": [7.5, 8.5],
        "relative": 1.0,
        "relative_interval": [0.9, 1.1],
    }
    timed |= {
        "latency_ms": 9.0,
        "latency_interval": [8.0, 10.0],
        "parameters": 5,
        "bytes": 2000,
        "macs": 3e6,
    }
    rows = [
        {"name": "trained", "error": 4.0, "error_interval": [3.0, 5.0]} | timed,
        {"name": "rebuilt"} | timed,
    ]
    about = {
        "windows": 9,
        "subjects": 8,
        "rounds": 2,
        "load": (1.0, 2.0),
        "compile_s": 3.0,
        "silent": {"NeuroKit2": 2},
    }
    text = page(rows, about)
    assert (
        "| trained | 5 | 2 | 3.00 | 8 (7.5 to 8.5) | 1 (0.9 to 1.1) | 9 | 4.00 (3 to 5) |" in text
    )
    assert "| untrained: cost only |" in text and "NeuroKit2: 2 windows" in text
