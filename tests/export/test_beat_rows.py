"""A bundle's student that reads beats: its rows are an embedding and a timing map, with a table of
certainty.
"""

import json
import shutil

import numpy as np
import pytest
import torch

from xmae.beats.certainty import shipped_certainty
from xmae.errors import UserError
from xmae.evaluation.heads.heads import HEADS
from xmae.export.bundle.beat_rows import certainty_of, read_rows
from xmae.export.bundle.bundle import Bundle, seal
from xmae.export.int8_reader import Int8Reader
from xmae.export.stream import int8_file
from xmae.models import load_encoder
from xmae.signals.scale import minmax_scale


@pytest.fixture(scope="module")
def ppg(recording_windows):
    return recording_windows("bidmc34").ppg[:6]


def test_rows_are_split_into_embedding_and_map(beat_bundle, ppg):
    entry = beat_bundle.entry("student", "litert", "int8")
    scaled = minmax_scale(ppg)[0]
    assert beat_bundle.reads_beats("student") and not beat_bundle.reads_beats("teacher")
    assert beat_bundle.session(entry)(scaled).shape == (6, 256)
    read = read_rows(beat_bundle.open_file(entry)(scaled), entry.embedding, entry.output)
    known = Int8Reader(int8_file("beats-mcu")).read_windows(ppg)
    np.testing.assert_array_equal(read.time, known.time)
    np.testing.assert_array_equal(read.rate, known.rate)


def test_float_rows_read_as_the_encoder_reads(ppg):
    from xmae.quantize import exportable

    encoder = load_encoder("beats-mcu").eval()
    scaled = torch.from_numpy(minmax_scale(ppg)[0])[:, None, None]
    rows = torch.cat([exportable(encoder)(x[None]) for x in scaled]).numpy()
    read = read_rows(rows, 256)
    known = encoder.read_windows(ppg)
    np.testing.assert_allclose(read.rate, known.rate, atol=0.05)
    assert len(read.time) == len(known.time)


def test_the_table_travels_in_the_manifest(beat_bundle):
    table, shipped = beat_bundle.certainty("student"), shipped_certainty()
    assert table.least == shipped.least
    np.testing.assert_array_equal(table.half_width, shipped.half_width)
    assert beat_bundle.certainty("teacher").least == 255


def test_a_student_of_ones_own_needs_validation_windows(recording_windows):
    encoder = load_encoder("beats-mcu")
    assert certainty_of(encoder, None)[1] == "shipped"
    with torch.no_grad():
        encoder.to_map.bias += 1e-6
    table, why = certainty_of(encoder, None)
    assert table is None and "0 validation windows" in why
    windows = recording_windows("bidmc01", "bidmc02", "bidmc05")
    table, how = certainty_of(encoder, windows)
    assert how == "validation windows" and table.half_width[-1] <= table.half_width[0]


@pytest.mark.parametrize("wrong", [{"least": 300}, {"half_width": [1] * 15}])
def test_a_wrong_table_is_refused(beat_bundle, tmp_path, wrong):
    folder = tmp_path / "bundle"
    shutil.copytree(beat_bundle.path, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["certainty"]["student"] |= wrong
    with pytest.raises(UserError):
        seal(folder, manifest)


def test_heads_are_as_wide_as_the_embedding(beat_bundle, tmp_path):
    folder = tmp_path / "bundle"
    shutil.copytree(beat_bundle.path, folder)
    head = {"kind": "regression", "label": "x", "units": "bpm", "bias": 0.0, "skill": 1}
    for width, fits in ((256, True), (1006, False)):
        heads = {"student": {"hr": head | {"weight": [0.0] * width}}}
        (folder / HEADS).write_text(json.dumps(heads))
        manifest = json.loads((folder / "manifest.json").read_text())
        seal(folder, {k: v for k, v in manifest.items() if k != "files"})
        if fits:
            Bundle.open(folder)
        else:
            with pytest.raises(UserError, match="weights for an embedding of 256"):
                Bundle.open(folder)
