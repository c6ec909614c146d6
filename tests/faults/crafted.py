"""Small files that say, or unpack to, far more than they hold: what opening them costs in
memory.
"""

import gzip
import io
import json
import pickle
import struct
import zipfile
import zlib

import fastavro
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy import io as matlab

from . import manifests, recordings
from .kind import SECONDS, SFREQ, real_signals

HUGE = 1 << 28  # numbers: 2 GiB as float64
BILLION = 10**9


def npy_header(shape, dtype="<f8"):
    """Return the first bytes of an .npy file."""
    content = io.BytesIO()
    header = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(content, header)
    return content.getvalue()


def npz(folder, name, members):
    """Write an .npz file of members that are bytes, packed."""
    with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for member, parts in members.items():
            with archive.open(f"{member}.npy", "w", force_zip64=True) as file:
                for part in parts:
                    file.write(part)
    return folder / name


def zeros(n):
    """Yield zero bytes, a piece at a time."""
    for _ in range(n >> 20):
        yield bytes(1 << 20)


def add_zeros(path, name):
    """Put 2 GiB of zeros into an .npz file that is there."""
    with (
        zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open(f"{name}.npy", "w", force_zip64=True) as file,
    ):
        file.write(npy_header((HUGE,)))
        for part in zeros(8 * HUGE):
            file.write(part)


def npz_says(folder):
    """Write an array whose header says 10^9 samples."""
    return npz(
        folder, "a.npz", {"ppg": [npy_header((BILLION,)), bytes(80)], "fs": [npy_header(())]}
    )


def npz_unpacks(folder):
    """Write an array of 2 GiB of zeros."""
    ppg = [npy_header((HUGE,)), *zeros(8 * HUGE)]
    return npz(folder, "a.npz", {"ppg": ppg, "fs": [npy_header(()), struct.pack("<d", 125)]})


def npz_other(folder):
    """Write 2 GiB of zeros under a name that nobody reads, beside a sound recording."""
    path = recordings.write_npz(folder, real_signals())
    add_zeros(path, "other")
    return path


