"""libxmae against `xmae.Stream`: every field of every result the same bits, on this machine and on
emulated cores.

The model is an untrained `BeatStudent("mcu")`, quantised by LiteRT on 16 generated windows; the
zero point of its input was then set to 0. Its beats mean nothing, but there are many of them.
"""

import subprocess
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from xmae.beats.certainty import Certainty
from xmae.export.stream import Stream
from xmae.export.targets.c.library import library_model
from xmae.export.targets.c.model_source import model_texts
from xmae.firmware_sim.build.compile import BOARDS, KERNELS, compile_firmware, compile_host
from xmae.firmware_sim.emulators.qemu import have_qemu, run_qemu

FIXTURES = Path(__file__).parents[1] / "fixtures"
MODEL = FIXTURES / "beat_student_untrained.tflite"
LIBRARY = KERNELS.parent / "library"
INCLUDE = (LIBRARY / "include", LIBRARY / "src")
SOURCES = (*sorted(LIBRARY.glob("src/*.c")), BOARDS / "stream_codes.c")
DEFINES = (
    'MODEL_HEADER="xmae/xmae_model_untrained.h"',
    "MODEL_BYTES=XMAE_MODEL_UNTRAINED_BYTES",
    "MODEL=xmae_model_untrained",
)
TABLE = Certainty(np.arange(2000, 400, -100), 100)  # so that this model says something
CASES = [  # Hz, bits, inverted, hop in s
    (25, 8, 1, 1), (31.25, 16, 0, 1), (50, 12, 0, 2), (64, 16, 0, 1), (100, 24, 1, 1),
    (125, 18, 0, 7), (333.3, 10, 1, 3), (500, 24, 0, 1),
]  # fmt: skip


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    """Return a folder with the C files of the model."""
    folder = tmp_path_factory.mktemp("model")
    for name, text in model_texts(library_model(MODEL, TABLE, "untrained")).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def sources(folder):
    return [*SOURCES, folder / "models" / "xmae_model_untrained.c"]


@pytest.fixture(scope="module")
def host(model_folder):
    """Return the library on this machine, under sanitizers."""
    return compile_host(
        [*sources(model_folder), FIXTURES / "host_semihost.c"],
        model_folder / "host",
        include=[*INCLUDE, model_folder / "include", BOARDS],
        defines=DEFINES,
        shared=False,
        sanitize=True,
    )


def bidmc(number):
    """Return PPG of a shipped recording at 125 Hz."""
    with np.load(KERNELS.parents[3] / "xmae" / "data" / "bidmc" / f"bidmc{number:02d}.npz") as file:
        return file["ppg"].ravel().astype(float)


def static_ride():
    """Return PPG of the small copy of a smart ring's recording at 50 Hz."""
    with np.load(FIXTURES / "ncku_static.npz") as file:
        return file["ppg"].ravel().astype(float)


def as_codes(ppg, own_sfreq, sfreq, bits, seconds):
    """Return the codes of a recording as a converter of another rate and width gives them; some at
    its rails, some flat.
    """
    at = np.arange(int(seconds * sfreq)) / sfreq
    signal = np.interp(at, np.arange(len(ppg)) / own_sfreq, ppg)
    low, high = signal.min(), signal.max()
    signal = np.clip(1.05 * (signal - low) / (high - low) - 0.02, 0, 1)
    codes = np.rint(signal * ((1 << bits) - 1)).astype(np.int64)
    half = len(codes) // 2
    codes[half : half + int(5 * sfreq)] = codes[half]
    return codes


def in_pieces(codes, sfreq, seed):
    """Cut codes into pushes of random sizes: (codes, lost before them)."""
    rng = np.random.default_rng(seed)
    pushes, at = [], 0
    while at < len(codes):
        n = int(rng.choice([0, 1, 7, 40, 200, 1500]))
        lost = int(rng.choice([0, 0, 0, 0, 3, 30, int(2.5 * sfreq)], p=[0.19] * 5 + [0.04, 0.01]))
        pushes.append((codes[at : at + n], lost))
        at += n
    return pushes


