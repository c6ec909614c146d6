"""Readers: the files of a recorder in, one `Recording` after another out; one file per format.

Each reader is a generator `read(path, channel_map)`. Where a file holds several recordings, one
that cannot be used is yielded as the `UserError` that says why, and what holds nothing to use as a
`PassedOver`. `docs/data.md` lists the formats and the channel names.
"""

from itertools import chain
from pathlib import Path

from xmae.data.recording.channels import ChannelMap
from xmae.data.recording.checks import refuse_swapped
from xmae.data.recording.readers.formats import READERS, reader_of
from xmae.data.recording.recording import PassedOver, attempt
from xmae.errors import UserError, refusing

# how files begin: what they are, and the suffixes under which they are read
CONTAINERS = {
    b"\xffBIOSEMI": ("a BDF file of 24 bit", ()),
    b"\x1f\x8b": ("compressed by gzip", (".vital",)),
    b"PK\x03\x04": ("a ZIP archive, such as .npz or .xlsx", (".npz",)),
    b"PAR1": ("a Parquet file", (".parquet",)),
    b"\x89HDF\r\n": ("an HDF5 file", (".h5", ".hdf5", ".mat")),
    b"MATLAB ": ("a MATLAB file", (".mat",)),
    b"GDF ": ("a GDF file", ()),
    b"\x93NUMPY": ("a NumPy array", ()),
    b"\xd0\xcf\x11\xe0": ("a workbook of Excel", ()),
    b"SQLite format": ("a database", ()),
    b"%PDF": ("a PDF document", ()),
    b"version https://git-lfs": ("a pointer of Git LFS (git lfs pull brings the file)", ()),
    b"<!DOCTYPE": ("a web page", ()),
    b"<html": ("a web page", ()),
    b"<?xml": ("XML", ()),
    b"{": ("JSON", (".yaml", ".yml")),
    b"BZh": ("compressed by bzip2", ()),
    b"\xfd7zXZ": ("compressed by xz", ()),
}


def refuse_other_container(path):
    """Raise a `UserError` if a file starts like another format than its suffix says."""
    suffix = path.suffix.lower()
    if not path.is_file():
        return
    with path.open("rb") as file:
        start = file.read(32)
    for mark, (kind, suffixes) in CONTAINERS.items():
        if start.startswith(mark) and suffix not in suffixes:
            raise UserError(
                f"{path}: is {kind}, not what {suffix} says; convert, unpack or rename it"
            )


def read_recordings(path, channel_map=None):
    """Yield the recordings of one file, read by the reader of its suffix.

    Parameters
    ----------
    path : str or Path
        A file, or a WFDB record's name without suffix.
    channel_map : ChannelMap or None
        What the user says about the channels; default: names by the table of
        `xmae.data.recording.channels`.

    Raises
    ------
    UserError
        If the file is of no known kind, cannot be read, has no PPG, contradicts the map, or has PPG
        and ECG swapped.
    """
    for recording in read_each(path, channel_map):
        if isinstance(recording, UserError):
            if isinstance(recording, PassedOver):
                continue
            raise recording
        yield recording


def read_each(path, channel_map=None):
    """Yield the recordings of one file as `read_recordings`, with a `UserError` in place of each
    one that cannot be used.
    """
    path = Path(path)
    if Path(f"{path}.hea").is_file():
        path = Path(f"{path}.hea")
    if not path.exists():
        raise UserError(f"{path}: no such file")
    if path.is_dir():
        found, _ = find_in_folder(path, channel_map)
        raise UserError(
            f"{path}: a folder; expected one recording{f', such as {found[0]}' if found else ''}"
        )
    if not path.is_file():
        raise UserError(f"{path}: no plain file; expected a recording")
    with refusing(path, "a recording"):
        reader = reader_of(path)
        refuse_other_container(path)
    for recording in bounded(reader.read, path, channel_map or ChannelMap()):
        yield recording if isinstance(recording, UserError) else attempt(refuse_swapped, recording)


def bounded(read, path, channel_map):
    """Yield from a reader; anything that a damaged or forged file makes its parser raise becomes a
    `UserError`. Every reader runs inside this.
    """
    with refusing(path, f"a recording ({path.suffix})"):
        recordings = iter(read(path, channel_map))
    while True:
        with refusing(path, f"a recording ({path.suffix})"):
            recording = next(recordings, None)
        if recording is None:
            return
        yield recording


def read_recording(path, sfreq=None, channel_map=None):
    """Read the only recording of a file.

    Parameters
    ----------
    path : str or Path
        As in `read_recordings`.
    sfreq : float or None
        Sampling rate, Hz, for a table without times; for other files, and with times, it must agree
        within 1 %.
    channel_map : ChannelMap or None
        As in `read_recordings`; it states the rate too.

    Raises
    ------
    UserError
        As `read_recordings`; also if the file holds several recordings, or none.
    """
    recordings = read_recordings(path, channel_map or ChannelMap(sfreq=sfreq))
    recording, second = next(recordings, None), next(recordings, None)
    if recording is None or second is not None:
        raise UserError(
            f"{path}: holds {'several recordings' if second else 'no recording'}; expected one"
        )
    return recording


def why_unusable(path, channel_map):
    """Return the error message of a file's reader, which found no PPG in it."""
    try:
        list(read_recordings(path, channel_map))
    except UserError as error:
        return str(error)
    return f"{path}: no PPG"


def not_ours(files, folder):
    """Return the files in a folder that are not hidden and belong to no store, finished or not."""
    within = {path: path.relative_to(folder) for path in files}
    parents = set(chain.from_iterable(path.parents for path in within.values()))
    stores = {
        parent
        for parent in parents
        if parent.name.startswith(".") or (folder / parent / "store.json").is_file()
    }
    return [
        path
        for path in files
        if stores.isdisjoint(within[path].parents) and not path.name.startswith(".")
    ]


def without_session_parts(files):
    """Return the files without those that a session manifest names, and without other YAML files
    such as channel maps.
    """
    written = [path for path in files if READERS[path.suffix.lower()] == "session"]
    if not written:
        return files
    from xmae.data.recording.readers import session

    manifests = [path for path in written if session.recognises(path)]
    parts = {
        part.resolve()
        for part in chain.from_iterable(session.files_of(path)[1:] for path in manifests)
    }
    others = set(written) - set(manifests)
    return [path for path in files if path.resolve() not in parts and path not in others]


def find_in_folder(folder, channel_map=None):
    """Find recordings below a folder by suffix and by their channel names.

    Parameters
    ----------
    folder : str or Path
        Searched through, but for stores and what is hidden.
    channel_map : ChannelMap or None
        As in `read_recordings`.

    Returns
    -------
    found : list of Path
        Sorted; of WFDB records of several segments the whole, not its parts.
    passed_over : list of Path
        Files of the same kinds without PPG, such as a table of subjects or a record of numerics.
    """
    files = sorted(
        path
        for path in Path(folder).rglob("*")
        if path.suffix.lower() in READERS and path.is_file()
    )
    files = not_ours(files, Path(folder))
    headers = [path for path in files if path.suffix.lower() == ".hea"]
    if headers:
        from xmae.data.recording.readers.wfdb import segments_of

        parts = set(chain.from_iterable(segments_of(path) for path in headers))
        files = [path for path in files if path not in parts]
    files = without_session_parts(files)
    found = []
    for path in files:
        with refusing(path, "a recording"):
            if reader_of(path).holds_ppg(path, channel_map or ChannelMap()):
                found.append(path)
    chosen = set(found)
    return found, [path for path in files if path not in chosen]
