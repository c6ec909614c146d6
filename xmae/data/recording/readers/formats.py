"""Which module reads a file: by its suffix, and by its first bytes where several formats share
one.
"""

from importlib import import_module
from importlib.util import find_spec

from xmae.errors import UserError

READERS = {  # suffix: (module, function); imported when needed, as some pull in large libraries
    ".npz": "npz",
    ".hea": "wfdb",
    ".csv": "table",
    ".parquet": "table",
    ".edf": "edf",
    ".mat": "hdf5",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".vital": "vital",
    ".pkl": "pickled",
    ".txt": "table",
    ".acq": "biopac",
    ".avro": "embraceplus",
    ".yaml": "session",
    ".yml": "session",
}
# of a suffix that several formats have: those that know their own by its first bytes
BY_CONTENT = {
    ".mat": ("matlab5",),
    ".csv": ("empatica", "shimmer", "apple_health"),
    ".txt": ("polar", "opensignals", "shimmer"),
}


def reader_of(path):
    """Return the module that reads a file; it has `read(path, channel_map)` and `holds_ppg(path,
    channel_map)`.
    """
    if path.suffix.lower() not in READERS and path.with_suffix(".hea").is_file():
        raise UserError(
            f"{path}: part of a WFDB record; give its header, {path.with_suffix('.hea')}"
        )
    if path.suffix.lower() not in READERS:
        raise UserError(f"{path}: cannot read this kind of file; expected {', '.join(READERS)}")
    suffix = path.suffix.lower()
    if suffix == ".csv" and find_spec("pandas") is None:
        return import_module("xmae.data.recording.readers.plain_table")
    for name in BY_CONTENT.get(suffix, ()) if path.is_file() else ():
        reader = import_module(f"xmae.data.recording.readers.{name}")
        if reader.recognises(path):
            return reader
    return import_module(f"xmae.data.recording.readers.{READERS[suffix]}")