def encoded(sfreq, bits, inverted, hop_s, pushes):
    """Return in.bin of boards/stream_codes.c."""
    head = [round(1000 * sfreq), bits, inverted, hop_s]
    parts = [np.array([lost, len(codes), *codes]) for codes, lost in pushes]
    return np.concatenate([head, *parts]).astype("<i4").tobytes()


def as_rows(results):
    """Return results as boards/stream_codes.c writes them."""
    rows = []
    for r in results:
        beats = list(chain.from_iterable(r.beats))
        beats += [-1, 0] * (40 - len(r.beats))
        rows.append(
            [
                r.time,
                r.rate,
                r.low,
                r.high,
                r.certainty,
                r.irregularity,
                r.rhythm,
                r.lost,
                r.saturated,
                r.status,
            ]
            + beats
        )
    return np.array(rows, np.int64).reshape(-1, 90)


def as_python(sfreq, bits, inverted, hop_s, pushes):
    """Return the rows that `Stream` gives."""
    stream = Stream(MODEL, sfreq, bits, hop_s, bool(inverted), TABLE)
    return as_rows(list(chain.from_iterable(stream.push(codes, lost) for codes, lost in pushes)))


def as_host(host, *case):
    """Return the rows that the library gives on this machine."""
    (host.parent / "in.bin").write_bytes(encoded(*case))
    subprocess.run([host], cwd=host.parent, check=True, capture_output=True)
    return np.frombuffer((host.parent / "out.bin").read_bytes(), "<i8").reshape(-1, 90)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]} Hz, {case[1]} bits")
def test_c_library_gives_the_bits_of_stream(host, case):
    number = CASES.index(case)
    codes = as_codes(bidmc(number + 1), 125, case[0], case[1], 45)
    case = (*case, in_pieces(codes, case[0], number))
    expected = as_python(*case)
    np.testing.assert_array_equal(as_host(host, *case), expected)
    assert len(expected) >= 43 // case[3]  # 1.1 s of look-ahead are still to come


def test_recordings_that_are_compared_say_something(host):
    codes = as_codes(static_ride(), 50, 50, 16, 60)
    case = (50, 16, 0, 1, [(codes, 0)])
    rows = as_host(host, *case)
    np.testing.assert_array_equal(rows, as_python(*case))
    assert (rows[:, 1] > 0).sum() > 5  # heart rates
    assert (rows[:, 10] >= 0).sum() > 20  # seconds with beats
    assert len(np.unique(rows[:, 9])) > 2  # reasons


def test_a_gap_before_the_first_code_stands_for_it(host):
    case = (25, 10, 0, 1, [(np.array([700]), 20), (np.full(300, 700), 0)])
    np.testing.assert_array_equal(as_host(host, *case), as_python(*case))


@pytest.mark.slow
@pytest.mark.skipif(not have_qemu(), reason="qemu-system-arm is not installed")
@pytest.mark.parametrize(
    "core",
    ["m4", *(pytest.param(core, marks=pytest.mark.extended) for core in ("m33", "m7", "m55"))],
)
def test_every_core_gives_the_bits_of_stream(core, model_folder, tmp_path):
    firmware = compile_firmware(
        sources(model_folder), core, tmp_path / "stream.elf",
        include=[*INCLUDE, model_folder / "include"], defines=DEFINES
    )  # fmt: skip
    for number, (sfreq, bits, inverted, hop_s) in enumerate(CASES[::3]):
        codes = as_codes(bidmc(number + 10), 125, sfreq, bits, 20)
        case = (sfreq, bits, inverted, hop_s, in_pieces(codes, sfreq, number))
        run = run_qemu(firmware, {"in.bin": encoded(*case)})
        assert run.exit_code == 0
        rows = np.frombuffer(run.files["out.bin"], "<i8").reshape(-1, 90)
        np.testing.assert_array_equal(rows, as_python(*case))
