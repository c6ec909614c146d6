"""Heart rate in motion, as MATLAB 5 files: IEEE Signal Processing Cup 2015, and BAMI-1 and BAMI-2.

IEEE SPC (125 Hz): `sig` has six rows, ECG, two of PPG, three of acceleration, or five without ECG.
The heart rate stands in a file beside it, as `BPM0`: `DATA_01_TYPE01.mat` has
`REF_01_TYPE01.mat` or `DATA_01_TYPE01_BPMtrace.mat`, `TEST_S01_T01.mat` has `True_S01_T01.mat`.
Zhang, Pi and Liu, IEEE Trans. Biomedical Engineering 62(2), 2015.

BAMI (50 Hz): `rawPPG` and `rawAcc` have three rows each, `bpm_ecg` is the heart rate. Chung et al.,
IEEE J. Biomedical and Health Informatics 23(4), 2019.

Both count the heart rate in windows of 8 s that start every 2 s.

Other files are read by the names in them: vectors such as `ppg` and `ecg` with a number `fs` (Hz)
beside them, at the top or within a structure.
"""

import re
from itertools import chain

import numpy as np
import scipy.io

from xmae.data.recording.channels import Channel, find_roles, recording_of
from xmae.data.recording.matlab import check_matlab
from xmae.data.recording.people import subject_name
from xmae.data.recording.readers.hdf5 import RATE_NAMES, SUBJECT_NAMES
from xmae.data.recording.recording import attempt, real_numbers
from xmae.data.recording.window_labels import rates_of_windows
from xmae.errors import UserError, refusing

SPC_SFREQ, BAMI_SFREQ = 125.0, 50.0  # Hz, as both data sets state them
SPC_ROWS = ("ECG", "PPG1", "PPG2", "ACC_X", "ACC_Y", "ACC_Z")
WINDOW_S, STEP_S = 8.0, 2.0
MAGIC = b"MATLAB 5.0"
KIND = "a MATLAB 5 file, perhaps truncated"


