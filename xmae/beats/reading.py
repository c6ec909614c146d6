"""What any method reads from windows of PPG: beats, heart rate and how sure it is."""

from dataclasses import dataclass

import numpy as np

DOUBTFUL = 0.25  # confidence of a beat below which its intervals are doubtful: half the full length


@dataclass(frozen=True)
class Reading:
    """Beats and heart rates of windows of 10 s.

    Parameters
    ----------
    window : int array, shape (n_beats,)
        Number of the window that each beat is in, ascending.
    time : float array, shape (n_beats,)
        Time of each beat, s from the start of its window; ascending within a window.
    confidence : float array, shape (n_beats,)
        How sure the method is of each beat, 0 to 1.
    rate : float array, shape (n_windows,)
        Heart rate, bpm; NaN = not answered.
    certainty : float array, shape (n_windows,)
        How sure the method is of each window, 0 to 1; NaN for methods that do not say.
    """

    window: np.ndarray
    time: np.ndarray
    confidence: np.ndarray
    rate: np.ndarray
    certainty: np.ndarray
