"""What the tier without a network loses against the network, and against a plain autocorrelation.

    xmae prepare bidmc --min-quality -1 --out runs/all
    python -m xmae.benchmarks.studies.tiers runs/all --out benchmarks/results

`benchmarks/release/calibrate_dsp.py` makes the certainty table of the tier.
"""

import numpy as np
import pandas as pd

from xmae.beats.certainty import Certainty, shipped_certainty
from xmae.beats.r_peaks import stretches
from xmae.beats.read import as_codes
from xmae.beats.rivals import read_classical
from xmae.benchmarks.studies.runner import run_study
from xmae.data.store.store import WindowStore
from xmae.evaluation.protocol.beat_scores import subject_means, true_values
from xmae.evaluation.protocol.bootstrap import COVERAGE_NOTE, mean_with_interval
from xmae.export.int8_reader import Int8Reader
from xmae.export.stream import DSP, Stream, int8_file
from xmae.signals.window import SFREQ, WINDOW_S
from xmae.tables import markdown_table

OPEN = Certainty(np.zeros(16, np.int64), 0)  # so that every heart rate is seen
WRONG_BPM, NEAR_BPM = 10.0, 5.0


def read_stream(windows):
    """Read consecutive windows as one stream: heart rate (bpm, NaN = none), certainty."""
    rate, certainty = np.full(len(windows.record), np.nan), np.zeros(len(windows.record), int)
    for part in stretches(windows):
        signal = windows.ppg[part].ravel()
        if np.ptp(signal) == 0:
            continue
        stream = Stream(DSP, SFREQ, certainty=OPEN)
        codes = as_codes(np.concatenate([signal, np.full(2 * SFREQ, signal[-1])]))
        ends = {}
        for result in stream.push(codes):
            ends[round(stream.seconds_of(result.time))] = result
        for k, row in enumerate(range(part.start, part.stop)):
            if result := ends.get(int(WINDOW_S * (k + 1))):
                rate[row] = result.rate / 100 if result.rate else np.nan
                certainty[row] = result.certainty
    return rate, certainty


def row_of(name, truth, rate, certainty, least, subject, constant):
    """Return the cells of a method: its errors on all windows, and the share it refuses."""
    error = np.abs(np.where(np.isfinite(rate), rate, constant) - truth)
    mean = mean_with_interval(subject_means(error, subject))
    near = 100 * np.nanmean(subject_means((error < NEAR_BPM).astype(float), subject))
    cells = [name, mean, f"{near:.1f}"]
    if least is None:
        return [*cells, "100.0", f"{100 * (error > WRONG_BPM).mean():.1f}", f"{error.mean():.2f}"]
    given = np.isfinite(rate) & (certainty >= least)
    wrong = 100 * (given & (error > WRONG_BPM)).mean()
    return [*cells, f"{100 * given.mean():.1f}", f"{wrong:.1f}", f"{error[given].mean():.2f}"]


def tiers(store: str, /, *, model: str = "beats-mcu") -> str:
    """Compare the tier without a network with the network and with an autocorrelation.

    Parameters
    ----------
    store : str
        Store of windows with ECG.
    model : str
        Shipped student.
    """
    windows = WindowStore(store).windows()
    windows.require_ecg("scoring a heart rate")
    truth = true_values(windows)["hr"]
    known = np.isfinite(truth)
    subject = pd.factorize(windows.subject[known])[0]
    constant = truth[known].mean()
    rate, certainty = read_stream(windows)
    network = Int8Reader(int8_file(model)).read_windows(windows.ppg[known])
    plain = read_classical(windows.ppg[known], "autocorrelation")
    sure = np.rint(network.certainty * 255).astype(int)
    tier = shipped_certainty(DSP).least
    n_subjects = len(np.unique(subject))
    of = truth[known], subject, constant
    rows = [
        row_of(name, of[0], *reading, *of[1:])
        for name, reading in {
            f"{model}, int8": (network.rate, sure, shipped_certainty(model).least),
            "dsp, as a stream": (rate[known], certainty[known], tier),
            "autocorrelation": (plain.rate, np.zeros(known.sum()), None),
        }.items()
    ]
    head = ("method", "error, bpm", "within 5 bpm, %", "answered, %", "wrong but sure, %",
            "error where answered, bpm")  # fmt: skip
    return f"""# The tier without a network

{int(known.sum()):,} windows of 10 s with truth from the ECG, {n_subjects} subjects. Nobody trained,
chose or calibrated on them. Error and share within 5 bpm are means over subjects, whether answered
or not. {COVERAGE_NOTE}
A window without a heart rate scores as the mean of all. Answered and wrong but sure are of
all windows, with the refusal rule of each. The tier's table was made on a tenth of `cinc2015_vt`
(`benchmarks/release/calibrate_dsp.py`). The network and the autocorrelation read each window by
itself; the tier reads the recording as a stream.

{markdown_table(head, rows)}

What the tier loses beside accuracy: embeddings, beats in irregular rhythms (its averages are a
period wide), and certainty learnt from people. What it needs is in docs/torture.md and held by
tests/export/test_dsp.py: at most 10 kB of flash with startup code and 4 kB of RAM.
"""


if __name__ == "__main__":
    run_study(tiers, "tiers.md")
