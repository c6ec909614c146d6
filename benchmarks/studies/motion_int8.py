"""What int8 costs the student for PPG and acceleration, on generated people in motion."""

from inspect import signature

import numpy as np
import torch

from xmae.beats.certainty import shipped_certainty
from xmae.beats.read import read_seconds
from xmae.beats.timing_map import LOG_SHARE, STEP
from xmae.beats.track import evidence
from xmae.benchmarks.harness.beat_drift import WORDS, compare_beats
from xmae.benchmarks.studies.motion import Method, answers, score
from xmae.benchmarks.studies.runner import run_study
from xmae.benchmarks.validate import validate
from xmae.evaluation.moving_people import maps_of, moving_people
from xmae.export.bundle.schema import End, Entry
from xmae.export.stream import int8_file
from xmae.export.targets.c.network import StreamNetwork
from xmae.models.checkpoint import load_encoder
from xmae.signals.window import N_TIMES
from xmae.tables import markdown_table

MODEL, SEED = "student-motion", 8_500_000  # nothing was trained or chosen on these people
SPAN_S = N_TIMES // 100
STREAM = Method("model", "live", beats=True)  # what a stream gives
BELIEF = Method("model", "live")


def int8_codes(network, samples):
    """Return codes of the map less their zero point, (T / 4, 3), of samples (4, T); zeros stand
    before and after, as in the float model.
    """
    network.reset()
    before = -network.look_ahead % STEP
    around = ((0, 0), (before, network.look_ahead))
    codes = network.push(np.pad(samples, around).T)
    return codes[(network.look_ahead + before) // STEP :]


def windows_of(maps):
    """Cut maps (n, T / 4, 3) into windows of 10 s: rows (m, 1 + 750), an empty embedding first."""
    return np.pad(maps.reshape(-1, N_TIMES // STEP * 3), ((0, 0), (1, 0)))


def heart_rates(people, maps):
    """Score what stream and belief give with these maps (n, 3, T / 4): two tuples of `score`."""
    certainty = shipped_certainty(MODEL)
    seconds = [
        read_seconds(own, rows[0], certainty)
        for own, rows in zip(maps, people.samples, strict=True)
    ]
    shown = {(True, True): evidence(people.samples, maps)}
    return [score(*answers(people, shown, seconds, how), people.truth) for how in (STREAM, BELIEF)]


def motion_int8(*, people: int = 12) -> str:
    """Compare the int8 file with its float weights.

    Parameters
    ----------
    people : int
        Generated people of 180 s each.

    Returns
    -------
    str
        The page.
    """
    torch.set_num_threads(1)
    path = int8_file(MODEL)
    network = StreamNetwork(path)
    moving = moving_people(people, SEED, family="skewed")
    original = maps_of(load_encoder(MODEL), moving.samples)
    codes = np.stack([int8_codes(network, rows) for rows in moving.samples])
    scale = np.array([1, 1, LOG_SHARE])
    ends = moving.truth[:, SPAN_S - 1 :: SPAN_S]
    drift = compare_beats(
        windows_of(codes * network.scale),
        entry_of(path, network),
        windows_of(original.transpose(0, 2, 1) * scale),
        shipped_certainty(MODEL).least,
        ends.ravel(),
        np.repeat(np.arange(people), ends.shape[1]),
    )
    limits = signature(validate).parameters
    gate = [
        [words, f"{getattr(drift, key):.3g}{unit}", f"{limits[name].default:g}{unit}"]
        for name, (key, words, unit) in WORDS.items()
    ]
    quantized = (codes * network.scale / scale).transpose(0, 2, 1)
    rows = [
        [what, kind, f"{error:.2f}", f"{100 * given:.1f}", f"{100 * wrong:.1f}"]
        for kind, maps in (("float", original), ("int8", quantized))
        for what, (error, given, _, wrong, _) in zip(
            ("stream", "belief alone"), heart_rates(moving, maps), strict=True
        )
    ]
    heads = ["", "weights", "MAE, answered, bpm", "answered, %", "answered and wrong, %"]
    return f"""# What int8 costs a heart rate in motion

{people} generated people of {moving.truth.shape[1]} s, with cadences as they come, on the pulse,
on its double and on its half. Their wave shapes are held out. Generated people are no people.

By the measures and limits of `xmae validate`, in {ends.size} windows and {drift.beats} beats:

{markdown_table(["", "int8 against float", "limit"], gate)}

Followed through motion, second by second:

{markdown_table(heads, rows)}
"""


def entry_of(path, network):
    """Return the int8 file as a bundle would name it."""
    sink = End(shape=[1, 751], dtype="int8", scale=network.scale, zero_point=0)
    return Entry(
        model=MODEL, format="litert", precision="int8", file=path.name, embedding=1, output=sink
    )


if __name__ == "__main__":
    run_study(motion_int8, "motion_int8.md")
