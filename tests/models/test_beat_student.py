"""Students that read beats: sizes, shapes, and reading recordings as they come."""

import subprocess
import sys
from unittest.mock import patch

import numpy as np
import pytest
import torch

from xmae.data.bidmc import SHIPPED_SPLIT, bidmc_files
from xmae.data.prepare.inputs import read_splits
from xmae.data.prepare.prepare import prepare_recording
from xmae.data.recording.readers import read_recording
from xmae.distill.beats import BEATS
from xmae.errors import UserError
from xmae.evaluation.heads.embedding import embed_windows
from xmae.export.stream import Stream
from xmae.models import load_encoder, save_encoder
from xmae.models.beat_student import BEAT_TIERS, BeatStudent, Depthwise
from xmae.models.checkpoint import subjects_of
from xmae.models.student import count_macs, int8_bytes
from xmae.quantize.graph import exportable
from xmae.quantize.layers import centred_cosine


@pytest.fixture(scope="module")
def student():
    return load_encoder("beats-mcu")


@pytest.mark.parametrize("tier", [tier for tier in BEAT_TIERS if BEAT_TIERS[tier].n_inputs == 1])
def test_sizes(tier):
    student = BeatStudent(tier).eval()
    limits = {"mcu-s": (64 << 10, 1.1e6), "mcu": (256 << 10, 5e6), "app": (1 << 20, 25e6)}
    assert int8_bytes(student) <= limits[tier][0] and count_macs(student) <= limits[tier][1]
    embedding, timing = student.both(torch.zeros(2, 1, 1000))
    assert embedding.shape == (2, 256) and timing.shape == (2, 3, 250)


@pytest.mark.parametrize("name", BEATS)
def test_a_shipped_student_is_small_and_follows_the_shipped_teacher(name):
    """It was trained on exact beats, then distilled; nobody of BIDMC had a part in it."""
    student, recording = load_encoder(name), read_recording(bidmc_files()[3])
    limits = {"mcu-s": (64 << 10, 1e6), "mcu": (256 << 10, 5e6), "app": (1 << 20, 25e6)}
    size, macs = limits[student.config["tier"]]
    assert int8_bytes(student) <= size and count_macs(student) <= macs
    origin = student.provenance
    assert origin["teacher"] == load_encoder("base").provenance
    assert origin["begun_from"]["method"] == "timing"
    assert origin["begun_from"]["windows_seen"] >= 1_000_000
    assert subjects_of(origin) and not subjects_of(origin) & set(read_splits(SHIPPED_SPLIT))
    place, windows = origin["teacher_embedding"], prepare_recording(recording)[0]
    mean = np.array(place["mean"])
    wanted = embed_windows(load_encoder("base"), windows) - mean
    cosine = centred_cosine(embed_windows(student, windows) * place["unit"], wanted, 0)
    assert np.median(cosine) > 0.6
    # the stream of the int8 file says what the float weights say
    rates = [one.rate / 100 for one in Stream(name, 125).read(recording.ppg) if one.rate]
    assert np.median(rates) == pytest.approx(
        np.nanmedian(student.read(recording.ppg, 125).rate), abs=0.5
    )


def test_look_ahead_is_as_stated(student):
    rng = np.random.default_rng(0)
    x = torch.tensor(rng.uniform(-1, 1, (1, 1, 1000)), dtype=torch.float32)
    y = x.clone()
    y[..., 600:] = 0
    with torch.no_grad():
        same = (student.timing(x) - student.timing(y)).abs().amax(1)[0] < 1e-5
    first = int((~same).nonzero()[0])
    assert 4 * first + 1.5 >= 600 - student.sizes.look_ahead - 1.5 - 4 and same[:first].all()


def test_graph_computes_the_same(student):
    x = torch.rand(1, 1, 1000) * 2 - 1
    with torch.no_grad():
        row = exportable(student)(x[:, :, None])
        embedding, timing = student.both(x)
    timing = timing[0].T.clone()
    timing[:, 2] /= 2
    assert torch.allclose(row[0, :256], embedding[0], atol=1e-4)
    assert torch.allclose(row[0, 256:], timing.flatten(), atol=1e-4)


def test_few_channels_are_trained_in_bfloat16():
    """oneDNN never returned from 16 channels and 15 taps, so another process tries it."""
    code = (
        "import torch; from xmae.models.beat_student import BeatStudent\n"
        "with torch.autocast('cpu', torch.bfloat16):\n"
        "    BeatStudent('mcu-s').timing(torch.zeros(8, 1, 1000)).sum().backward()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    seen, layer = [], Depthwise(16, 15)
    x = torch.zeros(2, 16, 1, 50).contiguous(memory_format=torch.channels_last)
    with patch.object(torch.nn.Conv2d, "forward", lambda self, x: seen.append(x) or x):
        layer(x)
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(x).is_contiguous(memory_format=torch.channels_last)
    assert [part.is_contiguous() for part in seen] == [False, True]


def test_saved_and_loaded(tmp_path):
    made = BeatStudent("mcu", depth=2).eval()
    save_encoder(made, tmp_path / "student.safetensors", {"splits": {}})
    loaded = load_encoder(str(tmp_path / "student.safetensors"))
    x = torch.rand(1, 1, 1000)
    assert torch.equal(made.timing(x), loaded.timing(x))


@pytest.mark.parametrize("turn", [1, -1])
@pytest.mark.parametrize("name", ["bidmc05", "bidmc12"])
def test_reading_of_real_people(student, name, turn):
    path = next(path for path in bidmc_files() if path.stem == name)
    with np.load(path) as archive:
        ppg, sfreq = archive["ppg"][: 125 * 120].astype(float), float(archive["fs"])
        monitor = float(np.nanmedian(archive["hr"][:120]))
    reading = student.read(turn * ppg * 0.01 + 3, sfreq)
    assert np.isfinite(reading.rate).mean() > 0.7
    assert abs(np.nanmedian(reading.rate) - monitor) < 3
    assert reading.embedding.shape == (11, 256) or reading.embedding.shape == (12, 256)
    assert (np.diff(reading.beats) > 0).all() and "bpm" in str(reading)


def test_missing_samples_do_not_matter_much(student):
    path = bidmc_files()[0]
    with np.load(path) as archive:
        ppg, sfreq = archive["ppg"][: 125 * 60].astype(float), float(archive["fs"])
    gappy = ppg.copy()
    gappy[1000:1010] = np.nan
    first, second = student.read(ppg, sfreq), student.read(gappy, sfreq)
    assert abs(np.nanmedian(first.rate) - np.nanmedian(second.rate)) < 1


@pytest.mark.parametrize(
    ("ppg", "sfreq"),
    [
        (np.zeros(1000), 100),
        (np.full(1000, np.nan), 100),
        (np.arange(100.0), 100),
        (np.arange(1000.0), 10),
    ],
)
def test_what_cannot_be_read_is_refused(student, ppg, sfreq):
    with pytest.raises(UserError):
        student.read(ppg, sfreq)