def recognises(path):
    """Tell whether the file is a MATLAB 5 file."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def holds_ppg(path, channel_map):
    """Tell whether the file has the signals of one of the data sets, or PPG by its name; a damaged
    file counts, so that it is reported.
    """
    try:
        names = set(names_in(path))
        return bool({"sig", "rawPPG"} & names or list(groups_with_ppg(path, channel_map)))
    except UserError:
        return True


def read(path, channel_map):
    """Yield the only recording of a file; its heart rate becomes the label `hr_reference`."""
    names = names_in(path)
    if not {"sig", "rawPPG"} & set(names):
        yield from read_named(path, channel_map, names)
        return
    if "sig" in names:
        channels, rates, subject = spc(path)
    else:
        channels, rates, subject = bami(path)
    labels = (
        {"hr_reference": rates_of_windows(rates, WINDOW_S, STEP_S)} if rates is not None else {}
    )
    yield recording_of(
        channels,
        subject,
        path.stem,
        labels,
        wanted=channel_map.roles or None,
        units=channel_map.units,
    )


def read_named(path, channel_map, names):
    """Yield the recordings of a file whose vectors are identified by their names alone."""
    groups = list(groups_with_ppg(path, channel_map))
    if not groups:
        there = ", ".join(names) or "nothing"
        raise UserError(
            f"{path}: a MATLAB 5 file with {there}; expected ppg and fs, sig (IEEE SPC) or rawPPG"
            " (BAMI); name the PPG in a channel map (--channels)"
        )
    for place, values, roles in groups:
        yield attempt(named_recording, path, place, values, roles, channel_map)


def named_recording(path, place, values, roles, channel_map):
    """Read one group of vectors as a recording; `place` is the name of their structure, "" at the
    top level.
    """
    known = {name.lower(): x for name, x in values.items() if np.isscalar(x)}  # of no struct
    rate = next((float(known[name]) for name in RATE_NAMES if name in known), None)
    who = next((subject_name(known[n.lower()]) for n in SUBJECT_NAMES if n.lower() in known), None)
    labels = {"age": float(known["age"])} if "age" in known else {}
    labels |= {"sex": str(known["sex"])[:1].upper()} if "sex" in known else {}
    channels = [
        Channel(
            name, values[name], channel_map.sfreqs.get(name) or channel_map.check_sfreq(rate, path)
        )
        for name in dict.fromkeys(chain.from_iterable(roles.values()))
    ]
    return recording_of(
        channels,
        who or path.stem,
        f"{path.stem}-{place}" if place else path.stem,
        labels,
        wanted=roles,
        repairs=[] if who else ["subject_from_file_name"],
        units=channel_map.units,
        where=f"{path}: channel",
    )


def groups_with_ppg(path, channel_map):
    """Yield the name, values and roles of each structure with a PPG, the top level ("") first."""
    with refusing(path, KIND):
        content = scipy.io.loadmat(path, simplify_cells=True)
    top = {name: x for name, x in content.items() if not name.startswith("__")}
    shared = {name: x for name, x in top.items() if np.size(x) == 1 and not isinstance(x, dict)}
    inner = {name: shared | x for name, x in top.items() if isinstance(x, dict)}
    for place, values in ({"": top} | inner).items():
        vectors = [name for name, x in values.items() if is_vector(x)]
        listed = {
            role: [
                name for name in ([names] if isinstance(names, str) else names) if name in vectors
            ]
            for role, names in channel_map.roles.items()
        }
        roles = find_roles(
            vectors, {r: names for r, names in listed.items() if names or r == "ppg"}
        )
        if "ppg" in roles:
            yield place, values, roles


def is_vector(x):
    """Tell whether a value is a single row of numbers."""
    return isinstance(x, np.ndarray) and x.ndim == 1 and len(x) > 1 and x.dtype.kind in "iuf"


def names_in(path):
    """Return the names of the arrays in a file."""
    with refusing(path, KIND):
        check_matlab(path)
        return [name for name, _, _ in scipy.io.whosmat(path)]


def load(path, name):
    """Read one array of a file as float64."""
    with refusing(path, KIND):
        check_matlab(path)
        return real_numbers(scipy.io.loadmat(path, variable_names=[name])[name])


def spc(path):
    """Return the channels, heart rates (n,) or None, and subject of a file of the IEEE Signal
    Processing Cup (SPC).
    """
    signals = load(path, "sig")
    if signals.ndim != 2 or len(signals) not in (5, 6):
        raise UserError(f"{path}: sig has the shape {signals.shape}; expected 5 or 6 rows")
    names = SPC_ROWS[-len(signals) :]
    channels = [Channel(name, x, SPC_SFREQ) for name, x in zip(names, signals, strict=True)]
    beside = [path.with_name(name) for name in rate_files(path)]
    found = next((file for file in beside if file.is_file()), None)
    rates = None if found is None else load(found, "BPM0").reshape(-1)
    return channels, rates, re.sub(r"_T(YPE)?\d+$", "", path.stem)


def rate_files(path):
    """Return the possible names of the file with the heart rates."""
    stem = path.stem
    return (
        stem.replace("DATA_", "REF_", 1) + ".mat",
        stem + "_BPMtrace.mat",
        stem.replace("TEST_", "True_", 1) + ".mat",
    )[:: 1 if stem.startswith("DATA_") else -1]


def bami(path):
    """Return the channels, heart rates (n,) and subject of a BAMI file."""
    ppg, acc = load(path, "rawPPG"), load(path, "rawAcc")
    if ppg.ndim != 2 or len(ppg) != 3 or acc.shape != ppg.shape:
        raise UserError(
            f"{path}: rawPPG has the shape {ppg.shape}, rawAcc {acc.shape}; expected 3 rows each"
        )
    channels = [Channel(f"PPG{k + 1}", x, BAMI_SFREQ) for k, x in enumerate(ppg)]
    channels += [Channel(f"ACC_{axis}", x, BAMI_SFREQ) for axis, x in zip("XYZ", acc, strict=True)]
    return channels, load(path, "bpm_ecg").reshape(-1), path.stem
