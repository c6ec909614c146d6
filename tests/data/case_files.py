"""Files as recorders and people really write them: one function a situation, each writes its input
into a folder.

The situations are from public bug reports of this field. Names are those of the folders in which
they were collected.
"""

import gzip
from datetime import UTC, datetime, timedelta, timezone

import edfio
import h5py
import numpy as np
import pandas as pd
import wfdb

from xmae.data.recording.channels import ChannelMap
from xmae.data.recording.readers import read_each
from xmae.errors import UserError


def synth(sfreq, seconds=120, bpm=75.0, seed=1):
    """Return upright finger PPG (a.u.) and ECG (mV) of a steady heart, R-to-pulse delay 0.25 s;
    returns times, ppg, ecg.
    """
    rng = np.random.default_rng(seed)
    beats, now = [], -1.0
    while now < seconds + 2:
        beats.append(now)
        breath = 0.02 * np.sin(2 * np.pi * 0.25 * now)
        now += 60 / bpm * (1 + breath + 0.005 * rng.standard_normal())
    t = np.arange(int(round(seconds * sfreq))) / sfreq
    ppg, ecg = 0.05 * np.sin(2 * np.pi * 0.25 * t), 0.03 * np.sin(2 * np.pi * 0.3 * t)
    pulse = ((0.25, 1.0, 0.09), (0.55, 0.35, 0.12))
    heart = (
        (0, 1.1, 0.012), (0.04, -0.25, 0.012), (0.28, 0.25, 0.05), (-0.16, 0.12, 0.03),
    )  # fmt: skip
    for beat in beats:
        near = slice(max(0, int((beat - 1) * sfreq)), max(0, int((beat + 2) * sfreq)))
        for x, waves in ((ppg, pulse), (ecg, heart)):
            for shift, height, width in waves:
                x[near] += height * np.exp(-0.5 * ((t[near] - beat - shift) / width) ** 2)
    noise = rng.standard_normal(len(t)), rng.standard_normal(len(t))
    return t, ppg + 0.004 * noise[0], ecg + 0.01 * noise[1]


def recordings_of(path, channel_map):
    """Read the recordings of a file; what is wrong with one is raised."""
    found = list(read_each(path, channel_map))
    for recording in found:
        if isinstance(recording, UserError):
            raise recording
    return found


def read_all(path, sfreq=None, **settings):
    """Read the recordings of a file with these settings of a channel map."""
    return recordings_of(path, ChannelMap(sfreq=sfreq, **settings))


def write_short(path, file, seconds=30):
    """Write the start of a shipped recording, without what is told each second; return its path."""
    with np.load(file) as data:
        kept = {
            name: data[name]
            for name in data
            if name.split("_")[0] in ("ppg", "ecg", "fs", "patient", "record")
        }
    np.savez(path, **kept | {name: kept[name][: 125 * seconds] for name in ("ppg", "ecg")})
    return str(path)


def write(folder, name, header, rows, end="\n", encoding="utf-8"):
    """Write one text table of the given lines."""
    text = end.join([*([header] if isinstance(header, str) else header), *rows]) + end
    (folder / name).write_bytes(text.encode(encoding))


def reference(folder):
    """Write 12 windows at 100 Hz, as an archive."""
    _, ppg, ecg = synth(100)
    np.savez(folder / "ref.npz", ppg=ppg, ecg=ecg, fs=100.0, patient="s01")


