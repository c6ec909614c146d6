"""What the certainty of a student that reads beats is worth, on people whom nobody trained on.

    xmae prepare bidmc --min-quality -1 --out runs/all
    python -m xmae.benchmarks.studies.certainty runs/all beats-mcu --out benchmarks/results

The interval of the heart rate and the least certainty come from the shipped table, which was made
on a tenth of `cinc2015_vt`. They are scored here and nothing is chosen. Beside them stands the
interval that tables of the other folds' subjects give (cross-conformal). Definitions:
docs/scores.md.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from xmae.beats.certainty import PROMISE, TOO_WIDE, calibrate, shipped_certainty
from xmae.benchmarks.studies.pulse_check import LOOK_ALIKES, WITHOUT_PULSE
from xmae.benchmarks.studies.runner import run_study
from xmae.data.store.store import WindowStore
from xmae.errors import UserError
from xmae.evaluation.protocol.beat_scores import IRREGULAR, interval_coverage, true_values
from xmae.evaluation.protocol.bootstrap import COVERAGE_NOTE, mean_with_interval
from xmae.export.int8_reader import Int8Reader
from xmae.export.stream import Stream, int8_file
from xmae.files import atomic_file
from xmae.tables import markdown_table

N_FOLDS = 5  # of subjects, for the cross-conformal tables
GOOD = 0.8  # quality of PPG and ECG of a good window
SHARES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5)  # of the windows that are answered, surest first
EACH, SIGNAL_S, MADE_SFREQ, MADE_BITS = 12, 30, 50, 18  # recordings without a pulse, of each kind


@dataclass(frozen=True)
class Judged:
    """Windows with truth, and what was read from them.

    Parameters
    ----------
    truth, rate : float arrays, shape (n,)
        Heart rates, bpm; NaN in `rate` = none.
    certainty : int array, shape (n,)
        0 to 255.
    subject : int array, shape (n,)
    irregular, good : bool arrays, shape (n,)
        By the ECG's intervals; by the quality of PPG and ECG.
    """

    truth: np.ndarray
    rate: np.ndarray
    certainty: np.ndarray
    subject: np.ndarray
    irregular: np.ndarray
    good: np.ndarray

    def select(self, rows):
        """Keep the windows that a mask or list of numbers picks."""
        return Judged(*(values[rows] for values in vars(self).values()))

    def interval(self, table):
        """Return the interval of each heart rate by a certainty table, bpm: low, high."""
        rate = np.nan_to_num(100 * self.rate)
        low, high = table.interval(rate, self.certainty)
        known = np.isfinite(self.rate)
        return np.where(known, low / 100, np.nan), np.where(known, high / 100, np.nan)


def judge(store, model):
    """Read the windows of a store by an int8 file: `Judged`.

    Raises
    ------
    UserError
        If no window has truth.
    """
    windows = WindowStore(store).windows()
    windows.require_ecg("scoring a certainty")
    true = true_values(windows)
    truth = true["hr"]
    known = np.isfinite(truth)
    if not known.any():
        raise UserError(f"{store}: no window has truth from its ECG; prepare it again")
    reading = Int8Reader(int8_file(model)).read_windows(windows.ppg[known])
    good = (windows.ppg_quality >= GOOD) & (windows.ecg_quality >= GOOD)
    return Judged(
        truth[known],
        reading.rate,
        np.rint(reading.certainty * 255).astype(int),
        pd.factorize(windows.subject[known])[0],
        true["irregularity"][known] >= IRREGULAR,
        good[known],
    )


def coverage_row(name, judged, low, high):
    """Return the cells of a row: coverage with its interval over subjects, median width, windows,
    subjects.
    """
    inside, width = interval_coverage(judged.truth, low, high, judged.subject)
    subjects = int(np.isfinite(inside).sum())
    shown = mean_with_interval(100 * inside, 1)
    return name, shown, f"{width:.2f}", len(judged.truth), subjects


def coverage_rows(judged, table, cross):
    """Return the rows on coverage (given, all and irregular windows), by the shipped table and by
    tables of other folds.
    """
    low, high = judged.interval(table)
    known = np.isfinite(judged.rate)
    given = known & (judged.certainty >= table.least)
    kinds = (
        ("heart rate given", given),
        ("heart rate given, irregular rhythm", given & judged.irregular),
        ("every window, refused ones too", known),
        ("every irregular window", known & judged.irregular),
    )
    rows = []
    for name, kept in kinds:
        rows.append(coverage_row(name, judged.select(kept), low[kept], high[kept]))
        tables = cross[0][kept], cross[1][kept]
        rows.append(coverage_row(f"{name}, cross-conformal", judged.select(kept), *tables))
    return rows


def cross_conformal(judged):
    """Return an interval (low, high) for every window from the table fitted on the subjects of the
    other folds, bpm.
    """
    low, high = np.full((2, len(judged.truth)), np.nan)
    for fold in range(N_FOLDS):
        held = judged.subject % N_FOLDS == fold
        others = judged.select(~held)
        table = calibrate(others.certainty, others.rate, others.truth, others.subject)
        low[held], high[held] = judged.select(held).interval(table)
    return low, high


def risk_rows(judged, table):
    """Return the points of the risk-coverage curve: share answered, mean error, share wrong of all
    windows.
    """
    error = np.where(np.isfinite(judged.rate), np.abs(judged.rate - judged.truth), np.inf)
    order = np.argsort(-judged.certainty, kind="stable")
    n, rows = len(order), []
    rule = int(((judged.certainty >= table.least) & np.isfinite(error)).sum())
    counts = [("", round(share * n)) for share in SHARES] + [("the refusal rule", rule)]
    for name, count in sorted(counts, key=lambda pair: -pair[1]):
        kept = error[order[:count]] if not name else error[judged.certainty >= table.least]
        finite = kept[np.isfinite(kept)]
        mean = finite.mean() if len(finite) else np.nan
        wrong = (kept > TOO_WIDE).sum() / n
        least = judged.certainty[order[max(count - 1, 0)]] if not name else table.least
        rows.append((f"{100 * count / n:.1f}", least, f"{mean:.2f}", f"{100 * wrong:.2f}", name))
    return rows


def draw(judged, table):
    """Draw the risk-coverage curve: PNG, bytes."""
    from matplotlib.figure import Figure

    error = np.where(np.isfinite(judged.rate), np.abs(judged.rate - judged.truth), np.inf)
    order = np.argsort(-judged.certainty, kind="stable")
    n, wrong = len(order), error[order] > TOO_WIDE
    share = 100 * np.arange(1, n + 1) / n
    finite = np.where(np.isfinite(error[order]), error[order], TOO_WIDE)
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.plot(share, np.cumsum(finite) / np.arange(1, n + 1), label="mean error, bpm")
    axes.plot(share, 100 * np.cumsum(wrong) / n, label="off by more than 10 bpm, % of all windows")
    rule = 100 * (judged.certainty >= table.least).mean()
    axes.axvline(rule, color="grey", ls="--", lw=1)
    axes.text(rule, axes.get_ylim()[1], " refusal rule", va="top", color="grey")
    axes.set(xlabel="windows answered, surest first, %", xlim=(0, 100), ylim=(0, None))
    axes.legend(frameon=False, loc="upper left")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return buffer.getvalue()


def made_rows(model):
    """Return the rows on generated signals without a pulse: share of seconds with a heart rate
    given.
    """
    t, random, rows = np.arange(SIGNAL_S * MADE_SFREQ) / MADE_SFREQ, np.random.default_rng(0), []
    stream = Stream(model, MADE_SFREQ, MADE_BITS)
    for name, signal in (WITHOUT_PULSE | LOOK_ALIKES).items():
        given = []
        for _ in range(EACH):
            stream.reset()
            codes = np.clip(np.rint(signal(t, random)), 0, (1 << MADE_BITS) - 1).astype(np.int64)
            results = stream.push(codes)
            given += [bool(result.rate) for result in results if result.time >= 10 * 6400]
        rows.append((name, f"{100 * np.mean(given):.1f}"))
    return rows


COVERAGE = ("windows", "coverage, %", "median width, bpm", "windows", "subjects")
RISK = (
    "answered, %", "least certainty", "mean error, bpm", "off by more than 10 bpm, % of all", "",
)  # fmt: skip


def page_of(model, judged, table, made):
    """Write the page as Markdown."""
    refused = 100 * (1 - (judged.certainty >= table.least).mean())
    good = judged.good
    subjects = len(np.unique(judged.subject))
    lost = 100 * (judged.certainty[good] < table.least).mean() if good.any() else np.nan
    coverage = markdown_table(COVERAGE, coverage_rows(judged, table, cross_conformal(judged)))
    risk = markdown_table(RISK, risk_rows(judged, table))
    without = markdown_table(("signal without a pulse", "seconds with a heart rate, %"), made)
    return f"""# What certainty is worth

