"""How well a heart rate is followed through motion: generated people, and clips of real wrists.

    python -m xmae.benchmarks.studies.motion [MODEL] [FOLDER_OF_CLIPS]

With and without the accelerometer, with and without the tracker, the model beside spectra alone.
The people are of seeds and wave shapes that nothing was trained or chosen on. Set off by `make`
nowhere.
"""

import sys
from pathlib import Path

import numpy as np
import torch

from xmae.beats.read import as_codes
from xmae.beats.reader import read_maps
from xmae.beats.track import acceleration_samples, beside, evidence, follow
from xmae.beats.tracker import shipped_tracker
from xmae.beats.truth import truth_of
from xmae.benchmarks.studies.runner import run_script
from xmae.data.recording.readers import read_recording
from xmae.evaluation.moving_people import maps_of, moving_people
from xmae.models.checkpoint import load_encoder
from xmae.signals.front_end import FrontEnd
from xmae.signals.resample import resample
from xmae.signals.window import N_TIMES, SFREQ
from xmae.tables import markdown_table

PEOPLE, SEED = 12, 7_000_000
SETS = {"cadence on the pulse": 1.0, "on its double": 2.0, "on its half": 0.5, "as it comes": None}
# name: kind of the tracker's table, whether it is followed, whether acceleration is there
METHODS = {
    "model, accelerometer, followed": ("model", True, True),
    "model, accelerometer, 10 s alone": ("model", False, True),
    "model, no accelerometer, followed": ("model without accelerometer", True, False),
    "spectra, accelerometer, followed": ("classical", True, True),
    "spectra, no accelerometer, followed": ("classical without accelerometer", True, False),
}
WRONG = 10.0  # bpm


def rates_of(samples, model, kind, followed, worn):
    """Heart rates (n, seconds) in bpm and whether each is given."""
    rows = samples.copy()
    if not worn:
        rows[:, 1:] = 0
    maps = maps_of(model, rows) if kind.startswith("model") else None
    table = shipped_tracker(kind)
    if followed:
        rate, sure = follow(evidence(rows, maps), table)
        return rate / 100, sure >= table.certainty.least
    seconds = rows.shape[2] // SFREQ
    rate, given = np.full((len(rows), seconds), np.nan), np.zeros((len(rows), seconds), bool)
    for k in range(9, seconds):
        read = read_maps(maps[:, :, 25 * k - 225 : 25 * k + 25])
        rate[:, k], given[:, k] = read.rate, np.isfinite(read.rate)
    return rate, given


def score(rate, given, truth):
    """Mean over people: error of what is given, share given, share given and wrong, error of all
    that is read.
    """
    known = np.isfinite(truth)
    rows = []
    for r, g, t, k in zip(rate, given, truth, known, strict=True):
        off, g = np.abs(r - t), g & k
        error = off[g].mean() if g.any() else np.nan
        wrong = (g & (off > WRONG)).sum() / k.sum()
        rows.append((error, g.sum() / k.sum(), wrong, np.nanmean(off[k])))
    error, answered, wrong, every = np.array(rows).T
    return np.nanmean(error), answered.mean(), answered.min(), wrong.mean(), np.nanmean(every)


def clips(folder):
    """Real clips: name, samples (1, 4, n), true heart rate by second (1, seconds) where there is
    truth.
    """
    for path in sorted(Path(folder).glob("*.npz")):
        recording = read_recording(path)
        sfreq = recording.sfreq
        acc, _ = acceleration_samples(recording.acc, sfreq)
        samples = beside(FrontEnd(sfreq).push(as_codes(recording.ppg)), acc)[None]
        ecg = resample(np.nan_to_num(recording.ecg), sfreq, SFREQ)
        truth = np.full((1, samples.shape[2] // SFREQ), np.nan)
        for k in range(9, min(truth.shape[1], len(ecg) // SFREQ)):
            part = ecg[100 * k - 900 : 100 * k + 100]
            truth[0, k] = truth_of(part[None, :N_TIMES]).hr_ecg[0]
        yield path.stem, samples, truth


def main(model="student-motion", folder=None):
    """Make the table: Markdown."""
    torch.set_num_threads(1)
    net = load_encoder(model)
    sets = {
        name: moving_people(PEOPLE, SEED + 1000 * int(2 * (ratio or 0)), (ratio,), "skewed")
        for name, ratio in SETS.items()
    }
    if folder:
        sets |= {name: (samples, truth) for name, samples, truth in clips(folder)}
    rows = []
    for name, (samples, truth) in sets.items():
        if not np.isfinite(truth).any():
            rows.append([name, "no truth in the ECG", *[""] * 5])
            continue
        for method, how in METHODS.items():
            error, answered, fewest, wrong, every = score(*rates_of(samples, net, *how), truth)
            shares = [f"{100 * share:.0f} %" for share in (answered, fewest)]
            rows.append(
                [name, method, f"{error:.1f}", *shares, f"{100 * wrong:.1f} %", f"{every:.1f}"]
            )
            print(" | ".join(rows[-1]), file=sys.stderr, flush=True)
    heads = ["MAE, answered", "answered", "fewest of a person", "wrong but sure", "MAE, all"]
    return markdown_table(["set", "method", *heads], rows)


if __name__ == "__main__":
    print(run_script(main, *sys.argv[1:3]))