def trailing_delimiter(folder):
    """Write the table of a logger that ends each row of data, but not the names, with a comma."""
    t, ppg, ecg = synth(100)
    both = [f"{a:.5f},{b:.5f}," for a, b in zip(ppg, ecg, strict=True)]
    write(folder, "no_time.csv", "ppg,ecg", both)
    times = [f"{s:.2f},{row}" for s, row in zip(t, both, strict=True)]
    write(folder, "with_time.csv", "time,ppg,ecg", times)
    resp = np.sin(2 * np.pi * 0.25 * t)
    rows = [f"{a:.5f},{b:.5f}," for a, b in zip(ppg, resp, strict=True)]
    write(folder, "ppg_resp.csv", "ppg,resp", rows)
    other = 0.5 * -np.roll(ppg, 30)
    rows = [f"{a:.5f},{b:.5f}," for a, b in zip(ppg, other, strict=True)]
    write(folder, "two_colours.csv", "ppg,ppg_ir", rows)
    rows = [f"{a:.5f},{b:.5f},7" for a, b in zip(ppg, ecg, strict=True)]
    write(folder, "unnamed.csv", "ppg,ecg", rows)
    late = both[:9000] + [f"{row}3" for row in both[9000:]]
    write(folder, "unnamed_late.csv", "ppg,ecg", late)


def hash_in_name(folder):
    """Write a name with "#", as "PPG #1", and comments with other marks about the rows."""
    t, ppg, _ = synth(100)
    acc = 0.02 * np.sin(2 * np.pi * 2.0 * t)
    rows = [f"{a:.5f},{b:.5f}" for a, b in zip(ppg, acc, strict=True)]
    write(folder, "hash.csv", "PPG #1,ACC X", rows)
    timed = [f"{s:.2f},{row}" for s, row in zip(t, rows, strict=True)]
    write(folder, "hash_time.csv", "time,PPG #1,ACC X", timed)
    for name, mark in (("percent", "%"), ("slashes", "//"), ("hashes", "#")):
        said = [f"{mark} a watch; 100 Hz, left wrist", "time,PPG #1,ACC X"]
        write(folder, f"{name}.csv", said, [*timed[:50], f"{mark} the user moved", *timed[50:]])


def time_in_minutes(folder):
    """Write times in every unit, stated in the name, in a row of units, and one that nobody
    knows.
    """
    t, ppg, _ = synth(25)
    units = (
        ("min", 60), ("h", 3600), ("sec", 1), ("msec", 1e-3), ("ns", 1e-9), ("\u00b5s", 1e-6),
        ("\u03bcs", 1e-6), ("minutes", 60), ("Hours", 3600), ("fortnight", 1209600), ("m", 60),
    )  # fmt: skip
    for place, (unit, scale) in enumerate(units):
        rows = [f"{s / scale:.9f},{a:.5f}" for s, a in zip(t, ppg, strict=True)]
        write(folder, f"{place:02d}_named.csv", f"Time ({unit}),PPG", rows)
        if unit not in ("fortnight", "m"):
            write(folder, f"{place:02d}_below.csv", ["Time,PPG", f"{unit},mV"], rows)


def time_in_minutes_long(folder):
    """Write 30 minutes at 25 Hz, time in minutes: as seconds this would be 1500 Hz, which is
    allowed.
    """
    t, ppg, _ = synth(25, seconds=1800)
    for name, unit, scale, digits in (
        ("minutes", "min", 60, 6), ("minutes_fine", "min", 60, 9), ("seconds", "s", 1, 2),
    ):  # fmt: skip
        rows = [f"{s / scale:.{digits}f},{a:.5f}" for s, a in zip(t, ppg, strict=True)]
        write(folder, f"{name}.csv", f"Time ({unit}),PPG", rows)


def edf_signals(ppg, ecg, **named):
    """Return PPG and an ECG in microvolts for an EDF file."""
    return [
        edfio.EdfSignal(ppg, 100, label="Pleth", **named),
        edfio.EdfSignal(ecg * 1000, 100, label="ECG II", physical_dimension="uV"),
    ]


