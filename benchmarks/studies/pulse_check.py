"""How often the watch's check for a pulse is wrong: on real windows, and on signals without one.

    python -m xmae.benchmarks.studies.pulse_check [--out benchmarks/results]

The check is `xmae.signals.stream.has_pulse`, which the firmware repeats bit for bit. Its thresholds
were chosen on the training and validation subjects of the shipped recordings; test subjects are
only reported.
"""

from collections import defaultdict

import numpy as np
import pandas as pd

from xmae.benchmarks.studies.runner import run_study
from xmae.data.bidmc import FOLDER, SHIPPED_SPLIT, bidmc_files
from xmae.data.prepare.prepare import prepare_recording
from xmae.data.recording.readers import read_recording
from xmae.export.targets.session import to_int8
from xmae.firmware_sim.frontend import digitise
from xmae.signals.stream import BUFFER_S, has_pulse, stream_windows
from xmae.signals.window import WINDOW_S
from xmae.tables import markdown_table

RATES = (25, 50, 64, 100, 125)  # Hz: of the front end, for signals without a pulse
EACH = 200  # of them at each rate
HOP_S, LEVEL, BITS = 5, 100_000, 18
QUALITIES = {"all windows": -np.inf, "quality 0.5 and more": 0.5, "0.8 and more": 0.8}


def sensor(t, random):
    """Simulate a sensor in the dark: noise of 2 codes, codes (n,)."""
    return LEVEL + random.normal(0, 2, len(t))


def wave(shape, low, high):
    """Make a function that draws a periodic signal of 20,000 codes, with a frequency from `low` to
    `high` Hz and any phase.
    """

    def signal(t, random):
        return sensor(t, random) + 2e4 * shape(
            2 * np.pi * (random.uniform(low, high) * t + random.uniform())
        )

    return signal


def spikes(least, most):
    """Make a function that draws single samples that are 20,000 codes too high."""

    def signal(t, random):
        at = random.integers(0, len(t), random.integers(least, most + 1))
        return sensor(t, random) + 2e4 * np.isin(np.arange(len(t)), at)

    return signal


def steps(least, most):
    """Make a function that draws a level that jumps up by 20,000 codes and down again, several
    times.
    """

    def signal(t, random):
        at = np.sort(random.integers(0, len(t), random.integers(least, most + 1)))
        return sensor(t, random) + 2e4 * (np.searchsorted(at, np.arange(len(t))) % 2)

    return signal


def pink(t, random):
    """Draw noise whose power falls as 1/f, with a deviation of about 10,000 codes."""
    spectrum = np.fft.rfft(random.normal(0, 1e4, len(t)))
    return LEVEL + np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 1)), len(t))


def square(phase):
    """Return a square wave between -1 and 1."""
    return np.sign(np.sin(phase))


# what is to be told from a pulse: functions of times (n,), s, and a generator to codes (n,)
WITHOUT_PULSE = {
    "white noise, 2 codes": sensor,
    "white noise, 2,000 codes": lambda t, random: LEVEL + random.normal(0, 2000, len(t)),
    "hum of 50 Hz": wave(np.sin, 49.95, 50.05),
    "hum of 60 Hz": wave(np.sin, 59.95, 60.05),
    "sine of 4 to 12 Hz": wave(np.sin, 4, 12),
    "square wave of 4 to 12 Hz": wave(square, 4, 12),
    "one spike": spikes(1, 1),
    "one step": steps(1, 1),
    "2 to 6 spikes": spikes(2, 6),
}
LOOK_ALIKES = {  # what is not: known limits
    "2 to 6 steps": steps(2, 6),
    "1/f noise": pink,
    "random walk": lambda t, random: LEVEL + np.cumsum(random.normal(0, 100, len(t))),
    "square wave of 0.4 to 0.49 Hz": wave(square, 0.4, 0.49),
    "square wave of 0.5 to 3.5 Hz": wave(square, 0.5, 3.5),
}


def codes_of(windows):
    """Scale windows and return them as int8 input codes."""
    return to_int8(windows, 2 / 255, 0)


def passing(signal, random):
    """Return the share of windows that pass the check, of a signal without a pulse."""
    seen = []
    for rate in RATES:
        t = np.arange(BUFFER_S * rate) / rate
        codes = np.rint([signal(t, random) for _ in range(EACH)])
        seen += [stream_windows(one, rate)[0] for one in codes]
    return has_pulse(codes_of(np.concatenate(seen))).mean()


def real_windows(recording):
    """Return the windows that a watch sees in a recording, every 5 s: int8 (n, 1000), and their
    starts, s.
    """
    rate = int(recording.sfreq)
    windows, start_s = stream_windows(
        digitise(recording.ppg, recording.sfreq, rate, BITS), rate, HOP_S
    )
    return codes_of(windows), start_s


def judged(path):
    """Tell whether each window of a recording passes, and the lowest quality of the prepared
    windows that it overlaps.
    """
    recording = read_recording(path)
    windows, start_s = real_windows(recording)
    prepared = prepare_recording(recording, min_quality=-1)[0]
    overlap = np.abs(prepared.start_s - start_s[:, None]) < WINDOW_S
    quality = np.where(overlap, prepared.ppg_quality, np.inf).min(axis=1)
    return has_pulse(windows), np.where(overlap.any(axis=1), quality, 0)


def pulse_check() -> str:
    """Count how often the watch's check for a pulse is wrong, on real windows and generated
    signals.
    """
    split = pd.read_csv(SHIPPED_SPLIT).set_index("patient")["split"]
    patient = pd.read_csv(FOLDER / "subjects.csv").set_index("record")["patient"]
    found = defaultdict(list)
    for path in bidmc_files():
        found[split[patient[path.stem]]].append(judged(path))
    rows = [rejected(name, found[name]) for name in ("train", "val", "test")]
    random, made = np.random.default_rng(0), []
    for name, signal in (WITHOUT_PULSE | LOOK_ALIKES).items():
        made.append((name, f"{100 * passing(signal, random):.1f} %"))
    rates = ", ".join(map(str, RATES))
    return f"""# Is there a pulse? How often the watch's check is wrong

Seed 0. Real windows: the shipped recordings at 125 Hz, a window every 5 s; quality: the lowest of
the prepared windows that it overlaps.

{markdown_table(("rejected", *QUALITIES), rows, right=False)}

Made signals, {EACH} windows at each of {rates} Hz:

{markdown_table(("no pulse", "pass"), made, right=False)}
"""


def rejected(name, recordings):
    """Return the cells of a split: the share of its windows that were rejected, by quality."""
    passed, quality = (np.concatenate(parts) for parts in zip(*recordings, strict=True))
    cells = []
    for least in QUALITIES.values():
        bad = ~passed[quality >= least]
        cells.append(f"{bad.sum()} of {len(bad):,} ({100 * bad.mean():.1f} %)")
    return (f"{name}, {len(recordings)} recordings", *cells)


if __name__ == "__main__":
    run_study(pulse_check, "pulse_check.md")
