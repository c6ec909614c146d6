"""What the tier without a network loses against the network, and against a plain autocorrelation.

    xmae prepare bidmc --min-quality -1 --out runs/all
    python -m xmae.benchmarks.studies.tiers runs/all --out benchmarks/results

With --calibrate STORE, the certainty table of the tier is made on the validation recordings of a
store (a tenth of `cinc2015_vt`) and written where it ships; nothing is scored then.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd

from xmae.beats.certainty import Certainty, calibrate, shipped_certainty
from xmae.beats.r_peaks import stretches
from xmae.beats.read import as_codes
from xmae.beats.rivals import read_classical
from xmae.beats.truth import truth_of_windows
from xmae.benchmarks.studies.runner import run_script
from xmae.data.store.store import WindowStore
from xmae.evaluation.protocol.beat_scores import subject_means, true_values
from xmae.evaluation.protocol.bootstrap import mean_with_interval
from xmae.export.int8_reader import Int8Reader
from xmae.export.stream import DSP, Stream, int8_file
from xmae.files import atomic_file
from xmae.signals.window import SFREQ, WINDOW_S
from xmae.tables import markdown_table

TABLE = Path("xmae/beats/certainty.json")
OPEN = Certainty(np.zeros(16, np.int64), 0)  # so that every heart rate is seen
WRONG_BPM, NEAR_BPM = 10.0, 5.0


def read_stream(windows):
    """Read windows that follow each other as one stream: heart rate (bpm, NaN = none),
    certainty.
    """
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


def make_table(store):
    """Calibrate the tier on a store's validation recordings, and write its table."""
    windows = WindowStore(store).windows("val")
    truth = truth_of_windows(windows).hr_ecg
    rate, certainty = read_stream(windows)
    known = np.isfinite(truth)
    table = calibrate(certainty[known], rate[known], truth[known])
    tables = json.loads(TABLE.read_text())
    tables[DSP] = {"half_width": table.half_width.tolist(), "least": table.least}
    with atomic_file(TABLE) as temporary:
        temporary.write_text(json.dumps(tables, indent=1) + "\n")
    return {"windows": int(known.sum()), "least": table.least}


def row_of(name, truth, rate, certainty, least, subject, constant):
    """Cells of a method: errors of all windows, and what it refuses."""
    error = np.abs(np.where(np.isfinite(rate), rate, constant) - truth)
    mean = mean_with_interval(subject_means(error, subject))
    near = 100 * np.nanmean(subject_means((error < NEAR_BPM).astype(float), subject))
    cells = [name, mean, f"{near:.1f}"]
    if least is None:
        return [*cells, "100.0", f"{100 * (error > WRONG_BPM).mean():.1f}", f"{error.mean():.2f}"]
    given = np.isfinite(rate) & (certainty >= least)
    wrong = 100 * (given & (error > WRONG_BPM)).mean()
    return [*cells, f"{100 * given.mean():.1f}", f"{wrong:.1f}", f"{error[given].mean():.2f}"]


def study(store: str, model: str = "beats-mcu", out: str = "benchmarks/results") -> str:
    """Write tiers.md; its path."""
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
    page = f"""# The tier without a network

    python -m xmae.benchmarks.studies.tiers runs/all

{int(known.sum()):,} windows of 10 s with truth from the ECG, {n_subjects} subjects. Nobody trained,
chose or calibrated on them. Error and share within 5 bpm are means over subjects, whether answered
or not. A window without a heart rate scores as the mean of all. Answered and wrong but sure are of
all windows, with the refusal rule of each. The tier's table was made on a tenth of `cinc2015_vt`
(`--calibrate`). The network and the autocorrelation read each window by itself; the tier reads the
recording as a stream.

{markdown_table(head, rows)}

What the tier loses beside accuracy: embeddings, beats in irregular rhythms (its averages are a
period wide), and certainty learnt from people. What it needs is in docs/torture.md and held by
tests/export/test_dsp.py: at most 10 kB of flash with startup code and 4 kB of RAM.
"""
    with atomic_file(Path(out) / "tiers.md") as temporary:
        temporary.write_text(page)
    return str(Path(out) / "tiers.md")


def main(arguments=None):
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store", help="store of windows with ECG")
    parser.add_argument("--calibrate", action="store_true", help="make the tier's table instead")
    parser.add_argument("--out", default="benchmarks/results", help="folder for the page")
    given = parser.parse_args(arguments)
    if given.calibrate:
        print(run_script(make_table, given.store))
    else:
        print(run_script(study, given.store, out=given.out))


if __name__ == "__main__":
    main()
