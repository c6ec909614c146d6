"""HDF5 files: PulseDB's MATLAB v7.3 files, and any file with signals as one-dimensional datasets.

PulseDB (Wang et al., Frontiers in Digital Health 4, 2023) has a struct array `Subj_Wins`; in HDF5
each of its fields is a row of references, one a window of 10 s at 125 Hz: ECG_Raw, PPG_Raw, T
(times within the case, s), SubjectID, CaseID (of MIMIC: when it began), SegSBP, SegDBP, Age,
Gender, Height, Weight, BMI. Windows of a case that follow each other in time are joined; SegmentID,
WinID and WinSeqID count them and say nothing more.

In other files every group with a PPG dataset is a recording; vectors may be (n,), (1, n) or (n, 1),
as MATLAB writes them. The rate is the attribute `sfreq`, `fs` or `sampling_rate` of the dataset, of
a group above it or of the file, or a dataset of that name with one number; the subject likewise
`subject`, or else the group's name.
"""

import math
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from itertools import chain

import h5py
import numpy as np

from xmae.data.recording.channels import Channel, find_roles, plain_name, recording_of
from xmae.data.recording.readers.times import on_grid, refuse_time_unit, regular_times
from xmae.data.recording.recording import attempt, real_numbers
from xmae.data.recording.sizes import check_columns, check_places, check_samples
from xmae.data.recording.units import SECONDS, TIME_NAMES, plain_unit, seconds_in, split_unit
from xmae.errors import UserError

PULSEDB_SFREQ = 125.0  # Hz
MAX_LINKS = 8
BYTES_A_WINDOW = 100  # at least, of a file: a window's own header takes more
RATE_NAMES = (
    "sfreq", "fs", "sampling_rate", "sample_rate", "rate", "samplingrate", "samplerate",
    "frequency", "sampling_frequency", "samplingfrequency",
)  # fmt: skip
UNIT_NAMES = ("unit", "units")
NUMBERS = "iufb"  # kinds of types of NumPy
SUBJECT_NAMES = (
    "subject",
    "subject_id",
    "Subject",
    "SubjectID",
    "subjectID",
    "patient",
    "patient_id",
    "participant",
    "participant_id",
)


def read(path, channel_map):
    """Yield the recordings of one file."""
    with damage_told(path), h5py.File(path) as file:
        if "Subj_Wins" in file:
            yield from read_pulsedb(path, file, channel_map)
            return
        groups = groups_with_ppg(file, channel_map)
        if not groups:
            raise UserError(f"{path}: no PPG among its datasets; {what_is_there(file)}")
        for group in groups:
            yield attempt(damage_told(path)(read_group), path, group, channel_map)


def what_is_there(file):
    """Return the rest of the error on a file without PPG: its datasets, or the shape of a matrix
    with that name.
    """
    found = {}
    file.visititems(lambda name, x: found.update({name: x.shape} if not is_group(x) else {}))
    for name, shape in found.items():
        if len(shape) > 1 and "ppg" in find_roles([name.rsplit("/", 1)[-1]]):
            return f"'{name}' has shape {shape}, and a channel is one row: write each as its own"
    names = ", ".join(list(found)[:12]) or "none"
    return f"there are {names}; name it in a channel map (--channels)"


@contextmanager
def damage_told(path):
    """Turn exceptions of h5py and NumPy on a damaged file into a `UserError`."""
    try:
        yield
    except UserError:
        raise
    except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
        kind = "MATLAB v7.3 (HDF5)" if path.suffix == ".mat" else "HDF5"
        if path.suffix == ".mat" and not h5py.is_hdf5(path):
            raise UserError(
                f"{path}: neither MATLAB 5 nor v7.3 (a file of MATLAB 4, or a damaged one); save it"
                " anew"
            ) from error
        raise UserError(f"{path}: not readable as {kind}, perhaps truncated ({error})") from error


def groups_with_ppg(file, channel_map):
    """Return the groups with a PPG dataset, in the order of their names."""
    found = []

    def visit(_, group):
        hidden = group.name.startswith("/#")  # where MATLAB keeps what references point to
        if not hidden and isinstance(group, h5py.Group) and "ppg" in roles_of(group, channel_map):
            found.append(group)

    visit("", file)
    file.visititems(visit)
    return found


