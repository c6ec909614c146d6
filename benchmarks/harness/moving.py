"""Drift of students for PPG and acceleration, on generated people in motion.

Stores need not hold acceleration, so the gate brings its own people. Nothing was trained or chosen
on their seeds and wave shapes. What is measured is how far int8 is from float; it says nothing of
how well either reads real people.
"""

import numpy as np

from xmae.beats.timing_map import LOG_SHARE, STEP
from xmae.benchmarks.harness.beat_drift import compare_beats
from xmae.evaluation.moving_people import maps_of, moving_people
from xmae.export.bundle.schema import End, Entry
from xmae.export.motion import WEIGHTS
from xmae.export.targets.c.network import StreamNetwork
from xmae.models.checkpoint import load_encoder
from xmae.signals.window import N_TIMES

PEOPLE, SEED, SHAPES = 48, 8_600_000, "skewed"
GENERATED = f"{PEOPLE} generated people in motion"
SPAN_S = N_TIMES // 100
MAP_SCALE = np.array([1, 1, LOG_SHARE])  # of a map as files hold it
NO_WEIGHTS = "the bundle lacks its float weights; export it anew"


def moving_rows(bundle, row_type):
    """Judge the int8 files of a bundle's students for PPG and acceleration.

    Parameters
    ----------
    bundle : Bundle
    row_type : type
        `DriftRow` or `BenchRow`.

    Returns
    -------
    list of `row_type`
        One for each such student, with `beats`; none for a bundle without.
    """
    library = bundle.manifest.c
    students = [model for model in library.models if model.takes_acceleration] if library else []
    people = moving_people(PEOPLE, SEED, family=SHAPES) if students else None
    return [row_type(**judged(bundle, student, people)) for student in students]


def judged(bundle, student, people):
    """Compare one student with its float weights: the columns of its row."""
    path = bundle.path / student.int8
    known = {
        "model": student.model,
        "format": "litert",
        "precision": "int8",
        "bytes": path.stat().st_size,
        "macs": student.macs_per_second * SPAN_S,
        "people": GENERATED,
    }
    weights = bundle.path / WEIGHTS / f"{student.model}.safetensors"
    if not weights.is_file():
        return known | {"failure": NO_WEIGHTS}
    network = StreamNetwork(path)
    original = maps_of(load_encoder(weights).eval(), people.samples)
    codes = np.stack([int8_codes(network, rows) for rows in people.samples])
    least = bundle.certainty(student.model).least
    drift = moving_drift(student.model, path, network, codes, original, people.truth, least)
    return known | {"windows": people.truth[:, SPAN_S - 1 :: SPAN_S].size, "beats": drift}


def int8_codes(network, samples):
    """Return the codes of the timing map less their zero point, (T / 4, 3), of samples (4, T);
    zeros are added before and after, as in the float model.
    """
    network.reset()
    before = -network.look_ahead % STEP
    around = ((0, 0), (before, network.look_ahead))
    codes = network.push(np.pad(samples, around).T)
    return codes[(network.look_ahead + before) // STEP :]


def moving_drift(model, path, network, codes, original, truth, least):
    """Compare the maps of an int8 file with those of its float weights, window by window.

    Parameters
    ----------
    model : str
    path : Path
        Of the int8 file, which `network` runs.
    network : StreamNetwork
    codes : int array, shape (n, T / 4, 3)
        Of n people, see `int8_codes`.
    original : float array, shape (n, 3, T / 4)
    truth : float array, shape (n, seconds)
        Heart rate of the 10 s before the end of each second, bpm.
    least : int
        Certainty (0 to 255) from which a heart rate is given.

    Returns
    -------
    BeatDrift
    """
    sink = End(shape=[1, 751], dtype="int8", scale=network.scale, zero_point=0)
    entry = Entry(
        model=model, format="litert", precision="int8", file=path.name, embedding=1, output=sink
    )
    ends = truth[:, SPAN_S - 1 :: SPAN_S]
    return compare_beats(
        windows_of(codes * network.scale),
        entry,
        windows_of(original.transpose(0, 2, 1) * MAP_SCALE),
        least,
        ends.ravel(),
        np.repeat(np.arange(len(ends)), ends.shape[1]),
    )


def windows_of(maps):
    """Cut maps (n, T / 4, 3) into windows of 10 s: rows (m, 1 + 750), each with an empty embedding
    first.
    """
    return np.pad(maps.reshape(-1, N_TIMES // STEP * 3), ((0, 0), (1, 0)))
