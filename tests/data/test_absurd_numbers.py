"""Numbers that no recorder gives are refused or marked, never read as if they were right."""

import edfio
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import wfdb
from scipy import io

from xmae.data.bidmc import bidmc_files
from xmae.data.recording.parquet import check_parquet
from xmae.data.recording.readers import read_recording
from xmae.data.recording.readers.dreamer import read_dreamer
from xmae.data.recording.recording import Recording
from xmae.data.recording.sizes import FREE_SAMPLES, check_columns, check_samples
from xmae.errors import UserError
from xmae.models import load_encoder, save_encoder
from xmae.models.student import McuStudent

N = 1500


@pytest.fixture(scope="module")
def real():
    """Return 12 s of a recording at 125 Hz."""
    recording = read_recording(bidmc_files()[0])
    return recording.ppg[:N], recording.ecg[:N]


NUMBERS = {
    "beyond float32": (lambda ppg, ecg: (ppg * 1e300, ecg), "ppg has samples of up to "),
    "one beyond": (
        lambda ppg, ecg: (np.where(np.arange(N) == 7, 1e39, ppg), ecg),
        "ppg has samples of up",
    ),
    "ecg beyond": (lambda ppg, ecg: (ppg, ecg * 1e200), "ecg has samples of up to "),
    "denormal": (lambda ppg, ecg: (ppg * 1e-310, ecg), "ppg spans "),
    "denormal in float32": (lambda ppg, ecg: (ppg * 1e-40, ecg), "ppg spans "),
    "denormal ecg": (lambda ppg, ecg: (ppg, ecg * 1e-310), "ecg spans "),
    "ecg is the ppg": (lambda ppg, ecg: (ppg, ppg), "ecg is the same signal as ppg"),
    "ecg is the ppg, scaled": (lambda ppg, ecg: (ppg, 3 - 7 * ppg), "ecg is the same signal"),
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_numbers_that_no_sensor_gives(tmp_path, real, kind):
    change, message = NUMBERS[kind]
    ppg, ecg = change(*real)
    with pytest.raises(UserError, match=f"a: {message}"):
        Recording("a", "a", 125, ppg, ecg)
    np.savez(tmp_path / "a.npz", ppg=ppg, ecg=ecg, fs=125)
    with pytest.raises(UserError, match=message):
        read_recording(tmp_path / "a.npz")


def test_what_sensors_give_is_read(real):
    ppg, ecg = real
    for scale in (1e-9, 1.0, 2**31):
        Recording("a", "a", 125, ppg * scale, ecg * scale)
    Recording("a", "a", 125, ppg, np.zeros(N))  # an ECG that was not connected


@pytest.mark.parametrize("rate", [-125, 0, np.nan, np.inf, 1e-300, 1e300])
@pytest.mark.parametrize("key", ["fs", "resp_fs"])
def test_absurd_rates(tmp_path, real, key, rate):
    ppg, ecg = real
    rates = {"fs": 125, "resp_fs": 125} | {key: rate}
    np.savez(tmp_path / "a.npz", ppg=ppg, ecg=ecg, resp=ppg[::-1], **rates)
    with pytest.raises(UserError, match="rate"):
        read_recording(tmp_path / "a.npz")


def write_wfdb(folder, real):
    wfdb.wrsamp(
        "w",
        125,
        ["NU", "mV"],
        ["PLETH", "II"],
        np.stack(real, 1),
        fmt=["16"] * 2,
        write_dir=str(folder),
    )
    return folder / "w.hea"


def test_wfdb_samples_that_do_not_add_up_to_their_checksum(tmp_path, real):
    path = write_wfdb(tmp_path, real)
    whole = path.with_suffix(".dat").read_bytes()
    np.testing.assert_allclose(read_recording(path).ppg, real[0], atol=1e-3)
    for place in (0, 2, len(whole) - 1):  # of either channel
        changed = bytearray(whole)
        changed[place] ^= 4
        path.with_suffix(".dat").write_bytes(changed)
        with pytest.raises(
            UserError, match=r"w.hea: channel '(PLETH|II)' is damaged: its samples add"
        ):
            read_recording(path)


def test_wfdb_header_of_more_samples_than_the_file_has(tmp_path, real):
    path = write_wfdb(tmp_path, real)
    path.write_text(path.read_text().replace(f"125 {N}", f"125 {10**12}"))
    with pytest.raises(UserError, match=r"w.hea: says that it holds 2e\+12 samples"):
        read_recording(path)


def test_edf_whose_count_of_records_does_not_fit(tmp_path, real):
    signals = [
        edfio.EdfSignal(x, 125, label=n) for n, x in zip(("Pleth", "ECG II"), real, strict=True)
    ]
    edfio.Edf(signals, data_record_duration=1).write(tmp_path / "a.edf")
    whole = (tmp_path / "a.edf").read_bytes()
    assert len(read_recording(tmp_path / "a.edf").ppg) == N
    (tmp_path / "b.edf").write_bytes(whole[:236] + b"11      " + whole[244:])
    (tmp_path / "c.edf").write_bytes(whole[:236] + b"99999999" + whole[244:])
    (tmp_path / "d.edf").write_bytes(whole[:-2])
    for name in "bcd":
        with pytest.raises(
            UserError, match=f"{name}.edf: says .* data records of .* bytes, and hold"
        ):
            read_recording(tmp_path / f"{name}.edf")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers(tmp_path, value):
    student = McuStudent(16, "mcu-s")
    with torch.no_grad():
        next(student.parameters()).view(-1)[3] = value
    save_encoder(student, tmp_path / "a.safetensors", {})
    with pytest.raises(UserError, match="a.safetensors: damaged weights: .* holds NaN or infinite"):
        load_encoder(tmp_path / "a.safetensors")


# ---- sizes


def test_declared_sizes():
    check_samples(FREE_SAMPLES, "a", 0)
    check_samples(FREE_SAMPLES + 4000, "a", 1000)
    check_columns(4096, "a")
    for refuse in (
        lambda: check_samples(FREE_SAMPLES + 4001, "a", 1000),
        lambda: check_samples(-1, "a", 10),
        lambda: check_columns(4097, "a"),
    ):
        with pytest.raises(UserError, match="a: "):
            refuse()


@pytest.mark.parametrize("columns", [["ppg.green"], ["ppg"], None])
def test_a_column_with_a_dot_that_unpacks_to_far_more(tmp_path, monkeypatch, columns):
    """Its name is no path of a field; nor is a field's path passed over."""
    monkeypatch.setattr("xmae.data.recording.sizes.FREE_SAMPLES", 1000)
    path, zeros = tmp_path / "a.parquet", np.zeros(10**6)
    column = pa.StructArray.from_arrays([zeros], ["green"]) if columns == ["ppg"] else zeros
    name = "ppg" if columns == ["ppg"] else "ppg.green"
    pq.write_table(pa.table({name: column, "time": zeros}), path)
    check_parquet(path, path, columns=["green"])
    with pytest.raises(UserError, match="a.parquet: says that it holds"):
        check_parquet(path, path, columns=columns)


def test_arrays_that_are_not_needed_are_not_read(tmp_path, real):
    ppg, ecg = real
    huge = np.broadcast_to(np.int8(0), (2**26,))
    np.savez_compressed(tmp_path / "a.npz", ppg=ppg, ecg=ecg, fs=125, other=huge)
    assert (tmp_path / "a.npz").stat().st_size < 2**21
    assert len(read_recording(tmp_path / "a.npz").ppg) == N
    np.savez_compressed(tmp_path / "b.npz", ppg=huge, fs=125)
    with pytest.raises(UserError, match=r"b.npz: says that it holds 6.711e\+07 samples"):
        read_recording(tmp_path / "b.npz")


def test_hdf5_that_leads_out_of_the_file(tmp_path, real):
    (tmp_path / "secret.bin").write_bytes(np.asarray(real[0], "<f8").tobytes())
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["PPG"] = real[0]
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file.attrs["fs"] = 125.0
        file["PPG"] = h5py.ExternalLink("other.h5", "/PPG")
    with h5py.File(tmp_path / "outside.h5", "w") as file:
        file.attrs["fs"] = 125.0
        file.create_dataset("PPG", (N,), "<f8", external=[("secret.bin", 0, N * 8)])
    layout = h5py.VirtualLayout(shape=(N,), dtype="f8")
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "PPG", shape=(N,))
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        file.attrs["fs"] = 125.0
        file.create_virtual_dataset("PPG", layout)
    with h5py.File(tmp_path / "huge.h5", "w") as file:
        file.attrs["fs"] = 125.0
        file.create_dataset("PPG", (2**33,), "f8", chunks=(2**16,))
    for name, why in (
        ("link", "is a link into another file"),
        ("outside", "values in another file"),
        ("virtual", "values in another file"),
        ("huge", "says that it holds"),
    ):
        with pytest.raises(UserError, match=f"{name}.h5: .*{why}"):
            read_recording(tmp_path / f"{name}.h5")