def edf_micro_sign(folder):
    """Write an EDF file whose header holds letters that are not ASCII: unit, patient,
    transducer.
    """
    _, ppg, ecg = synth(100)
    patient = edfio.Patient(code="S01")
    edfio.Edf(edf_signals(ppg, ecg), patient=patient).write(folder / "plain.edf")
    data = (folder / "plain.edf").read_bytes()
    (folder / "micro.edf").write_bytes(data.replace(b"uV      ", b"\xb5V      ", 1))
    (folder / "micro8.edf").write_bytes(data.replace(b"uV      ", b"\xc2\xb5V     ", 1))
    (folder / "accent.edf").write_bytes(data.replace(b"S01 X X X", b"S\xe9l X X X", 1))
    warm = edf_signals(ppg, ecg, transducer_type="finger probe 27xC")
    edfio.Edf(warm, patient=patient).write(folder / "transducer.edf")
    data = (folder / "transducer.edf").read_bytes()
    (folder / "transducer.edf").write_bytes(data.replace(b"27xC", b"27\xb0C", 1))
    (folder / "unit.edf").write_bytes(data.replace(b"uV      ", b"furlong ", 1))


def edf_free_text_patient(folder):
    """Write plain EDF, whose patient field is free text; and two that name nobody."""
    texts = (
        b"Subject 12 F 1970", b"Subject 13 M 1981", b"Subject 14 M 1990", b"Anonymous", b"X X X X",
    )  # fmt: skip
    for k, text in enumerate(texts):
        _, ppg, ecg = synth(100, bpm=60 + 12 * k, seed=k)
        path = folder / f"rec{k}.edf"
        edfio.Edf(edf_signals(ppg, ecg)).write(path)
        data = bytearray(path.read_bytes())
        data[8:88] = text.ljust(80)
        data[192:236] = b" " * 44  # plain EDF, not EDF+
        data[168:184] = f"0{k + 1}.02.22".encode() + b"22.00.00"
        path.write_bytes(bytes(data))


def dst_offsets(folder):
    """Write ISO 8601 times with their offset, through the night in which summer time ends."""
    t, ppg, _ = synth(50)
    begin = datetime(2023, 10, 29, 0, 59, tzinfo=UTC)
    change = datetime(2023, 10, 29, 1, tzinfo=UTC)
    moments = [begin + timedelta(seconds=float(s)) for s in t]
    local = [m.astimezone(timezone(timedelta(hours=2 if m < change else 1))) for m in moments]
    bare = [m.replace(tzinfo=None) for m in local]
    half = [a if k % 2 else b for k, (a, b) in enumerate(zip(moments, bare, strict=True))]
    tables = {"utc": moments, "with_offset": local, "no_offset": bare, "mixed": half}
    for name, times in tables.items():
        stamps = [m.isoformat(timespec="milliseconds") for m in times]
        rows = [f"{s},{a:.5f}" for s, a in zip(stamps, ppg, strict=True)]
        write(folder, f"{name}.csv", "timestamp,ppg", rows)


def clock_without_battery(folder, begin=datetime(2000, 1, 1)):
    """Write sessions of a wearable without a clock battery, which all begin at the same moment."""
    for who in range(4):
        (folder / f"P{who}").mkdir()
        for session in range(2):
            bpm, seed = 60 + 10 * who + 4 * session, 10 * who + session
            t, ppg, ecg = synth(100, 120 + 10 * session, bpm, seed)
            stamps = [(begin + timedelta(seconds=float(s))).isoformat() for s in t]
            rows = [f"P{who},{s},{a:.5f},{b:.5f}" for s, a, b in zip(stamps, ppg, ecg, strict=True)]
            names = "subject,timestamp,ppg,ecg [mV]"
            write(folder / f"P{who}", f"session{session}.csv", names, rows)


def matlab_v73_vectors(folder):
    """Write what MATLAB's save -v7.3 makes of vectors, numbers and texts; and a channel axis
    kept.
    """
    _, ppg, ecg = synth(100)
    for name, shape in (("column.mat", (1, -1)), ("row.mat", (-1, 1))):
        with h5py.File(folder / name, "w", userblock_size=512) as file:
            file["ppg"], file["ecg"] = ppg.reshape(shape), ecg.reshape(shape)
            file["fs"] = np.array([[100.0]])
            file["subject"] = np.array([[ord(letter)] for letter in "S\u00e9l"], np.uint16)
            for key in ("ppg", "ecg", "fs"):
                file[key].attrs["MATLAB_class"] = np.bytes_("double")
            file["subject"].attrs["MATLAB_class"] = np.bytes_("char")
    with h5py.File(folder / "n_by_1.h5", "w") as file:
        file["ppg"], file["ecg"] = ppg[:, None], ecg[:, None]
        file.attrs["fs"] = 100.0