The int8 file of `{model}` reads each window of 10 s with truth from the ECG by itself, on
{subjects} subjects. Nothing of them trained, chose or calibrated it. Coverage is the mean over
subjects of the share of windows whose true heart rate lies in the interval. {COVERAGE_NOTE}
The promise is {100 * PROMISE:.0f} %. Cross-conformal: the table is
made anew from the subjects of the other folds ({N_FOLDS} folds). Irregular: neighbouring intervals
of the ECG change by {100 * IRREGULAR:.0f} % or more on average.

{coverage}

## What is lost by answering more

The refusal rule answers from certainty {table.least} of 255 on. It refuses {refused:.1f} % of all
windows and {lost:.1f} % of the good ones (quality of PPG and ECG at least {GOOD};
{int(good.sum()):,} windows).

{risk}

![Risk against coverage](certainty.png)

## Where there is no pulse

`xmae.Stream` on made signals, {EACH} recordings of {SIGNAL_S} s each, from second 10 on. The pulse
check of the older students passes 43 % of random walks and 100 % of square waves of 0.5 to 3.5 Hz
(pulse_check.md).

{without}
"""


def certainty(store: str, model: str = "beats-mcu", /, *, out: str) -> str:
    """Score the certainty of a student that reads beats: coverage of its intervals, and risk
    against coverage.

    Parameters
    ----------
    store : str
        Store of windows with ECG, all subjects unseen.
    model : str
        Shipped student.
    out : str
        Folder for certainty.png.
    """
    table, judged = shipped_certainty(model), judge(store, model)
    with atomic_file(Path(out) / "certainty.png") as temporary:
        temporary.write_bytes(draw(judged, table))
    return page_of(model, judged, table, made_rows(model))


if __name__ == "__main__":
    run_study(certainty, "certainty.md")