def test_gaps_that_would_fill_the_memory(tmp_path, real):
    n = 20_000
    times = np.arange(n) / 1000 + 3000.0 * (np.arange(n) // 100)
    rows = "\n".join(f"{t:.3f},{x:.4f}" for t, x in zip(times, np.resize(real[0], n), strict=True))
    (tmp_path / "a.csv").write_text(f"time,ppg\n{rows}\n")
    with pytest.raises(UserError, match="a.csv: .*gaps of"):
        read_recording(tmp_path / "a.csv")


def test_a_matlab_file_that_unpacks_to_far_more(tmp_path):
    path = tmp_path / "DATA_01.mat"
    io.savemat(path, {"sig": np.zeros((6, 2**22))}, do_compression=True)
    assert path.stat().st_size < 2**20
    with pytest.raises(UserError, match="DATA_01.mat: says that it holds"):
        read_recording(path)
    with pytest.raises(UserError, match="DATA_01.mat: says that it holds"):
        read_dreamer(path)


@pytest.mark.parametrize("rate", [0.0, -1.0, np.nan, np.inf, 1e9])
def test_a_label_has_a_rate_that_a_monitor_can_have(tmp_path, rate):
    x = np.sin(np.arange(2500) / 15)
    np.savez(tmp_path / "a.npz", ppg=x, fs=125.0, hr=np.full(20, 80.0), fs_numerics=rate)
    with pytest.raises(UserError, match="hr_monitor has the rate"):
        read_recording(tmp_path / "a.npz")


@pytest.mark.parametrize("suffix", ["npz", "h5"])
def test_complex_samples_do_not_lose_a_half(tmp_path, suffix):
    x = np.exp(1j * np.arange(2500) / 15)
    path = tmp_path / f"a.{suffix}"
    if suffix == "npz":
        np.savez(path, ppg=x, fs=125.0)
    else:
        with h5py.File(path, "w") as file:
            file.attrs["fs"], file["ppg"] = 125.0, x
    with pytest.raises(UserError, match="complex128"):
        read_recording(path)


@pytest.mark.parametrize("name", ["", " ", "nan", np.nan, "None", "<NA>"])
def test_nobody_is_no_subject(tmp_path, name):
    np.savez(tmp_path / "a.npz", ppg=np.sin(np.arange(2500) / 15), fs=125.0, patient=name)
    with pytest.raises(UserError, match="nobody's name"):
        read_recording(tmp_path / "a.npz")


@pytest.mark.parametrize("rate", ["-125", "nan", "1e9", "inf", "0x7d"])
def test_a_rate_that_wfdb_cannot_read_is_not_250_hz(tmp_path, rate):
    x = np.sin(np.arange(5000) / 15)[:, None]
    wfdb.wrsamp("a", 125, ["NU"], ["PLETH"], x, fmt=["16"], write_dir=str(tmp_path))
    text = (tmp_path / "a.hea").read_text()
    assert read_recording(tmp_path / "a.hea").sfreq == 125
    (tmp_path / "a.hea").write_text(text.replace(" 125 ", f" {rate} ", 1))
    with pytest.raises(UserError, match="rate"):
        read_recording(tmp_path / "a.hea")


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("value", ["nan", "inf", "x", "same"])
def test_codes_of_edf_are_not_taken_for_values(tmp_path, real, place, value):
    signals = [edfio.EdfSignal(real[0], 125, label="Pleth")]
    edfio.Edf(signals, data_record_duration=1).write(tmp_path / "a.edf")
    content = bytearray((tmp_path / "a.edf").read_bytes())
    n = int(content[252:256])  # signals; then labels, transducers, units, and the four limits
    begin = 256 + n * (16 + 80 + 8)
    other = begin + 8 * n * (place ^ 1)
    text = bytes(content[other : other + 8]) if value == "same" else f"{value:8}".encode()
    content[begin + 8 * n * place : begin + 8 * n * place + 8] = text
    (tmp_path / "a.edf").write_bytes(content)
    with pytest.raises(UserError):
        read_recording(tmp_path / "a.edf")
