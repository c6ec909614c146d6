"""Rows of an exported student that reads beats: its embedding and, behind it, its timing map."""

from dataclasses import dataclass

import numpy as np

from xmae.beats.certainty import SILENT, Certainty, calibrate, shipped_certainty, shipped_tables
from xmae.beats.reader import MapCode, read_maps
from xmae.beats.timing_map import LOG_SHARE
from xmae.beats.truth import truth_of_windows

CHANNELS = 3  # of the map
LEAST_WINDOWS = 100  # with truth, for a table of one's own


@dataclass
class RowSession:
    """An open student that reads beats.

    Parameters
    ----------
    rows : callable
        Scaled windows (n, 1000) to rows (n, width + 3 x outputs).
    width : int
        Numbers of the embedding.
    """

    rows: object
    width: int

    def __call__(self, ppg):
        """Embed scaled windows (n, 1000): (n, width)."""
        return self.rows(ppg)[:, : self.width]


def float_rows(encoder, ppg):
    """Return the output of a `BeatStudent`'s exported graph for scaled windows (n, 1000): float32
    (n, D).
    """
    import torch

    device = next(encoder.parameters()).device
    rows = []
    with torch.no_grad():
        for part in torch.as_tensor(np.asarray(ppg, np.float32)).split(64):
            embedding, maps = encoder.both(part[:, None].to(device))
            maps = maps * maps.new_tensor([1, 1, LOG_SHARE])[:, None]
            rows.append(torch.cat([embedding, maps.transpose(1, 2).flatten(1)], 1).cpu().numpy())
    return np.concatenate(rows)


def read_rows(rows, width, output=None):
    """Read beats and heart rates from rows (n, D).

    Codes of an int8 file are taken as they are; floats are rounded as in `read_maps`.

    Parameters
    ----------
    rows : float array, shape (n, D)
    width : int
        Numbers of the embedding, before the map.
    output : End, optional
        Output of the file, with its scale; None: floats.

    Returns
    -------
    Reading
    """
    maps = np.asarray(rows)[:, width:]
    maps = maps.reshape(len(maps), -1, CHANNELS).transpose(0, 2, 1)
    if output is not None and output.dtype == "int8":
        scale, zero = output.scale, output.zero_point
        codes = np.clip(np.rint(maps / scale), -128 - zero, 127 - zero).astype(np.int64)
        return read_maps(codes, MapCode.of_scale(scale, LOG_SHARE))
    return read_maps(maps / np.array([1, 1, LOG_SHARE])[:, None])


def certainty_of(encoder, windows):
    """Return the certainty table of a student, and in words how it was made.

    Parameters
    ----------
    encoder : BeatStudent
        One with the timing of a shipped student has that student's table.
    windows : Windows or None
        Validation windows that make the table of any other student.
    """
    from xmae.distill.beats import shipped_timing  # brings PyTorch

    if (name := shipped_timing(encoder)) in shipped_tables():
        return shipped_certainty(name), "shipped"
    has_ecg = windows is not None and windows.ecg is not None
    truth = truth_of_windows(windows).hr_ecg if has_ecg else np.zeros(0)
    known = np.isfinite(truth)
    if known.sum() < LEAST_WINDOWS:
        return None, f"{known.sum()} validation windows with truth, {LEAST_WINDOWS} are needed"
    reading = encoder.read_windows(windows.ppg[known])
    codes = np.rint(reading.certainty * 255).astype(int)
    table = calibrate(codes, reading.rate, truth[known], windows.subject[known])
    return table, "validation windows"


def table_of(described):
    """Read a `CertaintyTable` from a bundle's manifest; with None the student gives no heart
    rate.
    """
    if described is None:
        return SILENT
    return Certainty(np.array(described.half_width, np.int64), described.least)
