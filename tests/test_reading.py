"""`xmae.load` and `xmae.embed` as people with NumPy arrays use them, and the lines of the
README.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import neurokit2
import numpy as np
import pytest
import torch

import xmae
from xmae.data.bidmc import bidmc_files
from xmae.errors import UserError
from xmae.models.checkpoint import load_encoder

README = (Path(__file__).parents[1] / "README.md").read_text()


@pytest.fixture(scope="module")
def recording():
    return xmae.read(bidmc_files()[0])


def counts(recording, sfreq=125):
    """Return raw counts of a converter."""
    return (30000 + 2000 * recording.ppg).astype(int)[: 60 * sfreq]


def test_an_encoder_reads_raw_counts_of_any_rate(recording):
    model = xmae.load("student-mcu-s")
    reading = model.read(counts(recording), 125)
    assert reading.embedding.shape == (6, 256) and reading.start_s.tolist() == [
        0,
        10,
        20,
        30,
        40,
        50,
    ]
    beats = xmae.load("beats-mcu").read(counts(recording), 125)
    assert np.median(reading.heads["hr"]) == pytest.approx(np.nanmedian(beats.rate), abs=5)
    assert "6 windows of 10 s" in str(reading) and "hr " in str(reading)
    turned = model.read(-counts(recording), 125)
    np.testing.assert_allclose(turned.embedding, reading.embedding, atol=1e-3)
    slower = model.read(counts(recording)[::2], 62.5)
    assert np.median(slower.heads["hr"]) == pytest.approx(np.median(reading.heads["hr"]), abs=1)


@pytest.mark.parametrize("name", ["base", "beats-mcu"])
def test_a_reading_has_beats_and_says_which_way_up_the_ppg_was(recording, name):
    """They are the ECG's beats; the same PPG upside down gives the same, and it is said."""
    model, ppg = xmae.load(name), counts(recording)
    reading, turned = model.read(ppg, 125), model.read(-ppg, 125)
    assert len(reading.intervals) == len(reading.beats) - 1 == len(reading.confidence) - 1
    ecg = neurokit2.ecg_clean(recording.ecg[: len(ppg)], sampling_rate=125)
    truth = neurokit2.ecg_peaks(ecg, sampling_rate=125)[1]["ECG_R_Peaks"] / 125
    delay = np.median([t - truth[truth < t].max() for t in reading.beats if t > truth.min()])
    apart = np.abs(reading.beats[:, None] - delay - truth).min(1)
    assert (apart < 0.1).mean() > 0.95 and len(reading.beats) > 0.95 * len(truth)
    interval = np.nanmedian(reading.intervals)
    assert 60 / interval == pytest.approx(60 / np.median(np.diff(truth)), abs=1)
    np.testing.assert_allclose(turned.beats, reading.beats, atol=0.002)
    assert np.isfinite(reading.irregularity).any() and (reading.certainty <= 1).all()
    assert (reading.polarity, turned.polarity) == ("upright", "inverted")
    assert "polarity inverted" in str(turned) and "polarity upright" in str(reading)
    # set in the place of detected
    forced = model.read(ppg, 125, polarity="inverted")
    same = model.read(-ppg, 125, polarity="upright")
    np.testing.assert_allclose(forced.embedding, same.embedding, atol=1e-3)
    with pytest.raises(UserError, match="sideways"):
        model.read(ppg, 125, polarity="sideways")


@pytest.mark.parametrize("model", ["student-mcu-s", "beats-mcu"])
@pytest.mark.parametrize(
    "ppg, sfreq, complaint",
    [
        (np.zeros((640, 2)), 64, "expected one row of PPG samples,"),
        (np.arange(6400.0), 6400, "sampling rate 6400 Hz; expected 25 to 500 Hz"),
        (np.arange(64.0), 64, "1.0 s"),
        (np.zeros(6400), 64, "flat|does not move"),
        (np.full(6400, np.nan), 64, "flat or missing|0 known"),
    ],
)
def test_what_cannot_be_read_is_said(model, ppg, sfreq, complaint):
    with pytest.raises(UserError, match=complaint):
        xmae.load(model).read(ppg, sfreq)


@pytest.mark.parametrize(
    "given, complaint",
    [
        (torch.full((1, 1, 640), 31240.0), "values of up to 31240, as raw counts do"),
        (torch.full((1, 1, 1000), torch.nan), "values of up to nan"),
        (torch.zeros(640), r"expected shape \(batch, 1, 1000\), got \(640,\)"),
        (np.zeros((1, 1, 1000)), "got ndarray; model.read"),
    ],
)
def test_640_raw_counts_are_no_window(given, complaint):
    with pytest.raises(UserError, match=complaint):
        xmae.load("student-mcu-s")(given)


def test_a_loaded_encoder_computes_what_it_did():
    windows = torch.linspace(-1, 1, 2000).reshape(2, 1, 1000)
    expected = load_encoder("student-mcu-s")(windows)
    torch.testing.assert_close(xmae.load("student-mcu-s")(windows), expected, rtol=0, atol=0)


def test_recordings_and_files_are_embedded(recording, tmp_path):
    reading = xmae.embed(recording, model="student-mcu-s")
    result = xmae.embed(bidmc_files()[0], out=str(tmp_path), model="student-mcu-s")
    assert len(reading.embedding) == result["windows"]
    with pytest.raises(UserError, match="precision is for a file"):
        xmae.embed(recording, precision="int8")


def blocks(language):
    """Return code of a language in the README, without its comments."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_python_of_the_readme_runs_as_printed(recording):
    (code,) = [block for block in blocks("python") if "xmae.load" in block]
    windows = torch.zeros(2, 1, 1000)
    names = {"ppg": counts(recording)[::2], "windows": windows}
    exec(compile(code, "README.md", "exec"), names)  # noqa: S102
    assert len(names["reading"].beats) > 50 and names["embedding"].shape == (2, 256)


def commands():
    """Return the lines of the README that begin with "$ xmae", and the verbs of the others."""
    lines = re.findall(r"^\$ xmae (.+?)(?:\s+#.*)?$", "\n".join(blocks("console")), re.MULTILINE)
    return [shlex.split(line) for line in lines]


def test_quick_lines_of_the_readme_run_as_printed(tmp_path):
    """And say what is printed below them."""
    shown = {"data example": "60 s of bidmc26", "embed recording.csv": "6 windows of 10 s"}
    quick = [words for words in commands() if " ".join(words[:2]) in shown]
    assert len(quick) == len(shown)
    for words in quick:
        done = subprocess.run(
            [sys.executable, "-m", "xmae", *words],
            cwd=tmp_path,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0 and shown[" ".join(words[:2])] in done.stderr
        printed = README.split(f"$ xmae {words[0]}", 1)[1].split("$", 1)[0].splitlines()[1:]
        for line in filter(None, printed):
            assert line.strip() in done.stderr + done.stdout or "Heart rate" in line


def test_all_lines_of_the_readme_have_options_that_exist(monkeypatch):
    """The slow ones are run by the tutorials; here their options are read as they would be."""
    from xmae import cli

    for words in commands():
        n_words = 2 if " ".join(words[:2]) in cli.VERBS else 1
        verb, rest = " ".join(words[:n_words]), words[n_words:]
        assert cli.read_settings(verb, cli.function_of(verb), rest)
