"""What the look-ahead of the band-pass costs in time, and what a shorter or causal one loses.

    xmae prepare bidmc --min-quality -1 --out runs/all
    python -m xmae.benchmarks.studies.latency runs/all --out benchmarks/results

The baseline is the mean of 101 samples around a sample. Here it is moved back, so that fewer of
them come later; with none the band-pass is causal but for its smoothing. The network stays as it
is: it was trained with the baseline around the sample, so the loss is what a new training could win
back at most.
"""

import numpy as np
import pandas as pd

from xmae.beats.r_peaks import stretches
from xmae.beats.read import as_codes
from xmae.beats.reader import MapCode, read_maps
from xmae.beats.timing_map import LOG_SHARE
from xmae.benchmarks.studies.runner import run_study
from xmae.data.store.store import WindowStore
from xmae.evaluation.protocol.beat_scores import subject_means, true_values
from xmae.evaluation.protocol.bootstrap import COVERAGE_NOTE, mean_with_interval
from xmae.export.stream import int8_file
from xmae.export.targets import litert
from xmae.export.targets.c.network import MAP_CHANNELS, StreamNetwork
from xmae.models.beat_student import EMBED_DIM
from xmae.signals.front_end import BASELINE, HISTORY, SHIFT, SMOOTH, TRIANGLE, FrontEnd
from xmae.signals.window import N_TIMES, SFREQ
from xmae.tables import markdown_table

AHEAD = (50, 35, 20, 10, 0)  # samples of the baseline that come after
NEAR_BPM, WRONG_BPM = 5.0, 10.0


class MovedFrontEnd(FrontEnd):
    """A front end whose baseline filter looks `ahead` samples into the future, with its length
    unchanged.
    """

    def __init__(self, sfreq, ahead):
        super().__init__(sfreq)
        self.ahead = ahead

    def band(self, samples):
        """Filter as `FrontEnd.band`, with the baseline moved back by (50 - ahead) samples."""
        back = BASELINE // 2 - self.ahead
        history = HISTORY + back
        x = np.concatenate([np.full(back, samples[0]), samples])  # the whole recording at once
        n, middle = len(x) - history, HISTORY // 2 + back
        total = np.concatenate([[0], np.cumsum(x)])
        start = middle - BASELINE // 2 - back
        base = total[start + BASELINE : start + BASELINE + n] - total[start : start + n]
        taps = enumerate(TRIANGLE)
        smooth = sum(int(w) * x[middle - SMOOTH + 1 + k :][:n] for k, w in taps)
        return (BASELINE * smooth - int(TRIANGLE.sum()) * base) >> SHIFT


def windows_of(windows, ahead):
    """Return the network's input for each window: int8 codes (n, 1000)."""
    seen = np.zeros(windows.ppg.shape, np.int8)
    for part in stretches(windows):
        signal = windows.ppg[part].ravel()
        if np.ptp(signal) == 0:
            continue
        tail = np.full(HISTORY, signal[-1])
        codes = as_codes(np.concatenate([np.full(HISTORY // 2, signal[0]), signal, tail]))
        found = MovedFrontEnd(SFREQ, ahead).push(codes)[: len(signal)]
        seen[part].flat[: len(found)] = found
    return seen


def rates_of(path, seen):
    """Return the heart rates that an int8 file reads from such codes, bpm."""
    network, rows = StreamNetwork(path), litert.open_model(path)
    given = rows(np.clip(seen * network.input_scale, -1, 1).astype(np.float32))[:, EMBED_DIM:]
    codes = np.rint(given / network.scale).astype(np.int64).reshape(len(given), -1, MAP_CHANNELS)
    return read_maps(codes.transpose(0, 2, 1), MapCode.of_scale(network.scale, LOG_SHARE)).rate


def latency(store: str, /, *, model: str = "beats-mcu") -> str:
    """Measure what a shorter look-ahead of the band-pass costs in accuracy.

    Parameters
    ----------
    store : str
        Store of windows with ECG, all subjects unseen.
    model : str
        Shipped student.
    """
    windows, path = WindowStore(store).windows(), int8_file(model)
    truth = true_values(windows)["hr"]
    known = np.isfinite(truth)
    subject, rows = pd.factorize(windows.subject[known])[0], []
    network, n_subjects = StreamNetwork(path).look_ahead, len(np.unique(subject))
    for ahead in AHEAD:
        rate = rates_of(path, windows_of(windows, ahead)[known])
        error = np.abs(np.where(np.isfinite(rate), rate, truth[known].mean()) - truth[known])
        late = (ahead + SMOOTH - 1 + network) / SFREQ
        near = 100 * subject_means((error < NEAR_BPM).astype(float), subject).mean()
        rows.append((
            f"{ahead / SFREQ:.2f} s", f"{late:.2f} s",
            mean_with_interval(subject_means(error, subject)), f"{near:.1f}",
            f"{100 * (error > WRONG_BPM).mean():.1f}",
        ))  # fmt: skip
    head = (
        "baseline looks ahead",
        "filter and network look ahead",
        "error, bpm",
        "within 5 bpm, %",
        "off by more than 10 bpm, %",
    )
    return f"""# What look-ahead costs

`{model}` (int8), {int(known.sum()):,} windows of {N_TIMES // SFREQ} s with truth, {n_subjects}
subjects whom nobody trained on. Errors are means over subjects. {COVERAGE_NOTE}
The first row is the front end as
it is. The network looks {network / SFREQ:.2f} s ahead in all rows and was trained with the first
row's front end: a training for each row could win back part of what it loses. A beat is known 0.04
s later than filter and network look ahead, and told with the next result.

{markdown_table(head, rows)}
"""


if __name__ == "__main__":
    run_study(latency, "latency.md")