def e4_folder(folder):
    """Write files of an Empatica E4: no names; first row the start (Unix s), second row the rate,
    then samples.
    """
    _, ppg, _ = synth(64)
    write(folder, "BVP.csv", ["1544027337.000000", "64.000000"], [f"{50 * x:.2f}" for x in ppg])
    start, rate = ", ".join(["1544027337.000000"] * 3), ", ".join(["32.000000"] * 3)
    write(folder, "ACC.csv", [start, rate], ["-3,4,63"] * (120 * 32))


def polar_semicolon_ns(folder):
    """Write Polar's text export: semicolons, phone times of packets, sensor times in ns since
    2000.
    """
    t, ppg, _ = synth(55)
    names = "Phone timestamp;sensor timestamp [ns];channel 0;channel 1;channel 2;ambient"
    begin, rows = datetime(2023, 5, 4, 10), []
    for k, (s, x) in enumerate(zip(t, ppg, strict=True)):
        packet = (k // 10 + 1) * 10 / 55
        phone = begin + timedelta(seconds=packet - (9 - k % 10) / 55)
        ns = 736_000_000_000_000_000 + int(round(s * 1e9))
        counts = ";".join(str(int(height - scale * x)) for height, scale in (
            (400000, 2000), (390000, 1900), (380000, 1800)))  # fmt: skip
        rows.append(f"{phone.isoformat(timespec='milliseconds')};{ns};{counts};18000")
    write(folder, "ppg.csv", names, rows)
    maps = {
        "ns": "time: sensor timestamp [ns]", "phone": "time: Phone timestamp", "rate": "sfreq: 55",
        "ns_unit": "time: sensor timestamp [ns]\ntime_unit: ns",
    }  # fmt: skip
    for name, text in maps.items():
        (folder / f"{name}.yaml").write_text(f"ppg: channel 0\n{text}\n")


def shimmer_rows(folder):
    """Write a table of Shimmer Consensys: a line "sep=", names, a row of units, tabs, one more at
    the end.
    """
    t, ppg, ecg = synth(128)
    names = "Shimmer_1_Timestamp_Unix_CAL\tShimmer_1_PPG_A13_CAL\tShimmer_1_ECG_LL-RA_24BIT_CAL\t"
    rows = [
        f"{1.6e12 + 1000 * s:.3f}\t{1000 * a:.4f}\t{b:.5f}\t"
        for s, a, b in zip(t, ppg, ecg, strict=True)
    ]
    write(folder, "shimmer.csv", ["sep=\\t", names, "ms\tmV\tmV\t"], rows, end="\r\n")
    (folder / "map.yaml").write_text(
        "ppg: Shimmer_1_PPG_A13_CAL\necg: Shimmer_1_ECG_LL-RA_24BIT_CAL\n"
        "time: Shimmer_1_Timestamp_Unix_CAL\n"
    )


def inverted_ppg(folder):
    """Write raw counts of reflected light, which fall at systole, and real recordings, both ways
    up.
    """
    from xmae.data.bidmc import bidmc_files
    from xmae.data.recording.readers import read_recording

    _, ppg, ecg = synth(100)
    np.savez(folder / "upright.npz", ppg=ppg, ecg=ecg, fs=100.0)
    np.savez(folder / "inverted.npz", ppg=120000 - 800 * ppg, ecg=ecg, fs=100.0)
    for k, path in enumerate(bidmc_files()[:3]):
        recording = read_recording(path)
        n = int(60 * recording.sfreq)
        for name, sign in (("upright", 1), ("inverted", -1)):
            np.savez(
                folder / f"real{k}_{name}.npz", ppg=sign * recording.ppg[:n],
                ecg=recording.ecg[:n], fs=recording.sfreq, patient=f"r{k}",
            )  # fmt: skip


def wfdb_formats(folder):
    """Write signals in every WFDB format that `wfdb` writes, and two formats in one record."""
    _, ppg, ecg = synth(125)
    x = np.stack([ppg, ecg], 1)
    named = {"fs": 125, "units": ["NU", "mV"], "sig_name": ["PLETH", "II"], "p_signal": x}
    for fmt, bits in (("16", 15), ("212", 11), ("80", 7), ("24", 23), ("32", 31)):
        gain = 0.9 * (2**bits - 2) / 1.6
        wfdb.wrsamp(
            f"f{fmt}", **named, fmt=[fmt] * 2, adc_gain=[gain] * 2, baseline=[0, 0],
            write_dir=str(folder),
        )  # fmt: skip
    wfdb.wrsamp(
        "mixed", **named, fmt=["16", "80"], adc_gain=[15000, 70], baseline=[0, 0],
        write_dir=str(folder),
    )  # fmt: skip
    np.savez(folder / "truth.npz", ppg=ppg, ecg=ecg, fs=125.0)


def mimic4_rate(folder):
    """Write frames of MIMIC-IV at 62.4725 Hz, 4 samples of ECG and 2 of PLETH in each; 300 s."""
    frame = 62.4725
    _, ppg, _ = synth(2 * frame, seconds=300)
    _, _, ecg = synth(4 * frame, seconds=300)
    n = min(len(ppg) // 2, len(ecg) // 4)
    wfdb.wrsamp(
        "w4", fs=frame, units=["NU", "mV"], sig_name=["Pleth", "II"],
        e_p_signal=[ppg[: 2 * n], ecg[: 4 * n]], samps_per_frame=[2, 4], fmt=["16", "16"],
        adc_gain=[15000.0] * 2, baseline=[0, 0], write_dir=str(folder),
    )  # fmt: skip
    np.savez(folder / "only.npz", ppg=ppg[: 2 * n], fs=2 * frame)


def sentinels(folder):
    """Write windows of which every third has 2 s of a number that says "no value", or of empty
    cells.
    """
    t, ppg, ecg = synth(100)
    counts = np.round(30000 + 5000 * ppg).astype(int)
    hole = (t % 30 >= 4) & (t % 30 < 6)
    for value in (0, -1, 65535, -32768, ""):
        rows = [
            f"{s:.2f},{value if h else a},{b:.4f}"
            for s, a, b, h in zip(t, counts, ecg, hole, strict=True)
        ]
        write(folder, f"mark_{value}.csv", "time,ppg,ecg [mV]", rows)


def many_rows(folder, n_rows=5_000_000):
    """Write a long table (14 h at 100 Hz): a minute of synthetic PPG, repeated, with times."""
    import pyarrow as pa
    from pyarrow import csv

    t = np.arange(6000) / 100
    pulses = sum(np.exp(-0.5 * ((t - b) / 0.09) ** 2) for b in np.arange(-0.8, 62, 0.8))
    one = pulses + 0.004 * np.random.default_rng(0).standard_normal(6000)
    whole = np.tile(one, n_rows // 6000 + 1)[:n_rows]
    whole = whole + 1e-4 * np.random.default_rng(1).standard_normal(n_rows)
    columns = {"time": np.round(np.arange(n_rows) / 100, 2), "ppg": np.round(whole, 5)}
    csv.write_csv(pa.table(columns), folder / "rows.csv")


def bdf(folder):
    """Write BDF (24 bit, BioSemi), under its suffix and under that of EDF."""
    _, ppg, ecg = synth(128)
    signals = [edfio.BdfSignal(ppg, 128, label="Pleth"), edfio.BdfSignal(ecg, 128, label="ECG II")]
    edfio.Bdf(signals, patient=edfio.Patient(code="S01")).write(folder / "rec.bdf")
    (folder / "renamed.edf").write_bytes((folder / "rec.bdf").read_bytes())


def other_containers(folder):
    """Write files of one kind under the suffix of another."""
    _, ppg, _ = synth(100)
    pd.DataFrame({"ppg": ppg}).to_parquet(folder / "parquet.csv")
    np.savez(folder / "archive.npz", ppg=ppg, fs=100.0)
    (folder / "archive.csv").write_bytes((folder / "archive.npz").read_bytes())
    with h5py.File(folder / "hdf5.edf", "w") as file:
        file["ppg"] = ppg
    with gzip.open(folder / "gzip.csv", "wt") as file:
        file.write("ppg\n1\n")
    (folder / "archive.npz").unlink()


def text_encodings(folder):
    """Write one table in the encodings and line ends of spreadsheets, and cut short."""
    t, ppg, ecg = synth(100)
    rows = [f"{s:.2f},{a:.5f},{b:.5f}\n" for s, a, b in zip(t, ppg, ecg, strict=True)]
    text = "time,ppg,ecg [mV]\n" + "".join(rows)
    warm = text.replace("ecg [mV]", "ecg [mV],temp \u00b0C").replace("\n", ",36\n")
    files = {
        "utf8": text.encode(),
        "utf8_bom_crlf": b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode(),
        "cr_only": text.replace("\n", "\r").encode(),
        "nul_tail": text.encode() + b"\x00" * 4096,  # card pulled out: the last block is empty
        "cut_row": text.encode()[:-12],
        "utf16": text.encode("utf-16"),
        "latin1": warm.replace("temp \u00b0C,36", "temp \u00b0C").encode("latin-1"),
    }
    for name, content in files.items():
        (folder / f"{name}.csv").write_bytes(content)


def nul_tail_no_time(folder):
    """Write files of a memory card that lost power: zero bytes at the end, or within. No times."""
    _, ppg, _ = synth(100)
    text = ("ppg\n" + "".join(f"{a:.5f}\n" for a in ppg)).encode()
    (folder / "one_column.csv").write_bytes(text)
    (folder / "nul_tail.csv").write_bytes(text + b"\x00" * 4096)
    (folder / "nul_middle.csv").write_bytes(text[:40000] + b"\x00" * 512 + text[40512:])
    lines = text.decode().splitlines()
    lines[6001] = ""  # an empty line of the only column is a missing sample
    (folder / "empty_line.csv").write_text("\n".join(lines) + "\n")


def wfdb_pair(folder, name, ppg, ecg, units=("NU", "mV"), gains=(15000.0, 15000.0), **named):
    """Write one WFDB record of PPG and ECG at 125 Hz in format 16."""
    wfdb.wrsamp(
        name, fs=125, units=list(units), sig_name=["PLETH", "II"],
        p_signal=np.stack([ppg, ecg], 1), fmt=["16"] * 2, adc_gain=list(gains),
        baseline=[0] * 2, write_dir=str(folder), **named,
    )  # fmt: skip


def wfdb_segment_count(folder):
    """Write a header of several segments that announces one more than it lists, or wrong
    lengths.
    """
    for k in range(2):
        _, ppg, ecg = synth(125, seconds=60, seed=k)
        wfdb_pair(folder, f"seg_{k}", ppg, ecg)
    (folder / "whole.hea").write_text("whole/3 2 125 15000\nseg_0 7500\nseg_1 7500\n")
    (folder / "right.hea").write_text("right/2 2 125 15000\nseg_0 7500\nseg_1 7500\n")
    (folder / "length.hea").write_text("length/2 2 125 15000\nseg_0 7000\nseg_1 8000\n")


def wfdb_file_length(folder):
    """Write signal files that are shorter, or longer, than their header says; and a header without
    length.
    """
    _, ppg, ecg = synth(125)
    for name in ("short", "long", "unknown"):
        wfdb_pair(folder, name, ppg, ecg)
    data = (folder / "short.dat").read_bytes()
    (folder / "short.dat").write_bytes(data[: len(data) // 2 + 1])
    (folder / "long.dat").write_bytes(data + data)
    header = (folder / "unknown.hea").read_text()
    (folder / "unknown.hea").write_text(header.replace("unknown 2 125 15000", "unknown 2 125"))


def wfdb_latin1_comment(folder):
    """Write a header whose comment, or unit, is not ASCII."""
    _, ppg, ecg = synth(125)
    wfdb_pair(folder, "acc", ppg, ecg, comments=["age: 64 sex: F"])
    header = (folder / "acc.hea").read_bytes()
    (folder / "acc.hea").write_bytes(header + b"# S\xe9jour 12\n")
    for name, sign in (("micro", b"/\xb5V"), ("micro8", b"/\xc2\xb5V"), ("mu", b"/\xce\xbcV")):
        wfdb_pair(folder, name, ppg, 1000 * ecg, ("NU", "uV"), (15000.0, 15.0))
        header = (folder / f"{name}.hea").read_bytes()
        (folder / f"{name}.hea").write_bytes(header.replace(b"/uV", sign))


def parquet_kinds(folder):
    """Write parquet tables as other tools write them."""
    t, ppg, ecg = synth(100)
    base = pd.DataFrame({"time": t, "ppg": ppg, "ecg [mV]": ecg})
    category = pd.Categorical(["B"] * len(t), categories=["A", "B", "C"])
    base.assign(subject=category).to_parquet(folder / "categories.parquet")
    base.assign(subject=7).to_parquet(folder / "int_subject.parquet")
    base.assign(Participant_ID=[7.0] * len(t)).to_parquet(folder / "float_subject.parquet")
    rows = [ppg[k : k + 1000] for k in range(0, 12000, 1000)]
    pd.DataFrame({"ppg": rows}).to_parquet(folder / "list_rows.parquet")
    when = pd.date_range("2023-10-29 00:59:00", periods=len(t), freq="10ms", tz="UTC")
    berlin = pd.DataFrame({"timestamp": when.tz_convert("Europe/Berlin"), "ppg": ppg})
    berlin.to_parquet(folder / "berlin.parquet")
    spans = pd.DataFrame({"timestamp": pd.to_timedelta(t, unit="s"), "ppg": ppg})
    spans.to_parquet(folder / "duration.parquet")
    base.assign(ppg=base["ppg"].astype("float16")).to_parquet(folder / "half.parquet")
    part = base.assign(subject=["S1"] * 6000 + [None] * 3000 + ["S1"] * 3000)
    part.drop(columns="time").to_parquet(folder / "missing_subject.parquet")
    part.drop(columns="time").to_csv(folder / "missing_subject.csv", index=False)


def rate_change_in_file(folder):
    """Write the times of a phone that delivers 50 Hz in the first half hour and 49 Hz in the
    second.
    """
    t = np.r_[np.arange(50 * 1800) / 50, 1800 + np.arange(49 * 1800) / 49]
    fine, ppg, _ = synth(200)
    rows = [f"{s:.4f},{a:.5f}" for s, a in zip(t, np.interp(t % 120, fine, ppg), strict=True)]
    write(folder, "two_rates.csv", "time,ppg", rows)
    drift = t + 0.02 * np.sin(t / 300)  # a clock that is never off by more than a step
    rows = [f"{s:.4f},{a:.5f}" for s, a in zip(drift[:30000], t[:30000] % 0.8, strict=True)]
    write(folder, "steady.csv", "time,ppg", rows)


def numerics_zero(folder):
    """Write numbers of a monitor that are 0 or -1, or beyond sense, while the probe is off."""
    for k, bpm in enumerate((60, 75, 90)):
        _, ppg, ecg = synth(100, bpm=bpm, seed=k)
        hr, rr = np.full(120, float(bpm)), np.full(120, 15.0)
        hr[20:40], hr[60:80], hr[80:90], rr[20:40] = 0, -1, np.inf, 0
        np.savez(
            folder / f"p{k}.npz", ppg=ppg, ecg=ecg, fs=100.0, patient=f"p{k}", hr=hr, rr=rr,
            spo2=np.where(hr > 0, 97.0, 0), age=300,
        )  # fmt: skip


def names(folder):
    """Write columns that have the names of ECG leads, and of the time, but are something else."""
    t, ppg, ecg = synth(100, seconds=30)
    usual = (
        "PLETH", "Pleth", "SpO2 Pleth", "ppg_green", "PPG_IR", "ppgGreen", "BVP", "PPG [a.u.]",
        "Plethysmogram", "PlethWV", "PPG100C", "PPG1", "ppg_0", "OxiPleth",
    )  # fmt: skip
    for k, name in enumerate(usual):
        rows = [f"{s:.2f},{a:.5f}" for s, a in zip(t, ppg, strict=True)]
        write(folder, f"n{k:02d}.csv", f"time,{name}", rows)
    current, volts = 20 + 0.001 * (np.arange(len(t)) % 7), 3.7 - 1e-6 * np.arange(len(t))
    warmth = 33 + 1e-4 * np.arange(len(t))
    four = list(zip(ppg, current, volts, warmth, strict=True))
    rows = [f"{a:.5f},{i},{v},{w}" for a, i, v, w in four]
    write(folder, "current_voltage_temperature.csv", "ppg,I,V,T", rows)
    rows = [f"{a:.5f},{i},{v}" for a, i, v, _ in four]
    write(folder, "current_voltage.csv", "ppg,I,V", rows)
    rows = [f"{a:.5f},{b:.5f},{b:.5f}" for a, b in zip(ppg, ecg, strict=True)]
    write(folder, "leads.csv", "ppg,I,II", rows)
    write(folder, "lead.csv", "ppg,I [mV],V [V]", rows)


def acceleration_without_unit(folder):
    """Write acceleration at rest in four units that nobody states, and without gravity."""
    t, ppg, ecg = synth(100)
    rng = np.random.default_rng(3)
    g = np.stack([0.005 * rng.standard_normal(len(t)) + offset for offset in (0.02, -0.1, 0.99)], 1)
    scales = {"g": 1, "mg": 1000, "counts64": 64, "ms2": 9.80665, "counts16": 2048}
    tables = {name: scale * g for name, scale in scales.items()} | {
        "linear": g - [0.02, -0.1, 0.99]
    }
    for name, axes in tables.items():
        rows = [
            f"{s:.2f},{a:.5f},{b:.5f},{x:.4f},{y:.4f},{z:.4f}"
            for s, a, b, (x, y, z) in zip(t, ppg, ecg, axes, strict=True)
        ]
        write(folder, f"{name}.csv", "time,ppg,ecg [mV],ACC_X,ACC_Y,ACC_Z", rows)
    named = "time,ppg,ecg [mV],ACC_X [ft/s2],ACC_Y [ft/s2],ACC_Z [ft/s2]"
    write(folder, "feet.csv", named, rows)


def header_and_duplicates(folder):
    """Write names behind "#"; the column "ppg" twice; Excel's line "sep=;"; a compressed table;
    none.
    """
    t, ppg, ecg = synth(100)
    rows = [f"{s:.2f},{a:.5f},{b:.5f}" for s, a, b in zip(t, ppg, ecg, strict=True)]
    write(folder, "hash_header.csv", "#time,ppg,ecg", rows)
    write(folder, "no_header.csv", rows[0], rows[1:])
    write(folder, "twice.csv", "time,ppg,ppg", rows)
    half = [row.rsplit(",", 1)[0].replace(",", ";") for row in rows]
    write(folder, "sep_line.csv", ["sep=;", "time;ppg"], half)
    late = ["1;0"] * 40 + [f"{a:.5f};0".replace(".", ",") for a in ppg[40:]]
    write(folder, "decimal_late.csv", "ppg;x", late)
    with gzip.open(folder / "table.csv.gz", "wt") as file:
        file.write("time,ppg,ecg\n" + "\n".join(rows) + "\n")
