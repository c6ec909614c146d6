"""`xmae torture`: traps for any program that reads a heart rate from PPG, with exact truth."""

import json
import shlex
import subprocess
import sys
from importlib import import_module
from inspect import signature
from pathlib import Path

import numpy as np
from tqdm import tqdm

from xmae.beats.rivals import METHODS, read_classical
from xmae.errors import UserError
from xmae.export.bundle.bundle import MANIFEST, Bundle
from xmae.export.motion_stream import MotionStream
from xmae.export.stream import DSP, Stream
from xmae.files import atomic_file, write_json
from xmae.models.checkpoint import MOVING, SHIPPED
from xmae.signals.filters import ppg_clean
from xmae.signals.resample import resample
from xmae.signals.window import N_TIMES, SFREQ
from xmae.tables import markdown_table
from xmae.twin.traps import ACC_SFREQ, ONE_G, traps

WRONG_BPM = 10.0  # off by more is wrong
WARM_UP_S = 15  # s that are not scored
MOST_S = 600  # s that a command may take for a trap


def torture(program: str = "beats-mcu", out: str = "runs/torture", least: float = 0.0) -> dict:
    """Run a program on all traps and write its scoreboard.

    Parameters
    ----------
    program : str
        A shipped model that reads beats ("beats-mcu"; "student-motion", which gets the acceleration
        too), the tier without a network ("dsp"), an int8 `.tflite` of a student, a bundle with one
        (its folder), a classical detector ("elgendi", "bishop", "charlton", "autocorrelation"),
        "python:MODULE:FUNCTION" (called with codes, sfreq in Hz and bits, and with `acceleration`,
        codes (3, n) at 25 Hz of 4096 to 1 g, if it has a parameter of that name; returns rows of
        time in s, heart rate in bpm or NaN, certainty or NaN), or "command:..." (reads a line
        `sfreq bits`, then a code a line, on standard input; prints `time rate [certainty]` a line,
        `nan` for no rate).
    out : str
        Folder for torture.md and torture.json.
    least : float
        Certainty from which an answer counts, for programs that only say a certainty.

    Returns
    -------
    dict
        Rows by trap: share answered, wrong but sure, median error; the worst trap; "summary",
        "out".

    Raises
    ------
    UserError
        If the program cannot be run or prints what is no heart rate.
    """
    reader = reader_of(program)
    rows = []
    for trap in tqdm(traps(), "traps", unit="trap"):
        time, rate, certainty = (np.asarray(x, float) for x in reader(trap))
        rate = np.where(np.nan_to_num(certainty, nan=1.0) >= least, rate, np.nan)
        rows.append({"trap": trap.name, **score(trap, time, rate), "cadence": trap.cadence})
    worst = max(rows, key=lambda row: row["wrong_but_sure"])
    page = page_of(program, rows)
    with atomic_file(Path(out) / "torture.md") as temporary:
        temporary.write_text(page)
    rows = [{key: None if value != value else value for key, value in row.items()} for row in rows]
    result = {"program": program, "rows": rows, "worst": worst["trap"]}
    write_json(Path(out) / "torture.json", result)
    summary = [
        (
            f"{program}: worst trap {worst['trap']} with {100 * worst['wrong_but_sure']:.1f} % "
            "wrong but sure"
        ),
        (
            "wrong but sure over all traps: "
            f"{100 * np.mean([row['wrong_but_sure'] for row in rows]):.1f} %"
        ),
    ]
    return result | {"summary": summary, "out": str(out)}


def score(trap, time, rate):
    """Score answers of one trap: shares and errors over its seconds."""
    kept = (time >= WARM_UP_S) & (time <= len(trap.codes) / trap.sfreq)
    time, rate = time[kept], rate[kept]
    truth, empty, given = trap.true_rate(time), trap.empty(time), np.isfinite(rate)
    known = np.isfinite(truth)
    error = np.abs(rate - truth)
    wrong = (given & known & (error > WRONG_BPM)) | (given & empty)
    return {
        "seconds": len(time),
        "answered": float(given[known].mean()) if known.any() else float("nan"),
        "wrong_but_sure": float(wrong.mean()) if len(time) else 0.0,
        "median_error": float(np.median(error[given & known]))
        if (given & known).any()
        else float("nan"),
    }


