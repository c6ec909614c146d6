"""The watch's check for a pulse: real ones pass, what is none does not, and the C code decides as
Python does.
"""

import ctypes

import numpy as np

from xmae.benchmarks.studies.pulse_check import WITHOUT_PULSE, codes_of, real_windows
from xmae.data.bidmc import bidmc_files
from xmae.data.recording.readers import read_recording
from xmae.firmware_sim.build.compile import compile_host
from xmae.firmware_sim.build.generate import SOURCES, write_firmware
from xmae.signals.stream import has_pulse, stream_windows

# of training and validation; the last with an irregular pulse
PATIENTS = ("bidmc02", "bidmc05", "bidmc01", "bidmc53")
AMPLE = 2**20


def real_and_other_windows():
    """Return int8 windows of four patients, and of signals without a pulse."""
    random, files = np.random.default_rng(1), {path.stem: path for path in bidmc_files()}
    real, other = [real_windows(read_recording(files[name]))[0] for name in PATIENTS], []
    for rate in (25, 64, 125):
        times = np.arange(600 * rate) / rate
        other += [
            stream_windows(np.rint(signal(times, random)), rate)[0]
            for signal in WITHOUT_PULSE.values()
        ]
    return np.concatenate(real), codes_of(np.concatenate(other))


def test_pulses_are_told_from_noise_and_c_decides_as_python(watch_bundle, tmp_path):
    write_firmware(watch_bundle, tmp_path, AMPLE, AMPLE)
    sources = [SOURCES / "pulse.c"]
    library = ctypes.CDLL(
        str(compile_host(sources, tmp_path / "pulse.so", include=[tmp_path], kernels=False))
    )
    real, other = real_and_other_windows()
    # between the two: near the thresholds
    share = np.random.default_rng(2).uniform(size=(len(real), 1))
    mixed = np.rint(share * real + (1 - share) * other[: len(real)]).astype(np.int8)
    extreme = np.stack(
        [np.full(1000, -128), np.full(1000, 127), np.arange(1000) // 40 % 2 * 255 - 128]
    ).astype(np.int8)
    for windows, low, high in (
        (real, 0.98, 1),
        (other, 0, 0.01),
        (mixed, 0.1, 0.9),
        (extreme, 0, 1),
    ):
        expected = has_pulse(windows)
        assert low <= expected.mean() <= high
        said = [
            library.has_pulse(np.ascontiguousarray(one).ctypes.data_as(ctypes.c_void_p))
            for one in windows
        ]
        assert np.array_equal(np.array(said, bool), expected)
