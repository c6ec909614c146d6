"""WFDB records (PhysioNet): a header `.hea` with its signal files, of one or several segments, read
by `wfdb`.

A record of several segments, as in the MIMIC matched waveforms, is read segment by segment: no
window spans a gap, and memory holds one segment. Segments without PPG or a channel that the map
names, and of less than a window, are passed over and counted; those of nothing ("~") say that
nothing was recorded.
"""

import re
from datetime import timedelta
from itertools import chain
from pathlib import Path

import numpy as np
import wfdb

from xmae.data.recording.channels import PPG_NAMES, Channel, find_roles, plain_name, recording_of
from xmae.data.recording.recording import PassedOver, attempt
from xmae.data.recording.sizes import check_columns, check_samples
from xmae.errors import UserError
from xmae.manifest import path_below
from xmae.signals.window import WINDOW_S

MAX_SEGMENTS = 100_000  # of a record; the longest of MIMIC has some thousands
YEARS = {"month": 1 / 12, "week": 7 / 365.25, "day": 1 / 365.25}  # in which ages are stated
# what wfdb raises on damaged or truncated files
DAMAGE = (OSError, ValueError, IndexError, TypeError)


def read(path, channel_map):
    """Yield the recordings of one WFDB record.

    Age and sex come from the header's comments where it says "age: 64 sex: F" or similar. The
    subject is "p000123" for MIMIC's "p000123-2183-04-28-17-47", otherwise the name of the record,
    as WFDB headers do not carry one.
    """
    name = str(path.with_suffix(""))
    header = read_header(name)
    if not isinstance(header, wfdb.MultiRecord):
        yield read_segment(
            name, header, channel_map, path.stem, labels_of(header.comments), 0.0, header
        )
        return
    starts = np.cumsum([0, *header.seg_len[:-1]]) / header.fs
    # a layout has length 0
    places = [k for k, part in enumerate(header.seg_name) if part != "~" and header.seg_len[k]]
    check_columns(len(places), path, "segments", MAX_SEGMENTS)
    parts = {
        k: attempt(read_header, str(path.parent / path_below(header.seg_name[k], path)))
        for k in places
    }
    whole = [header, *(part for part in parts.values() if not isinstance(part, UserError))]
    labels = labels_of(list(chain.from_iterable(part.comments or [] for part in whole)))
    used = 0
    for k, part in parts.items():
        if isinstance(part, UserError):
            yield part
        elif unusable := why_passed_over(part, header.seg_len[k], header.fs, channel_map):
            yield PassedOver(unusable)
        else:
            segment = str(path.parent / header.seg_name[k])
            yield attempt(
                read_segment,
                segment,
                part,
                channel_map,
                path.stem,
                labels,
                float(starts[k]),
                header,
            )
            used += 1
    if not used:
        raise UserError(f"{name}.hea: no segment with PPG; expected {' or '.join(PPG_NAMES)}")


def read_header(name):
    """Read the header of a record or segment."""
    try:
        header = wfdb.rdheader(name)
        refuse_unread_rate(name, header)
        return header
    except UserError:
        raise
    except DAMAGE as error:
        raise UserError(
            f"{name}.hea: not readable as a WFDB record, perhaps truncated ({error})"
        ) from error


def refuse_unread_rate(name, header):
    """Raise a `UserError` if a header states a rate that `wfdb` cannot read: it would assume 250
    Hz, the default of headers without a rate.
    """
    lines = Path(f"{name}.hea").read_text(errors="replace").splitlines()
    words = next(line for line in lines if line.strip() and line[0] != "#").split()
    stated = re.match(r"[0-9.eE+]+", words[2]) if len(words) > 2 else None
    if len(words) > 2 and (not stated or float(stated[0]) != header.fs):
        raise UserError(f"{name}.hea: states the rate '{words[2][:20]}', which is none")


def why_passed_over(part, length, sfreq, channel_map):
    """Return why a segment with this many samples at `sfreq` (Hz) is unusable; "" if it is
    usable.
    """
    if length < WINDOW_S * sfreq:
        return "segments under 10 s"
    try:
        stated = dict(zip(part.sig_name or [], part.units or [], strict=False))
        roles = find_roles(part.sig_name or [], channel_map.roles, stated)
    except UserError:
        return "segments without a mapped channel"
    return "" if "ppg" in roles else "segments without PPG"


