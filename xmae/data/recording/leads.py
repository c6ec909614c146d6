"""Channels for the criss-cross encoder: chosen by name from a store, standardised over each
recording.
"""

import re
from itertools import chain

import numpy as np

from xmae.errors import UserError


def choose_leads(windows, channels):
    """Return the channels of windows, each standardised over its recording (mean 0, deviation 1; a
    flat one becomes zeros).

    Parameters
    ----------
    windows : Windows
        Windows of a store prepared with `leads`.
    channels : str
        Names separated by commas; "V/MCL" is V, or MCL where V was not recorded.

    Returns
    -------
    float32 array, shape (n, C, 2000)
        At 200 Hz; NaN where a channel was not recorded or has missing samples in the window.

    Raises
    ------
    UserError
        If the windows have no leads, or none of a name.
    """
    if windows.leads is None:
        raise UserError("this store holds no leads; prepare it with --leads")
    wanted = [re.split(r"\s*/\s*", name.strip()) for name in channels.split(",")]
    if unknown := [name for name in chain.from_iterable(wanted) if name not in windows.lead_names]:
        raise UserError(
            f"unknown channel '{unknown[0]}'; the store has {', '.join(windows.lead_names)}"
        )
    columns = []
    for names in wanted:
        column = np.full(windows.leads[:, 0].shape, np.nan, np.float32)
        for name in names:
            missing = np.isnan(column).any(-1)
            column[missing] = windows.leads[missing, windows.lead_names.index(name)]
        columns.append(column)
    leads = np.stack(columns, axis=1)
    _, recording = np.unique(
        np.char.add(np.char.add(windows.subject, "/"), windows.record), return_inverse=True
    )
    for number in range(recording.max() + 1):
        rows = recording == number
        leads[rows] = standardise(leads[rows])
    return leads


def standardise(leads):
    """Standardise windows of one recording (n, C, n_times) to mean 0 and deviation 1 in each
    channel, ignoring missing samples.
    """
    whole = ~np.isnan(leads).any(-1, keepdims=True)
    count = np.maximum(whole.sum(0) * leads.shape[-1], 1)
    mean = np.where(whole, leads, 0).sum((0, 2), keepdims=True, dtype=np.float64) / count
    deviation = np.sqrt(
        (np.where(whole, leads - mean, 0) ** 2).sum((0, 2), keepdims=True, dtype=np.float64) / count
    )
    return ((leads - mean) / np.where(deviation > 0, deviation, 1)).astype(np.float32)
