"""EDF and EDF+ files (sleep studies), read by `edfio`; each signal keeps its own rate, annotations
are passed over.

A discontinuous file (EDF+D) gives a recording for each stretch without a break. `edfio` tells that
there are breaks, but not where; each data record states its time, in s since the start of the file,
at the start of its annotations (Kemp & Olivan, Clinical Neurophysiology 114, 2003, section 2.2.4).
"""

import re
from datetime import date, datetime, timedelta
from itertools import chain

import numpy as np

from xmae.data.recording.channels import Channel, find_roles, recording_of, roles_with_ppg
from xmae.data.recording.recording import PassedOver, attempt
from xmae.data.recording.sizes import check_columns
from xmae.errors import UserError
from xmae.signals.window import WINDOW_S

# code, sex, date of birth and name, as EDF+ has them
SUBFIELDS = re.compile(r"(\S+) ([MFX]) (?:X|\d\d-[A-Za-z]{3}-\d{4})(?: |$)")
UNSET_YEARS = (1970, 1980, 1984)  # of clocks that were never set, which two digits make 2070 ...
# words of patient fields that name nobody
ANONYMOUS = {
    "", "x", "0", "00", "000", "xx", "xxx", "-", "?", "na", "n/a", "none", "unknown", "anonymous",
    "anonymized", "anonymised", "anon", "patient", "subject", "male", "female", "m", "f", "no name",
    "noname", "default", "test",
}  # fmt: skip
AGE = re.compile(r"\baged? \d+\b|\b\d+ (?:yrs?|years?|yo|y/o|old|jahre)\b")
AGE_WORDS = {"yrs", "yr", "years", "year", "yo", "y/o", "old", "age", "aged", "jahre"}


def read(path, channel_map):
    """Yield the recording of one file, or one for each stretch of a discontinuous EDF+ file
    (EDF+D).

    The subject is the patient code of an EDF+ header, or the whole patient field of a plain EDF
    header, which is free text; sex comes from an EDF+ header too.
    """
    edf = open_edf(path)
    names = [signal.label.strip() for signal in edf.signals]
    stated = {signal.label.strip(): signal.physical_dimension for signal in edf.signals}
    roles = roles_with_ppg(names, channel_map.roles, stated, path)
    chosen = set(chain.from_iterable(roles.values()))
    signals = [signal for signal in edf.signals if signal.label.strip() in chosen]
    code, labels = patient_of(edf)
    begun, named = start_of(edf, path), bool(code)
    onsets, stretches = continuous_stretches(path, edf)
    for number, stretch in enumerate(stretches):
        if len(stretches) > 1 and len(stretch) * edf.data_record_duration < WINDOW_S:
            yield PassedOver("segments under 10 s")
            continue
        yield attempt(
            recording_of,
            [
                Channel(
                    signal.label.strip(),
                    samples_of(signal, stretch),
                    channel_map.check_sfreq(signal.sampling_frequency, path),
                    unit=signal.physical_dimension,
                )
                for signal in signals
            ],
            subject=code if named else path.stem,
            record=path.stem if len(stretches) == 1 else f"{path.stem}-{number:03d}",
            labels=labels,
            wanted=roles,
            start=(begun + timedelta(seconds=onsets[stretch[0]])).isoformat() if begun else "",
            repairs=[] if named else ["subject_from_file_name"],
            units=channel_map.units,
        )


def continuous_stretches(path, edf):
    """Return the onset of each data record, s, and the numbers of records that follow without a
    gap.
    """
    length = edf.data_record_duration
    onsets = (
        length * np.arange(edf.num_data_records) if edf.is_continuous else record_onsets(path, edf)
    )
    gaps = np.flatnonzero(np.abs(np.diff(onsets) - length) > 1e-6) + 1
    return onsets, np.split(np.arange(len(onsets)), gaps)


def patient_of(edf):
    """Return the person in the header ("" for nobody who can be identified), and their sex."""
    text = " ".join(edf.local_patient_identification.split())
    subfields = SUBFIELDS.match(text)
    words = text.split(" ")
    plus = edf.reserved.startswith("EDF+") and len(words) > 1 and words[1] in ("M", "F", "X")
    if not subfields and not plus:  # free text, as "Subject 12 F"
        plain = [word.strip(".,;:_-").lower() for word in words]
        # "Female 34 yrs" is true of many, "Subject 12 F, 34 yrs" is not
        without_age = AGE.sub(" ", " ".join(word for word in plain if word)).split()
        nobody = set(without_age) <= ANONYMOUS | AGE_WORDS
        return ("" if nobody or set(text) <= set("Xx ") else text), {}
    code, sex = subfields.groups() if subfields else (words[0], "X")
    code = "" if code.lower() in ANONYMOUS else code
    return code, {"sex": sex} if sex in ("M", "F") else {}


