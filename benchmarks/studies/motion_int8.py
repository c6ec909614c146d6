"""What int8 costs the student for PPG and acceleration, on generated people in motion."""

from inspect import signature

import numpy as np
import torch

from xmae.beats.certainty import shipped_certainty
from xmae.beats.read import read_seconds
from xmae.beats.track import evidence
from xmae.beats.tracker import shipped_tracker
from xmae.benchmarks.harness.beat_drift import WORDS
from xmae.benchmarks.harness.moving import MAP_SCALE, SPAN_S, int8_codes, moving_drift
from xmae.benchmarks.studies.motion import Method, answers, score
from xmae.benchmarks.studies.runner import run_study
from xmae.benchmarks.validate import validate
from xmae.evaluation.moving_people import maps_of, moving_people
from xmae.export.stream import int8_file
from xmae.export.targets.c.network import StreamNetwork
from xmae.models.checkpoint import load_encoder
from xmae.tables import markdown_table

MODEL, SEED = "student-motion", 8_500_000  # nothing was trained or chosen on these people
STREAM = Method("model", "live", beats=True)  # what a stream gives
BELIEF = Method("model", "live")


def heart_rates(people, maps):
    """Score what stream and belief give with these maps (n, 3, T / 4): two tuples of `score`."""
    certainty = shipped_certainty(MODEL)
    seconds = [
        read_seconds(own, rows[0], certainty)
        for own, rows in zip(maps, people.samples, strict=True)
    ]
    shown = {"model": evidence(people.samples, shipped_tracker("model").removal, maps)}
    found = [answers(people, shown, seconds, how) for how in (STREAM, BELIEF)]
    return [score(answer.rate, answer.given, people.truth) for answer in found]


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
    least = shipped_certainty(MODEL).least
    drift = moving_drift(MODEL, path, network, codes, original, moving.truth, least)
    windows = moving.truth[:, SPAN_S - 1 :: SPAN_S].size
    limits = signature(validate).parameters
    gate = [
        [words, f"{getattr(drift, key):.3g}{unit}", f"{limits[name].default:g}{unit}"]
        for name, (key, words, unit) in WORDS.items()
    ]
    quantized = (codes * network.scale / MAP_SCALE).transpose(0, 2, 1)
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

By the measures and limits of `xmae validate`, in {windows} windows and {drift.beats} beats:

{markdown_table(["", "int8 against float", "limit"], gate)}

Followed through motion, second by second:

{markdown_table(heads, rows)}
"""


if __name__ == "__main__":
    run_study(motion_int8, "motion_int8.md")
