"""Min-max scaling of windows, safe on flat ones."""

import numpy as np


def minmax_scale(x):
    """Scale each window to [-1, 1] by its own minimum and maximum.

    Parameters
    ----------
    x : numpy array or torch tensor of floats, shape (..., n_times)
        Windows, any unit.

    Returns
    -------
    scaled : same type and dtype, shape (..., n_times)
        -1 at the minimum, 1 at the maximum; all zeros where the window is flat.
    flat : bool, shape (...)
        True where the window has no range at all.

    Examples
    --------
    >>> minmax_scale(np.array([[1.0, 2.0, 3.0], [5.0, 5.0, 5.0]]))
    (array([[-1.,  0.,  1.],
           [ 0.,  0.,  0.]]), array([False,  True]))
    """
    if isinstance(x, np.ndarray):
        low, high = x.min(axis=-1, keepdims=True), x.max(axis=-1, keepdims=True)
    else:
        low, high = x.amin(dim=-1, keepdim=True), x.amax(dim=-1, keepdim=True)
    span = high - low
    flat = span == 0
    scaled = (2 * ((x - low) / (span + flat)) - 1) * ~flat
    return scaled, flat[..., 0]
