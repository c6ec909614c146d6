"""Calibration windows, inference graphs and int8 graphs."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from xmae.data.bidmc import bidmc_files
from xmae.data.prepare.prepare import prepare_recording
from xmae.data.recording.readers import read_recording
from xmae.data.store.store import Windows, WindowStore
from xmae.errors import UserError
from xmae.export.targets import executorch
from xmae.models import McuStudent, PPGEncoder, XMAEConfig, load_encoder
from xmae.quantize import (
    compare_graphs,
    exportable,
    held_out,
    read_calibration,
    training_windows,
)
from xmae.quantize.calibration import evenly, spread
from xmae.quantize.graph import Normalise
from xmae.quantize.layers import centred_cosine, drift_of_embeddings, error_of, run_graph
from xmae.quantize.pt2e import quantize_graph, with_mean_kept
from xmae.signals.scale import minmax_scale


@pytest.fixture(scope="module")
def store(nine_subjects):
    return nine_subjects


@pytest.fixture(scope="module")
def student():
    return load_encoder("student-mcu")


def randomised(encoder):
    """Return any weights and batch-norm statistics at all: equality of graphs must not hang on
    trained ones.
    """
    generator = torch.Generator().manual_seed(1)
    for module in encoder.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.running_mean.normal_(0, 0.3, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
        if (
            isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm))
            and module.weight is not None
        ):
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(0, 0.3, generator=generator)
    return encoder.eval()


SMALL = {"width": 64, "n_heads": 4, "stem_widths": (8, 16, 32), "stem_out": 8}


@pytest.mark.parametrize(
    "encoder",
    [McuStudent(), PPGEncoder(), PPGEncoder(XMAEConfig(**SMALL, projection=24))],
    ids=["student", "teacher", "reference projection"],
)
@torch.no_grad()
def test_graph_computes_what_the_encoder_does(encoder, store):
    randomised(encoder)
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    ppg = held_out(store, 8, seed=0)
    expected = encoder(torch.from_numpy(ppg)[:, None]).numpy()
    graph = exportable(encoder)
    assert np.abs(run_graph(graph, ppg) - expected).max() < 1e-5
    assert all(torch.equal(before[name], tensor) for name, tensor in encoder.state_dict().items())
    kinds = {type(module) for module in graph.modules()}
    assert not kinds & {nn.Conv1d, nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm}


def test_other_modules_are_refused():
    with pytest.raises(UserError, match="cannot export a Linear"):
        exportable(nn.Linear(2, 2))


def test_normalise_is_layer_norm_and_survives_a_constant_token():
    x = torch.randn(1, 5, 64)
    x[0, 2] = 3.0
    torch.testing.assert_close(
        Normalise()(x), nn.functional.layer_norm(x, (64,)), atol=2e-5, rtol=1e-5
    )


def test_spread_takes_evenly_from_subjects():
    subject = np.array(["a"] * 50 + ["b"] * 5 + ["c"] * 20)
    windows = SimpleNamespace(subject=subject)
    chosen = spread(windows, 30, seed=3)
    counts = dict(zip(*np.unique(subject[chosen], return_counts=True), strict=True))
    assert counts["b"] == 5  # all it has
    assert abs(counts["a"] - counts["c"]) <= 1
    assert sum(counts.values()) == 30
    assert np.array_equal(chosen, spread(windows, 30, seed=3))
    assert not np.array_equal(chosen, spread(windows, 30, seed=4))


def test_calibration_is_scaled_training_windows(store, tmp_path):
    calibration = training_windows(store.windows("train"), 32, seed=1)
    assert calibration.ppg.shape == (32, 1000)
    assert calibration.ppg.min(1) == pytest.approx(-1)
    assert calibration.ppg.max(1) == pytest.approx(1)
    assert {store.splits[s] for s in calibration.subject.tolist()} == {"train"}
    calibration.save(tmp_path / "c.npz")
    again = read_calibration(tmp_path / "c.npz", store.splits)
    assert all(
        np.array_equal(a, b)
        for a, b in zip(vars(calibration).values(), vars(again).values(), strict=True)
    )


def test_leakage_is_refused(store, tmp_path):
    stranger = next(s for s, split in store.splits.items() if split == "test")
    with pytest.raises(UserError, match=f"leak.*{stranger}"):
        training_windows(store.windows(), 32)
    calibration = training_windows(store.windows("train"), 32)
    calibration.save(tmp_path / "c.npz")
    victim = calibration.subject[0]
    with pytest.raises(UserError, match=f"leak: {victim}"):
        read_calibration(tmp_path / "c.npz", store.splits | {str(victim): "test"})
    # subjects that the store does not know could be anyone
    with pytest.raises(UserError, match="leak"):
        read_calibration(tmp_path / "c.npz", {})


def test_flat_windows_do_not_calibrate(store):
    train = store.windows("train")
    train.ppg[20:] = 1.5
    assert len(training_windows(train, 256)) == 20
    train.ppg[10:] = 1.5
    with pytest.raises(UserError, match="10 are not flat"):
        training_windows(train, 256)


def test_windows_without_a_readable_pulse_do_not_calibrate(store):
    """Five windows of a sensor's last digit once drove `student-app` 100 times out of range."""
    train = store.windows("train")
    train.ppg_quality[:] = np.where(np.arange(len(train)) % 2, 0.9, -0.2)
    readable = {(r, s) for r, s in zip(train.record[1::2], train.start_s[1::2], strict=True)}
    chosen = training_windows(train, 256)
    assert set(zip(chosen.record, chosen.start_s, strict=True)) == readable
    train.ppg_quality[20:] = -0.2  # ten are too few: better all than guesswork
    assert len(training_windows(train, 256)) == min(256, len(train))
    train.ppg_quality[:] = np.nan
    assert len(training_windows(train, 256)) == min(256, len(train))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        ("truncated", "not a calibration file"), ("missing key", "not a calibration file"),
        ("no file", "not a calibration file"), ("too few", "at least 16 windows"), ("flat", "flat"),
        ("nan", "not finite"), ("not scaled", r"not scaled to \[-1, 1\]"),
        ("float64", "in float32.*found float64"),
        ("too few subjects", r"a subject for each; found .*\(32, 1000\) and subjects \(31,\)"),
        ("samples in columns", "windows of 1000 samples"),
    ],
)  # fmt: skip
def test_bad_calibration_files(store, tmp_path, harm, message):
    path = tmp_path / "c.npz"
    arrays = vars(training_windows(store.windows("train"), 32))
    ppg = arrays["ppg"]
    if harm == "flat":
        ppg[3] = 0
    if harm == "nan":
        ppg[3, 5] = np.nan
    if harm == "not scaled":
        ppg[3] *= 1.5
    changed = {
        "missing key": {"ppg": ppg},
        "too few": {name: x[:3] for name, x in arrays.items()},
        "float64": arrays | {"ppg": ppg.astype(np.float64)},
        "too few subjects": arrays | {"subject": arrays["subject"][:31]},
        "samples in columns": arrays | {"ppg": ppg.T},
    }
    np.savez(path, **changed.get(harm, arrays))
    if harm == "truncated":
        path.write_bytes(path.read_bytes()[:5000])
    if harm == "no file":
        path.unlink()
    with pytest.raises(UserError, match=f"c.npz.*{message}"):
        read_calibration(path, store.splits)


