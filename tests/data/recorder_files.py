"""Files as recorders export them, written from real signals: one function a layout.

Written from the public descriptions of the formats, not with the packages that read them, where
that can be done.
"""

import json
import struct
from datetime import datetime, timedelta

import numpy as np

from xmae.signals.resample import resample

START = datetime(2026, 5, 4, 10, 0, 0)
UNIX = 1777888800.0  # the same, UTC


def at(x, rate, sfreq=125):
    """Return a signal of 125 Hz at another rate."""
    return resample(np.asarray(x, float), sfreq, rate)


def still(n):
    """Return the samples of an accelerometer that lies still, g: (n, 3)."""
    return np.tile([0.02, -0.1, 0.99], (n, 1))


def empatica(folder, ppg, seconds, late_acc_s=0.0):
    """Write a folder of an Empatica E4: BVP.csv, ACC.csv and others."""
    folder.mkdir(parents=True, exist_ok=True)
    bvp = "\n".join(f"{50 * x:.2f}" for x in at(ppg, 64))
    (folder / "BVP.csv").write_text(f"{UNIX:.6f}\n64.000000\n{bvp}\n")
    counts = np.rint(64 * still(int(seconds * 32))).astype(int)
    head = f"{', '.join([f'{UNIX + late_acc_s:.6f}'] * 3)}\n{', '.join(['32.000000'] * 3)}\n"
    body = "\n".join(",".join(map(str, row)) for row in counts)
    (folder / "ACC.csv").write_text(f"{head}{body}\n")
    (folder / "HR.csv").write_text(f"{UNIX + 10:.6f}\n1.000000\n" + "70.00\n" * int(seconds - 10))
    (folder / "IBI.csv").write_text(f"{UNIX:.6f}, IBI\n3.1,0.8\n3.9,0.81\n")
    (folder / "tags.csv").write_text(f"{UNIX + 5:.2f}\n")
    return folder / "BVP.csv"


def embraceplus(path, ppg, seconds, person="", stated=True):
    """Write an Avro file of an Empatica EmbracePlus."""
    fastavro = __import__("fastavro")
    signal = {
        "type": "record", "name": "bvp_t", "fields": [
            {"name": "timestampStart", "type": "long"},
            {"name": "samplingFrequency", "type": "float"},
            {"name": "values", "type": {"type": "array", "items": "float"}},
        ],
    }  # fmt: skip
    limits = [{"name": name, "type": "int"} for name in
              ("physicalMin", "physicalMax", "digitalMin", "digitalMax")]  # fmt: skip
    axes = [{"name": axis, "type": {"type": "array", "items": "int"}} for axis in "xyz"]
    acc = {
        "type": "record", "name": "acc_t", "fields": [
            {"name": "timestampStart", "type": "long"},
            {"name": "samplingFrequency", "type": "float"},
            {"name": "imuParams", "type": {"type": "record", "name": "imu", "fields": limits}},
            *axes,
        ],
    }  # fmt: skip
    raw = {"type": "record", "name": "raw", "fields": [
        {"name": "bvp", "type": signal}, {"name": "accelerometer", "type": acc},
    ]}  # fmt: skip
    schema = {"type": "record", "name": "root", "fields": [
        {"name": "deviceSn", "type": "string"}, {"name": "rawData", "type": raw},
        {"name": "enrollment", "type": {"type": "record", "name": "enrollment", "fields": [
            {"name": "participantID", "type": "string"}, {"name": "siteID", "type": "string"}]}},
    ]}  # fmt: skip
    counts = np.rint(2048 * still(int(seconds * 64))).astype(int)
    scale = {"physicalMin": -16, "physicalMax": 16, "digitalMin": -32768, "digitalMax": 32768}
    scale = scale if stated else dict.fromkeys(scale, 0)
    begun = int(UNIX * 1e6)
    record = {
        "deviceSn": "3YK1",
        "enrollment": {"participantID": person, "siteID": "1"},
        "rawData": {
            "bvp": {
                "timestampStart": begun, "samplingFrequency": 64.0,
                "values": [float(x) for x in at(ppg, 64)],
            },
            "accelerometer": {
                "timestampStart": begun + 500_000, "samplingFrequency": 64.0, "imuParams": scale,
                **dict(zip("xyz", counts.T.tolist(), strict=True)),
            },
        },
    }  # fmt: skip
    with path.open("wb") as file:
        fastavro.writer(file, fastavro.parse_schema(schema), [record])
    return path


