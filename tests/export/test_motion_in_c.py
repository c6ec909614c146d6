"""PPG and acceleration in C against `xmae.MotionStream`: the same bits, under sanitizers."""

import subprocess

import numpy as np
import pytest

from xmae.beats.certainty import shipped_certainty
from xmae.beats.tracker import shipped_tracker
from xmae.errors import UserError
from xmae.export.motion_stream import MotionStream
from xmae.export.stream import int8_file
from xmae.export.targets.c.library import library_model
from xmae.export.targets.c.motion_source import motion_model, motion_texts
from xmae.firmware_sim.build.compile import KERNELS, compile_host
from xmae.twin.traps import make, with_echo

LIBRARY = KERNELS.parent / "library"
FIXTURES = KERNELS.parents[3] / "tests" / "fixtures"
STUDENT = "student-motion"
FIELDS = (
    "time", "rate", "low", "high", "certainty", "status", "activity", "followed", "belief",
    "irregularity", "rhythm", "lost", "saturated",
)  # fmt: skip
MOST_BEATS = 6


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    folder = tmp_path_factory.mktemp("motion")
    certainty, tracker = shipped_certainty(STUDENT), shipped_tracker()
    model = motion_model(int8_file(STUDENT), certainty, tracker, STUDENT)
    for name, text in motion_texts(model).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    sources = [*sorted(LIBRARY.glob("src/*.c")), *folder.glob("models/*.c")]
    return compile_host(
        [*sources, FIXTURES / "host_motion.c"],
        folder / "host",
        include=[LIBRARY / "include", LIBRARY / "src", folder / "include"],
        shared=False,
        sanitize=True,
    )


def row_of(result):
    """Return every field of a result, and its beats, as the program writes them."""
    beats = np.zeros(2 * MOST_BEATS, np.int64)
    flat = np.ravel(result.beats).astype(np.int64)
    beats[: len(flat)] = flat
    return [*(getattr(result, name) for name in FIELDS), len(result.beats), *beats]


def person(sfreq, acc_sfreq, seconds=36):
    """Return someone who rests, then shakes an arm harder and harder: codes of PPG, and of 1/2048
    g.
    """
    rng = np.random.default_rng(4)
    t, at = np.arange(sfreq * seconds) / sfreq, np.arange(acc_sfreq * seconds) / acc_sfreq
    arm = lambda t: np.clip((t - 12) / 10, 0, 1.5) * np.sin(2 * np.pi * 2.1 * t)
    pulse = np.sin(2 * np.pi * 1.4 * t) + 0.4 * np.sin(2 * np.pi * 2.8 * t)
    ppg = 30000 + 2000 * (pulse + arm(t) + 0.1 * rng.standard_normal(len(t)))
    acc = np.stack([0.5 * arm(at), -0.2 * arm(at), 1 - 0.1 * arm(at)])
    acc = 2048 * (acc + 0.005 * rng.standard_normal(acc.shape))
    return np.rint(ppg).astype(np.int64), np.rint(acc).astype(np.int64)


@pytest.mark.parametrize(
    ("sfreq", "acc_sfreq", "case"), [(100, 50, "late"), (64, 32, "none"), (100, 50, "mixed")]
)
def test_motion_in_c_gives_the_bits_of_python(host, sfreq, acc_sfreq, case):
    ppg, acc = person(sfreq, acc_sfreq)
    if case == "mixed":  # a second wave half a beat later: the beats are sure, and doubted
        trap = make("echo", bpm=64, change=with_echo, seed=104)
        ppg = trap.codes[: len(ppg)]
    stream = MotionStream(STUDENT, sfreq, acc_sfreq=acc_sfreq, one_g=2048)
    said, doubt = [], stream.periods.doubt
    stream.periods.doubt = lambda *given: said.append(doubt(*given)) or said[-1]
    data, expected = [np.array([1000 * sfreq, 16, 1, 1000 * acc_sfreq, 2048])], []
    step, acc_step = sfreq // 2, acc_sfreq // 2
    for k in range(len(ppg) // step):
        codes, axes = ppg[step * k : step * (k + 1)], acc[:, acc_step * k : acc_step * (k + 1)]
        if case == "none" or 40 <= k < 44:  # an accelerometer that never was there, or that stops
            axes = axes[:, :0]
        if case == "late" and k == 44:
            axes = acc[:, acc_step * 40 : acc_step * 45]
        lost = 7 * (k == 30)
        data += [np.array([axes.shape[1], lost, len(codes)]), axes.T.ravel(), codes]
        if axes.shape[1]:
            stream.accelerate(axes)
        expected += stream.push(codes, lost)
    (host.parent / "in.bin").write_bytes(np.concatenate(data).astype("<i4").tobytes())
    ran = subprocess.run([host], cwd=host.parent, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    found = np.frombuffer((host.parent / "out.bin").read_bytes(), "<i8")
    found = found.reshape(-1, len(FIELDS) + 1 + 2 * MOST_BEATS)
    wanted = np.array([row_of(result) for result in expected])
    np.testing.assert_array_equal(found, wanted)
    assert len(found) > 30 and (found[:, 1] > 0).any()
    if case == "mixed":
        assert sum(said) > 3 and (found[-10:, 6] > 50).all()
        return
    assert (found[:, 6].max() > 300) == (case == "late") and (found[:, 6] == -1).any() == (
        case == "none"
    )


def test_models_say_what_they_take():
    with pytest.raises(UserError, match="4 channels here"):
        motion_model(int8_file("beats-mcu"), shipped_certainty(), shipped_tracker(), "x")
    with pytest.raises(UserError, match="one channel"):
        library_model(int8_file(STUDENT), shipped_certainty(), "x")