def npz_slow(folder):
    """Write acceleration at 1 Hz for as long as its samples last, beside PPG at 2 kHz."""
    n = 16_000_000
    np.savez_compressed(
        folder / "a.npz", ppg=np.sin(np.arange(30_000) / 300), fs=2000.0, acc_fs=1.0,
        **{f"acc_{axis}": np.ones(n // 4, np.int16) for axis in "xyz"},
    )  # fmt: skip
    return folder / "a.npz"


def wfdb_says(folder):
    """Write a header of 10^10 samples."""
    path = recordings.write_wfdb(folder, real_signals())
    head, rest = path.read_text().split("\n", 1)
    words = head.split()
    path.write_text("\n".join([" ".join([*words[:3], "10000000000", *words[4:]]), rest]))
    return path


def wfdb_segments(folder):
    """Write a record that names one segment a million times."""
    path = recordings.write_segments(folder, real_signals())
    n = SFREQ * SECONDS
    lines = [f"p000033-2116/1000000 2 125 {n * 1_000_000}", *[f"3_0001 {n}"] * 1_000_000]
    path.write_text("\n".join(lines) + "\n")
    return path


def edf_with(folder, place, digits):
    """Write a real EDF file with other digits at one place of its header."""
    path = recordings.write_edf(folder, real_signals())
    content = bytearray(path.read_bytes())
    content[place : place + len(digits)] = digits
    path.write_bytes(content)
    return path


def edf_says(folder):
    """Write a header of 10^8 records."""
    return edf_with(folder, 236, b"99999999")


def edf_signals(folder):
    """Write a header of 9999 signals."""
    return edf_with(folder, 252, b"9999")


def hdf5(folder, **settings):
    """Write a group of PPG of zeros."""
    with h5py.File(folder / "a.h5", "w") as file:
        file.attrs["fs"] = 125.0
        file.create_dataset("ppg", **settings)
    return folder / "a.h5"


def hdf5_fill(folder):
    """Write 10^9 samples that were never written."""
    return hdf5(folder, shape=(BILLION,), dtype="f8", chunks=(1 << 20,), fillvalue=1.0)


def hdf5_chunk(folder):
    """Write 1250 samples in one packed chunk of 2 GiB."""
    with h5py.File(folder / "a.h5", "w") as file:
        file.attrs["fs"] = 125.0
        made = file.create_dataset(
            "ppg", (1250,), "f8", maxshape=(None,), chunks=(HUGE,), compression="gzip"
        )
        packer, parts = zlib.compressobj(1), []
        for part in zeros(8 * HUGE):
            parts.append(packer.compress(part))
        made.id.write_direct_chunk((0,), b"".join([*parts, packer.flush()]))
    return folder / "a.h5"


def pulsedb_references(folder):
    """Write 16 million references to one window, packed."""
    with h5py.File(folder / "a.mat", "w") as file:
        group, cells = file.create_group("Subj_Wins"), file.create_group("#refs#")
        ref = cells.create_dataset("x", data=np.sin(np.arange(1250.0))[None]).ref
        for name in ("PPG_Raw", "ECG_Raw"):
            made = group.create_dataset(
                name, (1, 1 << 24), h5py.ref_dtype, chunks=(1, 1 << 20), compression="gzip"
            )
            refs = np.full((1, 1 << 20), ref, h5py.ref_dtype)
            made[:, : 1 << 20] = refs
    return folder / "a.mat"


def parquet(folder, name="a.parquet", rows=HUGE, chunk=1 << 20):
    """Write rows of one number, coded as runs."""
    table = pa.table({"ppg": np.zeros(chunk)})
    with pq.ParquetWriter(folder / name, table.schema, compression="zstd") as file:
        for _ in range(rows // chunk):
            file.write_table(table)
    return folder / name


def parquet_rows(folder):
    """Write 2^28 rows of one number."""
    return parquet(folder)


def parquet_text(folder):
    """Write a million rows of one text of 4 kB."""
    n = 1 << 20
    text = pa.DictionaryArray.from_arrays(np.zeros(n, np.int32), ["x" * 4096])
    table = pa.table({"ppg": np.sin(np.arange(n) / 20), "subject": text})
    path = folder / "a.parquet"
    pq.write_table(table, path, compression="zstd", use_dictionary=True, store_schema=False)
    return path


def parquet_plain(folder, name="a.parquet"):
    """Write half a million rows of one text of 4 kB, each written out and packed."""
    n, row = 1 << 19, "x" * 4096
    schema = pa.schema({"ppg": pa.float64(), "subject": pa.string()})
    with pq.ParquetWriter(
        folder / name, schema, compression="zstd", use_dictionary=False, store_schema=False
    ) as file:
        for _ in range(n >> 15):
            file.write_table(pa.table({"ppg": np.zeros(1 << 15), "subject": [row] * (1 << 15)}))
    return folder / name


def labels_plain(folder):
    """Write the same as a table of labels."""
    return parquet_plain(folder, "l.parquet")


def parquet_nested(folder):
    """Write one row of a list of 2^28 numbers."""
    values = pa.array(np.zeros(HUGE // 8))
    row = pa.ListArray.from_arrays([0, len(values)], values)
    table = pa.table({"ppg": pa.array([1.0]), "other": row})
    pq.write_table(table, folder / "a.parquet", compression="zstd")
    return folder / "a.parquet"


def csv_columns(folder):
    """Write 200,000 columns."""
    names = ",".join(["ppg", *(f"c{k}" for k in range(200_000))])
    row = ",".join(["1"] * 200_001)
    (folder / "a.csv").write_text("\n".join([names, row, row]) + "\n")
    return folder / "a.csv"


def csv_gaps(folder):
    """Write 40 samples, days apart, among samples of 8 ms."""
    times = np.cumsum(np.where(np.arange(4000) % 100 == 99, 3599.0, 0.008))
    rows = [f"{t:.3f},{np.sin(k):.4f}" for k, t in enumerate(times)]
    (folder / "a.csv").write_text("\n".join(["time,ppg", *rows]) + "\n")
    return folder / "a.csv"


def session_gaps(folder):
    """Write the same as a part of a session."""
    csv_gaps(folder)
    (folder / "s.session.yaml").write_text("sources: [{file: a.csv}]\n")
    return folder / "s.session.yaml"


def session_sources(folder):
    """Write one file a thousand times."""
    n = 500_000
    rows = np.char.add(np.char.mod("%d,", np.arange(n)), "1")
    (folder / "a.csv").write_text("n,acc_x\n" + "\n".join(rows) + "\n")
    source = "  - {file: a.csv, sfreq: 100}\n"
    (folder / "s.session.yaml").write_text("sources:\n" + source * 1000)
    return folder / "s.session.yaml"


def session_bomb(folder):
    """Write references of references in YAML."""
    levels = "\n".join(
        f"k{k}: &k{k} [{', '.join([f'*k{k - 1}'] * 9)}]" if k else "k0: &k0 [x]" for k in range(9)
    )
    (folder / "s.session.yaml").write_text(levels + "\nsources: *k8\n")
    return folder / "s.session.yaml"


def vital_unpacks(folder):
    """Write a packet of 2 GiB of zeros in a compressed file."""
    whole = gzip.decompress(recordings.write_vital(folder, real_signals()).read_bytes())
    with gzip.open(folder / "a.vital", "wb", 1) as file:
        file.write(whole + struct.pack("<bI", 1, 8 * HUGE - 64))
        for part in zeros(8 * HUGE):
            file.write(part)
    return folder / "a.vital"


def vital_lasts(folder):
    """Write some seconds of samples in a file that says it lasts for years."""
    content = bytearray(
        gzip.decompress(recordings.write_vital(folder, real_signals()).read_bytes())
    )
    struct.pack_into("<d", content, 28, 1e9 + 10**8)  # the end, after the start, of the header
    (folder / "a.vital").write_bytes(gzip.compress(content))
    return folder / "a.vital"


def pickle_says(folder):
    """Write bytes that say they are 2 GiB."""
    (folder / "a.pkl").write_bytes(b"\x80\x04\x8e" + struct.pack("<Q", 8 * HUGE) + b"x.")
    return folder / "a.pkl"


def pickle_repeats(folder):
    """Write one array of 8 MB, named ten thousand times."""
    one = np.zeros(1 << 20)
    (folder / "a.pkl").write_bytes(pickle.dumps({"signal": [one] * 10_000}, protocol=2))
    return folder / "a.pkl"


def mat_unpacks(folder):
    """Write 2 GiB of zeros in a packed part."""
    packer, parts = zlib.compressobj(1), []
    body = struct.pack("<4I", 14, 8 * HUGE // 2 - 64, 6, 8) + bytes(32)
    parts.append(packer.compress(body))
    for part in zeros(8 * HUGE):
        parts.append(packer.compress(part))
    content = b"".join([*parts, packer.flush()])
    head = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H2s", 0x0100, b"IM")
    (folder / "DATA_01.mat").write_bytes(head + struct.pack("<2I", 15, len(content)) + content)
    return folder / "DATA_01.mat"


def mat_cells(folder):
    """Write a hundred thousand cells of nothing."""
    cells = np.array([[""] * (1 << 17)], object)  # SciPy takes seconds to write them
    matlab.savemat(folder / "DATA_01.mat", {"sig": cells}, do_compression=True)
    return folder / "DATA_01.mat"


def mat_deep(folder, depth=100_000):
    """Write a cell in a cell in a cell, which says nothing of its size."""
    head = struct.pack("<4I", 6, 8, 1, 0) + struct.pack("<2I2i", 5, 8, 1, 1)
    name = struct.pack("<HH4s", 1, 3, b"sig\0")
    cells = [struct.pack("<2I", 14, 1 << 20) + head + name] * depth
    start = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H2s", 0x0100, b"IM")
    (folder / "DATA_01.mat").write_bytes(start + b"".join(cells))
    return folder / "DATA_01.mat"


def avro(folder, items, values, codec="null"):
    """Write an Avro file with an array of items."""
    bvp = {"type": "record", "name": "bvp_t", "fields": [
        {"name": "timestampStart", "type": "long"}, {"name": "samplingFrequency", "type": "float"},
        {"name": "values", "type": {"type": "array", "items": items}},
    ]}  # fmt: skip
    raw = {"type": "record", "name": "raw", "fields": [{"name": "bvp", "type": bvp}]}
    schema = {"type": "record", "name": "root", "fields": [{"name": "rawData", "type": raw}]}
    record = {"rawData": {"bvp": {"timestampStart": 10**15, "samplingFrequency": 64.0,
                                  "values": values}}}  # fmt: skip
    with (folder / "a.avro").open("wb") as file:
        fastavro.writer(file, fastavro.parse_schema(schema), [record], codec=codec)
    return folder / "a.avro"


def avro_weightless(folder):
    """Write an array of 2^26 nothings, which take no byte in the file."""
    path = avro(folder, "null", [None] * 3)
    content = path.read_bytes()
    count = zigzag(1 << 26)
    place = content.rindex(b"\x06\x00")
    longer = content[:place] + count + content[place + 1 :]
    start = content.index(content[-16:])  # the mark that ends the head
    size = content[start + 17]
    changed = bytearray(longer)
    changed[start + 17] = size + 2 * (len(count) - 1)
    path.write_bytes(changed)
    return path


def avro_unpacks(folder):
    """Write one record of 2^28 zeros, packed."""
    path = avro(folder, "float", [0.0], "deflate")
    content = path.read_bytes()
    head = content[: content.index(content[-16:]) + 16]
    packer = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
    parts = [packer.compress(zigzag(10**15) + struct.pack("<f", 64.0) + zigzag(HUGE))]
    parts += [packer.compress(part) for part in zeros(4 * HUGE)]
    parts += [packer.compress(zigzag(0)), packer.flush()]
    block = b"".join(parts)
    path.write_bytes(head + zigzag(1) + zigzag(len(block)) + block + content[-16:])
    return path


def zigzag(number):
    """Return a number in Avro's encoding."""
    number, parts = number << 1, []
    while number > 0x7F:
        parts.append(0x80 | number & 0x7F)
        number >>= 7
    return bytes([*parts, number])


def biopac_says(folder):
    """Write a channel that says 2^31 - 1 samples."""
    path = recordings.write_biopac(folder, real_signals())
    content = path.read_bytes()
    n = struct.pack("<i", SFREQ * SECONDS)
    path.write_bytes(content.replace(n, struct.pack("<i", 2**31 - 1), 1))
    return path


def opensignals_jumps(folder):
    """Write packets whose numbers jump by 10^12."""
    path = recordings.write_opensignals(folder, real_signals())
    head, rows = path.read_text().split("# EndOfHeader\n")
    lines = rows.splitlines()
    lines[5] = "1000000000000" + lines[5][lines[5].index("\t") :]
    path.write_text(head + "# EndOfHeader\n" + "\n".join(lines) + "\n")
    return path


def polar_jumps(folder):
    """Write a sample that is 90 days later."""
    path = recordings.write_polar(folder, real_signals())
    lines = path.read_text().splitlines()
    words = lines[-1].split(";")
    words[1] = str(int(words[1]) + 90 * 86_400 * 10**9)
    path.write_text("\n".join([*lines[:-1], ";".join(words)]) + "\n")
    return path


def empatica_columns(folder):
    """Write a row of 200,000 numbers."""
    row = ",".join(["1000000000"] * 200_000)
    (folder / "BVP.csv").write_text("\n".join([row, ",".join(["64"] * 200_000), row, row]) + "\n")
    return folder / "BVP.csv"


def json_wide(folder):
    """Write a manifest of 50 MB of empty lists."""
    path = manifests.write_bundle(folder, {})
    text = path.read_text().rstrip().removesuffix("}")
    path.write_text(text + ', "more": [' + ",".join(["[]"] * 16_000_000) + "]}")
    return path


def json_deep(folder):
    """Write a manifest nested a million deep."""
    path = manifests.write_bundle(folder, {})
    path.write_text('{"a":' * 1_000_000)
    return path


def encoder_forged(folder, **config):
    """Write an encoder whose header says more than its tensors."""
    path = manifests.write_encoder(folder, {})
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] |= {"config": json.dumps(config)}
    if "program" in config:
        header["__metadata__"]["kind"] = "program"
    written = json.dumps(header).encode()
    path.write_bytes(len(written).to_bytes(8, "little") + written + content[end:])
    return path


def encoder_wide(folder):
    """Write a width of 10^9."""
    return encoder_forged(folder, embed_dim=BILLION, tier="mcu-s")


def encoder_allowed(folder):
    """Write the largest width that may stand there."""
    return encoder_forged(folder, embed_dim=8192, tier="app")


def encoder_program(folder):
    """Write a program of 4 GiB."""
    contract = {"sfreq": 50}
    return encoder_forged(folder, program="onnx", contract=contract, embed_dim=8, n_bytes=16 * HUGE)


def safetensors_says(folder):
    """Write a tensor that says it is 2 GiB."""
    header = {"a": {"dtype": "F64", "shape": [HUGE], "data_offsets": [0, 8 * HUGE]}}
    written = json.dumps(header).encode()
    (folder / "a.safetensors").write_bytes(len(written).to_bytes(8, "little") + written)
    return folder / "a.safetensors"


def store_rows(folder):
    """Write a shard of 2^28 rows of one number, whose digest fits."""
    path = manifests.write_store(folder, real_signals())
    meta = json.loads(path.read_text())
    parquet(path.parent, meta["shards"][0]["file"])
    manifests.rehash(folder)
    return path


def calibration_unpacks(folder):
    """Write 2 GiB of zeros as windows."""
    path = manifests.write_calibration(folder, {})
    with np.load(path) as file:
        others = {name: file[name] for name in file.files if name != "ppg"}
    members = {"ppg": [npy_header((HUGE // 500, 1000), "<f4"), *zeros(8 * HUGE)]}
    for name, x in others.items():
        content = io.BytesIO()
        np.save(content, x)
        members[name] = [content.getvalue()]
    return npz(folder, path.name, members)


def reference_unpacks(folder):
    """Write 2 GiB of zeros as embeddings."""
    path = manifests.write_reference(folder, {})
    add_zeros(path, "embedding/other")
    return path


def labels_columns(folder):
    """Write a table of labels of 200,000 columns."""
    names = ",".join(["subject", *(f"c{k}" for k in range(200_000))])
    (folder / "l.csv").write_text(f"{names}\na,{','.join(['1'] * 200_000)}\n")
    return folder / "l.csv"


def yaml_wide(folder):
    """Write settings of empty lists, as long as they may be."""
    (folder / "map.yaml").write_text("a: [" + "[]," * 340_000 + "[]]\n")
    return folder / "map.yaml"


CRAFTED = {  # what it says: (how it is written, what opens it)
    "npz: says 10^9 samples": (npz_says, "npz"),
    "npz: unpacks to 2 GiB": (npz_unpacks, "npz"),
    "npz: 2 GiB that nobody asks for": (npz_other, "npz"),
    "npz: slow acceleration for days": (npz_slow, "npz"),
    "wfdb: says 10^10 samples": (wfdb_says, "wfdb"),
    "wfdb: a segment a million times": (wfdb_segments, "wfdb segments"),
    "edf: says 10^8 records": (edf_says, "edf"),
    "edf: says 9999 signals": (edf_signals, "edf"),
    "hdf5: 10^9 samples unwritten": (hdf5_fill, "hdf5"),
    "hdf5: a chunk of 2 GiB": (hdf5_chunk, "hdf5"),
    "pulsedb: 16 million references": (pulsedb_references, "pulsedb"),
    "parquet: 2^28 rows": (parquet_rows, "parquet"),
    "parquet: a text a million times": (parquet_text, "parquet"),
    "parquet: 2 GiB of one text": (parquet_plain, "parquet"),
    "parquet: a list of 2^25 numbers": (parquet_nested, "parquet"),
    "csv: 200,000 columns": (csv_columns, "csv"),
    "csv: an hour between samples": (csv_gaps, "csv"),
    "session: an hour between samples": (session_gaps, "session"),
    "session: a file a thousand times": (session_sources, "session"),
    "session: references of references": (session_bomb, "session"),
    "vital: a packet of 2 GiB": (vital_unpacks, "vital"),
    "vital: years between samples": (vital_lasts, "vital"),
    "pickle: says 2 GiB": (pickle_says, "pickle"),
    "pickle: an array 10,000 times": (pickle_repeats, "pickle"),
    "matlab: unpacks to 2 GiB": (mat_unpacks, "ieee spc"),
    "matlab: 2^17 empty cells": (mat_cells, "ieee spc"),
    "matlab: cells 100,000 deep": (mat_deep, "ieee spc"),
    "dreamer: cells 100,000 deep": (mat_deep, "dreamer"),
    "dreamer: unpacks to 2 GiB": (mat_unpacks, "dreamer"),
    "avro: 2^26 nothings": (avro_weightless, "embraceplus"),
    "avro: unpacks to 1 GiB": (avro_unpacks, "embraceplus"),
    "biopac: says 2^31 samples": (biopac_says, "biopac"),
    "opensignals: packets that jump": (opensignals_jumps, "opensignals"),
    "polar: 90 days between samples": (polar_jumps, "polar"),
    "empatica: 200,000 columns": (empatica_columns, "empatica e4"),
    "bundle: 50 MB of empty lists": (json_wide, "bundle manifest"),
    "bundle: nested a million deep": (json_deep, "bundle manifest"),
    "encoder: a width of 10^9": (encoder_wide, "encoder"),
    "encoder: a width of 8192": (encoder_allowed, "encoder"),
    "encoder: a program of 4 GiB": (encoder_program, "encoder"),
    "encoder: a tensor of 2 GiB": (safetensors_says, "encoder"),
    "store: 2^28 rows": (store_rows, "store.json"),
    "calibration: unpacks to 2 GiB": (calibration_unpacks, "calibration"),
    "reference: unpacks to 2 GiB": (reference_unpacks, "reference"),
    "labels: 200,000 columns": (labels_columns, "labels"),
    "labels: 2 GiB of one text": (labels_plain, "task labels"),
    "channel map: 1 MB of empty lists": (yaml_wide, "channel map"),
}