def test_error_measures_on_known_arrays():
    error = error_of(np.array([3.0, 4.0]), np.array([3.0, 5.0]))
    assert error["snr_db"] == pytest.approx(10 * np.log10(34))
    assert error["cosine"] == pytest.approx(29 / (5 * np.sqrt(34)))
    assert error["max_error"] == 1
    shifted = np.array([[11.0, 10.0]]), np.array([[10.0, 11.0]])
    assert centred_cosine(*shifted, np.array([10.0, 10.0])) == pytest.approx(0)


def test_int8_student_keeps_its_embedding(student, store):
    graph = exportable(student)
    calibration = training_windows(store.windows("train"), 128).ppg
    # of which the file is lowered and its layers compared
    quantized = executorch.int8_graph(graph, calibration)
    ppg = held_out(store, 32, seed=0)
    drift = drift_of_embeddings(
        run_graph(quantized, ppg), run_graph(graph, ppg), run_graph(graph, calibration).mean(0)
    )
    assert drift["centred_cosine_median"] >= 0.98
    assert drift["centred_cosine_p5"] >= 0.95
    layers = executorch.compare_layers(graph, None, calibration, None, (), ppg[:4])
    assert layers[0]["module"].startswith("encoder.stem")
    assert layers[-1]["module"] == "encoder.head"
    assert min(layer["snr_db"] for layer in layers) > 0
    itself = torch.export.export(graph, (torch.zeros(1, 1, 1, 1000),)).module(check_guards=False)
    assert min(layer["cosine"] for layer in compare_graphs(graph, itself, ppg[:2])) > 1 - 1e-6


def test_without_val_subjects_no_window_that_calibrated_is_compared(store):
    alone = WindowStore(store.path)
    alone.splits = dict.fromkeys(alone.splits, "train")
    windows = alone.windows("train")
    calibration = training_windows(windows, 64, seed=77)
    ppg = held_out(alone, 64, 77, calibration)
    assert len(ppg) == 64
    assert not {window.tobytes() for window in ppg} & {
        window.tobytes() for window in calibration.ppg
    }
    with pytest.raises(UserError, match="no val split, and all windows set the ranges"):
        held_out(alone, 64, 77, training_windows(windows, len(windows)))


def test_few_windows_are_of_as_many_subjects_as_there_are(store):
    windows = store.windows("train")
    subject = evenly(windows.subject, len(set(windows.subject)) * 2)
    assert set(subject) == set(windows.subject)
    assert np.array_equal(evenly(np.arange(5), 9), np.arange(5)) and np.array_equal(
        evenly(np.arange(9), 3), [0, 4, 8]
    )


def test_scaled_windows_are_what_the_store_holds(store):
    ppg = held_out(store, 10_000, seed=0)
    assert np.array_equal(ppg, minmax_scale(store.windows("val").ppg)[0])


@pytest.mark.extended
def test_a_student_of_beats_keeps_the_mean_of_its_embedding():
    graph = exportable(load_encoder("beats-mcu"))
    recordings = [prepare_recording(read_recording(path))[0] for path in bidmc_files()[:4]]
    windows = minmax_scale(Windows.concatenate(recordings).ppg)[0][::4]
    inputs = [torch.from_numpy(window).view(1, 1, 1, -1) for window in windows]

    def missed(kept):
        quantized = quantize_graph(kept, windows)
        with torch.no_grad():
            lost = torch.cat([(graph(x) - quantized(x))[:, :256] for x in inputs])
        return lost.mean(0).abs().mean().item()

    assert missed(with_mean_kept(graph, windows)) < 0.9 * missed(graph)
