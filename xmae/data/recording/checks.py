"""Checks of recordings, alone and against each other: swapped channels, shifted clocks, doubles,
overlaps.

Each finding is refused or mended by a rule that docs/data.md states, and counted.
"""

import hashlib
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np

from xmae.data.recording.acceleration import length
from xmae.errors import UserError, require_choice
from xmae.signals.defects import motion
from xmae.signals.filters import CLEANS_ECG, ecg_clean
from xmae.signals.polarity import POLARITIES, polarity_of
from xmae.signals.resample import bridge_gaps
from xmae.signals.window import WINDOW_S

# ECG is 63 to 2,290 times as rough as PPG in 38 recordings; below this they are the wrong way round
SWAPPED = 0.2
MAX_MOTION = 0.1  # g, standard deviation of the fast part of acceleration; above it, somebody moves
TOUCHING_S = 1.0  # s: recordings that share less than this follow each other
FINGERPRINT_S = 30  # s of PPG that tell whether two recordings are the same


def roughness(x, sfreq):
    """Return the power of a signal's second differences over its variance; 0 for a stretch that is
    too short.
    """
    known = np.isfinite(x)
    clean = ecg_clean(bridge_gaps(x, known), sfreq)
    return np.var(np.diff(clean, 2)[known[2:]]) / max(np.var(clean[known]), 1e-30)


def refuse_swapped(recording):
    """Return the recording; raises a `UserError` if its PPG looks like ECG and its ECG like PPG."""
    if recording.ecg is None or not np.isfinite(recording.ecg).any() or not CLEANS_ECG:
        return recording
    n_times = int(60 * recording.sfreq)  # the first minute tells
    ppg, ecg = (roughness(x[:n_times], recording.sfreq) if np.isfinite(x[:n_times]).any() else 0
                for x in (recording.ppg, recording.ecg))  # fmt: skip
    if ppg > 0 and ecg > 0 and ecg / ppg < SWAPPED:
        raise UserError(
            f"{recording.record}: the channels for ppg and ecg look swapped; name them in a "
            "channel map"
        )
    return recording


def upright(recording, polarity="auto"):
    """Return the recording with its PPG the right way up: it rises in systole.

    Parameters
    ----------
    recording : Recording
        As read.
    polarity : str
        "auto": turned over where it is certain that pulses fall, which `repairs` then says
        ("inverted_ppg"; "polarity_unclear" where it is not clear); "upright": as it is; "inverted":
        turned over.

    Raises
    ------
    UserError
        If `polarity` is none of these.
    """
    require_choice("--polarity", polarity, POLARITIES)
    if polarity == "upright":
        return recording
    if polarity == "inverted":
        return replace(recording, ppg=-recording.ppg, repairs=[*recording.repairs, "inverted_ppg"])
    found = polarity_of(recording.ppg, recording.sfreq, still(recording))
    if found.name == "upright":
        return recording
    if found.name == "unclear":
        return replace(recording, repairs=[*recording.repairs, "polarity_unclear"])
    return replace(recording, ppg=-recording.ppg, repairs=[*recording.repairs, "inverted_ppg"])


def still(recording):
    """Tell where the wearer does not move, bool (n_times,); None without acceleration."""
    if recording.acc is None:
        return None
    first = np.arange(0, len(recording.ppg) + 1, round(WINDOW_S * recording.sfreq))
    if len(first) < 2:
        return None
    moves = motion(length(recording.acc), first, recording.sfreq) > MAX_MOTION
    whole = np.repeat(~moves, np.diff(first))
    return np.pad(whole, (0, len(recording.ppg) - len(whole)), constant_values=False)


def fingerprint(recording):
    """Return the SHA-256 of the first 30 s of PPG after it first changes, as hexadecimal digits."""
    x = recording.ppg
    moves = np.flatnonzero(np.diff(x) != 0)
    begin = moves[0] if len(moves) else 0
    part = x[begin : begin + int(FINGERPRINT_S * recording.sfreq)]
    return hashlib.sha256(np.nan_to_num(part).astype(np.float32).tobytes()).hexdigest()


def settle_doubles(index, before):
    """Find recordings that occur twice, and people with two names.

    Of several recordings with the same samples the first stays. Their subjects are one person, and
    go into one split. Of two recordings of a subject that overlap in time (by the starts in their
    files) the longer stays.

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
    """Return the first name of the person behind a subject."""
    while subject in same:
        subject = same[subject]
    return subject


def leave(row, why):
    """Mark a recording as left out; return the entry for store.json."""
    row["left_out"] = True
    return {"source": row["source"], "record": row["record"], "windows": row["windows"], "why": why}