def page_of(program, rows):
    """Write the scoreboard as Markdown."""
    cells = [
        [
            row["trap"],
            f"{100 * row['answered']:.0f}",
            f"{100 * row['wrong_but_sure']:.1f}",
            f"{row['median_error']:.2f}",
        ]
        for row in rows
    ]
    head = ["trap", "answered, %", "wrong but sure, %", "median error, bpm"]
    return (
        f"# Traps: {program}\n\n    xmae torture --program {shlex.quote(program)}\n\nGenerated "
        "recordings with exact truth, a heart rate each second: no result on people. Answered: "
        "share of the seconds with a\nreadable pulse. Wrong but sure: off by more than 10 bpm, or "
        "any answer where there is no pulse, of "
        "all seconds.\n\n" + markdown_table(head, cells) + "\n"
    )


def reader_of(program):
    """Return the function that reads a trap: times (s), heart rates (bpm) and certainties."""
    if program in METHODS:
        return lambda trap: by_windows(trap, program)
    if program.startswith("python:"):
        module, _, name = program.removeprefix("python:").partition(":")
        try:
            function = getattr(import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise UserError(f"{program}: {error}") from error
        return lambda trap: by_function(trap, function)
    if program.startswith("command:"):
        return lambda trap: by_command(trap, shlex.split(program.removeprefix("command:")))
    if (Path(program) / MANIFEST).is_file():
        bundle = Bundle.open(program)
        path = bundle.path / bundle.entry("student", "litert", "int8").file
        return lambda trap: by_stream(trap, path, bundle.certainty("student"))
    if program in MOVING:
        return lambda trap: by_motion_stream(trap, program)
    if program == DSP or program in SHIPPED or program.endswith(".tflite"):
        return lambda trap: by_stream(trap, program)
    raise UserError(
        f"unknown program '{program}'; expected beats-mcu, student-motion, dsp, a bundle, a "
        f".tflite file, {', '.join(METHODS)}, python:... or command:..."
    )


def by_stream(trap, model, certainty=None):
    """Read a trap with `xmae.Stream`."""
    return answers_of(Stream(model, trap.sfreq, trap.bits, certainty=certainty), trap)


def by_motion_stream(trap, model):
    """Read a trap and its acceleration with `xmae.MotionStream`."""
    stream = MotionStream(model, trap.sfreq, trap.bits, acc_sfreq=ACC_SFREQ, one_g=ONE_G)
    stream.accelerate(trap.acceleration)
    return answers_of(stream, trap)


def answers_of(stream, trap):
    """Push a trap's codes into a stream, and return times (s), heart rates (bpm) and
    certainties.
    """
    results = stream.push(trap.codes)
    rate = [result.rate / 100 if result.rate else np.nan for result in results]
    return (
        [stream.seconds_of(result.time) for result in results],
        rate,
        [r.certainty / 255 for r in results],
    )


def by_function(trap, function):
    """Read a trap with a Python function, which gets the acceleration if it has a parameter for
    it.
    """
    asks = "acceleration" in signature(function).parameters
    more = {"acceleration": trap.acceleration} if asks else {}
    return np.array(function(trap.codes, trap.sfreq, trap.bits, **more), float).reshape(-1, 3).T


def by_windows(trap, method):
    """Read a trap with a classical detector: 10 s windows, every second."""
    clean = resample(ppg_clean(trap.codes.astype(float), trap.sfreq), trap.sfreq, SFREQ)
    windows = np.lib.stride_tricks.sliding_window_view(clean, N_TIMES)[::SFREQ]
    reading = read_classical(windows, method)
    return 10.0 + np.arange(len(windows)), reading.rate, np.full(len(windows), np.nan)


def by_command(trap, words):
    """Read a trap with a program that uses standard input and output."""
    text = f"{trap.sfreq:g} {trap.bits}\n" + "\n".join(map(str, trap.codes.tolist())) + "\n"
    try:
        done = subprocess.run(
            words, input=text, capture_output=True, text=True, timeout=MOST_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"{words[0]}: {error}") from error
    if done.returncode:
        raise UserError(
            f"{words[0]} ended with code {done.returncode}: {done.stderr.strip()[-200:]}"
        )
    rows = [(line.split() + ["nan"])[:3] for line in done.stdout.splitlines() if line.strip()]
    try:
        return np.array(rows, float).reshape(-1, 3).T
    except ValueError as error:
        raise UserError(f"{words[0]} printed what is no heart rate: {error}") from error


if __name__ == "__main__":
    print(json.dumps(torture(*sys.argv[1:])["rows"], indent=1))
