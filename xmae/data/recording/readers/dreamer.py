"""DREAMER: EEG (14 electrodes) and ECG (2 leads) of 23 people who watched 18 film clips, with their
own ratings.

The file `DREAMER.mat` is given by its authors to those who sign their agreement; nothing of it is
shipped here. Source: Katsigiannis & Ramzan, *DREAMER: A Database for Emotion Recognition Through
EEG and ECG Signals From Wireless Low-cost Off-the-Shelf Devices*, IEEE J Biomed Health Inform
22(1):98-107, 2018.
"""

from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from scipy import io

from xmae.data.recording.matlab import check_matlab
from xmae.errors import UserError

EEG_SFREQ, ECG_SFREQ = 128, 256  # Hz
RATINGS = ("valence", "arousal", "dominance")  # 1 to 5


@dataclass
class Trial:
    """One person watching one clip.

    Parameters
    ----------
    subject : str
        "S01" and so on.
    video : int
        Number of the clip, from 1.
    eeg, eeg_baseline : float arrays, shape (electrodes, n_times)
        Microvolts at 128 Hz, with the headset's offset; while watching, and in the rest before it.
    ecg, ecg_baseline : float arrays, shape (leads, n_times)
        At 256 Hz, the recorder's unit.
    ratings : dict of str to float
        valence, arousal, dominance: 1 to 5.
    """

    subject: str
    video: int
    eeg: np.ndarray
    eeg_baseline: np.ndarray
    ecg: np.ndarray
    ecg_baseline: np.ndarray
    ratings: dict[str, float]


def read_dreamer(path):
    """Read `DREAMER.mat`.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    trials : list of Trial
        Trials of all subjects and clips.
    electrodes : list of str
        Names of the rows of `eeg`.

    Raises
    ------
    UserError
        If the file is missing, damaged or of another layout, states other rates, or EEG and ECG of
        a trial do not last equally long.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(
            f"{path}: no such file; DREAMER.mat comes from its authors, after a signed agreement"
        )
    try:
        check_matlab(path)
        content = io.loadmat(
            path, squeeze_me=True, struct_as_record=False, variable_names=["DREAMER"]
        )
    except UserError:
        raise
    except Exception as error:  # a damaged .mat raises any of a dozen types
        raise UserError(f"{path}: not readable as a MATLAB file ({error})") from error
    try:
        dreamer = content["DREAMER"]
        rates = float(dreamer.EEG_SamplingRate), float(dreamer.ECG_SamplingRate)
        if rates != (EEG_SFREQ, ECG_SFREQ):
            raise UserError(
                f"{path}: rates {rates[0]:g} and {rates[1]:g} Hz; expected {EEG_SFREQ} and "
                f"{ECG_SFREQ} Hz"
            )
        electrodes = [str(name) for name in np.atleast_1d(dreamer.EEG_Electrodes)]
        people = np.atleast_1d(dreamer.Data)
        trials = list(
            chain.from_iterable(
                trials_of(person, number) for number, person in enumerate(people, 1)
            )
        )
    except (KeyError, AttributeError, TypeError, ValueError, IndexError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: not laid out as DREAMER.mat ({error})") from error
    for trial in trials:
        check(trial, len(electrodes), path)
    return trials, electrodes


def trials_of(person, number):
    """Return the trials in one element of the field `Data`."""
    columns = [np.atleast_1d(getattr(person, f"Score{name.capitalize()}")) for name in RATINGS]
    parts = [person.EEG.stimuli, person.EEG.baseline, person.ECG.stimuli, person.ECG.baseline]
    parts = [np.atleast_1d(part) for part in parts]
    if len({len(x) for x in (*columns, *parts)}) != 1:
        raise ValueError(f"subject {number} has unequal numbers of clips and ratings")
    for video, (eeg, eeg_baseline, ecg, ecg_baseline, *ratings) in enumerate(
        zip(*parts, *columns, strict=True), 1
    ):
        signals = (np.asarray(x, float).T for x in (eeg, eeg_baseline, ecg, ecg_baseline))
        yield Trial(
            f"S{number:02d}", video, *signals, dict(zip(RATINGS, map(float, ratings), strict=True))
        )


def check(trial, n_electrodes, path):
    """Raise a `UserError` if a trial has a wrong number of rows, or signals of different
    lengths.
    """
    name = f"{path}: subject {trial.subject}, clip {trial.video}"
    for eeg, ecg, what in (
        (trial.eeg, trial.ecg, "clip"),
        (trial.eeg_baseline, trial.ecg_baseline, "baseline"),
    ):
        if eeg.ndim != 2 or len(eeg) != n_electrodes or ecg.ndim != 2:
            raise UserError(
                f"{name}: EEG of shape {eeg.T.shape}, ECG {ecg.T.shape}; expected (n, "
                f"{n_electrodes}), (n, 2)"
            )
        seconds = eeg.shape[1] / EEG_SFREQ, ecg.shape[1] / ECG_SFREQ
        if abs(seconds[0] - seconds[1]) > 1:
            raise UserError(
                f"{name}: EEG of the {what} lasts {seconds[0]:.1f} s but ECG {seconds[1]:.1f} s"
            )
