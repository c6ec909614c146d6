"""A session: one recording from several files of several devices, joined by a manifest in YAML.

```yaml
subject: p01                    # who; default: as a file says, or this file's name
age: 34                         # years; also sex (M or F)
sources:
  - file: watch_ppg.csv         # beside the manifest; then the keys of a channel map, for this file
    ppg: green
    sfreq: 64                   # Hz, where the file has no times
    start: 2026-05-04T10:00:00  # of its first sample; default: as the file says
    clock: watch                # files of one device share a clock
  - {file: watch_acc.csv, clock: watch}
  - {file: strap_ecg.txt, clock: strap}
clocks:
  watch: {offset_s: 1.2, drift_ppm: 30}  # if known: ahead of the ECG's, and faster
timezone: Europe/Berlin         # of starts that state none, where others do
```

Without `clock`, a file with ECG is on one clock, and all others are on that of the PPG. Starts put
the files roughly in place; `prepare` then finds from the beats how the clocks stand.
"""

import re
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

from xmae.data.recording.channels import ChannelMap, lead_name, recording_of
from xmae.data.recording.clocks import correct
from xmae.data.recording.part import Part
from xmae.data.recording.recording import ClockNote
from xmae.errors import UserError, did_you_mean
from xmae.files import read_yaml
from xmae.manifest import path_below

MAX_SOURCES = 64
KEYS = ("subject", "record", "age", "sex", "sources", "clocks", "timezone")
OWN_KEYS = ("file", "clock", "start")  # of a source, beside those of a channel map
KNOWN_CLOCK = ("offset_s", "drift_ppm")
SINGLE = {"ppg": "PPG", "resp": "RESP"}
OTHER_CLOCK = "acceleration_of_another_clock"


@dataclass(frozen=True)
class Source:
    """One file of a session; `clock` is "" where the manifest does not name one."""

    path: Path
    clock: str
    start: str
    channel_map: ChannelMap


@dataclass(frozen=True)
class Session:
    """The content of a manifest."""

    path: Path
    subject: str
    record: str
    named: bool  # whether it names the subject
    labels: dict
    sources: list
    clocks: dict = field(default_factory=dict)
    zone: tzinfo | None = None  # of starts that state none


def recognises(path):
    """Tell whether a YAML file is a session manifest: it has `sources`."""
    try:
        return isinstance(read_keys(path).get("sources"), list)
    except UserError:
        return False


def holds_ppg(path, channel_map):
    """Return True for any manifest, which counts as a recording; False for other YAML files."""
    return recognises(path)


def files_of(path):
    """Return the manifest and the files that it names."""
    return [path, *(source.path for source in load(path).sources)]


def read(path, channel_map):
    """Yield the only recording of a session."""
    session = load(path)
    parts = [read_part(source) for source in session.sources]
    clocks = clocks_of(session, parts)
    ecg_clock, ppg_clock = clock_with("ecg", parts, clocks), clock_with("ppg", parts, clocks)
    if ppg_clock is None:
        raise UserError(f"{path}: no source has PPG; name it, as in ppg: green")
    zero = clocks.index(ppg_clock if ecg_clock is None else ecg_clock)
    starts = seconds_from(session, parts, zero)
    channels, wanted, repairs = [], {}, []
    for source, (part, roles), clock, start_s in zip(
        session.sources, parts, clocks, starts, strict=True
    ):
        repairs += part.repairs
        if "acc" in roles and clock != ppg_clock:
            roles = {role: names for role, names in roles.items() if role != "acc"}
            repairs.append(OTHER_CLOCK)
        for role, channel in renamed(part, roles, source):
            if role in wanted and role in SINGLE:
                raise UserError(f"{path}: two sources have {role}; name one, or leave one out")
            wanted.setdefault(role, []).append(channel.name)
            channels.append(replace(channel, start_s=channel.start_s + start_s))
    start = session.sources[zero].start or parts[zero][0].start
    if start and session.zone and not (time := time_of(start, path, "")).tzinfo:
        start = time.replace(tzinfo=session.zone).isoformat()
    person = person_of(session, parts)
    recording = recording_of(
        channels,
        person or session.subject,
        session.record,
        session.labels,
        wanted=wanted,
        start=start,
        repairs=[*repairs, *([] if person else ["subject_from_file_name"])],
        where=f"{path}: channel",
    )
    yield on_known_clock(recording, session, ppg_clock, ecg_clock)


