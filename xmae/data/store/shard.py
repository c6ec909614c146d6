"""One Parquet file of windows: how a shard is coded, written and read. The schema is described in
docs/data.md.

Signals are int16 with a scale and an offset per window (65,535 steps over the window's own range),
so an hour of ECG and PPG takes about 1.4 MB. A shard is decoded into one matrix without a copy per
sample.
"""

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from xmae.data.recording.parquet import check_parquet
from xmae.data.store.windows import LEAD_TIMES, OLD_NAMES, Windows
from xmae.errors import UserError, refusing
from xmae.files import sha256
from xmae.signals.window import N_TIMES

STEPS = 32767  # int16 codes run from -32767 to 32767
# before the name of a lead, label or measure in a column's name
LEAD, LABEL, MEASURE = "lead_", "label_", "measure_"
AXES = ("acc_x", "acc_y", "acc_z")  # columns of the accelerometer, g


def quantize(x):
    """Quantize windows to int16, x = code * scale + offset: (n, n_times) -> codes, and float32
    scale and offset (n,).

    A window with missing samples is coded as nothing but missing: its offset is NaN.
    """
    low, high = x.min(axis=1), x.max(axis=1)
    scale = ((high - low) / (2 * STEPS)).astype(np.float32)
    offset = ((high + low) / 2).astype(np.float32)
    missing = np.isnan(offset)
    scale[missing] = 0
    steps = (x - offset[:, None]) / np.where(scale > 0, scale, 1)[:, None]
    steps[missing] = 0
    return np.clip(np.rint(steps), -STEPS, STEPS).astype(np.int16), scale, offset


def write_shard(path, windows):
    """Write windows as one Parquet file: one row per window, signals as int16 lists of fixed
    length.
    """
    columns, signals = {}, {"ppg": windows.ppg, "ecg": windows.ecg}
    signals |= {
        LEAD + name: windows.leads[:, place] for place, name in enumerate(windows.lead_names)
    }
    if windows.acc is not None:
        signals |= {name: windows.acc[:, place] for place, name in enumerate(AXES)}
    signals = {name: x for name, x in signals.items() if x is not None}
    for name, x in signals.items():
        codes, scale, offset = quantize(x)
        columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(codes.ravel()), x.shape[1])
        columns |= {f"{name}_scale": scale, f"{name}_offset": offset}
    for name in ("subject", "record", "start_s", "ppg_quality", "ecg_quality"):
        columns[name] = getattr(windows, name)
    columns["beats"] = pa.FixedSizeListArray.from_arrays(
        pa.array(windows.beats.ravel()), windows.beats.shape[1]
    )
    columns |= {LABEL + name: x for name, x in windows.labels.items()}
    columns |= {MEASURE + name: x for name, x in windows.measures.items()}
    packed = {f"{name}.list.element": "DELTA_BINARY_PACKED" for name in signals}
    pq.write_table(
        pa.table(columns),
        path,
        compression="zstd",
        use_dictionary=["subject", "record"],
        column_encoding=packed,
    )


def write_named(folder, stem, write):
    """Write a file by `write(path)` and name it by its content; return its entry in store.json:
    file and SHA-256.
    """
    path = Path(folder) / f".{stem}.parquet"
    write(path)
    digest = sha256(path)
    path.rename(path.with_name(f"{stem}-{digest[:12]}.parquet"))
    return {"file": f"{stem}-{digest[:12]}.parquet", "sha256": digest}


def read_codes(table, name):
    """Return the int16 codes of a signal, (n, n_times), as a view of the decoded column without a
    copy.
    """
    (column,) = table[name].chunks  # a shard is one row group
    n_times = LEAD_TIMES if name.startswith(LEAD) else N_TIMES
    return column.flatten().to_numpy(zero_copy_only=True).reshape(-1, n_times)


def read_signal(table, name):
    """Read one signal of a shard in physical units: (n, n_times) float32."""
    scale, offset = (table[f"{name}_{part}"].to_numpy()[:, None] for part in ("scale", "offset"))
    return read_codes(table, name) * scale + offset


def read_beats(table):
    """Read the beats of a shard, (n, 40) float32, NaN after the last."""
    (column,) = table["beats"].chunks
    return column.flatten().to_numpy().reshape(len(table), -1)


def read_shard(file, digest):
    """Read the windows of one Parquet file whose SHA-256 must be `digest`.

    Parameters
    ----------
    file : str or Path, or an fsspec file that is opened
        The shard.
    digest : str
        Hexadecimal digits.

    Raises
    ------
    UserError
        If the file is missing, truncated or changed.
    """
    with refusing(getattr(file, "path", file), "a shard of windows"):
        return windows_of(read_table(file, digest))


def read_table(file, digest, columns=None):
    """Read the table of a shard, or some of its columns, after a check of its SHA-256; see
    `read_shard`.
    """
    name = getattr(file, "path", file)
    with refusing(name, "a shard of windows"):
        content = Path(file).read_bytes() if isinstance(file, str | Path) else file.open().read()
        if hashlib.sha256(content).hexdigest() != digest:
            raise UserError(
                f"{name}: damaged or changed since it was written (its SHA-256 differs); prepare "
                "again"
            )
        check_parquet(pa.py_buffer(content), name, len(content), columns)
        return pq.ParquetFile(pa.BufferReader(content)).read(columns, use_threads=False)


def windows_of(table):
    """Read the windows in the table of a shard."""
    names = table.column_names
    leads = [
        name[len(LEAD) : -len("_scale")]
        for name in names
        if name.startswith(LEAD) and name.endswith("_scale")
    ]

    def columns(prefix):
        return {
            name[len(prefix) :]: table[name].to_numpy() for name in names if name.startswith(prefix)
        }

    return Windows(
        ppg=read_signal(table, "ppg"),
        ecg=read_signal(table, "ecg") if "ecg" in names else None,
        **{name: table[name].to_numpy().astype(str) for name in ("subject", "record")},
        split=np.full(len(table), ""),
        **{name: table[name].to_numpy() for name in ("start_s", "ppg_quality", "ecg_quality")},
        labels={OLD_NAMES.get(name, name): x for name, x in columns(LABEL).items()},
        leads=np.stack([read_signal(table, LEAD + name) for name in leads], axis=1)
        if leads
        else None,
        lead_names=tuple(leads),
        measures=columns(MEASURE),
        acc=np.stack([read_signal(table, name) for name in AXES], axis=1)
        if AXES[0] in names
        else None,
        beats=read_beats(table) if "beats" in names else None,
    )