def start_of(edf, path):
    """Return the start of the recording; None where the header has no such date.

    EDF+ says it in the recording field too, which `edfio` prefers; where that says X, the date of
    plain EDF counts, whose years are 1985 to 2084.
    """
    begun = stated_start(edf, path)
    unset = begun and (begun.month, begun.day) == (1, 1) and begun.year - 100 in UNSET_YEARS
    return None if unset or (begun and begun.date() == date(1985, 1, 1)) else begun


def stated_start(edf, path):
    """Return the start of the recording as the header states it, or None."""
    try:
        return edf.startdatetime
    except (ValueError, IndexError):
        with path.open("rb") as file:
            text = file.read(184)[168:].decode("latin-1")
    try:
        begun = datetime.strptime(text, "%d.%m.%y%H.%M.%S")
    except ValueError:
        return None
    return begun.replace(year=begun.year + 100) if begun.year < 1985 else begun


def samples_of(signal, stretch):
    """Read the samples of a signal in a run of data records, given by their numbers: (n_times,), in
    its unit.

    Raises
    ------
    UserError
        If the header does not say what the codes stand for: `edfio` would give the codes.
    """
    try:
        (low, high), (least, most) = signal.physical_range, signal.digital_range
        stated = np.isfinite(low) and np.isfinite(high) and low != high and least != most
    except ValueError:
        stated = False
    if not stated:
        raise UserError(f"'{signal.label}' has no range of values and codes that fit each other")
    n = signal.samples_per_data_record
    return np.asarray(signal.data[stretch[0] * n : (stretch[-1] + 1) * n], np.float64)


def record_onsets(path, edf):
    """Return the start of each data record, s after the start of the file: (n_records,)."""
    content = path.read_bytes()
    n_signals = int(content[252:256])
    labels = [content[256 + 16 * k : 272 + 16 * k].strip() for k in range(n_signals)]
    samples = [int(content[256 + 216 * n_signals + 8 * k :][:8]) for k in range(n_signals)]
    first = labels.index(b"EDF Annotations")
    places = (
        int(content[184:192])
        + 2 * sum(samples[:first])
        + 2 * sum(samples) * np.arange(edf.num_data_records)
    )
    return np.array([float(content[place : content.index(b"\x14", place)]) for place in places])


def open_edf(path):
    """Open a file: its header and signals; samples are read on demand.

    Headers should be ASCII, but often are not: "µV" and names with accents are read as Latin-1, or
    as UTF-8 where they are that.
    """
    import edfio

    with path.open("rb") as file:
        header = file.read(1 << 16)
    if header[:8].strip() not in (b"0", b""):
        begins = header[:20].decode("latin-1").splitlines()[0]
        raise UserError(f"{path}: is no EDF file: it begins with '{begins}', not with 0")
    try:
        check_records(header, path)
        return edfio.read_edf(path, header_encoding=encoding_of(header))
    except (OSError, ValueError, IndexError, EOFError) as error:
        raise UserError(f"{path}: not readable as EDF, perhaps truncated ({error})") from error


def holds_ppg(path, channel_map):
    """Tell whether one of the file's signals is PPG."""
    try:
        return "ppg" in find_roles(
            [signal.label.strip() for signal in open_edf(path).signals], channel_map.roles
        )
    except UserError:
        return True  # damaged, or without a channel that the map names: to be told, not passed over


def check_records(header, path):
    """Raise a `UserError` if a file is shorter or longer than the number and size of data records
    in its header.

    A count of -1 means that the recorder was switched off; then any whole number of records is
    right.
    """
    size, n_signals, n_records = int(header[184:192]), int(header[252:256]), int(header[236:244])
    check_columns(n_signals, path)
    if n_signals < 1:
        raise UserError(f"{path}: not readable as EDF: no signals")
    places = (256 + 216 * n_signals + 8 * k for k in range(n_signals))
    with path.open("rb") as file:
        start = file.read(size)
    record = 2 * sum(int(start[place : place + 8]) for place in places)
    there = path.stat().st_size - size
    fits = there % record == 0 if n_records == -1 else there == n_records * record
    if record <= 0 or not fits:
        raise UserError(
            f"{path}: says {n_records} data records of {record} bytes, and holds {there} bytes;"
            " truncated or damaged"
        )


def encoding_of(content):
    """Return the encoding of a header: UTF-8 if its bytes are valid UTF-8, else Latin-1."""
    n_signals = content[252:256].strip()
    size = 256 * (1 + int(n_signals)) if n_signals.isdigit() else 256
    try:
        content[:size].decode("utf-8")
    except UnicodeDecodeError:
        return "latin-1"
    return "utf-8"