def read_segment(name, header, channel_map, record, labels, start_s, whole):
    """Read a record as one `Recording`, or a segment that starts `start_s` after the start of the
    `whole` record.
    """
    names = [channel.strip(" ,") for channel in header.sig_name or []]
    try:
        stated = stated_units(Path(f"{name}.hea"), header.units)
        roles = find_roles(names, channel_map.roles, dict(zip(names, stated, strict=True)))
        if "ppg" not in roles:
            raise UserError(f"no PPG among its channels {names}; expected {' or '.join(PPG_NAMES)}")
        channels = sorted({names.index(channel) for channel in chain.from_iterable(roles.values())})
        check_lengths(name, header)
        data = wfdb.rdrecord(name, channels=channels, smooth_frames=False, physical=False)
        refuse_wrong_sums(data)
        signals = data.dac(expanded=True)
    except UserError as error:
        raise UserError(f"{name}.hea: {error}") from None
    except DAMAGE as error:
        raise UserError(
            f"{name}.hea: not readable as a WFDB record, perhaps truncated ({error})"
        ) from error
    frames = [header.samps_per_frame[channel] for channel in channels]
    rates = [channel_map.check_sfreq(header.fs * per_frame, f"{name}.hea") for per_frame in frames]
    subject = re.match(r"p\d{5,}(?=-)", record)
    start = ""
    if whole.base_datetime is not None:
        start = (whole.base_datetime + timedelta(seconds=start_s)).isoformat()
    return recording_of(
        [
            Channel(names[channel], x.astype(np.float64), rate, unit=stated[channel])
            for channel, x, rate in zip(channels, signals, rates, strict=True)
        ],
        subject=subject[0] if subject else record,
        record=Path(name).name,
        labels=labels,
        wanted=roles,
        start=start,
        repairs=[] if subject else ["subject_from_file_name"],
        units=channel_map.units,
    )


def check_lengths(name, header):
    """Raise a `UserError` if a header claims more channels or samples than its files can hold."""
    path = Path(f"{name}.hea")
    check_columns(len(header.sig_name or []), path)
    for file in set(header.file_name or []) - {"~"}:  # which stands for none
        path_below(file, path)
    files = {path.with_name(file) for file in header.file_name or []}
    size = sum(file.stat().st_size for file in files if file.is_file())
    check_samples((header.sig_len or 0) * sum(header.samps_per_frame or []), path, size)


def refuse_wrong_sums(data):
    """Raise a `UserError` if the codes of a channel do not add up to its checksum.

    Some writers put a sum of 0 where they keep none.
    """
    for channel, x, stated in zip(
        data.sig_name, data.e_d_signal, data.checksum or [], strict=False
    ):
        found = int(np.sum(x, dtype=np.int64)) % 65536
        if stated and found != stated % 65536:
            raise UserError(
                f"channel '{channel}' is damaged: its samples add up to {found}, its checksum is"
                f" {stated % 65536}"
            )


def stated_units(path, units):
    """Return the units of all channels as the header states them: `wfdb` drops letters that are not
    ASCII, so that "µV" becomes "V".
    """
    raw = path.read_bytes()
    if raw.isascii():
        return list(units or [])
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    lines = [line for line in text.splitlines() if line.strip() and line[0] != "#"][1:]
    found = [re.match(r"\S+\s+\S+\s+[^\s/]*(?:/(\S+))?", line) for line in lines]
    stated = [match[1] if match and match[1] else None for match in found]
    return [there or unit for there, unit in zip(stated, units, strict=True)]


def labels_of(comments):
    """Return the age and sex from the comments of a header."""
    labels, text = {}, "\n".join(comments or [])
    units = "|".join(YEARS)
    if age := re.search(rf"\bage[^\w\n]{{1,4}}(\d+)[ \t]*(?:({units})s?\b)?", text, re.IGNORECASE):
        labels["age"] = float(age[1]) * YEARS.get((age[2] or "").lower(), 1)
    if sex := re.search(r"\b(?:sex|gender)[^\w\n]{1,4}([MF])", text, re.IGNORECASE):
        labels["sex"] = sex[1].upper()
    return labels


def segments_of(path):
    """Return the headers of a record's segments; none for a record with one segment."""
    lines = [
        line
        for line in path.read_text(errors="replace").splitlines()
        if line.strip() and line[0] != "#"
    ]
    if not lines or "/" not in lines[0].split()[0]:
        return set()
    return {path.parent / f"{line.split()[0]}.hea" for line in lines[1:]}


def files_of(path):
    """Return the files of a record: its header, those of its segments, and their signal files."""
    headers = [path, *sorted(segments_of(path))]
    signals = set()
    for part in filter(Path.is_file, headers):
        signals |= {part.parent / line.split()[0] for line in signal_lines(part)}
    return [*headers, *sorted(signals)]


def holds_ppg(path, channel_map):
    """Tell whether a header names a PPG channel, or segments with one."""
    wanted = channel_map.roles.get("ppg", PPG_NAMES)
    wanted = {plain_name(name) for name in ([wanted] if isinstance(wanted, str) else wanted)}
    parts = [part for part in segments_of(path) if part.is_file()] or [path]
    names = {
        plain_name(channel_of(line))
        for line in chain.from_iterable(signal_lines(part) for part in parts)
    }
    return bool(names & wanted)


def channel_of(line):
    """Return the channel name in a line of a header, after eight fields."""
    fields = line.split(None, 8)
    return fields[8] if len(fields) > 8 else fields[-1]


def signal_lines(path):
    """Return the lines of a header that describe signals; their last word is the name of the
    channel.
    """
    lines = [
        line
        for line in path.read_text(errors="replace").splitlines()
        if line.strip() and line[0] != "#"
    ]
    return lines[1:]