def roles_of(group, channel_map):
    """Return the roles of the vectors in a group; names of the map that are missing are ignored."""
    names = [name for name in group if is_vector(item_of(group, name))]
    check_columns(len(names), group.file.filename)
    listed = {
        role: [wanted] if isinstance(wanted, str) else wanted
        for role, wanted in channel_map.roles.items()
    }
    listed = {role: [name for name in wanted if name in names] for role, wanted in listed.items()}
    stated = {name: text_of(attribute(item_of(group, name), UNIT_NAMES)) or "" for name in names}
    listed = {role: wanted for role, wanted in listed.items() if wanted or role == "ppg"}
    return find_roles(names, listed, stated)


def item_of(group, name, links=0):
    """Return an item of a group; None if it is missing.

    A link to another place of the file is followed a part at a time, as it can lead through one
    into another file. That is refused before the other file is opened, and so is a ring of links.
    """
    path, link = group.file.filename, group.get(name, getlink=True)
    if isinstance(link, h5py.ExternalLink):
        raise UserError(f"{path}: '{name}' is a link into another file; such are not followed")
    if not isinstance(link, h5py.SoftLink):
        return group.get(name)
    if links == MAX_LINKS:
        raise UserError(f"{path}: '{name}' is a link to a link, and so on; such are not followed")
    item = group.file if link.path.startswith("/") else group
    for part in filter(None, link.path.split("/")):
        item = item_of(item, part, links + 1) if is_group(item) else None
    return item


