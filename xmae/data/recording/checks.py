"""Checks of recordings, alone and against each other: swapped channels, shifted clocks, doubles,
overlaps.

Each finding is refused or mended by a rule that docs/data.md states, and counted.
"""

import hashlib
from datetime import datetime, timedelta

import numpy as np

from xmae.errors import UserError
from xmae.signals.filters import CLEANS_ECG, ecg_clean
from xmae.signals.resample import bridge_gaps

# ECG is 63 to 2,290 times as rough as PPG in 38 recordings; below this they are the wrong way round
SWAPPED = 0.2
TOUCHING_S = 1.0  # s: recordings that share less than this follow each other
FINGERPRINT_S = 30  # s of PPG that tell whether two recordings are the same


def roughness(x, sfreq):
    """How much a signal bends from sample to sample, as a share of its variance; 0 for too short a
    stretch.
    """
    known = np.isfinite(x)
    clean = ecg_clean(bridge_gaps(x, known), sfreq)
    return np.var(np.diff(clean, 2)[known[2:]]) / max(np.var(clean[known]), 1e-30)


def refuse_swapped(recording):
    """The recording; a `UserError` if what is called PPG looks like ECG, and the other way
    round.
    """
    if recording.ecg is None or not np.isfinite(recording.ecg).any() or not CLEANS_ECG:
        return recording
    n_times = int(60 * recording.sfreq)  # the first minute tells
    ppg, ecg = (roughness(x[:n_times], recording.sfreq) if np.isfinite(x[:n_times]).any() else 0
                for x in (recording.ppg, recording.ecg))  # fmt: skip
    if ppg > 0 and ecg > 0 and ecg / ppg < SWAPPED:
        raise UserError(
            f"{recording.record}: the channels for ppg and ecg look swapped; name them in a channel map"
        )
    return recording


def fingerprint(recording):
    """SHA-256 of the first 30 s of PPG from where it first moves, as hexadecimal digits."""
    x = recording.ppg
    moves = np.flatnonzero(np.diff(x) != 0)
    begin = moves[0] if len(moves) else 0
    part = x[begin : begin + int(FINGERPRINT_S * recording.sfreq)]
    return hashlib.sha256(np.nan_to_num(part).astype(np.float32).tobytes()).hexdigest()


def settle_doubles(index, before):
    """Find recordings that are in there twice, and people with two names.

    Of several recordings with the same samples the first stays. Their subjects are one person, and
    go into one split. Of two recordings of a subject that overlap in time, by the start that their
    files state, the longer stays.

    Parameters
    ----------
    index : list of dict
        New recordings: subject, record, source, start, seconds, windows, samples_sha256.
    before : list of dict
        Recordings that are in the store already.

    Returns
    -------
    left_out : list of dict
        Recordings to leave out: source, record, windows, why. Their rows in `index` get a mark
        "left_out".
    same : dict
        Subject -> the name under which the same person came first.
    """
    left_out, same, first = [], {}, {row["samples_sha256"]: row for row in before}
    for row in index:
        other = first.setdefault(row["samples_sha256"], row)
        if other is row:
            continue
        why = f"same samples as {other['record']}"
        if row["subject"] != other["subject"]:
            one, another = first_name(row["subject"], same), first_name(other["subject"], same)
            same |= {one: another} if one != another else {}
            why += f"; so {row['subject']} and {other['subject']} are one person"
        left_out.append(leave(row, why))
    kept = {}
    timed = [row for row in index if row["start"] and not row.get("left_out")]
    for row in [
        *(row for row in before if row["start"]),
        *sorted(timed, key=lambda row: -row["seconds"]),
    ]:
        begin = datetime.fromisoformat(row["start"])
        end = begin + timedelta(seconds=row["seconds"] - TOUCHING_S)
        taken = kept.setdefault(row["subject"], [])
        clash = next((name for a, b, name in taken if begin < b and a < end), None)
        if clash is None:
            taken.append((begin, end, row["record"]))
        elif not any(row is old for old in before):
            left_out.append(leave(row, f"overlaps with {clash} in time"))
    return left_out, {subject: first_name(subject, same) for subject in same}


def first_name(subject, same):
    """Follow a subject to the name under which the same person came first."""
    while subject in same:
        subject = same[subject]
    return subject


def leave(row, why):
    """Mark a recording as left out; what store.json says about it."""
    row["left_out"] = True
    return {"source": row["source"], "record": row["record"], "windows": row["windows"], "why": why}