def polar(path, columns, rate, start_s=0.0, drift_ppm=0.0):
    """Write a file of Polar Sensor Logger: `columns` name -> values; the phone's time, and the
    sensor's in ns.
    """
    n = len(next(iter(columns.values())))
    lines = [";".join(["Phone timestamp", "sensor timestamp [ns]", *columns])]
    for k in range(n):
        s = k / rate / (1 + 1e-6 * drift_ppm)
        phone = START + timedelta(
            seconds=start_s + (k // 73 + 1) * 73 / rate - (72 - k % 73) / rate
        )
        ns = 830_000_000_000_000_000 + round((start_s + s) * 1e9)
        values = [f"{x[k]:.0f}" for x in columns.values()]
        lines.append(";".join([phone.isoformat(timespec="milliseconds"), str(ns), *values]))
    path.write_text("\n".join(lines) + "\n")
    return path


def polar_ecg(folder, ecg, start_s=0.0):
    """Write a file of a Polar H10: ECG in uV at 130 Hz."""
    return polar(folder / "Polar_H10_A1_20260504_100000_ECG.txt",
                 {"ecg [uV]": 1000 * at(ecg, 130)}, 130, start_s)  # fmt: skip


def polar_ppg(folder, ppg, seconds):
    """Write files of a Polar Verity Sense: three channels and ambient light at 55 Hz, and
    acceleration at 52 Hz.
    """
    light = 400000 - 20000 * at(ppg, 55)  # falls at systole
    stem = "Polar_Sense_B2_20260504_100000"
    columns = {"channel 0": light, "channel 1": light - 9000, "channel 2": light - 19000,
               "ambient": np.full(len(light), 18000)}  # fmt: skip
    acc = 1000 * still(int(seconds * 52))
    names = [f"{axis} [mg]" for axis in "XYZ"]
    polar(folder / f"{stem}_ACC.txt", dict(zip(names, acc.T, strict=True)), 52, 0.4)
    return polar(folder / f"{stem}_PPG.txt", columns, 55)


def shimmer(path, ppg, ecg, pulse="PPG_A13_CAL"):
    """Write a file of Shimmer Consensys: sep=, names, units, tabs, a tab at the end of each row."""
    names = ["Timestamp_Unix_CAL", "Accel_LN_X_CAL", "Accel_LN_Y_CAL", "Accel_LN_Z_CAL",
             pulse, "ECG_LA-RA_24BIT_CAL", "ECG_LL-RA_24BIT_CAL"]  # fmt: skip
    units = ["ms", "m/(s^2)", "m/(s^2)", "m/(s^2)", "mV", "mV", "mV"]
    ppg, ecg = at(ppg, 128), at(ecg, 128)
    lines = ["sep=\\t", "".join(f"Shimmer_5E2F_{name}\t" for name in names),
             "".join(f"{unit}\t" for unit in units)]  # fmt: skip
    acc = 9.80665 * still(len(ppg))
    for k in range(len(ppg)):
        row = [1000 * (UNIX + k / 128), *acc[k], 1000 * ppg[k], 0.5 * ecg[k], ecg[k]]
        lines.append("".join(f"{x:.5f}\t" for x in row))
    path.write_text("\r\n".join(lines) + "\r\n")
    return path


def opensignals(path, ppg, ecg, lost=(), sensors=("ECG", "BVP")):
    """Write a file of a BITalino by OpenSignals: a header in JSON, counts of 10 bits at 1000 Hz;
    `lost` packets.
    """
    header = {
        "20:16:12:22:01:28": {
            "sensor": sensors, "device name": "20:16:12:22:01:28",
            "column": ["nSeq", "I1", "I2", "O1", "O2", "A1", "A2"], "sync interval": 2,
            "time": "10:00:00.5", "date": "2026-5-4", "comments": "", "channels": [1, 2],
            "mode": 0, "firmware version": 772, "device": "bitalino_rev", "position": 0,
            "sampling rate": 1000, "label": ["A1", "A2"], "resolution": [4, 1, 1, 1, 1, 10, 10],
        }
    }  # fmt: skip
    volts = at(ecg, 1000) / 1000 * 1100 / 3.3 + 0.5
    counts = np.stack([np.rint(1024 * volts), np.rint(300 + 400 * at(ppg, 1000))], 1)
    lines = [
        "# OpenSignals Text File Format. Version 1",
        f"# {json.dumps(header)}",
        "# EndOfHeader",
    ]
    lines += [f"{k % 16}\t0\t0\t0\t0\t{a:.0f}\t{b:.0f}\t" for k, (a, b) in enumerate(counts)
              if k not in lost]  # fmt: skip
    path.write_text("\n".join(lines) + "\n")
    return path


def apple_health(path, ecg, comma=False, german=False):
    """Write an ECG file of an Apple Watch: a head, then one sample per line, uV."""
    head = ["Name,Erika Mustermann", 'Date of Birth,"1. Jan 1980"',
            "Recorded Date,2026-05-04 12:00:00 +0200", "Classification,Sinus Rhythm", "Symptoms,",
            "Software Version,1.90", 'Device,"Watch6,2"', "Sample Rate,512 hertz", "", "",
            "Lead,Lead I", "Unit,µV", ""]  # fmt: skip
    if german:
        head = [
            "Name,Erika Mustermann",
            "Geburtsdatum,01.01.1980",
            "Aufzeichnungsdatum,2026-05-04 12:00:00 +0200",
            "Klassifizierung,Sinusrhythmus",
            "Symptome,",
            "Softwareversion,1.90",
            'Ger\u00e4t,"Watch6,2"',
            'Messrate,"512,000 Hertz"',
            "",
            "",
            "Ableitung,Ableitung I",
            "Einheit,µV",
            "",
        ]
    samples = [f"{1000 * x:.3f}" for x in at(ecg, 512)]
    if comma:
        samples = [f'"{x}"'.replace(".", ",") for x in samples]
    path.write_text("\n".join([*head, *samples]) + "\n", encoding="utf-8")
    return path


def biopac(path, channels, rate):
    """Write a file of Biopac AcqKnowledge 3.7.0, little-endian, int16: `channels` of (name, unit,
    x, divider).
    """
    body = struct.pack("<hhh", len(channels), 0, 0)
    body += struct.pack("<5d", 1000 / rate, 0, 1, 0, 0) + struct.pack("<10h", *[0] * 10)
    body += struct.pack("<hdh", 0, 0, 0) + b"seconds".ljust(40, b"\0") + b"s".ljust(10, b"\0")
    body += struct.pack("<6h", *[0] * 6) + struct.pack("<7h", *[0] * 7)  # 2.0 and 3.0
    body += struct.pack("<81h", *[0] * 81)  # 3.0.3
    body += struct.pack("<120h40d", *[0] * 160)  # 3.5
    body += struct.pack("<i8B4HIId60dd60di", *[0] * 138)  # 3.7.0
    graph = struct.pack("<hIi", 0, 38, len(body) + 10) + body
    heads, scaled = b"", []
    for number, (name, unit, x, divider) in enumerate(channels):
        low, high = float(np.min(x)), float(np.max(x))
        scale = (high - low) / 60000
        scaled.append((np.rint((x - low) / scale) - 30000).astype("<i2"))
        head = struct.pack("<h40s4sh2d20si2dhh", number, name.encode(), b"", 0, 0, 1, unit.encode(),
                           len(x), scale, low + 30000 * scale, number, 0)  # fmt: skip
        head += struct.pack("<hd128sh", 0, 0, b"", divider)
        heads += struct.pack("<i", len(head) + 4) + head
    tail = struct.pack("<hh", 4, 0) + struct.pack("<hh", 2, 2) * len(channels)
    data, places = bytearray(), [0] * len(channels)
    for tick in range(max(len(x) * c[3] for x, c in zip(scaled, channels, strict=True))):
        for k, (_, _, _, divider) in enumerate(channels):
            if tick % divider == 0 and places[k] < len(scaled[k]):
                data += scaled[k][places[k]].tobytes()
                places[k] += 1
    path.write_bytes(graph + heads + tail + bytes(data) + struct.pack("<ii", 8, 0))
    return path