def person_of(session, parts):
    """Return the person recorded, from the manifest or else from its files; "" if none of them
    names one.

    Raises
    ------
    UserError
        If the manifest does not say it, and the files differ.
    """
    if session.named:
        return session.subject
    people = {part.subject: None for part, _ in parts if part.subject}
    if len(people) > 1:
        raise UserError(
            f"{session.path}: its files name several people, {', '.join(people)}; say who it is, "
            "as in subject: p01"
        )
    return next(iter(people), "")


def on_known_clock(recording, session, ppg_clock, ecg_clock):
    """Return the recording with the clock corrections of the manifest; without them it is marked as
    having several clocks.
    """
    if ecg_clock is None or ecg_clock == ppg_clock:
        return recording
    known = session.clocks.get(ppg_clock)
    if known is None:
        return replace(recording, own_clocks=True)
    offset, drift = (float(known.get(key, 0.0)) for key in KNOWN_CLOCK)
    moved = correct(recording, offset, drift, 0.0)
    note = ClockNote("given", offset_s=offset, drift_ppm=drift)
    return replace(moved, own_clocks=True, clocks=note)


def read_part(source):
    """Read one file of a session: its channels, and the names of channels by role."""
    from xmae.data.recording.readers.formats import reader_of

    if not source.path.is_file():
        raise UserError(f"{source.path}: no such file")
    reader = reader_of(source.path)
    if not hasattr(reader, "part_of"):
        raise UserError(
            f"{source.path}: this kind of file cannot be part of a session; give it by itself, or "
            "write it as CSV"
        )
    part = reader.part_of(source.path, source.channel_map)
    units = source.channel_map.units
    named = [replace(c, unit=units.get(c.name, c.unit)) for c in part.channels]
    part = replace(part, channels=named)
    try:
        roles = part.roles_by(source.channel_map)
    except UserError as error:
        raise UserError(f"{source.path}: {error}") from None
    if not roles:
        names = ", ".join(channel.name for channel in part.channels) or "nothing"
        raise UserError(f"{source.path}: no PPG, ECG or acceleration among {names}; name it")
    return part, roles


def renamed(part: Part, roles, source):
    """Yield the role and channel of everything that a source contributes, under names unique in the
    session.
    """
    by_name = {channel.name: channel for channel in part.channels}
    for role, names in roles.items():
        for place, name in enumerate(names[:1] if role in SINGLE else names):
            if role in SINGLE:
                new = SINGLE[role]
            elif role == "acc":
                new = f"ACC_{'XYZ'[place]}" if place < 3 else f"ACC_{place}"
            else:
                new = lead_name(name)
            yield role, replace(by_name[name], name=new)


def clocks_of(session, parts):
    """Return the clock of each source: the named one, else "ecg" for a file with ECG alone, else
    the clock of the PPG.
    """
    unnamed = next(
        (s.clock for s, (_, roles) in zip(session.sources, parts, strict=True) if "ppg" in roles),
        "",
    )
    clocks = []
    for source, (_, roles) in zip(session.sources, parts, strict=True):
        own = "ecg" if "ecg" in roles and "ppg" not in roles else unnamed or "ppg"
        clocks.append(source.clock or own)
    if unknown := [name for name in session.clocks if name not in clocks]:
        raise UserError(
            f"{session.path}: no source has the clock '{unknown[0]}'; there are "
            f"{', '.join(dict.fromkeys(clocks))}{did_you_mean(unknown[0], clocks)}"
        )
    return clocks


def clock_with(role, parts, clocks):
    """Return the clock of the first source with a role; None if no source has it."""
    return next(
        (clock for (_, roles), clock in zip(parts, clocks, strict=True) if role in roles), None
    )