def values_of(dataset):
    """Return the values of a dataset stored in the file itself, after a check of their number.

    Raises
    ------
    UserError
        If they lie in another file, or are more than a file of this size can hold.
    """
    path = dataset.file.filename
    if dataset.external or dataset.is_virtual:
        raise UserError(f"{path}: {dataset.name} has its values in another file; such are not read")
    wide = max(1, dataset.dtype.itemsize // 8)
    check_samples(dataset.size * wide, path)
    check_samples(math.prod(dataset.chunks or (0,)) * wide, path)  # one is unpacked as a whole
    return dataset[()]


def is_vector(item):
    """Tell whether an item is a dataset with one row of samples: (n,), or MATLAB's (1, n) or (n,
    1).
    """
    if not isinstance(item, h5py.Dataset) or item.ndim == 0 or item.size < 2:
        return False
    return item.size == max(item.shape)


def attribute(group, names):
    """Return the first of several attributes that a group, or a group above it, has; a dataset with
    a single number or text counts, as MATLAB writes them. None if there is none.
    """
    while True:
        spelt = {key.lower(): key for key in (*group, *group.attrs)} if is_group(group) else {}
        spelt = spelt or {key.lower(): key for key in group.attrs}
        for name in (spelt.get(name.lower(), name) for name in names):
            if name in group.attrs:
                return group.attrs[name]
            item = item_of(group, name) if isinstance(group, h5py.Group) else None
            if isinstance(item, h5py.Dataset) and (item.size == 1 or is_text(item)):
                return values_of(item) if item.size == 1 and not is_text(item) else letters_of(item)
        if group.name == "/":
            return None
        group = group.parent


def is_group(item):
    """Tell whether an item is a group."""
    return isinstance(item, h5py.Group)


def rate_of(value, name, path):
    """Return a sampling rate (Hz) as a number; None where none is stated; raises a `UserError` for
    text.
    """
    if value is None:
        return None
    try:
        return float(np.ravel(value)[0])
    except (TypeError, ValueError):
        said = text_of(value)
        raise UserError(
            f"{path}: the rate of '{name}' is '{said}', no number; say sfreq in a channel map"
            " (--channels)"
        ) from None


def is_text(item):
    """Tell whether a dataset is MATLAB text: character codes, (n, 1) or (1, n)."""
    return item.dtype == np.uint16 and item.attrs.get("MATLAB_class", b"") in (b"char", "char")


def letters_of(item):
    """Return the text of a MATLAB dataset."""
    return "".join(map(chr, np.ravel(values_of(item))))


def text_of(value):
    """Return an attribute as text, whole numbers without ".0"; None stays None."""
    if value is None:
        return None
    value = np.ravel(value)[0] if np.size(value) == 1 else value
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace").strip()
    whole = isinstance(value, float | np.floating) and float(value).is_integer()
    return str(int(value) if whole else value).strip()


def read_group(path, group, channel_map):
    """Read the datasets of a group as one `Recording`."""
    roles, channels = roles_of(group, channel_map), []
    timed, places, uneven = grid_of(path, group, channel_map, roles)
    for name in dict.fromkeys(chain.from_iterable(roles.values())):
        item = item_of(group, name)
        rate = rate_of(channel_map.sfreqs.get(name, attribute(item, RATE_NAMES)), name, path)
        on_times = len(places) == item.size
        if on_times and rate and abs(rate / timed - 1) > 0.01:
            raise UserError(
                f"{path}: the rate of '{name}' is {rate:g} Hz, and its times have {timed:.4g} Hz"
            )
        rate = channel_map.check_sfreq(timed if on_times else rate, path)
        unit = text_of(attribute(item, UNIT_NAMES)) or ""
        x = scaled(values_of(item), item)
        channels.append(Channel(name, on_grid(x, places) if on_times else x, rate, unit=unit))
    plain = group.name.strip("/").replace("/", "-")
    subject = text_of(
        attribute(group, SUBJECT_NAMES if not channel_map.subject else (channel_map.subject,))
    )
    labels = {"age": attribute(group, ("age",)), "sex": attribute(group, ("sex", "gender"))}
    labels = {
        name: float(np.ravel(x)[0]) if name == "age" else text_of(x)[:1].upper()
        for name, x in labels.items()
        if x is not None
    }
    return recording_of(
        channels,
        subject=subject or plain or path.stem,
        record=f"{path.stem}-{plain}" if plain else path.stem,
        labels=labels,
        wanted=roles,
        start=text_of(attribute(group, ("start", "start_time"))) or "",
        repairs=[*uneven, *([] if subject else ["subject_from_file_name"])],
        units=channel_map.units,
    )


def grid_of(path, group, channel_map, roles):
    """Return the rate (Hz), the place of each sample and the repairs made, from a dataset of times
    in a group; None and no places without one.
    """
    channels = list(chain.from_iterable(roles.values()))
    time = times_in(group, channel_map, channels)
    if time is None:
        return None, (), []
    item = item_of(group, time)
    unit = channel_map.time_unit or text_of(attribute(item, UNIT_NAMES))
    unit = unit or split_unit(time)[1] or "s"
    readable = item.dtype.kind in NUMBERS and plain_unit(unit) in SECONDS
    if not readable and not channel_map.time and has_rates(group, channel_map, channels):
        return None, (), []
    values = scaled(values_of(item), item)
    seconds = (values - values[0]) * seconds_in(unit, f"{path}: dataset '{time}'")
    refuse_time_unit(seconds, time, path)
    sfreq, places, uneven = regular_times(seconds, time, path)
    check_places(places, path)
    return sfreq, places, uneven


def times_in(group, channel_map, channels):
    """Return the dataset with the times of channels: the one that the map names, or one with a
    usual name and a channel's length; None if there is none.
    """
    vectors = [name for name in group if name != "T" and is_vector(item_of(group, name))]
    if channel_map.time:
        wanted = channel_map.time.lower()
        return next((name for name in vectors if name.lower() == wanted), None)
    sizes = {item_of(group, name).size for name in channels}
    called = (name for name in vectors if plain_name(name) in TIME_NAMES)
    return next((name for name in called if item_of(group, name).size in sizes), None)


def has_rates(group, channel_map, channels):
    """Tell whether the file or the map states the rate of each channel."""
    stated = (
        channel_map.sfreqs.get(name, attribute(item_of(group, name), RATE_NAMES))
        for name in channels
    )
    return channel_map.sfreq is not None or all(rate is not None for rate in stated)


def scaled(values, dataset):
    """Return the numbers of a dataset after the scale and offset of its attributes are applied.

    Raises
    ------
    UserError
        If they are complex or no numbers.
    """
    if values.dtype.kind not in NUMBERS:
        raise UserError(
            f"{dataset.file.filename}: '{dataset.name}' holds {values.dtype}, no numbers"
        )
    x = np.ravel(values).astype(np.float64)
    scale, offset = (dataset.attrs.get(name) for name in ("scale_factor", "add_offset"))
    x = x if scale is None else x * float(np.ravel(scale)[0])
    return x if offset is None else x + float(np.ravel(offset)[0])


def read_pulsedb(path, file, channel_map):
    """Yield one `Recording` for each run of consecutive windows in a PulseDB file."""
    fields = item_of(file, "Subj_Wins")
    if not is_group(fields):
        raise UserError(f"{path}: Subj_Wins is no struct array")
    column = partial(column_of, path, file, fields)
    if "PPG_Raw" not in fields or "ECG_Raw" not in fields:
        raise UserError(f"{path}: Subj_Wins has no PPG_Raw and ECG_Raw")
    ppg, ecg = (
        [real_numbers(np.ravel(x)) for x in column(name)] for name in ("PPG_Raw", "ECG_Raw")
    )
    times = column("T")
    starts = np.array(
        [np.ravel(x)[0] for x in times] if times else np.arange(len(ppg)) * 1e6, np.float64
    )
    subjects, cases, sex = (texts(column(name)) for name in ("SubjectID", "CaseID", "Gender"))
    repairs = [] if subjects else ["subject_from_file_name"]
    subjects, cases = subjects or [path.stem] * len(ppg), cases or [""] * len(ppg)
    known = {name: numbers(column(key)) for name, key in LABEL_FIELDS.items()}
    length = {len(x) for x in ppg + ecg}
    if len(length) != 1:
        raise UserError(
            f"{path}: windows of different lengths ({min(length)} to {max(length)} samples)"
        )
    step = length.pop() / PULSEDB_SFREQ
    runs = runs_of([*zip(subjects, cases, strict=True)], starts, step)
    for number, run in enumerate(runs):
        yield attempt(
            recording_of,
            [
                Channel("PPG_Raw", np.concatenate([ppg[k] for k in run]), PULSEDB_SFREQ),
                Channel("ECG_Raw", np.concatenate([ecg[k] for k in run]), PULSEDB_SFREQ),
            ],
            subject=subjects[run[0]],
            record=path.stem if len(runs) == 1 else f"{path.stem}-{number:05d}",
            labels=labels_of(run, known, sex, step),
            start=began(cases[run[0]], starts[run[0]]),
            repairs=repairs,
            units=channel_map.units,
        )


def labels_of(run, known, sex, step):
    """Return the labels of a run of windows in a PulseDB file.

    Parameters
    ----------
    run : list of int
        Numbers of the windows.
    known : dict of str to array or None
        Values of each label, one a window.
    sex : list of str or None
        One a window.
    step : float
        Seconds from window to window.
    """
    labels = {name: (values[run], 1 / step) for name, values in known.items() if values is not None}
    labels |= {"age": float(labels["age"][0][0])} if "age" in labels else {}
    return labels | ({"sex": sex[run[0]][:1]} if sex else {})


def column_of(path, file, fields, name):
    """Return the values of a field in PulseDB's struct array, one array per window; None if it is
    absent. A struct array with one window has no references.
    """
    if name not in fields:
        return None
    item = item_of(fields, name)
    if item.dtype == object and item.size > path.stat().st_size // BYTES_A_WINDOW:
        raise UserError(f"{path}: says that it holds {item.size} windows; damaged or forged")
    values = values_of(item)
    if values.dtype != object:
        return [values]
    windows = [file[ref] for ref in values.ravel()]
    check_samples(sum(window.size for window in windows), path)
    return [values_of(window) for window in windows]


def runs_of(cases, starts, step):
    """Return the numbers of consecutive windows, one array per run.

    Parameters
    ----------
    cases : list of (str, str)
        Subject and case of each window.
    starts : array, shape (n,)
        Start of each within its case, s.
    step : float
        Length of a window, s.
    """
    _, whose = np.unique([f"{subject}/{case}" for subject, case in cases], return_inverse=True)
    order = np.lexsort((starts, whose))
    follows = np.abs(np.diff(starts[order]) - step) < 0.5 / PULSEDB_SFREQ
    return np.split(order, np.flatnonzero(~(follows & (np.diff(whose[order]) == 0))) + 1)


LABEL_FIELDS = {  # years, cm, kg, kg/m2, mmHg, mmHg
    "age": "Age", "height": "Height", "weight": "Weight", "bmi": "BMI", "sbp": "SegSBP",
    "dbp": "SegDBP",
}  # fmt: skip


def texts(values):
    """Return one text per window from MATLAB's character codes; an empty list if the field is
    absent.
    """
    return ["".join(map(chr, np.ravel(x).astype(int))) for x in values or []]


def began(case, seconds):
    """Return the time (ISO 8601) this many seconds after a MIMIC case such as "2174-11-06-10-12";
    "" for others.
    """
    try:
        return (
            datetime.strptime(case, "%Y-%m-%d-%H-%M") + timedelta(seconds=float(seconds))
        ).isoformat()
    except ValueError:
        return ""


def numbers(values):
    """Return one number per window, or None if the field is absent."""
    return (
        None
        if values is None
        else np.array([float(np.ravel(x)[0]) if np.size(x) else np.nan for x in values])
    )


def holds_ppg(path, channel_map):
    """Tell whether the file is from PulseDB, or has a PPG dataset."""
    try:
        with h5py.File(path) as file:
            return "Subj_Wins" in file or bool(groups_with_ppg(file, channel_map))
    except OSError:
        # older .mat files are something else; a damaged .h5 is to be told
        return path.suffix != ".mat"
