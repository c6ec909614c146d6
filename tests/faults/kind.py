"""What the harness knows of a kind of file, and the signals that whole files are made of."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np

from xmae.data.bidmc import bidmc_files
from xmae.data.recording.readers import read_recording

SFREQ, SECONDS = 125, 13  # a window and a bit


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    Parameters
    ----------
    name : str
        As the table shows it.
    write : callable
        ``write(folder, signals)`` writes whole files and returns the path to open. `signals` are
        ppg, ecg, resp (arrays) and fs (Hz); kinds without signals pass them over.
    open : callable
        ``open(path)`` reads all that the kind's reader reads.
    damaged : tuple of str
        Patterns of the files to damage; by default all.
    signals : bool
        Whether `write` uses its signals, so that their values can be forged too.
    repair : callable
        ``repair(folder)`` makes digests fit the damaged files, so that what lies behind is reached.
    ways : tuple of callable
        Ways to damage a file of this kind; by default those of its suffix.
    """

    name: str
    write: Callable
    open: Callable
    damaged: tuple = ("*",)
    signals: bool = False
    repair: Callable = field(default=lambda folder: None)
    ways: tuple = ()


def real_signals():
    """Return a few seconds of a shipped recording."""
    recording, n = read_recording(bidmc_files()[0]), SFREQ * SECONDS
    parts = {"ppg": recording.ppg, "ecg": recording.ecg, "resp": recording.resp}
    return {name: np.asarray(x[:n], float) for name, x in parts.items()} | {"fs": SFREQ}


def files_of(kind, folder):
    """Return the files of a written kind that are to be damaged."""
    return sorted(
        {
            path
            for path in chain.from_iterable(Path(folder).rglob(pattern) for pattern in kind.damaged)
            if path.is_file()
        }
    )


def write_text(name, content):
    """Return a writer of one file of text."""

    def write(folder, signals):
        (folder / name).write_text(content)
        return folder / name

    return write