def seconds_from(session, parts, zero):
    """Return the start of each source, s after the source `zero`.

    Raises
    ------
    UserError
        If some starts are known and others are not, or some have a time zone and others none.
    """
    starts = [s.start or part.start for s, (part, _) in zip(session.sources, parts, strict=True)]
    if not any(starts):
        return [0.0] * len(starts)
    times = []
    for source, start in zip(session.sources, starts, strict=True):
        if not start:
            raise UserError(
                f"{session.path}: {source.path.name} says no start, and other sources do; give it, "
                "as in start: 2026-05-04T10:00:00"
            )
        time = time_of(start, session.path, source.path.name)
        times.append(time if time.tzinfo else time.replace(tzinfo=session.zone))
    if len({time.tzinfo is None for time in times}) > 1:
        local = next(
            s.path.name for s, time in zip(session.sources, times, strict=True) if not time.tzinfo
        )
        raise UserError(
            f"{session.path}: the start of {local} has no time zone, and others have one; say "
            "timezone: Europe/Berlin in the session, or give its start with one"
        )
    # of two times of one zone, the wall clock alone would count, which may be set between them
    times = [time.astimezone(UTC) if time.tzinfo else time for time in times]
    return [(time - times[zero]).total_seconds() for time in times]


def time_of(start, path, name):
    """Parse a start time; a `UserError` names the source."""
    try:
        return datetime.fromisoformat(start)
    except ValueError as error:
        raise UserError(f"{path}: start of {name} is no time ({error})") from error


def load(path):
    """Read the manifest; a `UserError` names what is wrong in it."""
    values = read_keys(path)
    if unknown := [key for key in values if key not in KEYS]:
        hint = did_you_mean(str(unknown[0]), KEYS)
        raise UserError(
            f"{path}: a session has no key '{unknown[0]}'; there are {', '.join(KEYS)}{hint}"
        )
    sources, clocks = values.get("sources"), values.get("clocks") or {}
    if not isinstance(sources, list) or not sources:
        raise UserError(f"{path}: a session lists its files under sources; see docs/data.md")
    if len(sources) > MAX_SOURCES:
        raise UserError(f"{path}: {len(sources)} sources; expected at most {MAX_SOURCES}")
    for name, known in clocks.items() if isinstance(clocks, dict) else [("clocks", None)]:
        good = isinstance(known, dict) and all(
            key in KNOWN_CLOCK and isinstance(x, int | float) for key, x in known.items()
        )
        if not good:
            raise UserError(
                f"{path}: clock '{name}': expected numbers for {', '.join(KNOWN_CLOCK)}"
            )
    labels = {key: values[key] for key in ("age", "sex") if key in values}
    if not isinstance(labels.get("age", 0), int | float):
        raise UserError(f"{path}: age is {labels['age']!r}; expected years")
    if "sex" in labels:
        labels["sex"] = str(labels["sex"])[:1].upper()
    name = path.name.removesuffix(path.suffix).removesuffix(".session")
    return Session(
        path,
        str(values.get("subject", name)),
        str(values.get("record", name)),
        "subject" in values,
        labels,
        [source_of(path, entry) for entry in sources],
        {str(name): known for name, known in clocks.items()},
        zone_of(path, values.get("timezone")),
    )


def zone_of(path, name):
    """Return the time zone of a session, such as Europe/Berlin or +02:00; None if none is named."""
    if name is None:
        return None
    if re.fullmatch(r"[+-]\d\d:\d\d", str(name)):
        return datetime.fromisoformat(f"2000-01-01T00:00:00{name}").tzinfo
    try:
        return ZoneInfo(str(name))
    except (KeyError, ValueError, OSError) as error:
        raise UserError(
            f"{path}: no time zone '{name}'; expected a name such as Europe/Berlin, or '+02:00'"
        ) from error


def source_of(path, entry):
    """Read one entry of `sources`: a file name, or a dict with a file name and its keys."""
    entry = {"file": entry} if isinstance(entry, str) else entry
    if not isinstance(entry, dict) or not isinstance(entry.get("file"), str):
        raise UserError(f"{path}: each of sources has a file, as in file: watch.csv")
    own = {key: entry[key] for key in OWN_KEYS if key in entry}
    rest = {key: value for key, value in entry.items() if key not in own}
    start = own.get("start", "")
    start = start.isoformat() if isinstance(start, date) else str(start)
    if start:
        time_of(start, path, own["file"])
    channel_map = ChannelMap.of(rest, f"{path}: {own['file']}")
    file = path.parent / path_below(own["file"], path)
    return Source(file, str(own.get("clock", "")), start, channel_map)


def read_keys(path):
    """Read a YAML file as a dict; {} for any other content."""
    values = read_yaml(path, "a session")
    return values if isinstance(values, dict) else {}
