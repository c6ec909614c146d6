"""The tier without a network: the same bits in Python and C, within its flash and RAM, and right on
plain pulses.
"""

import subprocess
from itertools import chain

import numpy as np
import pytest

from xmae.beats.certainty import shipped_certainty
from xmae.data.bidmc import bidmc_files
from xmae.export.stream import Stream
from xmae.export.targets.c.dsp import SHORTEST, DspTier, square_root
from xmae.export.targets.c.dsp_source import dsp_texts
from xmae.firmware_sim.build.compile import BOARDS, KERNELS, compile_firmware, compile_host
from xmae.firmware_sim.play_beats import encoded, pushes_of, results_of

LIBRARY = KERNELS.parent / "library"
SOURCES = (*sorted(LIBRARY.glob("src/*.c")), BOARDS / "stream_codes.c")
DEFINES = (
    'MODEL_HEADER="xmae/xmae_model_dsp.h"', "MODEL_BYTES=XMAE_MODEL_DSP_BYTES",
    "MODEL=xmae_model_dsp",
)  # fmt: skip
FLASH, RAM = 10 * 1024, 4 * 1024  # bytes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dsp")
    for name, text in dsp_texts(shipped_certainty("dsp")).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def files_of(folder):
    return {
        "sources": [*SOURCES, folder / "models" / "xmae_model_dsp.c"],
        "include": [LIBRARY / "include", LIBRARY / "src", folder / "include"],
        "defines": DEFINES,
    }


@pytest.fixture(scope="module")
def host(folder):
    """Return the library on this machine, under sanitizers."""
    made = files_of(folder)
    shim = BOARDS.parents[1] / "tests" / "fixtures" / "host_semihost.c"
    return compile_host(
        [*made["sources"], shim], folder / "host", include=[*made["include"], BOARDS],
        defines=made["defines"], shared=False, sanitize=True,
    )  # fmt: skip


def recording(name, seconds, sfreq, bits):
    path = next(path for path in bidmc_files() if path.stem == name)
    with np.load(path) as file:
        ppg = file["ppg"].ravel().astype(float)
    at = np.arange(int(seconds * sfreq)) / sfreq
    signal = np.interp(at, np.arange(len(ppg)) / 125, ppg)
    share = (signal - signal.min()) / np.ptp(signal)
    return np.rint((0.1 + 0.8 * share) * ((1 << bits) - 1))


@pytest.mark.parametrize(
    ("sfreq", "bits", "name"), [(25, 8, "bidmc01"), (100, 24, "bidmc43"), (333.3, 12, "bidmc05")]
)
def test_c_gives_the_bits_of_stream(host, sfreq, bits, name):
    codes = recording(name, 40, sfreq, bits)
    codes[int(20 * sfreq) : int(23 * sfreq)] = np.nan  # lost
    codes[-int(4 * sfreq) :] = codes[-int(4 * sfreq)]
    pushes = pushes_of(codes, sfreq)
    stream = Stream("dsp", sfreq, bits)
    expected = list(chain.from_iterable(stream.push(part, lost) for part, lost in pushes))
    (host.parent / "in.bin").write_bytes(encoded(sfreq, bits, False, 1, pushes))
    subprocess.run([host], cwd=host.parent, check=True, capture_output=True)
    assert results_of((host.parent / "out.bin").read_bytes()) == expected
    assert any(result.rate for result in expected) and any(result.beats for result in expected)


def test_flash_and_ram_are_kept(folder, tmp_path):
    made = files_of(folder)
    firmware = compile_firmware(
        made["sources"],
        "m4",
        tmp_path / "dsp.elf",
        include=made["include"],
        defines=made["defines"],
    )
    assert "xmae_conv" not in firmware.symbols  # the network's kernels are left out
    assert firmware.sizes["flash"] <= FLASH  # with startup code and what reads the files
    assert firmware.symbols["stream"][1] + firmware.symbols["memory"][1] <= RAM


@pytest.mark.parametrize("bpm", [36, 60, 95, 150, 200])
def test_plain_pulses_are_counted(bpm):
    t = np.arange(30 * 50) / 50
    phase = 2 * np.pi * bpm / 60 * t
    pulse = np.sin(phase) + 0.4 * np.sin(2 * phase - 1)
    found = Stream("dsp", 50).push(np.rint(30000 + 5000 * pulse).astype(int))
    rates = [result.rate / 100 for result in found if result.rate]
    assert len(rates) >= 15 and abs(np.median(rates) - bpm) < 0.02 * bpm


def test_silence_gives_no_beats():
    tier = DspTier()
    codes = np.concatenate([tier.push(np.zeros(100, np.int8)) for _ in range(12)])
    assert not codes[:, :2].any() and tier.length == 0


def test_an_inverted_pulse_has_the_same_period():
    t = np.arange(1200) / 100
    wave = np.rint(90 * np.sin(2 * np.pi * 1.25 * t)).astype(np.int8)
    tiers = DspTier(), DspTier()
    for second in range(12):
        part = wave[100 * second : 100 * second + 100]
        for tier, sign in zip(tiers, (1, -1), strict=True):
            tier.push(sign * part)
    assert tiers[0].lag == tiers[1].lag == 20 >= SHORTEST


@pytest.mark.parametrize("n", [0, 1, 3, 4, 7936])
def test_square_roots_are_whole(n):
    assert square_root(n) == int(np.sqrt(n))
