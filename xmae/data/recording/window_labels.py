"""Labels that a data set gives for windows of its own length, as a series in time."""

import numpy as np


def rates_of_windows(rates, window_s, step_s):
    """Turn one value per window into a series with one value per step.

    Each step gets the value of the window in whose middle it lies.

    Parameters
    ----------
    rates : array, shape (n_windows,)
        One value a window, per minute; windows start every `step_s` from the recording's start.
    window_s, step_s : float
        Length of a window, and time from one start to the next, s.

    Returns
    -------
    values : array
        NaN before the middle of the first window.
    sfreq : float
        Values per second.

    Examples
    --------
    >>> rates_of_windows([60.0, 61.0], window_s=8, step_s=2)
    (array([nan, nan, 60., 61.]), 0.5)
    """
    ahead = int((window_s / 2 - step_s / 2) // step_s) + 1
    return np.concatenate([np.full(ahead, np.nan), np.asarray(rates, np.float64)]), 1 / step_s
