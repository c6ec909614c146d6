"""Heart rate of windows that are followed with their accelerometer, beside the probes of a table.

Nothing is fitted here: spectra of the PPG less the normalised spectrum of the accelerometer, with a
belief over heart rate; with a student for PPG and three axes, its timing maps too.
"""

import numpy as np
import torch

from xmae.beats.r_peaks import stretches
from xmae.beats.read import as_codes
from xmae.beats.track import acceleration_samples, beside, evidence, follow
from xmae.beats.tracker import shipped_tracker
from xmae.errors import UserError
from xmae.evaluation.protocol.folds import constant_trial
from xmae.models.beat_student import takes_acceleration
from xmae.signals.front_end import FrontEnd
from xmae.signals.window import N_TIMES, SFREQ

CLASSICAL = "spectra, followed"
WINDOW_S = N_TIMES // SFREQ


def followed_rates(dataset, model=None):
    """Track the heart rate through all windows of a dataset, recording by recording.

    Parameters
    ----------
    dataset : Dataset
        With or without acceleration.
    model : BeatStudent, optional
        For PPG and three axes; None: spectra alone.

    Returns
    -------
    float array, shape (n,)
        Heart rate at the end of each window, bpm; NaN where none is given.
    """
    rates = np.full(len(dataset.ppg), np.nan)
    for part in stretches(dataset):
        rates[part] = stretch_rates(dataset, part, model)
    return rates


@torch.no_grad()
def stretch_rates(dataset, part, model):
    """Track the heart rate through the windows of one recording: rates at their ends, bpm."""
    n = part.stop - part.start
    ppg = np.append(dataset.ppg[part].ravel(), np.zeros(SFREQ))  # a second, for the filters' reach
    acc = None
    if dataset.acc is not None and np.isfinite(dataset.acc[part]).all(axis=1).any():
        rows = np.concatenate(list(dataset.acc[part]), axis=1)
        acc, _ = acceleration_samples(np.pad(rows, ((0, 0), (0, SFREQ)), "edge"), SFREQ)
    try:
        samples = beside(FrontEnd(SFREQ).push(as_codes(ppg)), acc)[None]
    except UserError:  # a flat line
        return np.full(n, np.nan)
    kind = ("model" if model else "classical") + (
        "" if acc is not None else " without accelerometer"
    )
    maps = None
    if model is not None:
        x = torch.from_numpy(samples.astype(np.float32) / 127)
        maps = model.timing(x).numpy()
    table = shipped_tracker(kind, "both ways")
    shown = evidence(samples, table.removal, maps)
    rate, sure = (x[0] for x in follow(shown, table, both_ways=True))
    ends = np.minimum(WINDOW_S * np.arange(1, n + 1), len(rate)) - 1
    return np.where(sure[ends] >= table.certainty.least, rate[ends] / 100, np.nan)


def off(trial, rate):
    """Return the mean absolute error over subjects of the answered rates, in the order of
    `trial.rows`, as text.
    """
    error, known = np.abs(rate - trial.truth[trial.rows]), np.isfinite(rate)
    subjects = np.unique(trial.subject[known])
    means = [error[known & (trial.subject == subject)].mean() for subject in subjects]
    return f"{np.mean(means):.2f} bpm off there" if means else "none"


def followed_predictions(encoders, trials):
    """Return rows of a heart-rate table, {method: {trial's name: predictions}}, and lines for it;
    unanswered = the constant.

    None where no window has acceleration, or another task than heart rate is asked for.
    """
    moving = [trial.dataset.acc is not None for trial in trials]
    if not any(moving) or any(trial.task.name != "hr" for trial in trials):
        return {}, []
    models = {CLASSICAL: None} | {
        f"{name}, followed": encoder
        for name, encoder in encoders.items()
        if takes_acceleration(encoder)
    }
    found, lines = {}, ["", "**Followed with the accelerometer**, nothing fitted here:"]
    for name, model in models.items():
        found[name], shares = {}, []
        for trial in trials:
            rate = followed_rates(trial.dataset, model)[trial.rows]
            known = np.isfinite(rate)
            found[name][trial.name] = np.where(known, rate, constant_trial(trial))
            shares.append(
                f"{100 * known.mean():.0f} % of {trial.dataset.name} ({off(trial, rate)})"
            )
        lines.append(f"{name} answered {', '.join(shares)}; the rest scores as the constant.")
    return found, lines
