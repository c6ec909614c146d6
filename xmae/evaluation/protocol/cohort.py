"""The people of a store whose beats are scored, with their truth."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from xmae.beats.intervals import beats_by_window
from xmae.data.batches.timing import recording_delay
from xmae.data.store.store import WindowStore
from xmae.errors import UserError
from xmae.evaluation.protocol.beat_scores import score_reading, true_values
from xmae.evaluation.protocol.datasets import load_datasets
from xmae.evaluation.protocol.folds import Trial, fold_constants, make_trial
from xmae.evaluation.protocol.tasks import REGISTRY
from xmae.signals.window import N_TIMES, SFREQ

WINDOW_S = N_TIMES / SFREQ


@dataclass(frozen=True)
class Cohort:
    """The windows to be scored, with their truth.

    Parameters
    ----------
    windows : Windows
        Windows of all subjects.
    subject, recording : int arrays, shape (n,)
        Numbers of each window's subject and recording.
    truth, constants : dict of float arrays, shape (n,)
        By name of `xmae.evaluation.protocol.beat_scores.VALUES`: truth, and what stands for no
        answer: the mean of the other folds' subjects.
    trial : Trial
        The heart rate with its folds by subject.
    """

    windows: object
    subject: np.ndarray
    recording: np.ndarray
    truth: dict[str, np.ndarray]
    constants: dict[str, np.ndarray]
    trial: Trial

    def delays(self):
        """Return how long after its R peaks the pulse of each window's recording rises, samples:
        float (n,), NaN where that cannot be found.
        """
        found = np.full(len(self.recording), np.nan)
        window, time = beats_by_window(self.windows.beats)
        for number in np.unique(self.recording):
            rows = np.flatnonzero(self.recording == number)
            mine = np.isin(window, rows)
            place = np.searchsorted(rows, window[mine])
            peaks = SFREQ * time[mine] + N_TIMES * place
            delay = recording_delay(self.windows.ppg[rows].ravel(), peaks)
            found[rows] = np.nan if delay is None else delay
        return found

    def pulses(self):
        """Return the pulses of each window by its ECG, with those of the windows before and after:
        times in s, ascending, (n, K), NaN at the end; all NaN where the delay cannot be found.
        """
        beats, follows = self.windows.beats, self.windows.follows
        before, after = np.full_like(beats, np.nan), np.full_like(beats, np.nan)
        before[1:] = np.where(follows[:-1, None], beats[:-1] - WINDOW_S, np.nan)
        after[:-1] = np.where(follows[:-1, None], beats[1:] + WINDOW_S, np.nan)
        joined = np.concatenate([before, beats, after], axis=1)
        return np.sort(joined + self.delays()[:, None] / SFREQ, axis=1)

    def score(self, reading):
        """Compare a reading of all windows with the truth: `Scored`."""
        return score_reading(self.windows, self.recording, self.subject, reading, self.constants)


def load_cohort(store):
    """Load the windows of a store with their truth: `Cohort`; raises a `UserError` if no window has
    any.
    """
    windows = WindowStore(store).windows()
    windows.require_ecg("scoring beats")
    truth = true_values(windows)
    if not np.isfinite(truth["hr"]).any():
        raise UserError(f"{store}: no window has truth from its ECG; prepare it again")
    subject = pd.factorize(windows.subject)[0]
    recording = pd.MultiIndex.from_arrays([windows.subject, windows.record]).factorize()[0]
    (dataset,) = load_datasets([store], tasks=["hr"])
    trial = make_trial(dataset, REGISTRY["hr"], "all")
    constants = {name: fold_constants(x, trial) for name, x in truth.items()}
    return Cohort(windows, subject, recording, truth, constants, trial)
