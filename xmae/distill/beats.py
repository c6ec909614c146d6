"""Students that follow a teacher and read beats: a shipped student's timing, with a new embedding.

What leads to the timing map is taken as it is and stays, so beats, rate, rhythm and their certainty
are those of the shipped student to the bit. Only what leads to the embedding alone is trained.
"""

from functools import cache

import torch

from xmae.models.beat_student import BeatStudent
from xmae.models.checkpoint import MOVING, load_encoder

TIMING = ("stem", "down", "blocks", "to_map")  # parts of a student that its map depends on
WIDEST = 1.0  # largest number of the embedding, as of the map
BEATS = {  # shipped students of PPG alone: channels of the way to the embedding
    "beats-mcu-s": {"slow": (24, 32, 48, 64), "branch": 96},
    "beats-mcu": {"slow": (64, 96, 128), "branch": 128},
    "beats-app": {"slow": (128, 192, 256), "branch": 256},
}


def beat_student(name, embed_dim):
    """Make a student with the timing of a shipped one and an untrained embedding.

    Parameters
    ----------
    name : str
        One of `BEATS`.
    embed_dim : int
        Width of the embedding.

    Returns
    -------
    BeatStudent
    """
    known = load_encoder(name)
    student = BeatStudent(**known.config | BEATS[name] | {"embed_dim": embed_dim})
    student.load_state_dict(timing_state(known), strict=False)
    return student


def shipped_timing(student):
    """Return the name of the shipped student with exactly the same timing; None if there is
    none.
    """
    own = timing_state(student)
    for name, (padding, known) in shipped_timings().items():
        same = own.keys() == known.keys() and student.padding == padding
        if same and all(torch.equal(own[key], known[key]) for key in own):
            return name
    return None


@cache
def shipped_timings():
    """Return the padding and the tensors of the timing of each shipped student, by name."""
    students = {name: load_encoder(name) for name in (*BEATS, *MOVING)}
    return {name: (known.padding, timing_state(known)) for name, known in students.items()}


def timing_state(student):
    """Return the tensors that a student's timing depends on, by name."""
    state = student.state_dict()
    return {name: tensor for name, tensor in state.items() if name.split(".")[0] in TIMING}


def timing_of(student):
    """Return the modules that a student's timing depends on; none if it reads no beats."""
    if not isinstance(student, BeatStudent):
        return []
    return [getattr(student, part) for part in TIMING]


def centre(train, val):
    """Centre the teacher's embeddings and scale them to [-1, 1], in place.

    In an exported file embedding and map share a row, and so an int8 scale. It stays that of the
    map, so that a window's map has the same bits as a stream's.

    Parameters
    ----------
    train, val : batches with `embedding`, shape (n, E)
        The first gives mean and unit.

    Returns
    -------
    dict
        `mean` (E numbers) and `unit`: the teacher's embedding is mean + unit x the student's.
    """
    mean = train.embedding.mean(0)
    unit = (train.embedding - mean).abs().max().clamp(min=1e-6) / WIDEST
    train.embedding = (train.embedding - mean) / unit
    val.batch = val.batch._replace(embedding=(val.batch.embedding - mean) / unit)
    return {"mean": mean.tolist(), "unit": unit.item()}


def with_splits_of(name, splits):
    """Return the splits of a store, joined with those that a shipped student's timing was trained
    and chosen on.
    """
    own = load_encoder(name).provenance["splits"]
    return splits | {subject: split for subject, split in own.items() if split != "test"}
